//! What no server can beat by much: a raw epoll loop that unmasks and re-frames, and does
//! nothing else. No HTTP (every request gets the answer to the key that `load` sends), no check
//! of anything, no timeouts: `floor [--addr HOST:PORT]`. A message to a connection that asked for
//! `/broadcast` is framed once and written to all of its kind, one to `/rooms/N` to those of a room.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::retry_on_intr;
use tower_websocket_benches::{RESPONSE, ROOMS, flags, frames, rooms};

const LISTENER: u64 = u64::MAX;

struct Connection {
    socket: TcpStream,
    open: bool,
    broadcast: bool,
    /// The number of its room, where it asked for one.
    room: Option<usize>,
    /// The peer has closed.
    over: bool,
    /// A request or a frame that is not complete.
    input: Vec<u8>,
    /// What the socket did not take, and how much of it was written since.
    output: Vec<u8>,
    written: usize,
}

fn main() -> io::Result<()> {
    let listener = TcpListener::bind(flags().0)?;
    println!("listening on {}", listener.local_addr()?);
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(
        &poll,
        &listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN,
    )?;

    let mut connections: HashMap<u64, Connection> = HashMap::new();
    let mut members: Vec<Vec<u64>> = vec![Vec::new(); ROOMS];
    let mut next = 0;
    let mut events = Vec::with_capacity(1024);
    let mut scratch = vec![0; 64 * 1024];
    let mut replies = Vec::new();
    loop {
        events.clear();
        retry_on_intr(|| epoll::wait(&poll, spare_capacity(&mut events), None))?;
        for event in &events {
            let id = event.data.u64();
            if id == LISTENER {
                let connection = Connection::new(listener.accept()?.0)?;
                epoll::add(
                    &poll,
                    &connection.socket,
                    EventData::new_u64(next),
                    EventFlags::IN,
                )?;
                connections.insert(next, connection);
                next += 1;
            } else if let Some(connection) = connections.get_mut(&id) {
                let was_open = connection.open;
                let received = connection.receive(&poll, id, &mut scratch, &mut replies);
                if let Some(room) = connection.room {
                    if !was_open {
                        rooms(room).for_each(|room| members[room].push(id));
                    }
                    if received.is_ok() && !connection.over && !replies.is_empty() {
                        for member in &members[room] {
                            write(connections.get_mut(member), &replies);
                        }
                        continue;
                    }
                }
                if received.is_ok() && connection.broadcast && !connection.over {
                    if !replies.is_empty() {
                        broadcast(&mut connections, &replies);
                    }
                    continue;
                }
                let sent = replies.is_empty() || connection.send(&poll, id, &mut replies).is_ok();
                if received.is_err() || !sent || connection.over {
                    connections.remove(&id);
                }
            }
        }
    }
}

/// One write for each of those that asked for it, of bytes that are framed once.
fn broadcast(connections: &mut HashMap<u64, Connection>, frame: &[u8]) {
    for connection in connections.values_mut().filter(|c| c.broadcast) {
        write(Some(connection), frame);
    }
}

/// One that does not take it whole has failed: the load reads everything.
fn write(connection: Option<&mut Connection>, frame: &[u8]) {
    if let Some(connection) = connection {
        connection.over |= !matches!(connection.socket.write(frame), Ok(n) if n == frame.len());
    }
}

impl Connection {
    fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            open: false,
            broadcast: false,
            room: None,
            over: false,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
        })
    }

    /// One read, and the replies to it. An error, the end of the input too, is the end.
    fn receive(
        &mut self,
        poll: &OwnedFd,
        id: u64,
        scratch: &mut [u8],
        replies: &mut Vec<u8>,
    ) -> io::Result<()> {
        replies.clear();
        if !self.output.is_empty() {
            self.written += self.socket.write(&self.output[self.written..])?;
            if self.written == self.output.len() {
                self.output = Vec::new();
                self.written = 0;
                epoll::modify(poll, &self.socket, EventData::new_u64(id), EventFlags::IN)?;
            }
            return Ok(());
        }
        let n = self.socket.read(scratch)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !self.open {
            self.input.extend_from_slice(&scratch[..n]);
            if !self.input.ends_with(b"\r\n\r\n") {
                return Ok(());
            }
            self.open = true;
            self.broadcast = self.input.starts_with(b"GET /broadcast ");
            let target = std::str::from_utf8(&self.input).unwrap_or_default();
            let target = target.strip_prefix("GET /rooms/");
            let target = target.and_then(|target| target.split(' ').next()?.parse().ok());
            self.room = target.filter(|room| *room < ROOMS);
            self.input = Vec::new();
            return self.send(poll, id, &mut RESPONSE.into());
        } else if self.input.is_empty() {
            let (taken, missing) = reframe(&scratch[..n], replies);
            if taken < n {
                self.input.reserve_exact(n - taken + missing);
                self.input.extend_from_slice(&scratch[taken..n]);
            }
        } else {
            self.input.extend_from_slice(&scratch[..n]);
            let (taken, missing) = reframe(&self.input, replies);
            if taken == self.input.len() {
                self.input = Vec::new();
            } else {
                self.input.drain(..taken);
                self.input.reserve_exact(missing);
            }
        }
        // A Close frame in a read of its own, as a client sends it that has had its answers.
        self.over = replies.first() == Some(&0x88);
        Ok(())
    }

    /// One write.
    fn send(&mut self, poll: &OwnedFd, id: u64, replies: &mut Vec<u8>) -> io::Result<()> {
        let n = self.socket.write(replies)?;
        if n < replies.len() {
            self.output = std::mem::take(replies);
            self.written = n;
            epoll::modify(poll, &self.socket, EventData::new_u64(id), EventFlags::OUT)?;
        }
        Ok(())
    }
}

/// Appends the echo of all whole frames in `input` to `replies`. Returns how long they are, and
/// how much is missing of the next one, if that is known.
fn reframe(input: &[u8], replies: &mut Vec<u8>) -> (usize, usize) {
    let mut at = 0;
    loop {
        let frame = &input[at..];
        let Some((header, len)) = frames::lengths(frame) else {
            return (at, 0);
        };
        let Some(payload) = frame.get(header..header + len) else {
            return (at, header + len - frame.len());
        };
        let key: [u8; 4] = *frame[..header].last_chunk().expect("a header has a key");
        replies.push(frame[0]);
        replies.push(frame[1] & 127);
        replies.extend_from_slice(&frame[2..header - 4]);
        let start = replies.len();
        replies.extend_from_slice(payload);
        frames::unmask(&mut replies[start..], key);
        at += header + len;
    }
}
