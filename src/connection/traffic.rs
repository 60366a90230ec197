//! [`Activity`]: what came over a connection, and when; [`Traffic`], an amount of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::protocol::Moment;

/// An amount of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Traffic {
    /// Messages.
    pub messages: u64,
    /// Bytes of their payload, as the application has it: not compressed.
    pub bytes: u64,
}

impl Traffic {
    #[inline]
    pub(crate) fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

/// What the driver notes for those who look at a connection from outside. It is the only one that
/// writes, so that it needs no atomic addition. 32 bytes.
#[derive(Debug)]
pub(crate) struct Activity {
    messages: AtomicU64,
    bytes: AtomicU64,
    /// When it was opened, in ticks of [`TICK`] since [`epoch`].
    opened: AtomicU32,
    /// When a message came or went last, in ticks of its age.
    last: AtomicU32,
    /// How long the answer to the last heartbeat took, in microseconds. Zero: none was answered.
    round_trip: AtomicU32,
    /// It is noted at all.
    pub(crate) is_noted: bool,
    /// Messages and the Close frame are ours, not those of tungstenite.
    pub(crate) is_ours: bool,
}

/// 34 ms, a power of two in nanoseconds, so that a tick is a shift. A process may live 4 years before
/// its connections stop to age.
const TICK: u32 = 25;

/// How many ticks lie before the epoch, for clocks of tests that stand still: half an hour.
const BEFORE: u64 = 1 << 16;

impl Activity {
    pub(super) fn new(is_noted: bool) -> Self {
        Self {
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            opened: AtomicU32::new(present()),
            last: AtomicU32::new(0),
            round_trip: AtomicU32::new(0),
            is_noted,
            is_ours: true,
        }
    }

    /// The connection begins now.
    pub(crate) fn open(&self) {
        self.opened.store(present(), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn received(&self, bytes: usize, now: Moment) {
        if self.is_noted {
            add(&self.messages, 1);
            add(&self.bytes, bytes as u64);
            self.last.store(ticks(now.age()), Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn sent(&self, now: Moment) {
        if self.is_noted {
            self.last.store(ticks(now.age()), Ordering::Relaxed);
        }
    }

    pub(crate) fn answered(&self, micros: u32) {
        self.round_trip.store(micros, Ordering::Relaxed);
    }

    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn age(&self) -> Duration {
        self.ticks_since(0)
    }

    /// How long no message came or went.
    pub(crate) fn idle(&self) -> Duration {
        self.ticks_since(self.last.load(Ordering::Relaxed))
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        let micros = self.round_trip.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros.into()))
    }

    fn ticks_since(&self, age: u32) -> Duration {
        let since = self.opened.load(Ordering::Relaxed).saturating_add(age);
        Duration::from_nanos(u64::from(present().saturating_sub(since)) << TICK)
    }
}

#[inline]
fn add(to: &AtomicU64, n: u64) {
    to.store(to.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}

#[inline]
fn ticks(duration: Duration) -> u32 {
    let nanos = duration.as_secs() * 1_000_000_000 + u64::from(duration.subsec_nanos());
    u32::try_from(nanos >> TICK).unwrap_or(u32::MAX)
}

/// The tick of this moment.
fn present() -> u32 {
    let (epoch, now) = (epoch(), tokio::time::Instant::now().into_std());
    let before = u64::from(ticks(epoch.saturating_duration_since(now)));
    let since = u64::from(ticks(now.saturating_duration_since(epoch)));
    u32::try_from((BEFORE + since).saturating_sub(before)).unwrap_or(u32::MAX)
}

/// When the process was first asked what time it is.
fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(|| tokio::time::Instant::now().into_std())
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn an_activity_has_32_bytes() {
        assert_eq!(size_of::<Activity>(), 32);
        assert_eq!(size_of::<Traffic>(), 16);
    }

    #[tokio::test(start_paused = true)]
    async fn age_and_silence_are_told_to_a_tick() {
        let activity = Activity::new(true);
        let tick = Duration::from_nanos(1 << TICK);
        tokio::time::advance(Duration::from_secs(10)).await;
        activity.received(5, Moment::new(Duration::from_secs(10)));
        tokio::time::advance(Duration::from_secs(3)).await;
        let near = |is: Duration, seconds| is.abs_diff(Duration::from_secs(seconds)) <= 2 * tick;
        assert!(near(activity.age(), 13), "{:?}", activity.age());
        assert!(near(activity.idle(), 3), "{:?}", activity.idle());
        activity.sent(Moment::new(Duration::from_secs(13)));
        assert!(near(activity.idle(), 0), "{:?}", activity.idle());
        let Traffic { messages, bytes } = activity.traffic();
        assert_eq!((messages, bytes), (1, 5));
    }

    #[test]
    fn what_is_not_wanted_is_not_noted() {
        let activity = Activity::new(false);
        activity.received(5, Moment::START);
        assert_eq!(activity.traffic(), Traffic::default());
    }
}
