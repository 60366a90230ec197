//! [`Roster`]: who is present on this node, as it tells the others, and on the others, as they tell it.
//! It knows no clock: time is an argument.
//!
//! Each node is the only writer of what it tells. It counts its changes; that count is its version. Who
//! misses changes sees it by the next ones, or by a digest, and asks for the whole.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::envelope::{Change, Standing};

/// A node that says nothing for so long is gone, with all who were present on it.
const SILENCE: Duration = Duration::from_secs(10);

/// A node is asked for the whole once in that time.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Changes that wait until they are told, or until the whole is here. Beyond, the whole is asked for.
const MAX_PENDING: usize = 4096;

/// What an envelope may have of changes: a fraction of the outbox.
const MAX_LOAD: usize = 64 * 1024;

/// Nodes that are known.
const MAX_NODES: usize = 1024;

/// Connections that are present on another node: as many as a large machine has.
const MAX_PRESENT: usize = 1_000_000;

type Key = (Box<str>, u64, Box<str>);

/// See the module docs.
#[derive(Debug)]
pub(super) struct Roster<T> {
    version: u64,
    own: BTreeMap<Key, Box<str>>,
    /// The latest changes, which the others have not been told of.
    pending: Vec<Change>,
    others: HashMap<u64, Other<T>>,
    /// Connections of other nodes have numbers here, from above, where no connection of this process is.
    alias: u64,
}

#[derive(Debug)]
struct Other<T> {
    version: u64,
    heard: T,
    asked: Option<T>,
    present: HashMap<Key, u64>,
    /// Changes that came while the whole is waited for.
    pending: Vec<(u64, Vec<Change>)>,
    parts: Parts,
}

/// Parts of the whole of a node.
#[derive(Debug, Default)]
struct Parts {
    version: u64,
    pieces: BTreeMap<u32, Vec<Change>>,
    /// What they count.
    held: usize,
}

/// What is to be done with the presence of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Join {
        topic: Box<str>,
        alias: u64,
        key: Box<str>,
        meta: Box<str>,
    },
    Leave {
        topic: Box<str>,
        alias: u64,
        key: Box<str>,
        /// The key stays for a while.
        lingers: bool,
    },
}

/// What came of news of another node.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    pub(super) ops: Vec<Op>,
    /// The node is to be asked for the whole.
    pub(super) ask: bool,
}

impl<T: Copy + Ord + std::ops::Add<Duration, Output = T>> Roster<T> {
    pub(super) fn new() -> Self {
        Self {
            version: 0,
            own: BTreeMap::new(),
            pending: Vec::new(),
            others: HashMap::new(),
            alias: u64::MAX,
        }
    }

    // ---- this node

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// A connection of this node is present, or no longer. Whether it is the first change that waits.
    pub(super) fn change(&mut self, change: Change) -> bool {
        let key = (change.topic.clone(), change.connection, change.key.clone());
        let is_new = match &change.how {
            Standing::Here(meta) => self.own.insert(key, meta.clone()).as_ref() != Some(meta),
            Standing::Left | Standing::Gone => self.own.remove(&key).is_some(),
        };
        if !is_new {
            return false;
        }
        self.version += 1;
        if self.pending.len() >= MAX_PENDING {
            self.pending = Vec::new();
        }
        self.pending.push(change);
        self.pending.len() == 1
    }

    /// The changes that wait, in pieces, each with the version that was before it.
    pub(super) fn flush(&mut self) -> Vec<(u64, Vec<Change>)> {
        let pending = std::mem::take(&mut self.pending);
        let mut since = self.version - pending.len() as u64;
        let pieces = pieces(pending).into_iter();
        let pieces = pieces.map(|piece| {
            let before = since;
            since += piece.len() as u64;
            (before, piece)
        });
        pieces.collect()
    }

