//! [`Topics`]: publishes to connections by the name of what they subscribe.

use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;

use super::calls::assert_outside;
use super::cluster::{Backplane, Status, connect};
use super::log::Retain;
use super::overview::{Survey, TopicsOverview};
use super::position::Position;
use super::presence::{PresenceChange, Present};
use super::published::{AppendError, Published};
use super::registry::{Appending, Registry, Rules};
use super::room::Room;
use crate::close::CloseCode;
use crate::error::CloseError;
use crate::message::Message;

/// Behind which times may not be told from never: a later moment may not exist.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// A busy node, or a busy engine, is not taken for dead.
const SHORTEST_PROBE: Duration = Duration::from_millis(100);

/// What hangs for longer is found by nobody else either.
const LONGEST_PROBE: Duration = Duration::from_secs(3600);

/// One message to many: connections subscribe topics, and whatever is published to a topic goes to all
/// who subscribe it.
///
/// A topic is a name: a room, a document, a price. It exists while somebody subscribes it or holds a
/// [`Topic`]; nobody declares it. A user with several tabs is a topic too, `user:42`: publishing to it
/// sends to all of them, and [`close`](Self::close) logs the user out everywhere.
///
/// ```
/// use tower_websocket::{Connection, Message, Result, Topics, WebSocketHandler, WebSocketLayer};
///
/// #[derive(Clone)]
/// struct Chat;
///
/// impl WebSocketHandler for Chat {
///     async fn on_open(&mut self, conn: &mut Connection) -> Result {
///         conn.subscribe("room:1")?;
///         Ok(())
///     }
///     async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
///         // To all but this connection.
///         conn.publish("room:1", message);
///         Ok(())
///     }
/// }
///
/// let topics = Topics::new();
/// let layer = WebSocketLayer::new("/chat", Chat).topics(&topics);
///
/// // Anywhere else: in the handler of an HTTP request, a task, another layer. To all.
/// topics.publish("room:1", "the server says hello");
/// # drop(layer);
/// ```
///
/// Without [`WebSocketLayer::topics`](crate::WebSocketLayer::topics) a layer has topics of its own, which
/// only its connections reach. Clones are one: give one `Topics` to all layers and handlers of an
/// application.
///
/// # Delivery
///
/// A message goes straight into the queue of each subscriber, the same that `send` fills: what a
/// connection is sent goes out in the order in which it was accepted, and all subscribers of a topic get
/// its messages in one order. No callback is called for it. [`publish`](Self::publish) never waits: when
/// the queue of a subscriber is full, its [`OnFull`](crate::OnFull) decides, and nobody else notices.
///
/// A message is framed once, and its payload is held once if it is large. With compression it is
/// compressed once per thread and parameters, where the peer gets messages that stand by themselves (the
/// default); with context takeover once per connection, in the task that publishes.
///
/// By default a topic promises what a socket promises: who is connected and keeps up gets everything,
/// once, in order. [Retained](TopicsBuilder::retain) topics promise more: a client whose network was gone
/// for a while gets what it missed.
///
/// # Missed messages
///
/// ```
/// use std::time::Duration;
/// use tower_websocket::{Connection, Message, Position, Result, Retain, Subscribe, Topics, WebSocketLayer};
///
/// let topics = Topics::builder()
///     .retain("room:", Retain::messages(100).age(Duration::from_secs(300)))
///     // Each message carries its position, where the client finds it.
///     .stamp(|_topic, position, message| {
///         Message::from(format!("{position} {}", message.as_text().unwrap_or_default()))
///     })
///     .build();
///
/// // The client comes back as `/chat?after=…`, with the last position that it has seen.
/// async fn chat(mut conn: Connection) -> Result {
///     let query = conn.request().uri.query().unwrap_or_default();
///     let after: Option<Position> = query.strip_prefix("after=").and_then(|text| text.parse().ok());
///     let attached = conn.subscribe_with("room:1", Subscribe::new().after(after)).await?;
///     if !attached.recovered() {
///         conn.send("too much was missed: load the page again").await?;
///     }
///     while let Some(message) = conn.recv().await? {
///         conn.topics().publish("room:1", message);
///     }
///     Ok(())
/// }
///
/// let layer = WebSocketLayer::from_fn("/chat", chat).topics(&topics);
/// # drop(layer);
/// ```
///
/// # Limits
///
/// A connection has at most 128 subscriptions ([`max_subscriptions`](TopicsBuilder::max_subscriptions)),
/// a name at most 256 bytes. The first two subscriptions of a connection cost 64 bytes each, further ones
/// 32, and 8 more if the topic is retained. When a connection ends, in whatever way, its subscriptions
/// end.
///
/// Connections of [`WebSocketLayer::stream`](crate::WebSocketLayer::stream) have no topics: their
/// messages are written by tungstenite, and nothing else can reach their queue.
#[derive(Clone)]
pub struct Topics {
    registry: Arc<Registry>,
}

