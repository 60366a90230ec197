//! [`Node`]: this process, as the other nodes see it.
//!
//! ```text
//! publish, close ─▶ envelope ─┐
//! want, unwant ───────────────┼─▶ queue ─▶ engine
//! present ─▶ roster ─▶ watch ─┘
//! ```
//!
//! The way back is in [`arrivals`](super::arrivals).

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::attend::attend;
use super::backplane::Backplane;
use super::echoes::Echoes;
use super::envelope::{Change, Envelope, HEAD, MAX_ENVELOPE, Standing, Tail, What};
use super::heights::Heights;
use super::leader::leads;
use super::outbox::{Limits, Parcel};
use super::probe::Times;
use super::queue::Queue;
use super::reads::Reads;
use super::roster::{Op, Roster};
use super::schedule::Schedule;
use super::status::Status;
use super::tails::Tails;
use super::tasks::Tasks;
use super::work::{Todo, Work};
use crate::close::CloseFrame;
use crate::logging::Throttle;
use crate::measure;
use crate::message::Message;
use crate::sync::{Mutex, MutexGuard};
use crate::topics::Position;
use crate::topics::registry::Registry;
use crate::topics::room::Room;

/// The channel of all nodes.
pub(super) const NODES: &str = "nodes";

/// See the module docs.
pub(crate) struct Node {
    id: u64,
    /// The channel of this node.
    own: String,
    backplane: Box<dyn Backplane>,
    registry: Weak<Registry>,
    pub(super) tasks: Tasks,
    pub(super) work: Work,
    /// Logs that are to be read.
    pub(super) reads: Reads,
    pub(super) echoes: Mutex<Echoes>,
    roster: Mutex<Roster<Instant>>,
    tails: Mutex<Tails>,
    heights: Mutex<Heights>,
    /// The number of the last message, and of the last envelope that is the nodes' own business.
    numbers: [AtomicU64; 2],
    /// Appends that were given up.
    lost: AtomicU64,
    /// Whether the others are reached and the log works.
    well: watch::Sender<bool>,
    /// Something has failed that the log was to do, or it can be reached again.
    pub(super) doubted: Notify,
}

