//! [`Log`]: numbers and keeps the messages of retained topics for all nodes.

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;

use super::engine::{EngineError, Pending};
use crate::topics::{Position, Retain};

/// Numbers and keeps the messages of retained topics for all nodes, for [`Backplane::log`].
///
/// A log is a sequence of entries for each channel, numbered from 1 without holes, of which the latest
/// are kept. Its *epoch* is a random number that is drawn when the log is made; a log that is lost, in
/// whole or in part, has another one when it exists again. A [`Position`] is an epoch and a number in it.
///
/// # Contract
///
/// - To append an entry is one step: two nodes that append get different positions, and the entry is
///   announced, by [`Link::logged`], to every node that listens to the channel, the one that appends
///   included. The announcement may be lost, doubled or late: nodes then read.
/// - `append` gets several entries when several wait. It appends them in their order, from the first on,
///   and gives the positions of those that it has appended: of all, or of some. The others come again with
///   the next call. An engine to which several are nothing special takes the first alone.
/// - An entry whose append has returned `Ok` is found by every `read` that begins later, until it is
///   retained no longer or the epoch is another.
/// - Two entries never have the same position. A store that comes back without its latest entries would
///   number others as it has numbered those; so each call that knows how far the log was already
///   (`seen`) has it compared: a log of the same epoch that ends before `seen` starts a new epoch, in the
///   same step, with nothing in it.
/// - An error of `append` says nothing about which of the entries were appended. The next attempt has the
///   same [`id`](NewEntry::id)s, by which the log knows those again that it has, each by itself: more may
///   have come behind them meanwhile. It has to remember the ids of the last 30 s.
/// - A future that is dropped may have done its work or not.
/// - To find out whether a log works at all, a node appends an entry of some bytes to the channel `trial`, and reads
///   it: when it has connected, when an append or a read has failed, and then every 3 s until it works.
///
/// [`Backplane::log`]: super::Backplane::log
/// [`Link::logged`]: super::Link::logged
pub trait Log: Send + Sync {
    /// Numbers entries, keeps them, and announces them, in order. Gives the positions of the first of them,
    /// at least of one.
    ///
    /// There is one call at a time for a channel of a node, so that what a node appends stays in order.
    ///
    /// # Errors
    ///
    /// The log cannot be reached, or refuses the first entry. Unless the error is
    /// [`refused`](EngineError::refused), it is tried again with the same id, for 10 s in all. If it is, that
    /// entry is given up, and the others are tried again: a log that refuses another one than the first gives
    /// the positions of those before it.
    fn append<'a>(
        &'a self,
        channel: &'a str,
        entries: NewEntries<'a>,
    ) -> Pending<'a, Result<Vec<Position>, EngineError>>;

    /// Reads at most `most` entries whose numbers are greater than `after`, oldest first, and the ends of
    /// the log. If no such entries are kept, there are none in the page. A channel that has no log gets an
    /// empty one with a new epoch.
    ///
    /// A page may have fewer entries than there are, so that it is not too large; one at least, if there
    /// is one.
    ///
    /// # Errors
    ///
    /// The log cannot be reached.
    fn read<'a>(
        &'a self,
        channel: &'a str,
        after: u64,
        most: usize,
    ) -> Pending<'a, Result<Page, EngineError>>;

    /// Starts a new epoch if the log has the epoch of `seen` and ends before it, and does nothing
    /// otherwise. It is called when a read has shown such a log, and with the greatest number there is when
    /// the log has other entries where it had those that the node knows.
    ///
    /// # Errors
    ///
    /// The log cannot be reached.
    fn renew<'a>(
        &'a self,
        channel: &'a str,
        seen: Position,
    ) -> Pending<'a, Result<(), EngineError>>;
}

/// What [`Log::append`] is to append.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct NewEntries<'a> {
    /// The last position of this log that the node knows. If the log has the same epoch and ends before
    /// it, it starts a new one, and the first entry that it has not appended yet is the first of it.
    pub seen: Option<Position>,
    /// How much the topic retains. The log drops what exceeds it: at once or a little later, and never
    /// less than that many messages for being lazy in counting.
    pub retain: Retain,
    /// The entries, in order: at least one, at most 64, and at most 256 KiB of them if it is not one.
    pub entries: &'a [NewEntry],
}

impl<'a> NewEntries<'a> {
    /// Entries, for who tests a log. The fields have the meaning of their values.
    pub fn new(seen: Option<Position>, retain: Retain, entries: &'a [NewEntry]) -> Self {
        Self {
            seen,
            retain,
            entries,
        }
    }
}

/// An entry that is to be appended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewEntry {
    /// Of this entry alone, at random. An entry whose id the log has appended already is not appended
    /// again: the answer is the position that it got then.
    pub id: u128,
    /// What is kept, as it is.
    pub envelope: Bytes,
}

impl NewEntry {
    /// An entry, for who tests a log. The fields have the meaning of their values.
    pub fn new(id: u128, envelope: Bytes) -> Self {
        Self { id, envelope }
    }

    /// With an id of its own.
    pub(super) fn of(envelope: Bytes) -> Self {
        let random = RandomState::new();
        let id = u128::from(random.hash_one(1)) << 64 | u128::from(random.hash_one(2));
        Self { id, envelope }
    }
}

/// What [`Log::read`] finds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// The epoch of the log.
    pub epoch: u64,
    /// The number of the oldest entry that is kept. If none is, the one that the next will get.
    pub first: u64,
    /// The number of the latest entry that was ever appended in this epoch; 0 if none was.
    pub last: u64,
    /// The entries, oldest first.
    pub entries: Vec<Logged>,
}

impl Page {
    /// A page. The fields have the meaning of their values.
    pub fn new(epoch: u64, first: u64, last: u64, entries: Vec<Logged>) -> Self {
        Self {
            epoch,
            first,
            last,
            entries,
        }
    }
}

/// An entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Logged {
    /// Its number in the epoch.
    pub offset: u64,
    /// What was appended.
    pub envelope: Bytes,
}

impl Logged {
    /// An entry.
    pub fn new(offset: u64, envelope: Bytes) -> Self {
        Self { offset, envelope }
    }
}
