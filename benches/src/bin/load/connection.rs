//! One connection: what it has to send, and what it has got of a reply.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tower_websocket_benches::codec::text;
use tower_websocket_benches::{ACCEPT, BROWSER, REQUEST};

use crate::deflated::Replies;
use crate::payload::{Kind, Payload};
use crate::socket::Socket;
use crate::{Options, Result};

/// Every reply up to this size is compared, and each 16th of larger ones: that is what they
/// cost, and the server shares the memory bus with us.
const COMPARED: usize = 1024;
const SAMPLE: u64 = 16;

/// Without contexts, which is what all servers can be compared with.
const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
    client_no_context_takeover\r\n";

/// A server that is silent for this long has lost something.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Connection<'a> {
    pub(crate) socket: Socket,
    pub(crate) payload: &'a Payload,
    /// Each message in a write of its own.
    apart: bool,
    /// Bytes that may be sent, and where in the burst they begin.
    pub(crate) owed: usize,
    at: usize,
    /// Bytes of the present reply that have come.
    got: usize,
    /// Bytes of a ping that have not.
    skip: usize,
    pub(crate) replies: u64,
    pub(crate) deflated: Replies,
    /// Asked to be told when the socket takes more.
    pub(crate) blocked: bool,
    /// When the messages were sent whose replies have not come, how many at a time, and how many replies there
    /// had been.
    pub(crate) sent: VecDeque<(Instant, u64, u64)>,
}

/// Opens a WebSocket. Blocking, as all of its kind: it is not what is measured.
pub(crate) fn open<'a>(options: &Options, payload: &'a Payload) -> Result<Connection<'a>> {
    open_at(options, &options.addr, &options.path, payload)
}

/// The same, somewhere else.
pub(crate) fn open_at<'a>(
    options: &Options,
    addr: &str,
    path: &str,
    payload: &'a Payload,
) -> Result<Connection<'a>> {
    let mut connection = connect_to(options, addr, payload)?;
    let browser = if options.browser { BROWSER } else { "" };
    let offer = if payload.deflated { OFFER } else { "" };
    let request = format!("{REQUEST}{browser}{offer}\r\n")
        .replace("{host}", addr)
        .replace("/echo", path);
    if options.kind == Kind::SocketIo {
        connection.join(&request)?;
        return Ok(connection);
    }
    let response = connection.ask(&request)?;
    if !response.starts_with("HTTP/1.1 101 ") || !response.contains(ACCEPT) {
        return Err(format!("refused: {response}").into());
    }
    if payload.deflated && !response.contains("permessage-deflate") {
        return Err(format!("no compression: {response}").into());
    }
    Ok(connection)
}

/// Connects, and says nothing.
pub(crate) fn connect<'a>(options: &Options, payload: &'a Payload) -> Result<Connection<'a>> {
    connect_to(options, &options.addr, payload)
}

fn connect_to<'a>(options: &Options, addr: &str, payload: &'a Payload) -> Result<Connection<'a>> {
    let socket = TcpStream::connect(addr)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(Connection {
        socket: Socket::new(socket, options.tls)?,
        payload,
        apart: options.apart,
        owed: 0,
        at: 0,
        got: 0,
        skip: 0,
        replies: 0,
        deflated: Replies::default(),
        blocked: false,
        sent: VecDeque::new(),
    })
}

