//! [`WebSocketHandler`], the application, and what it gets before a connection is open.
//!
//! ```text
//! on_upgrade(Handshake) ─▶ on_open ─▶ on_message, on_event … ─▶ on_close
//!        └─▶ Rejection         └───────────┴─ error, panic ─▶ on_error ─▶ on_close
//! ```
//!
//! `from_fn` makes a handler of a function that pulls its messages.

mod from_fn;
mod handshake;
mod upgrade_fn;

use std::future::Future;

pub use self::from_fn::FnHandler;
pub(crate) use self::from_fn::FnOnceHandler;
pub use self::handshake::Handshake;
pub(crate) use self::upgrade_fn::{UpgradeCheck, upgrade_check};
pub use self::upgrade_fn::{UpgradeFn, upgrade_fn};
use crate::close::CloseEvent;
use crate::connection::{Connection, Event};
use crate::error::{BoxError, Error};
use crate::handshake::Rejection;
use crate::message::Message;

/// The result of a callback: `?` converts any error into a [`BoxError`].
///
/// With a second parameter it is [`std::result::Result`], so an import of it shadows nothing:
/// `Result<(), Rejection>`.
pub type Result<T = (), E = BoxError> = std::result::Result<T, E>;

/// A WebSocket application: websocket-rack's `Rack::WebSocket::Application`.
///
/// Every callback has a default: an empty `impl` is valid, accepts connections and ignores messages.
/// Each connection gets a clone of its own (Rack's `dup`): `&mut self` is private to the connection;
/// shared state belongs in an [`Arc`](std::sync::Arc) field.
///
/// Callbacks of one connection never overlap. While one is pending its connection goes on
/// answering pings, writing what was sent, and reading ahead up to 64 KiB; then the peer has
/// to wait. A callback may take as long as it likes while the connection lives; when the
/// connection has ended it has the close timeout (5 s) to finish, then it is dropped at the
/// `.await` where it stands. A callback that never returns eventually stops reading, so that a
/// disconnect goes unnoticed until a heartbeat write fails. Set an
/// [`on_message_timeout`](crate::WebSocketLayer::on_message_timeout).
///
/// Blocking stalls all connections on that worker thread and can delay others. Use
/// `tokio::task::spawn_blocking`.
///
/// If a callback returns an error or panics, [`on_error`](Self::on_error) is called and the peer gets
/// a Close frame with 1011; a [`Close`](crate::Close) as the error closes with a code of its own, and
/// is no failure. `on_close` is called exactly once for every call of
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
///         println!("{}: {} messages, {:?}", conn.id(), self.messages, event.cause());
///         Ok(())
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a WebSocket handler",
    label = "does not implement `WebSocketHandler`",
    note = "an empty `impl WebSocketHandler for ... {{}}` is enough: every callback has a default",
    note = "mount a function of a `Connection` with `WebSocketLayer::from_fn`"
)]
pub trait WebSocketHandler: Clone + Send + Sync + 'static {
    /// A valid handshake has arrived: accept it, or refuse it with any response.
    ///
    /// `self` is the clone that the connection keeps: what is stored in it here is there in `on_open`
    /// and in every later callback. No other callback follows if the handshake is refused, here or by a
    /// layer further out, or if the client leaves before the connection opens; so count visitors in
    /// `on_open`.
    ///
    /// Runs before the 101 and after the layer's own
    /// [`on_upgrade`](crate::WebSocketLayer::on_upgrade), if it has one. Both together have the
    /// layer's [`upgrade_timeout`](crate::WebSocketLayer::upgrade_timeout) to decide, 10 s by
    /// default; then the client gets 503. Choose a subprotocol or add headers to the response
    /// through [`Handshake`].
    ///
    /// # Errors
    ///
    /// A [`Rejection`] is sent to the client in place of the 101.
    fn on_upgrade(
        &mut self,
        handshake: &mut Handshake,
    ) -> impl Future<Output = Result<(), Rejection>> + Send {
        let _ = handshake;
        async { Ok(()) }
    }

    /// The connection is open.
    ///
    /// # Errors
    ///
    /// [`on_error`](Self::on_error) is called, and the connection is closed with 1011. A
    /// [`Close`](crate::Close) closes it with a code of its own, without `on_error`.
    fn on_open(&mut self, conn: &mut Connection) -> impl Future<Output = Result> + Send {
        let _ = conn;
        async { Ok(()) }
    }

    /// A message has arrived.
    ///
    /// # Errors
    ///
    /// As in [`on_open`](Self::on_open).
    fn on_message(
        &mut self,
        conn: &mut Connection,
        message: Message,
    ) -> impl Future<Output = Result> + Send {
        let _ = (conn, message);
        async { Ok(()) }
    }

    /// Another part of the application has sent an [`Event`] with [`Sender::notify`].
    ///
    /// Events and messages of one connection come in the order in which they arrived, one callback at
    /// a time, so that what `self` holds needs no lock. `on_message_timeout` counts here too.
    ///
    /// [`Sender::notify`]: crate::Sender::notify
    ///
    /// # Errors
    ///
    /// As in [`on_open`](Self::on_open).
    fn on_event(
        &mut self,
        conn: &mut Connection,
        event: Event,
    ) -> impl Future<Output = Result> + Send {
        let _ = (conn, event);
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
