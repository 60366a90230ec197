//! [`contained`]: calls a function of the application while locks of a topic are held.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::logging::{Throttle, escaped};

thread_local! {
    /// A function of the application runs, and this thread holds locks.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// What `call` returns; `None`, and a line in the log, if it panics.
pub(super) fn contained<T>(name: &'static str, call: impl FnOnce() -> T) -> Option<T> {
    let before = INSIDE.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    INSIDE.set(before);
    result.map_err(|payload| panicked(name, payload)).ok()
}

#[cold]
fn panicked(name: &str, payload: Box<dyn Any + Send>) {
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = escaped(message.unwrap_or("(no message)")).to_string();
    // Ten in 10 s stand out, as for callbacks.
    static LINES: Throttle = Throttle::with_burst(10);
    if let Some(missed) = LINES.pass() {
        tracing::error!(
            missed,
            "the function `{name}` of a topic panicked: {message}"
        );
    } else {
        tracing::debug!("the function `{name}` of a topic panicked: {message}");
    }
    // Its destructor is the application's, and may panic again.
    std::mem::forget(payload);
}

/// Panics in a function that [`contained`] runs, where going on would be a deadlock. The panic is
/// contained there.
pub(super) fn assert_outside() {
    assert!(
        !INSIDE.get(),
        "a function given to `Topics` or `Subscribe` must not use topics itself"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t10_a_panic_is_contained_whatever_it_panics_with() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("again");
            }
        }
        assert_eq!(contained("key", || 7), Some(7));
        assert_eq!(contained("key", || -> u8 { panic!("a {}", "b") }), None);
        let bomb = contained("key", || -> u8 { std::panic::panic_any(Bomb) });
        assert_eq!(bomb, None);
        assert_outside();
    }

    #[test]
    fn t10_a_function_that_uses_topics_panics_in_place_of_a_deadlock() {
        assert_eq!(contained("stamp", assert_outside), None);
        let nested = contained("stamp", || {
            contained("key", || ());
            assert_outside();
        });
        assert_eq!(nested, None);
        assert_outside();
    }
}
