//! The upgrade that was promised by a 101 and is not here yet.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use crate::logging::{Throttle, escaped};

/// An upgraded connection that the server is about to hand over.
#[derive(Debug)]
pub(crate) struct Pending {
    upgrade: OnUpgrade,
    /// Over HTTP/1.1, what became of our 101.
    confirmed: Option<oneshot::Receiver<bool>>,
}

/// Rides in the body of a 101 and finds out what becomes of it.
///
/// hyper fulfils [`OnUpgrade`] when an HTTP/1.1 connection ends, whatever status was sent. So
/// an outer middleware that turns our 101 into a 403 would leave a handler running on a socket
/// that was refused. But hyper treats the body of a genuine 101 like no other: it asks
/// `is_end_stream` and drops the body without polling it. A body whose status was changed is
/// polled, a body whose response was replaced is dropped unasked.
pub(crate) struct Confirm {
    asked: AtomicBool,
    verdict: Option<oneshot::Sender<bool>>,
}

impl Pending {
    /// Over HTTP/1.1: opens only when the 101 is known to have been sent.
    pub(crate) fn http1(upgrade: OnUpgrade) -> (Self, Confirm) {
        let (verdict, confirmed) = oneshot::channel();
        let pending = Self {
            upgrade,
            confirmed: Some(confirmed),
        };
        let confirm = Confirm {
            asked: AtomicBool::new(false),
            verdict: Some(verdict),
        };
        (pending, confirm)
    }

    /// Over HTTP/2, hyper hands the stream over only after a status of success.
    pub(crate) fn http2(upgrade: OnUpgrade) -> Self {
        Self {
            upgrade,
            confirmed: None,
        }
    }

    /// Waits for the socket, at most for `deadline`. `None`, and a line in the log, if it
    /// does not come.
    pub(crate) async fn open(self, deadline: Duration) -> Option<TokioIo<Upgraded>> {
        match tokio::time::timeout(deadline, self.wait()).await {
            Ok(Ok(upgraded)) => Some(TokioIo::new(upgraded)),
            Ok(Err(why)) => {
                why.log();
                None
            }
            Err(_) => {
                static LINES: Throttle = Throttle::new();
                if let Some(missed) = LINES.pass() {
                    tracing::warn!(
                        missed,
                        "the server did not hand over the connection within {deadline:?} after \
                         the response to its WebSocket handshake; nothing was opened"
                    );
                }
                None
            }
        }
    }

    async fn wait(self) -> Result<Upgraded, Failure> {
        let http1 = self.confirmed.is_some();
        if let Some(confirmed) = self.confirmed {
            if !confirmed.await.unwrap_or(false) {
                return Err(Failure::Changed);
            }
        }
        self.upgrade
            .await
            .map_err(|error| Failure::Lost { error, http1 })
    }
}

impl Confirm {
    /// The server asked `is_end_stream`.
    pub(crate) fn asked(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// The server polled the body.
    pub(crate) fn polled(&mut self) {
        self.decide(false);
    }

    fn decide(&mut self, verdict: bool) {
        if let Some(sender) = self.verdict.take() {
            // Nobody waits if the connection was given up.
            let _ = sender.send(verdict);
        }
    }
}

impl Drop for Confirm {
    fn drop(&mut self) {
        let asked = *self.asked.get_mut();
        self.decide(asked);
    }
}

impl fmt::Debug for Confirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirm").finish_non_exhaustive()
    }
}

/// Why there will be no socket.
enum Failure {
    Changed,
    Lost { error: hyper::Error, http1: bool },
}

impl Failure {
    fn log(&self) {
        static CHANGED: Throttle = Throttle::new();
        static LOST: Throttle = Throttle::new();
        match self {
            Self::Changed => {
                if let Some(missed) = CHANGED.pass() {
                    tracing::warn!(
                        missed,
                        "another layer changed or replaced the response to a WebSocket \
                         handshake, or the client left before it; nothing was opened"
                    );
                }
            }
            // What hyper says when a connection ends whose upgrade nobody took.
            Self::Lost { error, http1: true } if !error.is_canceled() => {
                if let Some(missed) = LOST.pass() {
                    tracing::error!(
                        missed,
                        error = %escaped(error),
                        "the HTTP server does not hand over upgraded connections: call \
                         `.with_upgrades()` on hyper's http1 connection, or \
                         `serve_connection_with_upgrades` of hyper-util's auto builder"
                    );
                }
            }
            Self::Lost { error, http1: true } => tracing::debug!(
                error = %escaped(error),
                "the client left before its WebSocket was open"
            ),
            Self::Lost {
                error,
                http1: false,
            } => tracing::debug!(
                error = %escaped(error),
                "the response to a WebSocket handshake over HTTP/2 was changed or the stream \
                 reset; nothing was opened"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(what: impl FnOnce(&mut Confirm)) -> bool {
        let (verdict, mut confirmed) = oneshot::channel();
        let mut confirm = Confirm {
            asked: AtomicBool::new(false),
            verdict: Some(verdict),
        };
        what(&mut confirm);
        drop(confirm);
        confirmed.try_recv().unwrap()
    }

    #[test]
    fn x1_only_a_body_that_was_asked_and_never_polled_confirms_a_101() {
        assert!(verdict(|body| body.asked()));
        assert!(!verdict(|_| {}));
        assert!(!verdict(|body| {
            body.asked();
            body.polled();
        }));
        assert!(!verdict(Confirm::polled));
    }
}
