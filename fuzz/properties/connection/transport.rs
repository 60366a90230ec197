use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::record::Log;
use crate::properties::input::{Cycle, Input};

/// A socket that does as an input says: takes and gives some bytes, is pending for a while or
/// for a turn, fails.
pub(super) struct Transport {
    incoming: Vec<u8>,
    at: usize,
    end: End,
    vectored: bool,
    reads: Side,
    writes: Side,
    others: Side,
    log: Log,
}

/// What comes behind the last byte.
#[derive(Clone, Copy)]
enum End {
    Eof,
    Silence,
    Reset,
}

/// One direction.
struct Side {
    steps: Cycle,
    pause: Option<Pin<Box<Sleep>>>,
    /// The last step was to be pending for a turn.
    again: bool,
    failed: bool,
    moved: usize,
}

impl Transport {
    pub(super) fn new(input: &mut Input<'_>, log: Log) -> Self {
        Self {
            incoming: Vec::new(),
            at: 0,
            end: input.one_of(&[End::Eof, End::Silence, End::Reset]),
            vectored: input.flag(),
            reads: Side::new(input.short()),
            writes: Side::new(input.short()),
            others: Side::new(input.short()),
            log,
        }
    }

    /// With this to read.
    pub(super) fn with(self, incoming: Vec<u8>) -> Self {
        Self { incoming, ..self }
    }
}

impl Side {
    fn new(steps: &[u8]) -> Self {
        Self {
            steps: Cycle::new(steps),
            pause: None,
            again: false,
            failed: false,
            moved: 0,
        }
    }

    /// How many bytes may be moved; 0 is for the one who asks to make something of.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            if self.failed {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match self.steps.next() {
                0xC0..=0xCF if !self.again => {
                    self.again = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                n @ 0xD0..=0xFA => {
                    let pause = Duration::from_millis(1 << (n & 0x0F));
                    self.pause = Some(Box::pin(sleep(pause)));
                }
                0xFB..=0xFE => self.failed = true,
                0xFF => return Poll::Ready(Ok(0)),
                n => {
                    self.again = false;
                    let sizes = [usize::MAX, 1, 2, 7, 100, 1000, 8192, 65536];
                    // Byte by byte only for a while: it takes its time.
                    let n = sizes[usize::from(n & 7)].max(self.moved / 64);
                    return Poll::Ready(Ok(n));
                }
            }
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let n = ready!(this.reads.poll(cx)).inspect_err(|_| this.log.lock().failed = true)?;
        let rest = &this.incoming[this.at..];
        // There is no reading nothing but the end.
        let n = n.max(1).min(rest.len()).min(buffer.remaining());
        if rest.is_empty() {
            return match this.end {
                End::Eof => Poll::Ready(Ok(())),
                End::Silence => Poll::Pending,
                End::Reset => {
                    this.log.lock().failed = true;
                    Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
                }
            };
        }
        buffer.put_slice(&rest[..n]);
        this.at += n;
        this.reads.moved += n;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let step = this.writes.poll(cx);
        let mut record = this.log.lock();
        assert!(!record.shut, "written behind the end");
        record.blocked = step.is_pending();
        let n = match ready!(step) {
            Ok(n @ 1..) => n,
            nothing => {
                record.failed = true;
                return Poll::Ready(nothing);
            }
        };
        let before = record.written.len();
        for slice in slices {
            let room = n - (record.written.len() - before);
            record
                .written
                .extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let n = record.written.len() - before;
        assert!(n > 0, "nothing to write");
        record.moved = Some(Instant::now());
        this.writes.moved += n;
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(self.others.poll(cx)).map(|_| ());
        self.log.lock().failed |= flushed.is_err();
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = ready!(self.others.poll(cx)).map(|_| ());
        let mut record = self.log.lock();
        record.failed |= shut.is_err();
        record.shut |= shut.is_ok();
        Poll::Ready(shut)
    }
}
