//! How a connection ends: [`CloseCode`], the reason, the Close frame, [`CloseCause`],
//! [`CloseEvent`], which combines them, and [`Close`], the error that asks for an end.

use std::fmt;

use crate::message::Utf8Bytes;

/// A status code that tells why a connection was closed (RFC 6455 §7.4).
///
/// ```
/// use tower_websocket::CloseCode;
///
/// assert!(CloseCode::NORMAL_CLOSURE.is_sendable());
/// assert!(CloseCode::from(4000).is_sendable());
/// assert!(!CloseCode::ABNORMAL_CLOSURE.is_sendable());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL_CLOSURE: Self = Self(1000);
    /// 1001: the server is going down, or the browser leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a kind of data that cannot be accepted.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1005: the Close frame carried no code. Never on the wire.
    pub const NO_STATUS_RECEIVED: Self = Self(1005);
    /// 1006: the connection ended without a Close frame. Never on the wire.
    pub const ABNORMAL_CLOSURE: Self = Self(1006);
    /// 1007: data inconsistent with its type, such as a text that is not UTF-8.
    pub const INVALID_FRAME_PAYLOAD_DATA: Self = Self(1007);
    /// 1008: a policy was violated.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message too big to process.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1010: the client expected an extension that the server did not agree to.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// 1011: the server met an unexpected condition.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the server restarts; a client may come back after a pause.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: the server is overloaded; a client should come back later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway received an invalid response from the server behind it.
    pub const BAD_GATEWAY: Self = Self(1014);
    /// 1015: the TLS handshake failed. Never on the wire.
    pub const TLS_HANDSHAKE: Self = Self(1015);

    /// The number.
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// Whether the code may stand in a Close frame.
    ///
    /// 1000–1003, 1007–1014 (the registered ones), 3000–3999 (libraries) and 4000–4999
    /// (applications); RFC 6455 §7.4.2 and the IANA registry.
    pub const fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl From<u16> for CloseCode {
    fn from(code: u16) -> Self {
        Self(code)
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({self})")
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Why a connection ended, and which side ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseCause {
    /// The peer sent the first Close frame.
    Peer,
    /// The application called `close`.
    Application,
    /// A callback returned an error, panicked, or took too long.
    ApplicationFailed,
    /// [`Shutdown`](crate::Shutdown) drained the server.
    Shutdown,
    /// No message came or went for the layer's `idle_timeout`.
    Idle,
    /// The connection reached the layer's `max_lifetime`.
    Lifetime,
    /// The peer missed a deadline: it did not answer a ping, finish a message, or read what was
    /// sent.
    Timeout,
    /// The peer broke RFC 6455 or a limit of the layer.
    Violation,
    /// The transport ended or failed without a Close frame.
    Transport,
}

impl CloseCause {
    /// In metrics and traces.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Application => "application",
            Self::ApplicationFailed => "application_failed",
            Self::Shutdown => "shutdown",
            Self::Idle => "idle",
            Self::Lifetime => "lifetime",
            Self::Timeout => "timeout",
            Self::Violation => "violation",
            Self::Transport => "transport",
        }
    }
}

/// How a connection ended; passed to [`on_close`](crate::WebSocketHandler::on_close).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseEvent {
    pub(crate) code: CloseCode,
    pub(crate) reason: CloseReason,
    pub(crate) cause: CloseCause,
    /// Both Close frames were exchanged.
    pub(crate) clean: bool,
}

impl CloseEvent {
    /// The close code: the peer's if the peer closed, otherwise ours.
    /// [`NO_STATUS_RECEIVED`](CloseCode::NO_STATUS_RECEIVED) if the peer's Close frame had none,
    /// [`ABNORMAL_CLOSURE`](CloseCode::ABNORMAL_CLOSURE) if there was no Close frame (RFC 6455
    /// §7.1.5).
    pub fn code(&self) -> CloseCode {
        self.code
    }

