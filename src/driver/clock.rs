//! [`Clock`]: the time of a connection, and its one sleep.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;
use tokio::time::error::Elapsed;

use crate::protocol::Moment;

/// See the module docs. The clock is read only where it matters: that costs as much as unmasking
/// a kilobyte.
pub(super) struct Clock {
    /// None before the first deadline.
    sleep: Option<Pin<Box<Sleep>>>,
    /// What `sleep` is set to; later deadlines need no re-arming.
    armed: Option<Moment>,
    started: Instant,
    now: Moment,
}

impl Clock {
    /// Of a connection that begins now.
    pub(super) fn new() -> Self {
        let started = tokio::time::Instant::now();
        Self {
            sleep: None,
            armed: None,
            started: started.into_std(),
            now: Moment::START,
        }
    }

    /// The time when it was last looked at.
    #[inline]
    pub(super) fn now(&self) -> Moment {
        self.now
    }

    /// What time it is, without taking note of it.
    pub(super) fn peek(&self) -> Moment {
        Moment::new(tokio::time::Instant::now().into_std() - self.started)
    }

    /// Looks what time it is.
    #[inline]
    pub(super) fn look(&mut self) -> Moment {
        self.now = self.peek();
        self.now
    }

    /// Whether `deadline` has passed; if not, the task is woken when it does.
    #[inline]
    pub(super) fn poll(&mut self, deadline: Moment, cx: &mut Context<'_>) -> bool {
        if self.armed.is_some_and(|armed| armed <= self.now) {
            self.armed = None;
        }
        if deadline <= self.now {
            return true;
        }
        if self.armed.is_none_or(|armed| deadline < armed) {
            let at = self.started + deadline.age();
            let sleep = match &mut self.sleep {
                Some(sleep) => {
                    sleep.as_mut().reset(at.into());
                    sleep
                }
                none => none.insert(Box::pin(tokio::time::sleep_until(at.into()))),
            };
            self.armed = Some(deadline);
            // Outside tokio's budget: with none left the waker would not be kept.
            let sleep = tokio::task::unconstrained(sleep.as_mut());
            if pin!(sleep).poll(cx).is_ready() {
                self.armed = None;
                self.look();
                return true;
            }
        }
        false
    }
}

/// What `future` gives, if it does so within `limit` of when it is first seen to wait. One that is
/// ready at once, as most are, needs no timer.
pub(crate) async fn within<F: Future>(
    limit: Duration,
    mut future: Pin<&mut F>,
) -> Result<F::Output, Elapsed> {
    match poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => tokio::time::timeout(limit, future).await,
    }
}
