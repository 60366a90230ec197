//! Tests of handlers and stacks in memory, with the feature `test-util`.
//!
//! ```text
//! TestServer ─ connect ─▶ TestRequest ─▶ TestClient   a good client, over HTTP/1.1 and HTTP/2
//!     │           real hyper in between └▶ Response   a refusal, whole
//!     └─ raw ─▶ RawClient                             bytes and frames, right or wrong
//! TestConnection                                      one handler, without HTTP
//! Engine                                              a backplane between several `Topics`
//! connection, handshake, event, error, close_event    the arguments of one callback
//! ```
//!
//! Nothing here has a socket: with `#[tokio::test(start_paused = true)]` (tokio's feature `test-util`)
//! heartbeats, timeouts and drains take no time. The functions panic where something else comes than was
//! expected, with what came; use them in tests only. The page
//! [`guide::testing`](crate::guide::testing) has tests to copy.

mod client;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the tests, the soak and the benchmarks of the crate include this file too"
)]
mod codec;
mod connection;
#[cfg(feature = "deflate")]
mod deflate;
#[cfg(not(feature = "deflate"))]
#[path = "disabled.rs"]
mod deflate;
mod engine;
mod pipe;
mod raw;
mod recent;
mod request;
mod server;
mod stack;
mod values;

pub use client::{Received, TestClient};
pub use connection::TestConnection;
pub use engine::{Engine, SavedLogs};
pub use raw::{RawClient, RawFrame};
pub use request::TestRequest;
pub use server::TestServer;
pub use values::{ErrorKind, close_event, connection, error, event, handshake};
