//! Time in the protocol: moments of a connection and its deadlines. No clock is read here.

use std::num::NonZeroU64;
use std::ops::Add;
use std::time::Duration;

use crate::config::SCRATCH;

/// A moment in the life of a connection. It is half the size of an `Instant`, and a test can make
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(
    /// Nanoseconds since the connection began, plus one, so that `Option<Moment>` has the same
    /// size.
    NonZeroU64,
);

impl Moment {
    /// The beginning of the connection.
    pub(crate) const START: Self = Self(NonZeroU64::MIN);

    /// The moment when the connection is `age` old.
    #[inline]
    pub(crate) fn new(age: Duration) -> Self {
        Self::START + age
    }

    /// How old the connection is at this moment.
    pub(crate) fn age(self) -> Duration {
        self.since(Self::START)
    }

    /// The same in nanoseconds.
    #[inline]
    pub(crate) fn nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// The same in microseconds, which wrap every 71 minutes.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "only differences count")]
    pub(crate) fn micros(self) -> u32 {
        (self.nanos() / 1000) as u32
    }

    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }

    /// The moment `nanos` nanoseconds later.
    #[inline]
    pub(crate) fn plus_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// The moment `duration` earlier, but not before the beginning.
    pub(crate) fn before(self, duration: Duration) -> Self {
        Self::START + self.age().saturating_sub(duration)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    /// Saturates when the connection is 584 years old.
    #[inline]
    fn add(self, duration: Duration) -> Self {
        let nanos = duration
            .as_secs()
            .saturating_mul(1_000_000_000)
            .saturating_add(u64::from(duration.subsec_nanos()));
        Self(self.0.saturating_add(nanos))
    }
}

/// The earlier of two moments that may never come.
#[inline]
pub(crate) fn earlier(a: Option<Moment>, b: Option<Moment>) -> Option<Moment> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The deadlines of a connection. Of two that are due at the same time, the first one here comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The peer has been silent for long enough: send a ping.
    Heartbeat,
    /// The pong to our ping must arrive.
    Pong,
    /// The message that is arriving must be complete.
    Receive,
    /// What is being written must be taken by the socket.
    Send,
    /// No message for too long.
    Idle,
    /// The connection has lived long enough. While it leaves: the message that is arriving must be
    /// complete.
    Leave,
    /// The closing handshake, and then the drain of the socket, must be over.
    Close,
}

/// The earliest first. Two have a place of their own, as a connection that is idle has one or two; further
/// ones are boxed.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    at: [Option<Moment>; PLACES],
    which: [Option<Timer>; PLACES],
    /// In order; not empty.
    #[expect(
        clippy::box_collection,
        reason = "16 bytes less in every connection; few have so many"
    )]
    later: Option<Box<Vec<(Moment, Timer)>>>,
}

const PLACES: usize = 2;

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Moment) {
        self.stop(timer);
        let mut last = Some((at, timer));
        for place in 0..PLACES {
            let here = self.at[place].zip(self.which[place]);
            if last.is_some() && here.is_none_or(|here| last < Some(here)) {
                last = self.replace(place, last);
            }
        }
        if let Some(last) = last {
            let later = self.later.get_or_insert_default();
            let place = later.partition_point(|before| *before < last);
            later.insert(place, last);
        }
    }

    pub(crate) fn stop(&mut self, timer: Timer) {
        if let Some(place) = self.which.iter().position(|which| *which == Some(timer)) {
            self.remove(place);
        } else if let Some(later) = &mut self.later {
            later.retain(|(_, which)| *which != timer);
            if later.is_empty() {
                self.later = None;
            }
        }
    }

    pub(crate) fn get(&self, timer: Timer) -> Option<Moment> {
        let later = self.later.iter().flat_map(|later| later.iter());
        let mut all = self.places().chain(later.copied());
        all.find_map(|(at, which)| (which == timer).then_some(at))
    }

    /// The next of all deadlines.
    #[inline]
    pub(crate) fn next(&self) -> Option<Moment> {
        self.at[0]
    }

    /// Takes one timer that is due.
    pub(crate) fn expired(&mut self, now: Moment) -> Option<Timer> {
        let (at, timer) = self.places().next()?;
        if at > now {
            return None;
        }
        self.remove(0);
        Some(timer)
    }

    fn places(&self) -> impl Iterator<Item = (Moment, Timer)> + '_ {
        let both = self.at.into_iter().zip(self.which);
        both.filter_map(|(at, which)| at.zip(which))
    }

    fn replace(&mut self, place: usize, by: Option<(Moment, Timer)>) -> Option<(Moment, Timer)> {
        let (at, which) = by.unzip();
        let at = std::mem::replace(&mut self.at[place], at);
        at.zip(std::mem::replace(&mut self.which[place], which))
    }

    /// All behind it move up.
    fn remove(&mut self, place: usize) {
        let first = self.later.as_mut().map(|later| later.remove(0));
        if self.later.as_ref().is_some_and(|later| later.is_empty()) {
            self.later = None;
        }
        let mut moved = first;
        for place in (place..PLACES).rev() {
            moved = self.replace(place, moved);
        }
    }
}

