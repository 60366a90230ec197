//! [`TestClient`]: a client that keeps the rules, and says what came when something else was expected.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::codec;
use super::deflate::Deflate;
use super::recent::Recent;
use crate::close::CloseCode;
use crate::message::Message;

/// What a client can read from and write to.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// An open WebSocket, from the client's side.
///
/// Its functions panic if something else comes than was expected, with what came and the last frames:
/// they are for tests. Each waits for at most 10 s. Pings are answered while it waits, unless
/// [`without_pongs`](Self::without_pongs) says otherwise.
pub struct TestClient {
    io: Box<dyn Io>,
    response: Response<()>,
    input: Vec<u8>,
    /// The first fragments of a message: its first byte and what came.
    partial: Option<(u8, Vec<u8>)>,
    recent: Recent<String>,
    /// If it was agreed.
    deflate: Option<Deflate>,
    compressed: usize,
    pings: usize,
    answers: bool,
    closed: bool,
}

/// What came from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// A message, put together of its fragments.
    Message(Message),
    /// A ping; it is answered.
    Ping(Bytes),
    /// A pong.
    Pong(Bytes),
    /// A Close frame, with its code and reason if it has them.
    Close(Option<(CloseCode, String)>),
    /// The end of the connection.
    End,
}

/// Marks a compressed message (RFC 7692 §6).
const RSV1: u8 = 0x40;

/// How long a function waits: a server that is right answers at once, also on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

impl TestClient {
    pub(super) fn new(io: Box<dyn Io>, response: Response<()>) -> Self {
        Self {
            io,
            response,
            input: Vec::new(),
            partial: None,
            recent: Recent::new(),
            deflate: None,
            compressed: 0,
            pings: 0,
            answers: true,
            closed: false,
        }
    }

    pub(super) fn with_deflate(mut self, deflate: Option<Deflate>) -> Self {
        self.deflate = deflate;
        self
    }

    /// The response that opened it: 101, or 200 over HTTP/2, with its headers.
    pub fn response(&self) -> &Response<()> {
        &self.response
    }

    /// The subprotocol that was agreed.
    pub fn protocol(&self) -> Option<&str> {
        let protocol = self.response.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
        protocol.and_then(|protocol| protocol.to_str().ok())
    }

    /// Answers no pings, as a client that has vanished.
    #[must_use]
    pub fn without_pongs(mut self) -> Self {
        self.answers = false;
        self
    }

    /// How many pings have come so far.
    pub fn pings(&self) -> usize {
        self.pings
    }

    /// How many messages have come compressed so far; see
    /// [`TestRequest::deflate`](super::TestRequest::deflate).
    #[cfg(feature = "deflate")]
    #[cfg_attr(docsrs, doc(cfg(feature = "deflate")))]
    pub fn compressed(&self) -> usize {
        self.compressed
    }

    // ---- out

    /// Sends a message in one frame, compressed if that was agreed.
    ///
    /// # Panics
    ///
    /// The server has ended the connection.
    pub async fn send(&mut self, message: impl Into<Message>) {
        let (first, payload) = self.payload(&message.into());
        self.write(&codec::frame(first, &payload)).await;
    }

    /// Sends `value` as a text message of JSON. Needs the feature `json`.
    ///
    /// # Panics
    ///
    /// It cannot be JSON, or the server has ended the connection.
    #[cfg(feature = "json")]
    pub async fn send_json<T: serde::Serialize + ?Sized>(&mut self, value: &T) {
        self.send(Message::json(value).expect("JSON")).await;
    }

    /// Sends a message in fragments of at most `size` bytes.
    ///
    /// # Panics
    ///
    /// `size` is zero, or the server has ended the connection.
    pub async fn send_fragments(&mut self, message: impl Into<Message>, size: usize) {
        let (first, payload) = self.payload(&message.into());
        let frames: Vec<_> = codec::fragments(first, payload.chunks(size)).collect();
        self.write(&frames.concat()).await;
    }

    /// Sends a ping.
    ///
    /// # Panics
    ///
    /// The server has ended the connection.
    pub async fn ping(&mut self, payload: &[u8]) {
        self.write(&codec::frame(0x89, payload)).await;
    }

