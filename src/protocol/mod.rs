//! The WebSocket protocol of a server, RFC 6455, without I/O: bytes, messages and
//! moments in, events, bytes and deadlines out. Knows no socket, no task, no clock.
//!
//! ```text
//! bytes ─▶ session ─▶ assembler ─▶ frame, mask, partial (utf8, deflate) ─▶ Event
//!             │ ├─▶ closing     where the connection stands, RFC 6455 §7
//!             │ ├─▶ deadlines   is the peer there, and does it move?
//!             │ ├─▶ rates       how much may it send?
//!             │ └─▶ control     pings, pongs and Close frames
//! Message ─▶ writer ─▶ Batch ─▶ bytes
//! ```

mod assembler;
mod buffer;
mod closing;
mod control;
mod deadlines;
mod deflate;
mod failure;
mod frame;
mod mask;
mod partial;
mod rates;
mod session;
mod timers;
mod utf8;
mod violation;
mod writer;

pub(crate) use closing::Phase;
#[cfg(feature = "deflate")]
pub use deflate::Deflate;
#[cfg(not(feature = "deflate"))]
pub(crate) use deflate::Deflate;
#[cfg(all(any(tower_websocket_fuzzing, test), feature = "deflate"))]
pub(crate) use deflate::Inbound;
pub(crate) use deflate::{Agreed, InboundTerms, Outbound, OutboundTerms, negotiate};
pub(crate) use failure::Failure;
pub(crate) use frame::OpCode;
#[cfg(any(tower_websocket_fuzzing, test))]
pub(crate) use rates::Rates;
pub(crate) use session::{Event, Session};
pub(crate) use timers::{Moment, earlier};
#[cfg(any(tower_websocket_fuzzing, test))]
pub(crate) use utf8::{InvalidUtf8, TextBuilder};
#[cfg(any(feature = "test-util", test))]
pub(crate) use violation::Violation;
pub(crate) use writer::{Batch, Framed, Load, SLICES, Writer};
