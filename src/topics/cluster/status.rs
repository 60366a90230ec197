//! [`Status`]: whether messages reach the other nodes.

use std::time::Instant;

/// Where the messages of [`Topics`](crate::Topics) go.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// To the connections of this process: there is no
    /// [backplane](crate::TopicsBuilder::backplane).
    Local,
    /// To those of all nodes.
    Up,
    /// Not where they should go: the other nodes are out of reach, and what is for them waits, as at the
    /// beginning too, until the engine has connected; or the log of
    /// [retained](crate::TopicsBuilder::retain) topics takes nothing, or cannot be read.
    #[non_exhaustive]
    Degraded {
        /// Since when.
        since: Instant,
        /// Whether the other nodes are out of reach. `false`: they are not, so plain topics go on as ever. Only
        /// retained topics do not work, for a reason that has nothing to do with a single one of them: a right
        /// that is missing, a memory that is full. That is found out when the engine connects, and when an append
        /// or a read fails; that it is over, within 3 s.
        cut_off: bool,
        /// Messages that wait for the engine: at most 4,096, and 4 MiB, unless
        /// [`max_outbox_messages`](crate::TopicsBuilder::max_outbox_messages) or
        /// [`max_outbox_bytes`](crate::TopicsBuilder::max_outbox_bytes) say otherwise.
        waiting: usize,
        /// Messages that were dropped because more were to wait, in the life of the `Topics`.
        lost: u64,
        /// Why, in the words of the engine or its server, for operators and the log: at most 400 bytes, none of
        /// them a control character. It has no password in it, and may have an address.
        reason: String,
    },
}

impl Status {
    /// Whether it is [`Degraded`](Self::Degraded).
    pub fn is_degraded(&self) -> bool {
        matches!(self, Self::Degraded { .. })
    }
}
