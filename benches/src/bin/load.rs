//! The load: echoes on many connections, one thread, and what they cost the server.
//!
//! `load --addr HOST:PORT --pid PID [--connections N] [--in-flight N] [--size BYTES]
//!     [--kind text|binary|utf8] [--warm-up SECONDS] [--seconds SECONDS | --messages N]`
//! keeps N messages in flight on each connection, and prints the server's CPU time per message.
//!
//! `load --idle --addr HOST:PORT --pid PID [--connections N] [--size BYTES] [--browser]`
//! prints the server's memory per quiet connection, fresh and after one message on each.
//!
//! It must be cheap, or it is what is measured: frames are masked before the start, and replies
//! are compared with the bytes that must come. That also makes a lost, torn or foreign reply
//! fail the run.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::retry_on_intr;
use tower_websocket_benches::{ACCEPT, BROWSER, REQUEST, flags};

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Connections with payloads of their own, so that one that gets another's reply is found.
const PAYLOADS: usize = 64;

/// Every payload up to this size is compared, and each 16th of larger ones: that is what they
/// cost, and the server shares the memory bus with us.
const COMPARED: usize = 1024;
const SAMPLE: u64 = 16;

/// A server that is silent for this long has lost something.
const PATIENCE: Duration = Duration::from_secs(10);

struct Options {
    addr: String,
    pid: u32,
    idle: bool,
    browser: bool,
    connections: usize,
    in_flight: usize,
    size: usize,
    kind: Kind,
    warm_up: Duration,
    time: Duration,
    messages: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Binary,
    /// Text of two to four bytes a character.
    Utf8,
}

fn main() -> Result {
    let options = Options::from_args()?;
    if options.idle {
        return idle(&options);
    }
    let payloads = options.payloads();
    let mut load = Load::connect(&options, &payloads)?;

    let start = Instant::now();
    load.run(|_| start.elapsed() >= options.warm_up)?;
    let (cpu, own, count) = (
        Cpu::of(options.pid)?,
        Cpu::of(std::process::id())?,
        load.count,
    );
    let start = Instant::now();
    load.run(|n| start.elapsed() >= options.time || n - count >= options.messages)?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu = Cpu::of(options.pid)?.since(cpu);
    let own = Cpu::of(std::process::id())?.since(own);
    let messages = load.count - count;
    load.finish()?;

    let per_message = |seconds: f64| seconds * 1e6 / messages as f64;
    println!(
        "{{\"messages\": {messages}, \"seconds\": {seconds:.3}, \"user_us\": {:.4}, \
         \"system_us\": {:.4}, \"cpu_us\": {:.4}, \"busy\": {:.3}, \"load_busy\": {:.3}}}",
        per_message(cpu.user),
        per_message(cpu.system),
        per_message(cpu.user + cpu.system),
        (cpu.user + cpu.system) / seconds,
        (own.user + own.system) / seconds,
    );
    Ok(())
}

/// Memory of connections on which nothing happens.
fn idle(options: &Options) -> Result {
    let payload = Payload::new(options, 0);
    let open = || open(options, &payload);
    // What the first connections and messages cost once and for all is none of theirs.
    for _ in 0..10 {
        open()?.echo()?;
    }
    sleep(Duration::from_secs(1));
    let before = rss_anon(options.pid)?;
    let mut connections = (0..options.connections)
        .map(|_| open())
        .collect::<Result<Vec<_>>>()?;
    sleep(Duration::from_secs(1));
    let fresh = rss_anon(options.pid)?;
    for connection in &mut connections {
        connection.echo()?;
    }
    sleep(Duration::from_secs(1));
    let after = rss_anon(options.pid)?;

    let each = |bytes: u64| bytes.saturating_sub(before) / options.connections as u64;
    println!(
        "{{\"connections\": {}, \"fresh\": {}, \"after_message\": {}}}",
        options.connections,
        each(fresh),
        each(after)
    );
    Ok(())
}

