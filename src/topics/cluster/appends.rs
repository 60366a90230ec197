//! [`append`]: has the log number a message, behind those of the same topic that this node has given it.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::engine::EngineError;
use super::envelope::{Envelope, HEAD, What};
use super::link::Hub;
use super::log::NewEntry;
use super::node::{Node, channel};
use super::outbox::{Limits, MAX_BYTES};
use super::shelf::Leaving;
use crate::jitter;
use crate::logging::{Throttle, escaped};
use crate::message::Message;
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

/// What waits to be appended, in all topics: no more than in the outbox.
#[derive(Debug, Default)]
pub(crate) struct Load {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl Load {
    fn add(&self, bytes: usize, limits: Limits) -> bool {
        let messages = self.messages.fetch_add(1, Ordering::Relaxed);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = messages < limits.messages && before + bytes <= limits.bytes;
        if !fits {
            self.remove(bytes);
        }
        fits
    }

    fn remove(&self, bytes: usize) {
        self.messages.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

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
    let (Some(shelf), Some(runtime)) = (room.shelf(), node.runtime()) else {
        return false;
    };
    let bytes = message.len() + HEAD;
    if bytes > MAX_BYTES || !registry.appends.add(bytes, registry.rules.outbox) {
        node.lose();
        return false;
    }
    let message = message.clone();
    let envelope = Envelope {
        node: node.id(),
        number: 0,
        what: What::Message { from, message },
    };
    let random = RandomState::new();
    let id = u128::from(random.hash_one(1)) << 64 | u128::from(random.hash_one(2));
    let leaving = Leaving {
        id,
        envelope: envelope.encode(),
        deadline: Instant::now() + PATIENCE,
        reply,
    };
    let is_first = {
        let mut lane = shelf.lane();
        lane.waiting.push_back(leaving);
        !std::mem::replace(&mut lane.is_running, true)
    };
    if is_first {
        Registry::acquire_again(room);
        let lane = Lane {
            registry: registry.clone(),
            node: node.clone(),
            room: room.clone(),
            is_done: false,
        };
        runtime.spawn(lane.run());
    }
    true
}

/// The task that appends the messages of one topic. Dropped with its runtime, it gives them up.
struct Lane {
    registry: Arc<Registry>,
    node: Arc<Node>,
    room: Arc<Room>,
    is_done: bool,
}

impl Lane {
    async fn run(mut self) {
        let room = self.room.clone();
        let Some(shelf) = room.shelf() else {
            return;
        };
        if shelf.is_wanted() && self.room.is_stale() {
            let wait = shelf.wait(&self.room, None, || ());
            let _ = timeout(LISTEN, wait).await;
        }
        loop {
            let (id, envelope, deadline) = {
                let mut lane = shelf.lane();
                let Some(next) = lane.waiting.front() else {
                    // Whoever comes next starts another task.
                    lane.is_running = false;
                    self.is_done = true;
                    return;
                };
                (next.id, next.envelope.clone(), next.deadline)
            };
            let appended = self.append(id, &envelope, deadline).await;
            let next = shelf.lane().waiting.pop_front();
            self.registry.appends.remove(envelope.len());
            match appended {
                Ok(position) => {
                    self.node.grown(&self.room.name, position);
                    // The announcement may be on its way still, or lost.
                    self.node
                        .logged(&channel(&self.room.name), position, envelope);
                    if let Some(reply) = next.and_then(|next| next.reply) {
                        let _ = reply.send(position);
                    }
                }
                Err(error) => {
                    self.node.lose();
                    static LINES: Throttle = Throttle::new();
                    if let Some(missed) = LINES.pass() {
                        let error = escaped(error);
                        tracing::warn!(missed, "a message was not appended: {error}");
                    }
                }
            }
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

    /// Tries until the deadline.
    async fn append(
        &self,
        id: u128,
        envelope: &Bytes,
        deadline: Instant,
    ) -> Result<Position, EngineError> {
        let late = |_| EngineError::new("the log does not answer");
        let (Some(log), Some(retain)) = (self.node.backplane().log(), self.room.retain()) else {
            return Err(EngineError::new("there is no log"));
        };
        let channel = channel(&self.room.name);
        let mut pause = SHORTEST;
        loop {
            let entry = NewEntry {
                id,
                seen: self.seen(),
                retain,
                envelope,
            };
            let until = deadline.min(Instant::now() + ATTEMPT);
            let attempt = timeout_at(until, log.append(&channel, entry)).await;
            let error = match attempt.map_err(late) {
                Ok(Ok(position)) => return Ok(position),
                Ok(Err(error)) | Err(error) => error,
            };
            if error.is_refused() || Instant::now() + pause >= deadline {
                return Err(error);
            }
            sleep(pause - jitter::up_to(pause / 2)).await;
            pause = (pause * 2).min(LONGEST);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(shelf) = self.room.shelf().filter(|_| !self.is_done) {
            let given_up = {
                let mut lane = shelf.lane();
                lane.is_running = false;
                std::mem::take(&mut lane.waiting)
            };
            for leaving in given_up {
                self.registry.appends.remove(leaving.envelope.len());
                self.node.lose();
            }
        }
        self.registry.release(&self.room);
    }
}
