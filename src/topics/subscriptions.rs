//! [`Subscriptions`]: what one connection subscribes.

use std::ops::Deref;
use std::sync::{Arc, PoisonError};

use super::calls::assert_outside;
use super::presence::TrackError;
use super::published::SubscribeError;
use super::receiver::Receiver;
use super::registry::{MAX_NAME, Registry};
use super::room::Room;
use super::terms::{Attached, Subscribe};
use super::tracking::Tracking;
use crate::measure;
use crate::sync::{Mutex, MutexGuard};

/// See the module docs. A connection has one from its first subscription on. It does not keep the
/// registry, which its owner has.
#[derive(Default)]
pub(crate) struct Subscriptions(Mutex<List>);

#[derive(Default)]
struct List {
    entries: Entries,
    /// Boxed: most connections have none of it.
    rare: Option<Box<Rare>>,
}

/// By the address of the topic.
#[derive(Default)]
enum Entries {
    #[default]
    None,
    /// Most connections have one.
    One(Entry),
    Many(Vec<Entry>),
    /// The connection is no more.
    Ended,
}

#[derive(Default)]
struct Rare {
    /// Where the connection is present, and as whom.
    tracked: Vec<(Arc<Room>, Box<str>)>,
    /// Messages that were dropped for subscriptions that ended.
    dropped: u64,
}

struct Entry {
    room: Arc<Room>,
    slot: u32,
}

impl Subscriptions {
    pub(crate) fn subscribe(
        &self,
        registry: &Arc<Registry>,
        receiver: &Arc<dyn Receiver>,
        name: &str,
        how: Subscribe,
    ) -> Result<Attached, SubscribeError> {
        assert_outside();
        let mut list = self.list();
        if matches!(list.entries, Entries::Ended) {
            return Err(SubscribeError::Closed);
        }
        let Some(room) = registry.acquire(name) else {
            return Err(SubscribeError::NameTooLong(name.len()));
        };
        debug_assert!(name.len() <= MAX_NAME);
        let at = match list.find(&room) {
            Ok(at) => {
                // It is held by the first subscription.
                registry.release(&room);
                let slot = list.entries[at].slot;
                let (_, attached, dropped) = room.subscribe(receiver, how, Some(slot));
                list.has_dropped(dropped);
                return Ok(attached);
            }
            Err(at) => at,
        };
        let most = registry.rules.max_subscriptions;
        if list.entries.len() >= most {
            registry.release(&room);
            return Err(SubscribeError::TooMany(most));
        }
        registry.joined(&room);
        let (slot, attached, _) = room.subscribe(receiver, how, None);
        list.entries.insert(at, Entry { room, slot });
        drop(list);
        measure::subscribed();
        Ok(attached)
    }

    /// Whether it was subscribed.
    pub(crate) fn unsubscribe(&self, registry: &Arc<Registry>, name: &str) -> bool {
        assert_outside();
        let mut list = self.list();
        let Some(at) = list.find_name(registry, name) else {
            return false;
        };
        let Some(entry) = list.entries.remove(at) else {
            return false;
        };
        // The list stays locked: subscribing anew comes behind it.
        list.has_dropped(entry.room.unsubscribe(entry.slot));
        registry.left(&entry.room);
        drop(list);
        registry.release(&entry.room);
        measure::unsubscribed(1);
        true
    }

    /// Makes the connection present in a topic.
    pub(crate) fn track(
        &self,
        registry: &Arc<Registry>,
        connection: u64,
        name: &str,
        key: &str,
        meta: String,
    ) -> Result<(), TrackError> {
        assert_outside();
        let mut list = self.list();
        if matches!(list.entries, Entries::Ended) {
            return Err(TrackError::Closed);
        }
        let most = registry.rules.max_subscriptions;
        let Some(room) = registry.acquire(name) else {
            return Err(TrackError::TooLong(name.len()));
        };
        let is_there = list.find_tracked(&room, key).is_some();
        let tracked = if !is_there && list.tracked().len() >= most {
            Err(TrackError::TooMany(most))
        } else {
            let told = registry.cluster().map(|cluster| (cluster, meta.clone()));
            let tracked = Tracking(registry).track(&room, connection, key, meta);
            if let Some((cluster, meta)) = told.filter(|_| tracked.is_ok()) {
                cluster.present(name, connection, key, &meta);
            }
            tracked
        };
        if tracked.is_ok() && !is_there {
            list.rare().tracked.push((room.clone(), key.into()));
            Registry::acquire_again(&room);
        }
        drop(list);
        Tracking(registry).tell(&room);
        registry.release(&room);
        tracked
    }

    /// Whether the connection was present.
    pub(crate) fn untrack(
        &self,
        registry: &Arc<Registry>,
        connection: u64,
        name: &str,
        key: &str,
    ) -> bool {
        assert_outside();
        let room = registry.find(name);
        let mut list = self.list();
        let Some(at) = room.and_then(|room| list.find_tracked(&room, key)) else {
            return false;
        };
        let (room, key) = list.rare().tracked.swap_remove(at);
        drop(list);
        Self::leave(registry, connection, &room, &key, true);
        true
    }

