//! What tasks and threads share. Under `--cfg shuttle` it comes from a scheduler that tries the
//! ways in which they can interleave: see `driver/models.rs`.

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic::AtomicU32};
#[cfg(not(shuttle))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic::AtomicU32};
