//! [`Members`]: who subscribes a topic, in chunks.
//!
//! Whoever delivers a message locks the next chunk before it lets go of the last: messages cannot
//! overtake each other on their way, so all members get them in one order, and publishers follow each
//! other through the chunks in place of waiting for each other.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError};

use super::backlog::Keep;
use super::log::{Entry, Log, Read, Time};
use super::published::Published;
use super::receiver::{How, Offered, Receiver, Taken};
use super::terms::{OnFull, Terms};
use crate::close::{CloseCode, CloseFrame};
use crate::measure;
use crate::message::Message;
use crate::protocol::Framed;
use crate::sync::{AtomicUsize, Mutex, MutexGuard};

/// The cursor of a member that begins when the log of the topic is here.
pub(super) const BEGINS_LATER: u64 = u64::MAX - 1;

/// Members of a chunk. A publisher holds its lock for that many deliveries, about 0.1 ms.
pub(super) const CHUNK: u32 = 1024;

/// See the module docs.
pub(super) struct Members {
    /// In place: most topics have no other.
    first: Chunk,
    space: Mutex<Space>,
    count: AtomicUsize,
}

/// Which slots are free.
struct Space {
    /// Those behind the first.
    chunks: Vec<Arc<Chunk>>,
    /// Slots that were given back. The lowest are used first, so that chunks at the end become empty.
    free: BinaryHeap<Reverse<u32>>,
    /// Slots that were ever used.
    used: u32,
}

#[derive(Default)]
struct Chunk {
    slots: Mutex<Slots>,
    next: OnceLock<Arc<Self>>,
}

/// What few members have lies beside them: a member costs 16 bytes.
#[derive(Default)]
struct Slots {
    receivers: Vec<Option<Arc<dyn Receiver>>>,
    count: usize,
    /// If a member has any of it.
    beside: Option<Box<Beside>>,
}

/// By slot, up to the last member that has some.
#[derive(Default)]
struct Beside {
    /// Terms that are not the default.
    terms: Vec<Option<Box<Terms>>>,
    /// In a retained topic, the offset of the message that a member gets next.
    cursors: Vec<u64>,
}

/// A connection that subscribes a topic.
pub(super) struct Subscriber {
    pub(super) receiver: Arc<dyn Receiver>,
    /// `None`: all as by default.
    pub(super) terms: Option<Box<Terms>>,
}

/// A subscriber in its slot.
pub(super) struct Member<'a> {
    pub(super) receiver: &'a Arc<dyn Receiver>,
    /// `None`: all as by default.
    pub(super) terms: Option<&'a mut Terms>,
    /// In a retained topic, the offset of the message that it gets next.
    pub(super) cursor: &'a mut u64,
}

/// A message on its way to all members.
pub(super) struct Delivery<'a> {
    pub(super) message: &'a Message,
    pub(super) frame: &'a Framed,
    /// In a retained topic; 0 in a plain one.
    pub(super) offset: u64,
    /// The connection that does not get it, or 0.
    pub(super) from: u64,
}

/// What came of a delivery, and what is left to do when no lock is held.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) published: Published,
    /// Messages that came from the log.
    read: usize,
    /// Messages that were dropped, by [`OnFull`].
    dropped: [u64; OnFull::NAMES.len()],
    /// Who is to be woken. Apart from the rest, since they are many: most receivers sleep until something comes.
    asleep: Vec<Arc<dyn Receiver>>,
    todo: Vec<Todo>,
    /// Dropping a payload may run code of the application.
    garbage: Vec<Framed>,
}

enum Todo {
    Show(Arc<dyn Receiver>, Framed),
    Close(Arc<dyn Receiver>),
}

impl Tally {
    fn offered(&mut self, receiver: &Arc<dyn Receiver>, frame: &Framed, offered: &Offered) {
        if offered.wake {
            self.asleep.push(receiver.clone());
        }
        if offered.show {
            self.todo.push(Todo::Show(receiver.clone(), frame.clone()));
        }
    }

    fn dropped(&mut self, policy: OnFull, messages: u64) {
        self.dropped[policy as usize] += messages;
    }

    /// Does what was left to do. No lock of a topic may be held: a recorder is the application's.
    pub(super) fn settle(self) -> Published {
        measure::delivered(self.published.delivered + self.read);
        for (policy, messages) in OnFull::NAMES.iter().zip(self.dropped) {
            measure::dropped(policy, messages);
        }
        for receiver in self.asleep {
            receiver.wake();
        }
        for todo in self.todo {
            match todo {
                Todo::Show(receiver, frame) => receiver.show(&frame),
                Todo::Close(receiver) => {
                    receiver.close(too_slow());
                }
            }
        }
        self.published
    }
}

