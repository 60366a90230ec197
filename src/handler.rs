//! [`WebSocketHandler`]: the application. [`Handshake`]: what it sees before it accepts.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::HeaderMap;
use http::request::Parts;

use crate::connection::{CloseEvent, Connection};
use crate::error::{BoxError, Error};
use crate::handshake::{Offer, Rejection};
use crate::message::{CloseCode, Message};

/// What a callback returns; any error will do, `?` converts it.
pub type Result<T = ()> = std::result::Result<T, BoxError>;

/// A WebSocket application: websocket-rack's `Rack::WebSocket::Application`.
///
/// Every callback has a default, so an empty `impl` is an application that works (and says
/// nothing). Each connection gets a clone of its own (Rack's `dup`): `&mut self` is private
/// to the connection, what is shared sits behind an [`Arc`](std::sync::Arc) field.
///
/// Callbacks of one connection never overlap. While one is pending its connection goes on
/// answering pings, writing what was sent, and reading ahead up to 64 KiB; then the peer has
/// to wait. A callback may take as long as it likes while the connection lives; when the
/// connection has ended it has the close timeout (5 s) to finish, then it is dropped at the
/// `.await` where it stands. One that never returns, with the read-ahead full, keeps the driver
/// from seeing the peer leave; heartbeats find a peer whose network says that it is gone, and
/// [`handler_timeout`](crate::WebSocketLayer::handler_timeout) ends what lasts too long.
///
/// A callback must not block its thread, as nothing may in tokio: the other connections of that
/// thread stand still meanwhile, and on a multi-threaded runtime even those of other threads may
/// until one of these wakes up. Use `tokio::task::spawn_blocking`.
///
/// A callback that returns an error, or panics, is told to [`on_error`](Self::on_error); the
/// peer gets a Close frame with 1011. `on_close` is called exactly once for every call of
/// `on_open`, whatever happens, unless the runtime itself is dropped.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use tower_websocket::{CloseEvent, Connection, Message, Result, WebSocketHandler};
///
/// #[derive(Clone, Default)]
/// struct Counter {
///     visitors: Arc<AtomicUsize>, // shared by all connections
///     messages: usize,            // private to each
/// }
///
/// impl WebSocketHandler for Counter {
///     async fn on_open(&mut self, conn: &mut Connection) -> Result {
///         let n = self.visitors.fetch_add(1, Ordering::Relaxed) + 1;
///         conn.send(format!("you are visitor {n} of {}", conn.path())).await?;
///         Ok(())
///     }
///
///     async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
///         self.messages += 1;
///         conn.send(message).await?;
///         Ok(())
///     }
///
///     async fn on_close(&mut self, conn: &mut Connection, event: CloseEvent) -> Result {
///         println!("{}: {} messages, {:?}", conn.id(), self.messages, event.initiator());
///         Ok(())
///     }
/// }
/// ```
pub trait WebSocketHandler: Clone + Send + Sync + 'static {
    /// A good handshake has arrived: accept it, or refuse it with any response.
    ///
    /// Runs before the 101, with at most 10 s to decide (then the peer gets 503). Choose a
    /// subprotocol or add headers to the response through [`Handshake`].
    ///
    /// # Errors
    ///
    /// A [`Rejection`] is sent to the client in place of the 101.
    fn on_upgrade(
        &mut self,
        handshake: &mut Handshake,
    ) -> impl Future<Output = std::result::Result<(), Rejection>> + Send {
        let _ = handshake;
        async { Ok(()) }
    }

    /// The connection is open.
    ///
    /// # Errors
    ///
    /// Closes the connection with 1011, as in every callback.
    fn on_open(&mut self, conn: &mut Connection) -> impl Future<Output = Result> + Send {
        let _ = conn;
        async { Ok(()) }
    }

    /// A message has arrived.
    ///
    /// # Errors
    ///
    /// Closes the connection with 1011.
    fn on_message(
        &mut self,
        conn: &mut Connection,
        message: Message,
    ) -> impl Future<Output = Result> + Send {
        let _ = (conn, message);
        async { Ok(()) }
    }

    /// The connection has ended. Nothing can be sent any more.
    ///
    /// # Errors
    ///
    /// Are logged.
    fn on_close(
        &mut self,
        conn: &mut Connection,
        event: CloseEvent,
    ) -> impl Future<Output = Result> + Send {
        let _ = (conn, event);
        async { Ok(()) }
    }

    /// Something went wrong; [`on_close`](Self::on_close) follows.
    ///
    /// After an error of a callback the connection is still open for a last message, and is
    /// closed with 1011 when this returns. In all other cases it is closed already.
    ///
    /// # Errors
    ///
    /// Are logged.
    fn on_error(
        &mut self,
        conn: &mut Connection,
        error: Error,
    ) -> impl Future<Output = Result> + Send {
        let _ = (conn, error);
        async { Ok(()) }
    }
}

