//! The upgrade that a handshake was promised and that has not arrived yet: what decides whether
//! it may open a connection.
//!
//! hyper fulfils [`OnUpgrade`] when an HTTP/1.1 connection ends, whatever status was sent, so the
//! socket alone does not prove that the client got a 101. A [guard](crate::UpgradeGuardLayer)
//! around the whole stack sees the final status and decides. Without one, [`Confirmation`] observes
//! what happens to the body of our response, and [`later_request`](super::later_request) whether
//! HTTP goes on.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::oneshot;

use super::clock::within;
use super::evidence::{Answer, Confirmation, Ours, Refuted};
use super::io::UpgradedIo;
use super::upgrade::{Lost, Source};
use super::waiting::Waiting;
use crate::logging::{Throttle, escaped};

/// An upgraded connection that the server is about to hand over.
#[derive(Debug)]
pub(crate) struct Pending {
    decided_by: DecidedBy,
}

#[derive(Debug)]
enum DecidedBy {
    /// The server: over HTTP/2 hyper hands the stream over only after a status of success, and
    /// whoever has a stream of its own after whatever it sent.
    Server { upgrade: Source, http1: bool },
    /// A guard around the stack, which saw the final response.
    Guard {
        upgrade: Source,
        verdict: oneshot::Receiver<bool>,
        http1: bool,
    },
    /// What can be observed from inside, over HTTP/1.1.
    Evidence(Waiting),
}

/// An open socket.
pub(crate) struct Socket {
    pub(crate) io: UpgradedIo,
    pub(crate) look: Look,
}

/// What was found when a socket was read to see that its client is still there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Look {
    /// It was not looked at.
    None,
    Nothing,
    Byte(u8),
}

impl Pending {
    /// By hyper over HTTP/1.1 and without a guard. `close`: the handshake says `Connection: close`.
    pub(crate) fn http1(upgrade: OnUpgrade, close: bool, head: &Ours) -> (Self, Confirmation) {
        let answer = Arc::new(Answer::new(upgrade, close));
        let confirm = Confirmation::new(answer.clone(), head);
        let pending = Self {
            decided_by: DecidedBy::Evidence(Waiting::new(answer)),
        };
        (pending, confirm)
    }

    /// Without a guard, where the server hands over nothing that it must not: over HTTP/2, and a
    /// stream of its own.
    pub(crate) fn of_server(upgrade: Source, http1: bool) -> Self {
        Self {
            decided_by: DecidedBy::Server { upgrade, http1 },
        }
    }

    /// Opens only if the guard says `true`, whatever HTTP version.
    pub(crate) fn guarded(upgrade: Source, verdict: oneshot::Receiver<bool>, http1: bool) -> Self {
        Self {
            decided_by: DecidedBy::Guard {
                upgrade,
                verdict,
                http1,
            },
        }
    }

    /// Waits for the socket, at most for `deadline`. `None`, and a line in the log, if it
    /// does not come.
    pub(crate) async fn open(self, deadline: Duration) -> Option<Socket> {
        match within(deadline, pin!(self.wait())).await {
            Ok(Ok(opened)) => Some(opened),
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
                         the response to its WebSocket handshake; nothing was opened: another \
                         layer may have replaced the response"
                    );
                }
                None
            }
        }
    }

    async fn wait(self) -> Result<Socket, Failure> {
        let (upgrade, http1) = match self.decided_by {
            DecidedBy::Server { upgrade, http1 } => (upgrade, http1),
            DecidedBy::Guard {
                upgrade,
                verdict,
                http1,
            } => match verdict.await {
                Ok(true) => (upgrade, http1),
                Ok(false) => return Err(Failure::Changed),
                Err(_) => return Err(Failure::Unanswered),
            },
            DecidedBy::Evidence(waiting) => {
                let upgraded = poll_fn(|cx| waiting.answer().poll(cx)).await?;
                let upgraded = upgraded.map_err(|error| Failure::Lost { error, http1: true })?;
                return look(UpgradedIo::hyper(upgraded)).await;
            }
        };
        match upgrade.open().await {
            Ok(io) => Ok(Socket {
                io,
                look: Look::None,
            }),
            Err(Lost::Hyper(error)) => Err(Failure::Lost { error, http1 }),
            Err(Lost::Own(error)) => Err(Failure::Withheld(error)),
        }
    }
}