fn too_slow() -> CloseFrame {
    CloseFrame::known(
        CloseCode::TRY_AGAIN_LATER,
        "the connection is too slow for what it subscribes",
    )
}

impl Members {
    pub(super) fn new() -> Self {
        Self {
            space: Mutex::new(Space {
                chunks: Vec::new(),
                free: BinaryHeap::new(),
                used: 0,
            }),
            first: Chunk::default(),
            count: AtomicUsize::new(0),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// A slot for a new member, with which [`fill`](Self::fill) is called.
    pub(super) fn reserve(&self) -> u32 {
        let mut space = self.space();
        if let Some(Reverse(slot)) = space.free.pop() {
            return slot;
        }
        let slot = space.used;
        space.used += 1;
        if slot > 0 && slot % CHUNK == 0 {
            let chunk = Arc::<Chunk>::default();
            let last = space.chunks.last().map_or(&self.first, |last| &**last);
            // Nobody else appends: the space is locked.
            let _ = last.next.set(chunk.clone());
            space.chunks.push(chunk);
        }
        slot
    }

    /// Puts a subscriber into its slot, with a cursor in a retained topic. `with` is called behind that,
    /// while the chunk is locked. Gives the one that was there.
    pub(super) fn fill(
        &self,
        slot: u32,
        subscriber: Subscriber,
        cursor: Option<u64>,
        with: impl FnOnce(Member<'_>),
    ) -> Option<Subscriber> {
        let chunk = self.chunk(slot);
        let mut slots = chunk.as_deref().unwrap_or(&self.first).lock();
        let at = (slot % CHUNK) as usize;
        let before = slots.take(at);
        slots.put(at, subscriber, cursor);
        if before.is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        slots.with(at, with);
        before
    }

    /// Lets `with` change the member of a slot, while its chunk is locked.
    pub(super) fn with<R>(&self, slot: u32, with: impl FnOnce(Member<'_>) -> R) -> Option<R> {
        let chunk = self.chunk(slot);
        let mut slots = chunk.as_deref().unwrap_or(&self.first).lock();
        slots.with((slot % CHUNK) as usize, with)
    }

    /// Takes a subscriber out. The caller drops it where it holds no lock.
    pub(super) fn remove(&self, slot: u32) -> Option<Subscriber> {
        let chunk = self.chunk(slot);
        let subscriber = {
            let mut slots = chunk.as_deref().unwrap_or(&self.first).lock();
            let subscriber = slots.take((slot % CHUNK) as usize)?;
            if slots.count == 0 {
                *slots = Slots::default();
            }
            subscriber
        };
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.space().free.push(Reverse(slot));
        Some(subscriber)
    }

    /// Offers a message to all. `entered` is called when no later message can overtake it any more.
    pub(super) fn deliver(
        &self,
        delivery: &Delivery<'_>,
        tally: &mut Tally,
        entered: impl FnOnce(),
    ) {
        let mut chunk = &self.first;
        let mut slots = chunk.lock();
        entered();
        loop {
            slots.each(|mut member| member.deliver(delivery, tally));
            let Some(next) = chunk.next.get() else {
                return;
            };
            let following = next.lock();
            drop(std::mem::replace(&mut slots, following));
            chunk = next;
        }
    }

    /// Calls `with` for each, while its chunk is locked.
    pub(super) fn each(&self, mut with: impl FnMut(Member<'_>)) {
        let mut chunk = Some(&self.first);
        while let Some(this) = chunk {
            let mut slots = this.lock();
            slots.each(&mut with);
            chunk = this.next.get().map(|next| &**next);
        }
    }

    /// All who subscribe now.
    pub(super) fn receivers(&self) -> Vec<Arc<dyn Receiver>> {
        let mut receivers = Vec::with_capacity(self.count());
        self.each(|member| receivers.push(member.receiver.clone()));
        receivers
    }

    /// The chunk of a slot; `None`: the first.
    fn chunk(&self, slot: u32) -> Option<Arc<Chunk>> {
        let at = (slot / CHUNK).checked_sub(1)?;
        Some(self.space().chunks[at as usize].clone())
    }

    fn space(&self) -> MutexGuard<'_, Space> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chunk {
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn put(&mut self, at: usize, subscriber: Subscriber, cursor: Option<u64>) {
        self.count += 1;
        *place(&mut self.receivers, at) = Some(subscriber.receiver);
        if subscriber.terms.is_some() {
            *place(&mut self.beside().terms, at) = subscriber.terms;
        }
        if let Some(cursor) = cursor {
            *place(&mut self.beside().cursors, at) = cursor;
        }
    }

    fn take(&mut self, at: usize) -> Option<Subscriber> {
        let receiver = self.receivers.get_mut(at)?.take()?;
        self.count -= 1;
        let beside = self.beside.as_mut();
        let terms = beside.and_then(|beside| beside.terms.get_mut(at)?.take());
        Some(Subscriber { receiver, terms })
    }

    fn with<R>(&mut self, at: usize, with: impl FnOnce(Member<'_>) -> R) -> Option<R> {
        let mut nothing = Beside::default();
        let beside = self.beside.as_deref_mut().unwrap_or(&mut nothing);
        Some(with(Member {
            receiver: self.receivers.get(at)?.as_ref()?,
            terms: beside.terms.get_mut(at).and_then(Option::as_deref_mut),
            cursor: beside.cursors.get_mut(at).unwrap_or(&mut 0),
        }))
    }

    fn each(&mut self, mut with: impl FnMut(Member<'_>)) {
        let Some(beside) = self.beside.as_deref_mut() else {
            for receiver in self.receivers.iter().flatten() {
                with(Member {
                    receiver,
                    terms: None,
                    cursor: &mut 0,
                });
            }
            return;
        };
        let (mut terms, mut cursors) = (beside.terms.iter_mut(), beside.cursors.iter_mut());
        for receiver in &self.receivers {
            let (terms, cursor) = (terms.next(), cursors.next());
            if let Some(receiver) = receiver {
                with(Member {
                    receiver,
                    terms: terms.and_then(Option::as_deref_mut),
                    cursor: cursor.unwrap_or(&mut 0),
                });
            }
        }
    }

    fn beside(&mut self) -> &mut Beside {
        self.beside.get_or_insert_default()
    }
}

/// A place in a list of a chunk, which grows as far as that.
fn place<T: Default>(list: &mut Vec<T>, at: usize) -> &mut T {
    if list.len() <= at {
        if list.capacity() <= at {
            // By an eighth: small topics are many, and what is not used costs more than the copies.
            let most = (list.len() + list.len() / 8).clamp(at + 1, CHUNK as usize);
            list.reserve_exact(most - list.len());
        }
        list.resize_with(at + 1, T::default);
    }
    &mut list[at]
}

impl Subscriber {
    /// How many messages were dropped for it by its policy.
    pub(super) fn dropped(&self) -> u64 {
        self.terms.as_ref().map_or(0, |terms| terms.dropped())
    }
}

impl Member<'_> {
    fn deliver(&mut self, delivery: &Delivery<'_>, tally: &mut Tally) {
        let &Delivery {
            message,
            frame,
            offset,
            from,
        } = delivery;
        let receiver = self.receiver;
        let is_own = from != 0 && receiver.id() == from;
        if offset != 0 {
            if *self.cursor != offset {
                // It reads this one from the log, or has done so.
                if *self.cursor < offset && !is_own {
                    let terms = self.terms.as_deref_mut();
                    if let Some(terms) = terms.filter(|terms| terms.has_gap()) {
                        if !terms.wants(message) {
                            return;
                        }
                        terms.owe();
                    }
                    tally.published.waiting += 1;
                }
                return;
            }
            *self.cursor = offset + 1;
        }
        if is_own {
            return;
        }
        let Some(terms) = self.terms.as_deref_mut() else {
            let behind = offset != 0;
            let offered = receiver.offer(frame, How::New { keep: None, behind });
            match offered.taken {
                Taken::Queued => tally.published.delivered += 1,
                Taken::Full if behind => {
                    *self.cursor = offset;
                    tally.published.waiting += 1;
                }
                Taken::Full => {
                    tally.published.dropped += 1;
                    tally.dropped(OnFull::Close, 1);
                    tally.todo.push(Todo::Close(receiver.clone()));
                }
                Taken::Waits(_) | Taken::Closed => {}
            }
            tally.offered(receiver, frame, &offered);
            return;
        };
        if !terms.wants(message) {
            return;
        }
        let behind = terms.on_full == OnFull::Pause || terms.has_gap();
        let mut offered = receiver.offer(frame, How::New { keep: None, behind });
        if matches!(offered.taken, Taken::Full) {
            if let Some(keep) = Keep::new(terms.on_full, terms.id, || terms.key(message)) {
                let keep = Some(keep);
                offered = receiver.offer(frame, How::New { keep, behind });
            }
        }
        tally.offered(receiver, frame, &offered);
        match offered.taken {
            Taken::Queued => tally.published.delivered += 1,
            Taken::Waits(dropped) => {
                tally.published.waiting += 1;
                if let Some(dropped) = dropped {
                    tally.published.dropped += 1;
                    tally.dropped(terms.on_full, 1);
                    terms.lost(1);
                    tally.garbage.push(dropped);
                }
            }
            Taken::Full if terms.on_full == OnFull::Pause => {
                *self.cursor = offset;
                terms.set_due(1);
                tally.published.waiting += 1;
            }
            Taken::Full => {
                tally.published.dropped += 1;
                tally.dropped(terms.on_full, 1);
                terms.lost(1);
                if terms.on_full == OnFull::Close {
                    tally.todo.push(Todo::Close(receiver.clone()));
                }
            }
            Taken::Closed => {}
        }
    }

    /// Sends a message about what was dropped, if that is wanted. `false`: there is no room for it.
    pub(super) fn tell_gap(&mut self, tally: &mut Tally) -> bool {
        let Some(terms) = self.terms.as_deref() else {
            return true;
        };
        let Some((message, untold)) = terms.gap() else {
            return true;
        };
        if let Some(message) = message {
            if !self.offer(&Framed::new(&message), How::Refill, tally) {
                return false;
            }
        }
        if let Some(terms) = self.terms.as_deref_mut() {
            terms.told(untold);
        }
        true
    }

    /// Takes what comes next from the log, as far as there is room.
    pub(super) fn read_on<T: Time>(&mut self, log: &Log<T>, tally: &mut Tally) {
        loop {
            match log.read(*self.cursor) {
                Read::End => return,
                Read::Next(entry) => {
                    if self.wants(entry) {
                        if !self.offer(&entry.frame, How::Refill, tally) {
                            return;
                        }
                        tally.read += 1;
                        if let Some(terms) = self.terms.as_deref_mut() {
                            terms.pay();
                        }
                    }
                    *self.cursor += 1;
                }
                Read::Lost(messages) => {
                    let has_gap = self.terms.as_ref().is_some_and(|terms| terms.has_gap());
                    if !has_gap {
                        // The first of those that are lost was one that it wants. No offset is ever this
                        // one: it gets nothing more.
                        tally.dropped(OnFull::Pause, 1);
                        *self.cursor = u64::MAX;
                        tally.todo.push(Todo::Close(self.receiver.clone()));
                        return;
                    }
                    *self.cursor += messages;
                    let left = self.count_due(log);
                    if let Some(terms) = self.terms.as_deref_mut() {
                        let before = terms.dropped();
                        terms.has_left(left);
                        tally.dropped(OnFull::Pause, terms.dropped() - before);
                    }
                    if !self.tell_gap(tally) {
                        return;
                    }
                }
            }
        }
    }

    /// What is before `next` is not here, and was not at `end` either; with `is_other`, the log is
    /// another one. `false`: the member gets nothing more, and is to be closed.
    pub(super) fn skip<T: Time>(
        &mut self,
        log: &Log<T>,
        (end, next): (u64, u64),
        is_other: bool,
        tally: &mut Tally,
    ) -> bool {
        if *self.cursor >= BEGINS_LATER {
            return true;
        }
        let terms = self.terms.as_deref_mut().filter(|terms| terms.has_gap());
        let Some(terms) = terms else {
            if is_other {
                *self.cursor = u64::MAX;
            } else {
                self.read_on(log, tally);
            }
            return !is_other;
        };
        // Of another log, nobody knows how many.
        terms.lost(if is_other { 1 } else { next - end - 1 });
        if is_other {
            terms.has_left(0);
            *self.cursor = next;
        } else {
            // What was due before is counted there.
            self.read_on(log, tally);
        }
        self.tell_gap(tally);
        true
    }

    /// A member that begins in the past knows what it is to get.
    pub(super) fn begin<T: Time>(&mut self, log: &Log<T>) {
        if self.terms.as_ref().is_some_and(|terms| terms.has_gap()) {
            let due = self.count_due(log);
            if let Some(terms) = self.terms.as_deref_mut() {
                terms.set_due(due);
            }
        }
    }

    /// How many messages it still gets from the log.
    fn count_due<T: Time>(&self, log: &Log<T>) -> u64 {
        let wanted = log.since(*self.cursor).filter(|entry| self.wants(entry));
        wanted.count() as u64
    }

    fn wants<T: Time>(&self, entry: &Entry<T>) -> bool {
        let terms = self.terms.as_ref();
        entry.from != self.receiver.id() && terms.is_none_or(|t| t.wants_framed(&entry.frame))
    }

    /// How many messages were dropped for it by its policy.
    pub(super) fn dropped(&self) -> u64 {
        self.terms.as_ref().map_or(0, |terms| terms.dropped())
    }

    /// Offers a message that is for this member alone. Whether it was taken.
    pub(super) fn offer(&self, frame: &Framed, how: How, tally: &mut Tally) -> bool {
        let offered = self.receiver.offer(frame, how);
        tally.offered(self.receiver, frame, &offered);
        matches!(offered.taken, Taken::Queued)
    }
}
