//! [`Socket`]: the stream to the server, with a bound on what is read of it at a time, and [`Meter`]:
//! how much that is, and why it ended.

use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::address::Io;
use super::replies::Replies;

/// What is read at a time, before what came is delivered: some hundred messages.
const PER_TURN: usize = 64 * 1024;

/// See the module docs.
pub(super) struct Socket {
    io: Box<dyn Io>,
    replies: Replies,
    meter: Arc<Meter>,
}

/// See the module docs.
#[derive(Debug, Default)]
pub(super) struct Meter {
    left: AtomicUsize,
    ending: Mutex<Option<String>>,
}

impl Meter {
    /// Runs a part of whatever reads the socket. It reads at most [`PER_TURN`] bytes in one turn, and has
    /// its task woken if there are more. Whoever hands on what came does so between two turns, and so it is
    /// the socket where it waits.
    pub(super) fn turn<F: Future + ?Sized>(
        &self,
        future: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<F::Output> {
        self.left.store(PER_TURN, Ordering::Relaxed);
        future.poll(cx)
    }

    /// Runs all of it.
    pub(super) async fn turns<F: Future>(&self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        poll_fn(|cx| self.turn(future.as_mut(), cx)).await
    }

    /// Why the stream ended, if it did.
    pub(super) fn ending(&self) -> Option<String> {
        let ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        ending.clone()
    }

    fn end(&self, why: &dyn Display) {
        let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        ending.get_or_insert_with(|| why.to_string());
    }
}

impl Socket {
    pub(super) fn new(io: Box<dyn Io>, meter: Arc<Meter>) -> Self {
        Self {
            io,
            replies: Replies::default(),
            meter,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.meter.left.load(Ordering::Relaxed);
        if left == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = to.filled().len();
        let result = ready!(Pin::new(&mut self.io).poll_read(cx, to));
        let came = &to.filled()[before..];
        self.meter
            .left
            .store(left.saturating_sub(came.len()), Ordering::Relaxed);
        let result = match result {
            Ok(()) if came.is_empty() && to.remaining() > 0 => {
                self.meter.end(&"the server has closed the connection");
                Ok(())
            }
            Ok(()) => self.replies.follow(came).map_err(io::Error::other),
            Err(error) => Err(error),
        };
        Poll::Ready(result.inspect_err(|error| self.meter.end(error)))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.io).poll_write(cx, bytes));
        Poll::Ready(result.inspect_err(|error| self.meter.end(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
