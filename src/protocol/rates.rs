//! [`Rates`]: how much a peer may send in a second.

use std::time::Duration;

use super::timers::Moment;
use crate::config::{Config, SCRATCH};

/// See the module docs. The rates themselves stand in the [`Config`].
#[derive(Debug)]
pub(crate) struct Rates {
    /// Pings and pongs, which always have a limit.
    control: Bucket,
    /// Boxed, since most connections have none of it.
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Default)]
struct Rare {
    /// Messages and bytes, if one of them has a limit.
    metered: Option<Metered>,
    /// What was not read yesterday may be read today.
    excuse: Option<Excuse>,
}

#[derive(Debug, Default)]
struct Metered {
    messages: Bucket,
    bytes: Bucket,
    inflated: Bucket,
    /// The size on the wire that a message may have.
    largest: usize,
}

/// The driver did not read for a while, and the peer went on sending.
#[derive(Clone, Copy, Debug)]
struct Excuse {
    /// For how long. Of pauses in quick succession, the longest: that is what the socket had time
    /// to fill in, and it bounds the excuse.
    pause: Duration,
    /// From here on it has no meaning.
    until: Moment,
}

/// How long after a pause what piled up during it may take to be read. 1 s: sockets hold some
/// MiB at most, and reading those takes milliseconds.
const CATCH_UP: Duration = Duration::from_secs(1);

impl Rates {
    /// Of a connection that opens now: every bucket is full.
    pub(crate) fn new(config: &Config) -> Self {
        let metered = config.max_message_rate.is_some()
            || config.max_byte_rate.is_some()
            || config.max_inflated_rate.is_some();
        Self {
            control: Bucket::default(),
            rare: metered.then(|| {
                let metered = Metered {
                    largest: config.max_message,
                    ..Metered::default()
                };
                Box::new(Rare {
                    metered: Some(metered),
                    excuse: None,
                })
            }),
        }
    }

    /// How large a message may be on the wire, where that differs from what it is.
    pub(crate) fn set_largest(&mut self, largest: usize) {
        let rare = self.rare.as_mut();
        if let Some(metered) = rare.and_then(|rare| rare.metered.as_mut()) {
            metered.largest = largest;
        }
    }

    /// Whether there is a limit on messages or bytes.
    #[inline]
    pub(crate) fn is_metered(&self) -> bool {
        self.rare.as_ref().is_some_and(|r| r.metered.is_some())
    }

    /// Takes a ping, a pong or a Close. `false`: that is one too many.
    pub(crate) fn control(&mut self, now: Moment, config: &Config) -> bool {
        let rate = u64::from(config.max_control_rate);
        let from = excused(self.rare.as_ref().and_then(|r| r.excuse.as_ref()), now);
        self.control.take(1, rate, rate, from, now)
    }

    #[inline]
    fn metered(&mut self) -> Option<(&mut Metered, Option<&Excuse>)> {
        let Rare { metered, excuse } = self.rare.as_deref_mut()?;
        metered.as_mut().map(|metered| (metered, excuse.as_ref()))
    }

    /// Takes a message. `false`: that is one too many.
    #[inline]
    pub(crate) fn message(&mut self, now: Moment, config: &Config) -> bool {
        let Some((metered, excuse)) = self.metered() else {
            return true;
        };
        let Some(rate) = config.max_message_rate else {
            return true;
        };
        let from = excused(excuse, now);
        let rate = u64::from(rate);
        metered.messages.take(1, rate, rate, from, now)
    }

    /// Takes `n` bytes. `false`: those are too many.
    #[inline]
    pub(crate) fn bytes(&mut self, n: usize, now: Moment, config: &Config) -> bool {
        let Some((metered, excuse)) = self.metered() else {
            return true;
        };
        let Some(rate) = config.max_byte_rate else {
            return true;
        };
        let from = excused(excuse, now);
        // A message that is not too large must not be too fast either, nor a read of it.
        let whole = metered.largest.saturating_add(SCRATCH) as u64;
        metered.bytes.take(n as u64, rate, whole, from, now)
    }

    /// Takes what was inflated to `n` bytes. `false`: those are too many.
    #[inline]
    pub(crate) fn inflated(&mut self, n: usize, now: Moment, config: &Config) -> bool {
        let Some((metered, excuse)) = self.metered() else {
            return true;
        };
        let Some(rate) = config.max_inflated_rate else {
            return true;
        };
        let from = excused(excuse, now);
        let whole = config.max_message.saturating_add(SCRATCH) as u64;
        metered.inflated.take(n as u64, rate, whole, from, now)
    }

    /// Nothing was read from `since` until `now`: what the peer has sent meanwhile comes in one
    /// go, and that is not its haste.
    ///
    /// Pauses in quick succession are one: what piled up in the first may take as many rounds as
    /// the application has messages of it.
    pub(crate) fn excuse(&mut self, since: Moment, now: Moment) {
        let pause = now.since(since);
        let rare = self.rare.get_or_insert_default();
        let before = rare.excuse.as_ref().filter(|it| since <= it.until);
        let excuse = Excuse {
            pause: before.map_or(pause, |before| before.pause.max(pause)),
            until: now + CATCH_UP,
        };
        rare.excuse = Some(excuse);
    }
}

/// Since when the peer may have sent what is read now.
fn excused(excuse: Option<&Excuse>, now: Moment) -> Moment {
    match excuse {
        Some(excuse) if now <= excuse.until => now.before(excuse.pause),
        _ => now,
    }
}

/// A token bucket that keeps one moment in place of a count: the generic cell rate algorithm.
///
/// It fills at `rate` a second, and holds so much that `burst` may come at once.
#[derive(Debug)]
struct Bucket {
    /// When it is full again.
    full_at: Moment,
}

impl Default for Bucket {
    fn default() -> Self {
        Self {
            full_at: Moment::START,
        }
    }
}

impl Bucket {
    /// Takes `n` that may have been sent since `from`. `false`: that is more than there is. A rate
    /// of 0 is taken for 1.
    #[inline]
    fn take(&mut self, n: u64, rate: u64, burst: u64, from: Moment, now: Moment) -> bool {
        let rate = rate.max(1);
        self.full_at = self.full_at.max(from) + time(n, rate);
        self.full_at.since(now) <= time(burst.max(rate), rate)
    }
}

/// The time in which `n` flow in.
fn time(n: u64, rate: u64) -> Duration {
    let nanos = u128::from(n) * 1_000_000_000 / u128::from(rate);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
