//! [`RawClient`]: bytes and frames, right or wrong.

use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{sleep, timeout};

use super::codec;

/// A connection of HTTP/1.1 for what a good client cannot do: broken handshakes and frames, half a
/// message, a byte at a time, an end in the middle. To vanish, drop it; to stall, wait with it.
pub struct RawClient {
    io: DuplexStream,
    input: Vec<u8>,
}

/// A frame that came: FIN, the reserved bits and the opcode in `first`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RawFrame {
    /// FIN, the reserved bits and the opcode (RFC 6455 §5.2).
    pub first: u8,
    /// What it carries.
    pub payload: Vec<u8>,
}

const PATIENCE: Duration = Duration::from_secs(10);

impl RawClient {
    pub(super) fn new(io: DuplexStream) -> Self {
        Self {
            io,
            input: Vec::new(),
        }
    }

    /// Sends bytes.
    ///
    /// # Panics
    ///
    /// The server has ended the connection, or does not read for 10 s.
    pub async fn send(&mut self, bytes: &[u8]) {
        let written = timeout(PATIENCE, self.io.write_all(bytes)).await;
        written
            .expect("the server reads within 10 s")
            .expect("the server has not ended the connection");
    }

    /// Sends bytes one by one, with a pause after each.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub async fn send_slowly(&mut self, bytes: &[u8], pause: Duration) {
        for byte in bytes {
            self.send(&[*byte]).await;
            sleep(pause).await;
        }
    }

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
        self.io.shutdown().await.expect("a connection");
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
            assert!(self.more().await, "no response, but {:?}", self.input);
        };
        let head: Vec<u8> = self.input.drain(..end).collect();
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let status = status.and_then(|status| status.parse::<StatusCode>().ok());
        let mut response = Response::new(());
        *response.status_mut() = status.expect("a status");
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            let name = HeaderName::try_from(name).expect("a header");
            let value = HeaderValue::try_from(value).expect("a header");
            response.headers_mut().append(name, value);
        }
        response
    }

    /// The next frame; `None` at the end of the connection.
    ///
    /// # Panics
    ///
    /// Nothing comes in 10 s, or what comes is not a frame of a server.
    pub async fn frame(&mut self) -> Option<RawFrame> {
        loop {
            let parsed = codec::parse(&self.input, false).expect("a frame of a server");
            if let Some((codec::Frame { first, payload }, size)) = parsed {
                self.input.drain(..size);
                return Some(RawFrame { first, payload });
            }
            if !self.more().await {
                assert!(self.input.is_empty(), "the connection ends inside a frame");
                return None;
            }
        }
    }

    /// The next frame is a Close frame with this code, and nothing comes behind it. It is not
    /// answered.
    ///
    /// # Panics
    ///
    /// Something else comes, or nothing.
    pub async fn expect_close(&mut self, code: u16) {
        let frame = self.frame().await.expect("a Close frame");
        assert_eq!(frame.first, 0x88, "not a Close frame: {frame:x?}");
        let got = frame
            .payload
            .first_chunk()
            .map(|code| u16::from_be_bytes(*code));
        assert_eq!(got, Some(code), "another Close frame: {frame:x?}");
        assert_eq!(self.frame().await, None, "a frame behind the Close frame");
    }

    async fn more(&mut self) -> bool {
        let read = timeout(PATIENCE, self.io.read_buf(&mut self.input)).await;
        read.expect("something comes within 10 s").unwrap_or(0) > 0
    }
}

impl fmt::Debug for RawClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawClient").finish_non_exhaustive()
    }
}
