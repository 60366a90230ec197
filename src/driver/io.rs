//! [`UpgradedIo`]: the bytes of an open WebSocket, whoever handed them over.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What a WebSocket can be opened on.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin> Stream for IO {}

/// What an open WebSocket runs on: the connection that hyper handed over, or the stream of an
/// [`Upgrade`](crate::Upgrade). The stream of
/// [`WebSocketLayer::stream`](crate::WebSocketLayer::stream) reads and writes it.
pub struct UpgradedIo(Io);

/// As small as a socket.
enum Io {
    /// What hyper served, without the box and the buffer around it: 112 bytes less for each connection.
    Tcp(TcpStream),
    Hyper(Box<TokioIo<Upgraded>>),
    Own(Box<dyn Stream>),
}

impl UpgradedIo {
    pub(super) fn hyper(upgraded: Upgraded) -> Self {
        Self(match into_tcp(upgraded) {
            Ok((io, ahead)) if ahead.is_empty() => Io::Tcp(io),
            Ok((io, ahead)) => Io::Own(Box::new(Rewound { ahead, io })),
            Err(upgraded) => Io::Hyper(Box::new(TokioIo::new(upgraded))),
        })
    }

    pub(super) fn own(stream: Box<dyn Stream>) -> Self {
        Self(Io::Own(stream))
    }
}

/// The socket, and what was read from it behind the handshake, if hyper serves TCP: by itself, or by
/// hyper-util, as axum does.
fn into_tcp(upgraded: Upgraded) -> Result<(TcpStream, Bytes), Upgraded> {
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => Ok((parts.io.into_inner(), parts.read_buf)),
        Err(upgraded) => {
            let parts = downcast::<TokioIo<TcpStream>>(upgraded)?;
            Ok((parts.io.into_inner(), parts.read_buf))
        }
    }
}

/// A socket that gives again what was read from it. Few clients send frames before they have the 101.
struct Rewound<IO> {
    ahead: Bytes,
    io: IO,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Rewound<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let n = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead[..n]);
        self.ahead.advance(n);
        if self.ahead.is_empty() {
            // It is a slice of the server's buffer.
            self.ahead = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Rewound<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
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
            Io::Tcp(io) => Pin::new(io).poll_read(cx, buffer),
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
            Io::Tcp(io) => Pin::new(io).poll_write(cx, bytes),
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
            Io::Tcp(io) => Pin::new(io).poll_write_vectored(cx, slices),
            Io::Hyper(io) => Pin::new(io).poll_write_vectored(cx, slices),
            Io::Own(io) => Pin::new(io).poll_write_vectored(cx, slices),
        }
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Io::Tcp(io) => io.is_write_vectored(),
            Io::Hyper(io) => io.is_write_vectored(),
            Io::Own(io) => io.is_write_vectored(),
        }
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Io::Tcp(io) => Pin::new(io).poll_flush(cx),
            Io::Hyper(io) => Pin::new(io).poll_flush(cx),
            Io::Own(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Io::Tcp(io) => Pin::new(io).poll_shutdown(cx),
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn a_transport_has_the_size_of_a_socket() {
        assert_eq!(size_of::<UpgradedIo>(), size_of::<TcpStream>());
    }

    #[tokio::test]
    async fn what_came_with_the_handshake_is_read_first_and_then_given_back() {
        let (mut client, io) = tokio::io::duplex(64);
        let ahead = Bytes::from_static(b"abc");
        let is_vectored = io.is_write_vectored();
        let mut io = Rewound { ahead, io };
        client.write_all(b"de").await.unwrap();
        let mut bytes = [0; 2];
        for expected in [b"ab", b"cd"] {
            io.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, expected);
        }
        assert_eq!(io.ahead.as_ptr(), Bytes::new().as_ptr());
        assert_eq!(io.is_write_vectored(), is_vectored);
        let slices = [IoSlice::new(b"o"), IoSlice::new(b"u")];
        let n = io.write_vectored(&slices).await.unwrap();
        io.write_all(&b"out"[n..]).await.unwrap();
        io.shutdown().await.unwrap();
        let mut out = Vec::new();
        client.read_to_end(&mut out).await.unwrap();
        assert_eq!(out, b"out");
    }
}
