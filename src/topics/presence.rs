//! [`Present`]: who is there. [`Crowd`] is those of one topic; it knows no clock: time is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use tokio::sync::broadcast;

use super::log::Time;
use crate::message::Message;

/// The most bytes of a key, as of the name of a topic.
pub(super) const MAX_KEY: usize = 256;

/// The most bytes that are kept for one connection beside its key: a name, a picture's address, a colour.
pub(super) const MAX_META: usize = 1024;

/// Changes that wait for a reader of [`PresenceChanges`](super::PresenceChanges).
const CHANGES: usize = 256;

/// Somebody who is present in a topic, over one connection or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    pub(super) key: String,
    pub(super) metas: Vec<String>,
}

impl Present {
    /// The key with which the connections are [tracked](crate::Connection::track).
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What was said of each of the connections, in the order in which they came. Empty while nobody is
    /// connected and the [time to linger](crate::TopicsBuilder::linger) goes on.
    pub fn metas(&self) -> impl Iterator<Item = &str> {
        self.metas.iter().map(String::as_str)
    }
}

/// What happens to the presence of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PresenceChange {
    /// The first connection of this key has come.
    Joined(Present),
    /// The last connection of this key has gone, and none has come within the
    /// [time to linger](crate::TopicsBuilder::linger).
    Left(String),
    /// So many changes were not read in time. The list has to be read anew. Messages never have this.
    Missed(u64),
}

/// Why a connection is not tracked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrackError {
    /// The connection is closed.
    Closed,
    /// The connection is tracked this often, as often as it may have subscriptions.
    TooMany(usize),
    /// So many are present in the topic, as many as may be: see
    /// [`TopicsBuilder::max_present`](crate::TopicsBuilder::max_present).
    Full(usize),
    /// The topic or the key is longer than 256 bytes, or the rest longer than 1,024: this many.
    TooLong(usize),
}

impl TrackError {
    /// Whether it is [`Closed`](Self::Closed).
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }
}

impl fmt::Display for TrackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection is closed, it is not tracked"),
            Self::TooMany(most) => write!(f, "the connection is tracked {most} times already"),
            Self::Full(most) => write!(f, "{most} are present in the topic already"),
            Self::TooLong(len) => write!(f, "{len} bytes are too many to be tracked with"),
        }
    }
}

impl std::error::Error for TrackError {}

pub(super) type AnnounceFn = dyn Fn(&str, &PresenceChange) -> Option<Message> + Send + Sync;

/// See the module docs.
#[derive(Debug)]
pub(super) struct Crowd<T> {
    present: BTreeMap<Box<str>, Entry<T>>,
    /// Changes that nobody has told of yet, in order.
    untold: VecDeque<PresenceChange>,
    /// Somebody tells of them.
    telling: bool,
    readers: Option<broadcast::Sender<PresenceChange>>,
}

#[derive(Debug)]
struct Entry<T> {
    /// Connections, and what was said of each.
    connections: Vec<(u64, String)>,
    /// When the last one left.
    left: Option<T>,
    /// A timer will look at it.
    timed: bool,
}

/// What is to be done when a connection is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// Others of the key are there, or a timer runs.
    Nothing,
    /// The entry has to be looked at after the time to linger.
    Time,
}

/// What a timer finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Looked {
    Done,
    /// Somebody came and left meanwhile: look again after this time.
    Again(Duration),
}

impl<T: Time> Crowd<T> {
    pub(super) fn new() -> Self {
        Self {
            present: BTreeMap::new(),
            untold: VecDeque::new(),
            telling: false,
            readers: None,
        }
    }

    /// A connection is there, or something else is said of it.
    pub(super) fn track(
        &mut self,
        connection: u64,
        key: &str,
        meta: String,
        most: usize,
    ) -> Result<(), TrackError> {
        if let Some(entry) = self.present.get_mut(key) {
            entry.left = None;
            let mut connections = entry.connections.iter_mut();
            match connections.find(|(id, _)| *id == connection) {
                Some((_, before)) => *before = meta,
                None => entry.connections.push((connection, meta)),
            }
            return Ok(());
        }
        if self.present.len() >= most {
            return Err(TrackError::Full(most));
        }
        let joined = Present {
            key: key.to_owned(),
            metas: vec![meta.clone()],
        };
        self.untold.push_back(PresenceChange::Joined(joined));
        let entry = Entry {
            connections: vec![(connection, meta)],
            left: None,
            timed: false,
        };
        self.present.insert(key.into(), entry);
        Ok(())
    }

    /// A connection is gone. With `can_wait`, its key lingers.
    pub(super) fn untrack(
        &mut self,
        connection: u64,
        key: &str,
        now: T,
        can_wait: bool,
    ) -> Leaving {
        let Some(entry) = self.present.get_mut(key) else {
            return Leaving::Nothing;
        };
        entry.connections.retain(|(id, _)| *id != connection);
        if !entry.connections.is_empty() || entry.left.is_some() {
            return Leaving::Nothing;
        }
        if !can_wait {
            self.leave(key);
            return Leaving::Nothing;
        }
        entry.left = Some(now);
        if std::mem::replace(&mut entry.timed, true) {
            return Leaving::Nothing;
        }
        Leaving::Time
    }

