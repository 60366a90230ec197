//! [`Shelf`]: a retained topic whose log lies with the engine. The topic's own log is a part of that one:
//! what this node has got of it, in order and without holes.
//!
//! ```text
//! announced by the engine, next ─▶ own log, members
//!             further on ─▶ ahead ─┐            ▲
//!                                  └─ a read ───┘ of what lies between
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::envelope::{Envelope, What};
use super::lane::Lane;
use super::log::{Logged, Page};
use super::reading::Reading;
use super::scatter::scatter;
use super::until::until;
use crate::close::{CloseCode, CloseFrame};
use crate::sync::{Mutex, MutexGuard};
use crate::topics::Position;
use crate::topics::members::Tally;
use crate::topics::receiver::Receiver;
use crate::topics::room::{Room, StampFn};

/// Entries that wait for those before them. What is more is read again.
const MAX_AHEAD: usize = 256;

/// The same in bytes.
const MAX_AHEAD_BYTES: usize = 1024 * 1024;

/// Entries of which a fingerprint is kept, 8 bytes each: as many as a late announcement may be behind.
const MAX_MARKS: usize = 64;

/// How long who subscribes waits for the log.
const ATTACH: Duration = Duration::from_secs(5);

/// See the module docs.
pub(crate) struct Shelf {
    state: Mutex<State>,
    /// A read has ended.
    done: Notify,
    lane: Mutex<Lane<Instant>>,
}

#[derive(Default)]
struct State {
    /// There are subscribers here.
    wanted: bool,
    /// The own log has the epoch of the engine's.
    known: bool,
    /// By offset, with the epoch.
    ahead: BTreeMap<u64, (u64, Bytes)>,
    ahead_bytes: usize,
    /// Fingerprints of the latest entries of the own log: who has lost some and goes on would number others
    /// as it has numbered those.
    marks: VecDeque<u64>,
    /// The log has other entries where it had those that this node knows.
    is_broken: bool,
    reading: Reading,
    /// Reads that were begun, and the last that has succeeded.
    begun: u64,
    succeeded: u64,
}

/// What a read was to find out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// How far the node knew the log.
    pub(super) seen: Option<Position>,
    pub(super) after: u64,
}

/// What is to be read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Done,
    More,
    /// The log has lost what it had.
    Renew(Position),
    /// The engine contradicts itself.
    Broken,
}

/// What is left to do when no lock is held.
#[derive(Default)]
struct Todo {
    tallies: Vec<Tally>,
    closed: Vec<Arc<dyn Receiver>>,
}

impl Todo {
    fn settle(self) {
        for tally in self.tallies {
            tally.settle();
        }
        if self.closed.is_empty() {
            return;
        }
        let frame = CloseFrame::known(
            CloseCode::SERVICE_RESTART,
            "messages of a topic were lost, they cannot be sent",
        );
        match Handle::try_current() {
            Ok(runtime) => scatter(self.closed, frame, &runtime),
            Err(_) => self.closed.into_iter().for_each(|receiver| {
                receiver.close(frame.clone());
            }),
        }
    }
}

