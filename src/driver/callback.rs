//! [`Call`]: runs a callback beside the I/O and turns panics, errors and missed deadlines into an
//! [`Error`].

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};

use super::driver::Driver;
use super::patience::Verdict;
use crate::error::{CallbackFailure, Error};
use crate::handler::Result;
use crate::logging::{Throttle, escaped};

pin_project! {
    /// Runs a callback, and the connection beside it. All that can go wrong with a callback
    /// becomes an error here: it returns one, it panics, or it does not end after the
    /// connection has.
    ///
    /// Written by hand, since an `async fn` would keep room for the callback twice.
    pub(super) struct Call<'a, IO, F> {
        driver: &'a mut Driver<IO>,
        name: Name,
        #[pin]
        callback: Callback<F>,
    }
}

/// A callback's name. It has one byte in every connection.
#[derive(Clone, Copy)]
pub(super) enum Name {
    Open,
    Message,
    Event,
    Error,
    Close,
}

impl Name {
    #[inline]
    fn as_str(self) -> &'static str {
        match self {
            Self::Open => "on_open",
            Self::Message => "on_message",
            Self::Event => "on_event",
            Self::Error => "on_error",
            Self::Close => "on_close",
        }
    }
}

pin_project! {
    #[project = CallbackProjection]
    enum Callback<F> {
        Running { #[pin] future: F },
        Panicked { message: String },
        Done,
    }
}

/// `callback` makes the future: an `async` block that calls the handler would hold the arguments twice.
/// A panic while it is made is contained as one while it runs.
#[inline]
pub(super) fn call<'a, IO, F>(
    driver: &'a mut Driver<IO>,
    name: Name,
    callback: impl FnOnce() -> F,
) -> Call<'a, IO, F> {
    let callback = match catch_unwind(AssertUnwindSafe(callback)) {
        Ok(future) => Callback::Running { future },
        Err(payload) => Callback::Panicked {
            message: message_of(payload),
        },
    };
    Call {
        driver,
        name,
        callback,
    }
}

impl<IO, F> Future for Call<'_, IO, F>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Result>,
{
    type Output = Result<(), Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let failure = loop {
            let running = match this.callback.as_mut().project() {
                CallbackProjection::Running { future } => future,
                CallbackProjection::Panicked { message } => {
                    break CallbackFailure::Panicked(std::mem::take(message));
                }
                CallbackProjection::Done => return Poll::Ready(Ok(())),
            };
            // The callback first: most are ready at once, and then nothing else is looked at.
            match poll_caught(running, cx) {
                Poll::Ready(Ok(Ok(()))) => {
                    this.driver.callback_ended(this.name.as_str());
                    contained(|| this.callback.set(Callback::Done));
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(Err(error))) => break CallbackFailure::Returned(error),
                Poll::Ready(Err(message)) => break CallbackFailure::Panicked(message),
                Poll::Pending => {}
            }
            match ready!(this.driver.poll_beside(cx)) {
                Ok(()) => {}
                Err(Verdict::Late) => break CallbackFailure::Late,
                Err(_) => break CallbackFailure::Abandoned,
            }
        };
        this.driver.callback_ended(this.name.as_str());
        // What it holds is dropped here, where a second panic does no harm.
        contained(|| this.callback.set(Callback::Done));
        Poll::Ready(Err(Error::of_callback(this.name.as_str(), failure)))
    }
}

/// Runs a part of the application that has no connection beside it. A panic becomes an error with
/// the panic's message.
pub(crate) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    poll_fn(|cx| poll_caught(future.as_mut(), cx)).await
}

fn poll_caught<T>(
    future: Pin<&mut impl Future<Output = T>>,
    cx: &mut Context<'_>,
) -> Poll<Result<T, String>> {
    match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(payload) => Poll::Ready(Err(message_of(payload))),
    }
}

/// What a panic says.
#[cold]
fn message_of(payload: Box<dyn Any + Send>) -> String {
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("(no message)").to_owned();
    contained(|| drop(payload));
    message
}

/// Runs what a value of the application does when it is shown or dropped. If that panics, so may
/// what it panicked with, which is forgotten.
pub(super) fn contained(act: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(act)) {
        std::mem::forget(payload);
    }
}

pub(super) fn log(what: &str, error: &Error) {
    contained(|| {
        // The application's errors, and a transport's, may quote the peer.
        let source = std::error::Error::source(error);
        let source = source.map(|source| tracing::field::display(escaped(source)));
        // Of the application's own failures ten in 10 s stand out: a stranger who finds out how to
        // cause one does not fill the disk. `on_error` has all of them.
        static LINES: Throttle = Throttle::with_burst(10);
        let own = error.is_application() || error.is_panic();
        if let Some(missed) = own.then(|| LINES.pass()).flatten() {
            tracing::error!(source, missed, "{what}: {error}");
        } else {
            tracing::debug!(source, "{what}: {error}");
        }
    });
}
