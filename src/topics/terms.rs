//! [`Subscribe`]: how a connection subscribes a topic; [`OnFull`]: what becomes of messages for which
//! its queue has no room. [`Terms`] is what is kept of both.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use super::calls::contained;
use super::position::Position;
use crate::message::Message;
use crate::protocol::Framed;

/// What becomes of a message of a topic when the queue of a subscriber is full: its peer reads more
/// slowly than others publish. The queue is that of the layer's
/// [`max_queued_messages`](crate::WebSocketLayer::max_queued_messages) and
/// [`max_queued_bytes`](crate::WebSocketLayer::max_queued_bytes).
///
/// Publishers never wait for a subscriber, whatever its policy. A subscriber that keeps up notices
/// nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnFull {
    /// The connection is closed with 1013, "try again later", behind what is in its queue: nothing is
    /// lost silently. The default of plain topics.
    Close,
    /// The new message is dropped for this subscriber.
    DropNewest,
    /// As many messages as the queue holds wait beside it; of those, the oldest of this subscription is
    /// dropped for a new one.
    DropOldest,
    /// Of the messages that wait and have the same [`key`](Subscribe::key), only the latest is kept, in
    /// the place of the first: for prices, cursors, progress. Keys are limited as messages are with
    /// [`DropOldest`](Self::DropOldest).
    KeepLatest,
    /// The subscriber keeps its place in the topic's log, and takes the next messages from there when
    /// its queue has room. It loses nothing that is still retained; when the messages it needs are no
    /// longer there, it is closed with 1013, or told by its [`gap`](Subscribe::gap) function and goes on
    /// with the oldest that is retained. The default of retained topics; on a plain topic, which has no
    /// log, the same as [`Close`](Self::Close).
    Pause,
}

impl OnFull {
    /// In metrics, in the order of the variants.
    pub(super) const NAMES: [&str; 5] = [
        "close",
        "drop_newest",
        "drop_oldest",
        "keep_latest",
        "pause",
    ];
}

pub(super) type KeyFn = Box<dyn Fn(&Message) -> u64 + Send + Sync>;
pub(super) type FilterFn = Box<dyn Fn(&Message) -> bool + Send + Sync>;
pub(super) type GapFn = Box<dyn Fn(u64) -> Message + Send + Sync>;
pub(super) type GreetingFn = Box<dyn FnOnce(&Attached) -> Message + Send>;

/// How to subscribe a topic, for
/// [`Connection::subscribe_with`](crate::Connection::subscribe_with).
///
/// ```
/// use tower_websocket::{Connection, OnFull, Result, Subscribe};
///
/// async fn watch(conn: &mut Connection) -> Result {
///     let latest = Subscribe::new()
///         .on_full(OnFull::KeepLatest)
///         // "EUR 1.08" replaces "EUR 1.07", not "GBP 1.27".
///         .key(|price| price.as_text().and_then(|text| text.get(..3)).map(str::to_owned));
///     conn.subscribe_with("prices", latest).await?;
///     Ok(())
/// }
/// ```
#[derive(Default)]
#[must_use = "it does nothing until it is given to `subscribe_with`"]
pub struct Subscribe {
    pub(super) after: Option<Position>,
    /// The log that all nodes share could not be read for it.
    pub(super) is_unread: bool,
    on_full: Option<OnFull>,
    key: Option<KeyFn>,
    filter: Option<FilterFn>,
    gap: Option<GapFn>,
    pub(super) greeting: Option<GreetingFn>,
}

impl Subscribe {
    /// As [`Connection::subscribe`](crate::Connection::subscribe) does: from now on, with the default
    /// policy.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends the messages of a retained topic that came after this position first: what the client
    /// missed. Default `None`: from now on. [`Attached::recovered`] tells whether that was possible.
    pub fn after(mut self, position: impl Into<Option<Position>>) -> Self {
        self.after = position.into();
        self
    }