    /// All who are present on this node, in pieces; at least one.
    pub(super) fn whole(&self) -> Vec<Vec<Change>> {
        let all = self
            .own
            .iter()
            .map(|((topic, connection, key), meta)| Change {
                topic: topic.clone(),
                connection: *connection,
                key: key.clone(),
                how: Standing::Here(meta.clone()),
            });
        let mut pieces = pieces(all.collect());
        if pieces.is_empty() {
            pieces.push(Vec::new());
        }
        pieces
    }

    // ---- the others

    fn other(&mut self, node: u64, now: T) -> Option<&mut Other<T>> {
        if !self.others.contains_key(&node) && self.others.len() >= MAX_NODES {
            return None;
        }
        let other = self.others.entry(node).or_insert_with(|| Other {
            version: 0,
            heard: now,
            asked: None,
            present: HashMap::new(),
            pending: Vec::new(),
            parts: Parts::default(),
        });
        other.heard = now;
        Some(other)
    }

    /// A node is there, and at that version.
    pub(super) fn digest(&mut self, node: u64, version: u64, now: T) -> News {
        let mut news = News::default();
        if let Some(other) = self.other(node, now) {
            news.ask = version > other.version && other.may_ask(now);
        }
        news
    }

    /// Changes of a node, behind that version.
    pub(super) fn changes(&mut self, node: u64, since: u64, changes: Vec<Change>, now: T) -> News {
        let mut news = News::default();
        let mut alias = self.alias;
        if let Some(other) = self.other(node, now) {
            if since > other.version {
                let waiting = other.pending.iter().map(|(_, some)| counted(some));
                if waiting.sum::<usize>() + counted(&changes) <= MAX_PENDING {
                    other.pending.push((since, changes));
                }
                news.ask = other.may_ask(now);
            } else {
                other.apply(since, changes, &mut alias, &mut news.ops);
                other.catch_up(&mut alias, &mut news.ops);
            }
        }
        self.alias = alias;
        news
    }

    /// A part of the whole of a node.
    pub(super) fn part(
        &mut self,
        node: u64,
        version: u64,
        (part, parts): (u32, u32),
        present: Vec<Change>,
        now: T,
    ) -> News {
        let mut news = News::default();
        let mut alias = self.alias;
        let Some(other) = self.other(node, now) else {
            return news;
        };
        if version < other.version || version < other.parts.version || part >= parts {
            return news;
        }
        other.parts.put(version, part, present);
        if other.parts.pieces.len() < parts as usize {
            return news;
        }
        let parts = std::mem::take(&mut other.parts.pieces);
        other.parts.held = 0;
        other.replace(parts.into_values().flatten(), &mut alias, &mut news.ops);
        other.version = version;
        other.asked = None;
        other.catch_up(&mut alias, &mut news.ops);
        self.alias = alias;
        news
    }

    /// This node hears the others again: their silence begins now.
    pub(super) fn listen(&mut self, now: T) {
        for other in self.others.values_mut() {
            other.heard = now;
            other.asked = None;
        }
    }

    /// Nodes that have been silent for too long take those who were present on them along.
    pub(super) fn silent(&mut self, now: T) -> Vec<Op> {
        let mut ops = Vec::new();
        self.others.retain(|_, other| {
            let is_there = other.heard + SILENCE > now;
            if !is_there {
                let present = std::mem::take(&mut other.present);
                // The silence was time enough to come back.
                ops.extend(present.into_iter().map(|known| leave(known, false)));
            }
            is_there
        });
        ops
    }

    /// When a node will have been silent for too long, unless it says something.
    pub(super) fn silent_at(&self) -> Option<T> {
        let heard = self.others.values().map(|other| other.heard).min();
        heard.map(|heard| heard + SILENCE)
    }

    /// The nodes that are there beside this one.
    pub(super) fn nodes(&self) -> impl Iterator<Item = u64> {
        self.others.keys().copied()
    }
}

impl<T: Copy + Ord + std::ops::Add<Duration, Output = T>> Other<T> {
    fn may_ask(&mut self, now: T) -> bool {
        let may = self.asked.is_none_or(|asked| asked + ASK_EVERY <= now);
        if may {
            self.asked = Some(now);
        }
        may
    }