impl Shelf {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            done: Notify::new(),
            lane: Mutex::new(Lane::new()),
        }
    }

    /// There are subscribers here, or no longer.
    pub(super) fn want(&self, wanted: bool) {
        let mut state = self.state();
        state.wanted = wanted;
        if !wanted {
            let ahead = std::mem::take(&mut state.ahead);
            state.ahead_bytes = 0;
            drop(state);
            drop(ahead);
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.state().wanted
    }

    /// How far this node knows the log.
    pub(super) fn seen(&self, room: &Room) -> Option<Position> {
        self.state().seen(room)
    }

    /// Whether there are subscribers, and the log goes further than what they have.
    pub(crate) fn is_behind(&self, room: &Room, position: Position) -> bool {
        let state = self.state();
        let end = room.end().filter(|_| state.known);
        let reaches = |end: Position| end.epoch == position.epoch && end.offset >= position.offset;
        state.wanted && !end.is_some_and(reaches)
    }

    // ---- what comes

    /// The log has numbered an entry. Whether it is to be read.
    pub(super) fn arrived(
        &self,
        room: &Room,
        node: u64,
        stamp: Option<&StampFn>,
        position: Position,
        envelope: Bytes,
    ) -> bool {
        let mut todo = Todo::default();
        let mut state = self.state();
        let Some(end) = room.end().filter(|_| state.wanted) else {
            return false;
        };
        let follows = state.known && !room.is_stale() && position.epoch == end.epoch;
        let is_hole = if follows && position.offset <= end.offset {
            // The read finds out what has become of it.
            state.is_broken |= state.contradicts(end, position.offset, &envelope);
            state.is_broken
        } else if follows && position.offset == end.offset + 1 {
            state.enter(room, node, stamp, position, &envelope, &mut todo);
            state.drain(room, node, stamp, &mut todo);
            false
        } else {
            state.put_ahead(position, envelope);
            true
        };
        drop(state);
        todo.settle();
        is_hole
    }

    /// A read has found this.
    pub(super) fn found(
        &self,
        room: &Room,
        node: u64,
        stamp: Option<&StampFn>,
        asked: Asked,
        page: Page,
    ) -> Next {
        let mut todo = Todo::default();
        let mut state = self.state();
        let next = state.found(room, node, stamp, asked, page, &mut todo);
        if next == Next::Done {
            // From here on, subscribers get what follows.
            if state.wanted {
                let is_fresh = state.reading.is_fresh();
                let (tally, closed) = room.set_current(is_fresh);
                todo.tallies.push(tally);
                todo.closed.extend(closed);
            }
            state.drain(room, node, stamp, &mut todo);
            if !state.ahead.is_empty() {
                state.reading.repeat();
            }
        }
        drop(state);
        todo.settle();
        next
    }

    // ---- reading

    /// Whether the topic is to be put into the queue of those that are read.
    pub(super) fn queue_read(&self) -> bool {
        self.state().reading.ask()
    }

    /// Its turn has come. `false`: nobody needs it any more.
    pub(super) fn begin_read(&self) -> bool {
        let mut state = self.state();
        let wanted = state.wanted;
        state.begun += u64::from(wanted);
        state.reading.begin(wanted)
    }

    /// What is to be asked.
    pub(super) fn ask(&self, room: &Room) -> Asked {
        let state = self.state();
        let end = room.end().filter(|_| state.known);
        Asked {
            seen: state.seen(room),
            // The last one again, to see whether it is still the same.
            after: end.map_or(0, |end| end.offset.saturating_sub(1)),
        }
    }

    /// Whether it is to be read again.
    pub(super) fn end_read(&self, succeeded: bool) -> bool {
        let again = {
            let mut state = self.state();
            if succeeded {
                state.succeeded = state.begun;
            }
            let wanted = state.wanted;
            state.reading.end(wanted, succeeded)
        };
        self.done.notify_waiters();
        again
    }

    /// Waits until this node has the log as it is now, at most for a time. `read` asks for it to be read. Whether
    /// it came to it; if not, a read that succeeds later has begun after this.
    pub(super) async fn wait(
        &self,
        room: &Room,
        after: Option<Position>,
        read: impl FnOnce(),
    ) -> bool {
        let deadline = Instant::now() + ATTACH;
        // The engine may have yet to confirm that it listens.
        if !until(&self.done, deadline, || !room.is_stale()).await {
            self.state().reading.repeat();
            return false;
        }
        if after.is_none_or(|after| room.answers(after)) {
            return true;
        }
        // Somebody else has seen more than this node, or says so. A read that runs already may have begun
        // before that.
        let begun = self.state().begun;
        read();
        let is_read = || self.state().succeeded > begun;
        until(&self.done, deadline, is_read).await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this node appends.
    pub(super) fn lane(&self) -> MutexGuard<'_, Lane<Instant>> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is ahead has been announced, so the log has got that far.
    fn seen(&self, room: &Room) -> Option<Position> {
        let end = room.end().filter(|_| self.known)?;
        let same =
            |(offset, (epoch, _)): (&u64, &(u64, Bytes))| (*epoch == end.epoch).then_some(*offset);
        let ahead = self.ahead.iter().rev().find_map(same);
        let offset = ahead.map_or(end.offset, |ahead| ahead.max(end.offset));
        Some(Position::new(end.epoch, offset))
    }

    fn put_ahead(&mut self, position: Position, envelope: Bytes) {
        if self.ahead.len() >= MAX_AHEAD || self.ahead_bytes + envelope.len() > MAX_AHEAD_BYTES {
            return;
        }
        self.ahead_bytes += envelope.len();
        let before = self
            .ahead
            .insert(position.offset, (position.epoch, envelope));
        self.ahead_bytes -= before.map_or(0, |(_, envelope)| envelope.len());
    }

    /// Enters what was ahead and is next, and forgets what is past.
    fn drain(&mut self, room: &Room, node: u64, stamp: Option<&StampFn>, todo: &mut Todo) {
        while let Some(entry) = self.ahead.first_entry() {
            let Some(end) = room.end() else {
                return;
            };
            let (offset, epoch) = (*entry.key(), entry.get().0);
            let is_next = epoch == end.epoch && offset == end.offset + 1;
            if epoch == end.epoch && offset > end.offset + 1 {
                return;
            }
            let (_, envelope) = entry.remove();
            self.ahead_bytes -= envelope.len();
            if is_next {
                let position = Position::new(epoch, offset);
                self.enter(room, node, stamp, position, &envelope, todo);
            }
        }
    }

    /// Whether an entry that the own log has is another one.
    fn contradicts(&self, end: Position, offset: u64, envelope: &Bytes) -> bool {
        let back = usize::try_from(end.offset - offset).unwrap_or(usize::MAX);
        let at = self.marks.len().checked_sub(back.saturating_add(1));
        at.is_some_and(|at| self.marks[at] != mark(envelope))
    }

    /// Appends the next entry to the own log, and delivers it.
    fn enter(
        &mut self,
        room: &Room,
        node: u64,
        stamp: Option<&StampFn>,
        position: Position,
        envelope: &Bytes,
        todo: &mut Todo,
    ) {
        match Envelope::decode(envelope) {
            Some(Envelope {
                node: by,
                what: What::Message { from, message },
                ..
            }) => {
                let from = if by == node { from } else { 0 };
                let (tally, at) = room.enter(&message, from, stamp);
                debug_assert_eq!(at, Some(position));
                todo.tallies.push(tally);
                if self.marks.len() >= MAX_MARKS {
                    self.marks.pop_front();
                }
                self.marks.push_back(mark(envelope));
            }
            _ => {
                // It is none of ours, and it has a number: it is missing.
                let behind = Position::new(position.epoch, position.offset + 1);
                self.rebase(room, behind, false, todo);
            }
        }
    }

    /// What is before `first` is not here, and does not come.
    fn rebase(&mut self, room: &Room, first: Position, is_other: bool, todo: &mut Todo) {
        let (tally, closed) = room.rebase(first, is_other);
        todo.tallies.push(tally);
        todo.closed.extend(closed);
        self.marks.clear();
    }

    fn found(
        &mut self,
        room: &Room,
        node: u64,
        stamp: Option<&StampFn>,
        asked: Asked,
        page: Page,
        todo: &mut Todo,
    ) -> Next {
        let Page {
            epoch,
            first,
            last,
            entries,
        } = page;
        let Some(end) = room.end() else {
            return Next::Done;
        };
        if first == 0 || first - 1 > last {
            return Next::Broken;
        }
        if self.known && epoch == end.epoch {
            let seen = asked.seen.filter(|seen| seen.epoch == epoch);
            if let Some(seen) = seen.filter(|seen| last < seen.offset) {
                return Next::Renew(seen);
            }
            let known = entries.iter().find(|entry| entry.offset == end.offset);
            let is_other = |entry: &Logged| self.contradicts(end, end.offset, &entry.envelope);
            if self.is_broken || known.is_some_and(is_other) {
                // No log goes that far.
                return Next::Renew(Position::new(epoch, u64::MAX));
            }
            if first > end.offset + 1 {
                self.rebase(room, Position::new(epoch, first), false, todo);
            }
        } else {
            self.rebase(room, Position::new(epoch, first), self.known, todo);
            self.known = true;
            self.is_broken = false;
            if asked.after >= first {
                // That was asked of another log.
                return Next::More;
            }
        }
        let mut is_more = false;
        for Logged { offset, envelope } in entries {
            let Some(end) = room.end() else {
                break;
            };
            if offset <= end.offset {
                continue;
            }
            if offset > end.offset + 1 {
                self.rebase(room, Position::new(epoch, offset), false, todo);
            }
            let position = Position::new(epoch, offset);
            self.enter(room, node, stamp, position, &envelope, todo);
            is_more = true;
        }
        match room.end() {
            Some(end) if end.offset >= last => Next::Done,
            _ if is_more => Next::More,
            _ => Next::Broken,
        }
    }
}

fn mark(envelope: &Bytes) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(envelope);
    hasher.finish()
}