impl Options {
    fn from_args() -> Result<Self> {
        let mut options = Self {
            addr: flags().0,
            pid: 0,
            idle: false,
            browser: false,
            connections: 100,
            in_flight: 1,
            size: 64,
            kind: Kind::Text,
            warm_up: Duration::from_secs(1),
            time: Duration::from_secs(3),
            messages: u64::MAX,
        };
        let mut args = flags().1.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match &*arg {
                "--pid" => options.pid = value()?.parse()?,
                "--idle" => options.idle = true,
                "--browser" => options.browser = true,
                "--connections" => options.connections = value()?.parse()?,
                "--in-flight" => options.in_flight = value()?.parse()?,
                "--size" => options.size = value()?.parse()?,
                "--kind" => {
                    options.kind = match &*value()? {
                        "text" => Kind::Text,
                        "binary" => Kind::Binary,
                        "utf8" => Kind::Utf8,
                        kind => return Err(format!("no kind of message: {kind}").into()),
                    }
                }
                "--warm-up" => options.warm_up = Duration::from_secs_f64(value()?.parse()?),
                "--seconds" => options.time = Duration::from_secs_f64(value()?.parse()?),
                "--messages" => {
                    options.messages = value()?.parse()?;
                    options.time = Duration::MAX;
                }
                _ => return Err(format!("unknown flag {arg}").into()),
            }
        }
        Ok(options)
    }

    fn payloads(&self) -> Vec<Payload> {
        (0..PAYLOADS.min(self.connections))
            .map(|seed| Payload::new(self, seed))
            .collect()
    }
}

/// What a connection sends, and what it must get.
struct Payload {
    /// As many masked frames as are in flight, all the same.
    burst: Vec<u8>,
    /// The length of one.
    frame: usize,
    reply: Vec<u8>,
    reply_header: usize,
}

impl Payload {
    fn new(options: &Options, seed: usize) -> Self {
        let size = options.size;
        let mut payload: Vec<u8> = match options.kind {
            Kind::Text => (0..size)
                .map(|i| b'!' + ((i * 7 + seed) % 94) as u8)
                .collect(),
            Kind::Binary => (0..size).map(|i| (i * 7 + seed) as u8).collect(),
            Kind::Utf8 => {
                let words = ["Grüße ", "привет ", "こんにちは", "你好", "🦀🌍"];
                let endless = (seed..).flat_map(|i| words[i % words.len()].chars());
                let mut text = String::with_capacity(size);
                for char in endless {
                    if text.len() + char.len_utf8() > size {
                        break;
                    }
                    text.push(char);
                }
                text.into()
            }
        };
        payload.resize(size, b' ');

        let opcode = if options.kind == Kind::Binary {
            0x82
        } else {
            0x81
        };
        let header = |mask: u8| match size {
            0..126 => vec![opcode, mask | size as u8],
            126..65536 => [&[opcode, mask | 126], &(size as u16).to_be_bytes()[..]].concat(),
            _ => [&[opcode, mask | 127], &(size as u64).to_be_bytes()[..]].concat(),
        };
        let key = [0x37, 0xFA, 0x21, 0x3D];
        let masked = payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key);
        let mut frame = header(0x80);
        frame.extend_from_slice(&key);
        frame.extend(masked);
        let mut reply = header(0);
        let reply_header = reply.len();
        reply.append(&mut payload);
        Self {
            frame: frame.len(),
            burst: frame.repeat(options.in_flight),
            reply,
            reply_header,
        }
    }
}

struct Connection<'a> {
    socket: TcpStream,
    payload: &'a Payload,
    /// Bytes that may be sent, and where in the burst they begin.
    owed: usize,
    at: usize,
    /// Bytes of the present reply that have come.
    got: usize,
    /// Bytes of a ping that have not.
    skip: usize,
    replies: u64,
    /// Asked to be told when the socket takes more.
    blocked: bool,
}

/// Opens one connection. Blocking: it is not what is measured.
fn open<'a>(options: &Options, payload: &'a Payload) -> Result<Connection<'a>> {
    let mut socket = TcpStream::connect(&options.addr)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let browser = if options.browser { BROWSER } else { "" };
    let request = format!("{REQUEST}{browser}\r\n").replace("{host}", &options.addr);
    socket.write_all(request.as_bytes())?;
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n\r\n") {
        let mut buffer = [0; 1024];
        let n = socket.read(&mut buffer)?;
        response.extend_from_slice(&buffer[..n]);
        if n == 0 {
            return Err("no answer to the handshake".into());
        }
    }
    let response = String::from_utf8(response)?;
    if !response.starts_with("HTTP/1.1 101 ") || !response.contains(ACCEPT) {
        return Err(format!("refused: {response}").into());
    }
    Ok(Connection {
        socket,
        payload,
        owed: 0,
        at: 0,
        got: 0,
        skip: 0,
        replies: 0,
        blocked: false,
    })
}

