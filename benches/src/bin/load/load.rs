//! Many connections at a time, on one thread.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::time::Instant;

use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::retry_on_intr;

use tower_websocket_benches::rooms;

use crate::Result;
use crate::connection::{Connection, PATIENCE};
use crate::socket::Socket;

/// Messages from one to many, in rounds: the next ones are sent once all have got those of the last.
#[derive(Clone, Copy)]
pub(crate) struct Many {
    /// Those that get a message.
    pub(crate) receivers: u64,
    /// How many of the connections send in a round, one after the other; of two rounds, other ones.
    pub(crate) senders: usize,
    /// In a room; otherwise all get what the first connection sends.
    pub(crate) in_rooms: bool,
}

pub(crate) struct Load<'a> {
    poll: OwnedFd,
    connections: Vec<Connection<'a>>,
    /// A message is answered on several connections.
    many: Option<Many>,
    /// Messages that one sends at a time.
    burst: u64,
    /// As many of the first connections are not looked at for their latency.
    greedy: usize,
    buffer: Vec<u8>,
    events: Vec<epoll::Event>,
    /// Replies.
    pub(crate) count: u64,
    sent: u64,
    /// The first that sends in the next round, and when this round began.
    next: usize,
    begun: Instant,
    /// Messages that each connection has sent.
    orders: Vec<u64>,
    stopped: bool,
    /// From the write of a message to the read that completes its reply, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// Replies that all got meanwhile: as many as there are connections if the server is fair. A machine that
    /// is busy does not change that.
    pub(crate) between: Histogram<u64>,
}

impl<'a> Load<'a> {
    pub(crate) fn new(
        connections: Vec<Connection<'a>>,
        many: Option<Many>,
        greedy: usize,
    ) -> Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (i, connection) in connections.iter().enumerate() {
            connection.socket.tcp.set_nonblocking(true)?;
            let data = EventData::new_u64(i as u64);
            epoll::add(&poll, &connection.socket.tcp, data, EventFlags::IN)?;
        }
        let burst = connections[0].payload.in_flight();
        let mut load = Self {
            poll,
            orders: vec![0; connections.len()],
            connections,
            many,
            burst,
            greedy,
            buffer: vec![0; 256 * 1024],
            events: Vec::with_capacity(1024),
            count: 0,
            sent: 0,
            next: 0,
            begun: Instant::now(),
            stopped: false,
            // Three digits, up to a minute.
            latency: Histogram::new_with_max(60_000_000_000, 3)?,
            between: Histogram::new_with_max(60_000_000_000, 3)?,
        };
        if let Some(many) = many {
            load.round(many)?;
        } else {
            for i in 0..load.connections.len() {
                let payload = load.connections[i].payload;
                load.order(i, payload.in_flight())?;
            }
        }
        Ok(load)
    }

    /// The senders of a round send.
    fn round(&mut self, many: Many) -> Result {
        self.begun = Instant::now();
        for _ in 0..many.senders {
            let i = self.next;
            self.orders[i] += self.burst;
            self.order(i, self.burst)?;
            self.connections[i].sent.clear();
            if many.in_rooms {
                self.next = (i + 1) % self.connections.len();
            }
        }
        Ok(())
    }

    /// Has connection `i` send `n` messages more.
    fn order(&mut self, i: usize, n: u64) -> Result {
        let connection = &mut self.connections[i];
        connection.owed += connection.payload.frame * n as usize;
        connection.sent.push_back((Instant::now(), n, self.count));
        self.sent += n;
        self.send(i)
    }

    fn send(&mut self, i: usize) -> Result {
        let connection = &mut self.connections[i];
        connection.send()?;
        let blocked = connection.owed > 0 || connection.socket.wants_write();
        if blocked != connection.blocked {
            connection.blocked = blocked;
            let mut flags = EventFlags::IN;
            flags.set(EventFlags::OUT, blocked);
            let data = EventData::new_u64(i as u64);
            epoll::modify(&self.poll, &connection.socket.tcp, data, flags)?;
        }
        Ok(())
    }

    /// Answers each reply with a new message, until `done` says so of the number of replies.
    pub(crate) fn run(&mut self, done: impl Fn(u64) -> bool) -> Result {
        let patience = Timespec::try_from(PATIENCE)?;
        while !done(self.count) {
            self.events.clear();
            let ready = retry_on_intr(|| {
                epoll::wait(
                    &self.poll,
                    spare_capacity(&mut self.events),
                    Some(&patience),
                )
            });
            if ready? == 0 {
                return Err(format!("no reply for {PATIENCE:?}").into());
            }
            let events = std::mem::take(&mut self.events);
            for event in &events {
                let (i, flags) = (event.data.u64() as usize, event.flags);
                if flags.contains(EventFlags::OUT) {
                    self.send(i)?;
                }
                if flags != EventFlags::OUT {
                    self.read(i)?;
                }
            }
            self.events = events;
        }
        Ok(())
    }

    fn read(&mut self, i: usize) -> Result {
        let connection = &mut self.connections[i];
        let n = connection.socket.read_some(&mut self.buffer)?;
        let replies = connection.take(&self.buffer[..n])?;
        if replies == 0 {
            return Ok(());
        }
        self.count += replies;
        if let Some(many) = self.many {
            if i >= self.greedy {
                self.latency.saturating_record_n(nanos(self.begun), replies);
            }
            let round = many.receivers * self.burst * many.senders as u64;
            if self.count.is_multiple_of(round) && !self.stopped {
                self.round(many)?;
            }
            return Ok(());
        }
        let mut missing = replies;
        while let Some((sent, n, before)) = connection.sent.front_mut() {
            let these = missing.min(*n);
            if i >= self.greedy {
                self.latency.saturating_record_n(nanos(*sent), these);
                self.between
                    .saturating_record_n(self.count - *before, these);
            }
            missing -= these;
            *n -= these;
            if *n > 0 {
                break;
            }
            connection.sent.pop_front();
        }
        if !self.stopped {
            self.order(i, replies)?;
        }
        Ok(())
    }

    /// The bytes of a reply on the wire, in the middle of those that are compressed.
    pub(crate) fn reply_bytes(&self) -> usize {
        let bytes = self.connections.iter().map(|c| c.deflated.bytes());
        bytes.sum::<usize>() / self.connections.len()
    }

    /// Sends no more, and waits for what is on its way: every message has exactly one reply.
    pub(crate) fn finish(mut self) -> Result {
        self.stopped = true;
        let each = self.many.map_or(1, |many| many.receivers);
        let due = self.sent * each;
        self.run(|count| count >= due)?;
        for (i, connection) in self.connections.iter().enumerate() {
            let is_right = match self.many {
                None => connection.replies > 1,
                Some(Many { in_rooms: true, .. }) => {
                    connection.replies == rooms(i).map(|room| self.orders[room]).sum::<u64>()
                }
                Some(_) => connection.replies == self.sent,
            };
            if !is_right {
                return Err(format!("connection {i} got {} messages", connection.replies).into());
            }
        }
        Ok(())
    }
}

fn nanos(since: Instant) -> u64 {
    since.elapsed().as_nanos() as u64
}

trait ReadSome {
    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize>;
}

impl ReadSome for Socket {
    /// The end of the stream is an error. Nothing: that was a part of a record of TLS.
    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self.read(buffer) {
            Ok(0) => Err("the server closed a connection".into()),
            Ok(n) => Ok(n),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(e) => Err(e.into()),
        }
    }
}
