//! [`ReadBuffer`]: bytes read from a socket, in a scratch buffer borrowed from the thread.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::config::SCRATCH;

/// What has been read and not yet taken. Boxed, since most of the time that is nothing.
#[derive(Default)]
pub(super) struct ReadBuffer {
    filled: Option<Box<Filled>>,
}

struct Filled {
    bytes: Vec<u8>,
    at: usize,
    end: usize,
    /// It is the thread's.
    borrowed: bool,
}

thread_local! {
    /// Connections read one after the other, so one buffer a thread does for all of them,
    /// and none is held while a connection is quiet.
    static BUFFER: Cell<Option<Box<Filled>>> = const { Cell::new(None) };
}

impl Filled {
    fn own(bytes: Vec<u8>) -> Box<Self> {
        Box::new(Self {
            at: 0,
            end: bytes.len(),
            bytes,
            borrowed: false,
        })
    }

    /// Once a thread, or when two connections of it read at a time.
    #[cold]
    fn scratch() -> Box<Self> {
        Box::new(Self {
            at: 0,
            end: 0,
            bytes: vec![0; SCRATCH],
            borrowed: true,
        })
    }
}

impl ReadBuffer {
    pub(super) fn with(bytes: Vec<u8>) -> Self {
        Self {
            filled: Some(Filled::own(bytes)),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.filled.as_ref().is_none_or(|it| it.at == it.end)
    }

    /// What was read, and how much of it was taken. `None`: all.
    #[inline]
    pub(super) fn unread(&mut self) -> Option<(&mut [u8], &mut usize)> {
        let Filled { bytes, at, end, .. } = self.filled.as_deref_mut()?;
        (at < end).then(|| (&mut bytes[..*end], at))
    }

    /// Takes all that is left.
    pub(super) fn take_rest(&mut self) -> &[u8] {
        let Some(filled) = &mut self.filled else {
            return &[];
        };
        let at = std::mem::replace(&mut filled.at, filled.end);
        &filled.bytes[at..filled.end]
    }

    /// Reads into the thread's buffer; everything before must have been taken.
    #[inline(always)]
    pub(super) fn poll_fill<IO: AsyncRead + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let filled = match &mut self.filled {
            Some(filled) if filled.borrowed => filled,
            // Bytes of another connection stay behind `end` and are never looked at.
            none => none.insert(BUFFER.take().unwrap_or_else(Filled::scratch)),
        };
        (filled.at, filled.end) = (0, 0);
        let mut buffer = ReadBuf::new(&mut filled.bytes);
        ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
        filled.end = buffer.filled().len();
        Poll::Ready(Ok(filled.end))
    }

    /// Gives the thread's buffer back; what has not been taken moves to one of its own size.
    #[inline]
    pub(super) fn rest(&mut self) {
        match self.filled.take() {
            Some(filled) if filled.borrowed => {
                let rest = &filled.bytes[filled.at..filled.end];
                self.filled = (!rest.is_empty()).then(|| Filled::own(rest.to_vec()));
                // Not `set`, which looks whether this is the first use in the thread.
                drop(BUFFER.replace(Some(filled)));
            }
            own => self.filled = own.filter(|own| own.at < own.end),
        }
    }
}

impl Drop for ReadBuffer {
    /// A connection that ends while it reads would take the thread's buffer with it, and the
    /// next would zero a new one: that was half the instructions of a handshake.
    fn drop(&mut self) {
        if let Some(filled) = self.filled.take().filter(|filled| filled.borrowed) {
            // The thread may be at its end.
            let _ = BUFFER.try_with(|buffer| buffer.replace(Some(filled)));
        }
    }
}
