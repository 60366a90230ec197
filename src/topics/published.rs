//! [`Published`]: what became of a message. [`SubscribeError`], [`AppendError`]: why something is
//! refused.

use std::fmt;

use crate::message::Message;

/// What became of a message that was published. It is known at once, and informative: nothing has to be
/// done about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    pub(super) delivered: usize,
    pub(super) waiting: usize,
    pub(super) dropped: usize,
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
pub struct AppendError(pub(super) Message);

impl AppendError {
    /// The message.
    pub fn into_message(self) -> Message {
        self.0
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the topic is not retained, the message was not appended")
    }
}

impl std::error::Error for AppendError {}
