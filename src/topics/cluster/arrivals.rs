//! What the engine brings to a [`Node`]:
//!
//! ```text
//!                              ┌─ message, close ─▶ room
//! engine ─▶ envelope ─▶ echoes ┼─ changes, whole ─▶ roster ─▶ rooms
//!                              └─ digest ─▶ roster, heights, reads
//!        ─▶ entry of a log ─▶ shelf of a room
//! ```

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::time::Instant;

use super::envelope::{Envelope, MAX_ENVELOPE, What};
use super::link::Hub;
use super::node::{Node, lock, node_channel};
use super::order::Order;
use super::roster::News;
use crate::logging::{Throttle, escape};
use crate::measure;
use crate::topics::Position;
use crate::topics::registry::Registry;
use crate::topics::room::Room;

impl Hub for Node {
    fn poll_orders(&self, cx: &mut Context<'_>) -> Poll<Vec<Order>> {
        self.work.poll_orders(cx)
    }

    fn listening(&self, channel: &str) {
        let now = Instant::now();
        let risen = self.work.change(|todo| {
            if !todo.queue.wanted.confirm(channel) {
                return None;
            }
            todo.call_watch();
            if channel == self.own_channel() {
                todo.schedule.listen(now);
            }
            let is_complete = todo.queue.wanted.is_complete();
            Some(is_complete.then(|| todo.schedule.rise(now)).flatten())
        });
        let Some(risen) = risen else {
            return;
        };
        if let Some(again) = risen {
            self.roster().listen(now);
            self.rise();
            measure::backplane_up(again);
            static LINES: Throttle = Throttle::new();
            if let Some(missed) = LINES.pass() {
                tracing::info!(missed, "topics reach the other nodes");
            }
        }
        if let Some((_, room)) = find(self, channel) {
            self.reads.push(&room);
        }
    }

    fn receive(&self, channel: &str, envelope: Bytes) {
        if envelope.len() > MAX_ENVELOPE {
            return ignored(channel, "it is too large");
        }
        let Some(envelope) = Envelope::decode(&envelope) else {
            return ignored(channel, "it is none of ours");
        };
        let now = Instant::now();
        let Envelope { node, number, what } = envelope;
        if node == self.id() {
            let is_probe = matches!(what, What::Probe);
            let digest = matches!(what, What::Digest { .. }).then_some(number);
            let (lag, is_last) = self.work.change(|todo| {
                let is_last = is_probe && todo.last.take_if(|last| *last == number).is_some();
                (todo.schedule.hear(digest, now), is_last)
            });
            if is_last {
                self.work.heard.notify_waiters();
            }
            lag.into_iter().for_each(measure::backplane_lag);
            return;
        }
        if !lock(&self.echoes).is_new(node, what.is_business(), number) {
            return;
        }
        match what {
            What::Message { message, .. } => {
                if let Some((registry, room)) = find(self, channel) {
                    if room.shelf().is_none() {
                        registry.publish_here_in(&room, &message, 0);
                    }
                }
            }
            What::Close(frame) => {
                if let Some((_, room)) = find(self, channel) {
                    room.close(&frame);
                }
            }
            What::Probe => {}
            What::Changes { since, changes } => {
                let news = self.roster().changes(node, since, changes, now);
                act_on(self, node, news);
            }
            What::Digest { version, tails } => {
                let news = self.roster().digest(node, version, now);
                act_on(self, node, news);
                let registry = self.registry();
                for tail in tails {
                    let end = Position::new(tail.epoch, tail.offset);
                    self.heighten(&tail.topic, end);
                    let room = registry.as_ref().and_then(|all| all.find(&tail.topic));
                    if let Some(room) = room.filter(|room| room.is_behind(end)) {
                        self.reads.push(&room);
                    }
                }
            }
            What::Ask => {
                let (version, whole) = {
                    let roster = self.roster();
                    (roster.version(), roster.whole())
                };
                let parts = u32::try_from(whole.len()).unwrap_or(u32::MAX);
                let whole = (0..).zip(whole).map(|(part, present)| What::Whole {
                    version,
                    part,
                    parts,
                    present,
                });
                self.tell(&node_channel(node), whole);
            }
            What::Whole {
                version,
                part,
                parts,
                present,
            } => {
                let part = (part, parts);
                let news = self.roster().part(node, version, part, present, now);
                act_on(self, node, news);
            }
        }
    }

    fn logged(&self, channel: &str, position: Position, envelope: Bytes) {
        let Some((registry, room)) = find(self, channel) else {
            return;
        };
        let Some(shelf) = room.shelf() else {
            return ignored(channel, "the topic is not retained here");
        };
        let stamp = registry.rules.stamp.as_deref();
        if shelf.arrived(&room, self.id(), stamp, position, envelope) {
            self.reads.push(&room);
        }
    }
}

/// A topic of this process by its channel.
fn find(node: &Node, channel: &str) -> Option<(Arc<Registry>, Arc<Room>)> {
    let registry = node.registry()?;
    let room = registry.find(channel.strip_prefix("t:")?)?;
    Some((registry, room))
}

/// News of who is present on another node.
fn act_on(node: &Node, of: u64, news: News) {
    node.attend(news.ops);
    if news.ask {
        node.tell(&node_channel(of), [What::Ask]);
    }
}

fn ignored(channel: &str, why: &str) {
    static LINES: Throttle = Throttle::new();
    if let Some(missed) = LINES.pass() {
        let channel = escape(channel.as_bytes(), 100);
        tracing::warn!(
            missed,
            "an envelope in the channel {channel} is ignored: {why}"
        );
    }
}
