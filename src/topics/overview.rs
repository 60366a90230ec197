//! [`TopicsOverview`]: how many topics there are, and which are the largest.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::registry::{Registry, SHARDS};

/// What there is of topics, from [`Topics::overview`](crate::Topics::overview).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TopicsOverview {
    /// How many there are: those that somebody subscribes, holds, or is present in, and those that are
    /// retained.
    pub topics: usize,
    /// Subscriptions of connections of this process, of all topics together.
    pub subscriptions: usize,
    /// Those with the most subscribers, the largest first.
    pub largest: Vec<TopicSize>,
}

/// One topic of a [`TopicsOverview`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TopicSize {
    /// Its name. Where clients choose names, escape it.
    pub name: String,
    /// How many connections of this process subscribe it.
    pub subscribers: usize,
}

/// Counts a shard at a time, so that a million topics hold nobody up.
pub(crate) struct Survey<'a> {
    registry: &'a Registry,
    most: usize,
    shard: usize,
    overview: TopicsOverview,
    /// The smallest first.
    largest: BinaryHeap<Reverse<(usize, Reverse<String>)>>,
}

impl<'a> Survey<'a> {
    pub(super) fn new(registry: &'a Registry, most: usize) -> Self {
        Self {
            registry,
            most,
            shard: 0,
            overview: TopicsOverview::default(),
            largest: BinaryHeap::new(),
        }
    }

    /// Counts the next shard. `false`: that was the last.
    pub(crate) fn go_on(&mut self) -> bool {
        let Self {
            most,
            overview,
            largest,
            ..
        } = self;
        self.registry.each(self.shard, |name, subscribers| {
            overview.topics += 1;
            overview.subscriptions += subscribers;
            let is_larger =
                |Reverse((least, Reverse(last))): &Reverse<(usize, Reverse<String>)>| {
                    (subscribers, Reverse(name)) > (*least, Reverse(last.as_str()))
                };
            if largest.len() < *most || largest.peek().is_some_and(is_larger) {
                largest.push(Reverse((subscribers, Reverse(name.to_owned()))));
                if largest.len() > *most {
                    largest.pop();
                }
            }
        });
        self.shard += 1;
        self.shard < SHARDS
    }

    pub(crate) fn end(mut self) -> TopicsOverview {
        let sorted = self.largest.into_sorted_vec().into_iter();
        let sizes =
            sorted.map(|Reverse((subscribers, Reverse(name)))| TopicSize { name, subscribers });
        self.overview.largest = sizes.collect();
        self.overview
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use crate::Topics;

    #[test]
    fn the_largest_come_first_and_no_more_than_asked_for() {
        let topics = Topics::new();
        let held: Vec<_> = (0..40).map(|n| topics.topic(&format!("t{n:02}"))).collect();
        let overview = topics.overview(3);
        assert_eq!((overview.topics, overview.subscriptions), (40, 0));
        let names: Vec<_> = overview.largest.iter().map(|one| &*one.name).collect();
        // Equal ones by name.
        assert_eq!(names, ["t00", "t01", "t02"]);
        assert_eq!(topics.overview(0).largest, []);
        drop(held);
        assert_eq!(topics.overview(3), super::TopicsOverview::default());
    }
}
