//! A primary that becomes a replica and says nothing of it: its connections stay open, it answers, and what is
//! published there reaches those who are connected to it, and nobody else.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tower_websocket::test::{TestClient, TestServer};
use tower_websocket::topics::Redis;
use tower_websocket::{Connection, Result, Status, Topics, WebSocketLayer};

use crate::faults::up;
use crate::process::PATIENCE;
use crate::relay::Relay;
use crate::server::Server;

/// How often nodes ask, and as much again for a machine that is busy.
const FOUND_WITHIN: Duration = Duration::from_secs(4);

async fn serve(mut conn: Connection) -> Result {
    conn.subscribe("plain")?;
    conn.send("ready").await?;
    while conn.recv().await?.is_some() {}
    Ok(())
}

/// A node that retains nothing, and so never writes.
struct Node {
    topics: Topics,
    client: TestClient,
    _server: TestServer,
}

impl Node {
    async fn new(url: &str) -> Self {
        let redis = Redis::new(url).unwrap().prefix("x:");
        let redis = redis.timeout(Duration::from_secs(2));
        let topics = Topics::builder().backplane(redis).build();
        up(&topics).await;
        let layer = WebSocketLayer::from_fn("/", serve).topics(&topics);
        let server = TestServer::new(layer.into_service());
        let mut client = server.connect("/").await.expect("a 101");
        client.expect_text("ready").await;
        Self {
            topics,
            client,
            _server: server,
        }
    }
}

#[tokio::test]
async fn b4_nodes_of_plain_topics_leave_a_primary_that_has_become_a_replica() {
    let (Some(old), Some(new)) = (Server::own(), Server::own()) else {
        return;
    };
    leave(&old, &new, "").await;
}

#[tokio::test]
async fn b4_to_find_that_out_needs_no_right_that_a_user_can_be_without() {
    let (Some(old), Some(new)) = (Server::own(), Server::own()) else {
        return;
    };
    let rights = "ACL SETUSER meek on >pass resetkeys resetchannels &x:* -@all \
                  +@connection -hello +subscribe +unsubscribe +publish";
    let rights: Vec<_> = rights.split_whitespace().collect();
    for server in [&old, &new] {
        assert_eq!(server.command(&rights), "+OK");
    }
    leave(&old, &new, "meek:pass@").await;
}

async fn leave(old: &Server, new: &Server, user: &str) {
    let relay = Relay::new(old.port()).await;
    let url = relay.url().replace("redis://", &format!("redis://{user}"));
    let mut nodes = [Node::new(&url).await, Node::new(&url).await];
    // Longer than the time within which it is asked for, so that asking harms nobody.
    sleep(Duration::from_secs(3)).await;
    assert!(nodes.iter().all(|node| node.topics.status() == Status::Up));
    let changed = nodes.each_ref().map(|node| node.topics.changed());
    // Who connects from now on gets to the new primary, who is connected stays where it is.
    relay.lead_to(new.port());
    let begin = Instant::now();
    let port = new.port().to_string();
    assert_eq!(old.command(&["REPLICAOF", "127.0.0.1", &port]), "+OK");
    for (node, changed) in nodes.iter().zip(changed) {
        timeout(PATIENCE, changed).await.expect("it is noticed");
        match node.topics.status() {
            Status::Degraded { reason, .. } => {
                assert!(reason.contains("made it a replica"), "{reason}");
            }
            // It was faster than this look.
            status => assert_eq!(status, Status::Up),
        }
    }
    assert!(begin.elapsed() < FOUND_WITHIN, "{:?}", begin.elapsed());
    for node in &nodes {
        up(&node.topics).await;
    }
    assert!(
        !new.command(&["CLIENT", "LIST", "TYPE", "pubsub"])
            .is_empty()
    );
    assert_eq!(old.command(&["CLIENT", "LIST", "TYPE", "pubsub"]), "");
    // Until the subscription is known to the new one, nothing is sent to the other node.
    let [here, there] = &mut nodes;
    let known = async {
        loop {
            here.topics.publish("plain", "over the new one");
            let came = timeout(Duration::from_millis(50), there.client.recv()).await;
            if let Ok(message) = came {
                assert_eq!(message.as_text(), Some("over the new one"));
                return;
            }
        }
    };
    timeout(PATIENCE, known).await.expect("a message");
}
