//! [`TestServer`]: any tower stack on real hyper, over pipes in memory.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{Extensions, Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::DuplexStream;
use tower::Service;

use super::raw::RawClient;
use super::request::TestRequest;
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
    serve: Arc<Serve>,
}

type Serve = dyn Fn(DuplexStream, Version, Extensions) + Send + Sync;

/// What a pipe holds in each direction: less than large messages, so that reads and writes are partial.
const PIPE: usize = 64 * 1024;

impl TestServer {
    /// Serves `service`. Each connection gets a clone.
    ///
    /// Must be used inside a tokio runtime, as the other functions of this module.
    pub fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let serve = move |io: DuplexStream, version, extensions: Extensions| {
            let service = TowerToHyperService::new(service.clone());
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().extend(extensions.clone());
                hyper::service::Service::call(&service, request)
            });
            let io = TokioIo::new(io);
            if version == Version::HTTP_2 {
                let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                server.timer(TokioTimer::new()).enable_connect_protocol();
                tokio::spawn(server.serve_connection(io, service));
            } else {
                let mut server = hyper::server::conn::http1::Builder::new();
                server.timer(TokioTimer::new());
                tokio::spawn(server.serve_connection(io, service).with_upgrades());
            }
        };
        Self {
            serve: Arc::new(serve),
        }
    }

    /// Opens a WebSocket over HTTP/1.1, when it is awaited: a
    /// [`TestClient`](super::TestClient), or the whole response if the server refuses.
    pub fn connect(&self, path: &str) -> TestRequest {
        TestRequest::new(self.clone(), path, Version::HTTP_11)
    }

    /// Opens a WebSocket over HTTP/2 (RFC 8441), on a connection of its own.
    pub fn connect_h2(&self, path: &str) -> TestRequest {
        TestRequest::new(self.clone(), path, Version::HTTP_2)
    }

    /// A connection of HTTP/1.1 on which nothing was sent yet, for what a good client cannot do.
    pub fn raw(&self) -> RawClient {
        RawClient::new(self.pipe(Version::HTTP_11, Extensions::new()))
    }

    pub(super) fn pipe(&self, version: Version, extensions: Extensions) -> DuplexStream {
        let (client, server) = tokio::io::duplex(PIPE);
        (self.serve)(server, version, extensions);
        client
    }
}

impl fmt::Debug for TestServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestServer").finish_non_exhaustive()
    }
}