/// Looks at the socket once. One that is at its end has no client that waits for a WebSocket: HTTP
/// may have ended because the client did, after a response that was not ours.
async fn look(mut io: UpgradedIo) -> Result<Socket, Failure> {
    let mut byte = [0];
    let look = poll_fn(|cx| {
        let mut buffer = ReadBuf::new(&mut byte);
        Poll::Ready(match Pin::new(&mut io).poll_read(cx, &mut buffer) {
            Poll::Pending => Ok(Look::Nothing),
            Poll::Ready(Ok(())) => match buffer.filled() {
                [] => Err(Failure::Left),
                [first, ..] => Ok(Look::Byte(*first)),
            },
            Poll::Ready(Err(error)) => Err(Failure::Broken(error)),
        })
    })
    .await?;
    Ok(Socket { io, look })
}

/// Why there will be no socket.
#[derive(Debug)]
enum Failure {
    /// The final response was not ours.
    Changed,
    /// The guard's future ended without a response.
    Unanswered,
    /// Another request came on the same connection.
    Later,
    /// The connection ends with this response, and nothing tells what it was.
    Unknown,
    /// The client had ended its side.
    Left,
    Broken(io::Error),
    /// Whoever owns the stream does not hand it over.
    Withheld(io::Error),
    Lost {
        error: hyper::Error,
        http1: bool,
    },
}

impl From<Refuted> for Failure {
    fn from(refuted: Refuted) -> Self {
        match refuted {
            Refuted::Changed => Self::Changed,
            Refuted::Unknown => Self::Unknown,
            Refuted::Later => Self::Later,
        }
    }
}

impl Failure {
    fn log(&self) {
        static CHANGED: Throttle = Throttle::new();
        static LATER: Throttle = Throttle::new();
        static UNKNOWN: Throttle = Throttle::new();
        static LOST: Throttle = Throttle::new();
        match self {
            Self::Changed => {
                if let Some(missed) = CHANGED.pass() {
                    tracing::warn!(
                        missed,
                        "another layer changed or replaced the response to a WebSocket \
                         handshake; nothing was opened"
                    );
                }
            }
            Self::Later => {
                if let Some(missed) = LATER.pass() {
                    tracing::warn!(
                        missed,
                        "another request followed a WebSocket handshake on its connection, so \
                         another layer changed or replaced the response; nothing was opened. If \
                         the client did get a 101, put `.layer(UpgradeGuardLayer::new())` \
                         outermost: last on axum's Router, first in a ServiceBuilder"
                    );
                }
            }
            Self::Unknown => {
                if let Some(missed) = UNKNOWN.pass() {
                    tracing::warn!(
                        missed,
                        "a WebSocket handshake with `Connection: close` was not opened: another \
                         layer wraps or reads response bodies, or replaced the response, so that \
                         nothing tells whether the client got a 101. Put \
                         `.layer(UpgradeGuardLayer::new())` outermost: last on axum's Router, \
                         first in a ServiceBuilder"
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
            Self::Broken(error) => tracing::debug!(
                error = %escaped(error),
                "the client left before its WebSocket was open"
            ),
            Self::Withheld(error) => tracing::debug!(
                error = %escaped(error),
                "the server did not hand over the stream of a WebSocket; nothing was opened"
            ),
            Self::Left => tracing::debug!("the client left before its WebSocket was open"),
            Self::Unanswered => tracing::debug!("a WebSocket handshake got no response"),
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
mod tests;
