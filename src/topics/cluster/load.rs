//! [`Load`]: how much waits to be appended.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::outbox::Limits;
use super::until::until;

/// What waits to be appended, in all topics: no more than in the outbox.
#[derive(Debug, Default)]
pub(crate) struct Load {
    messages: AtomicUsize,
    bytes: AtomicUsize,
    /// Nothing waits any more.
    idle: Notify,
}

impl Load {
    pub(super) fn add(&self, bytes: usize, limits: Limits) -> bool {
        let messages = self.messages.fetch_add(1, Ordering::Relaxed);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = messages < limits.messages && before + bytes <= limits.bytes;
        if !fits {
            self.remove(bytes);
        }
        fits
    }

    pub(super) fn remove(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if self.messages.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.idle.notify_waiters();
        }
    }

    /// Waits until nothing waits. `false`: it still does at the deadline.
    pub(super) async fn wait_until_idle(&self, deadline: Instant) -> bool {
        let is_idle = || self.messages.load(Ordering::Relaxed) == 0;
        until(&self.idle, deadline, is_idle).await
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    const LIMITS: Limits = Limits {
        messages: 3,
        bytes: 100,
    };

    #[test]
    fn what_waits_is_bounded_by_number_and_by_size() {
        let load = Load::default();
        assert!((0..3).all(|_| load.add(1, LIMITS)) && !load.add(1, LIMITS));
        load.remove(1);
        assert!(!load.add(99, LIMITS) && load.add(98, LIMITS) && !load.add(1, LIMITS));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_until_nothing_waits_is_told_or_gives_up() {
        let load = Arc::new(Load::default());
        let deadline = Instant::now() + Duration::from_secs(1);
        assert!(load.wait_until_idle(deadline).await);
        assert!(load.add(10, LIMITS) && load.add(10, LIMITS));
        let waiting = tokio::spawn({
            let load = load.clone();
            async move { load.wait_until_idle(deadline).await }
        });
        tokio::task::yield_now().await;
        load.remove(10);
        assert!(!waiting.is_finished());
        load.remove(10);
        assert!(waiting.await.unwrap() && Instant::now() < deadline);
        load.add(10, LIMITS);
        assert!(!load.wait_until_idle(deadline).await);
    }
}
