//! [`Tails`]: the ends of logs that this node has let grow lately, as its digests tell them: who has missed
//! the announcement of the last entry learns of it there. It knows no clock: time is an argument.

use std::collections::HashMap;
use std::time::Duration;

use super::envelope::Tail;
use crate::topics::Position;

/// The end of a log is told for so long after it has grown: three digests, of which two may be lost.
const TOLD_FOR: Duration = Duration::from_secs(6);

/// Logs whose ends are told in one digest, which is then at most 72 KiB. Of those beyond, the next entry
/// tells.
const MAX_TOPICS: usize = 256;

/// See the module docs.
#[derive(Debug)]
pub(super) struct Tails<T> {
    grown: HashMap<Box<str>, (Position, T)>,
}

impl<T: Copy + Ord + std::ops::Add<Duration, Output = T>> Tails<T> {
    pub(super) fn new() -> Self {
        Self {
            grown: HashMap::new(),
        }
    }

    /// A log has grown.
    pub(super) fn grow(&mut self, topic: &str, end: Position, now: T) {
        if self.grown.len() < MAX_TOPICS || self.grown.contains_key(topic) {
            self.grown.insert(topic.into(), (end, now));
        }
    }

    /// What is to be told now.
    pub(super) fn tell(&mut self, now: T) -> Vec<Tail> {
        self.grown.retain(|_, (_, at)| *at + TOLD_FOR > now);
        let tails = self.grown.iter().map(|(topic, (end, _))| Tail {
            topic: topic.clone(),
            epoch: end.epoch(),
            offset: end.offset(),
        });
        tails.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_end_of_a_log_is_told_for_six_seconds_after_it_has_grown() {
        let mut tails = Tails::new();
        tails.grow("a", Position::new(1, 1), at(0));
        tails.grow("b", Position::new(1, 1), at(0));
        tails.grow("a", Position::new(1, 2), at(3));
        assert_eq!(tails.tell(at(5)).len(), 2);
        let tail = Tail {
            topic: "a".into(),
            epoch: 1,
            offset: 2,
        };
        assert_eq!(tails.tell(at(6)), [tail]);
        assert_eq!(tails.tell(at(9)), []);
    }

    #[test]
    fn a_digest_is_bounded_and_those_in_it_go_on() {
        let mut tails = Tails::new();
        for n in 0..1000 {
            tails.grow(&n.to_string(), Position::new(1, 1), at(0));
        }
        tails.grow("0", Position::new(1, 2), at(0));
        let told = tails.tell(at(1));
        assert_eq!(told.len(), MAX_TOPICS);
        assert!(
            told.iter()
                .any(|tail| &*tail.topic == "0" && tail.offset == 2)
        );
    }
}
