//! [`Counters`]: what came and went over a connection, and when; [`Traffic`], an amount of it.

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

#[cfg(feature = "metrics")]
impl Traffic {
    #[inline]
    pub(crate) fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

/// What is noted for those who look at a connection from outside: 40 bytes. Each number has one writer at a
/// time, so that none needs an atomic addition.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    received: Sum,
    sent: Sum,
    /// When a message came or went last, in ticks of [`TICK`] of the connection's age.
    last: AtomicU32,
    /// How long the answer to the last heartbeat took, in microseconds. Zero: none was answered.
    round_trip: AtomicU32,
}

#[derive(Debug, Default)]
struct Sum {
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// 34 ms, a power of two in nanoseconds, so that a tick is a shift. A process may live 4 years before
/// its connections stop to age.
const TICK: u32 = 25;

/// How many ticks lie before the epoch, for clocks of tests that stand still: half an hour.
const BEFORE: u64 = 1 << 16;

impl Counters {
    // ---- for the driver

    #[inline]
    pub(super) fn came(&self, bytes: usize) {
        self.received.add(bytes);
    }

    /// With when a message came or went last.
    #[inline]
    pub(super) fn rests(&self, last: Moment) {
        self.last.store(ticks(last.nanos()), Ordering::Relaxed);
    }

    pub(super) fn answered(&self, micros: u32) {
        self.round_trip.store(micros, Ordering::Relaxed);
    }

    // ---- under the lock of the queue

    #[inline]
    pub(super) fn accepted(&self, bytes: usize) {
        self.sent.add(bytes);
    }

    // ---- for those who look

    pub(super) fn received(&self) -> Traffic {
        self.received.traffic()
    }

    pub(super) fn sent(&self) -> Traffic {
        self.sent.traffic()
    }

    /// In ticks of the connection's age.
    pub(super) fn last(&self) -> u32 {
        self.last.load(Ordering::Relaxed)
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        let micros = self.round_trip.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros.into()))
    }
}

impl Sum {
    #[inline]
    fn add(&self, bytes: usize) {
        let add = |to: &AtomicU64, n| to.store(to.load(Ordering::Relaxed) + n, Ordering::Relaxed);
        add(&self.messages, 1);
        add(&self.bytes, bytes as u64);
    }

    fn traffic(&self) -> Traffic {
        Traffic {
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// How long it is since `tick` of the process.
pub(super) fn since(tick: u32) -> Duration {
    Duration::from_nanos(u64::from(present().saturating_sub(tick)) << TICK)
}

#[inline]
fn ticks(nanos: u64) -> u32 {
    u32::try_from(nanos >> TICK).unwrap_or(u32::MAX)
}

/// The tick of this moment.
pub(super) fn present() -> u32 {
    let (epoch, now) = (epoch(), tokio::time::Instant::now().into_std());
    let ticks = |time: Duration| u64::try_from(time.as_nanos() >> TICK).unwrap_or(u64::MAX);
    let before = ticks(epoch.saturating_duration_since(now));
    let since = ticks(now.saturating_duration_since(epoch));
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
    fn the_counters_of_a_connection_have_40_bytes() {
        assert_eq!(size_of::<Counters>(), 40);
    }

    #[tokio::test(start_paused = true)]
    async fn age_and_silence_are_told_to_a_tick() {
        let (counters, opened) = (Counters::default(), present());
        let tick = Duration::from_nanos(1 << TICK);
        tokio::time::advance(Duration::from_secs(10)).await;
        counters.came(5);
        counters.rests(Moment::new(Duration::from_secs(10)));
        tokio::time::advance(Duration::from_secs(3)).await;
        let near = |is: Duration, seconds| is.abs_diff(Duration::from_secs(seconds)) <= 2 * tick;
        assert!(near(since(opened), 13), "{:?}", since(opened));
        let idle = || since(opened + counters.last());
        assert!(near(idle(), 3), "{:?}", idle());
        counters.rests(Moment::new(Duration::from_secs(13)));
        assert!(near(idle(), 0), "{:?}", idle());
        let Traffic { messages, bytes } = counters.received();
        assert_eq!((messages, bytes), (1, 5));
    }
}