    /// `since` is at most the version.
    fn apply(&mut self, since: u64, changes: Vec<Change>, alias: &mut u64, ops: &mut Vec<Op>) {
        let known = usize::try_from(self.version.saturating_sub(since)).unwrap_or(usize::MAX);
        for change in changes.into_iter().skip(known) {
            self.version += 1;
            self.change(change, alias, ops);
        }
    }

    fn catch_up(&mut self, alias: &mut u64, ops: &mut Vec<Op>) {
        let mut pending = std::mem::take(&mut self.pending);
        pending.sort_by_key(|(since, _)| *since);
        for (since, changes) in pending {
            if since <= self.version {
                self.apply(since, changes, alias, ops);
            } else {
                self.pending.push((since, changes));
            }
        }
    }

    fn change(&mut self, change: Change, alias: &mut u64, ops: &mut Vec<Op>) {
        let Change {
            topic,
            connection,
            key,
            how,
        } = change;
        let id = (topic, connection, key);
        let Standing::Here(meta) = how else {
            let known = self.present.remove_entry(&id);
            ops.extend(known.map(|known| leave(known, how == Standing::Left)));
            return;
        };
        if self.present.len() >= MAX_PRESENT && !self.present.contains_key(&id) {
            return;
        }
        let (topic, _, key) = id.clone();
        let alias = *self.present.entry(id).or_insert_with(|| {
            *alias -= 1;
            *alias
        });
        ops.push(Op::Join {
            topic,
            alias,
            key,
            meta,
        });
    }

    fn replace(
        &mut self,
        present: impl Iterator<Item = Change>,
        alias: &mut u64,
        ops: &mut Vec<Op>,
    ) {
        let mut before = std::mem::take(&mut self.present);
        for change in present {
            let id = (change.topic.clone(), change.connection, change.key.clone());
            if let Some(known) = before.remove(&id) {
                self.present.insert(id, known);
            }
            self.change(change, alias, ops);
        }
        // Behind those who have come: who changes connections does not leave in between.
        ops.extend(before.into_iter().map(|known| leave(known, true)));
    }
}

impl Parts {
    /// One that comes again takes the place of the first. One that is too much is missing, and so the whole
    /// is.
    fn put(&mut self, version: u64, part: u32, piece: Vec<Change>) {
        if version > self.version {
            *self = Self {
                version,
                ..Self::default()
            };
        }
        let before = self.pieces.remove(&part);
        self.held -= before.map_or(0, |before| counted(&before));
        if self.held + counted(&piece) <= MAX_PRESENT {
            self.held += counted(&piece);
            self.pieces.insert(part, piece);
        }
    }
}

fn leave(((topic, _, key), alias): (Key, u64), lingers: bool) -> Op {
    Op::Leave {
        topic,
        alias,
        key,
        lingers,
    }
}

/// What a piece counts against a bound: one that is empty takes its place, too.
fn counted(piece: &[Change]) -> usize {
    piece.len().max(1)
}

