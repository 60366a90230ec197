//! [`UpgradedIo`]: the bytes of an open WebSocket, whoever handed them over.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a WebSocket can be opened on.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin> Stream for IO {}

/// What an open WebSocket runs on: the connection that hyper handed over, or the stream of an
/// [`Upgrade`](crate::Upgrade). The stream of
/// [`WebSocketLayer::stream`](crate::WebSocketLayer::stream) reads and writes it.
pub struct UpgradedIo(Io);

/// hyper's is in place, without a second box.
enum Io {
    Hyper(TokioIo<Upgraded>),
    Own(Box<dyn Stream>),
}

impl UpgradedIo {
    pub(super) fn hyper(upgraded: Upgraded) -> Self {
        Self(Io::Hyper(TokioIo::new(upgraded)))
    }

    pub(super) fn own(stream: Box<dyn Stream>) -> Self {
        Self(Io::Own(stream))
    }
}

impl AsyncRead for UpgradedIo {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Io::Hyper(io) => Pin::new(io).poll_read(cx, buffer),
            Io::Own(io) => Pin::new(io).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for UpgradedIo {
    #[inline]
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Io::Hyper(io) => Pin::new(io).poll_write(cx, bytes),
            Io::Own(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Io::Hyper(io) => Pin::new(io).poll_write_vectored(cx, slices),
            Io::Own(io) => Pin::new(io).poll_write_vectored(cx, slices),
        }
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Io::Hyper(io) => io.is_write_vectored(),
            Io::Own(io) => io.is_write_vectored(),
        }
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Io::Hyper(io) => Pin::new(io).poll_flush(cx),
            Io::Own(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Io::Hyper(io) => Pin::new(io).poll_shutdown(cx),
            Io::Own(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

impl fmt::Debug for UpgradedIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradedIo").finish_non_exhaustive()
    }
}
