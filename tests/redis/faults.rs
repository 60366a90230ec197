//! Two nodes, what happens to the server between them, and what the clients notice of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tower_websocket::test::{TestClient, TestServer};
use tower_websocket::topics::Redis;
use tower_websocket::{
    Connection, Message, Position, Result, Retain, Status, Subscribe, Topics, WebSocketLayer,
};

use crate::server::Server;

/// Longer than the longest pause between two attempts to connect, and a timeout.
const RECOVERY: Duration = Duration::from_secs(20);

/// Subscribes a plain topic and, after a position, `/?POSITION`, a retained one.
async fn serve(mut conn: Connection) -> Result {
    let query = conn.request().uri.query().unwrap_or_default();
    let after: Option<Position> = query.parse().ok();
    conn.subscribe("plain")?;
    let how = Subscribe::new().after(after);
    let attached = conn.subscribe_with("log", how).await?;
    conn.send(format!("ready {}", attached.recovered())).await?;
    while conn.recv().await?.is_some() {}
    Ok(())
}

struct Node {
    topics: Topics,
    client: TestClient,
    server: TestServer,
}

impl Node {
    async fn new(server: &Server) -> Self {
        let redis = Redis::new(server.url()).unwrap();
        let topics = Topics::builder()
            .retain("log", Retain::messages(100_000))
            .backplane(redis.prefix("x:").timeout(Duration::from_secs(2)))
            .build();
        up(&topics).await;
        let layer = WebSocketLayer::from_fn("/", serve).topics(&topics);
        let server = TestServer::new(layer.into_service());
        let mut client = server.connect("/").await.expect("a 101");
        client.expect_text("ready true").await;
        Self {
            topics,
            client,
            server,
        }
    }

    async fn next(&mut self) -> String {
        let message = timeout(RECOVERY, self.client.recv()).await;
        message.expect("a message").as_text().unwrap().to_owned()
    }
}

pub async fn up(topics: &Topics) {
    let up = async {
        loop {
            let changed = topics.changed();
            if topics.status() == Status::Up {
                return;
            }
            changed.await;
        }
    };
    timeout(RECOVERY, up).await.expect("the node is up");
}

/// Appends 1, 2, 3 … until it is told to stop. Those that were acknowledged.
async fn append(topics: Topics, stop: Arc<Mutex<bool>>) -> Vec<u32> {
    let mut acknowledged = Vec::new();
    for n in 1.. {
        if *stop.lock().unwrap() {
            break;
        }
        let appended = timeout(RECOVERY, topics.append("log", n.to_string()));
        if appended.await.expect("an end").is_ok() {
            acknowledged.push(n);
        }
        sleep(Duration::from_millis(5)).await;
    }
    acknowledged
}

/// Does something to the server while messages are appended at one node, and expects that both nodes'
/// clients get all that was acknowledged, once, in order; and that both kinds of topic then go on. Whether
/// the node was degraded meanwhile.
async fn survive(server: &mut Server, fault: impl AsyncFnOnce(&mut Server)) -> bool {
    let mut nodes = [Node::new(server).await, Node::new(server).await];
    let stop = Arc::<Mutex<bool>>::default();
    let publisher = tokio::spawn(append(nodes[0].topics.clone(), stop.clone()));
    let topics = nodes[1].topics.clone();
    let degraded = tokio::spawn(async move {
        topics.changed().await;
    });
    sleep(Duration::from_millis(200)).await;
    fault(server).await;
    for node in &nodes {
        up(&node.topics).await;
    }
    sleep(Duration::from_millis(200)).await;
    *stop.lock().unwrap() = true;
    let acknowledged = publisher.await.unwrap();
    assert!(acknowledged.len() > 10, "{acknowledged:?}");
    let end = Instant::now() + RECOVERY;
    while let Err(error) = nodes[1].topics.append("log", "end").await {
        assert!(Instant::now() < end, "{error}");
    }
    for node in &mut nodes {
        let mut got = Vec::new();
        loop {
            let text = node.next().await;
            if text == "end" {
                break;
            }
            got.push(text.parse::<u32>().unwrap());
        }
        assert!(got.is_sorted_by(|a, b| a < b), "{got:?}");
        let missing = acknowledged.iter().filter(|n| !got.contains(n));
        assert_eq!(missing.collect::<Vec<_>>(), Vec::<&u32>::new());
    }
    for from in 0..2 {
        nodes[from]
            .topics
            .publish("plain", Message::from(format!("from {from}")));
        for node in &mut nodes {
            assert_eq!(node.next().await, format!("from {from}"));
        }
    }
    let was_degraded = degraded.is_finished();
    degraded.abort();
    was_degraded
}

