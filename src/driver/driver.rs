//! [`drive`]: one connection from `on_open` to `on_close`.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};

use super::wire::{Beside, Wire};
use crate::connection::{CloseEvent, Connection};
use crate::error::{Error, Kind, SendError, TrySendError};
use crate::handler::{Result, WebSocketHandler};
use crate::logging::{escaped, field};
use crate::message::{CloseCode, CloseFrame};

/// Runs a connection whose 101 has been sent, until nothing of it is left.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` keeps room for its arguments twice"
)]
pub(crate) fn drive<H, IO>(mut handler: H, mut wire: Wire<IO>) -> impl Future<Output = ()> + Send
where
    H: WebSocketHandler,
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    async move {
        let mut conn = wire.connection();
        poll_fn(|cx| {
            wire.set_driver(cx.waker());
            Poll::Ready(())
        })
        .await;
        tracing::debug!("open");

        let mut called = call(&mut wire, "on_open", async {
            handler.on_open(&mut conn).await
        })
        .await;
        while called.is_ok() {
            let Some(message) = poll_fn(|cx| wire.poll_next(cx)).await else {
                break;
            };
            wire.be_patient();
            called = call(&mut wire, "on_message", async {
                handler.on_message(&mut conn, message).await
            })
            .await;
        }

        let ended = poll_fn(|cx| Poll::Ready(wire.is_over(cx))).await;
        if let Err(error) = called {
            // After the end, that nothing can be sent any more is no news.
            if ended && is_closed(&error) {
                contained(|| drop(error));
            } else {
                tell(&mut wire, &mut handler, &mut conn, error).await;
            }
            wire.close(CloseFrame::known(CloseCode::INTERNAL, "internal error"));
        } else {
            wire.finish();
        }
        if let Some(error) = wire.take_error() {
            tell(&mut wire, &mut handler, &mut conn, error).await;
        }

        poll_fn(|cx| wire.poll_end(cx, true)).await;
        let outcome = wire.outcome();
        tracing::debug!(
            code = outcome.code.as_u16(),
            reason = &*field(outcome.reason.as_str()),
            initiator = ?outcome.initiator,
            clean = outcome.clean,
            "closed"
        );
        wire.limit();
        let called = call(&mut wire, "on_close", async {
            handler.on_close(&mut conn, CloseEvent::new(outcome)).await
        })
        .await;
        if let Err(error) = called {
            log("on_close failed", &error);
            contained(|| drop(error));
        }
        poll_fn(|cx| wire.poll_end(cx, false)).await;
    }
}

/// Tells `on_error`, and the log.
async fn tell<H, IO>(wire: &mut Wire<IO>, handler: &mut H, conn: &mut Connection, error: Error)
where
    H: WebSocketHandler,
    IO: AsyncRead + AsyncWrite + Unpin,
{
    log("error", &error);
    wire.limit();
    let called = call(wire, "on_error", async {
        handler.on_error(conn, error).await
    })
    .await;
    if let Err(error) = called {
        log("on_error failed", &error);
        contained(|| drop(error));
    }
}

pin_project! {
    /// Runs a callback, and the connection beside it. All that can go wrong with a callback
    /// becomes an error here: it returns one, it panics, or it does not end after the
    /// connection has.
    ///
    /// Written by hand, since an `async fn` would keep room for the callback twice.
    struct Call<'a, IO, F> {
        wire: &'a mut Wire<IO>,
        name: &'static str,
        #[pin]
        callback: Option<F>,
    }
}

fn call<'a, IO, F>(wire: &'a mut Wire<IO>, name: &'static str, callback: F) -> Call<'a, IO, F> {
    Call {
        wire,
        name,
        callback: Some(callback),
    }
}

impl<IO, F> Future for Call<'_, IO, F>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Result>,
{
    type Output = std::result::Result<(), Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let callback = *this.name;
        let failure = loop {
            let Some(running) = this.callback.as_mut().as_pin_mut() else {
                return Poll::Ready(Ok(()));
            };
            // The callback first: most are ready at once, and then nothing else is looked at.
            match poll_caught(running, cx) {
                Poll::Ready(Ok(Ok(()))) => {
                    this.wire.returned();
                    contained(|| this.callback.set(None));
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(Err(error))) => break Kind::Application(error),
                Poll::Ready(Err(message)) => break Kind::Panic { callback, message },
                Poll::Pending => {}
            }
            match ready!(this.wire.poll_beside(cx)) {
                Beside::Again => {}
                Beside::Abandon => break Kind::Abandoned { callback },
                Beside::Late => break Kind::Late { callback },
            }
        };
        this.wire.returned();
        // What it holds is dropped here, where a second panic does no harm.
        contained(|| this.callback.set(None));
        Poll::Ready(Err(Error::new(failure)))
    }
}

/// Runs a part of the application that has no connection beside it. A panic is an error
/// that says what it said.
pub(crate) async fn caught<T>(future: impl Future<Output = T>) -> std::result::Result<T, String> {
    let mut future = pin!(future);
    poll_fn(|cx| poll_caught(future.as_mut(), cx)).await
}

fn poll_caught<T>(
    future: Pin<&mut impl Future<Output = T>>,
    cx: &mut Context<'_>,
) -> Poll<std::result::Result<T, String>> {
    match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(payload) => {
            let message = payload
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            let message = message.unwrap_or("(no message)").to_owned();
            contained(|| drop(payload));
            Poll::Ready(Err(message))
        }
    }
}

/// Runs what a value of the application does when it is shown or dropped. If that panics, so may
/// what it panicked with, which is forgotten.
fn contained(act: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(act)) {
        std::mem::forget(payload);
    }
}

/// Whether a callback failed only because its connection is closed.
fn is_closed(error: &Error) -> bool {
    let Some(source) = std::error::Error::source(error) else {
        return false;
    };
    source.is::<SendError>()
        || source
            .downcast_ref::<TrySendError>()
            .is_some_and(TrySendError::is_closed)
        || source
            .downcast_ref::<Error>()
            // What `recv` told it is told to `on_error` without it.
            .is_some_and(|e| !e.is_application() && !e.is_panic())
}

pub(super) fn log(what: &str, error: &Error) {
    contained(|| {
        // The application's errors, and a transport's, may quote the peer.
        let source = std::error::Error::source(error);
        let source = source.map(|source| tracing::field::display(escaped(source)));
        if error.is_application() || error.is_panic() {
            tracing::error!(source, "{what}: {error}");
        } else {
            tracing::debug!(source, "{what}: {error}");
        }
    });
}
