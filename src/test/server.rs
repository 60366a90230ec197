//! [`TestServer`]: any tower stack on real hyper, over pipes in memory.

use std::fmt;

use bytes::Bytes;
use http::{Extensions, Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use tower::Service;

use super::raw::RawClient;
use super::request::TestRequest;
use super::stack::Stack;
use crate::error::BoxError;

/// Serves a tower stack, such as an axum `Router`, to clients in memory: no socket, no port, and with
/// tokio's time paused no waiting.
///
/// Each connection is one of real hyper, so that layers, upgrades and HTTP/2 behave as they do in
/// production. The server ends with its clients.
///
/// ```
/// use tower::Layer;
/// use tower_websocket::test::TestServer;
/// use tower_websocket::{Connection, Message, Result, WebSocketHandler, WebSocketLayer};
///
/// #[derive(Clone)]
/// struct Echo;
///
/// impl WebSocketHandler for Echo {
///     async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
///         conn.send(message).await?;
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let server = TestServer::new(WebSocketLayer::new("/echo", Echo).into_service());
/// let mut client = server.connect("/echo").await.expect("a 101");
/// client.send("hello").await;
/// client.expect_text("hello").await;
/// client.close(1000, "bye").await;
/// client.expect_close(1000).await;
/// # }
/// ```
#[derive(Clone)]
pub struct TestServer {
    stack: Stack,
    extensions: Extensions,
}

impl TestServer {
    /// Serves `service`. Each connection gets a clone.
    ///
    /// Must be used inside a tokio runtime, as the other functions of this module.
    pub fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self {
            stack: Stack::new(service),
            extensions: Extensions::new(),
        }
    }

    /// Puts a value into the extensions of every request that is made from now on, as a server does:
    /// such as the peer's `SocketAddr`.
    #[must_use]
    pub fn extension<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.extensions.insert(value);
        self
    }

    /// Opens a WebSocket over HTTP/1.1, when it is awaited: a
    /// [`TestClient`](super::TestClient), or the whole response if the server refuses.
    pub fn connect(&self, path: &str) -> TestRequest {
        self.request(path, Version::HTTP_11)
    }

    /// Opens a WebSocket over HTTP/2 (RFC 8441), on a connection of its own.
    pub fn connect_h2(&self, path: &str) -> TestRequest {
        self.request(path, Version::HTTP_2)
    }

    /// A connection of HTTP/1.1 on which nothing was sent yet, for what a good client cannot do.
    pub fn raw(&self) -> RawClient {
        let (io, reset) = self.stack.pipe(Version::HTTP_11, self.extensions.clone());
        RawClient::with_reset(io, reset)
    }

    fn request(&self, path: &str, version: Version) -> TestRequest {
        TestRequest::new(self.stack.clone(), path, version, self.extensions.clone())
    }
}

impl fmt::Debug for TestServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestServer").finish_non_exhaustive()
    }
}
