//! [`Error`] (opaque, with predicates), [`SendError`] and [`TrySendError`] (give the message back).

use std::borrow::Cow;
use std::fmt;
use std::io;

use crate::close::CloseCode;
use crate::logging::escaped;
use crate::message::Message;

/// Any error of an application, as [`Result`](crate::Result) carries it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong on a connection.
///
/// Handed to [`on_error`](crate::WebSocketHandler::on_error) and returned by
/// [`Connection::recv`](crate::Connection::recv). `Display` tells this level in one line,
/// [`source`](std::error::Error::source) the next.
pub struct Error {
    /// Boxed: every connection has room for one, and hardly any needs it.
    kind: Box<Kind>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// A callback returned an error.
    Application(BoxError),
    /// A callback panicked.
    Panic {
        callback: &'static str,
        message: String,
    },
    /// A callback was still running when the time to finish after the end of its connection was over.
    Abandoned { callback: &'static str },
    /// A callback took longer than it may.
    Late { callback: &'static str },
    /// The peer broke the protocol or a limit.
    Violation {
        code: CloseCode,
        reason: Cow<'static, str>,
    },
    /// A deadline passed.
    Timeout(Cow<'static, str>),
    /// The transport failed.
    Io(io::Error),
    /// A close code or reason that must not be sent.
    InvalidClose(String),
    /// A ping payload over 125 bytes.
    InvalidPing(usize),
    /// The connection has ended.
    Closed,
}

impl Error {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind: Box::new(kind),
        }
    }

    /// The same once more: `recv` tells it and so does `on_error`.
    pub(crate) fn again(&self) -> Self {
        Self::new(match &*self.kind {
            Kind::Violation { code, reason } => Kind::Violation {
                code: *code,
                reason: reason.clone(),
            },
            Kind::Timeout(what) => Kind::Timeout(what.clone()),
            Kind::Io(e) => Kind::Io(io::Error::new(e.kind(), e.to_string())),
            _ => Kind::Closed,
        })
    }

    /// An error returned by the application's own callback; it is the [`source`](std::error::Error::source).
    pub fn is_application(&self) -> bool {
        matches!(*self.kind, Kind::Application(_))
    }

    /// A callback of the application panicked.
    pub fn is_panic(&self) -> bool {
        matches!(*self.kind, Kind::Panic { .. })
    }

    /// The peer broke RFC 6455 or a limit of the layer; see [`close_code`](Self::close_code).
    pub fn is_protocol(&self) -> bool {
        matches!(*self.kind, Kind::Violation { .. })
    }

    /// A deadline passed: heartbeat, progress, or a callback's.
    pub fn is_timeout(&self) -> bool {
        matches!(*self.kind, Kind::Timeout(_) | Kind::Late { .. })
    }

    /// The transport failed: reset, broken pipe, a TLS error.
    pub fn is_io(&self) -> bool {
        matches!(*self.kind, Kind::Io(_))
    }

    /// The connection has ended; nothing can be sent any more.
    pub fn is_closed(&self) -> bool {
        matches!(*self.kind, Kind::Closed)
    }

    /// The code of the Close frame that the peer got for it, where there is one.
    pub fn close_code(&self) -> Option<CloseCode> {
        match &*self.kind {
            Kind::Application(_)
            | Kind::Panic { .. }
            | Kind::Abandoned { .. }
            | Kind::Late { .. } => Some(CloseCode::INTERNAL_ERROR),
            Kind::Violation { code, .. } => Some(*code),
            _ => None,
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
            Kind::Application(_) => f.write_str("the application's callback returned an error"),
            Kind::Panic { callback, message } => {
                write!(f, "{callback} panicked: {}", escaped(message))
            }
            Kind::Abandoned { callback } => write!(
                f,
                "{callback} was still running after the connection had ended and was dropped"
            ),
            Kind::Late { callback } => write!(
                f,
                "{callback} took longer than the layer's `handler_timeout` and was dropped"
            ),
            Kind::Violation { code, reason } => write!(f, "closed with {code}: {reason}"),
            Kind::Timeout(what) => write!(f, "timed out: {what}"),
            Kind::Io(_) => f.write_str("the transport failed"),
            Kind::InvalidClose(what) => write!(f, "cannot close like this: {what}"),
            Kind::InvalidPing(len) => write!(
                f,
                "a ping carries at most 125 bytes (RFC 6455 §5.5), this one has {len}"
            ),
            Kind::Closed => f.write_str("the connection is closed"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.kind {
            Kind::Application(e) => Some(&**e),
            Kind::Io(e) => Some(e),
            _ => None,
        }
    }
}

/// The connection was closed before the message could be queued; here it is back.
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

/// Why a message could not be queued at once; here it is back.
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
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn an_application_error_is_the_source_and_does_not_reach_the_peer() {
        let error = Error::new(Kind::Application("db password wrong".into()));
        assert!(error.is_application());
        assert_eq!(error.source().unwrap().to_string(), "db password wrong");
        assert_eq!(error.close_code(), Some(CloseCode::INTERNAL_ERROR));
        assert!(!error.to_string().contains("password"));
    }

    #[test]
    fn each_kind_answers_to_its_own_predicate_only() {
        let kinds = [
            Kind::Application("x".into()),
            Kind::Panic {
                callback: "on_open",
                message: "x".into(),
            },
            Kind::Violation {
                code: CloseCode::PROTOCOL_ERROR,
                reason: "x".into(),
            },
            Kind::Timeout("x".into()),
            Kind::Io(io::ErrorKind::BrokenPipe.into()),
            Kind::Closed,
        ];
        for (i, kind) in kinds.into_iter().enumerate() {
            let e = Error::new(kind);
            let answers = [
                e.is_application(),
                e.is_panic(),
                e.is_protocol(),
                e.is_timeout(),
                e.is_io(),
                e.is_closed(),
            ];
            for (j, answer) in answers.into_iter().enumerate() {
                assert_eq!(answer, i == j, "{e:?}");
            }
        }
    }

    #[test]
    fn a_failed_send_gives_the_message_back() {
        let message = Message::from("a");
        assert_eq!(SendError(message.clone()).into_message(), message);
        assert_eq!(TrySendError::Full(message.clone()).into_message(), message);
        assert!(TrySendError::Full(message.clone()).is_full());
        assert!(TrySendError::Closed(message).is_closed());
    }
}
