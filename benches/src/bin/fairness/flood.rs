//! The connections that flood.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use flate2::{Compress, Compression, FlushCompress};
use tower_websocket_benches::codec::frame;

use crate::Result;
use crate::victim::open;

pub(crate) struct Flood {
    pub(crate) name: &'static str,
    path: &'static str,
    /// The messages, one frame each, that are sent over and over.
    burst: fn() -> Vec<u8>,
    /// How often a burst is sent; `None` sends as fast as the server reads.
    every: Option<Duration>,
    /// What a message counts in the table.
    unit: Unit,
}

enum Unit {
    Messages,
    /// MiB, so many bytes a message.
    Bytes(usize),
}

pub(crate) static FLOODS: [Flood; 5] = [
    // 142 messages of 14 bytes on the wire each 2 ms: 1 MB/s, and 0.7 s of work.
    Flood {
        name: "messages",
        path: "/busy",
        burst: || frame(0x82, &[7; 8]).repeat(142),
        every: Some(Duration::from_millis(2)),
        unit: Unit::Messages,
    },
    Flood {
        name: "pull",
        path: "/pull",
        burst: || frame(0x82, &[7; 8]).repeat(4096),
        every: None,
        unit: Unit::Messages,
    },
    Flood {
        name: "pull_idle",
        path: "/pull_idle",
        burst: || frame(0x82, &[7; 8]).repeat(4096),
        every: None,
        unit: Unit::Messages,
    },
    Flood {
        name: "bombs",
        path: "/inflate",
        burst: || frame(0xC2, &bomb()).repeat(64),
        every: None,
        unit: Unit::Bytes(BOMB),
    },
    Flood {
        name: "finals",
        path: "/inflate",
        burst: || frame(0xC2, &finals()),
        every: None,
        unit: Unit::Bytes(FINALS),
    },
];

/// How late a burst may be and still be followed by the next at once.
const LATE: Duration = Duration::from_millis(20);

/// Zeros in a message of `bombs`: the default limit.
const BOMB: usize = 1 << 20;
/// A message of `finals` on the wire.
const FINALS: usize = 1 << 16;

/// A MiB of zeros, compressed as RFC 7692 §7.2.1 has it.
fn bomb() -> Vec<u8> {
    let mut bomb = Vec::with_capacity(BOMB);
    Compress::new(Compression::best(), false)
        .compress_vec(&vec![0; BOMB], &mut bomb, FlushCompress::Sync)
        .expect("there is room");
    bomb.truncate(bomb.len() - 4);
    bomb
}

/// 32,767 final blocks with nothing in them, and the byte that RFC 7692 §7.2.3.4 asks for behind
/// the last.
fn finals() -> Vec<u8> {
    let mut finals = [0x03, 0x00].repeat(FINALS / 2);
    finals.truncate(FINALS - 2);
    finals.push(0x00);
    finals
}

impl Flood {
    pub(crate) fn open(&'static self, addr: SocketAddr) -> Result<Flooding> {
        let lines = match self.path {
            "/inflate" => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
            _ => "",
        };
        let socket = open(addr, self.path, lines)?;
        socket.set_read_timeout(None)?;
        Ok(Flooding {
            flood: self,
            socket,
            closed: Arc::default(),
            threads: Vec::new(),
        })
    }

    /// So many messages a second.
    pub(crate) fn shown(&self, rate: f64) -> String {
        match self.unit {
            Unit::Messages => format!("{rate:.0} messages/s"),
            Unit::Bytes(bytes) => format!("{:.1} MiB/s", rate * bytes as f64 / (1 << 20) as f64),
        }
    }
}

/// One connection of a flood, with a thread to write and one to read.
pub(crate) struct Flooding {
    flood: &'static Flood,
    socket: TcpStream,
    closed: Arc<Mutex<Option<String>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Flooding {
    pub(crate) fn start(&mut self) -> Result {
        let mut socket = self.socket.try_clone()?;
        let flood = self.flood;
        let burst = (flood.burst)();
        self.threads.push(spawn(move || {
            let mut due = Instant::now();
            // Until the socket ends; the other thread finds out why.
            while socket.write_all(&burst).is_ok() {
                if let Some(every) = flood.every {
                    // The thread catches up after a delay by the scheduler, but not after one by a
                    // slow server.
                    let now = Instant::now();
                    due = (due + every).max(now.checked_sub(LATE).unwrap_or(now));
                    sleep(due.saturating_duration_since(now));
                }
            }
        }));
        let mut socket = self.socket.try_clone()?;
        let closed = self.closed.clone();
        self.threads.push(spawn(move || {
            // The server sends these connections nothing but a Close frame.
            let mut read = [0; 128];
            let why = match socket.read(&mut read) {
                Ok(n @ 4..) if read[0] == 0x88 => format!(
                    "closed with {} {}",
                    u16::from_be_bytes([read[2], read[3]]),
                    String::from_utf8_lossy(&read[4..n]),
                ),
                _ => "closed without a code".into(),
            };
            *closed.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        }));
        Ok(())
    }

    /// Why the server closed it, if it did.
    pub(crate) fn closed(&self) -> Option<String> {
        let closed = self.closed.lock();
        closed.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn end(self) {
        // It may have ended already.
        let _ = self.socket.shutdown(Shutdown::Both);
        for thread in self.threads {
            thread.join().expect("it does not panic");
        }
    }
}
