//! Locks and atomics. Under `--cfg shuttle` they come from a scheduler that tries the ways in which
//! tasks can interleave: see `driver/models.rs`.

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicUsize},
};
#[cfg(not(shuttle))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicUsize},
};
