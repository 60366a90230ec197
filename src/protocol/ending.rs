//! [`Ending`]: how a connection ends, and what there is to say about it.

use crate::error::Error;
use crate::message::{CloseCode, CloseFrame, CloseReason};

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Initiator {
    /// The peer sent the first Close frame.
    Peer,
    /// The application called `close`, returned an error, or panicked.
    Application,
    /// [`Shutdown`](crate::Shutdown) drained the server.
    Shutdown,
    /// A deadline passed: heartbeat, progress, idle.
    Timeout,
    /// The peer broke the protocol or a limit.
    Protocol,
    /// The transport ended or failed without a Close frame.
    Transport,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) code: CloseCode,
    pub(crate) reason: CloseReason,
    pub(crate) initiator: Initiator,
    /// Both Close frames were exchanged.
    pub(crate) clean: bool,
}

/// What was decided first; nothing that comes later changes it.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) outcome: Outcome,
    pub(crate) reply: Reply,
    /// We are the first to close, so the peer's Close frame is awaited.
    pub(crate) awaits_answer: bool,
    /// For `on_error`, until it has been told.
    pub(crate) error: Option<Error>,
}

/// The Close frame that we owe the peer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// There is nobody to read it, or it is written.
    Nothing,
    /// The peer gave no code, so we give none.
    Empty,
    Frame(CloseFrame),
}

impl Ending {
    /// We close first, with a frame that is sent and told to the application alike.
    pub(crate) fn ours(frame: CloseFrame, initiator: Initiator) -> Self {
        Self {
            awaits_answer: true,
            ..Self::of(frame, initiator)
        }
    }

    /// The peer broke a rule or missed a deadline; the frame says which.
    pub(crate) fn fault(frame: CloseFrame, initiator: Initiator, error: Error) -> Self {
        Self {
            error: Some(error),
            ..Self::of(frame, initiator)
        }
    }

    fn of(frame: CloseFrame, initiator: Initiator) -> Self {
        Self {
            awaits_answer: false,
            outcome: Outcome {
                code: frame.code,
                reason: frame.reason.clone(),
                initiator,
                clean: false,
            },
            reply: Reply::Frame(frame),
            error: None,
        }
    }

    /// The transport is gone, or the peer is taken for gone.
    pub(crate) fn abnormal(reason: &'static str, initiator: Initiator) -> Self {
        Self {
            reply: Reply::Nothing,
            ..Self::of(CloseFrame::known(CloseCode::ABNORMAL, reason), initiator)
        }
    }

    /// The peer's Close frame, answered as §5.5.1 has it: "the endpoint typically echos the
    /// status code it received". The reason was ours to read, not to repeat.
    pub(crate) fn answered(frame: Option<CloseFrame>) -> Self {
        let Some(frame) = frame else {
            let none = CloseFrame::known(CloseCode::NO_STATUS, "");
            return Self {
                reply: Reply::Empty,
                ..Self::of(none, Initiator::Peer)
            };
        };
        Self {
            reply: Reply::Frame(CloseFrame::known(frame.code, "")),
            ..Self::of(frame, Initiator::Peer)
        }
    }

    pub(crate) fn with_error(self, error: Error) -> Self {
        Self {
            error: Some(error),
            ..self
        }
    }
}
