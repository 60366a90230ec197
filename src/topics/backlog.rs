//! [`Backlog`]: messages of topics that wait beside a full queue, by the policies of their
//! subscriptions that may lose some of them.

use std::collections::VecDeque;

use super::terms::OnFull;
use crate::protocol::{Framed, Load};

/// See the module docs. In the order in which the messages were accepted.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    subscription: u64,
    key: Option<u64>,
    frame: Framed,
}

/// What a subscription wants of a backlog.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    /// Names the subscription.
    pub(super) subscription: u64,
    /// Of [`OnFull::KeepLatest`].
    pub(super) key: Option<u64>,
}

impl Keep {
    /// `None` if the policy keeps nothing.
    pub(super) fn new(
        policy: OnFull,
        subscription: u64,
        key: impl FnOnce() -> Option<u64>,
    ) -> Option<Self> {
        matches!(policy, OnFull::DropOldest | OnFull::KeepLatest).then(|| Self {
            subscription,
            key: key(),
        })
    }
}

/// What became of a message.
#[derive(Debug)]
pub(crate) struct Kept {
    /// What was dropped for it. The caller drops it where it holds no lock.
    pub(crate) dropped: Option<Framed>,
    /// It is this message that was dropped.
    pub(crate) is_refused: bool,
}

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Keeps a message. There is room for as much as in the queue, whose limits are `most`.
    pub(crate) fn push(&mut self, keep: Keep, frame: &Framed, most: Load) -> Kept {
        let Keep { subscription, key } = keep;
        if let Some(key) = key {
            let same = |w: &&mut Waiting| w.subscription == subscription && w.key == Some(key);
            if let Some(waiting) = self.waiting.iter_mut().find(same) {
                let before = std::mem::replace(&mut waiting.frame, frame.clone());
                self.bytes = self.bytes - before.load() + frame.load();
                return Kept {
                    dropped: Some(before),
                    is_refused: false,
                };
            }
        }
        let mut dropped = None;
        if self.waiting.len() >= most.messages || self.bytes >= most.bytes {
            let own = |w: &Waiting| w.subscription == subscription;
            let Some(at) = self.waiting.iter().position(own) else {
                return Kept {
                    dropped: None,
                    is_refused: true,
                };
            };
            dropped = self.waiting.remove(at).map(|waiting| waiting.frame);
            self.bytes -= dropped.as_ref().map_or(0, Framed::load);
        }
        self.bytes += frame.load();
        self.waiting.push_back(Waiting {
            subscription,
            key,
            frame: frame.clone(),
        });
        Kept {
            dropped,
            is_refused: false,
        }
    }

    /// The next one for which there is room.
    pub(crate) fn pop(&mut self) -> Option<Framed> {
        let frame = self.waiting.pop_front()?.frame;
        self.bytes -= frame.load();
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    const MOST: Load = Load {
        messages: 3,
        bytes: 1000,
    };

    fn frame(text: &str) -> Framed {
        Framed::new(&Message::from(text.to_owned()))
    }

    fn keep(subscription: u64, key: Option<u64>) -> Keep {
        Keep { subscription, key }
    }

    fn all(backlog: &mut Backlog) -> Vec<String> {
        let frames = std::iter::from_fn(|| backlog.pop());
        let text = |frame: Framed| String::from_utf8(frame.payload().to_vec()).unwrap();
        frames.map(text).collect()
    }

    #[test]
    fn the_oldest_of_the_own_subscription_gives_way() {
        let mut backlog = Backlog::default();
        for (subscription, text) in [(1, "a"), (2, "x"), (1, "b"), (1, "c"), (1, "d")] {
            backlog.push(keep(subscription, None), &frame(text), MOST);
        }
        // A third subscription has nothing that could give way.
        let kept = backlog.push(keep(3, None), &frame("z"), MOST);
        assert!(kept.is_refused);
        assert_eq!(all(&mut backlog), ["x", "c", "d"]);
        assert_eq!((backlog.bytes, backlog.waiting.capacity()), (0, 0));
    }

    #[test]
    fn the_latest_of_a_key_takes_the_place_of_the_one_that_waits() {
        let mut backlog = Backlog::default();
        for (key, text) in [(1, "a1"), (2, "b1"), (1, "a2"), (2, "b2"), (1, "a3")] {
            backlog.push(keep(1, Some(key)), &frame(text), MOST);
        }
        // The same key of another subscription is another.
        backlog.push(keep(2, Some(1)), &frame("other"), MOST);
        assert_eq!(all(&mut backlog), ["a3", "b2", "other"]);
    }

    #[test]
    fn it_is_full_in_bytes_too_and_one_large_message_still_fits() {
        let mut backlog = Backlog::default();
        let large = "l".repeat(2000);
        assert!(!backlog.push(keep(1, None), &frame(&large), MOST).is_refused);
        let kept = backlog.push(keep(1, None), &frame("next"), MOST);
        assert_eq!(kept.dropped.unwrap().payload().len(), 2000);
        assert_eq!(all(&mut backlog), ["next"]);
    }
}
