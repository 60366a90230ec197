//! [`Schedule`]: what a node has to do by the clock, as its connection to the others comes and goes. It
//! knows no clock: time is an argument.

use std::ops::Add;
use std::time::Duration;

use super::probe::{self, Probe, Times};
use crate::topics::log::Time;

/// Changes of who is present go out together: nobody sees a tenth of a second.
const CHANGES_EVERY: Duration = Duration::from_millis(100);

/// Nodes tell that they are there: five times before the others take them for gone.
const DIGEST_EVERY: Duration = Duration::from_secs(2);

/// A digest of which nothing is heard for so long does not come back.
const DIGEST_LOST: Duration = Duration::from_secs(10);

/// See the module docs.
#[derive(Debug)]
pub(super) struct Schedule<T> {
    is_up: bool,
    /// When that changed.
    since: T,
    was_up: bool,
    /// Of the connection, if there is one.
    probe: Option<Probe<T>>,
    /// The connection is dead.
    is_dead: bool,
    changes_at: Option<T>,
    digest_at: T,
    /// The number of the last digest that is yet to come back, and when it was made.
    digest: Option<(u64, T)>,
    probe_times: Times,
    isolated_after: Option<Duration>,
    /// All connections were closed since this node is cut off.
    is_isolated: bool,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due<T> {
    /// The node is to send a word to itself.
    pub(super) probe: bool,
    /// The others are to be told of changes of who is present.
    pub(super) changes: bool,
    /// They are to be told that this node is there.
    pub(super) digest: bool,
    /// It hears them, so that their silence says something.
    pub(super) silence: bool,
    /// It was cut off from them for too long.
    pub(super) isolation: bool,
    /// When to ask again, unless something happens.
    pub(super) next: T,
}

impl<T: Time + Ord + Add<Duration, Output = T>> Schedule<T> {
    pub(super) fn new(probe_times: Times, isolated_after: Option<Duration>, now: T) -> Self {
        Self {
            is_up: false,
            since: now,
            was_up: false,
            probe: None,
            is_dead: false,
            changes_at: None,
            digest_at: now,
            digest: None,
            probe_times,
            isolated_after,
            is_isolated: false,
        }
    }

    // ---- what happens

    /// The engine begins to connect.
    pub(super) fn begin(&mut self, now: T) {
        self.is_dead = false;
        self.digest = None;
        self.probe = Some(Probe::new(self.probe_times, now));
    }

    /// The engine listens to what this node sends to itself.
    pub(super) fn listen(&mut self, now: T) {
        if let Some(probe) = &mut self.probe {
            probe.listening(now);
        }
    }

    /// The engine listens to all that it was asked for at first. `None`: that was so before; or whether it
    /// was so on another connection.
    pub(super) fn rise(&mut self, now: T) -> Option<bool> {
        if self.is_up || self.probe.is_none() {
            return None;
        }
        self.is_up = true;
        self.is_isolated = false;
        self.since = now;
        self.digest_at = now;
        // What was not told meanwhile is asked for.
        self.changes_at = Some(now + CHANGES_EVERY);
        Some(std::mem::replace(&mut self.was_up, true))
    }

    /// The engine has ended. Whether it was up.
    pub(super) fn end(&mut self, now: T) -> bool {
        self.probe = None;
        let was_up = std::mem::take(&mut self.is_up);
        if was_up {
            self.since = now;
        }
        was_up
    }

    /// The first of the changes that wait has come.
    pub(super) fn change(&mut self, now: T) {
        self.changes_at = Some(now + CHANGES_EVERY);
    }

    /// A digest is on its way.
    pub(super) fn tell(&mut self, number: u64, now: T) {
        // One that is lost must not be waited for for ever.
        if self.digest.is_none_or(|(_, at)| at + DIGEST_LOST <= now) {
            self.digest = Some((number, now));
        }
    }

    /// An envelope of this node has come back. How long it took, if it is the digest that is waited for.
    pub(super) fn hear(&mut self, number: u64, now: T) -> Option<Duration> {
        if let Some(probe) = &mut self.probe {
            probe.heard(now);
        }
        let (_, at) = self.digest.take_if(|(digest, _)| *digest == number)?;
        Some(now.since(at))
    }

    // ---- what is to be done

    pub(super) fn due(&mut self, now: T) -> Due<T> {
        let mut due = Due {
            probe: false,
            changes: false,
            digest: false,
            silence: self.is_up,
            isolation: false,
            next: now + DIGEST_EVERY,
        };
        let mut ask = |at: T| due.next = due.next.min(at);
        if let Some(probe) = &mut self.probe {
            let mut todo = probe.due(now);
            due.probe = todo == probe::Due::Send;
            if due.probe {
                todo = probe.due(now);
            }
            match todo {
                probe::Due::At(at) => ask(at),
                probe::Due::Send => {}
                probe::Due::Dead => {
                    self.is_dead = true;
                    self.probe = None;
                }
            }
        }
        if self.is_up {
            due.changes = self.changes_at.take_if(|at| *at <= now).is_some();
            due.digest = self.digest_at <= now;
            if due.digest {
                self.digest_at = now + DIGEST_EVERY;
            }
            ask(self.digest_at);
            self.changes_at.into_iter().for_each(ask);
        } else if let Some(after) = self.isolated_after.filter(|_| !self.is_isolated) {
            let at = self.since + after;
            self.is_isolated = at <= now;
            due.isolation = self.is_isolated;
            if !due.isolation {
                ask(at);
            }
        }
        due
    }

