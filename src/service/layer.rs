//! [`WebSocketLayer`] and its options.

use std::fmt;
use std::future::{Future, ready};
use std::sync::Arc;

use http::StatusCode;
use http::request::Parts;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Layer;

use super::hints;
use super::mount::{Mount, Place};
use super::not_found::NotFound;
use super::options::Options;
use super::service::WebSocketService;
use super::setters::option_setters;
use super::start::accept;
use super::websocket_options::WebSocketOptions;
use crate::connection::Connection;
use crate::driver::{Application, Upgrade};
#[cfg(feature = "tungstenite")]
use crate::driver::{StreamFn, TungsteniteStream};
use crate::handler::{FnHandler, Result};
use crate::handshake::Rejection;

/// Mounts a WebSocket application at a path: Rack's `map '/chat' do run MyApp.new end`.
///
/// Handshakes under the mount go to the application, every other request goes to the inner
/// service untouched. See the [front page](crate) for an example.
///
/// # Mounting
///
/// `/chat` matches `/chat` and `/chat/…`, never `/chatter`; `/` matches everything. Paths are
/// compared as they stand in the request, byte by byte. A mount is a literal path: one with a segment
/// like `{id}`, `:id` or `*rest` is reported in the log at ERROR, and handshakes that it was meant for get
/// 500 with a text that says what to write. Path parameters are a router's:
/// [`WebSocketOptions::upgrade`] opens a WebSocket inside a route.
///
/// A path below the mount does not match if a proxy or another server could read it as another
/// path: if it has `%2F`, `%5C` or a backslash, or a segment that is `.` or `..`, plain or
/// percent-encoded. Otherwise a layer in front that decodes the path could judge another one than
/// the application gets. So an identifier with a slash in it belongs into the query, or is encoded
/// without one (base64url). Such a request goes to the inner service, with a line in the log if it
/// is a WebSocket handshake; a layer with [`require_upgrade`](Self::require_upgrade), or without an
/// inner service, answers 400 and says why.
///
/// Under axum's `nest` the mount is
/// relative to the nest (and a nested router is asked only for paths it has a route for: give it
/// one, such as `/chat/{*rest}`, or use `nest_service`). Of several layers around one service the outermost that matches wins,
/// which is the *last* one added by `Router::layer` and the *first* one of a `ServiceBuilder`.
///
/// # Shared state
///
/// Clones of a layer, and all services made by it, share one set of limits, one
/// [`Shutdown`](crate::Shutdown) and one [`Topics`](crate::Topics): axum calls [`layer`](Layer::layer) once per route.
///
/// # Options
///
/// Each method that sets an option returns the layer; a later call replaces an earlier one. An option
/// that can be off takes `impl Into<Option<_>>`: a value, or `None` to switch it off. Every other
/// option takes a plain value.
///
/// # Servers
///
/// HTTP/1.1 servers must hand over upgraded connections: hyper's `with_upgrades()`, or
/// `serve_connection_with_upgrades` of hyper-util's auto builder. HTTP/2 servers must call
/// `enable_connect_protocol()` (RFC 8441). `axum::serve` does both, HTTP/2 with axum's feature
/// `http2`. If it does neither, the layer logs which call is missing.
///
/// # Layers around it
///
/// A connection opens once the 101 has been sent, and never if another layer refused the request
/// by changing or replacing that response. The layer observes the body of its response to find
/// that out. A layer that wraps or reads bodies (body timeouts, decompression, logging) hides it;
/// the connection opens all the same, except where the handshake says `Connection: close`, as
/// behind lighttpd. [`UpgradeGuardLayer`](crate::UpgradeGuardLayer) as the outermost layer makes
/// both halves exact in every stack; its documentation states what holds with and without it. Add
/// it where a layer outside of this one refuses requests *after* it called the inner service, or
/// wraps bodies.
#[must_use = "a layer does nothing until it is added to a service, and its methods return a new one"]
pub struct WebSocketLayer<E> {
    pub(super) application: E,
    pub(super) options: Arc<Options>,
}

impl<H: crate::WebSocketHandler> WebSocketLayer<H> {
    /// Mounts `handler` at `path`. Each connection gets a clone of the handler.
    pub fn new(path: &str, handler: H) -> Self {
        Self::mount(path, handler)
    }
}

impl WebSocketLayer<FnHandler> {
    /// Mounts a function that gets the open connection and pulls messages from it. When it
    /// returns `Ok` the connection is closed with 1000, with an error it is closed with 1011.
    ///
    /// ```
    /// use tower_websocket::{Connection, WebSocketLayer};
    ///
    /// let layer = WebSocketLayer::from_fn("/echo", |mut conn: Connection| async move {
    ///     while let Some(message) = conn.recv().await? {
    ///         conn.send(message).await?;
    ///     }
    ///     Ok(())
    /// });
    /// # drop(layer);
    /// ```
    pub fn from_fn<F, Fut>(path: &str, function: F) -> Self
    where
        F: Fn(Connection) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result> + Send + 'static,
    {
        Self::mount(path, FnHandler::new(function))
    }
}