    /// What becomes of messages for which the queue has no room. Default: [`OnFull::Close`] for plain
    /// topics, [`OnFull::Pause`] for retained ones.
    pub fn on_full(mut self, policy: OnFull) -> Self {
        self.on_full = Some(policy);
        self
    }

    /// What [`OnFull::KeepLatest`] compares: of messages with equal keys the latest is kept. Default:
    /// all messages of the topic are equal.
    ///
    /// The function is called only for messages that find the queue full, while the topic is locked: it
    /// should be short, and must not use topics. If it panics, the panic is logged and the message is
    /// like those without a key.
    pub fn key<K: Hash>(mut self, key: impl Fn(&Message) -> K + Send + Sync + 'static) -> Self {
        let random = RandomState::new();
        self.key = Some(Box::new(move |message| random.hash_one(key(message))));
        self
    }

    /// Which messages of the topic are for this subscription: those for which `filter` is `true`. Default:
    /// all. What it refuses is not sent, not counted as delivered, waiting or dropped, and not replayed; a
    /// client that comes back gets its position from the messages that it has seen.
    ///
    /// The function is called for each message as it is sent, [stamped](crate::TopicsBuilder::stamp) where
    /// that is wanted, while the topic is locked: it should be short, depend on the message alone, and
    /// must not use topics. For a subscriber that lags it may be called more than once for a message. If it
    /// panics, the panic is logged and the message is sent.
    ///
    /// A topic of its own costs less than a filter that refuses most of what is published.
    ///
    /// ```
    /// use tower_websocket::{Connection, Result, Subscribe};
    ///
    /// async fn watch(conn: &mut Connection, symbol: String) -> Result {
    ///     let own = Subscribe::new()
    ///         .filter(move |price| price.as_text().is_some_and(|text| text.starts_with(&symbol)));
    ///     conn.subscribe_with("prices", own).await?;
    ///     Ok(())
    /// }
    /// ```
    pub fn filter(mut self, filter: impl Fn(&Message) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(Box::new(filter));
        self
    }

    /// Makes a message of how many were dropped for this subscription, once the ones that waited are
    /// on their way: the client learns that something is missing, and can ask for it. Default none.
    ///
    /// The function is called while the topic is locked: it must not use topics. If it panics, the
    /// panic is logged and nothing is sent.
    pub fn gap(mut self, gap: impl Fn(u64) -> Message + Send + Sync + 'static) -> Self {
        self.gap = Some(Box::new(gap));
        self
    }

    /// Makes a message that is sent ahead of all messages of the subscription, whoever publishes
    /// meanwhile: the place to tell a client its [position](Attached::position), or that it has to load
    /// the state anew, or that this [is unknown](Attached::is_unknown). Default none.
    ///
    /// The message goes into the queue even if that is full. The function is called while the topic is
    /// locked: it must not use topics. If it panics, the panic is logged and nothing is sent.
    ///
    /// ```
    /// use tower_websocket::{Connection, Message, Position, Result, Subscribe};
    ///
    /// async fn join(conn: &mut Connection, after: Option<Position>) -> Result {
    ///     let subscribe = Subscribe::new().after(after).greeting(|attached| {
    ///         let place = attached.position().map(|p| p.to_string()).unwrap_or_default();
    ///         let word = if attached.recovered() { "go on" } else { "start anew" };
    ///         Message::from(format!("{word} after {place}"))
    ///     });
    ///     conn.subscribe_with("room:1", subscribe).await?;
    ///     Ok(())
    /// }
    /// ```
    pub fn greeting(
        mut self,
        greeting: impl FnOnce(&Attached) -> Message + Send + 'static,
    ) -> Self {
        self.greeting = Some(Box::new(greeting));
        self
    }

    /// Whether the log that all nodes share was read for it.
    pub(crate) fn read(mut self, is_read: bool) -> Self {
        self.is_unread = !is_read;
        self
    }

