//! [`Sender`]: a cloneable handle that sends to a connection from any task.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use super::event::NotifyError;
use super::info::ConnectionId;
use super::link::Link;
use super::outbox::Queued;
use super::pong::Pong;
use crate::close::CloseCode;
use crate::error::{CloseError, PingError, SendError, TrySendError};
use crate::message::Message;

/// Sends to one connection from anywhere: websocket-rack's `send_data` from a timer.
///
/// [`Connection::sender`](super::Connection::sender) returns one. It is cheap to clone and may
/// outlive its connection; its methods then return an error, such as [`SendError`].
///
/// `Ok` from [`send`](Self::send) or [`try_send`](Self::try_send) means that the message is sent
/// exactly once, in the order of this sender, ahead of any later Close frame, unless the connection
/// ends first, which `on_close` reports.
///
/// ```
/// use std::time::Duration;
/// use tower_websocket::{Connection, Result, WebSocketHandler};
///
/// #[derive(Clone)]
/// struct Clock;
///
/// impl WebSocketHandler for Clock {
///     async fn on_open(&mut self, conn: &mut Connection) -> Result {
///         let sender = conn.sender();
///         tokio::spawn(async move {
///             while sender.send("tick").await.is_ok() {
///                 tokio::time::sleep(Duration::from_secs(1)).await;
///             }
///         });
///         Ok(())
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Sender {
    pub(super) link: Arc<Link>,
}

impl Sender {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self { link }
    }

    /// Queues a message, waiting for room if the queue is full (128 messages or 1 MiB).
    ///
    /// Dropping the future before it is ready sends nothing.
    ///
    /// # Errors
    ///
    /// The connection is closed; the error gives the message back.
    #[inline]
    pub fn send<M: Into<Message>>(
        &self,
        message: M,
    ) -> impl Future<Output = Result<(), SendError>> + Send + use<'_, M> {
        self.link.send(message.into())
    }

    /// Queues a message if there is room.
    ///
    /// # Errors
    ///
    /// The queue is full or the connection closed; the error gives the message back.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), TrySendError> {
        self.link.try_send(message.into())
    }

    /// Closes the connection, as [`Connection::close`](super::Connection::close).
    ///
    /// # Errors
    ///
    /// The code must not be sent, or the reason is longer than 123 bytes, or the connection is closed.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), CloseError> {
        close(&self.link, code, reason)
    }

    /// Ends the connection at once, without a closing handshake: what is queued is dropped, and the
    /// transport is closed. For a peer that does not deserve better; [`close`](Self::close) is what
    /// clients understand. `on_close` follows with 1006 and
    /// [`CloseCause::Application`](crate::CloseCause::Application); a callback that is running is
    /// dropped within half a second. Does nothing after the end.
    pub fn abort(&self) {
        self.link.give_up();
    }

    /// Sends a ping of the application's own, as [`Connection::ping`](super::Connection::ping).
    ///
    /// # Errors
    ///
    /// The payload is longer than 125 bytes (RFC 6455 §5.5), or the connection is closed.
    pub fn ping(&self, payload: &[u8]) -> Result<Pong, PingError> {
        ping(&self.link, payload)
    }

    /// Delivers `event` to the connection's own handler, which receives it in
    /// [`on_event`](crate::WebSocketHandler::on_event) or from
    /// [`recv_event`](super::Connection::recv_event). Use it for what must change the handler's `self`,
    /// such as a permission or a timer. To send to the client, [`send`](Self::send) is enough.
    ///
    /// `Ok` means that the handler receives the event after the messages and events that arrived
    /// before it, unless the connection ends first, which `on_close` reports. At most 1,024 events
    /// wait.
    ///
    /// # Errors
    ///
    /// That many events are waiting, or the connection has ended; the error gives the event back.
    ///
    /// ```
    /// # use tower_websocket::{NotifyError, Sender};
    /// # fn kick(sender: &Sender) {
    /// struct Kicked;
    ///
    /// if let Err(NotifyError::Full(_)) = sender.notify(Kicked) {
    ///     // The handler does not keep up.
    /// }
    /// # }
    /// ```
    pub fn notify<T: Any + Send>(&self, event: T) -> Result<(), NotifyError<T>> {
        self.link.notify(event)
    }

    /// Waits until nothing can be sent any more: someone closed, or the connection ended.
    ///
    /// ```
    /// # use tower_websocket::Sender;
    /// # async fn work() {}
    /// # fn f(sender: Sender) {
    /// // A task that ends with its connection:
    /// tokio::spawn(async move {
    ///     tokio::select! {
    ///         () = sender.closed() => {}
    ///         () = work() => {}
    ///     }
    /// });
    /// # }
    /// ```
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<'_> {
        self.link.closed()
    }

    /// The messages and bytes that are accepted and not yet written: how far the peer is behind.
    pub fn queued(&self) -> Queued {
        self.link.queued()
    }

    /// Whether nothing can be sent any more.
    pub fn is_closed(&self) -> bool {
        self.link.is_closed()
    }

    /// The connection it sends to.
    pub fn id(&self) -> ConnectionId {
        self.link.info.id
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

pub(super) fn ping(link: &Link, payload: &[u8]) -> Result<Pong, PingError> {
    if payload.len() > 125 {
        return Err(PingError::TooLong(payload.len()));
    }
    link.ping(Bytes::copy_from_slice(payload))
        .ok_or(PingError::Closed)
}

pub(super) fn close(link: &Link, code: CloseCode, reason: &str) -> Result<(), CloseError> {
    if link.close(CloseError::check(code, reason)?) {
        Ok(())
    } else {
        Err(CloseError::Closed)
    }
}