    /// Sends a Close frame. [`expect_close`](Self::expect_close) waits for the answer.
    ///
    /// # Panics
    ///
    /// The server has ended the connection.
    pub async fn close(&mut self, code: impl Into<CloseCode>, reason: &str) {
        self.closed = true;
        self.write(&codec::close(code.into().as_u16(), reason))
            .await;
    }

    /// The first byte of a message in one frame, and what it carries.
    fn payload(&mut self, message: &Message) -> (u8, Vec<u8>) {
        let first = if message.is_text() { 0x81 } else { 0x82 };
        let deflate = self.deflate.as_mut();
        match deflate.and_then(|deflate| deflate.compress(message.as_bytes())) {
            Some(compressed) => (first | RSV1, compressed),
            None => (first, message.as_bytes().to_vec()),
        }
    }

    async fn write(&mut self, bytes: &[u8]) {
        let written = timeout_at(Instant::now() + PATIENCE, self.io.write_all(bytes)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.fail("to be able to send", &format!("{error}")),
            Err(_) => self.fail("to be able to send", "a server that does not read for 10 s"),
        }
    }

    // ---- in

    /// What comes next.
    ///
    /// # Panics
    ///
    /// Nothing comes in 10 s, or the server breaks RFC 6455.
    pub async fn next(&mut self) -> Received {
        match self.next_until(Instant::now() + PATIENCE).await {
            Some(received) => received,
            None => self.fail("anything", "nothing in 10 s"),
        }
    }

    /// The next message. Pings and pongs in front of it are passed over.
    ///
    /// # Panics
    ///
    /// Something else comes, or nothing.
    pub async fn recv(&mut self) -> Message {
        match self.message("a message").await {
            Received::Message(message) => message,
            other => self.fail("a message", &shown(&other)),
        }
    }

    /// The next message is this text.
    ///
    /// # Panics
    ///
    /// Something else comes, or nothing.
    pub async fn expect_text(&mut self, text: &str) {
        let expected = format!("the text {text:?}");
        let received = self.message(&expected).await;
        if received != Received::Message(Message::from(text)) {
            self.fail(&expected, &shown(&received));
        }
    }

    /// The next message is binary, with these bytes.
    ///
    /// # Panics
    ///
    /// Something else comes, or nothing.
    pub async fn expect_binary(&mut self, bytes: &[u8]) {
        let expected = format!("{:?}", Message::from(bytes));
        let received = self.message(&expected).await;
        if received != Received::Message(Message::from(bytes)) {
            self.fail(&expected, &shown(&received));
        }
    }

    /// The next message is JSON that is equal to this value. Needs the feature `json`.
    ///
    /// ```no_run
    /// # async fn f(mut client: tower_websocket::test::TestClient) {
    /// client.expect_json(serde_json::json!({"accepted": 1})).await;
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Something else comes, or nothing.
    #[cfg(feature = "json")]
    pub async fn expect_json(&mut self, value: impl Into<serde_json::Value>) {
        let value = value.into();
        let expected = format!("the JSON {value}");
        let received = self.message(&expected).await;
        let got = match &received {
            Received::Message(message) => message.parse_json::<serde_json::Value>().ok(),
            _ => None,
        };
        if got != Some(value) {
            self.fail(&expected, &shown(&received));
        }
    }

    /// A Close frame with this code comes, answers it unless ours was the first, and waits for the end
    /// of the connection. Gives the reason. Pings and pongs in front of it are passed over.
    ///
    /// # Panics
    ///
    /// Something else comes, or nothing.
    pub async fn expect_close(&mut self, code: impl Into<CloseCode>) -> String {
        let code = code.into();
        let expected = format!("a Close frame with {code}");
        let received = self.message(&expected).await;
        let Received::Close(Some((got, reason))) = &received else {
            self.fail(&expected, &shown(&received));
        };
        if *got != code {
            self.fail(&expected, &shown(&received));
        }
        if !self.closed {
            self.close(code, "").await;
        }
        self.expect_end().await;
        reason.clone()
    }

    /// The connection ends, and nothing comes before.
    ///
    /// # Panics
    ///
    /// Something else comes, or nothing.
    pub async fn expect_end(&mut self) {
        let received = self.message("the end of the connection").await;
        if received != Received::End {
            self.fail("the end of the connection", &shown(&received));
        }
    }

