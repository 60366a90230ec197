//! [`Cluster`]: what topics ask of this process as one among others.
//!
//! A trait, so that only [`connect`] brings its code into a program: without a backplane nothing of it is
//! linked, which is 0.35 MiB.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::appends;
use super::backplane::Backplane;
use super::flush;
use super::life;
use super::node::Node;
use super::status::Status;
use crate::close::CloseFrame;
use crate::message::Message;
use crate::topics::Position;
use crate::topics::registry::{Registry, Rules};
use crate::topics::room::Room;

/// Makes the cluster of a registry.
pub(in crate::topics) type Connect =
    Box<dyn FnOnce(&Rules, Weak<Registry>) -> Box<dyn Cluster> + Send + Sync>;

/// By this engine.
pub(in crate::topics) fn connect(backplane: impl Backplane) -> Connect {
    Box::new(|rules, registry| {
        let backplane = Box::new(backplane);
        let (outbox, probe) = (rules.outbox, rules.probe);
        let node = Node::new(backplane, outbox, probe, rules.isolated_after, registry);
        Box::new(node)
    })
}

/// See the module docs.
pub(in crate::topics) trait Cluster: Send + Sync {
    /// Starts the tasks unless they run.
    fn start(&self);

    /// The `Topics` are no more: the tasks end when what waits is sent, or soon.
    fn leave(&self);

    /// Whether the messages of retained topics lie in a log of the engine.
    fn has_log(&self) -> bool;

    /// Whether it is this process that writes into the log of the topic what all know.
    fn leads(&self, topic: &str) -> bool;

    fn status(&self) -> Status;

    /// Is ready when the status is up, or no longer up, other than now.
    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Waits until what waits is sent and appended. Whether nothing was lost.
    fn flush<'a>(
        &'a self,
        registry: &'a Registry,
        deadline: Instant,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

    /// Sends a message to those who subscribe the topic elsewhere. `false`: it is too large.
    fn publish(&self, topic: &str, message: &Message, from: u64) -> bool;

    /// Has a message appended. `reply` gets its position, or is dropped. `false`: it is not.
    fn append(
        &self,
        registry: &Arc<Registry>,
        room: &Arc<Room>,
        message: &Message,
        from: u64,
        reply: Option<oneshot::Sender<Position>>,
    ) -> bool;

    /// Closes those who subscribe the topic elsewhere.
    fn close(&self, topic: &str, frame: CloseFrame);

    /// There is one more subscriber of the topic.
    fn want(&self, room: &Arc<Room>);

    /// There is one less.
    fn unwant(&self, room: &Room);

    /// The log of the topic is to be read.
    fn read(&self, room: &Arc<Room>);

    /// A connection is present.
    fn present(&self, topic: &str, connection: u64, key: &str, meta: &str);

    /// It is no longer.
    fn absent(&self, topic: &str, connection: u64, key: &str, lingers: bool);
}

impl Cluster for Arc<Node> {
    fn start(&self) {
        life::start(self);
    }

    fn leave(&self) {
        Node::leave(self);
    }

    fn has_log(&self) -> bool {
        Node::has_log(self)
    }

    fn leads(&self, topic: &str) -> bool {
        Node::leads(self, topic)
    }

    fn status(&self) -> Status {
        Node::status(self)
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(Node::changed(self))
    }

    fn flush<'a>(
        &'a self,
        registry: &'a Registry,
        deadline: Instant,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(flush::flush(self, &registry.appends, deadline))
    }

    fn publish(&self, topic: &str, message: &Message, from: u64) -> bool {
        Node::publish(self, topic, message, from)
    }

    fn append(
        &self,
        registry: &Arc<Registry>,
        room: &Arc<Room>,
        message: &Message,
        from: u64,
        reply: Option<oneshot::Sender<Position>>,
    ) -> bool {
        appends::append(registry, self, room, message, from, reply)
    }

    fn close(&self, topic: &str, frame: CloseFrame) {
        Node::close(self, topic, frame);
    }

    fn want(&self, room: &Arc<Room>) {
        Node::want(self, room);
    }

    fn unwant(&self, room: &Room) {
        Node::unwant(self, room);
    }

    fn read(&self, room: &Arc<Room>) {
        self.reads.push(room);
    }

    fn present(&self, topic: &str, connection: u64, key: &str, meta: &str) {
        Node::present(self, topic, connection, key, meta);
    }

    fn absent(&self, topic: &str, connection: u64, key: &str, lingers: bool) {
        Node::absent(self, topic, connection, key, lingers);
    }
}
