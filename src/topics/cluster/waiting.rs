//! [`Waiting`]: who is about to subscribe a retained topic, and waits until this node has its log.

use std::sync::Arc;

use super::node::Node;
use crate::topics::Position;
use crate::topics::registry::Registry;
use crate::topics::room::Room;

/// See the module docs. While it lives, the topic is listened to.
pub(crate) struct Waiting {
    registry: Arc<Registry>,
    node: Arc<Node>,
    room: Arc<Room>,
}

impl Waiting {
    /// The caller has acquired the topic, which is released with this.
    pub(in crate::topics) fn new(
        registry: Arc<Registry>,
        node: Arc<Node>,
        room: Arc<Room>,
    ) -> Self {
        node.want(&room);
        Self {
            registry,
            node,
            room,
        }
    }

    /// Waits until this node can answer who has read up to `after`, at most for 5 s. Whether it can.
    pub(crate) async fn wait(&self, after: Option<Position>) -> bool {
        let Some(shelf) = self.room.shelf() else {
            return true;
        };
        let read = || self.node.reads.push(&self.room);
        shelf.wait(&self.room, after, read).await
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.node.unwant(&self.room);
        self.registry.release(&self.room);
    }
}
