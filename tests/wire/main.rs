//! Whole stacks from outside: real hyper and the real layer, a client that speaks raw frames.
//! The ids in the names (F9, N2, …) are those of the project's table of faults.

#![allow(clippy::unwrap_used, unreachable_pub, missing_debug_implementations)]

mod axum;
mod codec;
mod conversation;
mod deflate;
mod drain;
mod ending;
mod events;
mod framing;
mod guard;
mod handler;
mod handshake;
mod http2;
mod http2_raw;
mod lifecycle;
mod limits;
mod network;
mod offers;
mod options;
mod resources;
mod slow;
mod stack;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod turns;
