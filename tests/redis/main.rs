//! Topics over several nodes by a real Redis server, which is stopped, emptied, set back, filled up and
//! cut off. Each test starts a server of its own if `redis-server` is there, uses the one at `REDIS_URL`
//! if not, and says on stderr that it was skipped if there is neither.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    missing_debug_implementations,
    missing_docs
)]

mod crash;
#[path = "../support/cut.rs"]
mod cut;
mod faults;
mod foreign;
mod jitter;
mod log;
mod plain;
mod process;
mod quiet;
mod relay;
mod rights;
mod role;
mod server;
mod soak;
#[allow(dead_code, reason = "the stack's tests use the rest")]
#[path = "../support/mod.rs"]
mod support;
mod tls;
