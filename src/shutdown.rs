//! [`Shutdown`]: gracefully closes all connections of any number of layers.

mod members;

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::AddAssign;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use members::Members;

use crate::close::{CloseCode, CloseFrame};
use crate::config::FORCED;
use crate::sync::{Mutex, MutexGuard};
use crate::{jitter, measure};

/// Gracefully ends WebSocket connections when a server stops.
///
/// Servers do not track connections that were upgraded:
/// `axum::serve(..).with_graceful_shutdown(..)` and hyper-util's `GracefulShutdown` wait for
/// requests, not for WebSockets. Give a `Shutdown` to the layers, and call [`drain`](Self::drain)
/// while the server shuts down; `examples/graceful_shutdown.rs` is a complete server that does so
/// on SIGTERM.
///
/// ```
/// # use tower_websocket::{Shutdown, WebSocketHandler, WebSocketLayer};
/// # use std::time::Duration;
/// # #[derive(Clone)] struct Chat;
/// # impl WebSocketHandler for Chat {}
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let shutdown = Shutdown::new();
/// let layer = WebSocketLayer::new("/chat", Chat).shutdown(&shutdown);
/// # drop(layer);
/// // … the server runs, until it receives SIGTERM:
/// let drained = shutdown.drain(Duration::from_secs(10)).await;
/// assert_eq!(drained.forced(), 0);
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Shutdown {
    state: Arc<State>,
}

/// A drain that begins when it is awaited or spawned; made by [`Shutdown::drain`] and
/// [`Shutdown::drain_on`].
#[must_use = "nothing is drained until it is awaited"]
pub struct Drain {
    how: Option<How>,
    /// What it waits for before it begins.
    signal: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    running: Option<Pin<Box<dyn Future<Output = Drained> + Send>>>,
}

/// What a drain is to do.
struct How {
    state: Arc<State>,
    deadline: Duration,
    spread: Option<Duration>,
    frame: CloseFrame,
}

/// What [`Shutdown::drain`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    closed: usize,
    forced: usize,
    remaining: usize,
    unopened: usize,
}

/// What a drain can ask of a connection.
pub(crate) trait Member: Send + Sync {
    /// What it was registered under.
    fn key(&self) -> u64;
    /// Finishes what is in progress, then closes with `frame`.
    fn leave(&self, frame: CloseFrame);
    /// Ends now.
    fn abort(&self);
    /// The connection itself, for those who know what it is.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// Counts a connection for as long as it is held.
pub(crate) struct Tracked {
    state: Arc<State>,
    shard: u32,
    place: u32,
}

#[derive(Default)]
struct State {
    /// A connection is in the one that its key names.
    shards: [Mutex<Members>; SHARDS],
    /// How many there are in all shards; changed after the shard.
    count: AtomicUsize,
    /// A drain has begun. Set before a drain looks at the first shard, and read under the lock of a
    /// shard: whoever is let in is found there.
    draining: AtomicBool,
    left: Notify,
    /// A drain has begun.
    begun: Notify,
}

#[derive(Clone, Copy, Default)]
struct Ended {
    closed: usize,
    forced: usize,
    unopened: usize,
}

/// By default, a drain asks one connection per millisecond to leave. A thousand clients per second
/// that reconnect are a hundredth of what one core can accept.
const SPREAD_EACH: Duration = Duration::from_millis(1);

/// So that threads that open and close connections seldom meet, and whoever lists a million
/// connections holds up only those of one shard. An empty shard has 104 bytes.
pub(crate) const SHARDS: usize = 16;

impl Shutdown {
    /// A handle for any number of layers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Closes all connections and waits for them, at most for `deadline`.
    ///
    /// New upgrades get 503 from now on. The connections begin to close one after the other,
    /// [spread](Drain::spread) over a part of the deadline. Each one finishes the message that is
    /// arriving, lets the application finish what was delivered to it, writes the queued messages and
    /// then a Close frame with 1001; the peer has the layer's close timeout to answer. Connections
    /// that are still open at the deadline are dropped and counted. `on_close` is called for those
    /// too, and `drain` waits up to one more second for it. Several drains may run at the same time.
    ///
    /// If a supervisor kills the process, choose a deadline 2 s below its grace period. Kubernetes
    /// kills 30 s after its SIGTERM.
    pub fn drain(&self, deadline: Duration) -> Drain {
        Drain {
            how: Some(How {
                state: self.state.clone(),
                deadline,
                spread: None,
                frame: CloseFrame::known(CloseCode::GOING_AWAY, "the server goes down"),
            }),
            signal: None,
            running: None,
        }
    }

