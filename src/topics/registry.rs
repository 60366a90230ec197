//! [`Registry`]: finds topics by name, makes them, and forgets those that nobody uses.

use std::borrow::Borrow;
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::calls::assert_outside;
use super::cluster::{self, Backplane, Node};
use super::log::Retain;
use super::position::Position;
use super::presence::AnnounceFn;
use super::published::Published;
use super::room::{Room, StampFn};
use crate::measure;
use crate::message::Message;
use crate::sync::{Mutex, MutexGuard};

/// The most bytes of a topic's name. A peer may choose names: this is what one can cost.
pub(super) const MAX_NAME: usize = 256;

/// So many topics can be looked up at the same time. More than cores of most machines.
pub(super) const SHARDS: usize = 32;

/// The most topics of a shard that are retained though nobody uses them: 16,384 in all.
const MAX_IDLE: usize = 512;

/// What [`TopicsBuilder`](super::TopicsBuilder) has set.
pub(super) struct Rules {
    /// Prefixes of names. The longest one decides.
    pub(super) retain: Vec<(Box<str>, Retain)>,
    pub(super) stamp: Option<Box<StampFn>>,
    /// Of one connection.
    pub(super) max_subscriptions: usize,
    /// In one topic.
    pub(super) max_present: usize,
    /// How long a key stays present without a connection.
    pub(super) linger: Duration,
    /// It does not if its last connection is ended by a drain.
    pub(super) leave_on_drain: bool,
    /// Makes messages of changes of presence.
    pub(super) announce: Option<Box<AnnounceFn>>,
    /// Taken when the registry is made.
    pub(super) backplane: Option<Box<dyn Backplane>>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            retain: Vec::new(),
            stamp: None,
            max_subscriptions: 128,
            max_present: 10_000,
            linger: Duration::from_secs(5),
            leave_on_drain: false,
            announce: None,
            backplane: None,
        }
    }
}

/// See the module docs.
pub(crate) struct Registry {
    shards: [Mutex<Shard>; SHARDS],
    random: RandomState,
    lingering: Mutex<Lingering>,
    /// This process among others; `None` if it is alone.
    node: Option<Arc<Node>>,
    pub(super) rules: Rules,
}

/// Which keys may leave the presence of topics, unless somebody comes back, and when.
#[derive(Default)]
pub(super) struct Lingering {
    pub(super) keys: VecDeque<(Instant, Arc<Room>, Box<str>)>,
    /// A task waits for the first of them.
    pub(super) running: bool,
}

#[derive(Default)]
struct Shard {
    rooms: HashSet<Named, RandomState>,
    /// Topics that had no more users at some time, and have a log.
    idle: VecDeque<Arc<Room>>,
}

/// A topic, found by its name.
struct Named(Arc<Room>);

impl Borrow<str> for Named {
    fn borrow(&self) -> &str {
        &self.0.name
    }
}

impl Hash for Named {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Named {}

impl Registry {
    pub(super) fn new(mut rules: Rules) -> Self {
        let node = rules.backplane.take().map(Node::new);
        if let Some(node) = &node {
            cluster::start(node);
        }
        Self {
            node,
            shards: Default::default(),
            random: RandomState::new(),
            lingering: Mutex::default(),
            rules,
        }
    }

    /// The topic of this name, if there is one.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Room>> {
        assert_outside();
        if name.len() > MAX_NAME {
            return None;
        }
        let shard = self.shard(name);
        shard.rooms.get(name).map(|named| named.0.clone())
    }

    /// The topic of this name, which is made if there is none. It stays until it is
    /// [released](Self::release) as often as it was acquired. `None`: the name is too long.
    pub(super) fn acquire(&self, name: &str) -> Option<Arc<Room>> {
        assert_outside();
        if name.len() > MAX_NAME {
            return None;
        }
        let mut shard = self.shard(name);
        if let Some(Named(room)) = shard.rooms.get(name) {
            room.refs.fetch_add(1, Ordering::Relaxed);
            return Some(room.clone());
        }
        let rules = self.rules.retain.iter();
        let rule = rules
            .filter(|(prefix, _)| name.starts_with(&**prefix))
            .max_by_key(|(prefix, _)| prefix.len());
        let epoch = || RandomState::new().hash_one(name);
        let room = Arc::new(Room::new(
            name.into(),
            rule.map(|(_, retain)| *retain),
            epoch,
        ));
        room.refs.fetch_add(1, Ordering::Relaxed);
        shard.rooms.insert(Named(room.clone()));
        let forgotten = shard.sweep();
        drop(shard);
        drop(forgotten);
        Some(room)
    }

