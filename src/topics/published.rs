//! [`Published`]: what became of a message. [`SubscribeError`], [`AppendError`]: why something is
//! refused.

use std::fmt;

use crate::message::Message;

/// What became of a message that was published. It is known at once, and informative: nothing has to be
/// done about it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Published {
    pub(super) delivered: usize,
    pub(super) waiting: usize,
    pub(super) dropped: usize,
    pub(super) unsent: bool,
}

impl Published {
    /// Subscribers in whose queues it is now.
    pub fn delivered(self) -> usize {
        self.delivered
    }

    /// Subscribers that are behind, for which it waits by their [policy](crate::OnFull).
    pub fn waiting(self) -> usize {
        self.waiting
    }

    /// Messages that were dropped for it, or that it was dropped as: by policy, or because a subscriber
    /// that is too slow is closed.
    pub fn dropped(self) -> usize {
        self.dropped
    }

    /// Whether it is on its way to the other nodes, or there are none. `false`, with a
    /// [backplane](crate::TopicsBuilder::backplane) only: the message is too large for it, or the topic is
    /// retained and too many messages wait for its log. Such a message is delivered nowhere if the topic is
    /// retained, and on this node if it is not.
    ///
    /// A message that is on its way may still be lost if the engine is down:
    /// [`Status::Degraded`](crate::Status::Degraded) counts those. [`Topics::append`](crate::Topics::append)
    /// waits until a message is safe.
    pub fn sent(self) -> bool {
        !self.unsent
    }

    /// What is known of a message that other nodes, and this one, get from a log.
    pub(super) fn beyond(sent: bool) -> Self {
        Self {
            unsent: !sent,
            ..Self::default()
        }
    }
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Published");
        shown.field("delivered", &self.delivered);
        shown.field("waiting", &self.waiting);
        shown.field("dropped", &self.dropped);
        if self.unsent {
            shown.field("sent", &false);
        }
        shown.finish()
    }
}

/// Why a topic is not subscribed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The connection is closed.
    Closed,
    /// The connection has this many subscriptions, as many as it may: see
    /// [`TopicsBuilder::max_subscriptions`](crate::TopicsBuilder::max_subscriptions).
    TooMany(usize),
    /// The name of the topic has this many bytes, and may have 256.
    NameTooLong(usize),
}

impl SubscribeError {
    /// Whether it is [`Closed`](Self::Closed).
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection is closed, it subscribes nothing"),
            Self::TooMany(most) => write!(f, "the connection has {most} subscriptions already"),
            Self::NameTooLong(len) => {
                write!(
                    f,
                    "the name of a topic has {len} bytes, at most 256 are allowed"
                )
            }
        }
    }
}

impl std::error::Error for SubscribeError {}

/// Why a message was not appended; it is given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendError {
    message: Message,
    is_unreachable: bool,
}

impl AppendError {
    pub(super) fn not_retained(message: Message) -> Self {
        Self {
            message,
            is_unreachable: false,
        }
    }

    pub(super) fn unreachable(message: Message) -> Self {
        Self {
            message,
            is_unreachable: true,
        }
    }

    /// The message.
    pub fn into_message(self) -> Message {
        self.message
    }

    /// Whether the log of the [backplane](crate::TopicsBuilder::backplane) could not be reached in time,
    /// has refused the message, or too much waits for it. The message may have been appended all the same:
    /// the answer may be what was lost. Otherwise the topic is not retained.
    pub fn is_unreachable(&self) -> bool {
        self.is_unreachable
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_unreachable {
            "the log of the topic is out of reach, the message was not appended or nobody knows"
        } else {
            "the topic is not retained, the message was not appended"
        })
    }
}

impl std::error::Error for AppendError {}
