//! [`Client`]: one connection, as bytes and frames. It reads and writes at the same time, and
//! knows nothing of what is right.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpSocket;
use tokio::time::{Instant, timeout, timeout_at};

use crate::codec::{self, Frame, parse};
use crate::deflate::{deflate, inflate};
use crate::random::Random;

pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// How long a handshake, or anything else that costs no time, may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What to ask for.
#[derive(Clone, Copy, Default)]
pub struct Ask {
    pub deflate: bool,
    /// Header lines in place of the right `Sec-WebSocket-Version` and key.
    pub headers: Option<&'static str>,
    /// Closing resets the connection.
    pub reset: bool,
    /// A small receive buffer, so that the server is soon blocked.
    pub narrow: bool,
    pub http2: bool,
}

/// What the server sent.
pub enum Got {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    /// The end of the stream; of an orderly one, unless it was reset.
    End {
        reset: bool,
    },
}

pub struct Client {
    io: Box<dyn Io>,
    pub random: Random,
    input: BytesMut,
    output: BytesMut,
    deflate: bool,
    /// Of a message in several frames: its first byte and what came.
    partial: Option<(u8, Vec<u8>)>,
    broken: bool,
}

/// With the key of RFC 6455 §1.3.
pub const RIGHT: &str =
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub fn request(ask: Ask) -> String {
    let headers = ask.headers.unwrap_or(RIGHT);
    let deflate = if ask.deflate {
        "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
    } else {
        ""
    };
    format!(
        "GET /soak HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\n{headers}{deflate}\r\n"
    )
}

impl Client {
    /// Connected, nothing sent yet.
    pub async fn connect(addr: SocketAddr, ask: Ask, random: Random) -> Result<Self, String> {
        let connected = async {
            let socket = TcpSocket::new_v4()?;
            if ask.narrow {
                socket.set_recv_buffer_size(64 * 1024)?;
            }
            let socket = socket.connect(addr).await?;
            socket.set_nodelay(true)?;
            if ask.reset {
                socket.set_zero_linger()?;
            }
            io::Result::Ok(socket)
        };
        match timeout(PATIENCE, connected).await {
            Ok(Ok(socket)) => Ok(Self::new(Box::new(socket), random)),
            Ok(Err(e)) => Err(format!("connect: {e}")),
            Err(_) => Err("connect: no answer".into()),
        }
    }

    fn new(io: Box<dyn Io>, random: Random) -> Self {
        Self {
            io,
            random,
            input: BytesMut::new(),
            output: BytesMut::new(),
            deflate: false,
            partial: None,
            broken: false,
        }
    }

    /// A WebSocket that is open.
    pub async fn join(addr: SocketAddr, ask: Ask, random: Random) -> Result<Self, String> {
        let mut client = Self::connect(addr, ask, random).await?;
        if ask.http2 {
            let random = client.random.clone();
            let io = timeout(PATIENCE, http2(client.io))
                .await
                .map_err(|_| "HTTP/2: no answer")?
                .map_err(|e| format!("HTTP/2: {e}"))?;
            return Ok(Self::new(io, random));
        }
        client.send(request(ask).as_bytes());
        let head = client.head().await?;
        if !head.starts_with("HTTP/1.1 101 ") || !head.contains(ACCEPT) {
            return Err(format!("handshake: {head:?}"));
        }
        client.deflate = head.contains("permessage-deflate");
        if client.deflate != ask.deflate {
            return Err(format!("handshake: {head:?}"));
        }
        Ok(client)
    }

