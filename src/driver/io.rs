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
struct Rewound {
    ahead: Bytes,
    io: TcpStream,
}

impl AsyncRead for Rewound {
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

impl AsyncWrite for Rewound {
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
    use std::convert::Infallible;

    use http::{Request, Response, StatusCode};
    use http_body_util::Empty;
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioExecutor;
    use hyper_util::server::conn::auto;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn a_transport_has_the_size_of_a_socket() {
        assert_eq!(size_of::<UpgradedIo>(), size_of::<TcpStream>());
    }

    /// What the server makes of an upgrade, of which the client sends `ahead` at once with the request.
    async fn upgraded(by_auto: bool, ahead: &[u8]) -> (TcpStream, UpgradedIo) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: a\r\n\r\n";
        client.write_all(&[request, ahead].concat()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let service = service_fn(move |request: Request<Incoming>| {
            let _ = sender.send(hyper::upgrade::on(request));
            let mut response = Response::new(Empty::<Bytes>::new());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            async { Ok::<_, Infallible>(response) }
        });
        let socket = TokioIo::new(socket);
        if by_auto {
            let builder = auto::Builder::new(TokioExecutor::new());
            let serving = builder.serve_connection_with_upgrades(socket, service);
            serving.await.unwrap();
        } else {
            let serving = http1::Builder::new().serve_connection(socket, service);
            serving.with_upgrades().await.unwrap();
        }
        let upgraded = receiver.recv().await.unwrap().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        (client, UpgradedIo::hyper(upgraded))
    }

    #[tokio::test]
    async fn behind_hyper_and_its_auto_server_the_socket_is_taken_out_of_its_boxes() {
        for by_auto in [false, true] {
            let (mut client, mut io) = upgraded(by_auto, b"").await;
            assert!(matches!(io.0, Io::Tcp(_)) && io.is_write_vectored());
            client.write_all(b"in").await.unwrap();
            let mut bytes = [0; 2];
            io.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"in");
        }
    }

    #[tokio::test]
    async fn what_came_with_the_handshake_is_read_first_and_in_pieces() {
        for by_auto in [false, true] {
            let (mut client, mut io) = upgraded(by_auto, b"abc").await;
            client.write_all(b"de").await.unwrap();
            let mut bytes = [0; 2];
            for expected in [b"ab", b"cd"] {
                io.read_exact(&mut bytes).await.unwrap();
                assert_eq!(&bytes, expected);
            }
            assert!(io.is_write_vectored());
            let slices = [IoSlice::new(b"o"), IoSlice::new(b"u")];
            assert_eq!(io.write_vectored(&slices).await.unwrap(), 2);
            io.write_all(b"t").await.unwrap();
            io.shutdown().await.unwrap();
            let mut out = Vec::new();
            client.read_to_end(&mut out).await.unwrap();
            assert_eq!(out, b"out");
        }
    }
}
