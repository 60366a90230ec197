//! [`Error`], which `on_error` receives (opaque, with predicates), and the errors of single calls:
//! [`CloseError`], [`PingError`], and [`SendError`] and [`TrySendError`], which give the message
//! back.

use std::fmt;

use crate::close::{CloseCode, CloseFrame, CloseReason};
use crate::logging::escaped;
use crate::message::Message;
use crate::protocol::Failure;

/// Any error of an application, as [`Result`](crate::Result) carries it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong on a connection.
///
/// Passed to [`on_error`](crate::WebSocketHandler::on_error) and returned by
/// [`Connection::recv`](crate::Connection::recv). Exactly one of the six predicates is true.
/// Three are about a callback of the application, three about the peer and the network:
///
/// | predicate | what happened | [`close_code`](Self::close_code) |
/// |---|---|---|
/// | [`is_application`](Self::is_application) | a callback returned an error | 1011 |
/// | [`is_panic`](Self::is_panic) | a callback panicked | 1011 |
/// | [`is_callback_timeout`](Self::is_callback_timeout) | a callback ran for too long | 1011 |
/// | [`is_protocol`](Self::is_protocol) | the peer broke RFC 6455 or a limit | 1002, 1007, 1008 or 1009 |
/// | [`is_timeout`](Self::is_timeout) | the peer missed a deadline | 1011, 1008 or none |
/// | [`is_io`](Self::is_io) | the transport failed | none |
///
/// `Display` is one line, without the text of the application's error or the transport's: that is
/// the [`source`](std::error::Error::source).
pub struct Error {
    /// Boxed: every connection has room for an error, and few need it.
    kind: Box<Kind>,
}

#[derive(Debug)]
enum Kind {
    Callback {
        /// Its name, for `Display`.
        name: &'static str,
        failure: CallbackFailure,
        close_code: Option<CloseCode>,
    },
    Connection(Failure),
}

/// What can go wrong with a callback.
#[derive(Debug)]
pub(crate) enum CallbackFailure {
    /// It returned an error.
    Returned(BoxError),
    /// It panicked with this message.
    Panicked(String),
    /// It took longer than `on_message_timeout`.
    Late,
    /// It was still running when the time that it had after the end of its connection was over.
    Abandoned,
}

impl Error {
    /// An error of the callback `name`. No Close frame is sent because of it, unless
    /// [`closing_with`](Self::closing_with) says otherwise.
    pub(crate) fn of_callback(name: &'static str, failure: CallbackFailure) -> Self {
        Self {
            kind: Box::new(Kind::Callback {
                name,
                failure,
                close_code: None,
            }),
        }
    }

    /// The connection is open and will be closed with `code` because of this error.
    pub(crate) fn closing_with(mut self, code: CloseCode) -> Self {
        if let Kind::Callback { close_code, .. } = &mut *self.kind {
            *close_code = Some(code);
        }
        self
    }

    fn callback(&self) -> Option<&CallbackFailure> {
        match &*self.kind {
            Kind::Callback { failure, .. } => Some(failure),
            Kind::Connection(_) => None,
        }
    }

    /// Whether the peer or the transport failed, not the application.
    pub(crate) fn is_of_connection(&self) -> bool {
        self.callback().is_none()
    }

    /// A callback of the application returned an error, which is the
    /// [`source`](std::error::Error::source).
    pub fn is_application(&self) -> bool {
        matches!(self.callback(), Some(CallbackFailure::Returned(_)))
    }