    /// [`drain`](Self::drain)s when `signal` is ready, whatever it returns. With
    /// [`started`](Self::started) this is a graceful shutdown in two lines:
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use tower_websocket::{Shutdown, WebSocketHandler, WebSocketLayer};
    /// # #[derive(Clone)] struct Chat;
    /// # impl WebSocketHandler for Chat {}
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let shutdown = Shutdown::new();
    /// let app = axum::Router::<()>::new()
    ///     .layer(WebSocketLayer::new("/chat", Chat).shutdown(&shutdown));
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    ///
    /// let drain = tokio::spawn(shutdown.drain_on(tokio::signal::ctrl_c(), Duration::from_secs(20)));
    /// axum::serve(listener, app).with_graceful_shutdown(shutdown.started()).await?;
    /// let drained = drain.await?; // closes that are still under way, and their `on_close`
    /// # drop(drained);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Beside hyper-util's `GracefulShutdown`, select on `started` in the loop that accepts, and leave
    /// it.
    pub fn drain_on<F>(&self, signal: F, deadline: Duration) -> Drain
    where
        F: Future + Send + 'static,
    {
        let mut drain = self.drain(deadline);
        drain.signal = Some(Box::pin(async {
            signal.await;
        }));
        drain
    }

    /// Waits until a drain begins, for servers that are to stop accepting then:
    /// `axum::serve(..).with_graceful_shutdown(shutdown.started())`.
    pub fn started(&self) -> impl Future<Output = ()> + Send + use<> {
        let state = self.state.clone();
        async move {
            let mut begun = pin!(state.begun.notified());
            // Registered before the look, so that a beginning in between is not missed.
            begun.as_mut().enable();
            if !state.is_draining() {
                begun.await;
            }
        }
    }

    /// Whether a [`drain`](Self::drain) has begun.
    pub fn is_draining(&self) -> bool {
        self.state.is_draining()
    }

    /// Connections that are open, or being opened, right now.
    pub fn connections(&self) -> usize {
        self.state.count.load(Ordering::Relaxed)
    }

    /// Registers a connection under a key that no other has; `None` if a drain has begun.
    pub(crate) fn track(&self, key: u64, member: Weak<dyn Member>) -> Option<Tracked> {
        let shard = (key % SHARDS as u64) as u32;
        let mut members = self.state.shard(shard);
        if self.state.is_draining() {
            return None;
        }
        let place = members.add(member)?;
        self.state.count.fetch_add(1, Ordering::AcqRel);
        drop(members);
        Some(Tracked {
            state: self.state.clone(),
            shard,
            place,
        })
    }

    /// The connection of that key, if it is open.
    pub(crate) fn member(&self, key: u64) -> Option<Arc<dyn Member>> {
        // No lock is held while those that it is not are dropped, of which one may be the last.
        let members = self.members((key % SHARDS as u64) as usize);
        members.into_iter().find(|member| member.key() == key)
    }

    /// The open connections of one of the [`SHARDS`].
    pub(crate) fn members(&self, shard: usize) -> Vec<Arc<dyn Member>> {
        let Some(shard) = self.state.shards.get(shard) else {
            return Vec::new();
        };
        lock(shard).open().collect()
    }
}

impl Drain {
    /// Close requests go out in random order over this window, so that clients do not reconnect at
    /// once. Keep it well below the deadline.
    ///
    /// Default: 1 ms for each connection, but no more than a quarter of the deadline, so that
    /// the last ones have three quarters of it to finish.
    pub fn spread(mut self, window: Duration) -> Self {
        if let Some(how) = &mut self.how {
            how.spread = Some(window);
        }
        self
    }

    /// Closes with 1012, "service restart", in place of 1001: clients that know the code reconnect,
    /// because a server will soon be available at the same address.
    pub fn restarting(mut self) -> Self {
        if let Some(how) = &mut self.how {
            how.frame = CloseFrame::known(CloseCode::SERVICE_RESTART, "the server restarts");
        }
        self
    }
}

impl How {
    async fn run(self) -> Drained {
        self.state.draining.store(true, Ordering::Release);
        let (mut all, mut opening, mut before) = (Vec::new(), 0, Ended::default());
        for members in self.state.each() {
            members.collect(&mut all);
            opening += members.opening();
            before += members.ended;
        }
        self.state.begun.notify_waiters();
        let connections = all.len() - opening;
        tracing::info!(connections, opening, deadline = ?self.deadline, "draining");
        let done = timeout(self.deadline, async {
            let (mut telling, mut told) = (pin!(self.tell(all)), false);
            let mut empty = pin!(self.state.empty());
            poll_fn(|cx| {
                told = told || telling.as_mut().poll(cx).is_ready();
                // All of them may end before they are asked to leave.
                empty.as_mut().poll(cx)
            })
            .await;
        });
        let forced = match done.await {
            Ok(()) => Vec::new(),
            Err(_) => self.state.force(),
        };
        for member in forced.iter().filter_map(Weak::upgrade) {
            member.abort();
        }
        let _ = timeout(FORCED, self.state.empty()).await;
        let drained = self.state.since(before);
        measure::drained(drained.closed, drained.forced, drained.unopened);
        if drained.forced == 0 {
            let Drained {
                closed, unopened, ..
            } = drained;
            tracing::info!(closed, unopened, "drained");
        } else {
            tracing::warn!(
                closed = drained.closed,
                forced = drained.forced,
                unopened = drained.unopened,
                remaining = drained.remaining,
                "the deadline of the shutdown came before the end of all connections"
            );
        }
        drained
    }

