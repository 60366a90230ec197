//! [`Node`]: this process, as the other nodes see it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::attend::attend;
use super::backplane::Backplane;
use super::echoes::Echoes;
use super::envelope::{Change, Envelope, HEAD, Tail, What};
use super::link::Hub;
use super::order::Order;
use super::outbox::{Limits, MAX_BYTES, Outbox, Parcel};
use super::probe::{Due, Probe, Times};
use super::roster::{News, Op, Roster};
use super::scatter::scatter;
use super::status::Status;
use super::wanted::Wanted;
use crate::close::{CloseCode, CloseFrame};
use crate::logging::{Throttle, escape};
use crate::measure;
use crate::message::Message;
use crate::sync::{Mutex, MutexGuard};
use crate::topics::Position;
use crate::topics::registry::Registry;
use crate::topics::room::Room;

/// The most orders that an engine takes at a time: few enough that it looks at its socket meanwhile.
const BATCH: usize = 256;

/// The same in bytes, of envelopes.
const BATCH_BYTES: usize = 1024 * 1024;

/// Changes of who is present go out together: nobody sees a tenth of a second.
const CHANGES_EVERY: Duration = Duration::from_millis(100);

/// Nodes tell that they are there: five times before the others take them for gone.
const DIGEST_EVERY: Duration = Duration::from_secs(2);

/// A digest of which nothing is heard for so long does not come back.
const DIGEST_LOST: Duration = Duration::from_secs(10);

/// The end of a log that has grown is told for so long: three digests, of which two may be lost.
const TAIL_FOR: Duration = Duration::from_secs(6);

/// Logs whose ends are told in one digest.
const MAX_TAILS: usize = 256;

/// Topics of which a node without subscribers knows how far their logs are.
const MAX_HEIGHTS: usize = 16_384;

/// Envelopes of the nodes' own business that wait. What is more is made again by the next digest.
const MAX_CONTROL: usize = 1024;

/// The channel of all nodes.
const NODES: &str = "nodes";

/// See the module docs.
pub(crate) struct Node {
    id: u64,
    /// The channel of this node.
    own: String,
    backplane: Box<dyn Backplane>,
    registry: OnceLock<Weak<Registry>>,
    runtime: OnceLock<Handle>,
    state: Mutex<State>,
    echoes: Mutex<Echoes>,
    roster: Mutex<Roster<Instant>>,
    tails: Mutex<HashMap<Box<str>, (Position, Instant)>>,
    /// How far logs are, by what this node has appended and others have told.
    heights: Mutex<HashMap<Box<str>, Position>>,
    /// The number of the last envelope.
    number: AtomicU64,
    /// Appends that were given up.
    lost: AtomicU64,
    up: watch::Sender<bool>,
    running: AtomicBool,
    probe_times: Times,
    isolated_after: Option<Duration>,
}

struct State {
    wanted: Wanted,
    /// What goes ahead of the outbox.
    control: VecDeque<Parcel>,
    outbox: Outbox,
    /// Topics whose logs are to be read.
    reads: VecDeque<Arc<Room>>,
    /// Those who wait for orders, for something to do, for topics to read.
    engine: Option<Waker>,
    watch: Option<Waker>,
    reader: Option<Waker>,
    /// Something has changed what `watch` waits for.
    stirred: bool,
    /// The `Topics` are no more.
    gone: bool,
    up: bool,
    /// When that changed.
    since: Instant,
    /// Of the connection.
    probe: Option<Probe<Instant>>,
    /// The connection is dead.
    dead: bool,
    changes_at: Option<Instant>,
    digest_at: Instant,
    /// The number of the last digest that is yet to come back, and when it was made.
    digest: Option<(u64, Instant)>,
    /// It was up at some time.
    was_up: bool,
    /// All connections were closed since this node is cut off.
    is_isolated: bool,
}

