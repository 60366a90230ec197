//! [`Shutdown`]: an orderly end for every connection of any number of layers.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use crate::message::{CloseCode, CloseFrame};

/// Ends WebSocket connections in good order when a server stops.
///
/// Servers do not know connections that were upgraded: `axum::serve(..)
/// .with_graceful_shutdown(..)` and hyper-util's `GracefulShutdown` wait for requests, not
/// for WebSockets. Give a `Shutdown` to the layers and [`drain`](Self::drain) it beside them.
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
/// // … the server runs, then is told to stop:
/// let drained = shutdown.drain(Duration::from_secs(10)).await;
/// assert_eq!(drained.forced(), 0);
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Shutdown {
    state: Arc<State>,
}

/// What [`Shutdown::drain`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    closed: usize,
    forced: usize,
}

/// A connection, as far as its end is concerned.
pub(crate) trait Drain: Send + Sync {
    /// Finish what is under way, then close with this.
    fn leave(&self, frame: CloseFrame);
    /// End now.
    fn abort(&self);
}

/// Counts a connection for as long as it is held.
pub(crate) struct Tracked {
    state: Arc<State>,
    key: u64,
}

#[derive(Default)]
struct State {
    members: Mutex<Members>,
    left: Notify,
}

#[derive(Default)]
struct Members {
    draining: bool,
    next: u64,
    all: HashMap<u64, Weak<dyn Drain>>,
}

impl Shutdown {
    /// A handle for any number of layers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Closes all connections and waits for them, at most for `deadline`.
    ///
    /// From now on new upgrades are answered with 503. Every connection finishes the message
    /// that is arriving, the application finishes what was delivered to it, what it sent is
    /// written, and a Close frame with 1001 follows; then the peer has the layer's close
    /// timeout to answer. What is still there at the deadline is dropped, and counted;
    /// `on_close` is called for those too. Calling it again, also at the same time, is fine.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        let all = {
            let mut members = self.state.lock();
            members.draining = true;
            members.all.values().cloned().collect::<Vec<_>>()
        };
        let frame = CloseFrame::known(CloseCode::GOING_AWAY, "the server goes down");
        for member in all.iter().filter_map(Weak::upgrade) {
            member.leave(frame.clone());
        }
        let forced = match tokio::time::timeout(deadline, self.state.empty()).await {
            Ok(()) => Vec::new(),
            Err(_) => self.state.lock().all.values().cloned().collect(),
        };
        for member in forced.iter().filter_map(Weak::upgrade) {
            member.abort();
        }
        Drained {
            closed: all.len().saturating_sub(forced.len()),
            forced: forced.len(),
        }
    }

    /// Whether [`drain`](Self::drain) has been called.
    pub fn is_draining(&self) -> bool {
        self.state.lock().draining
    }

    /// Connections that are open, or being opened, right now.
    pub fn connections(&self) -> usize {
        self.state.lock().all.len()
    }

    /// Counts a connection; `None` if there shall be no new ones.
    pub(crate) fn track(&self, member: Weak<dyn Drain>) -> Option<Tracked> {
        let mut members = self.state.lock();
        if members.draining {
            return None;
        }
        let key = members.next;
        members.next += 1;
        members.all.insert(key, member);
        Some(Tracked {
            state: self.state.clone(),
            key,
        })
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
    /// Connections that ended within the deadline.
    pub fn closed(&self) -> usize {
        self.closed
    }

    /// Connections that were dropped at the deadline.
    pub fn forced(&self) -> usize {
        self.forced
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let mut members = self.state.lock();
        members.all.remove(&self.key);
        if members.all.is_empty() {
            // Memory of a busy day is not kept through the night.
            members.all = HashMap::new();
            self.state.left.notify_waiters();
        }
    }
}

impl fmt::Debug for Tracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracked").finish_non_exhaustive()
    }
}

impl State {
    async fn empty(&self) {
        loop {
            // Registered before the look, so that no change is missed.
            let left = self.left.notified();
            if self.lock().all.is_empty() {
                return;
            }
            left.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Peer {
        left: AtomicUsize,
        aborted: AtomicUsize,
    }

    impl Drain for Peer {
        fn leave(&self, _: CloseFrame) {
            self.left.fetch_add(1, Ordering::Relaxed);
        }
        fn abort(&self) {
            self.aborted.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn track(shutdown: &Shutdown, peer: &Arc<Peer>) -> Option<Tracked> {
        let peer: Arc<dyn Drain> = peer.clone();
        shutdown.track(Arc::downgrade(&peer))
    }

    #[tokio::test(start_paused = true)]
    async fn a14_who_is_there_at_the_deadline_is_aborted_and_counted() {
        let shutdown = Shutdown::new();
        let (quick, slow) = (Arc::<Peer>::default(), Arc::<Peer>::default());
        let quick_tracked = track(&shutdown, &quick);
        let _slow_tracked = track(&shutdown, &slow);
        assert_eq!(shutdown.connections(), 2);
        drop(quick_tracked);
        let drained = shutdown.drain(Duration::from_secs(1)).await;
        assert_eq!(drained.forced(), 1);
        assert_eq!(slow.left.load(Ordering::Relaxed), 1);
        assert_eq!(slow.aborted.load(Ordering::Relaxed), 1);
        assert_eq!(quick.aborted.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a15_draining_twice_is_fine_and_nobody_enters_meanwhile() {
        let shutdown = Shutdown::new();
        assert_eq!(shutdown.drain(Duration::ZERO).await.closed(), 0);
        assert_eq!(shutdown.drain(Duration::ZERO).await.forced(), 0);
        assert!(shutdown.is_draining());
        assert!(track(&shutdown, &Arc::default()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn draining_ends_when_the_last_connection_ends() {
        let shutdown = Shutdown::new();
        let peer = Arc::<Peer>::default();
        let tracked = track(&shutdown, &peer);
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.drain(Duration::from_secs(3600)).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(tracked);
        assert_eq!(waiting.await.unwrap().closed(), 1);
    }
}
