//! [`Confirmation`] and [`Answer`]: what can be observed from inside about a response to a handshake
//! over HTTP/1.1, where no guard sees what was sent.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};

use hyper::upgrade::{OnUpgrade, Upgraded};
use tokio::task;

/// Marks a response as ours, in its extensions: they survive layers that wrap the body or change
/// the status, and are gone when the response was replaced.
#[derive(Clone, Debug)]
pub(crate) struct Ours(Arc<()>);

/// Rides in the body of a 101 and observes what happens to it.
///
/// hyper treats the body of a genuine 101 like no other: it asks `is_end_stream`, drops the head
/// when that is written, and then drops the body without polling it. (It does the same for 204
/// and 304.) The body of any other status is polled, after the head was dropped.
pub(crate) struct Confirmation {
    answer: Arc<Answer>,
    /// The head of the response, as long as it has not been written or dropped.
    head: Weak<()>,
}

/// What is known of an HTTP/1.1 response to a handshake, and the socket once it is there.
#[derive(Debug)]
pub(super) struct Answer {
    state: Mutex<State>,
}

struct State {
    /// None when nobody waits for the socket any more.
    upgrade: Option<OnUpgrade>,
    arrived: Option<Result<Upgraded, hyper::Error>>,
    /// The client asked to end the connection with this response.
    close: bool,
    /// The task that answers the handshake. It is the one that serves the connection, unless the
    /// stack runs its services elsewhere: then none.
    task: Option<task::Id>,
    /// The task that is taken for the server's: the one that asked last, or else the one above.
    server: Option<task::Id>,
    /// The server asked `is_end_stream`.
    asked: bool,
    /// Someone read the body before the head was written, or in a task that is not the server's.
    collected: bool,
    /// The server wrote the head and then polled the body: not a 101.
    polled: bool,
    /// The body is gone, so that nothing more will be learned from it.
    dropped: bool,
    /// The task served another request, and the socket was not there yet.
    later: bool,
    waker: Option<Waker>,
}

impl Ours {
    pub(crate) fn new() -> Self {
        Self(Arc::new(()))
    }
}

impl Answer {
    pub(super) fn new(upgrade: OnUpgrade, close: bool) -> Self {
        let task = task::try_id();
        Self {
            state: Mutex::new(State {
                upgrade: Some(upgrade),
                arrived: None,
                close,
                task,
                server: task,
                asked: false,
                collected: false,
                polled: false,
                dropped: false,
                later: false,
                waker: None,
            }),
        }
    }

    /// Nothing waits any more, so code that keeps the response must not keep the socket open.
    pub(super) fn give_up(&self) {
        let (upgrade, arrived) = {
            let mut state = self.lock();
            (state.upgrade.take(), state.arrived.take())
        };
        drop((upgrade, arrived));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = self.lock();
            change(&mut state);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Another request came to the task of this one.
    pub(super) fn later_request(&self) {
        self.change(|state| {
            if state.task.is_none() {
                return;
            }
            let waker = state.waker.clone();
            let mut cx = Context::from_waker(waker.as_ref().unwrap_or(Waker::noop()));
            // A task may drive several connections. The upgrade of a genuine 101 is there before
            // its connection gives way to another.
            if state.poll_upgrade(&mut cx).is_pending() {
                state.later = true;
            }
        });
    }

    pub(super) fn poll(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Result<Upgraded, hyper::Error>, Refuted>> {
        let mut state = self.lock();
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        if state.polled {
            return Poll::Ready(Err(Refuted::Changed));
        }
        let arrived = state.poll_upgrade(cx).is_ready();
        if let Some(Err(_)) = state.arrived {
            // Whatever was sent, there will be no socket.
        } else if !state.dropped {
            return Poll::Pending;
        } else if state.later {
            return Poll::Ready(Err(Refuted::Later));
        } else if state.close && !state.is_confirmed() {
            return Poll::Ready(Err(Refuted::Unknown));
        } else if !arrived {
            return Poll::Pending;
        }
        match state.arrived.take() {
            Some(arrived) => Poll::Ready(Ok(arrived)),
            None => Poll::Pending,
        }
    }
}

impl State {
    fn poll_upgrade(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.arrived.is_none() {
            let Some(upgrade) = &mut self.upgrade else {
                return Poll::Pending;
            };
            self.arrived = Some(ready!(Pin::new(upgrade).poll(cx)));
        }
        Poll::Ready(())
    }

    /// The server treated the body as it treats that of a 101.
    fn is_confirmed(&self) -> bool {
        self.asked && !self.collected && !self.polled
    }
}

impl Confirmation {
    /// What becomes of a response with this `head`.
    pub(super) fn new(answer: Arc<Answer>, head: &Ours) -> Self {
        Self {
            answer,
            head: Arc::downgrade(&head.0),
        }
    }

    /// The server asked `is_end_stream`.
    pub(crate) fn asked(&self) {
        let here = task::try_id();
        // Nobody waits for this.
        let mut state = self.answer.lock();
        (state.asked, state.server) = (true, here);
        if state.task != here {
            // The stack runs services and connections in different tasks, so that other requests
            // of the services' task say nothing about this connection.
            (state.task, state.later) = (None, false);
        }
    }

    /// Someone polled the body.
    pub(crate) fn polled(&self) {
        let here = task::try_id();
        let written = self.head.strong_count() == 0;
        self.answer.change(|state| {
            if written && state.server == here {
                state.polled = true;
            } else {
                state.collected = true;
            }
        });
    }
}

impl Drop for Confirmation {
    fn drop(&mut self) {
        self.answer.change(|state| state.dropped = true);
    }
}

impl fmt::Debug for Confirmation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirmation").finish_non_exhaustive()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

/// Why nothing may be opened.
#[derive(Debug)]
pub(super) enum Refuted {
    /// The status of our response was changed.
    Changed,
    /// The handshake says `Connection: close`, and nothing tells what was sent.
    Unknown,
    /// HTTP goes on.
    Later,
}
