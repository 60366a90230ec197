//! [`Lane`]: messages of this node on their way to the log of one topic, in order. It knows no clock: time
//! is an argument.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::log::NewEntry;
use crate::topics::Position;

/// The most entries that are appended together: an engine does nothing else meanwhile.
const BATCH: usize = 64;

/// The same in bytes; one entry may be larger.
const BATCH_BYTES: usize = 256 * 1024;

/// See the module docs.
#[derive(Debug)]
pub(super) struct Lane<T> {
    waiting: VecDeque<Leaving<T>>,
    /// There is a task that appends them.
    is_running: bool,
}

/// A message that is to be appended.
#[derive(Debug)]
pub(super) struct Leaving<T> {
    pub(super) entry: NewEntry,
    /// When it is given up.
    pub(super) deadline: T,
    pub(super) reply: Option<oneshot::Sender<Position>>,
}

impl<T: Copy + Ord> Lane<T> {
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            is_running: false,
        }
    }

    /// One more message, behind the others. Whether a task is to be started.
    pub(super) fn push(&mut self, leaving: Leaving<T>) -> bool {
        self.waiting.push_back(leaving);
        !std::mem::replace(&mut self.is_running, true)
    }

    /// The first entries, as many as may go together, and the deadline of the first. They wait on. `None`:
    /// there are none, and the task is to end.
    pub(super) fn batch(&mut self) -> Option<(Vec<NewEntry>, T)> {
        let Some(first) = self.waiting.front() else {
            self.waiting = VecDeque::new();
            self.is_running = false;
            return None;
        };
        let mut bytes = 0;
        let fits = |leaving: &&Leaving<T>| {
            let is_first = bytes == 0;
            bytes += leaving.entry.envelope.len();
            is_first || bytes <= BATCH_BYTES
        };
        let batch = self.waiting.iter().take(BATCH).take_while(fits);
        let batch = batch.map(|leaving| leaving.entry.clone());
        Some((batch.collect(), first.deadline))
    }

    /// The first message has been appended, or never will be.
    pub(super) fn pop(&mut self) -> Option<Leaving<T>> {
        self.waiting.pop_front()
    }

    /// The first message, if it is to be given up by `now`.
    pub(super) fn pop_late(&mut self, now: T) -> Option<Leaving<T>> {
        let is_late = self.waiting.front()?.deadline <= now;
        is_late.then(|| self.waiting.pop_front()).flatten()
    }

    /// The task has ended before its time: nobody appends what waits.
    pub(super) fn give_up(&mut self) -> VecDeque<Leaving<T>> {
        self.is_running = false;
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaving(id: u128, len: usize, deadline: u64) -> Leaving<u64> {
        Leaving {
            entry: NewEntry::new(id, vec![0; len].into()),
            deadline,
            reply: None,
        }
    }

    fn ids(lane: &mut Lane<u64>) -> Vec<u128> {
        let (batch, _) = lane.batch().unwrap();
        batch.iter().map(|entry| entry.id).collect()
    }

    #[test]
    fn the_first_message_needs_a_task_until_that_has_found_none() {
        let mut lane = Lane::new();
        assert!(lane.push(leaving(1, 10, 5)) && !lane.push(leaving(2, 10, 6)));
        assert_eq!(ids(&mut lane), [1, 2]);
        assert_eq!(lane.pop().unwrap().entry.id, 1);
        assert_eq!(ids(&mut lane), [2]);
        lane.pop();
        assert!(lane.batch().is_none() && lane.push(leaving(3, 10, 7)));
        assert_eq!(lane.give_up().len(), 1);
        assert!(lane.push(leaving(4, 10, 8)));
    }

    #[test]
    fn a_batch_is_bounded_by_number_and_by_size_and_has_one_whatever_its_size() {
        let mut lane = Lane::new();
        for id in 0..100 {
            lane.push(leaving(id, 10, 5));
        }
        assert!(ids(&mut lane).into_iter().eq(0..BATCH as u128));
        let mut lane = Lane::new();
        for (id, len) in [(1, 2 * BATCH_BYTES), (2, BATCH_BYTES - 1), (3, 1), (4, 1)] {
            lane.push(leaving(id, len, 5));
        }
        assert_eq!(ids(&mut lane), [1]);
        lane.pop();
        assert_eq!(ids(&mut lane), [2, 3]);
    }

    #[test]
    fn messages_are_late_from_the_first_on() {
        let mut lane = Lane::new();
        for (id, deadline) in [(1, 5), (2, 6), (3, 9)] {
            lane.push(leaving(id, 10, deadline));
        }
        assert_eq!(lane.batch().unwrap().1, 5);
        assert!(lane.pop_late(4).is_none());
        let late = std::iter::from_fn(|| lane.pop_late(6));
        assert_eq!(late.map(|late| late.entry.id).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(ids(&mut lane), [3]);
    }
}
