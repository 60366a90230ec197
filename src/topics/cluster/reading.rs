//! [`Reading`]: whether a topic's log is read, waits for that, or is to be read once more.

/// See the module docs. There is one read of a topic at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reading {
    #[default]
    No,
    Queued,
    Now,
    /// And once more behind that: it may have begun too early to find what there is.
    Again,
}

impl Reading {
    /// The log is to be read. Whether the topic is to be put into the queue of those that are.
    pub(super) fn ask(&mut self) -> bool {
        self.repeat();
        let is_new = *self == Self::No;
        if is_new {
            *self = Self::Queued;
        }
        is_new
    }

    /// If it is read now, once more.
    pub(super) fn repeat(&mut self) {
        if *self == Self::Now {
            *self = Self::Again;
        }
    }

    /// The topic's turn has come. Whether it is read, which is so if somebody needs it.
    pub(super) fn begin(&mut self, is_needed: bool) -> bool {
        *self = if is_needed { Self::Now } else { Self::No };
        is_needed
    }

    /// Whether the read that runs has begun behind all that was asked for.
    pub(super) fn is_fresh(self) -> bool {
        self == Self::Now
    }

    /// It has ended. Whether it is to be asked for again.
    pub(super) fn end(&mut self, is_needed: bool, succeeded: bool) -> bool {
        let before = std::mem::take(self);
        is_needed && (before == Self::Again || !succeeded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_waits_once_and_is_read_again_if_that_was_asked_for_meanwhile() {
        let mut reading = Reading::default();
        assert!(reading.ask() && !reading.ask());
        // It has not begun, so it finds everything.
        reading.repeat();
        assert!(reading.begin(true) && reading.is_fresh());
        assert!(!reading.end(true, true));
        assert_eq!(reading, Reading::No);

        assert!(reading.ask() && reading.begin(true));
        assert!(!reading.ask() && !reading.ask() && !reading.is_fresh());
        assert!(reading.end(true, true));
        assert!(reading.ask());
    }

    #[test]
    fn a_read_that_fails_is_tried_again_and_what_nobody_needs_is_not_read() {
        let mut reading = Reading::default();
        assert!(reading.ask() && reading.begin(true));
        assert!(reading.end(true, false));
        assert!(reading.ask() && reading.begin(true) && !reading.ask());
        assert!(!reading.end(false, false));
        assert!(reading.ask() && !reading.begin(false));
        assert!(reading.ask());
        // Nothing is read, so nothing is read once more.
        let mut idle = Reading::default();
        idle.repeat();
        assert_eq!(idle, Reading::No);
    }
}
