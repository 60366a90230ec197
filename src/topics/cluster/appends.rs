//! [`append`]: has the log number a message, behind those of the same topic that this node has given it.
//! Those that wait meanwhile go together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::engine::EngineError;
use super::envelope::{Envelope, HEAD, MAX_ENVELOPE, What};
use super::lane::Leaving;
use super::link::Hub;
use super::log::{NewEntries, NewEntry};
use super::node::{Node, channel};
use super::shelf::Shelf;
use crate::jitter;
use crate::logging::{Throttle, escaped};
use crate::message::Message;
use crate::spawn::spawn;
use crate::topics::Position;
use crate::topics::registry::Registry;
use crate::topics::room::Room;

/// A message is given up if it is not appended within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// An engine that does not answer an attempt within this time is asked again.
const ATTEMPT: Duration = Duration::from_secs(3);

/// Between two attempts, at first and at most.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(500);

/// How long messages wait for the log to be listened to, so that who subscribes and then publishes gets
/// what it publishes.
const LISTEN: Duration = Duration::from_secs(1);

/// Has a message appended. `reply` gets its position, or is dropped. `false`: too much waits already, or it
/// is too large, or there is no runtime.
pub(crate) fn append(
    registry: &Arc<Registry>,
    node: &Arc<Node>,
    room: &Arc<Room>,
    message: &Message,
    from: u64,
    reply: Option<oneshot::Sender<Position>>,
) -> bool {
    let (Some(shelf), Some(runtime)) = (room.shelf(), node.tasks.runtime()) else {
        return false;
    };
    let bytes = message.len() + HEAD;
    if bytes > MAX_ENVELOPE || !registry.appends.add(bytes, registry.rules.outbox) {
        node.lose();
        return false;
    }
    let message = message.clone();
    let envelope = Envelope {
        node: node.id(),
        number: 0,
        what: What::Message { from, message },
    };
    let is_first = shelf.lane().push(Leaving {
        entry: NewEntry::of(envelope.encode()),
        deadline: Instant::now() + PATIENCE,
        reply,
    });
    if is_first {
        Registry::acquire_again(room);
        let appender = Appender {
            registry: registry.clone(),
            node: node.clone(),
            room: room.clone(),
            is_done: false,
        };
        spawn(&runtime, format_args!("appends of a topic"), appender.run());
    }
    true
}

/// The task that appends the messages of one topic. Dropped with its runtime, it gives them up.
struct Appender {
    registry: Arc<Registry>,
    node: Arc<Node>,
    room: Arc<Room>,
    is_done: bool,
}

impl Appender {
    async fn run(mut self) {
        let room = self.room.clone();
        let Some(shelf) = room.shelf() else {
            return;
        };
        if shelf.is_wanted() && self.room.is_stale() {
            let wait = shelf.wait(&self.room, None, || ());
            let _ = timeout(LISTEN, wait).await;
        }
        let mut pause = SHORTEST;
        loop {
            let next = shelf.lane().batch();
            let Some((entries, deadline)) = next else {
                // Whoever comes next starts another task.
                self.is_done = true;
                return;
            };
            let until = deadline.min(Instant::now() + ATTEMPT);
            match self.append(&entries, until).await {
                Ok(positions) => {
                    pause = SHORTEST;
                    self.appended(shelf, positions);
                }
                Err(error) => {
                    self.node.doubted.notify_one();
                    let refused = error.is_refused().then(|| shelf.lane().pop()).flatten();
                    let soon = Instant::now() + pause;
                    let late = std::iter::from_fn(|| shelf.lane().pop_late(soon));
                    let given_up: Vec<_> = refused.into_iter().chain(late).collect();
                    if given_up.is_empty() {
                        sleep(pause - jitter::up_to(pause / 2)).await;
                        pause = (pause * 2).min(LONGEST);
                    } else {
                        self.give_up(given_up);
                        static LINES: Throttle = Throttle::new();
                        if let Some(missed) = LINES.pass() {
                            let error = escaped(error);
                            tracing::warn!(missed, "a message was not appended: {error}");
                        }
                    }
                }
            }
        }
    }

    /// The first that wait have these positions.
    fn appended(&self, shelf: &Shelf, positions: Vec<Position>) {
        let channel = channel(&self.room.name);
        if let Some(last) = positions.last() {
            self.node.grown(&self.room.name, *last);
        }
        for position in positions {
            let Some(Leaving { entry, reply, .. }) = shelf.lane().pop() else {
                return;
            };
            self.registry.appends.remove(entry.envelope.len());
            // The announcement may be on its way still, or lost.
            self.node.logged(&channel, position, entry.envelope);
            if let Some(reply) = reply {
                let _ = reply.send(position);
            }
        }
    }

    /// Who waits for them learns it by their being dropped.
    fn give_up(&self, leaving: impl IntoIterator<Item = Leaving<Instant>>) {
        for Leaving { entry, .. } in leaving {
            self.registry.appends.remove(entry.envelope.len());
            self.node.lose();
        }
    }

    /// How far this node knows the log: by its subscribers, or by hearsay.
    fn seen(&self) -> Option<Position> {
        let seen = self.room.shelf()?.seen(&self.room);
        let height = self.node.height(&self.room.name);
        match (seen, height) {
            (Some(seen), Some(height)) if seen.epoch == height.epoch => {
                Some(if seen.offset < height.offset {
                    height
                } else {
                    seen
                })
            }
            (Some(seen), Some(height)) => Some(if self.room.is_stale() { height } else { seen }),
            (seen, height) => seen.or(height),
        }
    }

    /// One attempt, for as long as that. The positions of the first of them.
    async fn append(
        &self,
        entries: &[NewEntry],
        until: Instant,
    ) -> Result<Vec<Position>, EngineError> {
        let (Some(log), Some(retain)) = (self.node.backplane().log(), self.room.retain()) else {
            return Err(EngineError::new("there is no log"));
        };
        let channel = channel(&self.room.name);
        let attempt = log.append(&channel, NewEntries::new(self.seen(), retain, entries));
        let late = |_| EngineError::new("the log does not answer");
        let mut positions = timeout_at(until, attempt).await.map_err(late)??;
        positions.truncate(entries.len());
        if positions.is_empty() {
            return Err(EngineError::new("the log has appended nothing"));
        }
        Ok(positions)
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        if let Some(shelf) = self.room.shelf().filter(|_| !self.is_done) {
            let given_up = shelf.lane().give_up();
            self.give_up(given_up);
        }
        self.registry.release(&self.room);
    }
}
