//! [`Log`]: the latest messages of a retained topic, framed, in order. It knows no clock: time is an
//! argument.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::position::Position;
use crate::protocol::Framed;

/// How much of a topic is retained for those who come back, for
/// [`TopicsBuilder::retain`](crate::TopicsBuilder::retain): a number of messages, and limits on their
/// age and size. What exceeds any of the three is dropped, the oldest first.
///
/// ```
/// use std::time::Duration;
/// use tower_websocket::{Retain, Topics};
///
/// let topics = Topics::builder()
///     .retain("room:", Retain::messages(100).age(Duration::from_secs(300)))
///     .build();
/// # drop(topics);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it does nothing until it is given to `retain`"]
pub struct Retain {
    messages: usize,
    age: Duration,
    bytes: usize,
}

impl Retain {
    /// At most so many messages of each topic; at least 1.
    ///
    /// A reader that lags behind by more than these is treated as its
    /// [policy](crate::OnFull) says, so this is also how far a slow reader may be behind.
    pub fn messages(messages: usize) -> Self {
        Self {
            messages: messages.max(1),
            age: Duration::from_secs(300),
            bytes: 1024 * 1024,
        }
    }

    /// No messages that are older than this. Default 5 minutes: a phone that was in a tunnel, a deploy.
    /// A topic that nobody uses is forgotten after the same time.
    pub fn age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    /// At most so many bytes of payload of each topic, and 64 bytes for each message. Default 1 MiB. The
    /// latest message is retained whatever its size.
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// The number of messages, for a [`Log`](crate::topics::Log).
    pub fn max_messages(&self) -> usize {
        self.messages
    }

    /// The age, for a [`Log`](crate::topics::Log).
    pub fn max_age(&self) -> Duration {
        self.age
    }

    /// The size, for a [`Log`](crate::topics::Log).
    pub fn max_bytes(&self) -> usize {
        self.bytes
    }
}

/// See the module docs.
#[derive(Debug)]
pub(super) struct Log<T> {
    retain: Retain,
    epoch: u64,
    /// The offset of the first one in the ring.
    first: u64,
    ring: VecDeque<Entry<T>>,
    bytes: usize,
    /// When somebody last used the topic.
    used: T,
    /// It is a part of another log, which has gone on or is not known yet.
    pub(super) is_stale: bool,
    /// Members, by their slots, of whom it is not known what they have missed behind these positions.
    pub(super) returning: BTreeMap<u32, Position>,
}

#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) frame: Framed,
    /// The connection that has published it and does not get it, or 0.
    pub(super) from: u64,
    at: T,
}

/// What a reader finds.
#[derive(Debug)]
pub(super) enum Read<'a, T> {
    Next(&'a Entry<T>),
    /// It has read all.
    End,
    /// What it would read next is no longer there, nor are as many in all.
    Lost(u64),
}

/// A point in time.
pub(super) trait Time: Copy {
    fn since(self, earlier: Self) -> Duration;
}

