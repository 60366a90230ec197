//! [`RawClient`]: bytes and frames, right or wrong.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::time::{sleep, timeout};

use super::codec;
use super::pipe::Reset;
use super::recent::Recent;

/// A connection of HTTP/1.1 for what a good client cannot do: broken handshakes and frames, half a
/// message, a byte at a time, an end in the middle. To vanish, drop it; to read nothing, ask it for
/// nothing: a pipe in memory holds 16 KiB.
///
/// [`TestServer::raw`](super::TestServer::raw) makes one in memory, [`new`](Self::new) one on any stream.
/// Its functions panic if something else comes than was expected, with what came and the last frames.
/// Each waits for at most two minutes: longer than every default deadline of a layer, so that a test
/// can wait for each of them. With tokio's time paused, this takes none.
pub struct RawClient<IO = DuplexStream> {
    /// The stream, for what this client has no function for. What was read of it already is not in it.
    pub io: IO,
    input: Vec<u8>,
    /// Whether the server agreed to permessage-deflate, and may compress.
    deflate: bool,
    recent: Recent<Seen>,
    reset: Option<Reset>,
}

/// A frame that came. Messages are as they came, fragmented and compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RawFrame {
    /// FIN, the reserved bits and the opcode (RFC 6455 §5.2).
    pub first: u8,
    /// What it carries.
    pub payload: Vec<u8>,
}

const PATIENCE: Duration = Duration::from_secs(120);

impl RawFrame {
    /// The code of a Close frame; `None` if it has none, or is another frame.
    pub fn close_code(&self) -> Option<u16> {
        let code = self.payload.first_chunk()?;
        (self.first == 0x88).then(|| u16::from_be_bytes(*code))
    }
}

impl RawClient {
    pub(super) fn with_reset(io: DuplexStream, reset: Reset) -> Self {
        Self {
            reset: Some(reset),
            ..Self::new(io)
        }
    }

