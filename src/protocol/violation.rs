//! [`Violation`]: what a client must not send.

use std::borrow::Cow;

use super::utf8::InvalidUtf8;
use crate::close::CloseCode;

/// What a client must not send, with the code of the Close frame that answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) code: CloseCode,
    pub(crate) reason: Cow<'static, str>,
}

impl Violation {
    pub(crate) fn new(code: CloseCode, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }

    #[cold]
    pub(crate) fn too_big() -> Self {
        Self::new(
            CloseCode::MESSAGE_TOO_BIG,
            "the message is larger than this server takes",
        )
    }
}

impl From<InvalidUtf8> for Violation {
    #[cold]
    fn from(InvalidUtf8: InvalidUtf8) -> Self {
        Self::new(
            CloseCode::INVALID_FRAME_PAYLOAD_DATA,
            "a text that is not UTF-8 (RFC 6455 §8.1)",
        )
    }
}
