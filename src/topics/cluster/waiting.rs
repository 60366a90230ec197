//! [`Waiting`]: who is about to subscribe a retained topic, and waits until this node has its log.

use std::sync::Arc;

use crate::topics::Position;
use crate::topics::registry::Registry;
use crate::topics::room::Room;

/// See the module docs. While it lives, the topic is listened to.
pub(crate) struct Waiting {
    registry: Arc<Registry>,
    room: Arc<Room>,
}

impl Waiting {
    /// The caller has acquired the topic, which is released with this.
    pub(in crate::topics) fn new(registry: Arc<Registry>, room: Arc<Room>) -> Self {
        registry.joined(&room);
        Self { registry, room }
    }

    /// Waits until this node can answer who has read up to `after`, at most for 5 s. Whether it can.
    pub(crate) async fn wait(&self, after: Option<Position>) -> bool {
        let Some(shelf) = self.room.shelf() else {
            return true;
        };
        let read = || self.registry.read(&self.room);
        shelf.wait(&self.room, after, read).await
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.registry.left(&self.room);
        self.registry.release(&self.room);
    }
}
