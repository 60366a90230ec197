use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::connection::CloseEvent;
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
    pub(super) panicked: bool,
    /// What the socket took.
    pub(super) written: Vec<u8>,
    /// It took nothing when it was last asked.
    pub(super) blocked: bool,
    /// It reported an error.
    pub(super) failed: bool,
    /// Its output is shut down.
    pub(super) shut: bool,
}

/// A [`Record`] that many write to.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Record>>);

impl Log {
    pub(super) fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
