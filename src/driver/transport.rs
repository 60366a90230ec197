//! [`Transport`]: the socket of a connection, what has been read from it, and what is being written
//! to it. It handles bytes, and does not know the protocol.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::read_buffer::ReadBuffer;
use super::upgraded::Look;
use crate::protocol::{Batch, SLICES};

/// The most that one write hands to a transport that copies what it is given. hyper's stream of
/// HTTP/2 copies each write whole, whatever the peer's window, and keeps up to three of them for
/// as long as the peer neither reads nor resets it, also when this connection is long gone. Sockets
/// and TLS take vectored writes and copy no more than they have room for; HTTP/2 does neither.
/// 16 KiB is its largest DATA frame by default (RFC 9113 §6.5.2). Twice as much is a sixth cheaper for
/// messages of 1 MiB, and twice what a dead stream holds.
const COPIED: usize = 16 * 1024;

/// See the module docs.
pub(super) struct Transport<IO> {
    io: IO,
    /// What has been read and not yet taken.
    pub(super) read_buffer: ReadBuffer,
    /// What is being written.
    pub(super) batch: Batch,
    /// Something is written and not yet flushed.
    unflushed: bool,
    /// The output is shut down.
    shut: bool,
    /// The input is at its end.
    eof: bool,
    /// A read has found nothing since the task slept last, so the task will be woken when there is
    /// something: another read would find nothing.
    dry: bool,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Transport<IO> {
    pub(super) fn new(io: IO) -> Self {
        Self {
            io,
            read_buffer: ReadBuffer::default(),
            batch: Batch::default(),
            unflushed: false,
            shut: false,
            eof: false,
            dry: false,
        }
    }

    /// What was found when the socket was looked at, in this poll of the task.
    pub(super) fn begin_with(&mut self, look: Look) {
        match look {
            Look::None => {}
            Look::Nothing => self.dry = true,
            Look::Byte(first) => self.read_buffer = ReadBuffer::with(vec![first]),
        }
    }

    /// The task is about to sleep: nothing of the thread's is kept.
    #[inline]
    pub(super) fn rest(&mut self) {
        self.read_buffer.rest();
        self.dry = false;
    }

    /// Whether something of the batch is neither written nor given up, or not flushed yet.
    #[inline]
    pub(super) fn is_writing(&self) -> bool {
        self.unflushed || !self.batch.is_empty()
    }

    /// Whether a read may give less than what is here. hyper's stream of HTTP/2 gives one DATA frame
    /// a read, and it alone has no vectored writes. A socket gives all it has, and so does rustls.
    #[inline]
    pub(super) fn comes_in_pieces(&self) -> bool {
        !self.io.is_write_vectored()
    }

    /// Writes a part of the batch, and tells how much the socket took.
    #[inline]
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let io = Pin::new(&mut self.io);
        let written = if let Some(single) = self.batch.single() {
            let copied = single.len() > COPIED && !io.is_write_vectored();
            io.poll_write(cx, if copied { &single[..COPIED] } else { single })
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let n = self.batch.slices(&mut slices);
            if io.is_write_vectored() {
                io.poll_write_vectored(cx, &slices[..n])
            } else {
                let first = &slices[0];
                io.poll_write(cx, &first[..first.len().min(COPIED)])
            }
        };
        let n = ready!(written)?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.batch.advance(n);
        self.unflushed = true;
        Poll::Ready(Ok(n))
    }

    /// Flushes what has been written, if anything has.
    #[inline]
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes as much of `bytes` as the socket takes at once. Nobody waits for the rest.
    pub(super) fn try_write(&mut self, mut bytes: &[u8], cx: &mut Context<'_>) {
        while let Poll::Ready(Ok(n @ 1..)) = Pin::new(&mut self.io).poll_write(cx, bytes) {
            bytes = &bytes[n..];
            if bytes.is_empty() {
                let _ = Pin::new(&mut self.io).poll_flush(cx);
                return;
            }
        }
    }

    /// Drops what has not been written.
    pub(super) fn give_up(&mut self) {
        self.batch = Batch::default();
    }

