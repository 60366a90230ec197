//! permessage-deflate (RFC 7692): what is agreed in the handshake, and what it does to messages.
//!
//! ```text
//! options    Deflate, what the layer wants ─┐
//! the client's offers ──────────────────────┴▶ negotiate ─▶ Agreed { inbound, outbound }, answer
//!                                                                      │        │
//! bytes of a frame ───▶ inflate    Inbound ─▶ Inflater ◀───────────────┘        │
//!                          │                     └──▶ bytes of the message      │
//!                        pool      what a thread lends to all of its connections │
//!                          │                                                    │
//! Message ────────────▶ compress   Outbound ◀───────────────────────────────────┘
//!                                     └──▶ payload of a frame, or `None`: send it as it is
//! ```
//!
//! A connection owns a codec only while a compressed message arrives, and where a context is taken
//! over from message to message. Without the feature `deflate`, `disabled` has the same types
//! without values, so that the rest of the crate need not know.

#[cfg(feature = "deflate")]
mod compress;
#[cfg(not(feature = "deflate"))]
mod disabled;
#[cfg(feature = "deflate")]
mod inflate;
#[cfg(feature = "deflate")]
mod negotiate;
#[cfg(feature = "deflate")]
mod options;
#[cfg(feature = "deflate")]
mod pool;
#[cfg(all(test, feature = "deflate"))]
mod tests;

#[cfg(feature = "deflate")]
pub(crate) use compress::Outbound;
#[cfg(not(feature = "deflate"))]
pub(crate) use disabled::*;
#[cfg(feature = "deflate")]
pub(crate) use inflate::{Inbound, Inflater};
#[cfg(feature = "deflate")]
pub(crate) use negotiate::{Agreed, InboundTerms, OutboundTerms, negotiate};
#[cfg(feature = "deflate")]
pub use options::Deflate;

/// What a sender cuts off the end of a message and a receiver puts back (RFC 7692 §7.2).
#[cfg(feature = "deflate")]
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];