impl Connection<'_> {
    /// A request, and the head of the response.
    pub(crate) fn ask(&mut self, request: &str) -> Result<String> {
        self.socket.write_all(request.as_bytes())?;
        let mut response = Vec::new();
        while !response.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut buffer = [0; 1024];
            let n = self.socket.read(&mut buffer)?;
            response.extend_from_slice(&buffer[..n]);
            if n == 0 {
                return Err("no answer to the request".into());
            }
        }
        Ok(String::from_utf8(response)?)
    }

    /// The handshakes of WebSocket, Engine.IO and Socket.IO: its server greets at once, tells that the
    /// connection is open, and is asked for the namespace.
    fn join(&mut self, request: &str) -> Result {
        self.socket.write_all(request.as_bytes())?;
        let head = self.until(|input| input.ends_with(b"\r\n\r\n"))?;
        if !head.starts_with(b"HTTP/1.1 101 ") {
            return Err(format!("refused: {}", String::from_utf8_lossy(&head)).into());
        }
        if !self.until(end_of_frame)?.ends_with(b"}") {
            return Err("no greeting of Engine.IO".into());
        }
        self.socket.write_all(&text("40"))?;
        loop {
            match &self.until(end_of_frame)?[2..] {
                b"2" => self.socket.write_all(&text("3"))?,
                [b'4', b'0', ..] => return Ok(()),
                other => return Err(format!("refused: {}", String::from_utf8_lossy(other)).into()),
            }
        }
    }

    /// Reads a byte at a time, so that nothing is taken of what comes behind.
    fn until(&mut self, end: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
        let mut input = Vec::new();
        while !end(&input) {
            let mut byte = [0];
            self.socket.read_exact(&mut byte)?;
            input.extend(byte);
        }
        Ok(input)
    }

    /// Sends what is owed, as far as the socket takes it.
    pub(crate) fn send(&mut self) -> io::Result<()> {
        while self.owed > 0 {
            let most = if self.apart {
                self.owed.min(self.payload.frame - self.at)
            } else {
                self.owed
            };
            // Never past the end: no more is in flight than the burst is long.
            match self.socket.write(&self.payload.burst[self.at..][..most]) {
                Ok(n) => {
                    self.owed -= n;
                    self.at = (self.at + n) % self.payload.frame;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        match self.socket.flush() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            flushed => flushed,
        }
    }

    /// Takes what came, and returns how many replies are whole with it.
    pub(crate) fn take(&mut self, mut input: &[u8]) -> Result<u64> {
        let before = self.replies;
        if self.payload.deflated {
            self.replies += self.deflated.take(input, &self.payload.reply)?;
            return Ok(self.replies - before);
        }
        let Payload {
            reply,
            reply_header,
            compared,
            ..
        } = self.payload;
        while !input.is_empty() {
            if *compared && self.got == 0 && self.skip == 0 {
                match input {
                    [0x89, len, ..] => self.skip = 2 + usize::from(*len),
                    // Engine.IO's, which wants an answer within 20 s.
                    [0x81, 1, ..] if reply.len() > 3 => {
                        self.skip = 3;
                        if self.owed == 0 {
                            self.socket.write_all(&text("3"))?;
                        }
                    }
                    [0x89] => return Err("half a ping".into()),
                    _ => {}
                }
            }
            if self.skip > 0 {
                let n = self.skip.min(input.len());
                self.skip -= n;
                input = &input[n..];
                continue;
            }
            let n = input.len().min(reply.len() - self.got);
            let whole = reply.len() <= COMPARED || self.replies.is_multiple_of(SAMPLE);
            let compared = match (compared, whole) {
                (true, true) => n,
                (true, false) => n.min(reply_header.saturating_sub(self.got)),
                (false, _) => 0,
            };
            if input[..compared] != reply[self.got..][..compared] {
                return Err(format!(
                    "reply {} differs from what was sent, within {compared} bytes after byte {}",
                    self.replies, self.got
                )
                .into());
            }
            input = &input[n..];
            self.got += n;
            if self.got == reply.len() {
                self.got = 0;
                self.replies += 1;
            }
        }
        Ok(self.replies - before)
    }

    /// One message there and back, blocking.
    pub(crate) fn echo(&mut self) -> Result {
        let Payload { burst, frame, .. } = self.payload;
        self.socket.write_all(&burst[..*frame])?;
        let mut buffer = [0; 16 * 1024];
        loop {
            let n = self.socket.read(&mut buffer)?;
            if n == 0 {
                return Err("the server closed a connection".into());
            }
            if self.take(&buffer[..n])? > 0 {
                return Ok(());
            }
        }
    }
}

/// Whether a frame is there, whose header has the length in up to two bytes.
fn end_of_frame(input: &[u8]) -> bool {
    match input {
        [_, 126, a, b, ..] => input.len() == 4 + usize::from(u16::from_be_bytes([*a, *b])),
        [_, 126, ..] | [_] | [] => false,
        [_, len, ..] => input.len() == 2 + usize::from(*len),
    }
}
