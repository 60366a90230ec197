//! Whole stacks from outside: real hyper and the real layer, a client that speaks raw frames.
//! The ids in the names (F9, N2, …) are those of the project's table of faults.

#![allow(clippy::unwrap_used, unreachable_pub, missing_debug_implementations)]

mod axum;
mod callbacks;
mod closing;
mod codec;
mod composition;
mod conversation;
#[path = "../support/cut.rs"]
mod cut;
mod deadlines;
mod deflate;
mod door;
mod errors;
mod events;
mod framing;
mod handshake;
mod http2;
mod kit;
mod layer;
mod limits;
mod operator;
mod options;
#[path = "../support/mod.rs"]
mod support;
mod tasks;
mod tls;
mod topics;