    /// See [`after`](Self::after).
    pub(crate) fn position(&self) -> Option<Position> {
        self.after
    }

    /// What is kept of it; `None` if everything is as by default.
    pub(super) fn terms(&mut self, is_retained: bool) -> Option<Box<Terms>> {
        let default = if is_retained {
            OnFull::Pause
        } else {
            OnFull::Close
        };
        let mut on_full = self.on_full.unwrap_or(default);
        if on_full == OnFull::Pause && !is_retained {
            on_full = OnFull::Close;
        }
        if on_full == default && self.gap.is_none() && self.filter.is_none() {
            return None;
        }
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Some(Box::new(Terms {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            on_full,
            key: self.key.take(),
            filter: self.filter.take(),
            gap: self.gap.take(),
            dropped: 0,
            told: 0,
            due: 0,
        }))
    }
}

impl fmt::Debug for Subscribe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribe")
            .field("after", &self.after)
            .field("on_full", &self.on_full)
            .finish_non_exhaustive()
    }
}

/// How a subscription began: what
/// [`Connection::subscribe_with`](crate::Connection::subscribe_with) returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    pub(super) recovered: bool,
    pub(super) is_unknown: bool,
    pub(super) position: Option<Position>,
}

impl Attached {
    /// Whether nothing is missing: every message behind the position that was
    /// [shown](Subscribe::after) has been or will be sent, in order, once, or the connection ends.
    /// `false` if some of them are no longer retained, the log was lost since, or the position is
    /// not one of this topic's: the client has to load the state anew. `true` where no position was
    /// shown. `false` too while that [is unknown](Self::is_unknown).
    pub fn recovered(&self) -> bool {
        self.recovered
    }

    /// Whether it is not known yet what was missed, since the log of a
    /// [backplane](crate::TopicsBuilder::backplane) cannot be read now. There is nothing to do but to say so: once
    /// the log can be read, every message behind the position is sent, in order, once, ahead of new ones; or, if
    /// that is impossible, the [`gap`](Subscribe::gap) function tells that something is missing, or, without
    /// one, the connection is closed with 1012, and when the client comes back it is not
    /// [recovered](Self::recovered). Until then nothing of the topic is sent. The client keeps the position that
    /// it has, and need not load anything anew.
    ///
    /// Without a backplane it is `false` at all times.
    pub fn is_unknown(&self) -> bool {
        self.is_unknown
    }

    /// Where the client stands ahead of the first message of this subscription: the position that it
    /// has shown if it is [recovered](Self::recovered) or that [is unknown](Self::is_unknown), the end of the log
    /// otherwise. `None` for a plain topic, which has no positions, and for a client that has shown none while the
    /// log of a [backplane](crate::TopicsBuilder::backplane) cannot be reached.
    ///
    /// To tell the client, use [`Subscribe::greeting`]: a message that is sent after `subscribe_with`
    /// has returned may come behind messages that are newer than this position.
    pub fn position(&self) -> Option<Position> {
        self.position
    }
}

/// What a subscription keeps of its [`Subscribe`], and what was dropped for it.
pub(crate) struct Terms {
    /// Names the subscription. One that is made anew is another.
    pub(super) id: u64,
    pub(super) on_full: OnFull,
    key: Option<KeyFn>,
    filter: Option<FilterFn>,
    gap: Option<GapFn>,
    dropped: u64,
    /// Of those, how many a gap message has told of.
    told: u64,
    /// While it reads from the log, how many messages it was to get when they were published and has not
    /// got. Counted where there is a gap function.
    due: u64,
}

impl Terms {
    /// The key of a message, for [`OnFull::KeepLatest`].
    pub(super) fn key(&self, message: &Message) -> Option<u64> {
        if self.on_full != OnFull::KeepLatest {
            return None;
        }
        let key = self.key.as_ref();
        let key = key.and_then(|key| contained("key", || key(message)));
        // Those without one are equal.
        Some(key.unwrap_or(0))
    }