impl Topics {
    /// Plain topics, with the default limits.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Topics with options.
    pub fn builder() -> TopicsBuilder {
        TopicsBuilder {
            rules: Rules::default(),
        }
    }

    /// Sends a message to all who subscribe the topic, and appends it if the topic is
    /// [retained](TopicsBuilder::retain).
    ///
    /// It never waits and never fails. A topic whose name is longer than 256 bytes has no subscribers.
    ///
    /// To publish to one topic again and again, [`topic`](Self::topic) looks it up once.
    pub fn publish(&self, topic: &str, message: impl Into<Message>) -> Published {
        self.publish_from(topic, &message.into(), 0)
    }

    /// Appends a message to a [retained](TopicsBuilder::retain) topic, sends it to all who subscribe it,
    /// and tells its position.
    ///
    /// In one process the future is ready at once, and the message appended before that. With a
    /// [backplane](TopicsBuilder::backplane) that keeps the log, the message is on its way when the call
    /// returns, behind those that were published before, and the future is ready when the log has it.
    ///
    /// # Errors
    ///
    /// The topic is not retained, its name is longer than 256 bytes, or the log could not be reached within
    /// 10 s; the error gives the message back.
    ///
    /// ```
    /// use tower_websocket::{Retain, Topics};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let topics = Topics::builder().retain("feed:", Retain::messages(10)).build();
    /// let position = topics.append("feed:1", "hello").await.unwrap();
    /// println!("clients that show {position} have seen it");
    ///
    /// assert!(topics.append("chat", "hello").await.is_err());
    /// # }
    /// ```
    pub fn append<M: Into<Message>>(
        &self,
        topic: &str,
        message: M,
    ) -> impl Future<Output = Result<Position, AppendError>> + Send + use<M> {
        self.registry.append(topic, message.into()).finish()
    }

