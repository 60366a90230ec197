//! [`EngineError`]: why an engine could not do something; [`Pending`]: that it is doing something.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::error::BoxError;

/// A future of an engine, boxed so that an engine can stand behind a `dyn`
/// [`Backplane`](super::Backplane) or [`Log`](super::Log).
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why an engine could not do something: its connection broke, its server refuses. It is for the log,
/// so it must not contain a password.
pub struct EngineError {
    error: BoxError,
    refused: bool,
}

impl EngineError {
    /// Something that may work at another time.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self {
            error: error.into(),
            refused: false,
        }
    }

    /// Something that fails however often it is tried, such as an entry that is too large for the log.
    /// [`Log::append`](super::Log::append) is not tried again with its first entry then.
    pub fn refused(error: impl Into<BoxError>) -> Self {
        Self {
            error: error.into(),
            refused: true,
        }
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Debug for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for EngineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.error)
    }
}
