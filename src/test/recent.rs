//! [`Recent`]: the last that came, for whoever reads why a test failed.

use std::collections::VecDeque;

/// See the module docs.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<String>);

/// As many as a reader looks at.
const MOST: usize = 8;

impl Recent {
    pub(super) fn push(&mut self, came: String) {
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
        let recent: Vec<&str> = self.0.iter().map(String::as_str).collect();
        let recent = recent.join(", ");
        panic!("expected {expected}, got {got}; the last that came: {recent}");
    }
}
