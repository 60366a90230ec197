//! What a [`Connection`] and its [`Sender`] do with topics: subscribe, publish.

use std::future::Future;

use super::connection::Connection;
use super::sender::Sender;
use crate::message::Message;
use crate::topics::{Attached, Published, Subscribe, SubscribeError, Topics, TrackError};

impl Connection {
    /// Subscribes a topic: what is [published](Self::publish) to it from now on is sent to this
    /// connection, until it [unsubscribes](Self::unsubscribe) or ends.
    ///
    /// Messages go straight into the queue, in one order with what `send` puts there; no callback is
    /// called for them. A peer that reads too slowly is closed with 1013, or keeps its place in the log
    /// if the topic is retained: see [`OnFull`](crate::OnFull). Subscribing a topic again changes
    /// nothing but takes back what [`subscribe_with`](Self::subscribe_with) has set.
    ///
    /// # Errors
    ///
    /// The connection is closed, it has 128 subscriptions
    /// ([`max_subscriptions`](crate::TopicsBuilder::max_subscriptions)), or the name is longer than 256
    /// bytes.
    ///
    /// ```
    /// use tower_websocket::{Connection, Result, WebSocketHandler};
    ///
    /// #[derive(Clone)]
    /// struct Prices;
    ///
    /// impl WebSocketHandler for Prices {
    ///     async fn on_open(&mut self, conn: &mut Connection) -> Result {
    ///         conn.subscribe("prices")?;
    ///         Ok(())
    ///     }
    /// }
    /// ```
    pub fn subscribe(&self, topic: &str) -> Result<(), SubscribeError> {
        self.link.subscribe(topic, Subscribe::new()).map(drop)
    }

    /// Subscribes a topic with a policy for slow readers, or from a position on. If the topic is
    /// subscribed already, what is given here replaces what was; with a
    /// [position](Subscribe::after), what came behind that is sent, again if need be.
    ///
    /// In one process the future is ready at once, and the topic subscribed before that. If the topic is
    /// retained by a [backplane](crate::TopicsBuilder::backplane), it is subscribed when this node has its
    /// log. That takes 5 s at most: if the log is out of reach for longer, the topic is subscribed from
    /// when it is in reach, and a [position](Subscribe::after) is not
    /// [recovered](Attached::recovered).
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_with(
        &self,
        topic: &str,
        how: Subscribe,
    ) -> impl Future<Output = Result<Attached, SubscribeError>> + Send + use<> {
        self.link.subscribe_with(topic, how).finish()
    }

    /// Ends a subscription. What is in the queue already is still sent. `false`: there was none.
    pub fn unsubscribe(&self, topic: &str) -> bool {
        self.link.unsubscribe(topic)
    }

    /// Publishes a message to all who subscribe the topic but this connection, which need not subscribe
    /// it. To all of them: `conn.topics().publish(…)`.
    ///
    /// A retained topic keeps the message. A client that comes back has another connection, which gets
    /// it; so publish to all where clients recover what they missed.
    pub fn publish(&self, topic: &str, message: impl Into<Message>) -> Published {
        self.link.publish(topic, &message.into())
    }

    /// Makes the connection present in a topic as `key`, until it [leaves](Self::untrack) or ends:
    /// [`Topics::presence`] lists who is there. A user's connections share a key, such as the user's
    /// name: the user is there from the first to the last of them.
    ///
    /// `meta` is what others should know of this connection, at most 1,024 bytes in whatever form the
    /// application likes; tracking a key again replaces it. Being present and subscribing are two
    /// things: a connection may do one without the other.
    ///
    /// # Errors
    ///
    /// The connection is closed or tracked 128 times
    /// ([`max_subscriptions`](crate::TopicsBuilder::max_subscriptions)), the topic is
    /// [full](crate::TopicsBuilder::max_present), or a text is too long.
    ///
    /// ```
    /// use tower_websocket::{Connection, Result, WebSocketHandler};
    ///
    /// #[derive(Clone)]
    /// struct Chat {
    ///     user: String,
    /// }
    ///
    /// impl WebSocketHandler for Chat {
    ///     async fn on_open(&mut self, conn: &mut Connection) -> Result {
    ///         conn.subscribe("room:1")?;
    ///         conn.track("room:1", &self.user, "")?;
    ///         for present in conn.topics().presence("room:1").list() {
    ///             conn.send(format!("{} is here", present.key())).await?;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// ```
    pub fn track(&self, topic: &str, key: &str, meta: impl Into<String>) -> Result<(), TrackError> {
        self.link.track(topic, key, meta.into())
    }

    /// Ends what [`track`](Self::track) has begun. `false`: the connection was not present as that.
    pub fn untrack(&self, topic: &str, key: &str) -> bool {
        self.link.untrack(topic, key)
    }

    /// How many messages of a topic were dropped for this connection since it was subscribed, by a policy
    /// that drops.
    pub fn dropped(&self, topic: &str) -> u64 {
        self.link.dropped(topic)
    }

    /// The topics of the layer.
    pub fn topics(&self) -> &Topics {
        self.link.topics()
    }
}

impl Sender {
    /// Subscribes a topic, as [`Connection::subscribe`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn subscribe(&self, topic: &str) -> Result<(), SubscribeError> {
        self.link.subscribe(topic, Subscribe::new()).map(drop)
    }

    /// Subscribes a topic, as [`Connection::subscribe_with`].
    ///
    /// # Errors
    ///
    /// As [`Connection::subscribe`].
    pub fn subscribe_with(
        &self,
        topic: &str,
        how: Subscribe,
    ) -> impl Future<Output = Result<Attached, SubscribeError>> + Send + use<> {
        self.link.subscribe_with(topic, how).finish()
    }

    /// Ends a subscription, as [`Connection::unsubscribe`].
    pub fn unsubscribe(&self, topic: &str) -> bool {
        self.link.unsubscribe(topic)
    }

    /// Publishes to all who subscribe the topic but this connection, as [`Connection::publish`].
    pub fn publish(&self, topic: &str, message: impl Into<Message>) -> Published {
        self.link.publish(topic, &message.into())
    }

    /// Makes the connection present in a topic, as [`Connection::track`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn track(&self, topic: &str, key: &str, meta: impl Into<String>) -> Result<(), TrackError> {
        self.link.track(topic, key, meta.into())
    }

    /// Ends what [`track`](Self::track) has begun.
    pub fn untrack(&self, topic: &str, key: &str) -> bool {
        self.link.untrack(topic, key)
    }

    /// How many messages of a topic were dropped, as [`Connection::dropped`].
    pub fn dropped(&self, topic: &str) -> u64 {
        self.link.dropped(topic)
    }

    /// The topics of the layer.
    pub fn topics(&self) -> &Topics {
        self.link.topics()
    }
}