    /// The head of a response; empty if the connection ends without one.
    pub async fn head(&mut self) -> Result<String, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.input.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = self.input.split_to(at + 4);
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            match timeout_at(deadline, self.step(usize::MAX)).await {
                Err(_) => return Err("no answer to the handshake".into()),
                Ok(Step::End { .. }) => return Ok(String::new()),
                Ok(Step::Read) => {}
            }
        }
    }

    // ---- out

    /// Puts bytes behind what is to be written; the other functions write them.
    pub fn send(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    pub fn frame(&mut self, first: u8, payload: &[u8]) {
        let key = (self.random.next() as u32).to_ne_bytes();
        self.send(&codec::frame_with_key(first, payload, key));
    }

    /// A message: whole or in pieces, plain or compressed.
    pub fn message(&mut self, text: bool, payload: &[u8]) {
        let opcode = if text { 1 } else { 2 };
        let compress = self.deflate && self.random.percent(50);
        let packed = compress.then(|| deflate(payload));
        let mut rest = packed.as_deref().unwrap_or(payload);
        let mut first = if compress { 0x40 | opcode } else { opcode };
        if self.random.percent(25) {
            for _ in 0..self.random.between(1, 5) {
                let n = self.random.between(0, rest.len() as u64 + 1) as usize;
                let (piece, more) = rest.split_at(n);
                self.frame(first, piece);
                (first, rest) = (0, more);
            }
        }
        self.frame(0x80 | first, rest);
    }

    pub fn close(&mut self, code: u16) {
        self.frame(0x88, &[&code.to_be_bytes()[..], b"bye"].concat());
    }

    /// Writes all, and reads nothing; `Err` if the server is gone.
    pub async fn flush(&mut self, deadline: Instant) -> Result<(), ()> {
        let written = timeout_at(deadline, async {
            self.io.write_all_buf(&mut self.output).await?;
            self.io.flush().await
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            _ => Err(()),
        }
    }

    /// Whether all that was sent is written.
    pub fn is_flushed(&self) -> bool {
        self.output.is_empty()
    }

    /// Ends our side of the stream.
    pub async fn half_close(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        if self.flush(deadline).await.is_ok() {
            // What the server makes of it is seen when reading.
            let _ = timeout_at(deadline, self.io.shutdown()).await;
        }
    }

    // ---- in

    /// The next thing from the server; `None` at the deadline.
    pub async fn next(&mut self, deadline: Instant) -> Result<Option<Got>, String> {
        loop {
            if let Some((frame, size)) = parse(&self.input, self.deflate)? {
                self.input.advance(size);
                if self.input.is_empty() {
                    // Memory is for those who speak.
                    self.input = BytesMut::new();
                }
                if let Some(got) = self.interpret(frame)? {
                    return Ok(Some(got));
                }
                continue;
            }
            match timeout_at(deadline, self.step(usize::MAX)).await {
                Err(_) => return Ok(None),
                Ok(Step::Read) => {}
                Ok(Step::End { reset }) => {
                    if !reset && !self.input.is_empty() {
                        return Err("the stream ends inside a frame".into());
                    }
                    return Ok(Some(Got::End { reset }));
                }
            }
        }
    }

    /// Reads some of at most `most` bytes, whatever they are, and drops them; `Err` if the
    /// server is gone.
    pub async fn sip(&mut self, most: usize, deadline: Instant) -> Result<(), ()> {
        match timeout_at(deadline, self.step(most)).await {
            Ok(Step::End { .. }) => Err(()),
            _ if self.broken => Err(()),
            _ => {
                self.input.clear();
                Ok(())
            }
        }
    }

    /// Waits for a Close frame with this code and the end of the stream.
    pub async fn expect_close(&mut self, code: u16, within: Duration) -> Result<(), String> {
        let deadline = Instant::now() + within;
        let mut closed = false;
        loop {
            match self.next(deadline).await? {
                None if closed => return Err(format!("no end after the Close {code}")),
                None => return Err(format!("no Close {code} within {within:?}")),
                Some(Got::Close(got)) if got == Some(code) && !closed => closed = true,
                Some(Got::Close(got)) => return Err(format!("Close {got:?}, not {code}")),
                Some(Got::End { reset: false }) if closed => return Ok(()),
                Some(Got::End { reset }) => {
                    return Err(format!(
                        "reset: {reset}, closed: {closed}, not Close {code}"
                    ));
                }
                Some(_) if closed => return Err("something behind the Close frame".into()),
                Some(_) => {}
            }
        }
    }

    /// Waits for the end of the stream, whatever comes before it.
    pub async fn expect_end(&mut self, within: Duration) -> Result<(), String> {
        let deadline = Instant::now() + within;
        loop {
            match timeout_at(deadline, self.step(usize::MAX)).await {
                Err(_) => return Err(format!("not ended within {within:?}")),
                Ok(Step::End { .. }) => return Ok(()),
                Ok(Step::Read) => self.input.clear(),
            }
        }
    }

    fn interpret(&mut self, frame: Frame) -> Result<Option<Got>, String> {
        let code = frame.close_code();
        let Frame { first, payload } = frame;
        Ok(Some(match first & 0xF {
            8 => Got::Close(code),
            9 => Got::Ping(payload),
            10 => Got::Pong(payload),
            opcode => {
                let (begin, mut whole) = match (opcode, self.partial.take()) {
                    (0, Some(partial)) => partial,
                    (1 | 2, None) => (first, Vec::new()),
                    _ => return Err("fragments in disorder".into()),
                };
                whole.extend(payload);
                if first & 0x80 == 0 {
                    self.partial = Some((begin, whole));
                    return Ok(None);
                }
                if begin & 0x40 != 0 {
                    whole = inflate(&whole, 1 << 20)?;
                }
                if begin & 0xF == 1 {
                    Got::Text(whole)
                } else {
                    Got::Binary(whole)
                }
            }
        }))
    }

    /// Writes what can be written and reads what can be read, until something was read.
    async fn step(&mut self, most: usize) -> Step {
        let most = most.min(16 * 1024);
        let mut room = [0; 16 * 1024];
        poll_fn(|cx| {
            while !self.output.is_empty() && !self.broken {
                match Pin::new(&mut self.io).poll_write(cx, &self.output) {
                    Poll::Ready(Ok(n)) => self.output.advance(n),
                    // What the server said before it left can still be read.
                    Poll::Ready(Err(_)) => self.broken = true,
                    Poll::Pending => break,
                }
            }
            let mut buf = ReadBuf::new(&mut room[..most]);
            let read = Pin::new(&mut self.io).poll_read(cx, &mut buf);
            read.map(|read| match read {
                Ok(()) if buf.filled().is_empty() => Step::End { reset: false },
                Ok(()) => {
                    self.input.extend_from_slice(buf.filled());
                    Step::Read
                }
                Err(_) => Step::End { reset: true },
            })
        })
        .await
    }
}

enum Step {
    Read,
    End { reset: bool },
}

/// A stream of a connection of its own, by extended CONNECT (RFC 8441).
async fn http2(io: Box<dyn Io>) -> Result<Box<dyn Io>, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await?;
    tokio::spawn(connection);
    // That CONNECT may name a protocol, the server's first frame says: it is here with the
    // first answer.
    let plain = Request::get("http://localhost/stats").body(Empty::<Bytes>::new())?;
    sender
        .send_request(plain)
        .await?
        .into_body()
        .collect()
        .await?;
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri("http://localhost/soak")
        .header("sec-websocket-version", "13")
        .body(Empty::new())?;
    let protocol = Protocol::from_static("websocket");
    request.extensions_mut().insert(protocol);
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        return Err(format!("{:?}", response.status()).into());
    }
    Ok(Box::new(TokioIo::new(hyper::upgrade::on(response).await?)))
}
