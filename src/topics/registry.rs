//! [`Registry`]: finds topics by name, makes them, and forgets those that nobody uses.

use std::borrow::Borrow;
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::calls::assert_outside;
use super::cluster::{Cluster, Connect, Limits, Load, Times, Waiting};
use super::log::Retain;
use super::position::Position;
use super::presence::AnnounceFn;
use super::published::{AppendError, Published};
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
    /// Makes this process one among others. Taken when the registry is made.
    pub(super) connect: Option<Connect>,
    /// What may wait for the engine.
    pub(super) outbox: Limits,
    pub(super) probe: Times,
    /// How long a node may be cut off before it closes its connections.
    pub(super) isolated_after: Option<Duration>,
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
            connect: None,
            outbox: Limits::default(),
            probe: Times::default(),
            isolated_after: None,
        }
    }
}

/// See the module docs.
pub(crate) struct Registry {
    shards: [Mutex<Shard>; SHARDS],
    random: RandomState,
    lingering: Mutex<Lingering>,
    /// This process among others; `None` if it is alone.
    cluster: Option<Box<dyn Cluster>>,
    own: Weak<Self>,
    /// What waits to be appended to logs that all nodes share.
    pub(super) appends: Load,
    pub(super) rules: Rules,
}

/// What comes of appending a message.
pub(super) enum Appending {
    Done(Result<Position, AppendError>),
    /// The log lies elsewhere.
    Waits(oneshot::Receiver<Position>, Message),
}

impl Appending {
    pub(super) async fn finish(self) -> Result<Position, AppendError> {
        match self {
            Self::Done(appended) => appended,
            Self::Waits(position, message) => {
                let position = position.await;
                position.map_err(|_| AppendError::unreachable(message))
            }
        }
    }
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
    rooms: HashSet<Named, BuildHasherDefault<Known>>,
    /// Topics that had no more users at some time, and have a log.
    idle: VecDeque<Arc<Room>>,
}

/// A topic, found by its [`Name`].
struct Named(Arc<Room>);

/// A name and its hash, which is made once: it finds the shard, and the topic there.
trait Name {
    fn name(&self) -> (u64, &str);
}

impl Name for (u64, &str) {
    fn name(&self) -> (u64, &str) {
        *self
    }
}

impl Name for Named {
    fn name(&self) -> (u64, &str) {
        (self.0.hash, &self.0.name)
    }
}

impl<'a> Borrow<dyn Name + 'a> for Named {
    fn borrow(&self) -> &(dyn Name + 'a) {
        self
    }
}

impl Hash for dyn Name + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.name().0);
    }
}

impl PartialEq for dyn Name + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn Name + '_ {}

impl Hash for Named {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Named {}

/// The hash of what has one.
#[derive(Default)]
struct Known(u64);

impl Hasher for Known {
    fn write(&mut self, bytes: &[u8]) {
        debug_assert!(false, "{bytes:?} has no hash yet");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Registry {
    pub(super) fn new(mut rules: Rules) -> Arc<Self> {
        let connect = rules.connect.take();
        let registry = Arc::new_cyclic(|own| Self {
            cluster: connect.map(|connect| connect(&rules, own.clone())),
            own: own.clone(),
            appends: Load::default(),
            shards: Default::default(),
            random: RandomState::new(),
            lingering: Mutex::default(),
            rules,
        });
        registry.cluster();
        registry
    }

    /// This process among others. Its tasks run from the first call in a runtime on.
    pub(super) fn cluster(&self) -> Option<&dyn Cluster> {
        let cluster = self.cluster.as_deref()?;
        cluster.start();
        Some(cluster)
    }

    /// A connection has subscribed a topic.
    pub(super) fn joined(&self, room: &Arc<Room>) {
        if let Some(cluster) = self.cluster() {
            cluster.want(room);
        }
    }

    /// It does so no longer.
    pub(super) fn left(&self, room: &Room) {
        if let Some(cluster) = &self.cluster {
            cluster.unwant(room);
        }
    }

    /// The log of the topic is to be read.
    pub(super) fn read(&self, room: &Arc<Room>) {
        if let Some(cluster) = &self.cluster {
            cluster.read(room);
        }
    }

    /// Who is about to subscribe the topic, if this node may have to get its log first.
    pub(crate) fn waiting(self: &Arc<Self>, name: &str) -> Option<Waiting> {
        self.cluster().filter(|_| self.is_shared(name))?;
        let room = self.acquire(name)?;
        Some(Waiting::new(self.clone(), room))
    }

    /// Whether the topic is retained in a log that all nodes share.
    fn is_shared(&self, name: &str) -> bool {
        self.has_log() && self.is_retained(name)
    }

    fn has_log(&self) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_some_and(|cluster| cluster.has_log())
    }

    /// All topics.
    pub(super) fn rooms(&self) -> Vec<Arc<Room>> {
        let mut rooms = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            rooms.extend(shard.rooms.iter().map(|named| named.0.clone()));
        }
        rooms
    }

