//! The connection whose latency counts, and how any connection is opened.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tower_websocket_benches::codec::frame;
use tower_websocket_benches::{ACCEPT, REQUEST};

use crate::Result;

/// An echo that takes longer than this is not waited for, so that the whole table ends in time.
const PATIENCE: Duration = Duration::from_secs(3);

/// Echoes that take longer count into [`Seen::slow`].
const SLOW: Duration = Duration::from_millis(5);

/// The pause between an echo and the next message. Without one, the victim itself would take so much
/// of a fair server that the floods' throughput would drop.
const PAUSE: Duration = Duration::from_micros(500);

const SIZE: usize = 64;

pub(crate) struct Victim {
    socket: TcpStream,
}

/// What it saw.
pub(crate) struct Seen {
    pub(crate) echoes: u64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) worst: Duration,
    /// The last echo did not come in time.
    pub(crate) unanswered: bool,
    /// The share of the time that went by waiting for echoes that took longer than [`SLOW`]. One
    /// message is in flight, so a thousand quick echoes hide a second without any from the p99.
    pub(crate) slow: f64,
}

impl Victim {
    pub(crate) fn open(addr: SocketAddr) -> Result<Self> {
        let mut victim = Self {
            socket: open(addr, "/echo", "")?,
        };
        victim.socket.set_read_timeout(Some(PATIENCE))?;
        victim.echo()?;
        Ok(victim)
    }

    pub(crate) fn measure(&mut self, time: Duration) -> Result<Seen> {
        let mut latency = Histogram::<u64>::new_with_max(60_000_000_000, 3)?;
        let (mut slow, mut worst, mut unanswered) = (Duration::ZERO, Duration::ZERO, false);
        let start = Instant::now();
        while start.elapsed() < time && !unanswered {
            sleep(PAUSE);
            let sent = Instant::now();
            unanswered = !self.echo()?;
            let took = sent.elapsed();
            latency.saturating_record(took.as_nanos() as u64);
            worst = worst.max(took);
            if took > SLOW {
                slow += took;
            }
        }
        let at = |quantile| Duration::from_nanos(latency.value_at_quantile(quantile));
        Ok(Seen {
            echoes: latency.len(),
            p50: at(0.5),
            p99: at(0.99).min(worst),
            worst,
            unanswered,
            slow: slow.as_secs_f64() / start.elapsed().as_secs_f64(),
        })
    }

    /// There and back; false if the echo does not come in time.
    fn echo(&mut self) -> Result<bool> {
        let message = [b'x'; SIZE];
        self.socket.write_all(&frame(0x81, &message))?;
        let mut reply = [0; 2 + SIZE];
        match self.socket.read_exact(&mut reply) {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(false);
            }
            Err(e) => return Err(format!("the victim: {e}").into()),
        }
        if reply[..2] != [0x81, SIZE as u8] || reply[2..] != message {
            return Err("the victim's echo differs from what was sent".into());
        }
        Ok(true)
    }
}

/// Opens a WebSocket, with these header lines more.
pub(crate) fn open(addr: SocketAddr, path: &str, lines: &str) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(addr)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request = format!("{REQUEST}{lines}\r\n")
        .replace("{host}", &addr.to_string())
        .replace("/echo", path);
    socket.write_all(request.as_bytes())?;
    let (mut response, mut byte) = (Vec::new(), [0]);
    // A byte at a time: nothing behind the head is taken.
    while !response.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte)?;
        response.extend(byte);
    }
    let response = String::from_utf8(response)?;
    if !response.starts_with("HTTP/1.1 101 ")
        || !response.contains(ACCEPT)
        || response.contains("permessage-deflate") != lines.contains("permessage-deflate")
    {
        return Err(format!("refused: {response}").into());
    }
    Ok(socket)
}