impl Time for tokio::time::Instant {
    fn since(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

impl<T: Time> Log<T> {
    /// An empty log, whose positions are not those of any other.
    pub(super) fn new(retain: Retain, epoch: u64, now: T) -> Self {
        Self {
            retain,
            epoch,
            first: 1,
            ring: VecDeque::new(),
            bytes: 0,
            used: now,
            is_stale: false,
            returning: BTreeMap::new(),
        }
    }

    /// The position of the next message to be appended.
    pub(super) fn next(&self) -> Position {
        self.position(self.first + self.ring.len() as u64)
    }

    /// The position of the last message, or the one before the first.
    pub(super) fn end(&self) -> Position {
        self.position(self.next().offset - 1)
    }

    fn position(&self, offset: u64) -> Position {
        Position {
            epoch: self.epoch,
            offset,
        }
    }

    /// Appends a message. The caller drops what is returned where it holds no lock.
    pub(super) fn append(&mut self, frame: &Framed, from: u64, at: T) -> Vec<Entry<T>> {
        self.bytes += frame.load();
        self.ring.push_back(Entry {
            frame: frame.clone(),
            from,
            at,
        });
        self.trim(at)
    }

    /// Drops what is retained no longer.
    pub(super) fn trim(&mut self, now: T) -> Vec<Entry<T>> {
        let mut dropped = Vec::new();
        while let Some(first) = self.ring.front() {
            let is_old = now.since(first.at) > self.retain.age;
            let is_too_much = self.ring.len() > self.retain.messages
                || self.bytes > self.retain.bytes && self.ring.len() > 1;
            if !is_old && !is_too_much {
                break;
            }
            self.first += 1;
            self.bytes -= first.frame.load();
            dropped.extend(self.ring.pop_front());
        }
        if self.ring.is_empty() {
            self.ring = VecDeque::new();
        }
        dropped
    }

    /// Begins anew: the next message has this position. The caller drops what is returned where it holds
    /// no lock.
    pub(super) fn rebase(&mut self, next: Position) -> VecDeque<Entry<T>> {
        self.epoch = next.epoch;
        self.first = next.offset;
        self.bytes = 0;
        std::mem::take(&mut self.ring)
    }

    pub(super) fn retain(&self) -> Retain {
        self.retain
    }

    /// The topic has no user any more.
    pub(super) fn leave(&mut self, now: T) {
        self.used = now;
    }

    /// Whether nobody who comes back could miss it. An empty log is needed too: it knows that nothing
    /// was missed.
    pub(super) fn is_forgotten(&self, now: T) -> bool {
        self.ring.is_empty() && now.since(self.used) > self.retain.age
    }

    /// All from this offset on.
    pub(super) fn since(&self, next: u64) -> impl Iterator<Item = &Entry<T>> {
        let at = usize::try_from(next.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.ring.iter().skip(at)
    }

    /// What follows for a reader whose next message has this offset.
    pub(super) fn read(&self, next: u64) -> Read<'_, T> {
        let Some(at) = next.checked_sub(self.first) else {
            return Read::Lost(self.first - next);
        };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        self.ring.get(at).map_or(Read::End, Read::Next)
    }

    /// The offset of the next message for a client that has read up to `position`, if all that it
    /// misses is here.
    pub(super) fn resume(&self, position: Position) -> Option<u64> {
        let next = position.offset.checked_add(1)?;
        let is_here = (self.first..=self.next().offset).contains(&next);
        (position.epoch == self.epoch && is_here).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    impl Time for Duration {
        fn since(self, earlier: Self) -> Duration {
            self.saturating_sub(earlier)
        }
    }

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn log(retain: Retain) -> Log<Duration> {
        Log::new(retain, 7, Duration::ZERO)
    }

    fn append(log: &mut Log<Duration>, text: &str, at: u64) -> usize {
        let frame = Framed::new(&Message::from(text.to_owned()));
        log.append(&frame, 0, second(at)).len()
    }

    fn at(offset: u64) -> Position {
        Position { epoch: 7, offset }
    }

    #[test]
    fn the_oldest_go_by_number_by_age_and_by_size() {
        let mut by_number = log(Retain::messages(2));
        let dropped: usize = (0..5).map(|n| append(&mut by_number, "x", n)).sum();
        assert_eq!((dropped, by_number.end()), (3, at(5)));
        assert!(matches!(by_number.read(3), Read::Lost(1)));
        assert!(matches!(by_number.read(4), Read::Next(_)));
        assert!(matches!(by_number.read(6), Read::End));

        let mut by_age = log(Retain::messages(100).age(second(10)));
        append(&mut by_age, "x", 0);
        append(&mut by_age, "x", 5);
        assert_eq!(by_age.trim(second(10)).len(), 0);
        assert_eq!(by_age.trim(second(11)).len(), 1);
        assert_eq!(by_age.trim(second(60)).len(), 1);
        // Its positions go on.
        assert!(by_age.is_forgotten(second(60)) && by_age.end() == at(2));
        by_age.leave(second(55));
        assert!(!by_age.is_forgotten(second(60)) && by_age.is_forgotten(second(66)));
        append(&mut by_age, "x", 60);
        assert_eq!(by_age.end(), at(3));

        let mut by_size = log(Retain::messages(100).bytes(200));
        append(&mut by_size, &"x".repeat(1000), 0);
        assert_eq!(by_size.ring.len(), 1);
        append(&mut by_size, "x", 0);
        append(&mut by_size, "x", 0);
        assert_eq!((by_size.ring.len(), by_size.bytes), (2, 130));
    }

    #[test]
    fn t8_who_shows_a_position_goes_on_only_if_nothing_is_missing() {
        let mut log = log(Retain::messages(3));
        assert_eq!(log.resume(at(0)), Some(1));
        for n in 0..5 {
            append(&mut log, "x", n);
        }
        // 3, 4 and 5 are there.
        let resumed: Vec<_> = (0..8).map(|offset| log.resume(at(offset))).collect();
        assert_eq!(
            resumed,
            [None, None, Some(3), Some(4), Some(5), Some(6), None, None]
        );
        assert_eq!(log.resume(at(u64::MAX)), None);
        let old = Position {
            epoch: 6,
            offset: 4,
        };
        assert_eq!(log.resume(old), None);
    }
}