    /// Reads into the thread's buffer; 0 is the end. All that was read before must have been taken.
    #[inline(always)]
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.dry {
            return Poll::Pending;
        }
        let read = self.read_buffer.poll_fill(&mut self.io, cx);
        self.dry = read.is_pending();
        Poll::Ready(self.end_or(ready!(read)))
    }

    /// Reads straight to where the bytes stay.
    pub(super) fn poll_read_to(
        &mut self,
        buffer: &mut impl BufMut,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let n = ready!(pin!(self.io.read_buf(buffer)).poll(cx));
        Poll::Ready(self.end_or(n))
    }

    /// rustls says so when a peer ends TCP without its close_notify: no more than a FIN.
    #[inline]
    fn end_or(&mut self, read: io::Result<usize>) -> io::Result<usize> {
        match read {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    }

    /// Throws away what was read and not taken, then what is read, and returns it. Nothing: the
    /// input [has ended](Self::is_eof).
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<&[u8]> {
        if self.read_buffer.is_empty() {
            let read = ready!(self.poll_read(cx));
            self.eof = !matches!(read, Ok(1..));
        }
        Poll::Ready(self.read_buffer.take_rest())
    }

    /// Shuts the output down.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.shut = true;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn is_eof(&self) -> bool {
        self.eof
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::ReadBuf;

    use super::*;
    use crate::config::Config;
    use crate::message::Message;
    use crate::protocol::{Session, Writer};

    /// Takes whatever it is given, and notes how much each write was. It has nothing to read.
    #[derive(Default)]
    struct Script {
        is_vectored: bool,
        writes: Vec<usize>,
        reads: usize,
    }

    impl AsyncRead for Script {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.reads += 1;
            Poll::Pending
        }
    }

    impl AsyncWrite for Script {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.writes.push(bytes.len());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            self.poll_write(cx, &all)
        }

        fn is_write_vectored(&self) -> bool {
            self.is_vectored
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// The writes that one message of `size` bytes takes.
    fn writes(size: usize, is_vectored: bool) -> Vec<usize> {
        let io = Script {
            is_vectored,
            ..Script::default()
        };
        let mut transport = Transport::new(io);
        assert_eq!(transport.comes_in_pieces(), !is_vectored);
        let mut writer = Writer::default();
        writer.push(&Message::from(vec![7; size]));
        let mut session = Session::new(Config::default().into());
        session.poll_output(&mut writer, &mut transport.batch);
        let mut cx = Context::from_waker(Waker::noop());
        while !transport.batch.is_empty() {
            assert!(matches!(transport.poll_write(&mut cx), Poll::Ready(Ok(_))));
        }
        transport.io.writes
    }

    #[test]
    fn what_copies_each_write_gets_16_kib_of_a_message_at_a_time() {
        assert_eq!(writes(1000, false), [1004]);
        assert_eq!(
            writes(70_000, false),
            [10, 16_384, 16_384, 16_384, 16_384, 4464]
        );
    }

    #[test]
    fn a_socket_that_had_nothing_is_read_again_once_the_task_has_slept() {
        let mut cx = Context::from_waker(Waker::noop());
        for (look, reads) in [(Look::None, 1), (Look::Nothing, 0)] {
            let mut transport = Transport::new(Script::default());
            transport.begin_with(look);
            for _ in 0..2 {
                assert!(transport.poll_read(&mut cx).is_pending());
                assert!(transport.poll_discard(&mut cx).is_pending());
            }
            assert_eq!(transport.io.reads, reads, "{look:?}");
            transport.rest();
            assert!(transport.poll_read(&mut cx).is_pending());
            assert_eq!(transport.io.reads, reads + 1, "{look:?}");
        }
    }

    #[test]
    fn a_byte_that_was_found_is_the_first_of_the_input() {
        let mut transport = Transport::new(Script::default());
        transport.begin_with(Look::Byte(0x81));
        let (input, at) = transport.read_buffer.unread().unwrap();
        assert_eq!((&*input, *at), (&[0x81][..], 0));
    }

    #[test]
    fn what_takes_slices_gets_header_and_payload_in_one_write() {
        assert_eq!(writes(1000, true), [1004]);
        assert_eq!(writes(70_000, true), [70_010]);
    }
}
