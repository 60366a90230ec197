//! [`Tails`]: the ends of logs that this node has let grow lately, as its digests tell them: who has missed
//! the announcement of the last entry learns of it there.

use std::collections::{HashMap, VecDeque};

use super::envelope::Tail;
use crate::topics::Position;

/// In how many digests the end of a log is told after it has grown: two of them may be lost.
const TIMES: u8 = 3;

/// Logs whose ends are told in one digest, which is then at most 72 KiB. Those beyond have their turn in the
/// next.
const AT_ONCE: usize = 256;

/// Logs whose ends wait for their turns: about a MiB, and every one of them has its first turn within 32 s. Of
/// those beyond, the next entry tells.
const MAX_TOPICS: usize = 16 * AT_ONCE;

/// See the module docs.
#[derive(Debug, Default)]
pub(super) struct Tails {
    /// In how many digests each is still to be told.
    grown: HashMap<Box<str>, (Position, u8)>,
    /// All of them, each once, from the one whose turn is next.
    turns: VecDeque<Box<str>>,
}

impl Tails {
    /// A log has grown.
    pub(super) fn grow(&mut self, topic: &str, end: Position) {
        if let Some(told) = self.grown.get_mut(topic) {
            *told = (end, TIMES);
        } else if self.grown.len() < MAX_TOPICS {
            self.grown.insert(topic.into(), (end, TIMES));
            self.turns.push_back(topic.into());
        }
    }

    /// What the next digest tells.
    pub(super) fn tell(&mut self) -> Vec<Tail> {
        let count = self.turns.len().min(AT_ONCE);
        let mut tails = Vec::with_capacity(count);
        for topic in self.turns.drain(..count).collect::<Vec<_>>() {
            let Some((end, times)) = self.grown.get_mut(&topic) else {
                continue;
            };
            tails.push(Tail {
                topic: topic.clone(),
                epoch: end.epoch(),
                offset: end.offset(),
            });
            *times -= 1;
            if *times > 0 {
                self.turns.push_back(topic);
            } else {
                self.grown.remove(&topic);
            }
        }
        if self.turns.is_empty() {
            // What was once much must not stay.
            *self = Self::default();
        }
        tails
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn tail(topic: &str, offset: u64) -> Tail {
        Tail {
            topic: topic.into(),
            epoch: 1,
            offset,
        }
    }

    #[test]
    fn the_end_of_a_log_is_told_in_three_digests_after_it_has_grown() {
        let mut tails = Tails::default();
        tails.grow("a", Position::new(1, 1));
        assert_eq!(tails.tell(), [tail("a", 1)]);
        tails.grow("b", Position::new(1, 1));
        assert_eq!(tails.tell(), [tail("a", 1), tail("b", 1)]);
        tails.grow("a", Position::new(1, 2));
        for _ in 0..2 {
            let told = tails.tell();
            assert!(told.len() == 2 && told.contains(&tail("a", 2)), "{told:?}");
        }
        assert_eq!(tails.tell(), [tail("a", 2)]);
        assert_eq!(tails.tell(), []);
    }

    #[test]
    fn a_digest_is_bounded_and_every_topic_has_its_turns_one_after_the_other() {
        let mut tails = Tails::default();
        for n in 0..1000 {
            tails.grow(&n.to_string(), Position::new(1, 1));
        }
        let mut counts = HashMap::<Box<str>, u32>::new();
        for digest in 1.. {
            // One is told no more often because it grows all the time.
            tails.grow("0", Position::new(1, digest));
            let told = tails.tell();
            assert!(told.len() <= AT_ONCE);
            for tail in &told {
                *counts.entry(tail.topic.clone()).or_default() += 1;
            }
            if digest == 4 {
                assert_eq!(counts.len(), 1000);
            }
            if tails.grown.len() == 1 {
                break;
            }
        }
        assert!(counts.remove("0").is_some_and(|count| count <= 4));
        assert!(counts.values().all(|count| *count == u32::from(TIMES)));
    }

    #[test]
    fn what_waits_for_its_turn_is_bounded_and_nothing_stays() {
        let mut tails = Tails::default();
        for n in 0..3 * MAX_TOPICS {
            tails.grow(&n.to_string(), Position::new(1, 1));
        }
        assert_eq!(
            (tails.grown.len(), tails.turns.len()),
            (MAX_TOPICS, MAX_TOPICS)
        );
        let mut told = HashSet::new();
        let digests = MAX_TOPICS / AT_ONCE;
        for _ in 0..digests {
            told.extend(tails.tell().into_iter().map(|tail| tail.topic));
        }
        assert_eq!(told.len(), MAX_TOPICS);
        for _ in 0..digests * usize::from(TIMES - 1) {
            assert_eq!(tails.tell().len(), AT_ONCE);
        }
        assert!(tails.tell().is_empty() && tails.turns.capacity() == 0);
    }
}
