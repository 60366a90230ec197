//! [`Order`]: what an engine is to do next.

use bytes::Bytes;

/// What an engine is to do next, from
/// [`Link::next`](super::Link::next).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Listen to a channel. When that is certain, [`Link::listening`](super::Link::listening) is
    /// called. The name is at most 300
    /// bytes of UTF-8; some of it may have been chosen by a client.
    Listen(String),
    /// Listen to a channel no longer. Envelopes that still come are ignored.
    Leave(String),
    /// Send an envelope to all who listen to a channel. At most 4 MiB.
    Send {
        /// Where it goes.
        channel: String,
        /// What is sent, as it is.
        envelope: Bytes,
    },
}
