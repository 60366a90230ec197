//! What a node does not subscribe does not come to it.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_websocket::test::TestServer;
use tower_websocket::topics::Redis;
use tower_websocket::{Retain, Topics};

use crate::faults::up;
use crate::process::{PATIENCE, layer};
use crate::relay::Relay;
use crate::server::Server;

fn topics(url: &str) -> Topics {
    let redis = Redis::new(url).unwrap().prefix("x:");
    Topics::builder()
        .retain("log", Retain::messages(1000))
        .backplane(redis)
        .build()
}

/// How many connections listen to the channel, by the server.
fn listeners(server: &Server, channel: &str) -> String {
    let script = "return redis.call('PUBSUB', 'NUMSUB', KEYS[1])[2]";
    server.command(&["EVAL", script, "1", channel])
}

async fn listened_by(server: &Server, channel: &str, count: u32) {
    let end = Instant::now() + PATIENCE;
    loop {
        let listeners = listeners(server, channel);
        if listeners == format!(":{count}") {
            return;
        }
        assert!(Instant::now() < end, "{channel}: {listeners}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn b9_a_node_without_subscribers_of_a_topic_gets_none_of_its_messages() {
    let Some(server) = Server::own() else { return };
    let relay = Relay::new(server.port()).await;
    let (publisher, quiet) = (topics(server.url()), topics(relay.url()));
    up(&publisher).await;
    up(&quiet).await;
    let host = TestServer::new(layer(&quiet).into_service());
    let mut mark = host.connect("/ws").await.unwrap();
    mark.send("sub mark").await;
    mark.expect_text("ready true").await;
    listened_by(&server, "x:t:mark", 1).await;

    for (topic, channel) in [("room", "x:t:room"), ("log", "x:t:log")] {
        assert_eq!(listeners(&server, channel), ":0");
        let before = relay.came();
        let mut last = None;
        for _ in 0..1000 {
            let published = publisher.publish(topic, "x".repeat(1000));
            assert!(published.sent());
        }
        if topic == "log" {
            last = Some(publisher.append(topic, "y").await.unwrap());
        }
        // Behind all of them.
        publisher.publish("mark", "passed");
        mark.expect_text("passed").await;
        // What nodes tell each other every two seconds, and the mark.
        let came = relay.came() - before;
        assert!(came < 10_000, "{came} bytes of {topic}");

        let mut client = host.connect("/ws").await.unwrap();
        client.send(format!("sub {topic}")).await;
        client.expect_text("ready true").await;
        listened_by(&server, channel, 1).await;
        if let Some(last) = last {
            assert_eq!(last.offset(), 1001);
        }
        publisher.publish(topic, "heard");
        client.expect_text("heard").await;
        drop(client);
        listened_by(&server, channel, 0).await;
    }
}
