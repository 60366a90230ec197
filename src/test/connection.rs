//! [`TestConnection`]: one handler, without any HTTP.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use http::{Request, Response};
use tokio::task::JoinHandle;

use super::client::TestClient;
use super::values::info;
use crate::connection::{Link, Sender};
use crate::driver::serve;
use crate::handler::WebSocketHandler;
use crate::message::Message;
use crate::topics::Topics;

/// Runs one handler on a connection in memory: its callbacks, in the order and with the guarantees of a
/// real connection, and without a server, a handshake or `on_upgrade`.
///
/// ```
/// use tower_websocket::test::TestConnection;
/// use tower_websocket::{Connection, Event, Message, Result, WebSocketHandler};
///
/// #[derive(Clone)]
/// struct Shout;
///
/// impl WebSocketHandler for Shout {
///     async fn on_open(&mut self, conn: &mut Connection) -> Result {
///         conn.send("hello").await?;
///         Ok(())
///     }
///     async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
///         conn.send(message.as_text().unwrap_or_default().to_uppercase()).await?;
///         Ok(())
///     }
///     async fn on_event(&mut self, conn: &mut Connection, _: Event) -> Result {
///         conn.send("an event").await?;
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let mut conn = TestConnection::open(Shout);
/// conn.client().expect_text("hello").await;
/// conn.message("quiet").await;
/// conn.client().expect_text("QUIET").await;
/// conn.event(());
/// conn.client().expect_text("an event").await;
/// conn.close(1000, "bye").await;
/// # }
/// ```
pub struct TestConnection {
    client: TestClient,
    sender: Sender,
    task: JoinHandle<()>,
}

impl TestConnection {
    /// Opens a connection of a `GET /` without headers, with the default options.
    pub fn open<H: WebSocketHandler>(handler: H) -> Self {
        Self::open_with(handler, Request::new(()))
    }

    /// Opens a connection of this request, which needs none of the headers of a handshake. A
    /// `SocketAddr` in its extensions is the peer's address, and the first subprotocol that it offers is
    /// agreed.
    pub fn open_with<H: WebSocketHandler>(handler: H, request: Request<()>) -> Self {
        Self::open_in(handler, request, &Topics::new())
    }

    /// Opens a connection of this request, which subscribes and publishes to these topics. Connections
    /// that are opened otherwise have topics of their own each.
    pub fn open_in<H: WebSocketHandler>(handler: H, request: Request<()>, topics: &Topics) -> Self {
        let config = Arc::default();
        let link = Arc::new(Link::new(
            Arc::clone(&config),
            info(request),
            None,
            topics.clone(),
        ));
        let (io, client) = tokio::io::duplex(64 * 1024);
        let sender = Sender::new(link.clone());
        Self {
            client: TestClient::new(Box::new(client), Response::new(())),
            sender,
            task: tokio::spawn(serve(handler, link, config, io)),
        }
    }

    /// The other side: what was sent comes here.
    pub fn client(&mut self) -> &mut TestClient {
        &mut self.client
    }

    /// A handle that sends, as a handler or its application has.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Sends a message to the handler.
    ///
    /// # Panics
    ///
    /// The connection has ended.
    pub async fn message(&mut self, message: impl Into<Message>) {
        self.client.send(message).await;
    }

    /// Sends an event to the handler.
    ///
    /// # Panics
    ///
    /// The connection has ended, or too many are waiting.
    pub fn event<T: Any + Send>(&self, event: T) {
        assert!(self.sender.notify(event).is_ok(), "the event is not taken");
    }

    /// Closes in the client's name, and waits until `on_close` has returned.
    ///
    /// # Panics
    ///
    /// Something else comes than the answer, or the connection has ended.
    pub async fn close(mut self, code: u16, reason: &str) {
        self.client.close(code, reason).await;
        self.client.expect_close(code).await;
        self.ended().await;
    }

    /// Waits until `on_close` has returned, however the connection ends.
    ///
    /// # Panics
    ///
    /// The connection does not end.
    pub async fn ended(self) {
        drop(self.client);
        self.task
            .await
            .expect("callbacks do not reach further than their connection");
    }
}

impl fmt::Debug for TestConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestConnection")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}