/// Work that must be done in a time that grows with what was moved: a slow phone may
/// finish, a slowloris may not (as Apache's `mod_reqtimeout`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    since: Moment,
    moved: usize,
}

impl Progress {
    pub(crate) fn begin(now: Moment) -> Self {
        Self {
            since: now,
            moved: 0,
        }
    }

    /// `bytes` moved. Time that was earned long ago does not pay for a stall now: after each 64 KiB
    /// the time starts again.
    pub(crate) fn add(&mut self, bytes: usize, now: Moment) {
        self.moved = self.moved.saturating_add(bytes);
        if self.moved >= SCRATCH {
            *self = Self::begin(now);
        }
    }

    /// Leaves out a pause that was not the peer's fault.
    pub(crate) fn excuse(&mut self, pause: Duration) {
        self.since = self.since + pause;
    }

    /// `base`, plus one second for each KiB moved.
    pub(crate) fn deadline(&self, base: Duration) -> Moment {
        let earned = Duration::from_secs((self.moved / 1024) as u64);
        self.since + base + earned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::new(Duration::from_secs(seconds))
    }

    #[test]
    fn a_moment_is_as_long_after_the_beginning_as_it_was_told() {
        let age = Duration::new(3, 7);
        assert_eq!(Moment::new(age).age(), age);
        assert_eq!(at(5).since(at(2)), Duration::from_secs(3));
        assert_eq!(at(2).since(at(5)), Duration::ZERO);
        assert!(at(1) + Duration::MAX > at(u64::from(u32::MAX)));
    }

    #[test]
    fn the_next_deadline_is_the_earliest_and_each_expires_once() {
        let mut timers = Timers::default();
        assert_eq!(timers.next(), None);
        timers.set(Timer::Close, at(2));
        timers.set(Timer::Pong, at(1));
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.expired(at(0)), None);
        assert_eq!(timers.expired(at(5)), Some(Timer::Pong));
        assert_eq!(timers.expired(at(5)), Some(Timer::Close));
        assert_eq!(timers.expired(at(5)), None);
    }

    /// Beside a list that is sorted whenever it is looked at.
    #[test]
    fn however_many_are_set_moved_and_stopped_the_earliest_comes_first() {
        const ALL: [Timer; 7] = [
            Timer::Heartbeat,
            Timer::Pong,
            Timer::Receive,
            Timer::Send,
            Timer::Idle,
            Timer::Leave,
            Timer::Close,
        ];
        assert_eq!(size_of::<Timers>(), 32);
        let mut timers = Timers::default();
        let mut model: Vec<(Moment, Timer)> = Vec::new();
        let mut chance: u64 = 1;
        for _ in 0..10_000 {
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let timer = ALL[(chance >> 33) as usize % ALL.len()];
            let when = at(chance >> 60);
            match chance >> 40 & 3 {
                0 | 1 => {
                    model.retain(|(_, which)| *which != timer);
                    model.push((when, timer));
                    timers.set(timer, when);
                }
                2 => {
                    model.retain(|(_, which)| *which != timer);
                    timers.stop(timer);
                }
                _ => {
                    model.sort();
                    let is_due = model.first().is_some_and(|(at, _)| *at <= when);
                    let due = is_due.then(|| model.remove(0).1);
                    assert_eq!(timers.expired(when), due);
                }
            }
            assert_eq!(timers.next(), model.iter().map(|(at, _)| *at).min());
            for timer in ALL {
                let at = model.iter().find(|(_, which)| *which == timer);
                assert_eq!(timers.get(timer), at.map(|set| set.0));
            }
            assert_eq!(timers.later.is_some(), model.len() > PLACES);
        }
    }

    #[test]
    fn f19_n5_a_byte_a_second_buys_no_time_and_a_kib_a_second_does() {
        let base = Duration::from_secs(30);
        let mut progress = Progress::begin(at(0));
        for second in 0..30 {
            progress.add(1, at(second));
        }
        assert_eq!(progress.deadline(base), at(30));
        progress.add(10 * 1024, at(30));
        assert_eq!(progress.deadline(base), at(40));
        progress.excuse(Duration::from_secs(5));
        assert_eq!(progress.deadline(base), at(45));
    }

    #[test]
    fn s3_what_moved_long_ago_pays_for_94_seconds_at_the_most() {
        let base = Duration::from_secs(30);
        let mut progress = Progress::begin(at(0));
        progress.add(64 * 1024 - 1, at(1));
        assert_eq!(progress.deadline(base), at(93));
        progress.add(1, at(1));
        assert_eq!(progress.deadline(base), at(31));
        progress.add(usize::MAX, at(2));
        assert_eq!(progress.deadline(base), at(32));
    }
}