    pub(super) fn has_gap(&self) -> bool {
        self.gap.is_some()
    }

    /// Whether the message is for this subscription.
    pub(super) fn wants(&self, message: &Message) -> bool {
        let wants = |filter: &FilterFn| contained("filter", || filter(message));
        self.filter.as_ref().and_then(wants).unwrap_or(true)
    }

    /// The same for one in the log.
    pub(super) fn wants_framed(&self, frame: &Framed) -> bool {
        self.filter.is_none() || self.wants(&frame.message())
    }

    pub(super) fn lost(&mut self, messages: u64) {
        self.dropped += messages;
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// One more message has to be read from the log.
    pub(super) fn owe(&mut self) {
        self.due += 1;
    }

    /// One of them was read.
    pub(super) fn pay(&mut self) {
        self.due = self.due.saturating_sub(1);
    }

    /// The log has no more than so many of them: the others are lost.
    pub(super) fn has_left(&mut self, messages: u64) {
        self.lost(self.due.saturating_sub(messages));
        self.due = messages;
    }

    /// How many there are.
    pub(super) fn set_due(&mut self, messages: u64) {
        self.due = messages;
    }

    /// The message about what was dropped since the last one, and how many it tells of.
    pub(super) fn gap(&self) -> Option<(Option<Message>, u64)> {
        let gap = self.gap.as_ref()?;
        let untold = self.dropped - self.told;
        (untold > 0).then(|| (contained("gap", || gap(untold)), untold))
    }

    pub(super) fn told(&mut self, messages: u64) {
        self.told += messages;
    }
}

impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terms")
            .field("on_full", &self.on_full)
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_as_by_default_keeps_nothing() {
        assert!(Subscribe::new().terms(false).is_none());
        assert!(Subscribe::new().terms(true).is_none());
        let close = || Subscribe::new().on_full(OnFull::Close);
        assert!(close().terms(false).is_none());
        assert_eq!(close().terms(true).unwrap().on_full, OnFull::Close);
        let pause = || Subscribe::new().on_full(OnFull::Pause);
        assert!(pause().terms(true).is_none() && pause().terms(false).is_none());
        let gap = Subscribe::new().gap(|_| "gap".into()).terms(true);
        assert!(gap.is_some_and(|terms| terms.on_full == OnFull::Pause && terms.has_gap()));
    }

    #[test]
    fn a_gap_tells_of_each_loss_once() {
        let mut terms = Subscribe::new()
            .on_full(OnFull::DropNewest)
            .gap(|n| n.to_string().into())
            .terms(false)
            .unwrap();
        assert!(terms.gap().is_none());
        terms.lost(2);
        let (message, untold) = terms.gap().unwrap();
        assert_eq!((message.unwrap().as_text(), untold), (Some("2"), 2));
        terms.told(2);
        assert!(terms.gap().is_none());
        terms.lost(1);
        assert_eq!(terms.gap().unwrap().1, 1);
        assert_eq!(terms.dropped(), 3);
    }

    #[test]
    fn t10_a_filter_that_panics_refuses_nothing() {
        let by_first = |message: &Message| message.as_bytes()[0] == b'a';
        let terms = Subscribe::new().filter(by_first).terms(false).unwrap();
        let wants = ["a", "b", ""].map(|text| terms.wants(&text.into()));
        assert_eq!(wants, [true, false, true]);
        let framed = Framed::new(&"b".into());
        assert!(!terms.wants_framed(&framed));
    }

    #[test]
    fn equal_keys_are_equal_and_a_panic_is_no_key() {
        let by_first = |message: &Message| message.as_bytes()[0];
        let latest = Subscribe::new().on_full(OnFull::KeepLatest).key(by_first);
        let terms = { latest }.terms(false).unwrap();
        let key = |text: &'static str| terms.key(&text.into());
        assert!(key("a1") == key("a2") && key("a1") != key("b1"));
        assert_eq!(key(""), Some(0));
    }
}