#[cfg(feature = "tungstenite")]
impl WebSocketLayer<StreamFn> {
    /// Mounts a function that gets a [`tokio_tungstenite::WebSocketStream`], for code that is
    /// written against it, and the request. Needs the feature `tungstenite`, which is on by default.
    ///
    /// Mounting, handshake, origin, size limits, the limit on connections, shutdown (at its
    /// deadline) and tracing apply; from then on the protocol is tungstenite's: heartbeats,
    /// timeouts and backpressure are the function's own. Such a connection cannot subscribe
    /// [`Topics`](crate::Topics).
    ///
    /// ```
    /// use futures_util::{SinkExt, StreamExt};
    /// use tower_websocket::WebSocketLayer;
    ///
    /// let layer = WebSocketLayer::stream("/raw", |mut socket, _request| async move {
    ///     while let Some(message) = socket.next().await {
    ///         let message = message?;
    ///         if message.is_text() || message.is_binary() {
    ///             socket.send(message).await?;
    ///         }
    ///     }
    ///     Ok(())
    /// });
    /// # drop(layer);
    /// ```
    pub fn stream<F, Fut>(path: &str, function: F) -> Self
    where
        F: Fn(TungsteniteStream, Parts) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result> + Send + 'static,
    {
        Self::mount(path, StreamFn::new(function))
    }
}

impl<E> WebSocketLayer<E> {
    fn mount(path: &str, application: E) -> Self {
        let mount = Mount::new(path);
        if mount.is_pattern() {
            tracing::error!("{}", hints::pattern(&mount).replace('\n', " "));
        }
        Self {
            application,
            options: Arc::new(Options::new(mount)),
        }
    }

    /// Replaces all options set so far by `options`, whose limits and
    /// [`Shutdown`](crate::Shutdown) this layer then shares.
    pub fn options(mut self, options: &WebSocketOptions) -> Self {
        self.options = options.mounted(&self.options.mount);
        self
    }

    option_setters!();

    /// A service without an inner one, for `Router::route_service`: it answers requests that are
    /// not WebSocket handshakes with 426, as with [`require_upgrade`](Self::require_upgrade).
    ///
    /// The mount still applies: use `/` to take every path that the router sends. A handshake outside
    /// of it gets 404 with a text that says so, and a line in the log.
    pub fn into_service(self) -> WebSocketService<NotFound, E>
    where
        E: Clone,
    {
        self.require_upgrade()
            .set(|options| options.is_leaf = true)
            .layer(NotFound::new())
    }

    /// Serves a byte stream whose WebSocket handshake has been answered elsewhere: no service, no
    /// request body and no response take part.
    ///
    /// `request` is what [`Connection::request`](crate::Connection::request) shows, `protocol` the
    /// subprotocol that was agreed. The options of the layer apply, among them its limits, drain and
    /// heartbeats; [`on_upgrade`](crate::WebSocketHandler::on_upgrade) is not called, and messages are not
    /// compressed. `io` begins with the first WebSocket frame. The connection lives in a task of its
    /// own, which this call starts.
    ///
    /// Where the handshake is yet to be answered, insert an [`Upgrade`] into the request instead.
    ///
    /// # Errors
    ///
    /// A [`Rejection`](crate::Rejection), and `io` is dropped: the path of the request is not under the
    /// mount (404), a limit on connections is reached (503 or 429), the server goes down (503), or there is
    /// no tokio runtime (500).
    ///
    /// ```
    /// use tokio::io::{AsyncReadExt, duplex};
    /// use tower_websocket::{Connection, WebSocketLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let layer = WebSocketLayer::from_fn("/hello", |conn: Connection| async move {
    ///     conn.send("hello").await?;
    ///     Ok(())
    /// });
    /// let (mut client, server) = duplex(1024);
    /// let (request, ()) = http::Request::get("/hello").body(()).unwrap().into_parts();
    /// assert!(layer.accept(request, None, server).is_ok());
    ///
    /// let mut frame = [0; 7];
    /// client.read_exact(&mut frame).await.unwrap();
    /// assert_eq!(&frame, b"\x81\x05hello");
    /// # }
    /// ```
    pub fn accept<IO>(
        &self,
        request: Parts,
        protocol: Option<&str>,
        io: IO,
    ) -> std::result::Result<(), Rejection>
    where
        E: Application,
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Place::Under(path) = self.options.mount.place(request.uri.path()) else {
            return Err(StatusCode::NOT_FOUND.into());
        };
        let path = Box::from(path);
        let io = Upgrade::new(ready(Ok(io)));
        let application = self.application.clone();
        accept(application, &self.options, path, protocol, request, io)
    }

    fn set(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(Arc::make_mut(&mut self.options));
        self
    }
}

impl<E: Clone> Clone for WebSocketLayer<E> {
    fn clone(&self) -> Self {
        Self {
            application: self.application.clone(),
            options: self.options.clone(),
        }
    }
}

impl<S, E: Clone> Layer<S> for WebSocketLayer<E> {
    type Service = WebSocketService<S, E>;

    fn layer(&self, inner: S) -> Self::Service {
        WebSocketService::new(inner, self.application.clone(), self.options.clone())
    }
}

impl<E> fmt::Debug for WebSocketLayer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketLayer")
            .field("mount", self.options.mount.as_str())
            .field("config", &self.options.config)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    /// The attribute of the type holds for whatever returns it: a setter whose result is dropped
    /// has set nothing.
    #[test]
    fn every_option_returns_the_layer_which_must_be_used() {
        let (layer, setters) = (include_str!("layer.rs"), include_str!("setters.rs"));
        assert!(layer.contains("\n#[must_use = \"a layer does nothing"));
        assert!(
            include_str!("websocket_options.rs").contains("\n#[must_use = \"options do nothing")
        );
        let heads = [layer, setters]
            .into_iter()
            .flat_map(|file| file.split(" pub fn ").skip(1));
        for head in heads.filter_map(|text| text.split_once(" {\n").map(|(head, _)| head)) {
            let of_self = head.contains("self,") || head.contains("(self)");
            let is_setter = of_self && !head.contains("&self") && !head.starts_with("into_service");
            assert!(!is_setter || head.contains("-> Self"), "{head}");
        }
    }
}
