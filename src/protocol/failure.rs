//! [`Failure`]: what the peer or the transport did wrong, as the session reports it.

use std::io;

use super::violation::Violation;
use crate::close::CloseCode;

/// Why a connection failed. The layers above wrap it into the public error.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The peer broke RFC 6455 or a limit.
    Violation(Violation),
    /// The peer missed a deadline.
    Timeout {
        what: &'static str,
        /// The code of the Close frame that is sent; `None` if the peer reads nothing, so that a
        /// Close frame would not reach it either.
        close_code: Option<CloseCode>,
    },
    /// The transport failed; nothing can be sent.
    Io(io::Error),
}

impl Failure {
    /// The code of the Close frame that is sent because of it.
    pub(crate) fn close_code(&self) -> Option<CloseCode> {
        match self {
            Self::Violation(violation) => Some(violation.code),
            Self::Timeout { close_code, .. } => *close_code,
            Self::Io(_) => None,
        }
    }

    /// A copy, because both `recv` and `on_error` report it. [`io::Error`] has no `Clone`: the copy
    /// keeps kind and text.
    pub(crate) fn duplicate(&self) -> Self {
        match self {
            Self::Violation(violation) => Self::Violation(violation.clone()),
            Self::Timeout { what, close_code } => Self::Timeout {
                what,
                close_code: *close_code,
            },
            Self::Io(error) => Self::Io(io::Error::new(error.kind(), error.to_string())),
        }
    }
}