    /// A callback of the application panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.callback(), Some(CallbackFailure::Panicked(_)))
    }

    /// A callback of the application was dropped because it ran for too long: longer than
    /// [`on_message_timeout`](crate::WebSocketLayer::on_message_timeout), or longer than the
    /// [`close_timeout`](crate::WebSocketLayer::close_timeout) after its connection had ended.
    ///
    /// The fault is this server's; deadlines that the peer missed are
    /// [`is_timeout`](Self::is_timeout).
    pub fn is_callback_timeout(&self) -> bool {
        matches!(
            self.callback(),
            Some(CallbackFailure::Late | CallbackFailure::Abandoned)
        )
    }

    /// The peer broke RFC 6455 or a limit of the layer; [`close_code`](Self::close_code) says
    /// which kind of rule.
    pub fn is_protocol(&self) -> bool {
        matches!(*self.kind, Kind::Connection(Failure::Violation(_)))
    }

    /// The peer missed a deadline: no pong came back (1011), a message did not arrive in time
    /// (1008), or the peer does not read what is sent (no Close frame, since it would not read
    /// that either).
    pub fn is_timeout(&self) -> bool {
        matches!(*self.kind, Kind::Connection(Failure::Timeout { .. }))
    }

    /// The transport failed: reset, broken pipe, a TLS error. The
    /// [`source`](std::error::Error::source) is an [`io::Error`](std::io::Error).
    pub fn is_io(&self) -> bool {
        matches!(*self.kind, Kind::Connection(Failure::Io(_)))
    }

    /// The code of the Close frame that is sent to the peer because of this error.
    ///
    /// `None` if none is sent: the transport failed, the peer reads nothing, or a callback failed
    /// after its connection had ended for another reason, which
    /// [`on_close`](crate::WebSocketHandler::on_close) reports. After an error of a callback the
    /// Close frame follows `on_error`, which may still close with a code of its own.
    pub fn close_code(&self) -> Option<CloseCode> {
        match &*self.kind {
            Kind::Callback { close_code, .. } => *close_code,
            Kind::Connection(failure) => failure.close_code(),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self {
            kind: Box::new(Kind::Connection(failure)),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Error").field(&self.kind).finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.kind {
            Kind::Callback { name, failure, .. } => match failure {
                CallbackFailure::Returned(_) => write!(f, "{name} returned an error"),
                CallbackFailure::Panicked(message) => {
                    write!(f, "{name} panicked: {}", escaped(message))
                }
                CallbackFailure::Late => write!(
                    f,
                    "{name} took longer than the layer's `on_message_timeout` and was dropped"
                ),
                CallbackFailure::Abandoned => write!(
                    f,
                    "{name} was still running after the connection had ended and was dropped"
                ),
            },
            Kind::Connection(Failure::Violation(violation)) => {
                write!(f, "closed with {}: {}", violation.code, violation.reason)
            }
            Kind::Connection(Failure::Timeout { what, .. }) => write!(f, "timed out: {what}"),
            Kind::Connection(Failure::Io(_)) => f.write_str("the transport failed"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.kind {
            Kind::Callback {
                failure: CallbackFailure::Returned(error),
                ..
            } => Some(&**error),
            Kind::Connection(Failure::Io(error)) => Some(error),
            _ => None,
        }
    }
}

/// Why [`close`](crate::Connection::close) did nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseError {
    /// The code must not stand in a Close frame; see [`CloseCode::is_sendable`].
    InvalidCode(CloseCode),
    /// The length of the reason in bytes, which exceeds 123 (RFC 6455 §5.5).
    ReasonTooLong(usize),
    /// The connection is closed already.
    Closed,
}

impl CloseError {
    /// The frame, if the code may be sent and the reason is short enough.
    pub(crate) fn check(code: CloseCode, reason: &str) -> Result<CloseFrame, Self> {
        CloseFrame::new(code, reason).ok_or_else(|| {
            if code.is_sendable() {
                Self::ReasonTooLong(reason.len())
            } else {
                Self::InvalidCode(code)
            }
        })
    }

    /// Whether the connection is closed already; the arguments were valid.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }
}

impl fmt::Display for CloseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidCode(code) => write!(
                f,
                "code {code} must not stand in a Close frame (RFC 6455 §7.4)"
            ),
            Self::ReasonTooLong(len) => write!(
                f,
                "the reason of a Close frame has at most {} bytes (RFC 6455 §5.5), this one has {len}",
                CloseReason::MAX_LEN
            ),
            Self::Closed => f.write_str("the connection is closed"),
        }
    }
}

impl std::error::Error for CloseError {}

/// Why [`ping`](crate::Connection::ping) did nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PingError {
    /// The length of the payload in bytes, which exceeds 125 (RFC 6455 §5.5).
    TooLong(usize),
    /// The connection is closed.
    Closed,
}

impl PingError {
    /// Whether the connection is closed; the payload was valid.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }
}

impl fmt::Display for PingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(len) => write!(
                f,
                "a ping carries at most 125 bytes (RFC 6455 §5.5), this one has {len}"
            ),
            Self::Closed => f.write_str("the connection is closed"),
        }
    }
}

impl std::error::Error for PingError {}

/// The connection was closed before the message could be queued. The error gives the message back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendError(pub(crate) Message);

impl SendError {
    /// The message that was not sent.
    pub fn into_message(self) -> Message {
        self.0
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is closed, the message was not sent")
    }
}

impl std::error::Error for SendError {}

/// Why a message could not be queued at once. The error gives the message back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "as tokio's TrySendError: a queue is full or closed, there is no third way"
)]
pub enum TrySendError {
    /// The outgoing queue is full: the peer reads more slowly than the application sends.
    Full(Message),
    /// The connection is closed.
    Closed(Message),
}

impl TrySendError {
    /// The message that was not sent.
    pub fn into_message(self) -> Message {
        match self {
            Self::Full(message) | Self::Closed(message) => message,
        }
    }

    /// Whether the queue is full; waiting may help.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Whether the connection is closed; waiting does not help.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

impl fmt::Display for TrySendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the outgoing queue is full, the message was not sent",
            Self::Closed(_) => "the connection is closed, the message was not sent",
        })
    }
}

impl std::error::Error for TrySendError {}

#[cfg(test)]
mod tests;
