//! [`Tasks`]: whether the tasks of a node run, and in which runtime.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;

/// See the module docs. They run from the first use of a node in a runtime on.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    running: AtomicBool,
    runtime: OnceLock<Handle>,
}

impl Tasks {
    pub(super) fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    /// Whether nobody else has begun.
    pub(super) fn begin(&self, runtime: &Handle) -> bool {
        let is_first = !self.running.swap(true, Ordering::AcqRel);
        if is_first {
            let _ = self.runtime.set(runtime.clone());
        }
        is_first
    }

    /// They end with their runtime. Whoever comes next begins anew.
    pub(super) fn end(&self) {
        self.running.store(false, Ordering::Release);
    }

    /// Where tasks are spawned, also by who is in no runtime.
    pub(super) fn runtime(&self) -> Option<Handle> {
        let current = Handle::try_current().ok();
        current.or_else(|| self.runtime.get().cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_run_once_until_they_end_and_others_learn_where() {
        let runtime = || tokio::runtime::Builder::new_current_thread().build();
        let (first, second) = (runtime().unwrap(), runtime().unwrap());
        let tasks = Tasks::default();
        assert!(!tasks.is_running() && tasks.runtime().is_none());
        assert!(tasks.begin(first.handle()) && tasks.is_running());
        assert!(!tasks.begin(second.handle()));
        // Whoever is in a runtime spawns there, everybody else where the tasks run.
        assert_eq!(tasks.runtime().unwrap().id(), first.handle().id());
        let inside = second.block_on(async { tasks.runtime().unwrap().id() });
        assert_eq!(inside, second.handle().id());
        tasks.end();
        assert!(!tasks.is_running() && tasks.begin(second.handle()));
    }
}
