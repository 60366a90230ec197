//! [`Wanted`]: the channels that this node wants to listen to, and how far the engine is with them.

use std::collections::{HashMap, VecDeque};

use super::order::Order;

/// See the module docs.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    channels: HashMap<String, Channel>,
    /// Channels for which an order may be due.
    due: VecDeque<String>,
    /// Orders of the beginning that are not confirmed yet.
    unconfirmed: usize,
}

#[derive(Debug, Default)]
struct Channel {
    users: usize,
    asked: Asked,
    /// It is in `due`.
    due: bool,
    /// It was wanted when the connection began.
    early: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Asked {
    #[default]
    No,
    Yes,
    Confirmed,
}

impl Wanted {
    /// One more user of a channel. Whether it is the first.
    pub(super) fn want(&mut self, channel: &str) -> bool {
        if let Some(there) = self.channels.get_mut(channel) {
            there.users += 1;
            if there.users > 1 {
                return false;
            }
        } else {
            let new = Channel {
                users: 1,
                ..Channel::default()
            };
            self.channels.insert(channel.to_owned(), new);
        }
        self.look_at(channel);
        true
    }

    /// A user is gone. Whether it was the last.
    pub(super) fn unwant(&mut self, channel: &str) -> bool {
        let Some(there) = self.channels.get_mut(channel) else {
            return false;
        };
        there.users = there.users.saturating_sub(1);
        let is_last = there.users == 0;
        if is_last {
            self.look_at(channel);
        }
        is_last
    }

    fn look_at(&mut self, name: &str) {
        if let Some(channel) = self.channels.get_mut(name) {
            if !std::mem::replace(&mut channel.due, true) {
                self.due.push_back(name.to_owned());
            }
        }
    }

    /// A new connection, which listens to nothing.
    pub(super) fn begin(&mut self) {
        self.due.clear();
        self.channels.retain(|_, channel| channel.users > 0);
        self.unconfirmed = self.channels.len();
        for (name, channel) in &mut self.channels {
            channel.asked = Asked::No;
            channel.due = true;
            channel.early = true;
            self.due.push_back(name.clone());
        }
    }

    pub(super) fn next(&mut self) -> Option<Order> {
        while let Some(name) = self.due.pop_front() {
            let Some(channel) = self.channels.get_mut(&name) else {
                continue;
            };
            channel.due = false;
            if channel.users > 0 && channel.asked == Asked::No {
                channel.asked = Asked::Yes;
                return Some(Order::Listen(name));
            }
            if channel.users == 0 {
                let gone = self.channels.remove(&name);
                let gone = gone.unwrap_or_default();
                if gone.early && gone.asked != Asked::Confirmed {
                    self.unconfirmed -= 1;
                }
                if gone.asked != Asked::No {
                    return Some(Order::Leave(name));
                }
            }
        }
        self.due.shrink_to(64);
        None
    }

    /// The engine listens to a channel. `false`: that is not wanted, or known already.
    pub(super) fn confirm(&mut self, name: &str) -> bool {
        let Some(channel) = self.channels.get_mut(name) else {
            return false;
        };
        if channel.asked != Asked::Yes {
            return false;
        }
        channel.asked = Asked::Confirmed;
        if std::mem::take(&mut channel.early) {
            self.unconfirmed -= 1;
        }
        channel.users > 0
    }

    pub(super) fn is_confirmed(&self, name: &str) -> bool {
        let channel = self.channels.get(name);
        channel.is_some_and(|channel| channel.users > 0 && channel.asked == Asked::Confirmed)
    }

    /// Whether all that was wanted when the connection began is listened to.
    pub(super) fn is_complete(&self) -> bool {
        self.unconfirmed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(wanted: &mut Wanted) -> Vec<String> {
        let orders = std::iter::from_fn(|| wanted.next());
        let mut shown: Vec<_> = orders
            .map(|order| match order {
                Order::Listen(name) => format!("+{name}"),
                Order::Leave(name) => format!("-{name}"),
                Order::Send { .. } => unreachable!(),
            })
            .collect();
        shown.sort();
        shown
    }

    #[test]
    fn a_channel_is_listened_to_from_its_first_user_to_its_last() {
        let mut wanted = Wanted::default();
        assert!(wanted.want("a") && !wanted.want("a") && wanted.want("b"));
        assert_eq!(orders(&mut wanted), ["+a", "+b"]);
        assert!(!wanted.unwant("a"));
        assert_eq!(orders(&mut wanted), [""; 0]);
        assert!(wanted.unwant("a"));
        // Who comes back before the engine has heard of it changes nothing.
        assert!(wanted.want("a"));
        assert_eq!(orders(&mut wanted), [""; 0]);
        assert!(wanted.unwant("a") && wanted.want("c") && wanted.unwant("c"));
        assert_eq!(orders(&mut wanted), ["-a"]);
        assert_eq!(wanted.channels.len(), 1);
    }

    #[test]
    fn a_new_connection_is_asked_for_everything_and_is_complete_when_that_is_confirmed() {
        let mut wanted = Wanted::default();
        for name in ["a", "b", "c", "d"] {
            wanted.want(name);
        }
        orders(&mut wanted);
        wanted.unwant("d");
        wanted.begin();
        assert_eq!(orders(&mut wanted), ["+a", "+b", "+c"]);
        assert!(!wanted.confirm("d") && wanted.confirm("a") && !wanted.confirm("a"));
        assert!(wanted.is_confirmed("a") && !wanted.is_confirmed("b"));
        wanted.unwant("c");
        orders(&mut wanted);
        wanted.want("later");
        assert!(!wanted.is_complete() && wanted.confirm("b") && wanted.is_complete());
        wanted.begin();
        assert!(!wanted.is_complete() && !wanted.is_confirmed("a"));
    }
}
