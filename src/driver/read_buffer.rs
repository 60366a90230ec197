//! [`ReadBuffer`]: bytes read from a socket, in a scratch buffer borrowed from the thread.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::config::SCRATCH;

/// What has been read and not yet taken.
#[derive(Default)]
pub(super) struct ReadBuffer {
    pub(super) bytes: Vec<u8>,
    pub(super) at: usize,
    pub(super) end: usize,
    /// `bytes` is the thread's.
    borrowed: bool,
}

thread_local! {
    /// Connections read one after the other, so one buffer a thread does for all of them,
    /// and none is held while a connection is quiet.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl ReadBuffer {
    pub(super) fn with(bytes: Vec<u8>) -> Self {
        Self {
            end: bytes.len(),
            bytes,
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at == self.end
    }

    /// Takes all that is left.
    pub(super) fn take_rest(&mut self) -> &[u8] {
        let at = std::mem::replace(&mut self.at, self.end);
        &self.bytes[at..self.end]
    }

    /// Reads into the thread's buffer; everything before must have been taken.
    #[inline(always)]
    pub(super) fn poll_fill<IO: AsyncRead + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if !self.borrowed {
            self.borrowed = true;
            self.bytes = BUFFER.take();
            // Once a thread, or when two connections of it read at a time. Bytes of another
            // connection stay behind `end` and are never looked at.
            self.bytes.resize(SCRATCH, 0);
        }
        (self.at, self.end) = (0, 0);
        let mut buffer = ReadBuf::new(&mut self.bytes);
        ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
        self.end = buffer.filled().len();
        Poll::Ready(Ok(self.end))
    }

    /// Gives the thread's buffer back; what has not been taken moves to one of its own size.
    #[inline]
    pub(super) fn rest(&mut self) {
        let rest = match self.is_empty() {
            true => Vec::new(),
            false if self.borrowed => self.bytes[self.at..self.end].to_vec(),
            false => return,
        };
        (self.at, self.end) = (0, rest.len());
        let bytes = std::mem::replace(&mut self.bytes, rest);
        if self.borrowed {
            self.borrowed = false;
            // Not `set`, which looks whether this is the first use in the thread.
            drop(BUFFER.replace(bytes));
        }
    }
}

impl Drop for ReadBuffer {
    /// A connection that ends while it reads would take the thread's buffer with it, and the
    /// next would zero a new one: that was half the instructions of a handshake.
    fn drop(&mut self) {
        if self.borrowed {
            let bytes = std::mem::take(&mut self.bytes);
            // The thread may be at its end.
            let _ = BUFFER.try_with(|buffer| buffer.replace(bytes));
        }
    }
}
