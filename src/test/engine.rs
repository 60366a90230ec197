//! [`Engine`]: a backplane in memory, which can do whatever happens to real ones.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::Position;
use crate::topics::{
    Backplane, EngineError, Link, Log, Logged, NewEntries, NewEntry, Order, Page, Pending,
};

/// A [backplane](crate::TopicsBuilder::backplane) in memory, with a log: several `Topics` that are given
/// clones of one `Engine`, or [ports](Self::port) of it, are the nodes of a cluster in one process.
///
/// It does what happens to real engines, at random but the same for the same seed: envelopes are delayed,
/// come in another order, twice, or not at all; connections break, or are open and dead; the log is lost,
/// or comes back as it was an hour ago. By default it does nothing of it.
///
/// ```
/// use std::time::Duration;
/// use tower_websocket::test::Engine;
/// use tower_websocket::{Retain, Topics};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// let engine = Engine::new(1).delay(Duration::from_millis(20)).reorder(true);
/// let node = || {
///     let topics = Topics::builder().retain("room:", Retain::messages(100));
///     topics.backplane(engine.port()).build()
/// };
/// let (here, there) = (node(), node());
/// let first = here.append("room:1", "hello").await.unwrap();
/// let second = there.append("room:1", "hello to you").await.unwrap();
/// assert_ne!(first, second);
/// # }
/// ```
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    port: Arc<Port>,
}

/// What [`Engine::save_logs`] has saved.
#[derive(Clone)]
pub struct SavedLogs(BTreeMap<String, Entries>);

struct Shared {
    hub: Mutex<Hub>,
}

struct Hub {
    random: u64,
    delay: Duration,
    reorder: bool,
    double: f64,
    lose: f64,
    /// Open connections, by number.
    connections: HashMap<u64, Connection>,
    next: u64,
    logs: BTreeMap<String, Entries>,
    /// Nothing is appended.
    is_full: bool,
    /// Envelopes that came to a node.
    carried: u64,
}

/// One end of the engine.
struct Port {
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Cut,
    Hangs,
}

struct Connection {
    channels: HashSet<String>,
    /// By the time at which they arrive, and then in order.
    inbox: BTreeMap<(Instant, u64), Parcel>,
    last: Instant,
    came: Arc<Notify>,
}

#[derive(Clone)]
struct Parcel {
    channel: String,
    position: Option<Position>,
    envelope: Bytes,
}

#[derive(Clone)]
struct Entries {
    epoch: u64,
    last: u64,
    kept: VecDeque<(u64, Instant, Bytes)>,
    ids: VecDeque<(Instant, u128, Position)>,
}

impl Engine {
    /// An engine that carries everything at once, in order.
    pub fn new(seed: u64) -> Self {
        let hub = Hub {
            random: seed,
            delay: Duration::ZERO,
            reorder: false,
            double: 0.0,
            lose: 0.0,
            connections: HashMap::new(),
            next: 0,
            logs: BTreeMap::new(),
            is_full: false,
            carried: 0,
        };
        Self {
            shared: Arc::new(Shared {
                hub: Mutex::new(hub),
            }),
            port: Arc::default(),
        }
    }