    /// Closes every connection that subscribes the topic, behind what is in its queue. Tells how many
    /// were not closed already.
    ///
    /// # Errors
    ///
    /// The code must not be sent, or the reason is longer than 123 bytes.
    ///
    /// ```
    /// use tower_websocket::{CloseCode, Topics};
    ///
    /// # fn log_out(topics: &Topics) -> Result<(), tower_websocket::CloseError> {
    /// topics.close("user:42", CloseCode::POLICY_VIOLATION, "logged out")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self, topic: &str, code: CloseCode, reason: &str) -> Result<usize, CloseError> {
        let frame = CloseError::check(code, reason)?;
        if let Some(cluster) = self.registry.cluster() {
            cluster.close(topic, frame.clone());
        }
        let room = self.registry.find(topic);
        Ok(room.map_or(0, |room| room.close(&frame)))
    }

    /// How many connections subscribe the topic.
    pub fn subscribers(&self, topic: &str) -> usize {
        let room = self.registry.find(topic);
        room.map_or(0, |room| room.subscribers())
    }

    /// A handle to one topic, which publishes without looking it up by name. While it is held, the topic
    /// stays.
    ///
    /// A topic whose name is longer than 256 bytes has no subscribers.
    pub fn topic(&self, name: &str) -> Topic {
        Topic {
            registry: self.registry.clone(),
            room: self.registry.acquire(name),
        }
    }

    /// Who is present in a topic, by [`Connection::track`](crate::Connection::track).
    ///
    /// The presence of a topic whose name is longer than 256 bytes is empty.
    pub fn presence(&self, topic: &str) -> Presence {
        Presence {
            topic: self.topic(topic),
        }
    }

    /// Where messages go: in one process [`Status::Local`], at all times. With a
    /// [backplane](TopicsBuilder::backplane) it says whether the other nodes are reached:
    /// [`Readiness::topics`](crate::Readiness::topics) answers a probe with 503 when they were not for some
    /// time.
    pub fn status(&self) -> Status {
        let cluster = self.registry.cluster();
        cluster.map_or(Status::Local, |cluster| cluster.status())
    }

    /// Waits until [`status`](Self::status) becomes [`Up`](Status::Up), or is no longer so. Changes count
    /// from this call on, not from the first poll of the future: who calls it before `status` misses none.
    ///
    /// A node that is up again may have missed messages of plain topics meanwhile, as others may have
    /// missed its own.
    ///
    /// ```
    /// use tower_websocket::Topics;
    ///
    /// async fn watch(topics: Topics) {
    ///     loop {
    ///         let changed = topics.changed();
    ///         println!("topics: {:?}", topics.status());
    ///         changed.await;
    ///     }
    /// }
    /// ```
    pub fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let changed = self.registry.cluster().map(|cluster| cluster.changed());
        async move {
            match changed {
                Some(changed) => changed.await,
                None => pending().await,
            }
        }
    }

    /// Waits until what was published before has been sent to the other nodes, and appended to the log that they
    /// share, at most so long. Whether it was: `false` if the engine is out of reach, lost its connection
    /// meanwhile, or is slower. In one process it is `true` at once.
    ///
    /// It is for the end of a process: nothing is sent any more when the runtime is gone. Who has left
    /// during a [drain](crate::Shutdown::drain) is told to the others with it, who notice after 10 s
    /// otherwise.
    ///
    /// What is published while it waits may be waited for, too.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_websocket::{Shutdown, Topics};
    ///
    /// async fn end(shutdown: Shutdown, topics: Topics) {
    ///     shutdown.drain(Duration::from_secs(20)).await;
    ///     topics.flush(Duration::from_secs(1)).await;
    /// }
    /// ```
    pub async fn flush(&self, most: Duration) -> bool {
        // As good as for ever, and a time that clocks have.
        let deadline = Instant::now() + most.min(Duration::from_secs(365 * 24 * 3600));
        match self.registry.cluster() {
            Some(cluster) => cluster.flush(&self.registry, deadline).await,
            None => true,
        }
    }

    /// How many topics and subscriptions there are in this process, and the `most` largest topics. It
    /// looks at all topics, a thirty-second of them at a time, in about 0.1 s for a million.
    ///
    /// ```
    /// use tower_websocket::Topics;
    ///
    /// # let topics = Topics::new();
    /// let overview = topics.overview(3);
    /// println!("{} topics, {} subscriptions", overview.topics, overview.subscriptions);
    /// for topic in overview.largest {
    ///     println!("{}: {}", topic.name, topic.subscribers);
    /// }
    /// ```
    pub fn overview(&self, most: usize) -> TopicsOverview {
        let mut survey = self.survey(most);
        while survey.go_on() {}
        survey.end()
    }

    pub(crate) fn survey(&self, most: usize) -> Survey<'_> {
        Survey::new(&self.registry, most)
    }

    /// To all but one connection.
    pub(crate) fn publish_from(&self, topic: &str, message: &Message, from: u64) -> Published {
        self.registry.publish(topic, message, from).0
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }
}

impl Default for Topics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topics")
            .field("topics", &self.registry.count())
            .finish_non_exhaustive()
    }
}

/// Options of [`Topics`].
#[must_use = "topics are made by `build`"]
pub struct TopicsBuilder {
    rules: Rules,
}

