//! [`Work`]: what the tasks of a node wait for: the engine for orders, the watch for what is due.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::health::Health;
use super::order::Order;
use super::queue::Queue;
use super::schedule::Schedule;
use crate::measure;
use crate::sync::{Mutex, MutexGuard};

/// See the module docs.
pub(super) struct Work {
    todo: Mutex<Todo>,
    /// What was sent last has come back.
    pub(super) heard: Notify,
}

/// What there is to do. Who adds to it calls who is to do it.
pub(super) struct Todo {
    pub(super) queue: Queue,
    pub(super) schedule: Schedule<Instant>,
    /// The `Topics` are no more.
    pub(super) is_over: bool,
    /// The number of an envelope behind all that waited, which is yet to come back.
    pub(super) last: Option<u64>,
    /// Why there is no connection, as long as there is none.
    pub(super) reason: String,
    pub(super) health: Health<Instant>,
    /// Connections that broke when they had taken orders.
    pub(super) broken: u64,
    /// This one has taken some.
    has_taken: bool,
    /// Something has changed what the watch waits for.
    stirred: bool,
    engine: Option<Waker>,
    watch: Option<Waker>,
    /// Those of them who are to be woken when the lock is released.
    called: Vec<Waker>,
}

impl Todo {
    /// Whether the others are reached and the log works.
    pub(super) fn is_well(&self) -> bool {
        self.schedule.is_up() && self.health.fault().is_none()
    }

    /// There is something to do for the engine.
    pub(super) fn call_engine(&mut self) {
        self.called.extend(self.engine.take());
    }

    /// A connection has begun.
    pub(super) fn begin(&mut self, now: Instant) {
        self.has_taken = false;
        self.queue.begin();
        self.schedule.begin(now);
    }

    /// It has ended, for this reason. Whether it was up.
    pub(super) fn end(&mut self, now: Instant, why: String) -> bool {
        self.reason = why;
        self.broken += u64::from(std::mem::take(&mut self.has_taken));
        self.schedule.end(now)
    }

    /// Has the watch look again.
    pub(super) fn call_watch(&mut self) {
        self.stirred = true;
        self.called.extend(self.watch.take());
    }
}

impl Work {
    pub(super) fn new(queue: Queue, schedule: Schedule<Instant>) -> Self {
        let todo = Todo {
            queue,
            schedule,
            is_over: false,
            last: None,
            reason: "not connected yet".to_owned(),
            health: Health::new(),
            broken: 0,
            has_taken: false,
            stirred: false,
            engine: None,
            watch: None,
            called: Vec::new(),
        };
        Self {
            todo: Mutex::new(todo),
            heard: Notify::new(),
        }
    }

    /// Looks at it.
    pub(super) fn todo(&self) -> MutexGuard<'_, Todo> {
        self.todo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it, and then wakes those whom that calls.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Todo) -> R) -> R {
        let (result, called) = {
            let mut todo = self.todo();
            (change(&mut todo), std::mem::take(&mut todo.called))
        };
        called.into_iter().for_each(Waker::wake);
        result
    }

    /// The next orders for the engine, at least one.
    pub(super) fn poll_orders(&self, cx: &mut Context<'_>) -> Poll<Vec<Order>> {
        let mut todo = self.todo();
        let before = todo.queue.messages();
        let orders = todo.queue.next();
        if orders.is_empty() {
            todo.engine = Some(cx.waker().clone());
            return Poll::Pending;
        }
        todo.has_taken = true;
        let left = before - todo.queue.messages();
        drop(todo);
        measure::outbox(0, left);
        Poll::Ready(orders)
    }

    /// Waits for that time, or until the watch is called.
    pub(super) async fn wait_until(&self, deadline: Instant) {
        let mut sleep = pin!(sleep_until(deadline));
        poll_fn(|cx| {
            {
                let mut todo = self.todo();
                if std::mem::take(&mut todo.stirred) {
                    return Poll::Ready(());
                }
                todo.watch = Some(cx.waker().clone());
            }
            sleep.as_mut().poll(cx)
        })
        .await;
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        measure::outbox(0, self.todo().queue.messages());
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::outbox::Limits;
    use super::super::probe::Times;
    use super::*;

    fn work() -> Arc<Work> {
        let schedule = Schedule::new(Times::default(), None, Instant::now());
        Arc::new(Work::new(Queue::new(Limits::default()), schedule))
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_orders_is_woken_by_who_has_some() {
        let work = work();
        let engine = tokio::spawn({
            let work = work.clone();
            async move { poll_fn(|cx| work.poll_orders(cx)).await }
        });
        tokio::task::yield_now().await;
        work.change(|todo| {
            todo.queue.wanted.want("a");
            todo.call_engine();
        });
        assert_eq!(engine.await.unwrap(), [Order::Listen("a".to_owned())]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_watch_waits_for_its_time_or_until_it_is_called() {
        let work = work();
        let begin = Instant::now();
        work.wait_until(begin + Duration::from_secs(1)).await;
        assert_eq!(begin.elapsed(), Duration::from_secs(1));
        let watch = tokio::spawn({
            let work = work.clone();
            async move { work.wait_until(begin + Duration::from_secs(9)).await }
        });
        tokio::task::yield_now().await;
        work.change(Todo::call_watch);
        watch.await.unwrap();
        // A call before it waits counts, once.
        work.change(Todo::call_watch);
        work.wait_until(begin + Duration::from_secs(9)).await;
        assert_eq!(begin.elapsed(), Duration::from_secs(1));
        work.wait_until(begin + Duration::from_secs(9)).await;
        assert_eq!(begin.elapsed(), Duration::from_secs(9));
    }
}