    /// The timer of a key is over.
    pub(super) fn look(&mut self, key: &str, now: T, linger: Duration) -> Looked {
        let Some(entry) = self.present.get_mut(key) else {
            return Looked::Done;
        };
        let Some(left) = entry.left else {
            entry.timed = false;
            return Looked::Done;
        };
        let rest = linger.saturating_sub(now.since(left));
        if !rest.is_zero() {
            return Looked::Again(rest);
        }
        self.leave(key);
        Looked::Done
    }

    /// Whether the connection is there as that.
    pub(super) fn has(&self, connection: u64, key: &str) -> bool {
        let entry = self.present.get(key);
        entry.is_some_and(|entry| entry.connections.iter().any(|(id, _)| *id == connection))
    }

    fn leave(&mut self, key: &str) {
        self.present.remove(key);
        self.untold.push_back(PresenceChange::Left(key.to_owned()));
    }

    /// The next change to tell of, for one at a time: changes are told of in order, and nobody waits
    /// for who tells.
    pub(super) fn next_untold(&mut self, is_first: bool) -> Option<PresenceChange> {
        if is_first && self.telling {
            return None;
        }
        let change = self.untold.pop_front();
        self.telling = change.is_some();
        change
    }

    pub(super) fn readers(&self) -> Option<broadcast::Sender<PresenceChange>> {
        self.readers.clone()
    }

    pub(super) fn read(&mut self) -> broadcast::Receiver<PresenceChange> {
        let make = || broadcast::channel(CHANGES).0;
        self.readers.get_or_insert_with(make).subscribe()
    }

    pub(super) fn list(&self) -> Vec<Present> {
        let mut list = Vec::with_capacity(self.present.len());
        for (key, entry) in &self.present {
            let metas = entry.connections.iter().map(|(_, meta)| meta.clone());
            list.push(Present {
                key: key.to_string(),
                metas: metas.collect(),
            });
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn changes(crowd: &mut Crowd<Duration>) -> Vec<String> {
        let mut shown = Vec::new();
        while let Some(change) = crowd.next_untold(shown.is_empty()) {
            shown.push(match change {
                PresenceChange::Joined(present) => format!("+{}", present.key),
                PresenceChange::Left(key) => format!("-{key}"),
                PresenceChange::Missed(n) => n.to_string(),
            });
        }
        shown
    }

    #[test]
    fn a_key_joins_with_its_first_connection_and_leaves_with_its_last() {
        let mut crowd = Crowd::new();
        for (connection, key) in [(1, "ada"), (2, "ada"), (3, "bob")] {
            crowd
                .track(connection, key, format!("{connection}"), 10)
                .unwrap();
        }
        assert_eq!(changes(&mut crowd), ["+ada", "+bob"]);
        crowd.track(2, "ada", "two".to_owned(), 10).unwrap();
        let ada = &crowd.list()[0];
        assert_eq!(
            (ada.key(), Vec::from_iter(ada.metas())),
            ("ada", vec!["1", "two"])
        );
        assert_eq!(crowd.untrack(1, "ada", at(0), true), Leaving::Nothing);
        assert_eq!(crowd.untrack(2, "ada", at(0), true), Leaving::Time);
        assert_eq!(crowd.untrack(2, "ada", at(0), true), Leaving::Nothing);
        assert_eq!(crowd.list()[0].metas().count(), 0);
        assert_eq!(crowd.look("ada", at(5), LINGER), Looked::Done);
        assert_eq!(crowd.untrack(3, "bob", at(0), false), Leaving::Nothing);
        assert_eq!(changes(&mut crowd), ["-ada", "-bob"]);
        assert!(crowd.list().is_empty());
    }

    #[test]
    fn who_comes_back_while_the_key_lingers_has_never_left() {
        let mut crowd = Crowd::new();
        crowd.track(1, "ada", String::new(), 10).unwrap();
        assert_eq!(crowd.untrack(1, "ada", at(0), true), Leaving::Time);
        crowd.track(2, "ada", String::new(), 10).unwrap();
        // It leaves again while the first timer runs.
        assert_eq!(crowd.untrack(2, "ada", at(4), true), Leaving::Nothing);
        assert_eq!(crowd.look("ada", at(5), LINGER), Looked::Again(at(4)));
        crowd.track(3, "ada", String::new(), 10).unwrap();
        assert_eq!(crowd.look("ada", at(9), LINGER), Looked::Done);
        assert_eq!(changes(&mut crowd), ["+ada"]);
        assert_eq!(crowd.untrack(3, "ada", at(9), true), Leaving::Time);
    }

    #[test]
    fn more_than_may_be_are_refused_and_one_tells_at_a_time() {
        let mut crowd = Crowd::new();
        crowd.track(1, "ada", String::new(), 1).unwrap();
        let full = crowd.track(2, "bob", String::new(), 1);
        assert_eq!(full, Err(TrackError::Full(1)));
        crowd.track(2, "ada", String::new(), 1).unwrap();
        assert!(crowd.next_untold(true).is_some());
        crowd.untrack(1, "ada", at(0), false);
        crowd.untrack(2, "ada", at(0), false);
        assert!(crowd.next_untold(true).is_none());
        assert!(crowd.next_untold(false).is_some());
        assert!(crowd.next_untold(false).is_none());
    }
}
