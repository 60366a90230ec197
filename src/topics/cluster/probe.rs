//! [`Probe`]: finds out that a connection of the engine is open and dead. It knows no clock: time is an
//! argument.

use std::time::Duration;

/// When a connection is probed.
#[derive(Clone, Copy, Debug)]
pub(in crate::topics) struct Times {
    /// After so long without a word of its own, a node sends one to itself.
    pub(in crate::topics) idle: Duration,
    /// If that does not come back within this time, the connection is dead.
    pub(in crate::topics) patience: Duration,
}

impl Default for Times {
    /// Longer than a pause of the engine that is endured without a new connection.
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(10),
            patience: Duration::from_secs(10),
        }
    }
}

/// See the module docs. Any envelope of the node's own that comes back shows that both ways are open.
#[derive(Debug)]
pub(super) struct Probe<T> {
    times: Times,
    /// When the last one came back, or the connection began.
    heard: T,
    /// The engine listens to what the node sends itself.
    listening: bool,
    sent: Option<T>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due<T> {
    /// Ask again at that time.
    At(T),
    /// Send a probe, and ask again.
    Send,
    /// The connection is dead.
    Dead,
}

impl<T: Copy + Ord + std::ops::Add<Duration, Output = T>> Probe<T> {
    pub(super) fn new(times: Times, now: T) -> Self {
        Self {
            times,
            heard: now,
            listening: false,
            sent: None,
        }
    }

    pub(super) fn listening(&mut self, now: T) {
        self.listening = true;
        self.heard = now;
    }

    pub(super) fn heard(&mut self, now: T) {
        self.heard = now;
        self.sent = None;
    }

    pub(super) fn due(&mut self, now: T) -> Due<T> {
        let Times { idle, patience } = self.times;
        let deadline = match self.sent {
            Some(sent) => sent + patience,
            None if self.listening => {
                let at = self.heard + idle;
                if at <= now {
                    self.sent = Some(now);
                    return Due::Send;
                }
                return Due::At(at);
            }
            None => self.heard + idle + patience,
        };
        if deadline <= now {
            Due::Dead
        } else {
            Due::At(deadline)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn t13_a_connection_that_brings_nothing_back_is_dead_after_twenty_seconds() {
        let mut probe = Probe::new(Times::default(), at(100));
        assert_eq!(probe.due(at(100)), Due::At(at(120)));
        assert_eq!(probe.due(at(120)), Due::Dead);

        probe.listening(at(101));
        assert_eq!(probe.due(at(102)), Due::At(at(111)));
        assert_eq!(probe.due(at(111)), Due::Send);
        assert_eq!(probe.due(at(111)), Due::At(at(121)));
        probe.heard(at(112));
        assert_eq!(probe.due(at(121)), Due::At(at(122)));
        assert_eq!(probe.due(at(130)), Due::Send);
        assert_eq!(probe.due(at(140)), Due::Dead);
    }
}