impl Node {
    pub(crate) fn new(
        backplane: Box<dyn Backplane>,
        outbox: Limits,
        probe_times: Times,
        isolated_after: Option<Duration>,
    ) -> Arc<Self> {
        let id = RandomState::new().hash_one("node").max(1);
        let own = format!("node:{id:016x}");
        let mut wanted = Wanted::default();
        wanted.want(NODES);
        wanted.want(&own);
        let now = Instant::now();
        Arc::new(Self {
            id,
            own,
            backplane,
            registry: OnceLock::new(),
            runtime: OnceLock::new(),
            state: Mutex::new(State {
                wanted,
                control: VecDeque::new(),
                outbox: Outbox::new(outbox),
                reads: VecDeque::new(),
                engine: None,
                watch: None,
                reader: None,
                stirred: false,
                gone: false,
                up: false,
                since: now,
                probe: None,
                dead: false,
                changes_at: None,
                digest_at: now,
                digest: None,
                was_up: false,
                is_isolated: false,
            }),
            echoes: Mutex::default(),
            roster: Mutex::new(Roster::new()),
            tails: Mutex::default(),
            heights: Mutex::default(),
            number: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            up: watch::Sender::new(false),
            running: AtomicBool::new(false),
            probe_times,
            isolated_after,
        })
    }

