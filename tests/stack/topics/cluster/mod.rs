//! Topics over several nodes, which an engine in memory connects.
//!
//! plain: messages, losses, close, status · retained: one log for all nodes · appends: the way there ·
//! presence: who is where

mod appends;
mod plain;
mod presence;
mod retained;

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tower_websocket::test::{Engine, TestClient, TestServer};
use tower_websocket::{Status, Topics, TopicsBuilder};

use super::{ask, open, server};

const SECOND: Duration = Duration::from_secs(1);

struct Node {
    topics: Topics,
    server: TestServer,
    /// Its end of the engine.
    port: Engine,
}

impl Node {
    fn new(engine: &Engine, options: impl Fn(TopicsBuilder) -> TopicsBuilder) -> Self {
        let port = engine.port();
        let topics = options(Topics::builder()).backplane(port.clone()).build();
        Self {
            server: server(&topics),
            topics,
            port,
        }
    }

    /// A client that subscribes a topic.
    async fn subscriber(&self, topic: &str) -> TestClient {
        let mut client = open(&self.server).await;
        ask(&mut client, &format!("sub {topic}"), "ok").await;
        client
    }
}

/// So many nodes, which reach each other.
async fn nodes(
    engine: &Engine,
    count: usize,
    options: impl Fn(TopicsBuilder) -> TopicsBuilder,
) -> Vec<Node> {
    let nodes: Vec<_> = (0..count).map(|_| Node::new(engine, &options)).collect();
    for node in &nodes {
        reach(node).await;
    }
    nodes
}

/// Waits until a node reaches the others.
async fn reach(node: &Node) {
    let up = async {
        while node.topics.status() != Status::Up {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(60 * SECOND, up).await.expect("the node is up");
}

/// Lets everything happen that is on its way.
async fn settle() {
    sleep(SECOND / 2).await;
}
