//! Values that otherwise only the layer makes: a [`Connection`], a [`Handshake`], an [`Event`], an
//! [`Error`], a [`CloseEvent`].

use std::any::Any;
use std::io;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, Version, header};

use super::client::TestClient;
use super::request::ACCEPT;
use crate::close::{CloseCause, CloseCode, CloseEvent, CloseReason};
use crate::connection::{Connection, ConnectionId, Event, Info, Link, Names, StoredRequest};
use crate::driver::serve;
use crate::error::{BoxError, CallbackFailure, Error};
use crate::handler::{Handshake, Result, WebSocketHandler};
use crate::handshake::{Offer, Transport};
use crate::protocol::{Failure, Violation};
use crate::topics::Topics;

/// An open connection without a handler, and its client: to call one callback, or a function that
/// takes a [`Connection`], and look at what it does.
///
/// The request is what [`Connection::request`] gives; it needs none of the headers of a handshake. A
/// `SocketAddr` in its extensions is the peer's address, the first subprotocol that it offers is
/// agreed, the mount is empty. Options are the default ones. The connection closes when the client
/// closes or is dropped. Runs inside a tokio runtime.
///
/// ```
/// use http::Request;
/// use tower_websocket::{Connection, Message, Result, WebSocketHandler};
///
/// #[derive(Clone, Default)]
/// struct Counter(u32);
///
/// impl WebSocketHandler for Counter {
///     async fn on_message(&mut self, conn: &mut Connection, _: Message) -> Result {
///         self.0 += 1;
///         conn.send(format!("{} at {}", self.0, conn.path())).await?;
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let request = Request::get("/likes").body(()).unwrap();
/// let (mut conn, mut client) = tower_websocket::test::connection(request);
/// let mut counter = Counter(41);
/// counter.on_message(&mut conn, "+1".into()).await.unwrap();
/// assert_eq!(counter.0, 42);
/// client.expect_text("42 at /likes").await;
///
/// client.send("a message").await;
/// assert_eq!(conn.recv().await.unwrap(), Some("a message".into()));
/// # }
/// ```
pub fn connection(request: Request<()>) -> (Connection, TestClient) {
    let config = Arc::default();
    let link = Arc::new(Link::new(
        Arc::clone(&config),
        info(request),
        None,
        Topics::new(),
    ));
    let (io, client) = tokio::io::duplex(64 * 1024);
    let conn = Connection::new(link.clone());
    tokio::spawn(serve(Nobody, link, config, io));
    (conn, TestClient::new(Box::new(client), Response::new(())))
}

/// Leaves what comes to whoever has the connection.
#[derive(Clone)]
struct Nobody;

impl WebSocketHandler for Nobody {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        conn.closed().await;
        Ok(())
    }
}

/// What is fixed about a connection of this request.
pub(super) fn info(request: Request<()>) -> Info {
    let protocol = protocols(request.headers()).next().map(str::to_owned);
    let request = request.into_parts().0;
    Info {
        id: ConnectionId::next(),
        mount: Arc::default(),
        names: Names::new(request.uri.path().into(), protocol.as_deref()),
        request: {
            let peer = request.extensions.get().copied();
            StoredRequest::new(request, peer)
        },
        seldom: None,
    }
}

/// A handshake, to call [`on_upgrade`](WebSocketHandler::on_upgrade) with.
///
/// The request needs none of the headers that every handshake has. A `SocketAddr` in its extensions
/// is the peer's address, the subprotocols are those that it offers, and none is chosen yet; the mount
/// is empty. Nothing was checked, neither origin nor host:
/// [`TestServer::connect`](super::TestServer::connect) shows what a layer refuses.
///
/// ```
/// use http::{Request, StatusCode};
/// use tower_websocket::{Handshake, Rejection, WebSocketHandler, test};
///
/// #[derive(Clone)]
/// struct Members;
///
/// impl WebSocketHandler for Members {
///     async fn on_upgrade(&mut self, handshake: &mut Handshake) -> Result<(), Rejection> {
///         match handshake.request().headers.get("authorization") {
///             Some(_) => Ok(()),
///             None => Err(Rejection::new(StatusCode::UNAUTHORIZED, "log in first")),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let stranger = Request::get("/").body(()).unwrap();
/// assert!(Members.on_upgrade(&mut test::handshake(stranger)).await.is_err());
/// let member = Request::get("/").header("authorization", "Bearer ada");
/// let member = member.body(()).unwrap();
/// assert!(Members.on_upgrade(&mut test::handshake(member)).await.is_ok());
/// # }
/// ```
pub fn handshake(request: Request<()>) -> Handshake {
    let request = request.into_parts().0;
    let transport = if request.version <= Version::HTTP_11 {
        Transport::Http1 {
            accept: HeaderValue::from_static(ACCEPT),
            close: false,
        }
    } else {
        Transport::Http2
    };
    Handshake {
        mount: Arc::default(),
        path: request.uri.path().into(),
        offer: Offer {
            transport,
            offered: protocols(&request.headers).map(str::to_owned).collect(),
            selected: None,
            extensions: Vec::new(),
        },
        response_headers: HeaderMap::new(),
        peer: request.extensions.get().copied(),
        client: None,
        lifetime: None,
        request,
    }
}

