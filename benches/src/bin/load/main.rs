//! The load, one thread, and what it costs the server: `load --addr HOST:PORT --pid PID MODE`.
//!
//! - `[--connections N] [--in-flight N] [--size BYTES] [--kind text|binary|utf8|json] [--deflate]
//!   [--warm-up SECONDS] [--seconds SECONDS | --messages N]`: echoes, N in flight on each
//!   connection. With `--greedy N`, as many connections beside them send as fast as they can.
//!   `--tls` is over rustls, whatever the server's certificate is. `--http2 N` has the connections as
//!   streams of N connections of HTTP/2. `--apart` puts each message into a write of its own, and so
//!   into a TLS record or a DATA frame of its own.
//! - `--broadcast [--in-flight N] [--stuck N]`: the first connection sends N messages at a time, and
//!   every one must get them, on `/broadcast`. Beside them, as many as are stuck read nothing.
//!   With `--to HOST:PORT --to-pid PID` all but the first are connections of another node, and only
//!   their latency counts.
//! - `--rooms [--senders N]`: 10,000 connections and rooms, each in ten of the other, on `/rooms`. N
//!   connections at a time send, each to a room of its own.
//! - `--socketio`: in these two modes, the server is one of Socket.IO's.
//! - `--http`: plain requests on connections that are kept.
//! - `--handshakes`: connect, upgrade, close, one after the other, at most `--rate N` in a second.
//!   `--gets`: connect, a plain request that asks to close, close.
//! - `--idle [--browser]`: memory of quiet connections, fresh and after messages on each.
//!
//! It must be cheap, or it is what is measured: frames are masked before the start, and replies
//! are compared with the bytes that must come. That also makes a lost, torn or foreign reply
//! fail the run.

mod connection;
mod deflated;
mod http2;
mod load;
mod payload;
mod process;
mod socket;

use std::io::{Read, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use tower_websocket_benches::{MEMBERS, ROOMS, flags};

use crate::connection::{Connection, connect, open, open_at};
use crate::load::{Load, Many};
use crate::payload::{Kind, PAYLOADS, Payload, plain_request};
use crate::process::{Cpu, rss_anon};

type BoxError = Box<dyn std::error::Error>;
type Result<T = (), E = BoxError> = std::result::Result<T, E>;

/// Messages that a greedy connection has in flight.
const GREEDY: usize = 1024;

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Echo,
    Broadcast,
    Rooms,
    Http,
    Handshakes,
    Gets,
    Idle,
}

struct Options {
    addr: String,
    path: String,
    pid: u32,
    to: Option<String>,
    to_pid: u32,
    senders: usize,
    mode: Mode,
    browser: bool,
    deflate: bool,
    tls: bool,
    http2: usize,
    connections: usize,
    greedy: usize,
    stuck: usize,
    in_flight: usize,
    apart: bool,
    size: usize,
    kind: Kind,
    warm_up: Duration,
    time: Duration,
    messages: u64,
    rate: f64,
}

fn main() -> Result {
    let options = Options::from_args()?;
    match options.mode {
        Mode::Echo if options.http2 > 0 => http2::steady(&options),
        Mode::Echo | Mode::Broadcast | Mode::Rooms | Mode::Http => steady(&options),
        Mode::Handshakes | Mode::Gets => visits(&options),
        Mode::Idle => idle(&options),
    }
}

/// Messages on connections that stay.
fn steady(options: &Options) -> Result {
    let mut payloads: Vec<Payload> = match options.mode {
        Mode::Http => {
            let example = Payload::new(Kind::Text, 0, 1, 0);
            let response = connect(options, &example)?.ask(&plain_request("keep-alive"))?;
            vec![Payload::http(response.into_bytes())]
        }
        Mode::Broadcast | Mode::Rooms => vec![options.payload(options.in_flight, 0)],
        _ => (0..PAYLOADS.min(options.connections))
            .map(|seed| options.payload(options.in_flight, seed))
            .collect(),
    };
    let ordinary = payloads.len();
    if options.greedy > 0 {
        payloads.push(options.payload(GREEDY, PAYLOADS));
    }
    let all = options.greedy + options.connections;
    let connections = (0..all)
        .map(|i| match i.checked_sub(options.greedy) {
            None => open(options, &payloads[ordinary]),
            Some(_) if options.mode == Mode::Http => connect(options, &payloads[0]),
            Some(i) if options.mode == Mode::Rooms => {
                let path = match options.kind {
                    Kind::SocketIo => format!("{}&room={i}", options.path),
                    _ => format!("{}/{i}", options.path),
                };
                open_at(options, &options.addr, &path, &payloads[0])
            }
            Some(i) => {
                let elsewhere = options.to.as_ref().filter(|_| i > 0);
                let addr = elsewhere.unwrap_or(&options.addr);
                open_at(options, addr, &options.path, &payloads[i % ordinary])
            }
        })
        .collect::<Result<Vec<_>>>()?;
    // They are open until the end.
    let stuck = (0..options.stuck).map(|_| stuck(options, &payloads[0]));
    let stuck = stuck.collect::<Result<Vec<_>>>()?;
    let many = match options.mode {
        Mode::Broadcast => Some(Many {
            receivers: all as u64,
            senders: 1,
            in_rooms: false,
        }),
        Mode::Rooms => Some(Many {
            receivers: MEMBERS as u64,
            senders: options.senders,
            in_rooms: true,
        }),
        _ => None,
    };
    let unmeasured = options.greedy + usize::from(options.to.is_some());
    let mut load = Load::new(connections, many, unmeasured)?;

    let start = Instant::now();
    load.run(|_| start.elapsed() >= options.warm_up)?;
    load.latency.reset();
    load.between.reset();
    let count = load.count;
    let mut measured = Measured::start(options)?;
    let start = Instant::now();
    load.run(|n| start.elapsed() >= options.time || n - count >= options.messages)?;
    let (messages, latency) = (load.count - count, load.latency.clone());
    measured.between_p99 = load.between.value_at_quantile(0.99);
    measured.print(messages, &latency, load.reply_bytes())?;
    load.finish()?;
    drop(stuck);
    Ok(())
}