    pub(super) fn is_up(&self) -> bool {
        self.is_up
    }

    /// Since when it is up, or not.
    pub(super) fn since(&self) -> T {
        self.since
    }

    /// Whether the engine is to be dropped, since its connection is dead.
    pub(super) fn is_dead(&self) -> bool {
        self.is_dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// What is due, in words, and when to ask again.
    fn due(schedule: &mut Schedule<Duration>, now: u64) -> (String, u64) {
        let due = schedule.due(at(now));
        let words = [
            ("probe", due.probe),
            ("changes", due.changes),
            ("digest", due.digest),
            ("silence", due.silence),
            ("isolation", due.isolation),
        ];
        let words: Vec<_> = words
            .iter()
            .filter_map(|(word, is)| is.then_some(*word))
            .collect();
        (words.join(" "), due.next.as_millis() as u64)
    }

    fn told((words, next): (&str, u64)) -> (String, u64) {
        (words.to_owned(), next)
    }

    fn up(now: u64) -> Schedule<Duration> {
        let mut schedule = Schedule::new(Times::default(), None, at(now));
        schedule.begin(at(now));
        schedule.listen(at(now));
        assert_eq!(schedule.rise(at(now)), Some(false));
        assert_eq!(schedule.rise(at(now)), None);
        schedule
    }

    #[test]
    fn a_node_that_is_up_tells_every_two_seconds_and_of_changes_a_tenth_after_the_first() {
        let mut schedule = up(0);
        assert_eq!(due(&mut schedule, 0), told(("digest silence", 100)));
        assert_eq!(due(&mut schedule, 100), told(("changes silence", 2000)));
        schedule.change(at(1950));
        assert_eq!(due(&mut schedule, 2000), told(("digest silence", 2050)));
        assert_eq!(due(&mut schedule, 2050), told(("changes silence", 4000)));
        // Nobody hears it.
        schedule.change(at(2100));
        assert!(schedule.end(at(2200)) && !schedule.end(at(2300)));
        assert_eq!((schedule.is_up(), schedule.since()), (false, at(2200)));
        assert_eq!(due(&mut schedule, 5000), told(("", 7000)));
        schedule.begin(at(5000));
        assert_eq!(schedule.rise(at(5100)), Some(true));
        assert_eq!(due(&mut schedule, 5100), told(("digest silence", 5200)));
        assert_eq!(due(&mut schedule, 5200), told(("changes silence", 7100)));
    }

    #[test]
    fn t13_nothing_that_comes_back_for_twenty_seconds_is_a_dead_connection() {
        let mut schedule = up(0);
        schedule.due(at(100));
        schedule.due(at(9999));
        assert_eq!(due(&mut schedule, 10_000).0, "probe silence");
        assert_eq!(due(&mut schedule, 10_001).0, "silence");
        assert_eq!(schedule.hear(1, at(11_000)), None);
        schedule.due(at(20_500));
        assert_eq!(due(&mut schedule, 21_000).0, "probe silence");
        schedule.due(at(30_999));
        assert!(!schedule.is_dead());
        schedule.due(at(31_000));
        assert!(schedule.is_dead());
        schedule.begin(at(31_000));
        assert!(!schedule.is_dead());
    }

    #[test]
    fn a_digest_that_comes_back_tells_how_long_it_took_and_one_that_is_lost_is_forgotten() {
        let mut schedule = up(0);
        schedule.tell(1, at(0));
        schedule.tell(2, at(2000));
        assert_eq!(schedule.hear(2, at(2500)), None);
        assert_eq!(schedule.hear(1, at(3000)), Some(at(3000)));
        assert_eq!(schedule.hear(1, at(3000)), None);
        schedule.tell(3, at(4000));
        schedule.tell(4, at(13_999));
        schedule.tell(5, at(14_000));
        assert_eq!(schedule.hear(3, at(14_100)), None);
        assert_eq!(schedule.hear(5, at(14_100)), Some(at(100)));
        // Nor is one of another connection waited for.
        schedule.tell(6, at(15_000));
        schedule.begin(at(16_000));
        assert_eq!(schedule.hear(6, at(17_000)), None);
    }

    #[test]
    fn t13_who_is_cut_off_for_too_long_is_isolated_once_until_it_is_up_again() {
        let mut schedule = Schedule::new(Times::default(), Some(at(1500)), at(0));
        assert_eq!(due(&mut schedule, 0), told(("", 1500)));
        assert_eq!(due(&mut schedule, 1500), told(("isolation", 3500)));
        assert_eq!(due(&mut schedule, 9000), told(("", 11_000)));
        schedule.begin(at(9000));
        schedule.rise(at(9000));
        schedule.end(at(9500));
        assert_eq!(due(&mut schedule, 10_000), told(("", 11_000)));
        assert_eq!(due(&mut schedule, 11_000).0, "isolation");
    }
}
