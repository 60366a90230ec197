//! permessage-deflate (RFC 7692): what is agreed in the handshake, and what it does to messages.
//!
//! ```text
//! offer ─▶ negotiate ─▶ Agreed ─┬─▶ Inbound  ─▶ Inflater, a message at a time
//!                               └─▶ Outbound ─▶ what a sender compresses
//! ```
//!
//! Without the feature `deflate` (`disabled`) the types are there and have no values, so that the rest of the
//! crate need not know.

#[cfg(feature = "deflate")]
mod codec;
#[cfg(not(feature = "deflate"))]
mod disabled;
#[cfg(feature = "deflate")]
mod negotiate;

#[cfg(feature = "deflate")]
pub(crate) use codec::{Inbound, Inflater, Outbound};
#[cfg(not(feature = "deflate"))]
pub(crate) use disabled::{Agreed, Deflate, Inbound, Inflater, Outbound, negotiate};
#[cfg(feature = "deflate")]
pub use negotiate::Deflate;
#[cfg(feature = "deflate")]
pub(crate) use negotiate::{Agreed, negotiate};