fn pieces(changes: Vec<Change>) -> Vec<Vec<Change>> {
    let mut pieces: Vec<Vec<Change>> = Vec::new();
    let mut load = MAX_LOAD;
    for change in changes {
        load += change.load();
        if load > MAX_LOAD {
            pieces.push(Vec::new());
            load = change.load();
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(change);
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn change(connection: u64, key: &str, meta: Option<&str>) -> Change {
        Change {
            topic: "room".into(),
            connection,
            key: key.into(),
            how: meta.map_or(Standing::Left, |meta| Standing::Here(meta.into())),
        }
    }

    /// Who is present by what was told.
    #[derive(Default)]
    struct Told(BTreeMap<u64, String>);

    impl Told {
        fn tell(&mut self, ops: Vec<Op>) {
            for op in ops {
                match op {
                    Op::Join {
                        alias, key, meta, ..
                    } => self.0.insert(alias, format!("{key}:{meta}")),
                    Op::Leave { alias, .. } => Some(self.0.remove(&alias).unwrap()),
                };
            }
        }

        fn list(&self) -> Vec<&str> {
            let mut list: Vec<_> = self.0.values().map(String::as_str).collect();
            list.sort_unstable();
            list
        }
    }

    #[test]
    fn t14_changes_are_told_once_in_order_and_what_is_missed_is_asked_for() {
        let (mut a, mut b, mut told) = (
            Roster::<Duration>::new(),
            Roster::<Duration>::new(),
            Told::default(),
        );
        assert!(a.change(change(1, "ada", Some("x"))) && !a.change(change(2, "bob", Some("y"))));
        let first = a.flush();
        assert_eq!((first.len(), first[0].0, a.version()), (1, 0, 2));
        let (since, changes) = first[0].clone();
        let news = b.changes(7, since, changes.clone(), at(0));
        assert!(!news.ask);
        told.tell(news.ops);
        // A double.
        assert_eq!(b.changes(7, since, changes, at(0)), News::default());
        assert_eq!(told.list(), ["ada:x", "bob:y"]);

        // This one is lost.
        assert!(!a.change(change(2, "bob", Some("y"))));
        assert!(a.change(change(2, "bob", None)));
        a.flush();
        a.change(change(1, "ada", Some("z")));
        a.change(change(3, "eve", Some("")));
        let (since, changes) = a.flush().remove(0);
        let news = b.changes(7, since, changes, at(1));
        assert!(news.ask && news.ops.is_empty());
        // Once in a while.
        assert!(!b.digest(7, 5, at(2)).ask && b.digest(7, 5, at(3)).ask);
        let whole = a.whole().remove(0);
        told.tell(b.part(7, a.version(), (0, 1), whole, at(4)).ops);
        assert_eq!(told.list(), ["ada:z", "eve:"]);
        assert!(!b.digest(7, 5, at(9)).ask && b.others[&7].pending.is_empty());
    }

    #[test]
    fn t14_changes_that_come_while_the_whole_is_on_its_way_follow_it() {
        let (mut a, mut b, mut told) = (
            Roster::<Duration>::new(),
            Roster::<Duration>::new(),
            Told::default(),
        );
        let meta = "m".repeat(1000);
        for connection in 0..200 {
            a.change(change(connection, "many", Some(&meta)));
        }
        a.flush();
        assert!(b.digest(7, a.version(), at(0)).ask);
        let (version, parts) = (a.version(), a.whole());
        assert!(parts.len() > 2);
        a.change(change(500, "late", Some("")));
        let (since, changes) = a.flush().remove(0);
        assert!(b.changes(7, since, changes, at(0)).ops.is_empty());
        let count = parts.len() as u32;
        for (part, present) in parts.into_iter().enumerate().rev() {
            let part = (part as u32, count);
            told.tell(b.part(7, version, part, present.clone(), at(0)).ops);
            told.tell(b.part(7, version, part, present, at(0)).ops);
        }
        assert_eq!(told.0.len(), 201);
        assert_eq!(b.others[&7].version, a.version());
    }

    #[test]
    fn t14_pieces_that_are_empty_count_as_one_each() {
        let mut b = Roster::<Duration>::new();
        for since in 1..=2 * MAX_PENDING as u64 {
            b.changes(7, since, Vec::new(), at(0));
        }
        assert_eq!(b.others[&7].pending.len(), MAX_PENDING);
        let parts = u32::MAX;
        for part in 0..MAX_PRESENT as u32 + 9 {
            b.part(7, 9, (part, parts), Vec::new(), at(0));
            if part % 64 == 0 {
                // What comes twice counts once.
                b.part(7, 9, (part, parts), Vec::new(), at(0));
            }
        }
        assert_eq!(b.others[&7].parts.pieces.len(), MAX_PRESENT);
        // A newer whole begins anew.
        let (version, part) = (10, (0, 1));
        let whole = vec![change(1, "ada", Some(""))];
        assert_eq!(b.part(7, version, part, whole, at(0)).ops.len(), 1);
        assert_eq!(b.others[&7].parts.held, 0);
    }

    #[test]
    fn t14_who_leaves_lingers_unless_it_is_said_to_be_gone_or_its_node_is() {
        let mut b = Roster::<Duration>::new();
        let lingers = |news: News| match &news.ops[..] {
            [.., Op::Leave { lingers, .. }] => *lingers,
            other => panic!("{other:?}"),
        };
        let gone = Change {
            how: Standing::Gone,
            ..change(2, "bob", None)
        };
        let here = |n: u64| change(n, "x", Some(""));
        let all = vec![here(1), change(2, "bob", Some("")), here(3), here(4)];
        b.changes(7, 0, all, at(0));
        assert!(lingers(b.changes(7, 4, vec![change(1, "x", None)], at(0))));
        assert!(!lingers(b.changes(7, 5, vec![gone], at(0))));
        // Nobody knows how who is missing in the whole has left.
        assert!(lingers(b.part(7, 9, (0, 1), vec![here(3)], at(0))));
        let ops = b.silent(at(99));
        assert!(!lingers(News { ops, ask: false }));
    }

    #[test]
    fn t14_a_silent_node_takes_its_own_along_and_no_others() {
        let mut b = Roster::<Duration>::new();
        let mut told = Told::default();
        told.tell(b.changes(7, 0, vec![change(1, "ada", Some(""))], at(0)).ops);
        told.tell(b.changes(8, 0, vec![change(1, "bob", Some(""))], at(0)).ops);
        b.digest(8, 1, at(5));
        assert_eq!(b.silent_at(), Some(at(10)));
        assert!(b.silent(at(9)).is_empty());
        told.tell(b.silent(at(10)));
        assert_eq!((told.list(), b.nodes().count()), (vec!["bob:"], 1));
        b.listen(at(14));
        assert!(b.silent(at(23)).is_empty() && b.silent(at(24)).len() == 1);
    }

    #[test]
    fn t14_at_random_with_losses_doubles_and_delays_both_agree_in_the_end() {
        let mut random = 7_u64;
        let mut chance = move |most: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % most
        };
        for _ in 0..50 {
            let (mut a, mut b, mut told) = (
                Roster::<Duration>::new(),
                Roster::<Duration>::new(),
                Told::default(),
            );
            let mut on_the_way: Vec<(u64, Vec<Change>)> = Vec::new();
            let mut wholes = Vec::new();
            for step in 0..400_u64 {
                let now = Duration::from_millis(step * 100);
                let meta = (chance(3) > 0).then_some("m");
                a.change(change(chance(8), "k", meta));
                on_the_way.extend(a.flush());
                let mut news = Vec::new();
                while !on_the_way.is_empty() && chance(3) > 0 {
                    let at = chance(on_the_way.len() as u64) as usize;
                    let (since, changes) = on_the_way[at].clone();
                    match chance(4) {
                        0 => drop(on_the_way.remove(at)),
                        1 => news.push(b.changes(7, since, changes, now)),
                        _ => {
                            on_the_way.remove(at);
                            news.push(b.changes(7, since, changes, now));
                        }
                    }
                }
                if step % 20 == 0 {
                    news.push(b.digest(7, a.version(), now));
                }
                if !wholes.is_empty() && chance(2) > 0 {
                    let (version, whole) = wholes.remove(0);
                    news.push(b.part(7, version, (0, 1), whole, now));
                }
                for news in news {
                    if news.ask {
                        wholes.push((a.version(), a.whole().remove(0)));
                    }
                    told.tell(news.ops);
                }
            }
            let end = at(1000);
            if b.digest(7, a.version(), end).ask {
                told.tell(b.part(7, a.version(), (0, 1), a.whole().remove(0), end).ops);
            }
            assert_eq!(told.0.len(), a.own.len());
            assert_eq!(b.others[&7].version, a.version());
        }
    }
}
