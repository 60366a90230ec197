//! [`until`]: waits for what somebody else brings about.

use std::pin::pin;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Waits until `is_done`, at most until the deadline; `changed` tells when that may be. Whether it came to it.
pub(super) async fn until(
    changed: &Notify,
    deadline: Instant,
    mut is_done: impl FnMut() -> bool,
) -> bool {
    loop {
        let mut changed = pin!(changed.notified());
        // Ahead of the look, or a change between the two would be missed.
        changed.as_mut().enable();
        if is_done() {
            return true;
        }
        if timeout_at(deadline, changed).await.is_err() {
            return false;
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_looks_at_first_and_behind_each_change_and_gives_up_at_the_deadline() {
        let (changed, looks) = (&Notify::new(), &Cell::new(0));
        let deadline = Instant::now() + Duration::from_secs(1);
        let done_at = |last: u32| {
            let look = move || {
                looks.set(looks.get() + 1);
                looks.get() == last
            };
            until(changed, deadline, look)
        };
        assert!(done_at(1).await);
        let change = async {
            tokio::task::yield_now().await;
            changed.notify_waiters();
        };
        assert!(tokio::join!(done_at(3), change).0);
        assert!(Instant::now() < deadline);
        assert!(!done_at(5).await);
        assert_eq!((looks.get(), Instant::now()), (4, deadline));
    }
}
