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
    let timed = receivers
        .into_iter()
        .map(|receiver| (now + jitter::up_to(OVER), receiver));
    let mut timed: Vec<_> = timed.collect();
    timed.sort_by_key(|(at, _)| *at);
    let closing = async move {
        for (at, receiver) in timed {
            sleep_until(at).await;
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
    let mut receivers: Vec<_> = rooms.iter().flat_map(|room| room.receivers()).collect();
    // A connection is in many topics.
    receivers.sort_unstable_by_key(|receiver| receiver.id());
    receivers.dedup_by_key(|receiver| receiver.id());
    scatter(receivers, frame, runtime);
}