/// The subprotocols that a request offers.
fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    let protocols = lines.flat_map(|line| line.to_str().unwrap_or_default().split(','));
    protocols
        .map(str::trim)
        .filter(|protocol| !protocol.is_empty())
}

/// An event, to call [`on_event`](WebSocketHandler::on_event) with.
pub fn event<T: Any + Send>(value: T) -> Event {
    Event::new(value)
}

/// The end of a connection, to call [`on_close`](WebSocketHandler::on_close) with. `clean` says whether
/// both sides sent their Close frame.
///
/// ```
/// use tower_websocket::{CloseCause, CloseCode, test};
///
/// let left = test::close_event(CloseCode::GOING_AWAY, "", CloseCause::Peer, true);
/// assert!(left.was_clean());
/// let lost = test::close_event(CloseCode::ABNORMAL_CLOSURE, "", CloseCause::Transport, false);
/// assert_eq!(lost.code().as_u16(), 1006);
/// ```
///
/// # Panics
///
/// The reason is longer than the 123 bytes that fit into a Close frame (RFC 6455 §5.5).
pub fn close_event(
    code: impl Into<CloseCode>,
    reason: &str,
    cause: CloseCause,
    clean: bool,
) -> CloseEvent {
    CloseEvent {
        code: code.into(),
        reason: CloseReason::new(reason.to_owned()).expect("a reason of at most 123 bytes"),
        cause,
        clean,
    }
}

/// What went wrong, for [`error`]: one for each predicate of [`Error`].
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// [`is_application`](Error::is_application): `on_message` returned this error.
    Application(BoxError),
    /// [`is_panic`](Error::is_panic): `on_message` panicked with this message.
    Panic(String),
    /// [`is_callback_timeout`](Error::is_callback_timeout): `on_message` took too long.
    CallbackTimeout,
    /// [`is_protocol`](Error::is_protocol): the peer broke a rule. The code and the reason of the Close
    /// frame that answers it.
    Protocol(CloseCode, String),
    /// [`is_timeout`](Error::is_timeout): the peer missed a deadline. The code of the Close frame; `None`
    /// if the peer reads nothing.
    Timeout(Option<CloseCode>),
    /// [`is_io`](Error::is_io): the transport failed.
    Io(io::Error),
}

/// An error, to call [`on_error`](WebSocketHandler::on_error) with.
///
/// ```
/// use tower_websocket::test::{self, ErrorKind};
///
/// let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
/// let error = test::error(ErrorKind::Io(reset));
/// assert!(error.is_io());
/// assert_eq!(error.close_code(), None);
/// let error = test::error(ErrorKind::Application("no such room".into()));
/// assert_eq!(error.to_string(), "on_message returned an error");
/// ```
pub fn error(kind: ErrorKind) -> Error {
    let of_callback =
        |failure| Error::of_callback("on_message", failure).closing_with(CloseCode::INTERNAL_ERROR);
    match kind {
        ErrorKind::Application(error) => of_callback(CallbackFailure::Returned(error)),
        ErrorKind::Panic(message) => of_callback(CallbackFailure::Panicked(message)),
        ErrorKind::CallbackTimeout => of_callback(CallbackFailure::Late),
        ErrorKind::Protocol(code, reason) => {
            Failure::Violation(Violation::new(code, reason)).into()
        }
        ErrorKind::Timeout(close_code) => Failure::Timeout {
            what: "the peer missed a deadline",
            close_code,
        }
        .into(),
        ErrorKind::Io(error) => Failure::Io(error).into(),
    }
}