    /// Another end of the same engine, which is cut, hangs and is mended by itself. Clones are one end.
    pub fn port(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            port: Arc::default(),
        }
    }

    /// Envelopes, and calls of the log, take up to so long each. Envelopes stay in order. Default zero.
    pub fn delay(self, most: Duration) -> Self {
        self.hub().delay = most;
        self
    }

    /// Envelopes that are [delayed](Self::delay) overtake each other. Default `false`.
    pub fn reorder(self, reorder: bool) -> Self {
        self.hub().reorder = reorder;
        self
    }

    /// This part of the envelopes comes twice, from 0 to 1. Default 0.
    pub fn double(self, part: f64) -> Self {
        self.hub().double = part;
        self
    }

    /// This part of the envelopes, and of the answers of the log, is lost without a word, from 0 to 1:
    /// a good engine does not do that. Default 0. It can be changed at any time.
    pub fn lose(self, part: f64) -> Self {
        self.hub().lose = part;
        self
    }

    /// The connections of this end break, and no new ones can be made, until it is [mended](Self::mend).
    pub fn cut(&self) {
        self.port.state.send_replace(State::Cut);
    }

    /// The connections of this end stay open, and nothing goes through them any more, nor through new ones,
    /// until it is [mended](Self::mend). Those that hang then hang for ever.
    pub fn hang(&self) {
        self.port.state.send_replace(State::Hangs);
    }

    /// Connections can be made.
    pub fn mend(&self) {
        self.port.state.send_replace(State::Open);
    }

    /// The connections of this end break once.
    pub fn shake(&self) {
        self.cut();
        self.mend();
    }

    /// Whether the log refuses all that is appended, as a server whose memory is full: a node that retains
    /// topics is [`Degraded`](crate::Status::Degraded) then, and not cut off. Default `false`.
    pub fn fill(&self, is_full: bool) {
        self.hub().is_full = is_full;
    }

    /// Loses all logs, as by `FLUSHALL`.
    pub fn lose_logs(&self) {
        self.hub().logs.clear();
    }

    /// Keeps a copy of all logs.
    pub fn save_logs(&self) -> SavedLogs {
        SavedLogs(self.hub().logs.clone())
    }

    /// Goes back to an older state, as a server that was started from an old dump.
    pub fn restore_logs(&self, saved: &SavedLogs) {
        self.hub().logs.clone_from(&saved.0);
    }

    /// How many envelopes it has carried to nodes.
    pub fn carried(&self) -> u64 {
        self.hub().carried
    }

    /// The channels to which nodes listen, sorted, each as often as there are nodes that do.
    pub fn channels(&self) -> Vec<String> {
        let hub = self.hub();
        let connections = hub.connections.values();
        let mut all: Vec<_> = connections.flat_map(|c| c.channels.clone()).collect();
        all.sort_unstable();
        all
    }

    fn state(&self) -> State {
        *self.port.state.borrow()
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        let hub = self.shared.hub.lock();
        hub.unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry(&self, link: &mut Link) -> EngineError {
        let mut state = self.port.state.subscribe();
        let now = *state.borrow_and_update();
        match now {
            State::Open => {}
            State::Cut => return EngineError::new("the engine cannot be reached"),
            State::Hangs => return pending().await,
        }
        let came = Arc::new(Notify::new());
        let id = {
            let mut hub = self.hub();
            hub.next += 1;
            let id = hub.next;
            let connection = Connection {
                channels: HashSet::new(),
                inbox: BTreeMap::new(),
                last: Instant::now(),
                came: came.clone(),
            };
            hub.connections.insert(id, connection);
            id
        };
        let _open = Open(self, id);
        loop {
            // What happens first: the state changes, something arrives, there are orders.
            enum Event {
                State,
                Arrived,
                Orders(Vec<Order>),
            }
            let next = self.hub().connections.get(&id).and_then(Connection::next);
            let event = {
                let mut changed = pin!(state.changed());
                let mut came = pin!(came.notified());
                let mut orders = pin!(link.next());
                let mut arrival = pin!(async {
                    match next {
                        Some(at) => sleep_until(at).await,
                        None => pending().await,
                    }
                });
                poll_fn(|cx| {
                    if changed.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Event::State);
                    }
                    if came.as_mut().poll(cx).is_ready() || arrival.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Event::Arrived);
                    }
                    orders.as_mut().poll(cx).map(Event::Orders)
                })
                .await
            };
            match event {
                Event::State => {
                    if self.state() != State::Hangs {
                        return EngineError::new("the connection to the engine broke");
                    }
                    self.hub().connections.remove(&id);
                    return pending().await;
                }
                Event::Arrived => {
                    while let Some(parcel) = self.hub().arrived(id) {
                        let Parcel {
                            channel,
                            position,
                            envelope,
                        } = parcel;
                        match position {
                            Some(position) => link.logged(&channel, position, envelope),
                            None => link.receive(&channel, envelope),
                        }
                    }
                }
                Event::Orders(orders) => {
                    for order in orders {
                        match order {
                            Order::Listen(channel) => {
                                if let Some(open) = self.hub().connections.get_mut(&id) {
                                    open.channels.insert(channel.clone());
                                }
                                link.listening(&channel);
                            }
                            Order::Leave(channel) => {
                                if let Some(open) = self.hub().connections.get_mut(&id) {
                                    open.channels.remove(&channel);
                                }
                            }
                            Order::Send { channel, envelope } => self.hub().send(&Parcel {
                                channel,
                                position: None,
                                envelope,
                            }),
                        }
                    }
                }
            }
        }
    }

    /// A call of the log: whether it comes there, and whether its answer comes back.
    async fn call<T>(&self, call: impl FnOnce(&mut Hub) -> T) -> Result<T, EngineError> {
        let gone = || EngineError::new("the log cannot be reached");
        self.wait().await;
        match self.state() {
            State::Open => {}
            State::Cut => return Err(gone()),
            State::Hangs => return pending().await,
        }
        if self.hub().is_lost() {
            return Err(gone());
        }
        let answer = call(&mut self.hub());
        self.wait().await;
        if self.hub().is_lost() || self.state() == State::Cut {
            return Err(gone());
        }
        Ok(answer)
    }

    async fn wait(&self) {
        let delay = self.hub().some_delay();
        if !delay.is_zero() {
            sleep(delay).await;
        }
    }
}

