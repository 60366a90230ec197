//! quinn's connections and streams as the `http3` crate wants them: what `h3-quinn` is for `h3`. The
//! adapter that `http3` has for itself is not published.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http3::error::Code;
use http3::quic::{
    self, ConnectionErrorIncoming, Is0rtt, RecvStream as _, StreamErrorIncoming, StreamId, WriteBuf,
};
use quinn::{ConnectionError, ReadError, VarInt, WriteError};

use crate::frames::Frames;

/// What is read at once. It is on the stack: a stream that is quiet holds no buffer.
const READ: usize = 8 * 1024;

/// What a stream of one direction is good for: the control stream has a few frames of some bytes, and
/// the others are stopped at once or have nothing to say to a decoder without a dynamic table.
const MAX_UNI: usize = 1024 * 1024;

type Waiting<T> = Option<Pin<Box<dyn Future<Output = Result<T, ConnectionError>> + Send>>>;

/// A connection that was accepted.
pub(crate) struct Connection {
    opener: Opener,
    accept_bidi: Waiting<(quinn::SendStream, quinn::RecvStream)>,
    accept_uni: Waiting<quinn::RecvStream>,
}

impl Connection {
    pub(crate) fn new(connection: quinn::Connection) -> Self {
        Self {
            opener: Opener::new(connection),
            accept_bidi: None,
            accept_uni: None,
        }
    }
}

impl quic::Connection<Bytes> for Connection {
    type RecvStream = RecvStream;
    type OpenStreams = Opener;

    fn poll_accept_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RecvStream, ConnectionErrorIncoming>> {
        let connection = &self.opener.connection;
        let accepted = poll(&mut self.accept_uni, cx, || {
            let connection = connection.clone();
            Box::pin(async move { connection.accept_uni().await })
        });
        accepted.map(|stream| Ok(RecvStream::new(stream?, Bound::Bytes(MAX_UNI))))
    }

    fn poll_accept_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream, ConnectionErrorIncoming>> {
        let connection = &self.opener.connection;
        let accepted = poll(&mut self.accept_bidi, cx, || {
            let connection = connection.clone();
            Box::pin(async move { connection.accept_bi().await })
        });
        accepted.map(|streams| Ok(BidiStream::new(streams?)))
    }

    fn opener(&self) -> Opener {
        Opener::new(self.opener.connection.clone())
    }
}

impl quic::OpenStreams<Bytes> for Connection {
    type BidiStream = BidiStream;
    type SendStream = SendStream;

    fn poll_open_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.opener.close(code, reason);
    }
}

/// Opens streams on a connection.
pub(crate) struct Opener {
    connection: quinn::Connection,
    open_bidi: Waiting<(quinn::SendStream, quinn::RecvStream)>,
    open_uni: Waiting<quinn::SendStream>,
}

impl Opener {
    fn new(connection: quinn::Connection) -> Self {
        Self {
            connection,
            open_bidi: None,
            open_uni: None,
        }
    }
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = BidiStream;
    type SendStream = SendStream;

    fn poll_open_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        let connection = &self.connection;
        let opened = poll(&mut self.open_bidi, cx, || {
            let connection = connection.clone();
            Box::pin(async move { connection.open_bi().await })
        });
        opened.map(|streams| Ok(BidiStream::new(streams.map_err(of_connection)?)))
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        let connection = &self.connection;
        let opened = poll(&mut self.open_uni, cx, || {
            let connection = connection.clone();
            Box::pin(async move { connection.open_uni().await })
        });
        opened.map(|stream| Ok(SendStream::new(stream.map_err(of_connection)?)))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(varint(code.value()), reason);
    }
}

/// Polls what is waited for, which begins if nothing is.
fn poll<T>(
    waiting: &mut Waiting<T>,
    cx: &mut Context<'_>,
    begin: impl FnOnce() -> Pin<Box<dyn Future<Output = Result<T, ConnectionError>> + Send>>,
) -> Poll<Result<T, ConnectionErrorIncoming>> {
    let result = ready!(waiting.get_or_insert_with(begin).as_mut().poll(cx));
    *waiting = None;
    Poll::Ready(result.map_err(|error| connection_error(&error)))
}

/// A stream of a request, in both directions.
pub(crate) struct BidiStream {
    send: SendStream,
    recv: RecvStream,
}

impl BidiStream {
    fn new((send, recv): (quinn::SendStream, quinn::RecvStream)) -> Self {
        Self {
            send: SendStream::new(send),
            recv: RecvStream::new(recv, Bound::Frames(Frames::new())),
        }
    }
}

impl quic::BidiStream<Bytes> for BidiStream {
    type SendStream = SendStream;
    type RecvStream = RecvStream;

    fn split(self) -> (SendStream, RecvStream) {
        (self.send, self.recv)
    }
}

impl quic::SendStream<Bytes> for BidiStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.send.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

