//! [`Tracking`]: lets connections join and leave the presence of topics, and tells of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

use super::calls::contained;
use super::presence::{Leaving, Looked, MAX_KEY, MAX_META, TrackError};
use super::registry::Registry;
use super::room::Room;
use crate::spawn::spawn;

/// See the module docs.
pub(super) struct Tracking<'a>(pub(super) &'a Arc<Registry>);

impl Tracking<'_> {
    /// The connection is there. The caller holds the topic, and calls [`tell`](Self::tell) when it holds
    /// no lock.
    pub(super) fn track(
        &self,
        room: &Room,
        connection: u64,
        key: &str,
        meta: String,
    ) -> Result<(), TrackError> {
        for (len, most) in [(key.len(), MAX_KEY), (meta.len(), MAX_META)] {
            if len > most {
                return Err(TrackError::TooLong(len));
            }
        }
        let most = self.0.rules.max_present;
        room.crowd().track(connection, key, meta, most)
    }

    /// The connection is gone. The caller holds the topic, and no lock.
    pub(super) fn untrack(&self, room: &Arc<Room>, connection: u64, key: &str, can_linger: bool) {
        let (now, linger) = (Instant::now(), self.0.rules.linger);
        // Without a runtime there are no timers.
        let can_linger = can_linger && !linger.is_zero();
        let runtime = Handle::try_current().ok().filter(|_| can_linger);
        let leaving = room
            .crowd()
            .untrack(connection, key, now, runtime.is_some());
        if let (Leaving::Time, Some(runtime)) = (leaving, runtime) {
            Registry::acquire_again(room);
            self.linger(room.clone(), key.into(), linger, &runtime);
        }
        self.tell(room);
    }

    /// Tells of what has changed, in order. No lock may be held.
    pub(super) fn tell(&self, room: &Arc<Room>) {
        let mut is_first = true;
        loop {
            let (change, readers) = {
                let mut crowd = room.crowd();
                let Some(change) = crowd.next_untold(is_first) else {
                    return;
                };
                (change, crowd.readers())
            };
            is_first = false;
            if let Some(announce) = &self.0.rules.announce {
                let message = contained("announce", || announce(&room.name, &change));
                if let Some(message) = message.flatten() {
                    self.0.announce_in(room, &message);
                }
            }
            if let Some(readers) = readers {
                // An error says that nobody reads.
                let _ = readers.send(change);
            }
        }
    }

    fn linger(&self, room: Arc<Room>, key: Box<str>, linger: Duration, runtime: &Handle) {
        let mut lingering = self.0.lingering();
        lingering
            .keys
            .push_back((Instant::now() + linger, room, key));
        if !std::mem::replace(&mut lingering.running, true) {
            drop(lingering);
            let waiting = Waiting(self.0.clone()).run();
            spawn(runtime, format_args!("presence of topics"), waiting);
        }
    }
}

/// The task that waits. Dropped with its runtime, it leaves the rest to the next.
struct Waiting(Arc<Registry>);

impl Waiting {
    async fn run(self) {
        let registry = &self.0;
        let linger = registry.rules.linger;
        loop {
            let deadline = {
                let mut lingering = registry.lingering();
                let Some((deadline, ..)) = lingering.keys.front() else {
                    lingering.keys = VecDeque::new();
                    lingering.running = false;
                    return;
                };
                *deadline
            };
            sleep_until(deadline).await;
            let Some((_, room, key)) = registry.lingering().keys.pop_front() else {
                continue;
            };
            let now = Instant::now();
            let looked = room.crowd().look(&key, now, linger);
            match looked {
                Looked::Done => {
                    Tracking(registry).tell(&room);
                    registry.release(&room);
                }
                Looked::Again(rest) => {
                    let keys = &mut registry.lingering().keys;
                    let deadline = now + rest;
                    let at = keys.partition_point(|(other, ..)| *other <= deadline);
                    keys.insert(at, (deadline, room, key));
                }
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.lingering().running = false;
    }
}