    /// Ends the connection as RST does: the server gets
    /// [`ConnectionReset`](std::io::ErrorKind::ConnectionReset), and nothing of what it has not read yet.
    ///
    /// # Panics
    ///
    /// It is not one of [`TestServer::raw`](super::TestServer::raw).
    pub fn reset(self) {
        let reset = self.reset.expect("a client of TestServer::raw");
        reset.store(true, Ordering::Release);
        drop(self.io);
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> RawClient<IO> {
    /// On a stream of your own, such as a `TcpStream` to a server that listens.
    pub fn new(io: IO) -> Self {
        Self {
            io,
            input: Vec::new(),
            deflate: false,
            recent: Recent::new(),
            reset: None,
        }
    }

    // ---- out

    /// Sends bytes.
    ///
    /// # Panics
    ///
    /// The server has ended the connection, or does not read.
    pub async fn send(&mut self, bytes: &[u8]) {
        match timeout(PATIENCE, self.io.write_all(bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.recent.fail("to be able to send", &error.to_string()),
            Err(_) => self.recent.fail("to be able to send", UNREAD),
        }
    }

    /// As [`send`](Self::send), but the server may have ended the connection.
    ///
    /// # Panics
    ///
    /// The server does not read.
    pub async fn try_send(&mut self, bytes: &[u8]) {
        if timeout(PATIENCE, self.io.write_all(bytes)).await.is_err() {
            self.recent.fail("to be able to send", UNREAD);
        }
    }

    /// Sends bytes one by one, with a pause after each.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub async fn send_slowly(&mut self, bytes: &[u8], pause: Duration) {
        for byte in bytes {
            self.send(&[*byte]).await;
            self.stall(pause).await;
        }
    }

    /// Neither sends nor reads for so long.
    pub async fn stall(&mut self, time: Duration) {
        sleep(time).await;
    }

    /// Sends a frame, masked as a client has to. `first` is its first byte: 0x81 for a whole text
    /// message, 0x01 for its first fragment, 0x80 for its last one, 0x88 for a Close frame.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub async fn send_frame(&mut self, first: u8, payload: &[u8]) {
        self.send(&codec::frame(first, payload)).await;
    }

    /// Ends our side; the server's may go on.
    ///
    /// # Panics
    ///
    /// The server has ended the connection.
    pub async fn half_close(&mut self) {
        if let Err(error) = self.io.shutdown().await {
            self.recent.fail("a connection", &error.to_string());
        }
    }

    // ---- HTTP

    /// Sends a handshake that is right in every respect, and gives the head of the response.
    ///
    /// # Panics
    ///
    /// There is none.
    pub async fn handshake(&mut self, path: &str) -> Response<()> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\n\r\n"
        );
        self.send(request.as_bytes()).await;
        self.head().await
    }

    /// Opens a WebSocket: a [`handshake`](Self::handshake), and the 101.
    ///
    /// # Panics
    ///
    /// The server refuses.
    pub async fn open(&mut self, path: &str) {
        let response = self.handshake(path).await;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            self.recent.fail("a 101", &format!("{response:?}"));
        }
    }

    /// The head of a response.
    ///
    /// # Panics
    ///
    /// There is none.
    pub async fn head(&mut self) -> Response<()> {
        let end = loop {
            if let Some(at) = self.input.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more("a response").await {
                self.not("a response");
            }
        };
        let Some(response) = parsed(&self.input[..end]) else {
            self.not("a response");
        };
        self.input.drain(..end);
        self.deflate = response
            .headers()
            .contains_key(header::SEC_WEBSOCKET_EXTENSIONS);
        response
    }

    /// A response with its body, where that has a length: such as a refusal.
    ///
    /// # Panics
    ///
    /// There is none.
    pub async fn response(&mut self) -> Response<Bytes> {
        let response = self.head().await;
        let length = response.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let body = self.take(length.unwrap_or(0), "the whole body").await;
        response.map(|()| body.into())
    }

    // ---- WebSocket

    /// The next frame; `None` at the end of the connection.
    ///
    /// # Panics
    ///
    /// Nothing comes, or what comes is not a frame of a server.
    pub async fn frame(&mut self) -> Option<RawFrame> {
        loop {
            match codec::parse(&self.input, self.deflate) {
                Err(fault) => self.recent.fail("frames that keep RFC 6455", &fault),
                Ok(Some((codec::Frame { first, payload }, size))) => {
                    self.input.drain(..size);
                    let frame = RawFrame { first, payload };
                    self.recent.push(Seen::new(&frame));
                    return Some(frame);
                }
                Ok(None) => {}
            }
            if !self.more("a frame").await {
                if !self.input.is_empty() {
                    self.not("a whole frame");
                }
                return None;
            }
        }
    }

    /// The next frame is this: its first byte, and what it carries.
    ///
    /// # Panics
    ///
    /// Something else comes, or nothing.
    pub async fn expect(&mut self, first: u8, payload: &[u8]) {
        let payload = payload.to_vec();
        let expected = Some(RawFrame { first, payload });
        let got = self.frame().await;
        if got != expected {
            self.fail(&expected, &got);
        }
    }

    /// The next frame is a Close frame with this code, or with `None` without one, and nothing comes
    /// behind it. It is not answered.
    ///
    /// # Panics
    ///
    /// Something else comes, or nothing.
    pub async fn expect_close(&mut self, code: impl Into<Option<u16>>) {
        let code = code.into();
        let expected = match code {
            Some(code) => format!("a Close frame with {code}"),
            None => "a Close frame without a code".to_owned(),
        };
        let got = self.frame().await;
        match &got {
            Some(frame) if frame.first == 0x88 && frame.close_code() == code => {
                let reason = frame.payload.get(2..).unwrap_or_default();
                if std::str::from_utf8(reason).is_err() {
                    self.recent.fail("a reason in UTF-8", "another");
                }
            }
            _ => self.recent.fail(&expected, &name(&got)),
        }
        let behind = self.frame().await;
        if behind.is_some() {
            self.fail(&None, &behind);
        }
    }

    /// The next bytes are these, frames or not.
    ///
    /// # Panics
    ///
    /// Others come, or too few.
    pub async fn expect_bytes(&mut self, bytes: &[u8]) {
        let expected = format!("{:?}", Bytes::copy_from_slice(bytes));
        let got = self.take(bytes.len(), &expected).await;
        if got != bytes {
            self.recent
                .fail(&expected, &format!("{:?}", Bytes::from(got)));
        }
    }

    /// Waits for the end of the connection, whatever comes before it.
    ///
    /// # Panics
    ///
    /// It does not end.
    pub async fn end(&mut self) {
        while self.more("the end of the connection").await {
            self.input.clear();
        }
    }

    async fn take(&mut self, size: usize, expected: &str) -> Vec<u8> {
        while self.input.len() < size {
            if !self.more(expected).await {
                self.not(expected);
            }
        }
        self.input.drain(..size).collect()
    }

    /// Whether something came, rather than the end.
    async fn more(&mut self, expected: &str) -> bool {
        match timeout(PATIENCE, self.io.read_buf(&mut self.input)).await {
            Ok(read) => read.unwrap_or(0) > 0,
            Err(_) => self.recent.fail(expected, "nothing in two minutes"),
        }
    }

    fn fail(&self, expected: &Option<RawFrame>, got: &Option<RawFrame>) -> ! {
        self.recent.fail(&name(expected), &name(got))
    }

    /// What came is not what was expected.
    fn not(&self, expected: &str) -> ! {
        let input = Bytes::copy_from_slice(&self.input);
        let got = format!("{input:?} and the end of the connection");
        self.recent.fail(expected, &got)
    }
}

const UNREAD: &str = "a server that does not read for two minutes";

/// The head of a response.
fn parsed(head: &[u8]) -> Option<Response<()>> {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?;
    let mut response = Response::new(());
    *response.status_mut() = status.parse::<StatusCode>().ok()?;
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let name = HeaderName::try_from(name).ok()?;
        response
            .headers_mut()
            .append(name, HeaderValue::try_from(value).ok()?);
    }
    Some(response)
}

fn name(frame: &Option<RawFrame>) -> String {
    match frame {
        Some(frame) => Seen::new(frame).to_string(),
        None => "the end of the connection".to_owned(),
    }
}

/// As much of a frame as a reader looks at.
#[derive(Debug)]
struct Seen {
    begin: RawFrame,
    len: usize,
}

impl Seen {
    const MOST: usize = 64;

    fn new(frame: &RawFrame) -> Self {
        let len = frame.payload.len();
        let payload = frame.payload[..len.min(Self::MOST)].to_vec();
        let first = frame.first;
        Self {
            begin: RawFrame { first, payload },
            len,
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { begin, len } = self;
        let payload = Bytes::copy_from_slice(&begin.payload);
        if let Some(code) = begin.close_code() {
            write!(f, "a Close frame with {code} {:?}", payload.slice(2..))?;
        } else {
            let first = begin.first;
            write!(f, "a frame {first:#04x} of {len} bytes {payload:?}")?;
        }
        f.write_str(if *len > Self::MOST { "…" } else { "" })
    }
}

impl<IO> fmt::Debug for RawClient<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawClient")
            .field("recent", &self.recent)
            .finish_non_exhaustive()
    }
}