    /// One more user of a topic that has one.
    pub(super) fn acquire_again(room: &Room) {
        room.refs.fetch_add(1, Ordering::Relaxed);
    }

    /// A user of the topic is gone. The last one takes the topic along, unless it has a log.
    pub(super) fn release(&self, room: &Arc<Room>) {
        if room.refs.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let mut shard = self.shard(&room.name);
        // Somebody may have found it meanwhile, or it may be gone already.
        if room.refs.load(Ordering::Acquire) > 0 {
            return;
        }
        let is_there = shard.rooms.get(&*room.name);
        if !is_there.is_some_and(|there| Arc::ptr_eq(&there.0, room)) {
            return;
        }
        let mut forgotten = Vec::new();
        room.leave();
        if room.is_forgotten() {
            forgotten.extend(shard.rooms.take(&*room.name).map(|named| named.0));
            shard.shrink();
        } else if !room.is_idle.swap(true, Ordering::Relaxed) {
            shard.idle.push_back(room.clone());
            forgotten.extend(shard.sweep());
        }
        drop(shard);
        drop(forgotten);
    }

    /// Publishes to the topic of this name, if it has subscribers or a log.
    pub(super) fn publish(
        &self,
        name: &str,
        message: &Message,
        from: u64,
    ) -> (Published, Option<Position>) {
        assert_outside();
        if !self.is_retained(name) {
            measure::published();
            let Some(room) = self.find(name) else {
                return Default::default();
            };
            return room.publish(message, from, None);
        }
        let Some(room) = self.acquire(name) else {
            return Default::default();
        };
        let published = self.publish_in(&room, message, from);
        self.release(&room);
        published
    }

    /// The same without looking it up.
    pub(super) fn publish_in(
        &self,
        room: &Room,
        message: &Message,
        from: u64,
    ) -> (Published, Option<Position>) {
        assert_outside();
        measure::published();
        room.publish(message, from, self.rules.stamp.as_deref())
    }

    pub(super) fn is_retained(&self, name: &str) -> bool {
        let mut rules = self.rules.retain.iter();
        rules.any(|(prefix, _)| name.starts_with(&**prefix))
    }

    /// Shows the names of the topics of one shard, and how many subscribe them. `with` runs under its lock.
    pub(super) fn each(&self, shard: usize, mut with: impl FnMut(&str, usize)) {
        assert_outside();
        let Some(shard) = self.shards.get(shard) else {
            return;
        };
        let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        for Named(room) in &shard.rooms {
            with(&room.name, room.subscribers());
        }
    }

    /// How many topics there are.
    pub(super) fn count(&self) -> usize {
        let lock = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.rooms.len()
        };
        self.shards.iter().map(lock).sum()
    }

    pub(super) fn lingering(&self) -> MutexGuard<'_, Lingering> {
        self.lingering
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, name: &str) -> MutexGuard<'_, Shard> {
        let hash = self.random.hash_one(name);
        let shard = &self.shards[hash as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(node) = &self.node {
            node.leave();
        }
    }
}

impl Shard {
    /// Forgets some of the topics that nobody uses, if their logs are too old or there are too many.
    /// The caller drops them where it holds no lock.
    fn sweep(&mut self) -> Vec<Arc<Room>> {
        let mut forgotten = Vec::new();
        // A few at a time, so that nobody waits long.
        for _ in 0..8 {
            let Some(room) = self.idle.pop_front() else {
                self.idle = VecDeque::new();
                break;
            };
            if room.refs.load(Ordering::Acquire) > 0 {
                room.is_idle.store(false, Ordering::Relaxed);
            } else if self.idle.len() >= MAX_IDLE || room.is_forgotten() {
                forgotten.extend(self.rooms.take(&*room.name).map(|named| named.0));
            } else {
                self.idle.push_back(room);
                break;
            }
        }
        self.shrink();
        forgotten
    }

    /// A set that was large once must not keep its memory.
    fn shrink(&mut self) {
        if self.rooms.capacity() > 64 && self.rooms.len() < self.rooms.capacity() / 8 {
            self.rooms.shrink_to(self.rooms.len() * 2);
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("topics", &self.count())
            .finish_non_exhaustive()
    }
}
