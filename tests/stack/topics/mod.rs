//! Topics over whole stacks, by the test kit: who gets what, slow readers, missed messages.
//!
//! plain: by name, from everywhere, until the end · slow: each policy · retained: positions ·
//! jitter: connections that are cut all the time · presence: who is there · cluster: over several nodes

mod cluster;
mod jitter;
mod plain;
mod presence;
mod retained;
mod slow;

use tower_websocket::test::{TestClient, TestServer};
use tower_websocket::{Connection, Message, Result, Topics, WebSocketHandler, WebSocketLayer};

/// Does with topics what its client says, and answers when it is done.
#[derive(Clone)]
struct Obedient;

impl WebSocketHandler for Obedient {
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        let text = message.as_text().unwrap_or_default();
        let mut words = text.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (what, topic, rest) = (word(), word(), word());
        let answer = match what {
            "sub" => match conn.subscribe(topic) {
                Ok(()) => "ok".to_owned(),
                Err(error) => error.to_string(),
            },
            "unsub" => conn.unsubscribe(topic).to_string(),
            "pub" => format!("{:?}", conn.publish(topic, rest.to_owned())),
            "all" => format!("{:?}", conn.topics().publish(topic, rest.to_owned())),
            _ => format!("what is {what}?"),
        };
        conn.send(answer).await?;
        Ok(())
    }
}

fn published(delivered: usize) -> String {
    format!("Published {{ delivered: {delivered}, waiting: 0, dropped: 0 }}")
}

fn server(topics: &Topics) -> TestServer {
    let layer = WebSocketLayer::new("/", Obedient).topics(topics);
    TestServer::new(layer.into_service())
}

async fn open(server: &TestServer) -> TestClient {
    server.connect("/").await.expect("a 101")
}

/// Has the handler do something, and waits for its answer.
async fn ask(client: &mut TestClient, what: &str, answer: &str) {
    client.send(what.to_owned()).await;
    client.expect_text(answer).await;
}
