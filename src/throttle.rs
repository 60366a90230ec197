//! [`Throttle`]: a line of the log that strangers can cause, now and then in place of every time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One line in 10 s: whoever looks sees that it goes on, and a year of it fits on a disk.
const EVERY: Duration = Duration::from_secs(10);

/// Stands as a `static` beside the line that it belongs to.
pub(crate) struct Throttle {
    state: Mutex<State>,
}

struct State {
    next: Option<Instant>,
    missed: u64,
}

impl Throttle {
    pub(crate) const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                next: None,
                missed: 0,
            }),
        }
    }

    /// Whether to write the line now; how many have not been written since the last one.
    pub(crate) fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.next.is_some_and(|next| now < next) {
            state.missed += 1;
            return None;
        }
        state.next = Some(now + EVERY);
        Some(std::mem::take(&mut state.missed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r12_one_line_in_ten_seconds_is_written_and_the_others_are_counted() {
        let (throttle, begin) = (Throttle::new(), Instant::now());
        assert_eq!(throttle.pass_at(begin), Some(0));
        for i in 0..99 {
            assert_eq!(throttle.pass_at(begin + EVERY / 100 * i), None);
        }
        assert_eq!(throttle.pass_at(begin + EVERY), Some(99));
        assert_eq!(throttle.pass_at(begin + EVERY * 2), Some(0));
    }
}
