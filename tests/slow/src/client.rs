//! A client that reads at a rate, answers pings in the order in which it reads them, and counts.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::codec::{self, FrameHead, parse_head};
use crate::server::Log;
use crate::{Case, GIVEN_UP, Result, Via};

pub(crate) struct Seen {
    /// Bytes of the message.
    pub(crate) got: usize,
    pub(crate) took: Duration,
    pub(crate) end: String,
}

/// The slowest case needs less.
const PATIENCE: Duration = GIVEN_UP.saturating_add(Duration::from_secs(10));

pub(crate) async fn read(addr: SocketAddr, id: usize, case: Case, log: &Log) -> Seen {
    let start = Instant::now();
    let mut got = 0;
    let end = match timeout(PATIENCE, converse(addr, id, case, log, &mut got)).await {
        Ok(Ok(end)) => end,
        Ok(Err(e)) => e.to_string(),
        Err(_) => format!("no end in {PATIENCE:?}"),
    };
    Seen {
        got,
        took: start.elapsed(),
        end,
    }
}

async fn converse(
    addr: SocketAddr,
    id: usize,
    case: Case,
    log: &Log,
    got: &mut usize,
) -> Result<String> {
    let mut socket = TcpStream::connect(addr).await?;
    let request = format!(
        "GET /slow?{id} HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    if !head.starts_with(b"HTTP/1.1 101 ") {
        return Err(String::from_utf8_lossy(&head).into());
    }
    if case.rate == 0 {
        // The end cannot overtake the data that waits to be read, so only the server knows of it.
        log.closed(id, GIVEN_UP).await;
        return Ok("nothing".into());
    }
    let rate = match case.via {
        Via::Relay => None,
        _ => Some(case.rate),
    };
    let mut socket = Slow::new(socket, rate);
    // The message is whole; the server's Close frame is behind it.
    let (mut closing, mut closed) = (false, None);
    loop {
        let FrameHead { first, len, .. } = match socket.head().await {
            Ok(head) => head,
            Err(e) => match (closed, e.downcast_ref::<std::io::Error>()) {
                (Some(code), Some(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Ok(format!("{code} and the end"));
                }
                _ => return Err(format!("{e}, Close: {closed:?}").into()),
            },
        };
        match first & 0xF {
            0..=2 => {
                socket.skip(len, got).await?;
                if first & 0x80 != 0 && !case.server_closes {
                    closing = true;
                    socket.close(1000).await?;
                }
            }
            opcode => {
                let mut payload = vec![0; len];
                socket.fill(&mut payload).await?;
                let frame = codec::Frame { first, payload };
                match (opcode, frame.close_code()) {
                    (8, Some(code)) => {
                        closed = Some(code);
                        if !closing {
                            socket.close(1000).await?;
                        }
                    }
                    (9, _) => socket.send(0x8A, &frame.payload).await?,
                    _ => {}
                }
            }
        }
    }
}

/// A socket that is read at a rate.
struct Slow {
    socket: TcpStream,
    rate: Option<usize>,
    ticks: tokio::time::Interval,
    /// How many bytes may be read before the next tick.
    may: usize,
}

const TICK: Duration = Duration::from_millis(100);

impl Slow {
    fn new(socket: TcpStream, rate: Option<usize>) -> Self {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        Self {
            socket,
            rate,
            ticks,
            may: 0,
        }
    }

    async fn some(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let Some(rate) = self.rate else {
            return self.socket.read(into).await;
        };
        while self.may == 0 {
            self.ticks.tick().await;
            self.may = rate / 10;
        }
        let most = self.may.min(into.len());
        let n = self.socket.read(&mut into[..most]).await?;
        self.may -= n;
        Ok(n)
    }

    async fn fill(&mut self, mut into: &mut [u8]) -> std::io::Result<()> {
        while !into.is_empty() {
            let n = self.some(into).await?;
            if n == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            into = &mut into[n..];
        }
        Ok(())
    }

    /// The head of the next frame, and no byte of what follows it.
    async fn head(&mut self) -> Result<FrameHead> {
        let mut bytes = Vec::new();
        loop {
            if let Some(head) = parse_head(&bytes, false)? {
                return Ok(head);
            }
            let mut byte = [0];
            self.fill(&mut byte).await?;
            bytes.extend(byte);
        }
    }

    async fn skip(&mut self, mut len: usize, got: &mut usize) -> Result {
        let mut buffer = [0; 16 * 1024];
        while len > 0 {
            let most = len.min(buffer.len());
            let n = self.some(&mut buffer[..most]).await?;
            if n == 0 {
                return Err("the end inside the message".into());
            }
            len -= n;
            *got += n;
        }
        Ok(())
    }

    async fn close(&mut self, code: u16) -> Result {
        self.socket.write_all(&codec::close(code, "")).await?;
        Ok(())
    }

    async fn send(&mut self, first: u8, payload: &[u8]) -> Result {
        let frame = codec::frame(first, payload);
        Ok(self.socket.write_all(&frame).await?)
    }
}