/// A connection that nobody reads. The kernel holds little of what it is sent.
fn stuck<'a>(options: &Options, payload: &'a Payload) -> Result<Connection<'a>> {
    let connection = open(options, payload)?;
    set_socket_recv_buffer_size(&connection.socket.tcp, 4096)?;
    Ok(connection)
}

/// Clients that come and go, one at a time.
fn visits(options: &Options) -> Result {
    let payload = options.payload(1, 0);
    let visit = || -> Result {
        let mut connection = if options.mode == Mode::Handshakes {
            let mut connection = open(options, &payload)?;
            // A Close frame with the code 1000, masked with zeros.
            connection
                .socket
                .write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8])?;
            connection
        } else {
            let mut connection = connect(options, &payload)?;
            connection
                .socket
                .write_all(plain_request("close").as_bytes())?;
            connection
        };
        let mut rest = Vec::new();
        connection.socket.read_to_end(&mut rest)?;
        if options.mode == Mode::Handshakes && rest != [0x88, 0x02, 0x03, 0xE8] {
            return Err(format!("not an answer to a Close frame: {rest:?}").into());
        }
        if options.mode == Mode::Gets && !rest.starts_with(b"HTTP/1.1 200 ") {
            return Err("not an answer to a request".into());
        }
        Ok(())
    };
    let start = Instant::now();
    while start.elapsed() < options.warm_up {
        visit()?;
    }
    let mut latency = Histogram::new_with_max(60_000_000_000, 3)?;
    let mut count = 0;
    let measured = Measured::start(options)?;
    let start = Instant::now();
    while start.elapsed() < options.time && count < options.messages {
        let before = start.elapsed();
        visit()?;
        latency.saturating_record((start.elapsed() - before).as_nanos() as u64);
        count += 1;
        let due = Duration::from_secs_f64(count as f64 / options.rate);
        sleep(due.saturating_sub(start.elapsed()));
    }
    measured.print(count, &latency, 0)
}

/// Memory of connections on which nothing happens.
fn idle(options: &Options) -> Result {
    let mut kib = Payload::new(Kind::Text, 1024, 1, 0);
    if options.deflate {
        kib = kib.deflated(1);
    }
    let payload = options.payload(1, 0);
    // What the first connections and messages cost once and for all is none of theirs.
    for _ in 0..10 {
        open(options, &kib)?.echo()?;
        open(options, &payload)?.echo()?;
    }
    let used = || {
        sleep(Duration::from_secs(1));
        rss_anon(options.pid)
    };
    let before = used()?;
    let mut connections = (0..options.connections)
        .map(|_| open(options, &kib))
        .collect::<Result<Vec<_>>>()?;
    let fresh = used()?;
    for connection in &mut connections {
        connection.echo()?;
    }
    let after_kib = used()?;
    for connection in &mut connections {
        connection.payload = &payload;
        connection.echo()?;
    }
    let after = used()?;

    let each = |bytes: u64| bytes.saturating_sub(before) / options.connections as u64;
    println!(
        "{{\"connections\": {}, \"fresh\": {}, \"after_kib\": {}, \"after_message\": {}}}",
        options.connections,
        each(fresh),
        each(after_kib),
        each(after)
    );
    Ok(())
}

/// What the server and we had used at the start.
struct Measured<'a> {
    options: &'a Options,
    server: Cpu,
    other: Cpu,
    own: Cpu,
    start: Instant,
    /// Of [`Load::between`].
    between_p99: u64,
}

