use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::close::CloseEvent;
use crate::message::Message;

/// What happened, from all sides.
#[derive(Default)]
pub(super) struct Record {
    /// Messages that the application has made.
    pub(super) made: usize,
    /// Those whose sending was said to be done.
    pub(super) accepted: Vec<Message>,
    pub(super) delivered: Vec<Message>,
    pub(super) opened: usize,
    pub(super) closed: Vec<CloseEvent>,
    /// The application, or something in its name, had its hand in the end.
    pub(super) meddled: bool,
    /// From here on, its lifetime may have ended it.
    pub(super) retires: Option<Instant>,
    /// The longest `on_message`.
    pub(super) longest: Duration,
    pub(super) panicked: bool,
    /// When a message was accepted, or the socket took something.
    pub(super) moved: Option<Instant>,
    /// What the socket took.
    pub(super) written: Vec<u8>,
    /// It took nothing when it was last asked.
    pub(super) blocked: bool,
    /// It reported an error.
    pub(super) failed: bool,
    /// Its output is shut down.
    pub(super) shut: bool,
}

impl Record {
    pub(super) fn accept(&mut self, message: Message) {
        self.accepted.push(message);
        self.moved = Some(Instant::now());
    }

    /// Whether the end may be the server's own.
    pub(super) fn is_meddled(&self) -> bool {
        self.meddled || self.retires.is_some_and(|at| at <= Instant::now())
    }

    /// Whether all that could be done must have been done: for more than a moment nothing has
    /// moved, and that is not the socket's fault nor the application's.
    pub(super) fn is_settled(&self) -> bool {
        let quiet = self.moved.is_none_or(|at| at.elapsed().as_secs() > 0);
        quiet && !self.blocked && !self.failed && !self.is_meddled()
    }
}

/// A [`Record`] that many write to.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Record>>);

impl Log {
    pub(super) fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