    /// Nothing but pings and pongs comes for so long. With tokio's time paused, this takes none.
    ///
    /// # Panics
    ///
    /// Something comes.
    pub async fn expect_silence(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Some(received) = self.next_until(end).await {
            if !matches!(received, Received::Ping(_) | Received::Pong(_)) {
                self.fail(&format!("silence for {time:?}"), &shown(&received));
            }
        }
    }

    /// What comes next beside pings and pongs.
    async fn message(&mut self, expected: &str) -> Received {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.next_until(deadline).await {
                None => self.fail(expected, "nothing in 10 s"),
                Some(Received::Ping(_) | Received::Pong(_)) => {}
                Some(received) => return received,
            }
        }
    }

    async fn next_until(&mut self, deadline: Instant) -> Option<Received> {
        loop {
            match codec::parse(&self.input, self.deflate.is_some()) {
                Err(fault) => self.fail("frames that keep RFC 6455", &fault),
                Ok(Some((frame, size))) => {
                    self.input.drain(..size);
                    if let Some(received) = self.interpret(frame).await {
                        return Some(received);
                    }
                }
                Ok(None) => {
                    let read = timeout_at(deadline, self.io.read_buf(&mut self.input)).await;
                    match read.ok()? {
                        Ok(0) | Err(_) if self.input.is_empty() => return Some(Received::End),
                        Ok(0) | Err(_) => self.fail("a whole frame", "the end inside of one"),
                        Ok(_) => {}
                    }
                }
            }
        }
    }

    /// `None`: a fragment.
    async fn interpret(&mut self, frame: codec::Frame) -> Option<Received> {
        let code = frame.close_code();
        let codec::Frame { first, payload } = frame;
        let fin = first & 0x80 != 0;
        let received = match (first & 0xF, self.partial.take()) {
            (0x8, _) => Received::Close(code.map(|code| {
                let reason = payload.get(2..).unwrap_or_default();
                (code.into(), String::from_utf8_lossy(reason).into_owned())
            })),
            (0x9, partial) => {
                self.partial = partial;
                self.pings += 1;
                if self.answers && !self.closed {
                    // A server that has left meanwhile says so by the end of the connection.
                    let _ = self.io.write_all(&codec::frame(0x8A, &payload)).await;
                }
                Received::Ping(payload.into())
            }
            (0xA, partial) => {
                self.partial = partial;
                Received::Pong(payload.into())
            }
            (1..=2, None) if fin => self.message_of(first, payload),
            (1..=2, None) => {
                self.partial = Some((first, payload));
                return None;
            }
            (0, Some((first, mut begin))) => {
                begin.extend(payload);
                if !fin {
                    self.partial = Some((first, begin));
                    return None;
                }
                self.message_of(first, begin)
            }
            _ => self.fail("frames that keep RFC 6455", "fragments in a wrong order"),
        };
        self.recent.push(shown(&received));
        Some(received)
    }

    /// The message whose first frame begins with `first`.
    #[track_caller]
    fn message_of(&mut self, first: u8, mut payload: Vec<u8>) -> Received {
        if let (true, Some(deflate)) = (first & RSV1 != 0, &mut self.deflate) {
            self.compressed += 1;
            payload = match deflate.inflate(payload) {
                Ok(message) => message,
                Err(fault) => self.fail("messages that keep RFC 7692", &fault),
            };
        }
        if first & 0xF == 2 {
            return Received::Message(payload.into());
        }
        match String::from_utf8(payload) {
            Ok(text) => Received::Message(text.into()),
            Err(_) => self.fail("text in UTF-8", "a text message that is not"),
        }
    }

    #[track_caller]
    fn fail(&self, expected: &str, got: &str) -> ! {
        self.recent.fail(expected, got)
    }
}

fn shown(received: &Received) -> String {
    match received {
        Received::Message(message) => format!("{message:?}"),
        Received::Ping(payload) => format!("a ping of {} bytes", payload.len()),
        Received::Pong(payload) => format!("a pong of {} bytes", payload.len()),
        Received::Close(None) => "a Close frame without a code".to_owned(),
        Received::Close(Some((code, reason))) => format!("a Close frame with {code} {reason:?}"),
        Received::End => "the end of the connection".to_owned(),
    }
}

impl fmt::Debug for TestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestClient")
            .field("recent", &self.recent)
            .finish_non_exhaustive()
    }
}