impl<'a> Measured<'a> {
    fn start(options: &'a Options) -> Result<Self> {
        Ok(Self {
            options,
            server: Cpu::of(options.pid)?,
            other: other(options)?,
            own: Cpu::of(std::process::id())?,
            start: Instant::now(),
            between_p99: 0,
        })
    }

    fn print(self, messages: u64, latency: &Histogram<u64>, bytes: usize) -> Result {
        let seconds = self.start.elapsed().as_secs_f64();
        let cpu = Cpu::of(self.options.pid)?.since(self.server);
        let other = other(self.options)?.since(self.other);
        let own = Cpu::of(std::process::id())?.since(self.own);
        let per_message = |seconds: f64| seconds * 1e6 / messages as f64;
        let micros = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
        println!(
            "{{\"messages\": {messages}, \"seconds\": {seconds:.3}, \"user_us\": {:.4}, \
             \"system_us\": {:.4}, \"cpu_us\": {:.4}, \"busy\": {:.3}, \"load_busy\": {:.3}, \
             \"p50_us\": {:.1}, \"p99_us\": {:.1}, \"p999_us\": {:.1}, \"worst_us\": {:.1}, \"bytes\": {bytes}, \
             \"other_cpu_us\": {:.4}, \"between_p99\": {}}}",
            per_message(cpu.user),
            per_message(cpu.system),
            per_message(cpu.total()),
            cpu.total() / seconds,
            own.total() / seconds,
            micros(0.5),
            micros(0.99),
            micros(0.999),
            micros(1.0),
            per_message(other.total()),
            self.between_p99,
        );
        Ok(())
    }
}

/// What the node that is not the publisher's has used.
fn other(options: &Options) -> Result<Cpu> {
    match options.to_pid {
        0 => Ok(Cpu::default()),
        pid => Cpu::of(pid),
    }
}

impl Options {
    fn from_args() -> Result<Self> {
        let mut options = Self {
            addr: flags().0,
            path: "/echo".to_owned(),
            pid: 0,
            to: None,
            to_pid: 0,
            senders: 100,
            mode: Mode::Echo,
            browser: false,
            deflate: false,
            tls: false,
            http2: 0,
            connections: 100,
            greedy: 0,
            stuck: 0,
            in_flight: 1,
            apart: false,
            size: 64,
            kind: Kind::Text,
            warm_up: Duration::from_secs(1),
            time: Duration::from_secs(3),
            messages: u64::MAX,
            rate: f64::INFINITY,
        };
        let mut args = flags().1.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match &*arg {
                "--pid" => options.pid = value()?.parse()?,
                "--broadcast" => {
                    options.mode = Mode::Broadcast;
                    options.path = "/broadcast".to_owned();
                }
                "--rooms" => {
                    options.mode = Mode::Rooms;
                    options.path = "/rooms".to_owned();
                    options.connections = ROOMS;
                }
                "--senders" => options.senders = value()?.parse()?,
                "--to" => options.to = Some(value()?),
                "--to-pid" => options.to_pid = value()?.parse()?,
                "--socketio" => {
                    options.kind = Kind::SocketIo;
                    options.path = "/socket.io/?EIO=4&transport=websocket".to_owned();
                }
                "--http" => options.mode = Mode::Http,
                "--handshakes" => options.mode = Mode::Handshakes,
                "--gets" => options.mode = Mode::Gets,
                "--idle" => options.mode = Mode::Idle,
                "--browser" => options.browser = true,
                "--deflate" => options.deflate = true,
                "--tls" => options.tls = true,
                "--http2" => options.http2 = value()?.parse()?,
                "--path" => options.path = value()?,
                "--connections" => options.connections = value()?.parse()?,
                "--greedy" => options.greedy = value()?.parse()?,
                "--stuck" => options.stuck = value()?.parse()?,
                "--in-flight" => options.in_flight = value()?.parse()?,
                "--apart" => options.apart = true,
                "--size" => options.size = value()?.parse()?,
                "--kind" => {
                    options.kind = match &*value()? {
                        "text" => Kind::Text,
                        "binary" => Kind::Binary,
                        "utf8" => Kind::Utf8,
                        "json" => Kind::Json,
                        kind => return Err(format!("no kind of message: {kind}").into()),
                    }
                }
                "--warm-up" => options.warm_up = Duration::from_secs_f64(value()?.parse()?),
                "--seconds" => options.time = Duration::from_secs_f64(value()?.parse()?),
                "--rate" => options.rate = value()?.parse()?,
                "--messages" => {
                    options.messages = value()?.parse()?;
                    options.time = Duration::MAX;
                }
                _ => return Err(format!("unknown flag {arg}").into()),
            }
        }
        Ok(options)
    }

    fn payload(&self, in_flight: usize, seed: usize) -> Payload {
        let payload = Payload::new(self.kind, self.size, in_flight, seed);
        if self.deflate {
            payload.deflated(in_flight)
        } else {
            payload
        }
    }
}
