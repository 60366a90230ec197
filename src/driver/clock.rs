//! [`Clock`]: the time of a connection, and its one sleep.

use std::pin::{Pin, pin};
use std::task::Context;
use std::time::Instant;

use tokio::time::Sleep;

use crate::protocol::Moment;

/// See the module docs. The clock is read only where it matters: that costs as much as unmasking
/// a kilobyte.
pub(super) struct Clock {
    sleep: Pin<Box<Sleep>>,
    /// What `sleep` is set to; later deadlines need no re-arming.
    armed: Option<Moment>,
    started: Instant,
    now: Moment,
    /// `now` is from before the task slept.
    stale: bool,
}

impl Clock {
    /// Of a connection that begins now.
    pub(super) fn new() -> Self {
        let started = tokio::time::Instant::now();
        Self {
            sleep: Box::pin(tokio::time::sleep_until(started)),
            armed: None,
            started: started.into_std(),
            now: Moment::START,
            stale: true,
        }
    }

    /// The time when it was last looked at.
    #[inline]
    pub(super) fn now(&self) -> Moment {
        self.now
    }

    /// Looks what time it is.
    #[inline]
    pub(super) fn look(&mut self) -> Moment {
        let age = tokio::time::Instant::now().into_std() - self.started;
        self.now = Moment::new(age);
        self.stale = false;
        self.now
    }

    /// Whether the task has slept since the last look.
    #[inline]
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// The task is about to sleep.
    pub(super) fn rest(&mut self) {
        self.stale = true;
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
            self.sleep.as_mut().reset(at.into());
            self.armed = Some(deadline);
            // Outside tokio's budget: with none left the waker would not be kept.
            let sleep = tokio::task::unconstrained(self.sleep.as_mut());
            if pin!(sleep).poll(cx).is_ready() {
                self.armed = None;
                self.look();
                return true;
            }
        }
        false
    }
}