impl TopicsBuilder {
    /// Retains the messages of all topics whose names begin with `prefix`; of several prefixes that fit,
    /// the longest decides. Default: nothing is retained.
    ///
    /// A retained topic numbers its messages. A client that comes back subscribes
    /// [after](crate::Subscribe::after) the position that it has seen, and gets what it missed, in
    /// order, once. A client that reads too slowly keeps its place in the same log
    /// ([`OnFull::Pause`](crate::OnFull::Pause)).
    ///
    /// What is retained is held in memory once, whatever the number of subscribers. When the last user
    /// of a topic is gone it stays until its messages are too old; at most 16,384 topics without a user
    /// do so.
    pub fn retain(mut self, prefix: &str, retain: Retain) -> Self {
        self.rules.retain.push((prefix.into(), retain));
        self
    }

    /// Changes each message of retained topics before it is framed, to put its position where the client
    /// finds it. Default: messages are sent as they are, and clients do not learn positions.
    ///
    /// The function is called once per message, not per receiver, while the topic is locked: it should
    /// be short, and must not use topics. If it panics, the panic is logged and the message is sent as it
    /// is.
    pub fn stamp(
        mut self,
        stamp: impl Fn(&str, Position, &Message) -> Message + Send + Sync + 'static,
    ) -> Self {
        self.rules.stamp = Some(Box::new(stamp));
        self
    }

    /// Topics that one connection may subscribe. Default 128: a peer that can choose what it subscribes
    /// costs no more than that.
    pub fn max_subscriptions(mut self, subscriptions: usize) -> Self {
        self.rules.max_subscriptions = subscriptions;
        self
    }

    /// How long somebody stays present in a topic whose last connection has ended. Default 5 s: a page
    /// that is loaded again, or a phone that changes networks, neither leaves nor joins. Zero tells of
    /// it at once.
    pub fn linger(mut self, time: Duration) -> Self {
        self.rules.linger = time;
        self
    }

    /// Whether somebody whose last connection is ended by a [drain](crate::Shutdown::drain) leaves at
    /// once, without the [time to linger](Self::linger). Default `false`: they linger as after any other
    /// end, since the clients of a process that is replaced come back within seconds, and a deploy should
    /// be no coming and going. `true` suits what is not replaced when it goes, and where nobody may be
    /// listed a moment longer than a connection lasts.
    pub fn leave_on_drain(mut self, at_once: bool) -> Self {
        self.rules.leave_on_drain = at_once;
        self
    }

    /// How many keys may be present in one topic. Default 10,000; each takes its key, and up to 1,024
    /// bytes for each connection.
    pub fn max_present(mut self, keys: usize) -> Self {
        self.rules.max_present = keys;
        self
    }

    /// Makes messages of joins and leaves, which are published to the topic. `None` publishes nothing.
    /// Default: clients are not told.
    ///
    /// They are published in the order in which things happen. The function must not use topics. If it
    /// panics, the panic is logged and nothing is published.
    ///
    /// ```
    /// use tower_websocket::{Message, PresenceChange, Topics};
    ///
    /// let topics = Topics::builder()
    ///     .announce(|_topic, change| match change {
    ///         PresenceChange::Joined(present) => Some(format!("{} is here", present.key()).into()),
    ///         PresenceChange::Left(key) => Some(format!("{key} has left").into()),
    ///         _ => None,
    ///     })
    ///     .build();
    /// # drop(topics);
    /// ```
    pub fn announce(
        mut self,
        announce: impl Fn(&str, &PresenceChange) -> Option<Message> + Send + Sync + 'static,
    ) -> Self {
        self.rules.announce = Some(Box::new(announce));
        self
    }

    /// Connects these topics with those of other processes: what is published on one reaches the
    /// connections of all. Default: one process.
    ///
    /// [`Topics::status`] tells whether it does. The engine is run by a task that is spawned here, or, if
    /// there is no runtime yet, when the topics are first used in one. It ends with the last clone of the
    /// `Topics`, handle and connection: when what was published before has been sent, or 1 s later. The
    /// runtime must run on for that; a process that ends waits with [`flush`](Topics::flush).
    pub fn backplane(mut self, backplane: impl Backplane) -> Self {
        self.rules.connect = Some(connect(backplane));
        self
    }

