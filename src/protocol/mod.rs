//! The WebSocket protocol of a server, RFC 6455, without I/O: bytes, messages and
//! moments in, events, bytes and deadlines out. Knows no socket, no task, no clock.

mod assembler;
mod closing;
mod deflate;
mod ending;
mod frame;
mod lane;
mod liveness;
mod mask;
mod rates;
mod session;
mod timers;
mod utf8;
mod writer;

pub(crate) use closing::Phase;
#[cfg(feature = "deflate")]
pub use deflate::Deflate;
#[cfg(not(feature = "deflate"))]
pub(crate) use deflate::Deflate;
#[cfg(all(any(fuzzing, test), feature = "deflate"))]
pub(crate) use deflate::Inbound;
pub(crate) use deflate::{Agreed, Outbound, negotiate};
pub use ending::Initiator;
pub(crate) use ending::Outcome;
#[cfg(any(fuzzing, test))]
pub(crate) use frame::OpCode;
pub(crate) use session::{Event, Session};
pub(crate) use timers::Moment;
#[cfg(any(fuzzing, test))]
pub(crate) use utf8::{InvalidUtf8, TextBuilder};
pub(crate) use writer::{Batch, SLICES, Writer};
