//! [`TestRequest`]: a handshake that is about to be sent.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http::{Version, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::{Instant, sleep};

use super::client::{PATIENCE, TestClient};
use super::deflate::Deflate;
#[cfg(feature = "deflate")]
use super::deflate::OFFER;
use super::stack::Stack;

/// A handshake of a good client, sent when it is awaited; made by
/// [`TestServer::connect`](super::TestServer::connect).
///
/// ```no_run
/// # use tower_websocket::test::TestServer;
/// # async fn f(server: TestServer) {
/// let refused = server
///     .connect("/chat")
///     .header("cookie", "session=1")
///     .origin("https://evil.example")
///     .await
///     .expect_err("a foreign page");
/// assert_eq!(refused.status(), 403);
/// assert!(refused.body().starts_with(b"Pages of this Origin"));
/// # }
/// ```
#[must_use = "a handshake is sent when it is awaited"]
pub struct TestRequest {
    stack: Stack,
    path: String,
    version: Version,
    headers: HeaderMap,
    extensions: Extensions,
}

/// The key of RFC 6455 §1.3, and what answers it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(super) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

impl TestRequest {
    pub(super) fn new(stack: Stack, path: &str, version: Version, extensions: Extensions) -> Self {
        Self {
            stack,
            path: path.to_owned(),
            version,
            headers: HeaderMap::new(),
            extensions,
        }
    }

    /// Adds a header.
    ///
    /// # Panics
    ///
    /// It is not a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).expect("the name of a header");
        let value = HeaderValue::try_from(value).expect("the value of a header");
        self.headers.append(name, value);
        self
    }

    /// Offers subprotocols, the preferred first.
    ///
    /// # Panics
    ///
    /// They cannot stand in a header.
    pub fn protocols<'a>(self, protocols: impl IntoIterator<Item = &'a str>) -> Self {
        let protocols: Vec<_> = protocols.into_iter().collect();
        self.header("sec-websocket-protocol", &protocols.join(", "))
    }

    /// Comes from a page of this origin, as from a browser.
    ///
    /// # Panics
    ///
    /// It cannot stand in a header.
    pub fn origin(self, origin: &str) -> Self {
        self.header("origin", origin)
    }

    /// Puts a value into the extensions of the request, as a server does: such as the peer's
    /// `SocketAddr`.
    pub fn extension<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.extensions.insert(value);
        self
    }

    /// Offers permessage-deflate (RFC 7692) as browsers do. If the server agrees, the client compresses
    /// what it sends and inflates what comes; [`TestClient::compressed`] counts the latter. Needs the
    /// feature `deflate`.
    ///
    /// For an offer with other parameters, add a [`header`](Self::header): the client keeps to what
    /// was agreed.
    ///
    /// ```no_run
    /// # use tower_websocket::test::TestServer;
    /// # async fn f(server: TestServer) {
    /// let mut client = server.connect("/chat").deflate().await.expect("open");
    /// client.send("hello ".repeat(100)).await;
    /// client.expect_text(&"hello ".repeat(100)).await;
    /// assert_eq!(client.compressed(), 1);
    ///
    /// let offer = "permessage-deflate; server_max_window_bits=10";
    /// let request = server.connect("/chat").header("sec-websocket-extensions", offer);
    /// # drop(request);
    /// # }
    /// ```
    #[cfg(feature = "deflate")]
    #[cfg_attr(docsrs, doc(cfg(feature = "deflate")))]
    pub fn deflate(self) -> Self {
        self.header("sec-websocket-extensions", OFFER)
    }

    async fn open(self) -> Result<TestClient, Response<Bytes>> {
        let (io, _) = self.stack.pipe(self.version, self.extensions);
        let io = TokioIo::new(io);
        let offers = self.headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS);
        let offers: Vec<_> = offers
            .iter()
            .filter_map(|offer| offer.to_str().ok())
            .collect();
        let offer = offers.join(", ");
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.headers_mut() = self.headers;
        let headers = request.headers_mut();
        headers.insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
        let response = if self.version == Version::HTTP_2 {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io)
                .await
                .expect("the server speaks HTTP/2");
            // That CONNECT may name a protocol, the server's first frame says. hyper reads it in a task of
            // its own and wakes nobody.
            let end = Instant::now() + PATIENCE;
            while !connection.is_extended_connect_protocol_enabled() {
                assert!(Instant::now() < end, "the server does not speak HTTP/2");
                sleep(Duration::from_millis(1)).await;
            }
            tokio::spawn(connection);
            *request.method_mut() = Method::CONNECT;
            *request.uri_mut() = format!("http://localhost{}", self.path)
                .parse()
                .expect("a path");
            let protocol = Protocol::from_static("websocket");
            request.extensions_mut().insert(protocol);
            sender.send_request(request).await
        } else {
            let (mut sender, connection) = http1::handshake(io)
                .await
                .expect("the server speaks HTTP/1.1");
            tokio::spawn(connection.with_upgrades());
            let mut add = |name, value| headers.insert(name, HeaderValue::from_static(value));
            add(header::UPGRADE, "websocket");
            add(header::CONNECTION, "Upgrade");
            add(header::SEC_WEBSOCKET_KEY, KEY);
            if !headers.contains_key(header::HOST) {
                headers.insert(header::HOST, HeaderValue::from_static("localhost"));
            }
            *request.uri_mut() = self.path.parse().expect("a path");
            sender.send_request(request).await
        };
        let response = response.expect("a response to the handshake");
        if !accepted(&response) {
            let (parts, body) = response.into_parts();
            let body = body.collect().await.expect("the whole refusal").to_bytes();
            return Err(Response::from_parts(parts, body));
        }
        let (parts, ()) = Response::new(()).into_parts();
        let mut head = Response::from_parts(parts, ());
        *head.status_mut() = response.status();
        *head.headers_mut() = response.headers().clone();
        *head.version_mut() = response.version();
        let upgraded = hyper::upgrade::on(response).await.expect("an upgrade");
        let answer = head.headers().get(header::SEC_WEBSOCKET_EXTENSIONS);
        let deflate = answer.map(|answer| {
            let answer = answer.to_str().unwrap_or("what is no text");
            match Deflate::agreed(&offer, answer) {
                Ok(deflate) => deflate,
                Err(fault) => panic!("a wrong Sec-WebSocket-Extensions: {fault}"),
            }
        });
        let client = TestClient::new(Box::new(TokioIo::new(upgraded)), head);
        Ok(client.with_deflate(deflate))
    }
}

/// What a client checks (RFC 6455 §4.1, RFC 8441 §5).
fn accepted(response: &Response<Incoming>) -> bool {
    if response.version() == Version::HTTP_2 {
        return response.status() == StatusCode::OK;
    }
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return false;
    }
    let accept = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
    assert_eq!(
        accept.map(HeaderValue::as_bytes),
        Some(ACCEPT.as_bytes()),
        "a wrong Sec-WebSocket-Accept"
    );
    true
}

impl IntoFuture for TestRequest {
    type Output = Result<TestClient, Response<Bytes>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

impl fmt::Debug for TestRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestRequest")
            .field("path", &self.path)
            .field("version", &self.version)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}