    /// The reason that goes with the code; empty if there is none.
    pub fn reason(&self) -> &str {
        self.reason.as_str()
    }

    /// Why the connection ended.
    pub fn cause(&self) -> CloseCause {
        self.cause
    }

    /// Whether both sides sent their Close frame (RFC 6455 §7.1.4).
    pub fn was_clean(&self) -> bool {
        self.clean
    }
}

/// An error that ends its connection with a code of the application's choice.
///
/// A callback, or a function of [`from_fn`](crate::WebSocketLayer::from_fn), returns it in place of
/// calling [`close`](crate::Connection::close): `?` carries it out of every depth. It is not a failure:
/// [`on_error`](crate::WebSocketHandler::on_error) is not called, the log has one line at DEBUG, the
/// queued messages are sent, and [`on_close`](crate::WebSocketHandler::on_close) follows with
/// [`CloseCause::Application`].
///
/// An error of the application's own may carry it as its
/// [`source`](std::error::Error::source), at most 8 errors deep.
///
/// ```
/// use tower_websocket::{Close, CloseCode, Connection, Message, Result, WebSocketHandler};
///
/// /// 4000 to 4999 are free for applications.
/// const UNKNOWN_COMMAND: u16 = 4001;
///
/// #[derive(Clone)]
/// struct Commands;
///
/// impl WebSocketHandler for Commands {
///     async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
///         let text = message.as_text().ok_or(Close::new(CloseCode::UNSUPPORTED_DATA, "text only"))?;
///         match text {
///             "ping" => conn.send("pong").await?,
///             "bye" => return Err(Close::new(CloseCode::NORMAL_CLOSURE, "").into()),
///             _ => return Err(Close::new(UNKNOWN_COMMAND, "unknown command").into()),
///         }
///         Ok(())
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    code: CloseCode,
    reason: CloseReason,
}

impl Close {
    /// How deep a `Close` may lie in an error: more layers than applications wrap theirs in.
    const DEPTH: usize = 8;

    /// Ends the connection with `code` and `reason`, of which the first 123 bytes are sent
    /// (RFC 6455 §5.5).
    ///
    /// A code that must not stand in a Close frame (see [`CloseCode::is_sendable`]) is a mistake of the
    /// application and makes this an error like any other: `on_error` is called, and the code is 1011.
    pub fn new(code: impl Into<CloseCode>, reason: impl AsRef<str>) -> Self {
        let reason = reason.as_ref();
        let mut end = reason.len().min(CloseReason::MAX_LEN);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        Self {
            code: code.into(),
            reason: CloseReason(reason[..end].into()),
        }
    }

    /// The code.
    pub fn code(&self) -> CloseCode {
        self.code
    }

    /// The reason, as it will be sent.
    pub fn reason(&self) -> &str {
        self.reason.as_str()
    }

    /// The frame that an error of a callback asks for.
    pub(crate) fn asked_by(error: &(dyn std::error::Error + 'static)) -> Option<CloseFrame> {
        let chain = std::iter::successors(Some(error), |error| error.source());
        let close = chain
            .take(Self::DEPTH)
            .find_map(|error| error.downcast_ref::<Self>())?;
        CloseFrame::new(close.code, close.reason.0.clone())
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "close with {}", self.code)?;
        if !self.code.is_sendable() {
            f.write_str(", which must not stand in a Close frame (RFC 6455 §7.4)")?;
        }
        if !self.reason().is_empty() {
            write!(f, ": {}", self.reason)?;
        }
        Ok(())
    }
}

impl std::error::Error for Close {}

/// The reason in a Close frame: UTF-8 of at most 123 bytes (RFC 6455 §5.5).
#[derive(Clone, Default, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CloseReason(Utf8Bytes);

impl CloseReason {
    /// 125 bytes of a control frame without the two of the code.
    pub(crate) const MAX_LEN: usize = 123;

    /// No reason.
    pub(crate) const EMPTY: Self = Self(Utf8Bytes::from_static(""));

