//! Messages of plain topics, of which many are on their way to the server at the same time.

use std::time::Duration;

use tokio::time::timeout;
use tower_websocket::test::TestServer;
use tower_websocket::topics::Redis;
use tower_websocket::{Connection, Result, Topics, WebSocketLayer};

use crate::faults::up;
use crate::server::Server;

const LONG: Duration = Duration::from_secs(20);

async fn node(server: &Server, prefix: &str) -> Topics {
    let redis = Redis::new(server.url()).unwrap().prefix(prefix);
    let topics = Topics::builder().backplane(redis).build();
    timeout(LONG, up(&topics)).await.expect("the node is up");
    topics
}

/// Subscribes the topic of its path, and says so.
async fn serve(mut conn: Connection) -> Result {
    let topic = conn.path().to_owned();
    conn.subscribe(&topic)?;
    conn.send("ready").await?;
    while conn.recv().await?.is_some() {}
    Ok(())
}

#[tokio::test]
async fn messages_stay_in_order_while_channels_come_and_go_and_the_last_are_sent_by_who_leaves() {
    let Some(server) = Server::any() else { return };
    let prefix = server.prefix();
    let (here, there) = (node(&server, &prefix).await, node(&server, &prefix).await);
    let door = |topics: &Topics| {
        let layer = WebSocketLayer::from_fn("/", serve).topics(topics);
        TestServer::new(layer.max_queued_messages(10_000).into_service())
    };
    let (old, new) = (door(&here), door(&there));
    let mut client = new.connect("/room").await.expect("a 101");
    client.expect_text("ready").await;
    // Until the subscription is known to the server, nothing is sent to that node.
    let known = async {
        loop {
            here.publish("/room", "first");
            let came = timeout(Duration::from_millis(50), client.recv()).await;
            if came.is_ok() {
                return;
            }
        }
    };
    timeout(LONG, known).await.expect("a message");
    for n in 0..3000 {
        here.publish("/room", n.to_string());
        if n % 100 == 0 {
            // A channel comes, and goes again.
            let mut other = old.connect(&format!("/{n}")).await.expect("a 101");
            other.expect_text("ready").await;
        }
    }
    // The runtime runs on, and so what waits is sent.
    drop((old, here));
    let all = async {
        let mut next = 0;
        while next < 3000 {
            let message = client.recv().await;
            let text = message.as_text().unwrap();
            if text != "first" {
                assert_eq!(text, next.to_string());
                next += 1;
            }
        }
    };
    timeout(LONG, all).await.expect("all of them");
    there.publish("/room", "flushed");
    assert!(there.flush(LONG).await);
}
