//! [`scatter`]: closes many connections, not all in the same moment.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

use crate::close::CloseFrame;
use crate::jitter;
use crate::spawn::spawn;
use crate::topics::receiver::Receiver;
use crate::topics::registry::Registry;

/// The clients come back over this time.
const OVER: Duration = Duration::from_secs(5);

/// Closes connections one after the other, in a task.
pub(super) fn scatter(receivers: Vec<Arc<dyn Receiver>>, frame: CloseFrame, runtime: &Handle) {
    if receivers.is_empty() {
        return;
    }
    let now = Instant::now();
    let timed = spread(receivers, || jitter::up_to(OVER));
    let closing = async move {
        for (after, receiver) in timed {
            sleep_until(now + after).await;
            receiver.close(frame.clone());
        }
    };
    spawn(
        runtime,
        format_args!("connections that topics close"),
        closing,
    );
}

/// The same with every connection that subscribes something.
pub(super) fn scatter_all(registry: &Registry, frame: CloseFrame, runtime: &Handle) {
    let rooms = registry.rooms();
    let receivers = rooms.iter().flat_map(|room| room.receivers());
    let receivers = once(receivers.collect(), |receiver| receiver.id());
    scatter(receivers, frame, runtime);
}

/// When each has its turn, in order.
fn spread<T>(all: Vec<T>, mut after: impl FnMut() -> Duration) -> Vec<(Duration, T)> {
    let mut timed: Vec<_> = all.into_iter().map(|one| (after(), one)).collect();
    timed.sort_by_key(|(after, _)| *after);
    timed
}

/// Each once: a connection is in many topics.
fn once<T>(mut all: Vec<T>, id: impl Fn(&T) -> u64) -> Vec<T> {
    all.sort_unstable_by_key(&id);
    all.dedup_by_key(|one| id(one));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_moment_of_its_own_and_the_earliest_is_first() {
        let mut moments = [4, 1, 3, 1].map(Duration::from_secs).into_iter();
        let timed = spread(vec!["a", "b", "c", "d"], || moments.next().unwrap());
        let order: Vec<_> = timed.iter().map(|(at, who)| (at.as_secs(), *who)).collect();
        assert_eq!(order, [(1, "b"), (1, "d"), (3, "c"), (4, "a")]);
    }

    #[test]
    fn a_connection_that_is_in_many_topics_is_closed_once() {
        let all = vec![(7, 'a'), (2, 'b'), (7, 'c'), (2, 'd'), (9, 'e')];
        let ids: Vec<_> = once(all, |(id, _)| *id).iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [2, 7, 9]);
    }
}
