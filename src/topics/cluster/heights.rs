//! [`Heights`]: how far the logs of topics go, by what this node has appended and others have told.

use std::collections::HashMap;

use crate::topics::Position;

/// Topics of which a node knows that without subscribers, in each of two generations: some MiB with the
/// longest names.
const MAX_TOPICS: usize = 8192;

/// See the module docs.
///
/// What is forgotten costs a check and no message: a node that appends says how far it knows the log, so
/// that one that came back shorter starts a new epoch. Those who subscribe the topic know its log by
/// themselves, and so does every other node that was told of it. The topics that have not grown for
/// longest are forgotten, many at a time: of those, a client is the least likely to be connected that has
/// seen what is lost.
#[derive(Debug, Default)]
pub(super) struct Heights {
    recent: HashMap<Box<str>, Position>,
    /// Those of the time when there was no more room among the recent ones.
    older: HashMap<Box<str>, Position>,
}

impl Heights {
    /// A log goes that far, or further.
    pub(super) fn rise(&mut self, topic: &str, position: Position) {
        if let Some(height) = self.recent.get_mut(topic) {
            *height = higher(*height, position);
            return;
        }
        let height = self.older.remove(topic);
        let height = height.map_or(position, |height| higher(height, position));
        if self.recent.len() >= MAX_TOPICS {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(topic.into(), height);
    }

    /// How far a log goes, if that is known.
    pub(super) fn get(&self, topic: &str) -> Option<Position> {
        let recent = self.recent.get(topic);
        recent.or_else(|| self.older.get(topic)).copied()
    }
}

/// What is known after `news`, which may be late. Another epoch is not: it has replaced the one before.
fn higher(known: Position, news: Position) -> Position {
    let is_late = known.epoch() == news.epoch() && known.offset() >= news.offset();
    if is_late { known } else { news }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_height_rises_within_an_epoch_and_follows_the_log_into_another() {
        let mut heights = Heights::default();
        assert_eq!(heights.get("a"), None);
        for (news, known) in [
            ((5, 7), (5, 7)),
            ((5, 6), (5, 7)),
            ((5, 8), (5, 8)),
            ((3, 1), (3, 1)),
        ] {
            heights.rise("a", Position::new(news.0, news.1));
            assert_eq!(heights.get("a"), Some(Position::new(known.0, known.1)));
        }
        assert_eq!(heights.get("b"), None);
    }

    #[test]
    fn what_has_not_grown_for_longest_is_forgotten_and_what_grows_is_not() {
        let mut heights = Heights::default();
        heights.rise("quiet", Position::new(1, 1));
        for n in 1..4 * MAX_TOPICS as u64 {
            heights.rise(&n.to_string(), Position::new(1, n));
            if n % 1000 == 0 {
                heights.rise("busy", Position::new(1, n));
                // Late, and the topic lives all the same.
                heights.rise("idle", Position::new(1, 1));
            }
            let count = heights.recent.len() + heights.older.len();
            assert!(count <= 2 * MAX_TOPICS, "{count}");
            let latest = Position::new(1, n);
            assert_eq!(heights.get(&n.to_string()), Some(latest));
        }
        assert_eq!(heights.get("quiet"), None);
        assert_eq!(heights.get("busy"), Some(Position::new(1, 32_000)));
        assert_eq!(heights.get("idle"), Some(Position::new(1, 1)));
    }
}