    /// Closes all connections of a node that has not reached the others for so long, with 1012, spread
    /// over 5 s: a client that comes back may find a node that is not cut off. Default: never, which is
    /// right if the engine is more likely to be down than the way to it.
    pub fn isolated_after(mut self, time: Duration) -> Self {
        self.rules.isolated_after = Some(time.min(LONGEST));
        self
    }

    /// How many messages for other nodes wait while the [backplane](Self::backplane) is out of reach; of
    /// plain topics the oldest are dropped for new ones, which [`Topics::status`] counts. As many messages of
    /// retained topics may wait for their log beside them; one more is
    /// [not sent](crate::Published::sent). Default 4,096, at least 1.
    ///
    /// It is what a node publishes within the time in which a restart of the engine is to lose nothing: by
    /// default some seconds of a busy one. More than that comes late and all at once.
    pub fn max_outbox_messages(mut self, messages: usize) -> Self {
        self.rules.outbox.messages = messages.max(1);
        self
    }

    /// The same in bytes, with the names of the topics. Default 4 MiB, at least 64 KiB. A message that is larger
    /// than that, or than 4 MiB, is never sent to other nodes.
    pub fn max_outbox_bytes(mut self, bytes: usize) -> Self {
        self.rules.outbox.bytes = bytes.max(64 * 1024);
        self
    }

    /// After how long without a word of its own that came back a node sends one to itself through the
    /// [backplane](Self::backplane), to find out whether the connection, which is open, is alive. Default
    /// 10 s, at least 100 ms, at most an hour.
    ///
    /// Such a word comes back every 2 s, so this is how long the engine may stand still before
    /// [`probe_timeout`](Self::probe_timeout) begins. An engine may have a shorter timeout for its
    /// commands, as Redis does.
    pub fn probe_after(mut self, time: Duration) -> Self {
        self.rules.probe.idle = time.clamp(SHORTEST_PROBE, LONGEST_PROBE);
        self
    }

    /// How long a [probe](Self::probe_after) may take before the connection is given up and made anew.
    /// Default 10 s, at least 100 ms, at most an hour.
    ///
    /// A new connection means that messages of plain topics may be missed, so it should be longer than any pause
    /// that is normal: of the engine while it saves or fails over, of this process while it is busy.
    pub fn probe_timeout(mut self, time: Duration) -> Self {
        self.rules.probe.patience = time.clamp(SHORTEST_PROBE, LONGEST_PROBE);
        self
    }

    /// The topics.
    pub fn build(self) -> Topics {
        Topics {
            registry: Registry::new(self.rules),
        }
    }
}

impl fmt::Debug for TopicsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicsBuilder")
            .field("retain", &self.rules.retain)
            .field("max_subscriptions", &self.rules.max_subscriptions)
            .finish_non_exhaustive()
    }
}

/// A handle to one topic, from [`Topics::topic`]: it publishes without looking the topic up.
///
/// ```
/// use std::time::Duration;
/// use tower_websocket::Topics;
///
/// async fn tick(topics: Topics) {
///     let clock = topics.topic("clock");
///     loop {
///         clock.publish("tick");
///         tokio::time::sleep(Duration::from_secs(1)).await;
///     }
/// }
/// ```
pub struct Topic {
    registry: Arc<Registry>,
    /// `None`: the name is too long.
    room: Option<Arc<Room>>,
}

impl Topic {
    /// Sends a message to all who subscribe the topic, as [`Topics::publish`].
    pub fn publish(&self, message: impl Into<Message>) -> Published {
        let Some(room) = &self.room else {
            return Published::default();
        };
        self.registry.publish_in(room, &message.into(), 0).0
    }

