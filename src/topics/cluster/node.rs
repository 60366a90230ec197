//! [`Node`]: this process, as the other nodes see it.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::backplane::Backplane;
use super::engine::EngineError;
use super::link::Hub;
use super::order::Order;
use super::outbox::{Outbox, Parcel};
use super::wanted::Wanted;
use crate::sync::{Mutex, MutexGuard};
use crate::topics::Position;

/// The most orders that an engine takes at a time: few enough that it looks at its socket meanwhile.
const BATCH: usize = 256;

/// The same in bytes, of envelopes.
const BATCH_BYTES: usize = 1024 * 1024;

/// See the module docs.
pub(crate) struct Node {
    id: u64,
    backplane: Box<dyn Backplane>,
    state: Mutex<State>,
    running: AtomicBool,
}

#[derive(Default)]
struct State {
    wanted: Wanted,
    /// What goes ahead of the outbox.
    control: VecDeque<Parcel>,
    outbox: Outbox,
    /// The engine waits for orders.
    engine: Option<Waker>,
    /// The task waits for something to do.
    watch: Option<Waker>,
    /// The `Topics` are no more.
    gone: bool,
    up: bool,
}

impl Node {
    pub(crate) fn new(backplane: Box<dyn Backplane>) -> Arc<Self> {
        let id = RandomState::new().hash_one("node").max(1);
        let mut state = State::default();
        state.wanted.want("nodes");
        state.wanted.want(&format!("node:{id:016x}"));
        Arc::new(Self {
            id,
            backplane,
            state: Mutex::new(state),
            running: AtomicBool::new(false),
        })
    }

    pub(super) fn backplane(&self) -> &dyn Backplane {
        &*self.backplane
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    /// Whether nobody else has.
    pub(super) fn begin_running(&self) -> bool {
        !self.running.swap(true, Ordering::AcqRel)
    }

    pub(super) fn end_running(&self) {
        self.running.store(false, Ordering::Release);
    }

    /// The `Topics` are no more: the task ends.
    pub(crate) fn leave(&self) {
        let waker = {
            let mut state = self.state();
            state.gone = true;
            state.watch.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.state().gone
    }

    /// The engine begins.
    pub(super) fn begin(&self) {
        self.state().wanted.begin();
    }

    /// The engine has ended. Whether it was up.
    pub(super) fn end(&self) -> bool {
        std::mem::take(&mut self.state().up)
    }

    /// Waits until the engine is to be dropped, and tells why. `None`: for good.
    pub(super) async fn watch(&self) -> Option<EngineError> {
        poll_fn(|cx| {
            let mut state = self.state();
            if state.gone {
                return Poll::Ready(None);
            }
            state.watch = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
}

impl Hub for Node {
    fn poll_orders(&self, cx: &mut Context<'_>) -> Poll<Vec<Order>> {
        let mut state = self.state();
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
        Poll::Ready(orders)
    }

    fn listening(&self, channel: &str) {
        let mut state = self.state();
        state.wanted.confirm(channel);
        state.up = state.wanted.is_complete();
    }

    fn receive(&self, _channel: &str, _envelope: Bytes) {}

    fn logged(&self, _channel: &str, _position: Position, _envelope: Bytes) {}
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", &format_args!("{:016x}", self.id))
            .finish_non_exhaustive()
    }
}
