//! [`Closing`]: the end of a connection, RFC 6455 §7, as one state machine.
//!
//! ```text
//!  Open ── the peer closes, breaks a rule, falls silent, or its input ends ──▶ Finishing
//!   │ └─── the server leaves ──▶ Leaving ── the message that arrives is whole ──▶ │
//!   │                               │                                             │ the application
//!   └── the application closes ─────┴──────────────▶ Closing ◀────────────────────┘ is done
//!                                                       │ our Close is written
//!                        the peer was first, or is gone │ we were first
//!                            ┌──────────────────────────┴───▶ Awaiting
//!                            ▼                                   │ the peer answers, or
//!                         Draining ◀─────────────────────────────┘ its input ends
//!                            │ all is read, or the time is over
//!  any phase ── the transport fails, a deadline passes ──▶ Dead
//! ```
//!
//! The first reason to end stands; only what a leaving server had in mind gives way to what the
//! peer does meanwhile. One Close frame is handed out at the most.

use super::failure::Failure;
use crate::close::{CloseCause, CloseCode, CloseEvent, CloseFrame, CloseReason};

/// Where a connection stands; see the module docs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Messages go both ways.
    Open,
    /// The same, up to the end of the message that is arriving.
    Leaving,
    /// Nothing more will be delivered; the application finishes and may still send.
    Finishing,
    /// Nothing more is accepted from the application. What it sent is written, then our Close.
    Closing,
    /// Our Close is written, the peer's has not arrived.
    Awaiting,
    /// All is said; the output is shut down, the input thrown away, so that no RST eats our Close.
    Draining,
    /// Nothing more to do.
    Dead,
}

/// What the peer's bytes still mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// Frames.
    Frames,
    /// Nothing: its Close frame has arrived.
    Closed,
    /// Nothing: the transport ended, or the peer broke a rule.
    Over,
}

/// See the module docs.
#[derive(Debug)]
pub(crate) struct Closing {
    phase: Phase,
    input: Input,
    /// Our Close frame is in the driver's hands, or there will be none.
    handed_out: bool,
    /// Why and how it ends, from `Leaving` on.
    ending: Option<Box<Ending>>,
}

/// What was decided first; nothing that comes later changes it.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) event: CloseEvent,
    pub(crate) reply: Reply,
    /// We are the first to close, so the peer's Close frame is awaited.
    pub(crate) awaits_answer: bool,
    /// What went wrong, until the driver takes it for `on_error`.
    pub(crate) failure: Option<Failure>,
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
    pub(crate) fn ours(frame: CloseFrame, cause: CloseCause) -> Self {
        Self {
            awaits_answer: true,
            ..Self::of(frame, cause)
        }
    }

    /// The peer broke a rule or missed a deadline; the frame says which.
    pub(crate) fn fault(frame: CloseFrame, cause: CloseCause, failure: Failure) -> Self {
        Self {
            failure: Some(failure),
            ..Self::of(frame, cause)
        }
    }

    fn of(frame: CloseFrame, cause: CloseCause) -> Self {
        Self {
            awaits_answer: false,
            event: CloseEvent {
                code: frame.code,
                reason: frame.reason.clone(),
                cause,
                clean: false,
            },
            reply: Reply::Frame(frame),
            failure: None,
        }
    }

    /// The transport is gone, or the peer is taken for gone.
    pub(crate) fn abnormal(reason: &'static str, cause: CloseCause) -> Self {
        Self {
            reply: Reply::Nothing,
            ..Self::of(
                CloseFrame::known(CloseCode::ABNORMAL_CLOSURE, reason),
                cause,
            )
        }
    }

    /// The peer's Close frame, answered as §5.5.1 has it: "the endpoint typically echos the
    /// status code it received". The reason was ours to read, not to repeat.
    pub(crate) fn answered(frame: Option<CloseFrame>) -> Self {
        let Some(frame) = frame else {
            let none = CloseFrame::known(CloseCode::NO_STATUS_RECEIVED, "");
            return Self {
                reply: Reply::Empty,
                ..Self::of(none, CloseCause::Peer)
            };
        };
        Self {
            reply: Reply::Frame(CloseFrame::known(frame.code, "")),
            ..Self::of(frame, CloseCause::Peer)
        }
    }

    pub(crate) fn with_failure(self, failure: Failure) -> Self {
        Self {
            failure: Some(failure),
            ..self
        }
    }
}