    /// Called once, when there is a registry.
    pub(crate) fn set_registry(&self, registry: Weak<Registry>) {
        let _ = self.registry.set(registry);
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn backplane(&self) -> &dyn Backplane {
        &*self.backplane
    }

    pub(super) fn registry(&self) -> Option<Arc<Registry>> {
        self.registry.get()?.upgrade()
    }

    /// Whether the messages of retained topics lie in a log of the engine.
    pub(crate) fn has_log(&self) -> bool {
        self.backplane.log().is_some()
    }

    // ---- its tasks

    pub(super) fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    /// Whether nobody else has.
    pub(super) fn begin_running(&self, runtime: &Handle) -> bool {
        let is_first = !self.running.swap(true, Ordering::AcqRel);
        if is_first {
            let _ = self.runtime.set(runtime.clone());
        }
        is_first
    }

    pub(super) fn end_running(&self) {
        self.running.store(false, Ordering::Release);
    }

    /// Where tasks are spawned by who is in no runtime.
    pub(super) fn runtime(&self) -> Option<Handle> {
        let current = Handle::try_current().ok();
        current.or_else(|| self.runtime.get().cloned())
    }

    /// The `Topics` are no more: the tasks end.
    pub(crate) fn leave(&self) {
        let wakers = {
            let mut state = self.state();
            state.gone = true;
            state.reads.clear();
            [state.watch.take(), state.reader.take()]
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// The engine begins.
    pub(super) fn begin(&self) {
        let waker = {
            let mut state = self.state();
            state.wanted.begin();
            state.control.clear();
            state.dead = false;
            state.digest = None;
            state.probe = Some(Probe::new(self.probe_times, Instant::now()));
            state.stir()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The engine has ended. Whether it was up.
    pub(super) fn end(&self) -> bool {
        let (was_up, waker) = {
            let mut state = self.state();
            state.probe = None;
            let was_up = std::mem::take(&mut state.up);
            if was_up {
                state.since = Instant::now();
            }
            (was_up, state.stir())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        if was_up {
            self.up.send_replace(false);
            measure::backplane_down();
        }
        was_up
    }

    /// Whether the engine is to be dropped.
    pub(super) fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// Does what has its time, until the `Topics` are no more.
    pub(super) async fn watch(&self) {
        while let Some(deadline) = self.tick() {
            let mut sleep = pin!(sleep_until(deadline));
            poll_fn(|cx| {
                {
                    let mut state = self.state();
                    if std::mem::take(&mut state.stirred) {
                        return Poll::Ready(());
                    }
                    state.watch = Some(cx.waker().clone());
                }
                sleep.as_mut().poll(cx)
            })
            .await;
        }
    }

    /// Does what is due, and tells when the next is. `None`: the `Topics` are no more.
    fn tick(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut next = now + DIGEST_EVERY;
        let (mut changes, mut digest, mut isolated) = (false, false, false);
        let mut engine = None;
        let is_up = {
            let mut state = self.state();
            if state.gone {
                return None;
            }
            match state.probe.as_mut().map(|probe| probe.due(now)) {
                Some(Due::At(at)) => next = next.min(at),
                Some(Due::Send) => {
                    let probe = self.parcel(self.own.clone(), What::Probe);
                    state.control.push_front(probe);
                    state.stirred = true;
                    engine = state.engine.take();
                }
                Some(Due::Dead) => {
                    state.dead = true;
                    state.probe = None;
                }
                None => {}
            }
            if state.up {
                state.is_isolated = false;
                changes = state.changes_at.is_some_and(|at| at <= now);
                if changes {
                    state.changes_at = None;
                }
                digest = state.digest_at <= now;
                if digest {
                    state.digest_at = now + DIGEST_EVERY;
                }
                next = next.min(state.digest_at);
                next = state.changes_at.map_or(next, |at| next.min(at));
            } else if let Some(after) = self.isolated_after.filter(|_| !state.is_isolated) {
                let at = state.since + after;
                isolated = at <= now;
                state.is_isolated = isolated;
                if !isolated {
                    next = next.min(at);
                }
            }
            state.up
        };
        if let Some(engine) = engine {
            engine.wake();
        }
        if changes {
            let pieces = self.roster().flush();
            let pieces = pieces
                .into_iter()
                .map(|(since, changes)| What::Changes { since, changes });
            self.tell(NODES, pieces);
        }
        if digest {
            let digest = What::Digest {
                version: self.roster().version(),
                tails: self.tails(now),
            };
            let (number, parcel) = self.numbered(NODES.to_owned(), digest);
            self.tell_parcels([parcel]);
            let mut state = self.state();
            // One that is lost must not be waited for for ever.
            if state.digest.is_none_or(|(_, at)| at + DIGEST_LOST <= now) {
                state.digest = Some((number, now));
            }
        }
        if is_up {
            let ops = self.roster().silent(now);
            self.attend(ops, true);
            let silent_at = self.roster().silent_at();
            next = silent_at.map_or(next, |at| next.min(at));
        }
        if isolated {
            self.isolate();
        }
        Some(next)
    }

    /// Closes all connections: they may find a node that is not cut off.
    fn isolate(&self) {
        let (Some(registry), Some(runtime)) = (self.registry(), self.runtime()) else {
            return;
        };
        tracing::warn!("this node is cut off from the others, its connections are closed");
        let frame = CloseFrame::known(
            CloseCode::SERVICE_RESTART,
            "this node is cut off from the others",
        );
        let rooms = registry.rooms();
        let mut receivers: Vec<_> = rooms.iter().flat_map(|room| room.receivers()).collect();
        // A connection is in many topics.
        receivers.sort_unstable_by_key(|receiver| receiver.id());
        receivers.dedup_by_key(|receiver| receiver.id());
        scatter(receivers, frame, &runtime);
    }

    // ---- for the application

    pub(crate) fn status(&self) -> Status {
        let state = self.state();
        if state.up {
            return Status::Up;
        }
        Status::Degraded {
            since: state.since.into_std(),
            waiting: state.outbox.len(),
            lost: state.outbox.lost() + self.lost.load(Ordering::Relaxed),
        }
    }

    /// Is ready when the node is up, or no longer up, other than now.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut up = self.up.subscribe();
        async move {
            // An error says that the `Topics` are no more.
            if up.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// A message was given up.
    pub(super) fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        measure::backplane_lost(1);
    }

    /// Sends a message to those who subscribe the topic on other nodes. `false`: it is too large.
    pub(crate) fn publish(&self, topic: &str, message: &Message, from: u64) -> bool {
        if message.len() + HEAD > MAX_BYTES {
            self.lose();
            return false;
        }
        let message = message.clone();
        let what = What::Message { from, message };
        self.send(self.parcel(channel(topic), what))
    }

    /// Closes those who subscribe the topic on other nodes.
    pub(crate) fn close(&self, topic: &str, frame: CloseFrame) {
        self.send(self.parcel(channel(topic), What::Close(frame)));
    }

    /// There is one more subscriber of the topic.
    pub(in crate::topics) fn want(&self, room: &Arc<Room>) {
        let channel = channel(&room.name);
        let wakers = {
            let mut state = self.state();
            if !state.wanted.want(&channel) {
                return;
            }
            let mut wakers = [state.engine.take(), None];
            if let Some(shelf) = room.shelf() {
                shelf.want(true);
                // The engine has not heard that nobody wanted it.
                if state.wanted.is_confirmed(&channel) {
                    wakers[1] = state.read(room);
                }
            }
            wakers
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// There is one less.
    pub(in crate::topics) fn unwant(&self, room: &Room) {
        let waker = {
            let mut state = self.state();
            if !state.wanted.unwant(&channel(&room.name)) {
                return;
            }
            if let Some(shelf) = room.shelf() {
                shelf.want(false);
                room.set_stale();
            }
            state.engine.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// A connection is present, or no longer.
    pub(crate) fn present(&self, topic: &str, connection: u64, key: &str, meta: Option<&str>) {
        let change = Change {
            topic: topic.into(),
            connection,
            key: key.into(),
            meta: meta.map(Into::into),
        };
        if self.roster().change(change) {
            let mut state = self.state();
            state.changes_at = Some(Instant::now() + CHANGES_EVERY);
            let waker = state.stir();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Whether it is this node that writes into the log of the topic what all nodes know. If they do not
    /// agree on who is there, it may be two of them or none.
    pub(crate) fn leads(&self, topic: &str) -> bool {
        let weight = |node: u64| {
            // FNV-1a, since all nodes have to come to the same.
            let bytes = topic.bytes().chain(node.to_be_bytes());
            bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
        };
        let own = (weight(self.id), self.id);
        self.roster().nodes().all(|node| (weight(node), node) < own)
    }

    // ---- for logs

    /// A log is to be read.
    pub(super) fn read(&self, room: &Arc<Room>) {
        let waker = self.state().read(room);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next topic whose log is to be read. `None`: the `Topics` are no more.
    pub(super) async fn next_read(&self) -> Option<Arc<Room>> {
        poll_fn(|cx| {
            let mut state = self.state();
            if state.gone {
                return Poll::Ready(None);
            }
            if let Some(room) = state.reads.pop_front() {
                return Poll::Ready(Some(room));
            }
            state.reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The log of a topic has grown.
    pub(super) fn grown(&self, topic: &str, position: Position) {
        let now = Instant::now();
        let mut tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        if tails.len() < MAX_TAILS || tails.contains_key(topic) {
            tails.insert(topic.into(), (position, now));
        }
        drop(tails);
        self.rise(topic, position);
    }

    /// A log goes that far.
    fn rise(&self, topic: &str, position: Position) {
        let mut heights = self.heights();
        if let Some(height) = heights.get_mut(topic) {
            let is_late = height.epoch == position.epoch && height.offset >= position.offset;
            if !is_late {
                *height = position;
            }
            return;
        }
        if heights.len() >= MAX_HEIGHTS {
            let any = heights.keys().next().cloned();
            any.and_then(|any| heights.remove(&any));
        }
        heights.insert(topic.into(), position);
    }

    /// How far a log goes, by what is known of it.
    pub(super) fn height(&self, topic: &str) -> Option<Position> {
        self.heights().get(topic).copied()
    }

    fn heights(&self) -> MutexGuard<'_, HashMap<Box<str>, Position>> {
        self.heights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ends of logs that this node has let grow lately.
    fn tails(&self, now: Instant) -> Vec<Tail> {
        let mut tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        tails.retain(|_, (_, at)| *at + TAIL_FOR > now);
        let tails = tails.iter().map(|(topic, (position, _))| Tail {
            topic: topic.clone(),
            epoch: position.epoch,
            offset: position.offset,
        });
        tails.collect()
    }

    // ---- envelopes

    pub(super) fn parcel(&self, channel: String, what: What) -> Parcel {
        self.numbered(channel, what).1
    }

    /// With the number of the envelope.
    fn numbered(&self, channel: String, what: What) -> (u64, Parcel) {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let envelope = Envelope {
            node: self.id,
            number,
            what,
        };
        let envelope = envelope.encode();
        (number, Parcel { channel, envelope })
    }

    /// `false`: it is too large.
    fn send(&self, parcel: Parcel) -> bool {
        let mut garbage = Vec::new();
        let (sent, waker) = {
            let mut state = self.state();
            let sent = state.outbox.push(parcel, &mut garbage);
            (sent, state.engine.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
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
    fn tell(&self, channel: &str, whats: impl IntoIterator<Item = What>) {
        let parcels = whats.into_iter();
        let parcels: Vec<_> = parcels
            .map(|what| self.parcel(channel.to_owned(), what))
            .collect();
        self.tell_parcels(parcels);
    }

    fn tell_parcels(&self, parcels: impl IntoIterator<Item = Parcel>) {
        let waker = {
            let mut state = self.state();
            let room = MAX_CONTROL.saturating_sub(state.control.len());
            state.control.extend(parcels.into_iter().take(room));
            state.engine.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// News of who is present on another node.
    fn news(&self, node: u64, news: News) {
        self.attend(news.ops, false);
        if news.ask {
            self.tell(&format!("node:{node:016x}"), [What::Ask]);
        }
    }

    fn attend(&self, ops: Vec<Op>, at_once: bool) {
        if ops.is_empty() {
            return;
        }
        if let Some(registry) = self.registry() {
            attend(&registry, ops, at_once);
        }
    }

    /// A topic of this process, and its name, by its channel.
    fn room(&self, channel: &str) -> Option<(Arc<Registry>, Arc<Room>)> {
        let registry = self.registry()?;
        let room = registry.find(channel.strip_prefix("t:")?)?;
        Some((registry, room))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn roster(&self) -> MutexGuard<'_, Roster<Instant>> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The channel of a topic.
pub(super) fn channel(topic: &str) -> String {
    format!("t:{topic}")
}

fn ignored(channel: &str, why: &str) {
    static LINES: Throttle = Throttle::new();
    if let Some(missed) = LINES.pass() {
        let channel = escape(channel.as_bytes(), 100);
        tracing::warn!(
            missed,
            "an envelope in the channel {channel} is ignored: {why}"
        );
    }
}

impl State {
    fn next(&mut self) -> Option<Order> {
        if let Some(order) = self.wanted.next() {
            return Some(order);
        }
        let parcel = self.control.pop_front().or_else(|| self.outbox.pop())?;
        Some(Order::Send {
            channel: parcel.channel,
            envelope: parcel.envelope,
        })
    }

    /// Has `watch` look again. Its task need not be woken by who runs in it.
    fn stir(&mut self) -> Option<Waker> {
        self.stirred = true;
        self.watch.take()
    }

    /// Puts a topic among those whose logs are to be read. Gives whom to wake.
    fn read(&mut self, room: &Arc<Room>) -> Option<Waker> {
        let shelf = room.shelf()?;
        if self.gone || !shelf.queue_read() {
            return None;
        }
        self.reads.push_back(room.clone());
        self.reader.take()
    }
}

impl Hub for Node {
    fn poll_orders(&self, cx: &mut Context<'_>) -> Poll<Vec<Order>> {
        let mut state = self.state();
        let before = state.outbox.len();
        let (mut orders, mut bytes) = (Vec::new(), 0);
        while orders.len() < BATCH && bytes < BATCH_BYTES {
            let Some(order) = state.next() else {
                break;
            };
            if let Order::Send { envelope, .. } = &order {
                bytes += envelope.len();
            }
            orders.push(order);
        }
        if orders.is_empty() {
            state.engine = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let left = before - state.outbox.len();
        drop(state);
        measure::outbox(0, left);
        Poll::Ready(orders)
    }

    fn listening(&self, channel: &str) {
        let now = Instant::now();
        let mut again = false;
        let (wakers, is_up) = {
            let mut state = self.state();
            if !state.wanted.confirm(channel) {
                return;
            }
            if channel == self.own {
                if let Some(probe) = &mut state.probe {
                    probe.listening(now);
                }
            }
            let is_up = !state.up && state.probe.is_some() && state.wanted.is_complete();
            if is_up {
                state.up = true;
                again = std::mem::replace(&mut state.was_up, true);
                state.since = now;
                state.digest_at = now;
                // What was not told meanwhile is asked for.
                state.changes_at = Some(now + CHANGES_EVERY);
            }
            (state.stir(), is_up)
        };
        if let Some(waker) = wakers {
            waker.wake();
        }
        if is_up {
            self.roster().listen(now);
            self.up.send_replace(true);
            measure::backplane_up(again);
            tracing::debug!("topics reach the other nodes");
        }
        if let Some((_, room)) = self.room(channel) {
            self.read(&room);
        }
    }

    fn receive(&self, channel: &str, envelope: Bytes) {
        if envelope.len() > MAX_BYTES {
            return ignored(channel, "it is too large");
        }
        let Some(envelope) = Envelope::decode(&envelope) else {
            return ignored(channel, "it is none of ours");
        };
        let now = Instant::now();
        let node = envelope.node;
        if node == self.id {
            let mut state = self.state();
            if let Some(probe) = &mut state.probe {
                probe.heard(now);
            }
            let digest = state.digest;
            if let Some((_, at)) = digest.filter(|(number, _)| *number == envelope.number) {
                state.digest = None;
                drop(state);
                measure::backplane_lag(now - at);
            }
            return;
        }
        {
            let mut echoes = self.echoes.lock().unwrap_or_else(PoisonError::into_inner);
            if !echoes.is_new(node, envelope.number) {
                return;
            }
        }
        match envelope.what {
            What::Message { message, .. } => {
                let Some((registry, room)) = self.room(channel) else {
                    return;
                };
                if room.shelf().is_none() {
                    registry.publish_here_in(&room, &message, 0);
                }
            }
            What::Close(frame) => {
                if let Some((_, room)) = self.room(channel) {
                    room.close(&frame);
                }
            }
            What::Probe => {}
            What::Changes { since, changes } => {
                let news = self.roster().changes(node, since, changes, now);
                self.news(node, news);
            }
            What::Digest { version, tails } => {
                let news = self.roster().digest(node, version, now);
                self.news(node, news);
                let registry = self.registry();
                for tail in tails {
                    let room = registry.as_ref().and_then(|all| all.find(&tail.topic));
                    let position = Position::new(tail.epoch, tail.offset);
                    self.rise(&tail.topic, position);
                    if let Some(room) = room.filter(|room| room.is_behind(position)) {
                        self.read(&room);
                    }
                }
            }
            What::Ask => {
                let (version, whole) = {
                    let roster = self.roster();
                    (roster.version(), roster.whole())
                };
                let parts = u32::try_from(whole.len()).unwrap_or(u32::MAX);
                let whole = (0..).zip(whole).map(|(part, present)| What::Whole {
                    version,
                    part,
                    parts,
                    present,
                });
                self.tell(&format!("node:{node:016x}"), whole);
            }
            What::Whole {
                version,
                part,
                parts,
                present,
            } => {
                let mut roster = self.roster();
                let news = roster.part(node, version, (part, parts), present, now);
                drop(roster);
                self.news(node, news);
            }
        }
    }

    fn logged(&self, channel: &str, position: Position, envelope: Bytes) {
        let Some((registry, room)) = self.room(channel) else {
            return;
        };
        let Some(shelf) = room.shelf() else {
            return ignored(channel, "the topic is not retained here");
        };
        let stamp = registry.rules.stamp.as_deref();
        if shelf.arrived(&room, self.id, stamp, position, envelope) {
            self.read(&room);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        measure::outbox(0, self.state().outbox.len());
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", &format_args!("{:016x}", self.id))
            .finish_non_exhaustive()
    }
}
