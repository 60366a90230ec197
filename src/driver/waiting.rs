//! [`Waiting`]: the upgrades that wait for a socket, by the task that serves their connection.
//!
//! All requests of an HTTP/1.1 connection are served by one task. One that comes while an upgrade
//! of the same task still waits proves that the connection speaks HTTP, so the client was not
//! sent a 101.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use tokio::task;

use super::evidence::Answer;

/// How many upgrades wait, so that requests look further only when there are any.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// As many entries as upgrades that wait: each leaves with its [`Waiting`], whose deadline is the
/// upgrade timeout. A task has more than one only while its connection is refused again and again.
static WAITING: LazyLock<Mutex<Tasks>> = LazyLock::new(Mutex::default);

type Tasks = HashMap<task::Id, Vec<Arc<Answer>>>;

fn tasks() -> MutexGuard<'static, Tasks> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes that the current task serves another request. Costs one load where no upgrade waits.
#[inline]
pub(crate) fn later_request() {
    // What this task has added, this task sees.
    if COUNT.load(Ordering::Relaxed) != 0 {
        tell_waiting();
    }
}

#[cold]
fn tell_waiting() {
    let Some(task) = task::try_id() else {
        return;
    };
    let waiting = tasks().get(&task).cloned().unwrap_or_default();
    for answer in waiting {
        answer.later_request();
    }
}

/// An upgrade that waits, for as long as it does.
pub(super) struct Waiting {
    answer: Arc<Answer>,
    task: Option<task::Id>,
}

impl Waiting {
    /// To be called by the task that answers the handshake.
    pub(super) fn new(answer: Arc<Answer>) -> Self {
        let task = task::try_id();
        if let Some(task) = task {
            tasks().entry(task).or_default().push(answer.clone());
            COUNT.fetch_add(1, Ordering::Relaxed);
        }
        Self { answer, task }
    }

    pub(super) fn answer(&self) -> &Answer {
        &self.answer
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(task) = self.task {
            let mut tasks = tasks();
            if let Some(waiting) = tasks.get_mut(&task) {
                waiting.retain(|answer| !Arc::ptr_eq(answer, &self.answer));
                if waiting.is_empty() {
                    tasks.remove(&task);
                }
            }
            drop(tasks);
            COUNT.fetch_sub(1, Ordering::Relaxed);
        }
        self.answer.give_up();
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}
