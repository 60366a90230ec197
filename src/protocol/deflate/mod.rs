//! permessage-deflate (RFC 7692): what is agreed in the handshake, and what it does to messages.
//!
//! Without the feature `deflate` the types are there and have no values, so that the rest of the
//! crate need not know.

#[cfg(feature = "deflate")]
mod codec;
#[cfg(feature = "deflate")]
mod negotiate;
#[cfg(not(feature = "deflate"))]
mod none;

#[cfg(feature = "deflate")]
pub(crate) use codec::{Inbound, Inflater, Outbound};
#[cfg(feature = "deflate")]
pub use negotiate::Deflate;
#[cfg(feature = "deflate")]
pub(crate) use negotiate::{Agreed, negotiate};
#[cfg(not(feature = "deflate"))]
pub(crate) use none::{Agreed, Deflate, Inbound, Inflater, Outbound, negotiate};
