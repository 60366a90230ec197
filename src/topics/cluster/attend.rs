//! [`attend`]: lets those who are present on other nodes join and leave here.

use std::sync::Arc;

use super::roster::Op;
use crate::topics::registry::Registry;
use crate::topics::tracking::Tracking;

/// Joins and leaves as on this node. No lock may be held.
pub(super) fn attend(registry: &Arc<Registry>, ops: Vec<Op>) {
    let tracking = Tracking(registry);
    for op in ops {
        match op {
            Op::Join {
                topic,
                alias,
                key,
                meta,
            } => {
                // As long as it is present.
                let Some(room) = registry.acquire(&topic) else {
                    continue;
                };
                // The node on which it is has made sure that there is room.
                let mut crowd = room.crowd();
                let is_new = !crowd.has(alias, &key);
                let _ = crowd.track(alias, &key, meta.into(), usize::MAX);
                drop(crowd);
                tracking.tell(&room);
                if !is_new {
                    registry.release(&room);
                }
            }
            Op::Leave {
                topic,
                alias,
                key,
                lingers,
            } => {
                let Some(room) = registry.find(&topic) else {
                    continue;
                };
                if !room.crowd().has(alias, &key) {
                    continue;
                }
                tracking.untrack(&room, alias, &key, lingers);
                registry.release(&room);
            }
        }
    }
}
