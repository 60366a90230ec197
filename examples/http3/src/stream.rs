//! The stream of an HTTP/3 request as bytes: for a WebSocket both directions, for the body of another
//! request the peer's.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame};
use http3::error::StreamError;
use http3::server::RequestStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::quic;

/// What goes into one DATA frame, and is copied for it.
const FRAME: usize = 16 * 1024;

/// So many DATA frames without a byte, one behind the other, are the end: `http3` says `None` to each
/// of them, as it does at the end.
const EMPTY_FRAMES: u32 = 16;

pub(crate) type SendHalf = RequestStream<quic::SendStream, Bytes>;
pub(crate) type RecvHalf = RequestStream<quic::RecvStream, Bytes>;

/// The body of a request.
pub(crate) struct Incoming(RecvHalf);

impl Incoming {
    pub(crate) fn new(recv: RecvHalf) -> Self {
        Self(recv)
    }

    /// The next bytes; `None` at the end.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        for _ in 0..EMPTY_FRAMES {
            let data = ready!(self.0.poll_recv_data(cx)).map_err(io_error)?;
            if let Some(mut data) = data {
                return Poll::Ready(Ok(Some(data.copy_to_bytes(data.remaining()))));
            }
        }
        Poll::Ready(Ok(None))
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let bytes = ready!(self.poll_bytes(cx)).transpose();
        Poll::Ready(bytes.map(|bytes| bytes.map(Frame::data)))
    }
}

/// Both directions of an extended CONNECT that was accepted.
pub(crate) struct Tunnel {
    incoming: Incoming,
    /// What the last frame had that was not read.
    unread: Bytes,
    outgoing: Outgoing,
}

enum Outgoing {
    Idle(Box<SendHalf>),
    /// A frame, or the end, on its way into quinn's buffer.
    Busy(Pin<Box<dyn Future<Output = Sent> + Send>>),
    Ended,
}

/// Gives the half back, but behind the end.
type Sent = (Option<Box<SendHalf>>, Result<(), StreamError>);

impl Tunnel {
    pub(crate) fn new(send: SendHalf, recv: RecvHalf) -> Self {
        Self {
            incoming: Incoming::new(recv),
            unread: Bytes::new(),
            outgoing: Outgoing::Idle(Box::new(send)),
        }
    }

    /// Ready when quinn has all that was written.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Outgoing::Busy(sending) = &mut self.outgoing else {
            return Poll::Ready(Ok(()));
        };
        let (half, sent) = ready!(sending.as_mut().poll(cx));
        self.outgoing = match half {
            Some(half) if sent.is_ok() => Outgoing::Idle(half),
            _ => Outgoing::Ended,
        };
        Poll::Ready(sent.map_err(io_error))
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            self.unread = match ready!(self.incoming.poll_bytes(cx)) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Poll::Ready(Ok(())),
                Err(error) => {
                    // Dropped without a FIN: who resets one direction has both of them reset.
                    self.outgoing = Outgoing::Ended;
                    return Poll::Ready(Err(error));
                }
            };
        }
        let length = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread.split_to(length));
        if self.unread.is_empty() {
            // Else an empty slice keeps the memory of what was read.
            self.unread = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_sent(cx))?;
        let Outgoing::Idle(mut half) = std::mem::replace(&mut self.outgoing, Outgoing::Ended)
        else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let data = Bytes::copy_from_slice(&bytes[..bytes.len().min(FRAME)]);
        let length = data.len();
        self.outgoing = Outgoing::Busy(Box::pin(async move {
            let sent = half.send_data(data).await;
            (Some(half), sent)
        }));
        // It is taken even if quinn has no room yet: then the next write waits.
        match self.poll_sent(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(length)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_sent(cx)
    }

    /// FIN, the end of our direction.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sent(cx))?;
        if let Outgoing::Idle(mut half) = std::mem::replace(&mut self.outgoing, Outgoing::Ended) {
            self.outgoing = Outgoing::Busy(Box::pin(async move { (None, half.finish().await) }));
        }
        self.poll_sent(cx)
    }
}

fn io_error(error: StreamError) -> io::Error {
    let kind = match error {
        // RESET_STREAM of the peer's direction, STOP_SENDING of ours.
        StreamError::RemoteTerminate { .. } => io::ErrorKind::ConnectionReset,
        _ => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, error)
}