    fn leave(
        registry: &Arc<Registry>,
        connection: u64,
        room: &Arc<Room>,
        key: &str,
        can_linger: bool,
    ) {
        if let Some(cluster) = registry.cluster() {
            cluster.absent(&room.name, connection, key, can_linger);
        }
        Tracking(registry).untrack(room, connection, key, can_linger);
        registry.release(room);
    }

    /// How many messages were dropped.
    pub(crate) fn dropped(&self, registry: &Arc<Registry>, name: &str) -> u64 {
        assert_outside();
        let list = self.list();
        let at = list.find_name(registry, name);
        at.map_or(0, |at| {
            let Entry { room, slot } = &list.entries[at];
            room.dropped(*slot)
        })
    }

    /// How many were dropped since the connection began, for subscriptions that have ended too.
    pub(crate) fn dropped_in_all(&self) -> u64 {
        assert_outside();
        let list = self.list();
        let ended = list.rare.as_ref().map_or(0, |rare| rare.dropped);
        let entries = list.entries.iter();
        ended
            + entries
                .map(|Entry { room, slot }| room.dropped(*slot))
                .sum::<u64>()
    }

    /// How many topics are subscribed, and the names of at most `most` of them.
    pub(crate) fn names(&self, most: usize) -> (usize, Vec<String>) {
        assert_outside();
        let list = self.list();
        let entries = list.entries.iter().take(most);
        let mut names: Vec<String> = entries.map(|entry| entry.room.name.to_string()).collect();
        names.sort_unstable();
        (list.entries.len(), names)
    }

    /// There is room in the queue of the connection, which was behind.
    pub(crate) fn refill(&self) {
        let list = self.list();
        for Entry { room, slot } in list.entries.iter() {
            room.refill(*slot);
        }
    }

    /// The connection is no more; `is_drained`: a drain has asked it to leave.
    pub(crate) fn end(&self, registry: &Arc<Registry>, connection: u64, is_drained: bool) {
        let (entries, tracked) = {
            let mut list = self.list();
            let rare = list.rare.as_mut();
            let tracked = rare.map(|rare| std::mem::take(&mut rare.tracked));
            (
                std::mem::replace(&mut list.entries, Entries::Ended),
                tracked.unwrap_or_default(),
            )
        };
        measure::unsubscribed(entries.len());
        let mut dropped = 0;
        // Others hear that it leaves, and it does not.
        for Entry { room, slot } in entries.iter() {
            dropped += room.unsubscribe(*slot);
            registry.left(room);
            registry.release(room);
        }
        let can_linger = !(is_drained && registry.rules.leave_on_drain);
        self.list().has_dropped(dropped);
        for (room, key) in tracked {
            Self::leave(registry, connection, &room, &key, can_linger);
        }
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn find(&self, room: &Arc<Room>) -> Result<usize, usize> {
        let address = |room: &Arc<Room>| Arc::as_ptr(room).addr();
        self.entries
            .binary_search_by_key(&address(room), |entry| address(&entry.room))
    }

    fn tracked(&self) -> &[(Arc<Room>, Box<str>)] {
        self.rare.as_ref().map_or(&[], |rare| &rare.tracked)
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// So many were dropped for a subscription that is no more.
    fn has_dropped(&mut self, messages: u64) {
        if messages > 0 {
            self.rare().dropped += messages;
        }
    }

    fn find_tracked(&self, room: &Arc<Room>, key: &str) -> Option<usize> {
        let mut tracked = self.tracked().iter();
        tracked.position(|(other, as_whom)| Arc::ptr_eq(other, room) && **as_whom == *key)
    }

    fn find_name(&self, registry: &Registry, name: &str) -> Option<usize> {
        self.find(&registry.find(name)?).ok()
    }
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        match self {
            Self::None | Self::Ended => &[],
            Self::One(entry) => std::slice::from_ref(entry),
            Self::Many(entries) => entries,
        }
    }
}

impl Entries {
    fn insert(&mut self, at: usize, entry: Entry) {
        *self = match std::mem::take(self) {
            Self::None | Self::Ended => Self::One(entry),
            Self::One(first) => {
                let mut entries = Vec::with_capacity(2);
                entries.push(first);
                entries.insert(at, entry);
                Self::Many(entries)
            }
            Self::Many(mut entries) => {
                if entries.len() == entries.capacity() {
                    // By an eighth: what is not used costs more than the copies.
                    entries.reserve_exact((entries.len() / 8).max(1));
                }
                entries.insert(at, entry);
                Self::Many(entries)
            }
        }
    }

    fn remove(&mut self, at: usize) -> Option<Entry> {
        match std::mem::take(self) {
            Self::Many(mut entries) => {
                let removed = (at < entries.len()).then(|| entries.remove(at));
                // A connection that had many subscriptions once must not keep their places.
                if entries.len() < entries.capacity() / 4 {
                    entries.shrink_to(entries.len() * 2);
                }
                *self = match entries.len() {
                    1 => entries.pop().map_or(Self::None, Self::One),
                    _ => Self::Many(entries),
                };
                removed
            }
            Self::One(entry) => Some(entry),
            before => {
                *self = before;
                None
            }
        }
    }
}