impl Connection<'_> {
    /// Sends what is owed, as far as the socket takes it.
    fn send(&mut self) -> io::Result<()> {
        while self.owed > 0 {
            // Never past the end: no more is in flight than the burst is long.
            match self
                .socket
                .write(&self.payload.burst[self.at..][..self.owed])
            {
                Ok(n) => {
                    self.owed -= n;
                    self.at = (self.at + n) % self.payload.frame;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Takes what came, and returns how many replies are whole with it.
    fn take(&mut self, mut input: &[u8]) -> Result<u64> {
        let before = self.replies;
        let Payload {
            reply,
            reply_header,
            ..
        } = self.payload;
        while !input.is_empty() {
            if self.got == 0 && self.skip == 0 && input[0] == 0x89 {
                let [_, len, ..] = input else {
                    return Err("half a ping".into());
                };
                self.skip = 2 + usize::from(*len);
            }
            if self.skip > 0 {
                let n = self.skip.min(input.len());
                self.skip -= n;
                input = &input[n..];
                continue;
            }
            let n = input.len().min(reply.len() - self.got);
            let sampled = reply.len() <= COMPARED || self.replies.is_multiple_of(SAMPLE);
            let compared = if sampled {
                n
            } else {
                n.min(reply_header.saturating_sub(self.got))
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
    fn echo(&mut self) -> Result {
        let Payload { burst, frame, .. } = self.payload;
        self.socket.write_all(&burst[..*frame])?;
        self.receive()
    }

    fn receive(&mut self) -> Result {
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

struct Load<'a> {
    poll: OwnedFd,
    connections: Vec<Connection<'a>>,
    in_flight: usize,
    buffer: Vec<u8>,
    events: Vec<epoll::Event>,
    /// Replies.
    count: u64,
    sent: u64,
    stopped: bool,
}

impl<'a> Load<'a> {
    fn connect(options: &Options, payloads: &'a [Payload]) -> Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for i in 0..options.connections {
            let connection = open(options, &payloads[i % payloads.len()])?;
            connection.socket.set_nonblocking(true)?;
            let data = EventData::new_u64(i as u64);
            epoll::add(&poll, &connection.socket, data, EventFlags::IN)?;
            connections.push(connection);
        }
        let mut load = Self {
            poll,
            connections,
            in_flight: options.in_flight,
            buffer: vec![0; 256 * 1024],
            events: Vec::with_capacity(1024),
            count: 0,
            sent: 0,
            stopped: false,
        };
        for i in 0..load.connections.len() {
            load.order(i, load.in_flight as u64)?;
        }
        Ok(load)
    }

    /// Has connection `i` send `n` messages more.
    fn order(&mut self, i: usize, n: u64) -> Result {
        let connection = &mut self.connections[i];
        connection.owed += connection.payload.frame * n as usize;
        self.sent += n;
        self.send(i)
    }

    fn send(&mut self, i: usize) -> Result {
        let connection = &mut self.connections[i];
        connection.send()?;
        let blocked = connection.owed > 0;
        if blocked != connection.blocked {
            connection.blocked = blocked;
            let mut flags = EventFlags::IN;
            flags.set(EventFlags::OUT, blocked);
            let data = EventData::new_u64(i as u64);
            epoll::modify(&self.poll, &connection.socket, data, flags)?;
        }
        Ok(())
    }

    /// Answers each reply with a new message, until `done` says so of the number of replies.
    fn run(&mut self, done: impl Fn(u64) -> bool) -> Result {
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
        let n = connection.socket.read(&mut self.buffer)?;
        if n == 0 {
            return Err("the server closed a connection".into());
        }
        let replies = connection.take(&self.buffer[..n])?;
        self.count += replies;
        if replies > 0 && !self.stopped {
            self.order(i, replies)?;
        }
        Ok(())
    }

    /// Sends no more, and waits for what is on its way: every message has exactly one reply.
    fn finish(mut self) -> Result {
        self.stopped = true;
        let sent = self.sent;
        self.run(|count| count >= sent)?;
        if let Some(i) = self.connections.iter().position(|c| c.replies <= 1) {
            return Err(format!("connection {i} was starved").into());
        }
        Ok(())
    }
}

/// CPU time in seconds.
#[derive(Clone, Copy)]
struct Cpu {
    user: f64,
    system: f64,
}

impl Cpu {
    fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // proc(5): the name stands in brackets and may have spaces; utime and stime are the
        // 12th and 13th behind it.
        let (_, fields) = stat.rsplit_once(')').ok_or("no name in stat")?;
        let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let mut next =
            || -> Result<f64> { Ok(times.next().ok_or("stat is short")?? as f64 / ticks) };
        Ok(Self {
            user: next()?,
            system: next()?,
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            user: self.user - before.user,
            system: self.system - before.system,
        }
    }
}

/// Memory that is neither the program's file nor shared, in bytes.
fn rss_anon(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .ok_or("no RssAnon")?;
    Ok(kib.parse::<u64>()? * 1024)
}