    /// Appends a message to a retained topic, as [`Topics::append`].
    ///
    /// # Errors
    ///
    /// The topic is not retained; the error gives the message back.
    pub fn append<M: Into<Message>>(
        &self,
        message: M,
    ) -> impl Future<Output = Result<Position, AppendError>> + Send + use<M> {
        let appending = match &self.room {
            Some(room) => self.registry.append_in(room, message.into()),
            None => Appending::Done(Err(AppendError::not_retained(message.into()))),
        };
        appending.finish()
    }

    /// How many connections subscribe it.
    pub fn subscribers(&self) -> usize {
        self.room.as_ref().map_or(0, |room| room.subscribers())
    }
}

impl Clone for Topic {
    fn clone(&self) -> Self {
        assert_outside();
        if let Some(room) = &self.room {
            Registry::acquire_again(room);
        }
        Self {
            registry: self.registry.clone(),
            room: self.room.clone(),
        }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        if let Some(room) = &self.room {
            self.registry.release(room);
        }
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic")
            .field("name", &self.room.as_ref().map(|room| &room.name))
            .field("subscribers", &self.subscribers())
            .finish_non_exhaustive()
    }
}

/// Who is present in a topic, from [`Topics::presence`]. While it is held, the topic stays.
#[derive(Clone, Debug)]
pub struct Presence {
    topic: Topic,
}

impl Presence {
    /// All who are present, sorted by key: each once, however many connections it has.
    pub fn list(&self) -> Vec<Present> {
        let room = self.topic.room.as_ref();
        room.map_or_else(Vec::new, |room| room.crowd().list())
    }

    /// Joins and leaves from now on. Who needs the list too calls this first: then no change is between
    /// them, though one that is in the list already may come.
    pub fn changes(&self) -> PresenceChanges {
        PresenceChanges {
            next: self
                .topic
                .room
                .as_ref()
                .map(|room| next_of(room.crowd().read())),
            _topic: self.topic.clone(),
        }
    }
}

/// Joins and leaves, from [`Presence::changes`].
///
/// ```
/// use tower_websocket::{PresenceChange, Topics};
///
/// async fn greet(topics: Topics) {
///     let mut changes = topics.presence("lobby").changes();
///     while let Some(change) = changes.next().await {
///         if let PresenceChange::Joined(present) = change {
///             topics.publish("lobby", format!("welcome, {}", present.key()));
///         }
///     }
/// }
/// ```
///
/// It is a `Stream` too.
pub struct PresenceChanges {
    /// `None`: the name is too long.
    next: Option<Next>,
    _topic: Topic,
}

/// The next change, and who waits for the one behind it. Made anew for each, since a receiver cannot be
/// polled.
type Next =
    Pin<Box<dyn Future<Output = (Received, broadcast::Receiver<PresenceChange>)> + Send + Sync>>;
type Received = Result<PresenceChange, RecvError>;

fn next_of(mut changes: broadcast::Receiver<PresenceChange>) -> Next {
    Box::pin(async move { (changes.recv().await, changes) })
}

impl PresenceChanges {
    /// The next change. At most 256 wait; if more were not read in time,
    /// [`PresenceChange::Missed`] says how many. `None`, at once, for a topic whose name is longer than
    /// 256 bytes.
    ///
    /// Dropping the future before it is ready loses nothing.
    pub async fn next(&mut self) -> Option<PresenceChange> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for PresenceChanges {
    type Item = PresenceChange;

    /// As [`next`](Self::next).
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PresenceChange>> {
        let Some(next) = &mut self.next else {
            return Poll::Ready(None);
        };
        let (received, changes) = ready!(next.as_mut().poll(cx));
        self.next = match received {
            Err(RecvError::Closed) => None,
            _ => Some(next_of(changes)),
        };
        Poll::Ready(match received {
            Ok(change) => Some(change),
            Err(RecvError::Lagged(missed)) => Some(PresenceChange::Missed(missed)),
            Err(RecvError::Closed) => None,
        })
    }
}

impl fmt::Debug for PresenceChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresenceChanges").finish_non_exhaustive()
    }
}