/// A server that loses nothing.
fn durable() -> Option<Server> {
    Server::with(&["--appendonly", "yes", "--appendfsync", "always"])
}

#[tokio::test]
async fn b1_a_server_that_is_killed_and_starts_again_loses_nothing_acknowledged() {
    let Some(mut server) = durable() else { return };
    let was_degraded = survive(&mut server, async |server| {
        server.kill();
        sleep(Duration::from_millis(500)).await;
        server.start();
    });
    assert!(was_degraded.await);
}

#[tokio::test]
async fn b1_connections_that_the_server_ends_are_made_anew() {
    let Some(mut server) = Server::own() else {
        return;
    };
    let was_degraded = survive(&mut server, async |server| {
        for _ in 0..3 {
            server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            sleep(Duration::from_millis(300)).await;
        }
    });
    assert!(was_degraded.await);
}

#[tokio::test]
async fn b5_t16_after_the_server_is_emptied_nobody_is_told_that_nothing_was_missed() {
    let Some(server) = Server::own() else { return };
    let mut nodes = [Node::new(&server).await, Node::new(&server).await];
    let seen = nodes[0].topics.append("log", "one").await.unwrap();
    for node in &mut nodes {
        assert_eq!(node.next().await, "one");
    }
    server.command(&["FLUSHALL"]);
    let new = nodes[0].topics.append("log", "two").await.unwrap();
    assert!(new.epoch() != seen.epoch());
    for mut node in nodes {
        // Who was there while the log was lost is told to come back.
        timeout(RECOVERY, node.client.expect_close(1012))
            .await
            .expect("an end");
        let client = node.server.connect(&format!("/?{seen}")).await;
        let mut client = client.expect("a 101");
        client.expect_text("ready false").await;
        node.topics.append("log", "three").await.unwrap();
        let text = timeout(RECOVERY, client.recv()).await.expect("a message");
        assert_eq!(text.as_text(), Some("three"));
    }
}

#[tokio::test]
async fn b3_a_server_with_another_password_is_left_and_found_again() {
    let Some(mut server) = Server::own() else {
        return;
    };
    let was_degraded = survive(&mut server, async |server| {
        server.commands(&[
            &["CONFIG", "SET", "requirepass", "other"],
            &["AUTH", "other"],
            &["CLIENT", "KILL", "TYPE", "pubsub"],
        ]);
        sleep(Duration::from_millis(500)).await;
        server.commands(&[&["AUTH", "other"], &["CONFIG", "SET", "requirepass", ""]]);
    });
    assert!(was_degraded.await);
}

#[tokio::test]
async fn b4_a_server_whose_memory_is_full_takes_messages_again_when_it_has_room() {
    let Some(mut server) = Server::own() else {
        return;
    };
    let survived = survive(&mut server, async |server| {
        server.command(&["CONFIG", "SET", "maxmemory", "1"]);
        sleep(Duration::from_millis(500)).await;
        server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    });
    survived.await;
}

/// The connections stay open, so only the timeout and the probe find out.
#[tokio::test]
async fn b2_a_server_that_stands_still_for_some_seconds_is_waited_for_or_left() {
    let Some(mut server) = durable() else { return };
    let survived = survive(&mut server, async |server| {
        server.signal("-STOP");
        sleep(Duration::from_secs(4)).await;
        server.signal("-CONT");
    });
    survived.await;
}
