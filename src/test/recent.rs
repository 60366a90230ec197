//! [`Recent`]: the last that came, for whoever reads why a test failed.

use std::collections::VecDeque;
use std::fmt::Display;

/// See the module docs.
#[derive(Debug)]
pub(super) struct Recent<T>(VecDeque<T>);

/// As many as a reader looks at.
const MOST: usize = 8;

impl<T: Display> Recent<T> {
    pub(super) fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(super) fn push(&mut self, came: T) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(came);
    }

    /// Ends the test.
    #[track_caller]
    pub(super) fn fail(&self, expected: &str, got: &str) -> ! {
        if self.0.is_empty() {
            panic!("expected {expected}, got {got}; nothing came before");
        }
        let recent: Vec<String> = self.0.iter().map(T::to_string).collect();
        let recent = recent.join(", ");
        panic!("expected {expected}, got {got}; the last that came: {recent}");
    }
}
