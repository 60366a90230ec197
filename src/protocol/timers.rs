//! The deadlines of a connection: an array of instants, no clock.

use std::time::{Duration, Instant};

/// What may be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Silence has lasted: ping.
    Heartbeat,
    /// The pong to our ping.
    Pong,
    /// The message that is arriving.
    Receive,
    /// What is being written.
    Send,
    /// No message for too long.
    Idle,
    /// The closing handshake.
    Close,
    /// The socket, to be drained after it.
    Drain,
}

impl Timer {
    pub(crate) const ALL: [Self; 7] = [
        Self::Heartbeat,
        Self::Pong,
        Self::Receive,
        Self::Send,
        Self::Idle,
        Self::Close,
        Self::Drain,
    ];
}

#[derive(Debug, Default)]
pub(crate) struct Timers([Option<Instant>; Timer::ALL.len()]);

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    pub(crate) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(crate) fn get(&self, timer: Timer) -> Option<Instant> {
        self.0[timer as usize]
    }

    /// The next of all deadlines.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().copied().flatten().min()
    }

    /// Takes one timer that is due.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<Timer> {
        let timer = Timer::ALL
            .into_iter()
            .find(|t| self.0[*t as usize].is_some_and(|at| at <= now))?;
        self.stop(timer);
        Some(timer)
    }
}

/// Work that must be done in a time that grows with what was moved: a slow phone may
/// finish, a slowloris may not (as Apache's `mod_reqtimeout`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    since: Instant,
    moved: usize,
}

impl Progress {
    pub(crate) fn begin(now: Instant) -> Self {
        Self {
            since: now,
            moved: 0,
        }
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.moved = self.moved.saturating_add(bytes);
    }

    pub(crate) fn moved(&self) -> usize {
        self.moved
    }

    /// Time that was not the peer's does not count.
    pub(crate) fn excuse(&mut self, pause: Duration) {
        self.since += pause;
    }

    /// `base`, plus one second for each KiB moved.
    pub(crate) fn deadline(&self, base: Duration) -> Instant {
        // u32::MAX KiB are 4 TiB; the cap keeps the sum far from the end of time.
        let earned = (self.moved / 1024).min(u32::MAX as usize) as u64;
        self.since + base + Duration::from_secs(earned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_deadline_is_the_earliest_and_each_expires_once() {
        let t0 = Instant::now();
        let mut timers = Timers::default();
        assert_eq!(timers.next(), None);
        timers.set(Timer::Close, t0 + Duration::from_secs(2));
        timers.set(Timer::Pong, t0 + Duration::from_secs(1));
        assert_eq!(timers.next(), Some(t0 + Duration::from_secs(1)));
        assert_eq!(timers.expired(t0), None);
        let later = t0 + Duration::from_secs(5);
        assert_eq!(timers.expired(later), Some(Timer::Pong));
        assert_eq!(timers.expired(later), Some(Timer::Close));
        assert_eq!(timers.expired(later), None);
    }

    #[test]
    fn f19_n5_a_byte_a_second_buys_no_time_and_a_kib_a_second_does() {
        let t0 = Instant::now();
        let base = Duration::from_secs(30);
        let mut progress = Progress::begin(t0);
        for _ in 0..30 {
            progress.add(1);
        }
        assert_eq!(progress.deadline(base), t0 + base);
        progress.add(10 * 1024);
        assert_eq!(progress.deadline(base), t0 + Duration::from_secs(40));
        progress.excuse(Duration::from_secs(5));
        assert_eq!(progress.deadline(base), t0 + Duration::from_secs(45));
    }
}