/// A connection that is open.
struct Open<'a>(&'a Engine, u64);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.hub().connections.remove(&self.1);
    }
}

impl Backplane for Engine {
    fn run<'a>(&'a self, link: &'a mut Link) -> Pending<'a, EngineError> {
        Box::pin(self.carry(link))
    }

    fn log(&self) -> Option<&dyn Log> {
        Some(self)
    }
}

impl Log for Engine {
    fn append<'a>(
        &'a self,
        channel: &'a str,
        new: NewEntries<'a>,
    ) -> Pending<'a, Result<Vec<Position>, EngineError>> {
        Box::pin(async move {
            let appended = self.call(move |hub| match hub.is_full {
                true => Err(EngineError::new("OOM: the memory is full")),
                false => Ok(hub.append(channel, new)),
            });
            appended.await?
        })
    }

    fn read<'a>(
        &'a self,
        channel: &'a str,
        after: u64,
        most: usize,
    ) -> Pending<'a, Result<Page, EngineError>> {
        Box::pin(self.call(move |hub| {
            let log = hub.log(channel);
            let kept = log.kept.iter().filter(|(offset, ..)| *offset > after);
            let entries = kept.take(most);
            let entries =
                entries.map(|(offset, _, envelope)| Logged::new(*offset, envelope.clone()));
            let first = log.kept.front().map_or(log.last + 1, |(first, ..)| *first);
            Page::new(log.epoch, first, log.last, entries.collect())
        }))
    }

    fn renew<'a>(
        &'a self,
        channel: &'a str,
        seen: Position,
    ) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(self.call(move |hub| hub.renew(channel, Some(seen))))
    }
}

impl Hub {
    /// From 0 to 1 (SplitMix64).
    fn random(&mut self) -> f64 {
        self.number() as f64 / u64::MAX as f64
    }

