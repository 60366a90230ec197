//! [`Connection`]: the handle to an open connection that each callback receives.

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use http::request::Parts;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::event::Event;
use super::info::ConnectionId;
use super::link::Link;
use super::messages::Messages;
use super::outbox::Queued;
use super::pong::Pong;
use super::sender::{self, Sender};
use crate::close::CloseCode;
use crate::error::{CloseError, Error, PingError, SendError, TrySendError};
use crate::message::Message;
use crate::spawn::spawn;

/// An open WebSocket connection, as its own application sees it.
///
/// Every callback gets it: to send, to close, and to look at the request that opened it.
pub struct Connection {
    pub(super) link: Arc<Link>,
}

impl Connection {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self { link }
    }

    /// Queues a message, waiting for room if the queue is full (128 messages or 1 MiB): a
    /// peer that reads slowly slows down its own connection only.
    ///
    /// `Ok` means that the message is sent exactly once, in order, ahead of any later Close frame,
    /// unless the connection ends first, which `on_close` reports. Dropping the future before it is ready sends
    /// nothing.
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

    /// Sends a ping of the application's own. Heartbeats are sent without it.
    ///
    /// The [`Pong`] that it returns is a future of the round trip, and may be dropped. A ping that still
    /// waits to be written is replaced.
    ///
    /// # Errors
    ///
    /// The payload is longer than 125 bytes (RFC 6455 §5.5), or the connection is closed.
    pub fn ping(&self, payload: &[u8]) -> Result<Pong, PingError> {
        sender::ping(&self.link, payload)
    }

    /// Closes the connection: the queued messages are written, then a Close frame. The peer then has
    /// the layer's close timeout to answer. Nothing more is received. `on_close` follows.
    ///
    /// # Errors
    ///
    /// The code must not be sent (see [`CloseCode::is_sendable`]), the reason is longer than
    /// 123 bytes, or the connection is closed already.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), CloseError> {
        sender::close(&self.link, code, reason)
    }

    /// The next message, for applications that pull: in `on_open`, in a `select!`, or with
    /// [`WebSocketLayer::from_fn`](crate::WebSocketLayer::from_fn). `None` when there will be
    /// no more. A message received here is not given to `on_message`.
    ///
    /// Dropping the future before it is ready loses nothing. Only for use inside a callback
    /// of this connection.
    ///
    /// # Errors
    ///
    /// The connection failed: once, after the messages that came before.
    pub async fn recv(&mut self) -> Result<Option<Message>, Error> {
        poll_fn(|cx| self.link.poll_message(cx)).await
    }

    /// The next event that [`Sender::notify`] sent, for applications that pull. `None` when there will
    /// be no more. An event received here is not given to `on_event`.
    ///
    /// Dropping the future before it is ready loses nothing, so both fit into a `select!`. Only for use
    /// inside a callback of this connection.
    ///
    /// ```
    /// use tower_websocket::{Connection, Result, WebSocketLayer};
    ///
    /// struct Price(u32);
    ///
    /// async fn prices(mut conn: Connection) -> Result {
    ///     // Some other part of the application keeps it, to call `sender.notify(Price(3))`.
    ///     let sender = conn.sender();
    ///     # drop(sender);
    ///     while let Some(event) = conn.recv_event().await {
    ///         if let Ok(Price(price)) = event.downcast() {
    ///             conn.send(price.to_string()).await?;
    ///         }
    ///     }
    ///     Ok(())
    /// }
    ///
    /// let layer = WebSocketLayer::from_fn("/prices", prices);
    /// # drop(layer);
    /// ```
    pub async fn recv_event(&mut self) -> Option<Event> {
        poll_fn(|cx| self.link.poll_event(cx)).await
    }

    /// Waits until nothing can be sent any more: someone closed, or the connection ended.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<'_> {
        self.link.closed()
    }

    /// The messages and bytes that are accepted and not yet written.
    pub fn queued(&self) -> Queued {
        self.link.queued()
    }

    /// A handle to send from any task, at any time.
    pub fn sender(&self) -> Sender {
        Sender::new(self.link.clone())
    }

    /// Runs `future` in a task of its own that ends with the connection: when nothing can be sent any
    /// more, as for [`closed`](Self::closed), it is dropped at the `.await` where it stands.
    ///
    /// The result has what the future returned, or `None` if the connection ended first. The task is in
    /// the [span](https://docs.rs/tracing) of the connection. How many tasks a connection has is up to
    /// the application. Only for use inside a callback, since it needs the tokio runtime.
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
    ///         conn.spawn(async move {
    ///             while sender.send("tick").await.is_ok() {
    ///                 tokio::time::sleep(Duration::from_secs(1)).await;
    ///             }
    ///         });
    ///         Ok(())
    ///     }
    /// }
    /// ```
    pub fn spawn<F>(&self, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let link = self.link.clone();
        let task = async move {
            let (mut future, mut closed) = (pin!(future), pin!(link.closed()));
            poll_fn(|cx| {
                if closed.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                future.as_mut().poll(cx).map(Some)
            })
            .await
        };
        let (runtime, id) = (Handle::current(), self.link.info.id);
        let task = task.in_current_span();
        spawn(&runtime, format_args!("task of websocket {id}"), task)
    }

    /// Splits it into a handle to send with and a [`Stream`](futures_core::Stream) of what arrives, for
    /// libraries that want a stream. For functions of
    /// [`from_fn`](crate::WebSocketLayer::from_fn), which own their connection; it is closed when the
    /// function returns.
    ///
    /// ```
    /// use futures_util::StreamExt;
    /// use tower_websocket::{Connection, WebSocketLayer};
    ///
    /// let layer = WebSocketLayer::from_fn("/shout", |conn: Connection| async move {
    ///     let (sender, messages) = conn.split();
    ///     let texts = messages.filter_map(async |message| Some(message.ok()?.as_text()?.to_uppercase()));
    ///     texts.map(Ok).try_for_each(async |text| sender.send(text).await).await?;
    ///     Ok(())
    /// });
    /// # use futures_util::TryStreamExt;
    /// # drop(layer);
    /// ```
    pub fn split(self) -> (Sender, Messages) {
        (self.sender(), Messages::new(self.link))
    }

    /// The request that opened the connection, websocket-rack's `env`: method, URI, headers,
    /// and the extensions that layers in front have put there.
    ///
    /// Over HTTP/2 the method is CONNECT (RFC 8441). Empty if the layer does not
    /// [keep it](crate::WebSocketLayer::keep_request).
    pub fn request(&self) -> &Parts {
        self.link.info.request.parts()
    }

    /// The path under which the layer is mounted, Rack's `SCRIPT_NAME`; empty for `/`.
    pub fn mount(&self) -> &str {
        &self.link.info.mount
    }

    /// The rest of the path behind the mount, Rack's `PATH_INFO`: empty, or it begins with `/`.
    pub fn path(&self) -> &str {
        self.link.info.path()
    }

    /// The subprotocol that was agreed.
    pub fn protocol(&self) -> Option<&str> {
        self.link.info.protocol()
    }

    /// The peer's address, if the layer knows [how to find it](crate::WebSocketLayer::peer_addr).
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.link.info.peer()
    }

    /// The client's address: of the peer, or, if that is one of the layer's
    /// [trusted proxies](crate::WebSocketLayer::trusted_proxies), what the proxy says.
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.link.info.client()
    }

    /// Identifies the connection in logs and as a key in maps.
    pub fn id(&self) -> ConnectionId {
        self.link.info.id
    }

    /// A second handle, for the driver's own use.
    pub(crate) fn duplicate(&self) -> Self {
        Self::new(self.link.clone())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.link.info, f)
    }
}
