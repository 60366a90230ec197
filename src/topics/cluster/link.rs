//! [`Link`]: what an engine gets its orders from, and where it brings what has come.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::order::Order;
use crate::topics::Position;

/// What stands behind a [`Link`].
pub(super) trait Hub: Send + Sync {
    /// The next orders, at least one.
    fn poll_orders(&self, cx: &mut Context<'_>) -> Poll<Vec<Order>>;

    /// The engine listens to a channel.
    fn listening(&self, channel: &str);

    /// An envelope has come.
    fn receive(&self, channel: &str, envelope: Bytes);

    /// An entry of a log has come.
    fn logged(&self, channel: &str, position: Position, envelope: Bytes);
}

/// The node's side of an engine: where its orders come from, and where it brings what has come. See
/// [`Backplane`](super::Backplane).
pub struct Link {
    hub: Arc<dyn Hub>,
}

impl Link {
    pub(super) fn new(hub: Arc<dyn Hub>) -> Self {
        Self { hub }
    }

    /// Waits for the next orders: at least one, at most 256 or 1 MiB of them and one more. They are
    /// carried out in this order, which matters between those of one channel.
    ///
    /// Dropping the future before it is ready loses nothing.
    pub async fn next(&mut self) -> Vec<Order> {
        poll_fn(|cx| self.hub.poll_orders(cx)).await
    }

    /// The engine listens to the channel: what is sent to it from now on will arrive. Each order to
    /// listen is confirmed by one call.
    pub fn listening(&self, channel: &str) {
        self.hub.listening(channel);
    }

    /// An envelope has come. It is delivered in this call, which never waits: the engine's socket is the
    /// queue, there is no other.
    ///
    /// What is no envelope of ours is ignored, with a line in the log now and then.
    pub fn receive(&self, channel: &str, envelope: Bytes) {
        self.hub.receive(channel, envelope);
    }

    /// The log of a channel has numbered an entry. As [`receive`](Self::receive).
    pub fn logged(&self, channel: &str, position: Position, envelope: Bytes) {
        self.hub.logged(channel, position, envelope);
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}