    fn number(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.random;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn is_lost(&mut self) -> bool {
        self.lose > 0.0 && self.random() < self.lose
    }

    fn some_delay(&mut self) -> Duration {
        if self.delay.is_zero() {
            return Duration::ZERO;
        }
        self.delay.mul_f64(self.random())
    }

    fn send(&mut self, parcel: &Parcel) {
        let listening = |(id, open): (&u64, &Connection)| {
            open.channels.contains(&parcel.channel).then_some(*id)
        };
        let mut ids: Vec<u64> = self.connections.iter().filter_map(listening).collect();
        ids.sort_unstable();
        for id in ids {
            if self.is_lost() {
                continue;
            }
            let times = 1 + usize::from(self.double > 0.0 && self.random() < self.double);
            for _ in 0..times {
                let mut at = Instant::now() + self.some_delay();
                self.next += 1;
                let (order, reorder) = (self.next, self.reorder);
                let Some(open) = self.connections.get_mut(&id) else {
                    break;
                };
                if !reorder {
                    at = at.max(open.last);
                    open.last = at;
                }
                open.inbox.insert((at, order), parcel.clone());
                open.came.notify_one();
            }
        }
    }

    fn arrived(&mut self, id: u64) -> Option<Parcel> {
        let open = self.connections.get_mut(&id)?;
        let first = open.inbox.first_entry()?;
        if first.key().0 > Instant::now() {
            return None;
        }
        let parcel = first.remove();
        if !open.channels.contains(&parcel.channel) {
            return self.arrived(id);
        }
        self.carried += 1;
        Some(parcel)
    }

    fn log(&mut self, channel: &str) -> &mut Entries {
        if !self.logs.contains_key(channel) {
            let log = Entries {
                epoch: self.number(),
                last: 0,
                kept: VecDeque::new(),
                ids: VecDeque::new(),
            };
            self.logs.insert(channel.to_owned(), log);
        }
        self.logs
            .entry(channel.to_owned())
            .or_insert_with(|| unreachable!())
    }

    fn renew(&mut self, channel: &str, seen: Option<Position>) {
        let log = self.log(channel);
        let is_behind =
            seen.is_some_and(|seen| seen.epoch() == log.epoch && seen.offset() > log.last);
        if is_behind {
            self.logs.remove(channel);
        }
    }

    fn append(&mut self, channel: &str, new: NewEntries<'_>) -> Vec<Position> {
        let mut positions = Vec::new();
        for entry in new.entries {
            // An engine that loses things may stop in the middle.
            if !positions.is_empty() && self.is_lost() {
                break;
            }
            positions.push(self.append_one(channel, new, entry));
        }
        positions
    }

    fn append_one(&mut self, channel: &str, new: NewEntries<'_>, entry: &NewEntry) -> Position {
        let now = Instant::now();
        let retain = new.retain;
        self.renew(channel, new.seen);
        let log = self.log(channel);
        log.ids
            .retain(|(at, ..)| now - *at <= Duration::from_secs(30));
        if let Some((.., position)) = log.ids.iter().find(|(_, id, _)| *id == entry.id) {
            return *position;
        }
        log.last += 1;
        let position = Position::new(log.epoch, log.last);
        log.kept.push_back((log.last, now, entry.envelope.clone()));
        log.ids.push_back((now, entry.id, position));
        let bytes = |log: &Entries| -> usize { log.kept.iter().map(|(.., e)| e.len() + 64).sum() };
        while log.kept.len() > retain.max_messages()
            || log.kept.len() > 1 && bytes(log) > retain.max_bytes()
            || log
                .kept
                .front()
                .is_some_and(|(_, at, _)| now - *at > retain.max_age())
        {
            log.kept.pop_front();
        }
        self.send(&Parcel {
            channel: channel.to_owned(),
            position: Some(position),
            envelope: entry.envelope.clone(),
        });
        position
    }
}

impl Connection {
    fn next(&self) -> Option<Instant> {
        self.inbox.keys().next().map(|(at, _)| *at)
    }
}

impl Default for Port {
    fn default() -> Self {
        Self {
            state: watch::Sender::new(State::Open),
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("connections", &self.hub().connections.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SavedLogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SavedLogs")
            .field("logs", &self.0.len())
            .finish()
    }
}