impl quic::RecvStream for BidiStream {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.recv.poll_data(cx)
    }

    fn stop_sending(&mut self, code: u64) {
        self.recv.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.recv.recv_id()
    }
}

impl Is0rtt for BidiStream {
    fn is_0rtt(&self) -> bool {
        self.recv.stream.is_0rtt()
    }
}

/// Our side of a stream. One that is dropped before it was finished is reset: quinn would finish it,
/// and the peer would take what was cut off for whole.
pub(crate) struct SendStream {
    stream: quinn::SendStream,
    writing: Option<WriteBuf<Bytes>>,
    over: bool,
}

impl SendStream {
    fn new(stream: quinn::SendStream) -> Self {
        Self {
            stream,
            writing: None,
            over: false,
        }
    }
}

impl quic::SendStream<Bytes> for SendStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if let Some(data) = &mut self.writing {
            while data.has_remaining() {
                let stream = Pin::new(&mut self.stream);
                let written = ready!(stream.poll_write(cx, data.chunk())).map_err(write_error)?;
                data.advance(written);
            }
            self.writing = None;
        }
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            let message = "sent before the stream was ready".to_owned();
            return Err(StreamErrorIncoming::ConnectionErrorIncoming {
                connection_error: ConnectionErrorIncoming::InternalError(message),
            });
        }
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        ready!(self.poll_ready(cx))?;
        self.over = true;
        let finished = self.stream.finish();
        Poll::Ready(finished.map_err(unknown))
    }

    fn reset(&mut self, code: u64) {
        self.over = true;
        // Fails if the peer has all of it, or has stopped it.
        let _ = self.stream.reset(varint(code));
    }

    fn send_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if !self.over {
            // RFC 9220 §3: what is a RST to TCP is a stream error of this code.
            quic::SendStream::reset(self, Code::H3_REQUEST_CANCELLED.value());
        }
    }
}

/// The peer's side of a stream. One that is dropped before its end is stopped.
pub(crate) struct RecvStream {
    stream: quinn::RecvStream,
    bound: Bound,
    over: bool,
}

/// What `http3` may be made to keep of a stream.
enum Bound {
    /// Bytes that are left.
    Bytes(usize),
    Frames(Frames),
}

impl RecvStream {
    fn new(stream: quinn::RecvStream, bound: Bound) -> Self {
        Self {
            stream,
            bound,
            over: false,
        }
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let mut buffer = [0; READ];
        let room = match &self.bound {
            Bound::Bytes(0) => return Poll::Ready(Err(unknown(TooMuch))),
            Bound::Bytes(left) => READ.min(*left),
            Bound::Frames(frames) => frames.room(READ),
        };
        let read = ready!(self.stream.poll_read(cx, &mut buffer[..room]));
        self.over |= !matches!(read, Ok(1..));
        let bytes = &buffer[..read.map_err(read_error)?];
        match &mut self.bound {
            Bound::Bytes(left) => *left -= bytes.len(),
            Bound::Frames(frames) => frames.take(bytes).map_err(unknown)?,
        }
        let bytes = (!bytes.is_empty()).then(|| Bytes::copy_from_slice(bytes));
        Poll::Ready(Ok(bytes))
    }

    fn stop_sending(&mut self, code: u64) {
        self.over = true;
        // Fails if all has arrived.
        let _ = self.stream.stop(varint(code));
    }

    fn recv_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        if !self.over {
            // RFC 9114 §4.1: the response did not need the rest of the request.
            self.stop_sending(Code::H3_NO_ERROR.value());
        }
    }
}

#[derive(Debug)]
struct TooMuch;

impl std::fmt::Display for TooMuch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "a stream of one direction with more than {MAX_UNI} bytes"
        )
    }
}

impl std::error::Error for TooMuch {}

fn unknown(error: impl std::error::Error + Send + Sync + 'static) -> StreamErrorIncoming {
    StreamErrorIncoming::Unknown(Box::new(error))
}

fn varint(value: u64) -> VarInt {
    VarInt::from_u64(value).unwrap_or(VarInt::MAX)
}

fn stream_id(id: quinn::StreamId) -> StreamId {
    u64::from(id)
        .try_into()
        .expect("both are integers of 62 bits")
}

fn connection_error(error: &ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(closed) => ConnectionErrorIncoming::ApplicationClose {
            error_code: closed.error_code.into_inner(),
        },
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other => ConnectionErrorIncoming::Undefined(Arc::new(other.clone())),
    }
}

fn of_connection(connection_error: ConnectionErrorIncoming) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error }
}

fn read_error(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated {
            error_code: code.into_inner(),
        },
        ReadError::ConnectionLost(error) => of_connection(connection_error(&error)),
        other => unknown(other),
    }
}

fn write_error(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated {
            error_code: code.into_inner(),
        },
        WriteError::ConnectionLost(error) => of_connection(connection_error(&error)),
        other => unknown(other),
    }
}
