//! The WebSocket protocol of a server, RFC 6455, without I/O: bytes, messages and
//! instants in, events, bytes and deadlines out. Knows no socket, no task, no clock.

mod assembler;
mod frame;
mod mask;
mod session;
mod timers;
mod utf8;
mod writer;

pub use session::Initiator;
pub(crate) use session::{Event, Outcome, Phase, Session};
pub(crate) use writer::{Batch, SLICES, Writer};