    async fn tell(&self, mut all: Vec<Weak<dyn Member>>) {
        jitter::shuffle(&mut all);
        let began = Instant::now();
        let count = u32::try_from(all.len()).unwrap_or(u32::MAX).max(1);
        let by_default = || (SPREAD_EACH * count).min(self.deadline / 4);
        let window = self.spread.unwrap_or_else(by_default).min(self.deadline);
        let share = window / count;
        for (i, member) in (0..count).zip(all) {
            let at = share.saturating_mul(i).saturating_add(jitter::up_to(share));
            let wait = at.saturating_sub(began.elapsed());
            // tokio rounds a shorter sleep up to this.
            if wait >= Duration::from_millis(1) {
                sleep(wait).await;
            }
            if let Some(member) = member.upgrade() {
                member.leave(self.frame.clone());
            }
        }
    }
}

impl Future for Drain {
    type Output = Drained;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Drained> {
        if let Some(how) = self.how.take() {
            let signal = self.signal.take();
            self.running = Some(Box::pin(async {
                if let Some(signal) = signal {
                    signal.await;
                }
                how.run().await
            }));
        }
        match &mut self.running {
            Some(running) => {
                let drained = ready!(running.as_mut().poll(cx));
                self.running = None;
                Poll::Ready(drained)
            }
            // Polled after it was ready.
            None => Poll::Pending,
        }
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut drain = f.debug_struct("Drain");
        if let Some(how) = &self.how {
            drain
                .field("deadline", &how.deadline)
                .field("spread", &how.spread)
                .field("code", &how.frame.code);
        }
        drain.finish_non_exhaustive()
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown")
            .field("draining", &self.is_draining())
            .field("connections", &self.connections())
            .finish()
    }
}

impl Drained {
    /// Connections that ended before a deadline came. With the [`forced`](Self::forced) ones, this
    /// is how many `on_close` callbacks there were or, for those that
    /// [remain](Self::remaining), will be.
    pub fn closed(&self) -> usize {
        self.closed
    }

    /// Connections that were dropped at the deadline: of this drain, or of a shorter one that ran
    /// at the same time.
    pub fn forced(&self) -> usize {
        self.forced
    }

    /// Handshakes that were under way when the drain began and never became a connection:
    /// the client left, or the deadline came. Neither `on_open` nor `on_close` was called.
    pub fn unopened(&self) -> usize {
        self.unopened
    }

    /// Of the [`forced`](Self::forced) ones, those that had still not ended a second later:
    /// their application blocks its thread, so nothing can be done for them.
    pub fn remaining(&self) -> usize {
        self.remaining
    }
}

impl Tracked {
    /// The connection is open: `on_close` will be called for it.
    pub(crate) fn opened(&self) {
        self.state.shard(self.shard).opened(self.place);
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let mut members = self.state.shard(self.shard);
        members.remove(self.place, self.state.is_draining());
        drop(members);
        if self.state.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.state.left.notify_waiters();
        }
    }
}

impl fmt::Debug for Tracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracked").finish_non_exhaustive()
    }
}

impl Ended {
    /// One more, that had `opened`, or was dropped at a deadline.
    fn count(&mut self, opened: bool, forced: bool) {
        match (opened, forced) {
            (false, _) => self.unopened += 1,
            (true, true) => self.forced += 1,
            (true, false) => self.closed += 1,
        }
    }
}

impl AddAssign for Ended {
    fn add_assign(&mut self, other: Self) {
        self.closed += other.closed;
        self.forced += other.forced;
        self.unopened += other.unopened;
    }
}

impl State {
    async fn empty(&self) {
        loop {
            // This is registered before the check, so that no change is missed.
            let left = self.left.notified();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            left.await;
        }
    }

    /// The deadline has passed for all that are left.
    fn force(&self) -> Vec<Weak<dyn Member>> {
        let mut left = Vec::new();
        for mut members in self.each() {
            members.force();
            members.collect(&mut left);
        }
        left
    }

    /// What became of the connections that were there when `before` was taken.
    fn since(&self, before: Ended) -> Drained {
        let (mut ended, mut remaining) = (Ended::default(), 0);
        for members in self.each() {
            let (so_far, open) = members.summary();
            ended += so_far;
            remaining += open;
        }
        Drained {
            closed: ended.closed - before.closed,
            forced: ended.forced - before.forced,
            unopened: ended.unopened - before.unopened,
            remaining,
        }
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// One shard after the other, of which one is locked at a time.
    fn each(&self) -> impl Iterator<Item = MutexGuard<'_, Members>> {
        self.shards.iter().map(lock)
    }

    fn shard(&self, shard: u32) -> MutexGuard<'_, Members> {
        lock(&self.shards[shard as usize % SHARDS])
    }
}

fn lock(members: &Mutex<Members>) -> MutexGuard<'_, Members> {
    members.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