/// A WebSocket handshake that is about to be accepted; see
/// [`on_upgrade`](WebSocketHandler::on_upgrade).
///
/// ```
/// use http::StatusCode;
/// use tower_websocket::{Handshake, Rejection, WebSocketHandler};
///
/// #[derive(Clone)]
/// struct Members;
///
/// impl WebSocketHandler for Members {
///     async fn on_upgrade(&mut self, handshake: &mut Handshake) -> Result<(), Rejection> {
///         if handshake.request().headers.get("authorization").is_none() {
///             return Err(Rejection::new(StatusCode::UNAUTHORIZED, "log in first"));
///         }
///         Ok(())
///     }
/// }
/// ```
pub struct Handshake {
    pub(crate) request: Parts,
    pub(crate) mount: Arc<str>,
    pub(crate) rest: usize,
    pub(crate) offer: Offer,
    pub(crate) headers: HeaderMap,
}

impl Handshake {
    /// The request: method, URI, headers, extensions (the peer's address, what layers in
    /// front have found out).
    pub fn request(&self) -> &Parts {
        &self.request
    }

    /// The request, to put something into its extensions for the callbacks that follow.
    pub fn request_mut(&mut self) -> &mut Parts {
        &mut self.request
    }

    /// The path under which the layer is mounted; empty for `/`.
    pub fn mount(&self) -> &str {
        &self.mount
    }

    /// The rest of the path behind the mount: empty, or it begins with `/`.
    pub fn path(&self) -> &str {
        self.request.uri.path().get(self.rest..).unwrap_or_default()
    }

    /// The subprotocols that the client offers, in its order.
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        self.offer.offered.iter().map(String::as_str)
    }

    /// The subprotocol that the response will name.
    pub fn protocol(&self) -> Option<&str> {
        self.offer.selected.as_deref()
    }

    /// Chooses one of the [subprotocols offered](Self::protocols). `false`, and no change, if
    /// the client did not offer it: naming it would make the client fail (RFC 6455 §4.1).
    pub fn select_protocol(&mut self, protocol: &str) -> bool {
        self.offer.select(protocol)
    }

    /// Headers to add to the response, such as cookies. Those that make the handshake are
    /// the layer's own and are left out.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("uri", &self.request.uri)
            .field("mount", &self.mount)
            .field("offer", &self.offer)
            .finish_non_exhaustive()
    }
}

/// The application of [`WebSocketLayer::from_fn`](crate::WebSocketLayer::from_fn).
#[derive(Clone)]
pub struct FnHandler {
    function: Arc<Function>,
}

/// Boxed: one allocation a connection, and the type of a layer can be written down.
type Function = dyn Fn(Connection) -> Running + Send + Sync;
type Running = Pin<Box<dyn Future<Output = Result> + Send>>;

impl FnHandler {
    pub(crate) fn new<F, Fut>(function: F) -> Self
    where
        F: Fn(Connection) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result> + Send + 'static,
    {
        Self {
            function: Arc::new(move |conn| Box::pin(function(conn))),
        }
    }
}

impl WebSocketHandler for FnHandler {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        (self.function)(conn.duplicate()).await?;
        // Closed by the function or by the peer is just as good.
        let _ = conn.close(CloseCode::NORMAL, "");
        Ok(())
    }
}

impl fmt::Debug for FnHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnHandler").finish_non_exhaustive()
    }
}
