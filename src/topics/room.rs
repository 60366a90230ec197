//! [`Room`]: one topic: its members, and its log if it is retained.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError};

use once_cell::race::OnceBox;
use tokio::time::Instant;

use super::calls::contained;
use super::cluster::Shelf;
use super::log::{Log, Retain};
use super::members::{BEGINS_LATER, Delivery, Members, Subscriber, Tally};
use super::position::Position;
use super::presence::Crowd;
use super::published::Published;
use super::receiver::{How, Receiver};
use super::terms::{Attached, Subscribe};
use crate::close::CloseFrame;
use crate::measure;
use crate::message::Message;
use crate::protocol::Framed;
use crate::sync::{AtomicUsize, Mutex, MutexGuard};

pub(super) type StampFn = dyn Fn(&str, Position, &Message) -> Message + Send + Sync;

/// See the module docs.
pub(super) struct Room {
    pub(super) name: Box<str>,
    /// Of the name.
    pub(super) hash: u64,
    /// Members, handles, and whoever works with it. Becomes more than 0 only under the lock of its
    /// shard.
    pub(super) refs: AtomicUsize,
    /// It is in the queue of topics that nobody uses and that have a log. Changes only under the lock
    /// of its shard.
    pub(super) is_idle: AtomicBool,
    members: Members,
    log: Option<Box<Mutex<Log<Instant>>>>,
    /// The log is a part of one that all nodes share.
    shelf: Option<Box<Shelf>>,
    /// Who is present. Most topics have nobody.
    crowd: OnceBox<Mutex<Crowd<Instant>>>,
}

impl Room {
    /// With `is_shared`, what is retained is a part of what all nodes share.
    pub(super) fn new(
        (hash, name): (u64, &str),
        retain: Option<Retain>,
        epoch: impl FnOnce() -> u64,
        is_shared: bool,
    ) -> Self {
        let make = |retain| {
            let mut log = Log::new(retain, epoch(), Instant::now());
            log.is_stale = is_shared;
            Box::new(Mutex::new(log))
        };
        let is_shared = is_shared && retain.is_some();
        Self {
            name: name.into(),
            hash,
            shelf: is_shared.then(|| Box::new(Shelf::new())),
            refs: AtomicUsize::new(0),
            is_idle: AtomicBool::new(false),
            members: Members::new(),
            crowd: OnceBox::new(),
            log: retain.map(make),
        }
    }

    pub(super) fn is_retained(&self) -> bool {
        self.log.is_some()
    }

    pub(super) fn crowd(&self) -> MutexGuard<'_, Crowd<Instant>> {
        let make = || Box::new(Mutex::new(Crowd::new()));
        let crowd = self.crowd.get_or_init(make);
        crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn subscribers(&self) -> usize {
        self.members.count()
    }

    pub(super) fn receivers(&self) -> Vec<Arc<dyn Receiver>> {
        self.members.receivers()
    }

    /// Nobody uses the topic any more.
    pub(super) fn leave(&self) {
        if let Some(mut log) = self.log() {
            log.leave(Instant::now());
        }
    }

    /// Whether nothing is retained any more.
    pub(super) fn is_forgotten(&self) -> bool {
        let Some(mut log) = self.log() else {
            return true;
        };
        let now = Instant::now();
        let dropped = log.trim(now);
        let is_forgotten = log.is_forgotten(now);
        drop(log);
        drop(dropped);
        is_forgotten
    }

    /// Delivers a message to all members but `from`, and appends it to the log if there is one.
    pub(super) fn publish(
        &self,
        message: &Message,
        from: u64,
        stamp: Option<&StampFn>,
    ) -> (Published, Option<Position>) {
        let (tally, position) = self.enter(message, from, stamp);
        (tally.settle(), position)
    }

    /// The same but for what is to be done when no lock is held.
    pub(super) fn enter(
        &self,
        message: &Message,
        from: u64,
        stamp: Option<&StampFn>,
    ) -> (Tally, Option<Position>) {
        let mut tally = Tally::default();
        let Some(mut log) = self.log() else {
            if self.members.count() > 0 {
                let delivery = Delivery {
                    message,
                    frame: &Framed::new(message),
                    offset: 0,
                    from,
                };
                self.members.deliver(&delivery, &mut tally, || ());
            }
            return (tally, None);
        };
        let position = log.next();
        let stamped =
            stamp.and_then(|stamp| contained("stamp", || stamp(&self.name, position, message)));
        let message = stamped.as_ref().unwrap_or(message);
        let frame = Framed::new(message);
        let dropped = log.append(&frame, from, Instant::now());
        let delivery = Delivery {
            message,
            frame: &frame,
            offset: position.offset,
            from,
        };
        self.members.deliver(&delivery, &mut tally, || drop(log));
        drop(dropped);
        (tally, Some(position))
    }

    /// Closes all members. How many were not closed already.
    pub(super) fn close(&self, frame: &CloseFrame) -> usize {
        let receivers = self.receivers().into_iter();
        let closed = receivers.filter(|receiver| receiver.close(frame.clone()));
        closed.count()
    }

