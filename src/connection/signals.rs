//! [`Signals`]: how the driver of a connection is woken, and by what.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::task::Waker;

use crate::sync::AtomicU32;

/// Something was queued.
pub(crate) const OUTPUT: u32 = 1;
/// Something else is asked for: see [`Requests`](super::outbox::Requests).
pub(crate) const ASKED: u32 = 1 << 1;
/// The deadline of a shutdown has passed.
pub(crate) const ABORT: u32 = 1 << 2;
/// The application took what was read ahead.
pub(crate) const ROOM: u32 = 1 << 3;
/// There is an event for the application.
pub(crate) const EVENT: u32 = 1 << 4;

const ALL: u32 = OUTPUT | ASKED | ABORT | ROOM | EVENT;
/// [`ABORT`] was given. Unlike the signal this is never taken.
const ABORTED: u32 = 1 << 30;
/// The driver sleeps: whoever signals must wake it.
const PARKED: u32 = 1 << 31;

thread_local! {
    static WOKEN: Cell<u32> = const { Cell::new(0) };
}

/// How many drivers this thread has woken, ever. The number wraps. [`Turn`](crate::driver) has a use for it.
#[inline]
pub(crate) fn woken_here() -> u32 {
    WOKEN.get()
}

/// See the module docs.
///
/// One word, so that a signal is one atomic operation, and none is lost between the driver's last
/// look and its sleep.
#[derive(Debug)]
pub(crate) struct Signals {
    word: AtomicU32,
    driver: OnceLock<Waker>,
}

impl Signals {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            driver: OnceLock::new(),
        }
    }

    /// The task to wake. The first one stays: a connection lives in one task.
    pub(crate) fn set_driver(&self, waker: &Waker) {
        self.driver.get_or_init(|| waker.clone());
    }

    /// Gives a signal, and wakes the driver if it sleeps and this one is new.
    #[inline]
    pub(crate) fn give(&self, signal: u32) {
        if self.set(signal) {
            self.wake();
        }
    }

    /// Gives a signal. `true`: the driver has to be [woken](Self::wake), which the caller may do a
    /// little later.
    #[inline]
    #[must_use]
    pub(crate) fn set(&self, signal: u32) -> bool {
        let lasting = if signal & ABORT == 0 { 0 } else { ABORTED };
        let before = self.word.fetch_or(signal | lasting, Ordering::AcqRel);
        before & PARKED != 0 && before & signal != signal
    }

    #[inline]
    pub(crate) fn wake(&self) {
        if let Some(driver) = self.driver.get() {
            driver.wake_by_ref();
            WOKEN.set(WOKEN.get().wrapping_add(1));
        }
    }

    /// Takes the signals that were given since the last time. Whoever takes them is awake.
    #[inline]
    pub(crate) fn take(&self) -> u32 {
        if self.word.load(Ordering::Acquire) & !ABORTED == 0 {
            return 0;
        }
        self.word.fetch_and(ABORTED, Ordering::AcqRel) & ALL
    }

    /// Whether [`ABORT`] was ever given, taken or not.
    pub(crate) fn is_aborted(&self) -> bool {
        self.word.load(Ordering::Acquire) & ABORTED != 0
    }

    /// Whether the driver may sleep: no signal is there, and the next one will wake it.
    #[inline]
    pub(crate) fn park(&self) -> bool {
        self.park_unless(ALL)
    }

    /// The same for whoever heeds only some signals. The others stay for the driver.
    #[inline]
    pub(crate) fn park_unless(&self, heeded: u32) -> bool {
        let park = |word: u32| (word & heeded == 0).then_some(word | PARKED);
        self.word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, park)
            .is_ok()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn signals() -> (Signals, Arc<Count>) {
        let (signals, count) = (Signals::new(), Arc::<Count>::default());
        signals.set_driver(&count.clone().into());
        (signals, count)
    }

    fn woken(count: &Count) -> usize {
        count.0.swap(0, Ordering::Relaxed)
    }

    #[test]
    fn a_sleeping_driver_is_woken_once_by_each_signal() {
        let (signals, count) = signals();
        assert!(signals.park());
        signals.give(OUTPUT);
        signals.give(OUTPUT);
        assert_eq!(woken(&count), 1);
        signals.give(ASKED);
        assert_eq!(woken(&count), 1);
        assert_eq!(signals.take(), OUTPUT | ASKED);
        assert_eq!(signals.take(), 0);
    }

    #[test]
    fn a_driver_that_is_awake_is_not_woken_and_may_not_sleep_over_a_signal() {
        let (signals, count) = signals();
        signals.give(OUTPUT);
        assert_eq!(woken(&count), 0);
        assert!(!signals.park());
        assert_eq!(signals.take(), OUTPUT);
        assert!(signals.park());
        // It was woken by something else.
        assert_eq!(signals.take(), 0);
        signals.give(ROOM);
        assert_eq!(woken(&count), 0);
    }

    #[test]
    fn a14_an_abort_is_taken_once_and_remembered_for_ever() {
        let (signals, count) = signals();
        assert!(!signals.is_aborted() && signals.park());
        signals.give(ABORT);
        assert_eq!(woken(&count), 1);
        assert_eq!(signals.take(), ABORT);
        assert!(signals.is_aborted() && signals.park());
        signals.give(ABORT);
        assert_eq!(woken(&count), 1);
    }

    /// Before a connection is open, only its abort is heeded.
    #[test]
    fn a11_what_is_asked_before_the_driver_is_there_stays_for_it() {
        let (signals, count) = signals();
        signals.give(ASKED);
        assert!(signals.park_unless(ABORT));
        signals.give(OUTPUT);
        assert!(signals.park_unless(ABORT));
        woken(&count);
        signals.give(ABORT);
        assert_eq!(woken(&count), 1);
        assert!(!signals.park_unless(ABORT));
        assert_eq!(signals.take(), ASKED | OUTPUT | ABORT);
    }

    #[test]
    fn the_first_driver_stays() {
        let (signals, count) = signals();
        let other = Arc::<Count>::default();
        signals.set_driver(&other.clone().into());
        assert!(signals.park());
        signals.give(OUTPUT);
        assert_eq!((woken(&count), woken(&other)), (1, 0));
    }
}