    /// A reason of at most [`MAX_LEN`](Self::MAX_LEN) bytes; `None` if it is longer.
    pub(crate) fn new(reason: impl Into<Utf8Bytes>) -> Option<Self> {
        let reason = reason.into();
        (reason.len() <= Self::MAX_LEN).then_some(Self(reason))
    }

    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The content of a Close frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CloseFrame {
    /// Why the connection is closed.
    pub(crate) code: CloseCode,
    /// The same in words, for a developer to read.
    pub(crate) reason: CloseReason,
}

impl CloseFrame {
    /// A frame that may be sent; `None` if the code is
    /// [not sendable](CloseCode::is_sendable) or the reason is longer than 123 bytes.
    pub(crate) fn new(code: CloseCode, reason: impl Into<Utf8Bytes>) -> Option<Self> {
        let reason = CloseReason::new(reason)?;
        code.is_sendable().then_some(Self { code, reason })
    }

    /// For codes and reasons of our own, which are known to be valid. A reason that is too long is
    /// left out.
    pub(crate) fn known(code: CloseCode, reason: impl Into<Utf8Bytes>) -> Self {
        Self {
            code,
            reason: CloseReason::new(reason).unwrap_or(CloseReason::EMPTY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f27_codes_that_may_stand_in_a_close_frame() {
        let good = [
            1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 3999, 4000, 4999,
        ];
        let bad = [
            0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535,
        ];
        for code in good {
            assert!(CloseCode(code).is_sendable(), "{code}");
        }
        for code in bad {
            assert!(!CloseCode(code).is_sendable(), "{code}");
        }
    }

    #[test]
    fn f34_a_reason_longer_than_123_bytes_is_refused() {
        assert!(CloseReason::new("x".repeat(123)).is_some());
        assert!(CloseReason::new("x".repeat(124)).is_none());
        assert!(CloseFrame::new(CloseCode::NO_STATUS_RECEIVED, "").is_none());
        assert!(CloseFrame::new(CloseCode::NORMAL_CLOSURE, "bye").is_some());
    }

    #[test]
    fn a_reason_is_cut_at_123_bytes_between_two_characters() {
        assert_eq!(Close::new(4000, "é".repeat(100)).reason(), "é".repeat(61));
        assert_eq!(Close::new(4000, "x".repeat(200)).reason().len(), 123);
        assert_eq!(Close::new(4000, "bye").reason(), "bye");
    }

    /// Wraps another error, as those of an application do.
    #[derive(Debug)]
    struct Wrapped(Box<dyn std::error::Error>);

    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("wrapped")
        }
    }

    impl std::error::Error for Wrapped {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&*self.0)
        }
    }

    #[test]
    fn a_close_is_found_up_to_eight_errors_deep_and_only_with_a_code_that_can_be_sent() {
        let wrapped = |depth: usize, code: u16| {
            let mut error: Box<dyn std::error::Error> = Box::new(Close::new(code, "bye"));
            for _ in 1..depth {
                error = Box::new(Wrapped(error));
            }
            Close::asked_by(&*error)
        };
        let frame = CloseFrame::new(4000.into(), "bye");
        assert!(frame.is_some());
        for depth in [1, 2, 8] {
            assert_eq!(wrapped(depth, 4000), frame, "{depth}");
        }
        assert_eq!(wrapped(9, 4000), None);
        for code in [1005, 1006, 1015, 999, 5000] {
            assert_eq!(wrapped(1, code), None, "{code}");
        }
        assert_eq!(Close::asked_by(&fmt::Error), None);
    }

    #[test]
    fn a_close_says_what_it_does_and_what_is_wrong_with_it() {
        let text = |code: u16, reason| Close::new(code, reason).to_string();
        assert_eq!(text(4000, ""), "close with 4000");
        assert_eq!(text(4000, "bye"), "close with 4000: bye");
        assert!(text(1006, "").contains("must not stand in a Close frame"));
    }
}
