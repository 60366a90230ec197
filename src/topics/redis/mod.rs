//! [`Redis`]: an engine for topics on several machines, by a Redis or Valkey server.
//!
//! ```text
//! address ──▶ socket ──▶ connection ──▶ redis ──▶ Link: what has come
//!  a URL       bytes,     commands and    │  ▲
//!              bounded    replies         │  └────  Link: orders
//!                │           ▲            ▼
//!              replies    flights ◀─── batches of orders
//!                │        script ◀──── Log: append, read, renew
//!              (sizes)    *.lua
//!              role: is it a replica by now?   refusals: what the server's errors say
//! ```
//!
//! One connection carries everything: RESP3 allows commands where channels are listened to. So a node
//! that gets answers gets messages too, and one that cannot keep up with its messages is cut off by the
//! server as a whole, and begins anew.

mod address;
mod connection;
mod engine;
mod flights;
mod payload;
mod refusals;
mod replies;
mod role;
mod script;
mod socket;

pub use address::RedisUrlError;
pub use engine::Redis;
#[cfg(any(test, tower_websocket_fuzzing))]
pub(crate) use replies::{MAX_REPLY, Replies};
