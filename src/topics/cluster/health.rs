//! [`Health`]: whether the log takes what is appended. It knows no clock: time is an argument.

/// See the module docs.
#[derive(Debug)]
pub(super) struct Health<T> {
    fault: Option<Fault<T>>,
}

/// That it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault<T> {
    /// Since the first trial that failed.
    pub(super) since: T,
    /// Why the last one did.
    pub(super) reason: String,
}

impl<T: Copy> Health<T> {
    pub(super) fn new() -> Self {
        Self { fault: None }
    }

    /// A trial has failed. Whether the one before had not.
    pub(super) fn fail(&mut self, reason: String, now: T) -> bool {
        let since = self.fault.as_ref().map(|fault| fault.since);
        self.fault = Some(Fault {
            since: since.unwrap_or(now),
            reason,
        });
        since.is_none()
    }

    /// A trial has succeeded. Whether the one before had not.
    pub(super) fn succeed(&mut self) -> bool {
        self.fault.take().is_some()
    }

    pub(super) fn fault(&self) -> Option<&Fault<T>> {
        self.fault.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_begins_with_the_first_trial_that_fails_and_has_the_reason_of_the_last() {
        let mut health = Health::new();
        assert!(!health.succeed() && health.fault().is_none());
        assert!(health.fail("no right".to_owned(), 1));
        assert!(!health.fail("no memory".to_owned(), 2));
        let fault = Fault {
            since: 1,
            reason: "no memory".to_owned(),
        };
        assert_eq!(health.fault(), Some(&fault));
        assert!(health.succeed() && health.fault().is_none());
        assert!(health.fail("again".to_owned(), 3));
        assert_eq!(health.fault().unwrap().since, 3);
    }
}