    /// The topic of this name, if there is one.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Room>> {
        assert_outside();
        if name.len() > MAX_NAME {
            return None;
        }
        let name = self.hashed(name);
        let shard = self.shard(name.0);
        shard
            .rooms
            .get(&name as &dyn Name)
            .map(|named| named.0.clone())
    }

    /// The topic of this name, which is made if there is none. It stays until it is
    /// [released](Self::release) as often as it was acquired. `None`: the name is too long.
    pub(super) fn acquire(&self, name: &str) -> Option<Arc<Room>> {
        assert_outside();
        if name.len() > MAX_NAME {
            return None;
        }
        let hashed = self.hashed(name);
        let mut shard = self.shard(hashed.0);
        if let Some(Named(room)) = shard.rooms.get(&hashed as &dyn Name) {
            room.refs.fetch_add(1, Ordering::Relaxed);
            return Some(room.clone());
        }
        let rules = self.rules.retain.iter();
        let rule = rules
            .filter(|(prefix, _)| name.starts_with(&**prefix))
            .max_by_key(|(prefix, _)| prefix.len());
        let epoch = || RandomState::new().hash_one(name);
        let room = Arc::new(Room::new(
            hashed,
            rule.map(|(_, retain)| *retain),
            epoch,
            self.has_log(),
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
        let mut shard = self.shard(room.hash);
        let name = (room.hash, &*room.name);
        // Somebody may have found it meanwhile, or it may be gone already.
        if room.refs.load(Ordering::Acquire) > 0 {
            return;
        }
        let is_there = shard.rooms.get(&name as &dyn Name);
        if !is_there.is_some_and(|there| Arc::ptr_eq(&there.0, room)) {
            return;
        }
        let mut forgotten = Vec::new();
        room.leave();
        if room.is_forgotten() {
            forgotten.extend(shard.rooms.take(&name as &dyn Name).map(|named| named.0));
            shard.shrink();
        } else if !room.is_idle.swap(true, Ordering::Relaxed) {
            shard.idle.push_back(room.clone());
            forgotten.extend(shard.sweep());
        }
        drop(shard);
        drop(forgotten);
    }

    /// Publishes to the topic of this name, if it has subscribers or a log, and to other nodes.
    pub(super) fn publish(
        &self,
        name: &str,
        message: &Message,
        from: u64,
    ) -> (Published, Option<Position>) {
        match self.cluster() {
            None => self.publish_here(name, message, from),
            Some(cluster) => self.publish_beyond(cluster, name, message, from),
        }
    }

    #[cold]
    fn publish_beyond(
        &self,
        cluster: &dyn Cluster,
        name: &str,
        message: &Message,
        from: u64,
    ) -> (Published, Option<Position>) {
        assert_outside();
        if name.len() > MAX_NAME {
            return Default::default();
        }
        if self.is_shared(name) {
            let Some(room) = self.acquire(name) else {
                return Default::default();
            };
            let sent = self.append_beyond(cluster, &room, message, from, None);
            self.release(&room);
            return (Published::beyond(sent), None);
        }
        let (mut published, position) = self.publish_here(name, message, from);
        published.unsent = !cluster.publish(name, message, from);
        (published, position)
    }

    /// `reply` gets the position. `false`: it is not appended.
    fn append_beyond(
        &self,
        cluster: &dyn Cluster,
        room: &Arc<Room>,
        message: &Message,
        from: u64,
        reply: Option<oneshot::Sender<Position>>,
    ) -> bool {
        let registry = self.own.upgrade();
        registry.is_some_and(|all| cluster.append(&all, room, message, from, reply))
    }

    /// Appends to the topic of this name.
    pub(super) fn append(&self, name: &str, message: Message) -> Appending {
        if !self.is_retained(name) || name.len() > MAX_NAME {
            return Appending::Done(Err(AppendError::not_retained(message)));
        }
        let Some(room) = self.acquire(name) else {
            return Appending::Done(Err(AppendError::not_retained(message)));
        };
        let appending = self.append_in(&room, message);
        self.release(&room);
        appending
    }

    /// The same without looking it up.
    pub(super) fn append_in(&self, room: &Arc<Room>, message: Message) -> Appending {
        assert_outside();
        if !room.is_retained() {
            return Appending::Done(Err(AppendError::not_retained(message)));
        }
        let Some(cluster) = self.cluster().filter(|_| room.shelf().is_some()) else {
            let position = self.publish_in(room, &message, 0).1;
            return Appending::Done(position.ok_or(AppendError::not_retained(message)));
        };
        let (reply, position) = oneshot::channel();
        match self.append_beyond(cluster, room, &message, 0, Some(reply)) {
            true => Appending::Waits(position, message),
            false => Appending::Done(Err(AppendError::unreachable(message))),
        }
    }

    /// Publishes what all nodes know, so that each tells its own connections. If it is to be in a log,
    /// one of them does.
    pub(super) fn announce_in(&self, room: &Arc<Room>, message: &Message) {
        match self.cluster().filter(|_| room.shelf().is_some()) {
            None => drop(self.publish_here_in(room, message, 0)),
            Some(cluster) if cluster.leads(&room.name) => {
                self.append_beyond(cluster, room, message, 0, None);
            }
            Some(_) => {}
        }
    }

    /// Publishes to the topic of this name on this node.
    fn publish_here(
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
        let published = self.publish_here_in(&room, message, from);
        self.release(&room);
        published
    }

    /// Publishes without looking the topic up.
    pub(super) fn publish_in(
        &self,
        room: &Arc<Room>,
        message: &Message,
        from: u64,
    ) -> (Published, Option<Position>) {
        match self.cluster() {
            None => self.publish_here_in(room, message, from),
            Some(cluster) if room.shelf().is_some() => {
                let sent = self.append_beyond(cluster, room, message, from, None);
                (Published::beyond(sent), None)
            }
            Some(cluster) => {
                let (mut published, position) = self.publish_here_in(room, message, from);
                published.unsent = !cluster.publish(&room.name, message, from);
                (published, position)
            }
        }
    }

    /// The same on this node.
    pub(super) fn publish_here_in(
        &self,
        room: &Room,
        message: &Message,
        from: u64,
    ) -> (Published, Option<Position>) {
        assert_outside();
        measure::published();
        room.publish(message, from, self.rules.stamp.as_deref())
    }

    /// Whether any topic is retained.
    pub(super) fn retains(&self) -> bool {
        !self.rules.retain.is_empty()
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

    fn hashed<'a>(&self, name: &'a str) -> (u64, &'a str) {
        (self.random.hash_one(name), name)
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // Not the lowest bits, nor the highest: they find the topic in its shard.
        let shard = &self.shards[(hash >> 32) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(cluster) = &self.cluster {
            cluster.leave();
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
                let name = (room.hash, &*room.name);
                forgotten.extend(self.rooms.take(&name as &dyn Name).map(|named| named.0));
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