impl Node {
    pub(crate) fn new(
        backplane: Box<dyn Backplane>,
        outbox: Limits,
        probe: Times,
        isolated_after: Option<Duration>,
        registry: Weak<Registry>,
    ) -> Arc<Self> {
        let id = RandomState::new().hash_one("node").max(1);
        let own = node_channel(id);
        let mut queue = Queue::new(outbox);
        queue.wanted.want(NODES);
        queue.wanted.want(&own);
        Arc::new(Self {
            id,
            own,
            backplane,
            registry,
            tasks: Tasks::default(),
            work: Work::new(queue, Schedule::new(probe, isolated_after, Instant::now())),
            reads: Reads::default(),
            echoes: Mutex::default(),
            roster: Mutex::new(Roster::new()),
            tails: Mutex::default(),
            heights: Mutex::default(),
            numbers: [const { AtomicU64::new(0) }; 2],
            lost: AtomicU64::new(0),
            well: watch::Sender::new(false),
            doubted: Notify::new(),
        })
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn own_channel(&self) -> &str {
        &self.own
    }

    pub(super) fn backplane(&self) -> &dyn Backplane {
        &*self.backplane
    }

    pub(super) fn registry(&self) -> Option<Arc<Registry>> {
        self.registry.upgrade()
    }

    /// Whether the messages of retained topics lie in a log of the engine.
    pub(crate) fn has_log(&self) -> bool {
        self.backplane.log().is_some()
    }

    // ---- from the application

    pub(crate) fn status(&self) -> Status {
        let Todo {
            schedule,
            queue,
            reason,
            health,
            ..
        } = &*self.work.todo();
        let cut_off = !schedule.is_up();
        let (since, reason) = match health.fault() {
            _ if cut_off => (schedule.since(), reason),
            Some(fault) => (fault.since, &fault.reason),
            None => return Status::Up,
        };
        Status::Degraded {
            since: since.into_std(),
            cut_off,
            waiting: queue.messages(),
            lost: queue.lost() + self.lost.load(Ordering::Relaxed),
            reason: reason.clone(),
        }
    }

    /// Is ready when the node is well, or no longer well, other than now.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut well = self.well.subscribe();
        async move {
            // An error says that the `Topics` are no more.
            if well.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Sends a message to those who subscribe the topic on other nodes. `false`: it is too large.
    pub(crate) fn publish(&self, topic: &str, message: &Message, from: u64) -> bool {
        if message.len() + HEAD > MAX_ENVELOPE {
            self.lose();
            return false;
        }
        let message = message.clone();
        self.send(topic, What::Message { from, message })
    }

    /// Closes those who subscribe the topic on other nodes.
    pub(crate) fn close(&self, topic: &str, frame: CloseFrame) {
        self.send(topic, What::Close(frame));
    }

    /// Messages that were given up, in all.
    pub(super) fn messages_lost(&self) -> u64 {
        self.work.todo().queue.lost() + self.lost.load(Ordering::Relaxed)
    }

    /// A message was given up.
    pub(super) fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        measure::backplane_lost(1);
    }

    /// There is one more subscriber of the topic.
    pub(in crate::topics) fn want(&self, room: &Arc<Room>) {
        let channel = channel(&room.name);
        let is_confirmed = self.work.change(|todo| {
            if !todo.queue.wanted.want(&channel) {
                return false;
            }
            todo.call_engine();
            let Some(shelf) = room.shelf() else {
                return false;
            };
            shelf.want(true);
            // The engine has not heard that nobody wanted it.
            todo.queue.wanted.is_confirmed(&channel)
        });
        if is_confirmed {
            self.reads.push(room);
        }
    }

    /// There is one less.
    pub(in crate::topics) fn unwant(&self, room: &Room) {
        self.work.change(|todo| {
            if !todo.queue.wanted.unwant(&channel(&room.name)) {
                return;
            }
            todo.call_engine();
            if let Some(shelf) = room.shelf() {
                shelf.want(false);
                room.set_stale();
            }
        });
    }

    /// A connection is present.
    pub(crate) fn present(&self, topic: &str, connection: u64, key: &str, meta: &str) {
        self.tell_presence(topic, connection, key, Standing::Here(meta.into()));
    }

    /// It is no longer.
    pub(crate) fn absent(&self, topic: &str, connection: u64, key: &str, lingers: bool) {
        let how = if lingers {
            Standing::Left
        } else {
            Standing::Gone
        };
        self.tell_presence(topic, connection, key, how);
    }

    fn tell_presence(&self, topic: &str, connection: u64, key: &str, how: Standing) {
        let change = Change {
            topic: topic.into(),
            connection,
            key: key.into(),
            how,
        };
        let is_first = self.roster().change(change);
        if is_first {
            self.work.change(|todo| {
                todo.schedule.change(Instant::now());
                todo.call_watch();
            });
        }
    }

    /// Whether it is this node that writes into the log of the topic what all nodes know.
    pub(crate) fn leads(&self, topic: &str) -> bool {
        leads(topic, self.id, self.roster().nodes())
    }

    /// The `Topics` are no more: the tasks end when what waits is sent, or soon.
    pub(crate) fn leave(&self) {
        self.work.change(|todo| {
            todo.is_over = true;
            todo.call_watch();
        });
        self.reads.close();
    }

    // ---- its engine

    /// The engine begins.
    pub(super) fn begin(&self) {
        self.work.change(|todo| {
            todo.begin(Instant::now());
            if todo.last.is_some() {
                // The one that was to come back may be lost.
                self.send_last(todo);
            }
            todo.call_watch();
        });
    }

    /// The engine has ended, for this reason. Whether it was up.
    pub(super) fn end(&self, why: String) -> bool {
        let was_up = self.work.change(|todo| {
            todo.call_watch();
            todo.end(Instant::now(), why)
        });
        // Who waits for what it had taken waits in vain.
        self.work.heard.notify_waiters();
        if was_up {
            self.tell_well();
            measure::backplane_down();
        }
        was_up
    }

    /// The engine reaches the others.
    pub(super) fn rise(&self) {
        self.tell_well();
        self.doubted.notify_one();
    }

    /// Tells whoever waits for it whether the node is well.
    fn tell_well(&self) {
        self.well.send_if_modified(|well| {
            let is_well = self.work.todo().is_well();
            std::mem::replace(well, is_well) != is_well
        });
    }

    pub(super) fn is_connected(&self) -> bool {
        self.work.todo().schedule.is_up()
    }

    /// Whether the engine is to be dropped.
    pub(super) fn is_dead(&self) -> bool {
        self.work.todo().schedule.is_dead()
    }

    // ---- its log

    /// The log works for no topic, for this reason.
    pub(super) fn fail_log(&self, why: String) {
        let now = Instant::now();
        self.work.change(|todo| todo.health.fail(why, now));
        self.tell_well();
    }

    /// It works. Whether it did not before.
    pub(super) fn mend_log(&self) -> bool {
        let was_faulty = self.work.change(|todo| todo.health.succeed());
        self.tell_well();
        was_faulty
    }

    pub(super) fn is_log_faulty(&self) -> bool {
        self.work.todo().health.fault().is_some()
    }

    // ---- the ends of logs

    /// The log of a topic has grown, by this node.
    pub(super) fn grown(&self, topic: &str, end: Position) {
        lock(&self.tails).grow(topic, end);
        lock(&self.heights).rise(topic, end);
    }

    /// The ends of logs that this node has let grow lately, for the next digest.
    pub(super) fn tails(&self) -> Vec<Tail> {
        lock(&self.tails).tell()
    }

    /// Others have told how far a log goes.
    pub(super) fn heighten(&self, topic: &str, end: Position) {
        lock(&self.heights).rise(topic, end);
    }

    /// How far a log goes, by what is known of it.
    pub(super) fn height(&self, topic: &str) -> Option<Position> {
        lock(&self.heights).get(topic)
    }

    // ---- to the engine

    /// An envelope with the next number, which is given too.
    pub(super) fn parcel(&self, channel: String, what: What) -> (u64, Parcel) {
        let last = &self.numbers[usize::from(what.is_business())];
        let number = last.fetch_add(1, Ordering::Relaxed) + 1;
        let envelope = Envelope {
            node: self.id,
            number,
            what,
        };
        let envelope = envelope.encode();
        (number, Parcel { channel, envelope })
    }

    /// Sends something to those who subscribe a topic elsewhere. `false`: it is too large.
    fn send(&self, topic: &str, what: What) -> bool {
        let (_, parcel) = self.parcel(channel(topic), what);
        let mut garbage = Vec::new();
        let sent = self.work.change(|todo| {
            todo.call_engine();
            todo.queue.send(parcel, &mut garbage)
        });
        // One that is too large is garbage itself.
        measure::outbox(1, garbage.len());
        measure::backplane_lost(garbage.len());
        if !garbage.is_empty() {
            static LINES: Throttle = Throttle::new();
            if let Some(missed) = LINES.pass() {
                tracing::warn!(missed, "messages for other nodes are dropped");
            }
        }
        sent
    }

    /// Sends what is the nodes' own business, ahead of all messages, if the engine is there.
    pub(super) fn tell(&self, channel: &str, whats: impl IntoIterator<Item = What>) {
        let parcels = whats.into_iter();
        let parcels = parcels.map(|what| self.parcel(channel.to_owned(), what).1);
        let parcels: Vec<_> = parcels.collect();
        self.work.change(|todo| {
            todo.queue.tell(parcels);
            todo.call_engine();
        });
    }

    /// Tells the others who has come and gone.
    pub(super) fn tell_changes(&self) {
        let changes = self.roster().flush().into_iter();
        let changes = changes.map(|(since, changes)| What::Changes { since, changes });
        self.tell(NODES, changes);
    }

    /// Sends a word to itself, behind all that waits.
    pub(super) fn send_last(&self, todo: &mut Todo) {
        let (number, probe) = self.parcel(self.own.clone(), What::Probe);
        todo.queue.send_last(probe);
        todo.last = Some(number);
        todo.call_engine();
    }

    // ---- to the rooms

    /// Lets those who are present on other nodes join and leave here.
    pub(super) fn attend(&self, ops: Vec<Op>) {
        if ops.is_empty() {
            return;
        }
        if let Some(registry) = self.registry() {
            attend(&registry, ops);
        }
    }

    // ---- its locks

    pub(super) fn roster(&self) -> MutexGuard<'_, Roster<Instant>> {
        lock(&self.roster)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The channel of a topic.
pub(super) fn channel(topic: &str) -> String {
    format!("t:{topic}")
}

/// The channel of a node.
pub(super) fn node_channel(id: u64) -> String {
    format!("node:{id:016x}")
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", &format_args!("{:016x}", self.id))
            .finish_non_exhaustive()
    }
}
