//! [`Rates`]: how much a peer may send in a second.

use std::time::Duration;

use super::timers::Moment;
use crate::config::{Config, SCRATCH};

/// See the module docs.
#[derive(Debug)]
pub(crate) struct Rates {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
}

impl Rates {
    /// `None`: as much as it likes. Boxed, since that is the rule.
    pub(crate) fn new(config: &Config) -> Option<Box<Self>> {
        if config.max_message_rate.is_none() && config.max_byte_rate.is_none() {
            return None;
        }
        let messages = config.max_message_rate.map(u64::from);
        // A message that is not too large must not be too fast either, nor a read of it.
        let whole = config.max_message.saturating_add(SCRATCH) as u64;
        Some(Box::new(Self {
            messages: messages.map(|rate| Bucket::new(rate, rate)),
            bytes: config.max_byte_rate.map(|rate| Bucket::new(rate, whole)),
        }))
    }

    /// A message arrived. `false`: that is one too many.
    pub(crate) fn message(&mut self, now: Moment) -> bool {
        self.messages.as_mut().is_none_or(|m| m.take(1, now))
    }

    /// Bytes arrived. `false`: those are too many.
    pub(crate) fn bytes(&mut self, n: usize, now: Moment) -> bool {
        self.bytes.as_mut().is_none_or(|b| b.take(n as u64, now))
    }

    /// See [`Bucket::excuse`].
    pub(crate) fn excuse(&mut self, since: Moment, now: Moment) {
        for bucket in [&mut self.messages, &mut self.bytes].into_iter().flatten() {
            bucket.excuse(since, now);
        }
    }
}

/// A token bucket that keeps one moment in place of a count: the generic cell rate algorithm.
///
/// Fills at `rate` a second, and holds so much that `burst` may come at once.
#[derive(Debug)]
struct Bucket {
    rate: u64,
    /// The time in which what it holds flows in.
    depth: Duration,
    /// When it is full again.
    full_at: Moment,
    /// What was not read yesterday may be read today; see [`Bucket::excuse`].
    excused: Option<Excuse>,
}

#[derive(Clone, Copy, Debug)]
struct Excuse {
    /// Since when the peer may have sent what is read now.
    since: Moment,
    /// From here on it has no meaning.
    until: Moment,
}

/// How long after a pause what piled up during it may take to be read. 1 s: sockets hold some
/// MiB at most, and reading those takes milliseconds.
const CATCH_UP: Duration = Duration::from_secs(1);

impl Bucket {
    /// Of a connection that opens now: full. A rate of 0 is taken for 1.
    fn new(rate: u64, burst: u64) -> Self {
        let rate = rate.max(1);
        Self {
            rate,
            depth: time(burst.max(rate), rate),
            full_at: Moment::START,
            excused: None,
        }
    }

    /// Takes `n`. `false`: that is more than there is.
    #[inline]
    fn take(&mut self, n: u64, now: Moment) -> bool {
        let from = match self.excused {
            Some(excuse) if now <= excuse.until => excuse.since,
            _ => now,
        };
        self.full_at = self.full_at.max(from) + time(n, self.rate);
        self.full_at.since(now) <= self.depth
    }

    /// Nothing was read from `since` until `now`: what the peer has sent meanwhile comes in one
    /// go, and that is not its haste.
    ///
    /// Pauses in quick succession are one: what piled up in the first may take as many rounds as
    /// the application has messages of it.
    fn excuse(&mut self, since: Moment, now: Moment) {
        let before = self.excused.filter(|excuse| since <= excuse.until);
        self.excused = Some(Excuse {
            since: before.map_or(since, |excuse| excuse.since.min(since)),
            until: now + CATCH_UP,
        });
    }
}

/// The time in which `n` flow in.
fn time(n: u64, rate: u64) -> Duration {
    let nanos = u128::from(n) * 1_000_000_000 / u128::from(rate);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::new(Duration::from_millis(millis))
    }

    #[test]
    fn a_burst_passes_and_one_more_does_not() {
        let mut bucket = Bucket::new(10, 10);
        assert!((0..10).all(|_| bucket.take(1, at(5000))));
        assert!(!bucket.take(1, at(5000)));
    }

    #[test]
    fn the_rate_passes_for_ever_and_a_tenth_more_does_not() {
        let mut bucket = Bucket::new(10, 10);
        assert!((0..1000).all(|i| bucket.take(1, at(i * 100))));
        let mut bucket = Bucket::new(10, 10);
        let refused = (0..1000).find(|i| !bucket.take(1, at(i * 90)));
        // 10 at once, and then one in ten is too many.
        assert!(matches!(refused, Some(90..110)), "{refused:?}");
    }

    #[test]
    fn silence_saves_no_more_than_the_burst() {
        let mut bucket = Bucket::new(1000, 4000);
        assert!(bucket.take(4000, at(60_000)));
        assert!(!bucket.take(10, at(60_000)));
        let mut bucket = Bucket::new(1000, 4000);
        assert!(bucket.take(4000, at(0)));
        assert!(bucket.take(1000, at(1000)));
    }

    #[test]
    fn what_piled_up_while_nobody_read_is_not_the_peers_haste() {
        let mut bucket = Bucket::new(10, 10);
        // 10 s of messages at the full rate, read within a moment.
        bucket.excuse(at(1000), at(11_000));
        assert!((0..100).all(|_| bucket.take(1, at(11_000))));
        // The burst on top, and no more.
        assert!((0..10).all(|_| bucket.take(1, at(11_000))));
        assert!(!bucket.take(1, at(11_000)));
        // An excuse that was not needed is void soon.
        let mut bucket = Bucket::new(10, 10);
        bucket.excuse(at(1000), at(11_000));
        assert!((0..10).all(|_| bucket.take(1, at(12_001))));
        assert!(!bucket.take(1, at(12_001)));
    }

    #[test]
    fn what_piled_up_is_still_excused_when_reading_it_has_more_pauses() {
        let mut bucket = Bucket::new(10, 10);
        bucket.excuse(at(1000), at(11_000));
        for i in 0..110 {
            assert!(bucket.take(1, at(11_000 + i)), "{i}");
            bucket.excuse(at(11_000 + i), at(11_001 + i));
        }
        assert!((0..9).any(|_| !bucket.take(1, at(11_110))));
        // A pause long after the first has its own.
        let mut bucket = Bucket::new(10, 10);
        bucket.excuse(at(1000), at(11_000));
        bucket.excuse(at(12_001), at(12_002));
        assert!((0..10).all(|_| bucket.take(1, at(12_002))));
        assert!(!bucket.take(1, at(12_002)));
    }

    #[test]
    fn any_numbers_will_do() {
        let mut bucket = Bucket::new(0, 0);
        assert!(bucket.take(1, at(0)));
        assert!(!bucket.take(u64::MAX, at(0)));
        let mut bucket = Bucket::new(u64::MAX, u64::MAX);
        assert!(bucket.take(u64::MAX, at(0)));
    }
}
