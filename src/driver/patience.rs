//! [`Patience`]: how long the application may still run, and still send.

use std::time::Duration;

use crate::config::Config;
use crate::protocol::{Moment, earlier};

/// See the module docs. It decides by the moments that it is given, and does not read a clock.
#[derive(Debug, Default)]
pub(super) struct Patience {
    callback: Callback,
    /// Boxed, since most of the time there is no end in sight.
    end: Option<Box<End>>,
}

/// What is left of the application's time.
#[derive(Debug, Default)]
struct End {
    /// From here on, nothing more that it sends is accepted.
    farewell: Option<Moment>,
    /// Once the connection has ended: the farewell is put off by so much with each message taken
    /// that came before the end.
    grace: Option<Duration>,
    /// How often it has filled the queue since then.
    rooms: u8,
    /// How many messages were waiting for it when that was last looked at.
    waiting: usize,
    /// From here on, its callback is not waited for.
    abandon: Option<Moment>,
    /// Until when `on_error` and `on_close` may run once a shutdown has come to its deadline.
    forced: Option<Moment>,
    /// Only those two are left to be called.
    is_last: bool,
}

/// The time that the running callback has to itself.
#[derive(Debug, Default)]
enum Callback {
    #[default]
    Unlimited,
    /// As long as `on_message` may take. It counts from when the callback is first seen to wait: those that
    /// are ready at once need no look at the clock.
    Limited,
    /// The same for `on_error` and `on_close`.
    Last,
    Until(Moment),
}

/// What is to be done about an application that still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Accept nothing more from it, and close.
    Farewell,
    /// Drop the callback: it took longer than a callback of its kind may.
    Late,
    /// Drop the callback: its connection has ended, and so has its time to finish.
    Abandon,
}

impl Patience {
    /// A callback begins that has the timeout of `on_message`, if there is one.
    #[inline]
    pub(super) fn begin(&mut self, config: &Config) {
        if config.on_message_timeout.is_some() {
            self.callback = Callback::Limited;
        }
    }

    /// Whether [`waits`](Self::waits) wants to know the time.
    #[inline]
    pub(super) fn is_counting(&self) -> bool {
        !matches!(self.callback, Callback::Limited | Callback::Last)
    }

    /// The callback is seen to wait.
    pub(super) fn waits(&mut self, now: Moment, config: &Config) {
        match self.callback {
            Callback::Limited => {
                let until = config.on_message_timeout.map(|timeout| now + timeout);
                self.callback = until.map_or(Callback::Unlimited, Callback::Until);
            }
            Callback::Last => {
                self.callback = Callback::Unlimited;
                self.last(config.close_timeout, now);
            }
            Callback::Unlimited | Callback::Until(_) => {}
        }
    }

    /// The callback has ended, in whatever way. Its deadline is cleared, because nothing would act
    /// on it when it passes.
    #[inline]
    pub(super) fn returned(&mut self) {
        self.callback = Callback::Unlimited;
    }

    /// The connection has ended, and `waiting` messages came before. From here on the application
    /// may send for `farewell`, anew with each of those that it takes, and run for `close_timeout`.
    pub(super) fn ended(
        &mut self,
        farewell: Duration,
        close_timeout: Duration,
        waiting: usize,
        now: Moment,
    ) {
        let end = self.end.get_or_insert_default();
        if end.grace.is_none() {
            end.abandon.get_or_insert(now + close_timeout);
            end.farewell = Some(now + farewell);
            end.grace = Some(farewell);
            end.waiting = waiting;
        }
    }

    /// Whether [`ended`](Self::ended) was called.
    pub(super) fn knows_end(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.grace.is_some())
    }

    /// So many messages are waiting for the application now.
    pub(super) fn waiting(&mut self, messages: usize, now: Moment) {
        if let Some(end) = &mut self.end {
            if messages < end.waiting && end.farewell.is_some() {
                end.farewell = end.grace.map(|grace| now + grace);
                end.rooms = 0;
            }
            end.waiting = messages;
        }
    }

    /// The application had filled the queue, and has room again. What it was about to send when the
    /// end came may have found the queue full; a second time it has sent a whole queue since.
    pub(super) fn room(&mut self, now: Moment) {
        if let Some(end) = &mut self.end {
            end.rooms = end.rooms.saturating_add(1);
            if end.rooms > 1 && end.farewell.is_some() && !end.is_last {
                end.farewell = Some(now);
            }
        }
    }

    /// `on_error` or `on_close` begins, which have the close timeout.
    pub(super) fn begin_last(&mut self) {
        self.callback = Callback::Last;
    }

    /// One of them is seen to wait.
    fn last(&mut self, close_timeout: Duration, now: Moment) {
        let end = self.end.get_or_insert_default();
        let until = now + close_timeout;
        end.is_last = true;
        end.abandon = Some(end.forced.map_or(until, |forced| forced.min(until)));
    }

    /// The deadline of a shutdown has passed: `on_error` and `on_close` have `rest` together, any
    /// other callback had its time.
    pub(super) fn force(&mut self, rest: Duration, now: Moment) {
        let end = self.end.get_or_insert_default();
        let forced = *end.forced.get_or_insert(now + rest);
        let until = if end.is_last { forced } else { now };
        end.abandon = Some(end.abandon.map_or(until, |abandon| abandon.min(until)));
    }

    /// No callback runs any more.
    pub(super) fn clear(&mut self) {
        self.returned();
        if let Some(end) = &mut self.end {
            (end.farewell, end.abandon) = (None, None);
        }
    }

    /// When [`verdict`](Self::verdict) will have one.
    #[inline]
    pub(super) fn deadline(&self) -> Option<Moment> {
        let callback = match self.callback {
            Callback::Until(until) => Some(until),
            _ => None,
        };
        let Some(end) = &self.end else {
            return callback;
        };
        earlier(callback, earlier(end.farewell, end.abandon))
    }

    /// What is due. [`Verdict::Farewell`] is returned once.
    #[inline]
    pub(super) fn verdict(&mut self, now: Moment) -> Option<Verdict> {
        let is_due = |at: Option<Moment>| at.is_some_and(|at| at <= now);
        if self.end.as_ref().is_some_and(|end| is_due(end.abandon)) {
            return Some(Verdict::Abandon);
        }
        if let Callback::Until(until) = self.callback {
            if until <= now {
                return Some(Verdict::Late);
            }
        }
        let end = self.end.as_mut().filter(|end| is_due(end.farewell))?;
        end.farewell = None;
        Some(Verdict::Farewell)
    }
}

#[cfg(test)]
mod tests;