    /// Makes a connection a member, or replaces how it is one. Gives its slot, and what was dropped for it
    /// before that.
    pub(super) fn subscribe(
        &self,
        receiver: &Arc<dyn Receiver>,
        mut how: Subscribe,
        slot: Option<u32>,
    ) -> (u32, Attached, u64) {
        let terms = how.terms(self.is_retained());
        let slot = slot.unwrap_or_else(|| self.members.reserve());
        let (mut tally, mut greeting) = (Tally::default(), None);

        // Nothing is appended until the member is there, so nothing is missed or doubled.
        let mut log = self.log();
        let dropped = log.as_mut().map(|log| log.trim(Instant::now()));
        let resumed = how
            .after
            .zip(log.as_ref())
            .and_then(|(after, log)| Some((after, log.resume(after)?)));
        let is_stale = log.as_ref().is_some_and(|log| log.is_stale);
        let resumed = resumed.filter(|_| !is_stale);
        let end = log.as_ref().filter(|_| !is_stale).map(|log| log.end());
        let next = end.map_or(BEGINS_LATER, |end| end.offset + 1);
        let next = resumed.map_or(next, |(_, next)| next);
        let attached = Attached {
            recovered: how.after.is_none() || resumed.is_some(),
            position: resumed.map(|(after, _)| after).or(end),
        };
        let subscriber = Subscriber {
            receiver: receiver.clone(),
            terms,
        };
        let cursor = log.is_some().then_some(next);
        let before = self.members.fill(slot, subscriber, cursor, |mut member| {
            if let Some(greet) = how.greeting.take() {
                greeting = contained("greeting", || greet(&attached));
            }
            if let Some(greeting) = &greeting {
                member.offer(&Framed::new(greeting), How::Greeting, &mut tally);
            }
            if let Some(log) = &log {
                member.begin(log);
                member.read_on(log, &mut tally);
            }
        });
        drop(log);
        tally.settle();
        if how.after.is_some() {
            measure::recovery(attached.recovered);
        }
        let before = before.map_or(0, |subscriber| subscriber.dropped());
        drop(dropped);
        (slot, attached, before)
    }

    /// Ends a membership. Tells how many messages were dropped for it.
    pub(super) fn unsubscribe(&self, slot: u32) -> u64 {
        let subscriber = self.members.remove(slot);
        subscriber.map_or(0, |subscriber| subscriber.dropped())
    }

    /// There is room again in the queue of a member that was behind.
    pub(super) fn refill(&self, slot: u32) {
        let mut tally = Tally::default();
        let log = self.log();
        self.members.with(slot, |mut member| {
            if member.tell_gap(&mut tally) {
                if let Some(log) = &log {
                    member.read_on(log, &mut tally);
                }
            }
        });
        drop(log);
        tally.settle();
    }

    /// How many messages were dropped for a member.
    pub(super) fn dropped(&self, slot: u32) -> u64 {
        let dropped = self.members.with(slot, |member| member.dropped());
        dropped.unwrap_or(0)
    }

    // ---- a part of a log that all nodes share

    pub(super) fn shelf(&self) -> Option<&Shelf> {
        self.shelf.as_deref()
    }

    pub(super) fn retain(&self) -> Option<Retain> {
        self.log().map(|log| log.retain())
    }

    /// The position of the last message that is here.
    pub(super) fn end(&self) -> Option<Position> {
        self.log().map(|log| log.end())
    }

    pub(super) fn is_stale(&self) -> bool {
        self.log().is_some_and(|log| log.is_stale)
    }

    /// From now on the log goes on without this node.
    pub(super) fn set_stale(&self) {
        if let Some(mut log) = self.log() {
            log.is_stale = true;
        }
    }

    /// This node has the log up to its end, and gets what follows. So do those who have waited for it.
    pub(super) fn set_current(&self) {
        if let Some(mut log) = self.log() {
            if std::mem::take(&mut log.is_stale) {
                let next = log.next().offset;
                self.members.each(|member| {
                    if *member.cursor == BEGINS_LATER {
                        *member.cursor = next;
                    }
                });
            }
        }
    }

    /// Whether a subscriber that has read so far can be answered from what is here: yes or no.
    pub(super) fn answers(&self, after: Position) -> bool {
        let is_here = |end: Position| end.epoch == after.epoch && end.offset >= after.offset;
        self.end().is_some_and(is_here)
    }

    /// Whether the log that all nodes share goes further than what this one has, and it has subscribers.
    pub(super) fn is_behind(&self, position: Position) -> bool {
        let shelf = self.shelf();
        shelf.is_some_and(|shelf| shelf.is_behind(self, position))
    }

    /// What is before `next` is not here, and does not come; with `is_other`, the log is another one.
    /// Gives the members that are to be closed.
    pub(super) fn rebase(&self, next: Position, is_other: bool) -> (Tally, Vec<Arc<dyn Receiver>>) {
        let (mut tally, mut closed) = (Tally::default(), Vec::new());
        let Some(mut log) = self.log() else {
            return (tally, closed);
        };
        let end = log.end().offset;
        let dropped = log.rebase(next);
        self.members.each(|mut member| {
            if !member.skip(&log, (end, next.offset), is_other, &mut tally) {
                closed.push(member.receiver.clone());
            }
        });
        drop(log);
        drop(dropped);
        (tally, closed)
    }

    fn log(&self) -> Option<MutexGuard<'_, Log<Instant>>> {
        let log = self.log.as_ref()?;
        Some(log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room")
            .field("name", &self.name)
            .field("subscribers", &self.subscribers())
            .finish_non_exhaustive()
    }
}
