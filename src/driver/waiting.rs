//! [`Waiting`]: the upgrades that wait for a socket, by the task that serves their connection.
//!
//! All requests of an HTTP/1.1 connection are served by one task. One that comes while an upgrade
//! of the same task still waits proves that the connection speaks HTTP, so the client was not
//! sent a 101.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use tokio::task;

use super::evidence::Answer;

/// How many upgrades wait, so that requests look further only when there are any.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// As many as upgrades that wait: each leaves with its [`Waiting`], whose deadline is the upgrade
/// timeout.
static WAITING: LazyLock<Mutex<Tasks>> = LazyLock::new(Mutex::default);

type Tasks = HashMap<task::Id, Upgrades, BuildHasherDefault<ById>>;

/// The upgrades of a task. It has more than one only while its connection is refused again and
/// again.
struct Upgrades {
    one: Arc<Answer>,
    others: Vec<Arc<Answer>>,
}

/// tokio counts the ids up, so that nobody can choose them to collide.
#[derive(Default)]
struct ById(u64);

impl Hasher for ById {
    fn write_u64(&mut self, id: u64) {
        // To every bit, as Knuth has it: 2^64 by the golden ratio.
        self.0 = (self.0 ^ id).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

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
    let waiting = tasks().get(&task).map(Upgrades::all);
    for answer in waiting.unwrap_or_default() {
        answer.later_request();
    }
}

impl Upgrades {
    fn of(one: Arc<Answer>) -> Self {
        Self {
            one,
            others: Vec::new(),
        }
    }

    fn all(&self) -> Vec<Arc<Answer>> {
        let others = self.others.iter();
        others.chain([&self.one]).cloned().collect()
    }

    /// Whether there is no other than `gone`. If there is, `gone` is taken out.
    fn is_last(&mut self, gone: &Arc<Answer>) -> bool {
        if !Arc::ptr_eq(&self.one, gone) {
            self.others.retain(|other| !Arc::ptr_eq(other, gone));
            return false;
        }
        match self.others.pop() {
            Some(other) => self.one = other,
            None => return true,
        }
        false
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
            match tasks().entry(task) {
                Entry::Vacant(entry) => {
                    entry.insert(Upgrades::of(answer.clone()));
                }
                Entry::Occupied(mut entry) => entry.get_mut().others.push(answer.clone()),
            }
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
            if let Entry::Occupied(mut entry) = tasks().entry(task) {
                if entry.get_mut().is_last(&self.answer) {
                    entry.remove();
                }
            }
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
