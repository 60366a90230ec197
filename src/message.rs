//! What is sent and received: [`Message`] and [`CloseCode`]; the content of a Close frame.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use bytestring::ByteString;

use crate::logging::quote;

/// A complete WebSocket message (RFC 6455 §5.6): text or binary.
///
/// Cloning is cheap: the payload is shared, not copied. A received message owns
/// exactly its own bytes; keeping one keeps nothing else alive.
///
/// ```
/// use tower_websocket::Message;
///
/// let message = Message::from("hello");
/// assert_eq!(message.as_text(), Some("hello"));
/// assert_eq!(Message::from(vec![1, 2, 3]).len(), 3);
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "RFC 6455 has two kinds of data; a match without a wildcard is worth more than opcodes 3 to 7"
)]
pub enum Message {
    /// A text message: valid UTF-8.
    Text(Utf8Bytes),
    /// A binary message.
    Binary(Bytes),
}

impl Message {
    /// A text message.
    pub fn text(text: impl Into<Utf8Bytes>) -> Self {
        Self::Text(text.into())
    }

    /// A binary message.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::Binary(bytes.into())
    }

    /// The text, if this is a text message.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The payload, whatever the kind.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    pub(crate) fn payload(&self) -> &Bytes {
        match self {
            Self::Text(text) => text.0.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The payload, whatever the kind, without a copy.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Whether this is a text message.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// Whether this is a binary message.
    pub fn is_binary(&self) -> bool {
        matches!(self, Self::Binary(_))
    }

    /// Length of the payload in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the payload is empty. An empty message is a message (RFC 6455 §5.6).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Message {
    /// Payloads are shortened and escaped, so that a message can be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bytes) = match self {
            Self::Text(text) => ("Text", text.as_bytes()),
            Self::Binary(bytes) => ("Binary", &bytes[..]),
        };
        write!(f, "{name}({} bytes: {})", bytes.len(), quote(bytes, 64))
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<Utf8Bytes> for Message {
    fn from(text: Utf8Bytes) -> Self {
        Self::Text(text)
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::binary(bytes)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(Bytes::copy_from_slice(bytes))
    }
}

/// Bytes that are known to be UTF-8: a `str` that is cheap to clone.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Utf8Bytes(ByteString);

impl Utf8Bytes {
    /// From a string literal, without a copy.
    pub const fn from_static(text: &'static str) -> Self {
        Self(ByteString::from_static(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bytes, without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.0.into_bytes()
    }
}

impl Deref for Utf8Bytes {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Utf8Bytes {
    fn as_ref(&self) -> &str {
        self
    }
}

impl AsRef<[u8]> for Utf8Bytes {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Borrow<str> for Utf8Bytes {
    fn borrow(&self) -> &str {
        self
    }
}

impl fmt::Debug for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl From<&str> for Utf8Bytes {
    fn from(text: &str) -> Self {
        Self(ByteString::from(text))
    }
}

impl From<String> for Utf8Bytes {
    fn from(text: String) -> Self {
        Self(ByteString::from(text))
    }
}

impl From<Utf8Bytes> for Bytes {
    fn from(text: Utf8Bytes) -> Self {
        text.into_bytes()
    }
}

impl TryFrom<Bytes> for Utf8Bytes {
    type Error = std::str::Utf8Error;

    fn try_from(bytes: Bytes) -> Result<Self, Self::Error> {
        ByteString::try_from(bytes).map(Self)
    }
}

impl PartialEq<str> for Utf8Bytes {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Utf8Bytes {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

/// A status code that tells why a connection was closed (RFC 6455 §7.4).
///
/// ```
/// use tower_websocket::CloseCode;
///
/// assert!(CloseCode::NORMAL.is_sendable());
/// assert!(CloseCode::from(4000).is_sendable());
/// assert!(!CloseCode::ABNORMAL.is_sendable());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server goes down, or the browser leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL: Self = Self(1002);
    /// 1003: a kind of data that cannot be accepted.
    pub const UNSUPPORTED: Self = Self(1003);
    /// 1005: the Close frame carried no code. Never on the wire.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006: the connection ended without a Close frame. Never on the wire.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: data inconsistent with its type, such as a text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: a policy was violated.
    pub const POLICY: Self = Self(1008);
    /// 1009: a message too big to process.
    pub const TOO_BIG: Self = Self(1009);
    /// 1010: the client missed an extension.
    pub const EXTENSION: Self = Self(1010);
    /// 1011: the server met an unexpected condition.
    pub const INTERNAL: Self = Self(1011);
    /// 1012: the server restarts; a client may come back after a pause.
    pub const RESTART: Self = Self(1012);
    /// 1013: the server is overloaded; a client should come back later.
    pub const TRY_AGAIN: Self = Self(1013);
    /// 1014: a gateway got a bad response from behind it.
    pub const BAD_GATEWAY: Self = Self(1014);

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

    /// For codes and reasons of our own, which are known to be good. A reason that is too
    /// long after all is left out.
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
        assert!(CloseFrame::new(CloseCode::NO_STATUS, "").is_none());
        assert!(CloseFrame::new(CloseCode::NORMAL, "bye").is_some());
    }

    #[test]
    fn a_logged_message_is_short_and_escaped() {
        let message = Message::text("\u{1b}[31m".to_owned() + &"x".repeat(1000));
        let shown = format!("{message:?}");
        assert!(
            shown.starts_with("Text(1005 bytes: \"\\x1b[31mxx"),
            "{shown}"
        );
        assert!(shown.len() < 120, "{shown}");
    }

    #[test]
    fn a_message_keeps_its_kind_and_bytes() {
        assert!(Message::from("a").is_text());
        assert!(Message::from(&b"a"[..]).is_binary());
        assert_eq!(Message::from("ä").into_bytes(), "ä".as_bytes());
        assert!(Message::binary(Bytes::new()).is_empty());
        assert_eq!(
            Utf8Bytes::try_from(Bytes::from_static(b"ok")).unwrap(),
            "ok"
        );
        assert!(Utf8Bytes::try_from(Bytes::from_static(b"\xff")).is_err());
    }
}