impl Closing {
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::Open,
            input: Input::Frames,
            handed_out: false,
            ending: None,
        }
    }

    // ---- what is

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether messages of the peer are delivered.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Leaving)
    }

    /// Whether what the application sends still goes out.
    #[inline]
    pub(crate) fn is_sendable(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Leaving | Phase::Finishing)
    }

    /// Whether the peer's bytes have a meaning.
    #[inline]
    pub(crate) fn is_readable(&self) -> bool {
        self.input == Input::Frames
            && matches!(
                self.phase,
                Phase::Open | Phase::Leaving | Phase::Closing | Phase::Awaiting
            )
    }

    /// Whether the peer's Close frame has arrived.
    pub(crate) fn has_peer_closed(&self) -> bool {
        self.input == Input::Closed
    }

    /// Whether nothing that the peer may still send has a meaning.
    pub(crate) fn is_input_over(&self) -> bool {
        self.input != Input::Frames || matches!(self.phase, Phase::Draining | Phase::Dead)
    }

    /// Whether frames may still be written, our Close frame the last of them.
    #[inline]
    pub(crate) fn is_writable(&self) -> bool {
        !self.handed_out && !matches!(self.phase, Phase::Draining | Phase::Dead)
    }

    /// Whether the Close frame may be written as soon as nothing is before it.
    #[inline]
    pub(crate) fn has_close(&self) -> bool {
        self.phase == Phase::Closing && !self.handed_out
    }

    /// Whether the peer ended it: by a Close frame, by what it did, or by what it did not do.
    pub(crate) fn is_by_peer(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| {
            !ending.awaits_answer && ending.event.cause != CloseCause::Transport
        })
    }

    /// Whether the peer broke a rule or missed a deadline.
    pub(crate) fn is_by_fault(&self) -> bool {
        self.is_by_peer()
            && self
                .ending
                .as_ref()
                .is_some_and(|ending| ending.event.cause != CloseCause::Peer)
    }

    /// What went wrong, if it has not been taken yet.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.ending.as_ref()?.failure.as_ref()
    }

    /// Takes what went wrong, for `on_error`.
    pub(crate) fn take_failure(&mut self) -> Option<Failure> {
        self.ending.as_mut()?.failure.take()
    }

    /// How it ended; to ask when it has.
    pub(crate) fn event(&self) -> CloseEvent {
        match &self.ending {
            Some(ending) => ending.event.clone(),
            None => CloseEvent {
                code: CloseCode::ABNORMAL_CLOSURE,
                reason: CloseReason::EMPTY,
                cause: CloseCause::Transport,
                clean: false,
            },
        }
    }

    // ---- what happens

    /// The server leaves, or the connection has lived long enough.
    pub(crate) fn leave(&mut self, ending: Ending) {
        if self.phase == Phase::Open {
            self.decide(ending);
            self.phase = Phase::Leaving;
        }
    }

    /// No message is arriving, or it is not waited for any longer.
    pub(crate) fn leave_now(&mut self) {
        if self.phase == Phase::Leaving {
            self.phase = Phase::Finishing;
        }
    }

    /// The peer's Close frame arrived.
    pub(crate) fn peer_closed(&mut self, ending: Ending) {
        if self.input == Input::Frames {
            self.input = Input::Closed;
        }
        self.input_ended(ending);
    }

    /// The peer broke a rule or missed a deadline; what it sends from here on has no meaning.
    pub(crate) fn peer_failed(&mut self, ending: Ending) {
        if self.input == Input::Frames {
            self.input = Input::Over;
        }
        self.input_ended(ending);
    }

    fn input_ended(&mut self, ending: Ending) {
        match self.phase {
            Phase::Open | Phase::Leaving => {
                self.decide(ending);
                self.phase = Phase::Finishing;
            }
            Phase::Awaiting => self.drain(),
            _ => {}
        }
    }

    /// The application, or something in its name, closes.
    pub(crate) fn close(&mut self, ending: Ending) {
        if self.is_open() {
            self.decide(ending);
            self.phase = Phase::Closing;
        } else {
            // What was decided stands; only the time for the application is over.
            self.finish();
        }
    }

    /// The application is done, or not waited for any longer.
    pub(crate) fn finish(&mut self) {
        if self.phase == Phase::Finishing {
            self.phase = Phase::Closing;
        }
    }

    /// The Close frame to write now, once.
    pub(crate) fn take_close(&mut self) -> Option<Reply> {
        if !self.has_close() {
            return None;
        }
        self.handed_out = true;
        let ending = self.ending.as_mut()?;
        Some(std::mem::replace(&mut ending.reply, Reply::Nothing))
    }

    /// All that was handed out is written.
    #[inline]
    pub(crate) fn written(&mut self) {
        if self.phase == Phase::Closing && self.handed_out {
            let awaits = self.ending.as_ref().is_some_and(|e| e.awaits_answer);
            if awaits && self.input == Input::Frames {
                self.phase = Phase::Awaiting;
            } else {
                self.drain();
            }
        }
    }

    /// The transport failed, or a deadline passed behind which nothing is worth a wait.
    pub(crate) fn fail(&mut self, ending: Ending) {
        if self.is_open() {
            self.decide(ending);
        }
        self.die();
    }

    /// Nothing more is waited for, whatever is pending.
    pub(crate) fn die(&mut self) {
        self.phase = Phase::Dead;
    }

    // ---- inside

    /// What was decided first stands, unless the server was only about to leave.
    fn decide(&mut self, ending: Ending) {
        if self.is_open() {
            self.ending = Some(Box::new(ending));
        }
    }

    fn drain(&mut self) {
        // Both Close frames were exchanged (§7.1.4).
        let clean = self.input == Input::Closed;
        if let Some(ending) = &mut self.ending {
            ending.event.clean = clean;
        }
        self.phase = Phase::Draining;
    }
}
