//! [`Backplane`]: carries envelopes between the nodes of an application.

use super::engine::{EngineError, Pending};
use super::link::Link;
use super::log::Log;

/// Carries envelopes between the nodes of an application, for
/// [`TopicsBuilder::backplane`](crate::TopicsBuilder::backplane). A *node* is one [`Topics`](crate::Topics)
/// in one process.
///
/// An engine is one connection's life: [`run`](Self::run) connects, moves envelopes both ways, and
/// returns when the connection breaks. Everything else is done around it: queues, subscribing anew,
/// pauses between attempts, finding out that a connection is open and dead, and what the envelopes say.
///
/// # Contract
///
/// - An envelope that is [sent](super::Order::Send) to a channel is given, by
///   [`Link::receive`], to every node that listens to the channel at that time, the sender included if
///   it listens. It arrives once or not at all. Envelopes that arrive twice or in another order are
///   endured: they are never delivered twice.
/// - An engine that knows or fears that it has lost an envelope on the way to this node (a buffer that
///   ran over, a connection that was replaced) returns from `run`: to begin anew is how a loss is told,
///   and how logs are read on. It never drops in silence what has arrived.
/// - [`Link::listening`] is called when everything that is sent to the channel from then on will arrive,
///   and not before: logs are read behind it, and what is missed in between would be missed for good.
/// - Every call of `run` begins with nothing: the first orders are those to
///   [listen](super::Order::Listen) to every channel that this node wants.
///
/// # Example
///
/// An engine that connects a node with itself alone, and so shows all there is to do:
///
/// ```
/// use std::collections::HashSet;
/// use tower_websocket::Topics;
/// use tower_websocket::topics::{Backplane, EngineError, Link, Order, Pending};
///
/// struct Mirror;
///
/// impl Backplane for Mirror {
///     fn run<'a>(&'a self, link: &'a mut Link) -> Pending<'a, EngineError> {
///         Box::pin(async move {
///             // Here others connect; an error is returned.
///             let mut channels = HashSet::new();
///             loop {
///                 for order in link.next().await {
///                     match order {
///                         Order::Listen(channel) => {
///                             link.listening(&channel);
///                             channels.insert(channel);
///                         }
///                         Order::Leave(channel) => {
///                             channels.remove(&channel);
///                         }
///                         Order::Send { channel, envelope } => {
///                             if channels.contains(&channel) {
///                                 link.receive(&channel, envelope);
///                             }
///                         }
///                         _ => return EngineError::new("an order that this engine does not know"),
///                     }
///                 }
///             }
///         })
///     }
/// }
///
/// let topics = Topics::builder().backplane(Mirror).build();
/// # drop(topics);
/// ```
pub trait Backplane: Send + Sync + 'static {
    /// Connects, then moves envelopes both ways until the connection breaks. Returns why it did.
    ///
    /// It is called again for as long as the [`Topics`](crate::Topics) live, after a pause of 50 ms that
    /// doubles up to 5 s, less a random part. The future is dropped when the `Topics` are gone and
    /// what they have published is sent, or 1 s later; and when nothing that this node sends to itself has
    /// come back for 20 s: the connection is open and dead then. Orders that were taken from the link and not carried out are lost with it, which is as it
    /// should be.
    ///
    /// The future runs in a task of its own and may take its time; a pause between two calls of
    /// [`Link::next`] is backpressure, and what waits meanwhile is bounded.
    fn run<'a>(&'a self, link: &'a mut Link) -> Pending<'a, EngineError>;

    /// Where the messages of retained topics lie, if the engine can keep them. Default `None`: each node
    /// retains for itself what it has delivered, and its positions mean nothing to the others.
    ///
    /// It must not change while the backplane lives.
    fn log(&self) -> Option<&dyn Log> {
        None
    }
}

impl<B: Backplane + ?Sized> Backplane for Box<B> {
    fn run<'a>(&'a self, link: &'a mut Link) -> Pending<'a, EngineError> {
        (**self).run(link)
    }

    fn log(&self) -> Option<&dyn Log> {
        (**self).log()
    }
}

impl<B: Backplane + ?Sized> Backplane for std::sync::Arc<B> {
    fn run<'a>(&'a self, link: &'a mut Link) -> Pending<'a, EngineError> {
        (**self).run(link)
    }

    fn log(&self) -> Option<&dyn Log> {
        (**self).log()
    }
}
