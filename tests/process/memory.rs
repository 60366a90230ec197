//! What a connection costs in bytes, counted by the allocator (rows R2, R3, R4, R6).
//!
//! Each test has a process of its own. Two figures are taken of each attack:
//! what is *held* whenever the server has done all it can, and the *peak*. The allocator here
//! moves a buffer that grows, always; so the peak has the old and the new one, which is the
//! worst that any allocator does.
//!
//! `cargo test --test memory -- --nocapture` prints them.

#![allow(clippy::unwrap_used, unreachable_pub, missing_debug_implementations)]

#[path = "../support/elsewhere.rs"]
mod elsewhere;
#[allow(dead_code)]
#[path = "../support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use peak_alloc::PeakAlloc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::Semaphore;
use tower::{Layer, Service};
use tower_websocket::test::TestConnection;
use tower_websocket::{
    BoxError, CloseEvent, Connection, Deflate, Message, Result, Retain, Sender, Topics,
    WebSocketHandler,
};

use crate::elsewhere::elsewhere;
use crate::support::*;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const KIB: usize = 1024;
/// The default limit on messages.
const MAX_MESSAGE: usize = 1024 * KIB;
/// What else there may be: hyper's and the pipe's buffers, the thread's scratch buffer of 64 KiB
/// and a batch of output of as much, 64 KiB that are read ahead.
const AROUND: usize = 256 * KIB;
/// While a buffer grows from a quarter of a message to all of it, both are there.
const MOVING: usize = MAX_MESSAGE / 4;
/// A message that turned out smaller than its buffer moves to one of its own size.
const SHRINKING: usize = MAX_MESSAGE;

/// Runs a test in a process of its own, so that nobody else allocates; time is paused.
fn alone(test: impl AsyncFnOnce()) {
    let thread = std::thread::current();
    // A harness with one thread runs it on "main", and does nothing beside it.
    let named = thread.name().filter(|name| *name != "main");
    if named.is_some_and(elsewhere) {
        return;
    }
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    runtime.block_on(test());
}

/// Counts from its beginning.
struct Gauge {
    before: usize,
    held: usize,
}

impl Gauge {
    fn begin() -> Self {
        ALLOCATOR.reset_peak_usage();
        Self {
            before: ALLOCATOR.current_usage(),
            held: 0,
        }
    }

    /// Lets the server do all it can, and looks.
    async fn look(&mut self) -> usize {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let now = ALLOCATOR.current_usage().saturating_sub(self.before);
        self.held = self.held.max(now);
        now
    }

    fn end(&self, what: &str, held: usize, peak: usize) {
        let (was, most) = (self.held, ALLOCATOR.peak_usage() - self.before);
        println!(
            "{what}: held {} KiB of {}, peak {} KiB of {}",
            was / KIB,
            held / KIB,
            most / KIB,
            peak / KIB
        );
        assert!(was <= held, "{what} holds {was} bytes, {held} are allowed");
        assert!(
            most <= peak,
            "{what} peaks at {most} bytes, {peak} are allowed"
        );
    }
}

/// Sends as much as the server takes, and looks at every 4 KiB. Tells whether it took all.
async fn flood(client: &mut Client, bytes: &[u8], gauge: &mut Gauge) -> bool {
    for piece in bytes.chunks(4 * KIB) {
        let writing = tokio::time::timeout(Duration::from_secs(1), client.io.write_all(piece));
        if !matches!(writing.await, Ok(Ok(()))) {
            gauge.look().await;
            return false;
        }
        gauge.look().await;
    }
    true
}

/// Takes messages, and drops them.
#[derive(Clone)]
struct Quiet;

impl WebSocketHandler for Quiet {}

/// Does not return from `on_message`, nor let go of the message, until the semaphore is closed.
#[derive(Clone)]
struct Hanging(Arc<Semaphore>);

impl WebSocketHandler for Hanging {
    async fn on_message(&mut self, _: &mut Connection, message: Message) -> Result {
        assert!(self.0.acquire().await.is_err());
        drop(message);
        Ok(())
    }
}

#[derive(Clone)]
struct Echo;

impl WebSocketHandler for Echo {
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.send(message).await?;
        Ok(())
    }
}

/// Keeps all messages.
#[derive(Clone)]
struct Keeper(Arc<Mutex<Vec<Message>>>);

impl WebSocketHandler for Keeper {
    async fn on_message(&mut self, _: &mut Connection, message: Message) -> Result {
        self.0.lock().unwrap().push(message);
        Ok(())
    }
}

/// Sends `bytes` to a connection of its own, and reads nothing.
async fn attack<H: WebSocketHandler>(what: &str, stack: &Stack<H>, bytes: &[u8]) {
    let mut gauge = Gauge::begin();
    let mut client = stack.open().await;
    flood(&mut client, bytes, &mut gauge).await;
    gauge.end(what, MAX_MESSAGE + AROUND, MAX_MESSAGE + MOVING + AROUND);
    leave(client, stack).await;
}

/// Waits until nothing is left of the last connection, so that the next is counted from there.
async fn leave<H>(client: Client, stack: &Stack<H>) {
    drop(client);
    within(async {
        while stack.shutdown.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // hyper's task, and the pipe.
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[test]
fn r2_a_flood_of_pings_whose_answers_nobody_reads() {
    alone(async || {
        let stack = Stack::new(Quiet);
        let pings: Vec<u8> = (0..20_000u32)
            .flat_map(|i| frame(0x89, &i.to_be_bytes().repeat(31)))
            .collect();
        attack("pings at once", &stack, &pings).await;

        // As many in a second as are allowed, for as long as it lasts.
        let mut gauge = Gauge::begin();
        let mut client = stack.open().await;
        for second in pings.chunks(50 * 130).take(120) {
            if !flood(&mut client, second, &mut gauge).await {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        gauge.end("pings, 50 a second", AROUND, AROUND);
        leave(client, &stack).await;
    });
}

#[test]
fn r2_lengths_that_are_declared_and_nothing_comes() {
    alone(async || {
        let stack = Stack::new(Quiet);
        for first in [0x81, 0x82, 0x01, 0x02] {
            let whole = frame(first, &vec![b'a'; MAX_MESSAGE - 1]);
            let mut gauge = Gauge::begin();
            let mut client = stack.open().await;
            flood(&mut client, &whole[..100], &mut gauge).await;
            gauge.end("a declared length", AROUND, AROUND);
            leave(client, &stack).await;
        }
    });
}

#[test]
fn r2_many_fragments() {
    alone(async || {
        let stack = Stack::new(Quiet);
        for opcode in [1, 2] {
            for size in [1, KIB] {
                let pieces = (0..1024).flat_map(|i| {
                    let first = if i == 0 { opcode } else { 0 };
                    let last = if i == 1023 { 0x80 } else { 0 };
                    frame(first | last, &vec![b'a'; size])
                });
                let bytes: Vec<u8> = pieces.collect();
                attack(&format!("fragments of {size}"), &stack, &bytes).await;
            }
        }
    });
}

#[test]
fn r2_compressed_messages_that_inflate_to_the_limit() {
    alone(async || {
        let times = (MAX_MESSAGE - 1) / 258;
        for takeover in [false, true] {
            let kept = Arc::<Mutex<Vec<Message>>>::default();
            let deflate = Deflate::new()
                .server_context_takeover(takeover)
                .client_context_takeover(takeover);
            let stack = Stack::new(Keeper(kept.clone())).with(|layer| layer.deflate(deflate));
            let offer = "Upgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate";
            let handshake = HANDSHAKE.replace("Upgrade: websocket", offer);
            for first in [0xC1, 0xC2] {
                for (what, payload) in [
                    ("a bomb", deflated_run(b'a', 1 + 258 * times, false)),
                    ("stored", deflated_stored(&vec![b'a'; MAX_MESSAGE - KIB])),
                    (
                        "stored, not a power of two",
                        deflated_stored(&vec![b'a'; 600 * KIB]),
                    ),
                ] {
                    let bytes = frame(first, &payload);
                    let mut gauge = Gauge::begin();
                    let mut client = stack.connect();
                    client.send(handshake.as_bytes()).await;
                    let head = client.head().await;
                    assert!(head.header("sec-websocket-extensions").is_some());
                    assert!(flood(&mut client, &bytes, &mut gauge).await);
                    let what = format!("{what}, takeover {takeover}");
                    gauge.end(
                        &what,
                        MAX_MESSAGE + AROUND,
                        MAX_MESSAGE + SHRINKING + AROUND,
                    );
                    leave(client, &stack).await;
                    let message = kept.lock().unwrap().pop().expect("it was a good message");
                    assert!(message.as_bytes().iter().all(|b| *b == b'a'));
                    assert!(message.len() > 500 * KIB, "{}", message.len());
                }
            }
        }
    });
}

#[test]
fn r2_a_large_message_that_comes_slowly() {
    alone(async || {
        let stack = Stack::new(Quiet);
        for first in [0x81, 0x82] {
            let bytes = frame(first, &vec![b'a'; MAX_MESSAGE]);
            attack(&format!("{first:x}, slowly"), &stack, &bytes).await;
            let bytes = frame(first, &vec![b'a'; 600 * KIB]);
            attack(&format!("{first:x}, 600 KiB"), &stack, &bytes).await;
        }
    });
}

#[test]
fn r2_messages_that_are_read_ahead_while_a_callback_hangs() {
    alone(async || {
        for size in [0, 1, 100, 8 * KIB, 60 * KIB] {
            for first in [0x81, 0x82] {
                let one = frame(first, &vec![b'a'; size]);
                let bytes = one.repeat(1_000_000 / one.len());
                let release = Arc::new(Semaphore::new(0));
                let stack = Stack::new(Hanging(release.clone()));
                let mut gauge = Gauge::begin();
                let mut client = stack.open().await;
                let all = flood(&mut client, &bytes, &mut gauge).await;
                assert!(!all, "reading goes on");
                let what = format!("ahead, {size}");
                gauge.end(&what, AROUND, AROUND);
                release.close();
                leave(client, &stack).await;
            }
        }
        // The callback has one, and one is read ahead.
        for first in [0x81, 0x82] {
            let bytes = frame(first, &vec![b'a'; MAX_MESSAGE]).repeat(4);
            let release = Arc::new(Semaphore::new(0));
            let stack = Stack::new(Hanging(release.clone()));
            let mut gauge = Gauge::begin();
            let mut client = stack.open().await;
            assert!(!flood(&mut client, &bytes, &mut gauge).await);
            let held = 2 * MAX_MESSAGE + AROUND;
            gauge.end("ahead, 1 MiB", held, held + MOVING);
            release.close();
            leave(client, &stack).await;
        }
    });
}

/// The queue is full when 1 MiB waits; so in the worst case it is a byte less, and one message.
/// Beside it one message is being written, one waits in `send`, one is read ahead.
#[test]
fn r2_an_echo_that_nobody_reads() {
    const QUEUE: usize = 1024 * KIB;
    alone(async || {
        let stack = Stack::new(Echo);
        for (what, size) in [
            ("1 MiB", MAX_MESSAGE),
            ("a little less", MAX_MESSAGE - 1),
            ("64 KiB", 64 * KIB),
            ("8 KiB", 8 * KIB),
            ("100 B", 100),
        ] {
            for first in [0x81, 0x82] {
                let one = frame(first, &vec![b'a'; size]);
                let bytes = one.repeat(8_000_000 / one.len());
                let mut gauge = Gauge::begin();
                let mut client = stack.open().await;
                assert!(!flood(&mut client, &bytes, &mut gauge).await);
                let held = QUEUE + 4 * size + AROUND;
                gauge.end(&format!("echo, {what}"), held, held + MOVING);
                leave(client, &stack).await;
            }
        }
    });
}

#[test]
fn r3_after_a_large_message_its_buffers_are_given_back() {
    alone(async || {
        let stack = Stack::new(Echo);
        for first in [0x81, 0x82] {
            let large = frame(first, &vec![b'a'; MAX_MESSAGE]);
            let mut client = stack.open().await;
            client.send(&text("warm")).await;
            client.expect(0x81, b"warm").await;
            let mut gauge = Gauge::begin();
            let (mut from, mut to) = tokio::io::split(&mut client.io);
            let mut answer = vec![0; MAX_MESSAGE + 10];
            let (sent, got) = tokio::join!(
                to.write_all(&large),
                tokio::io::AsyncReadExt::read_exact(&mut from, &mut answer)
            );
            sent.unwrap();
            assert_eq!(got.unwrap(), MAX_MESSAGE + 10);
            assert!(answer[10..].iter().all(|b| *b == b'a'));
            drop(answer);
            let held = gauge.look().await;
            println!("after a large message: {held} bytes");
            // The pipe's own buffers may have grown to their 16 KiB.
            assert!(held <= 40 * KIB, "{held} bytes are still held");
            assert!(ALLOCATOR.peak_usage() - gauge.before > 2 * MAX_MESSAGE);
            leave(client, &stack).await;
        }
    });
}

#[test]
fn r4_small_messages_that_are_kept_hold_their_own_bytes_only() {
    const MESSAGES: usize = 2_000;
    const SIZE: usize = 100;
    alone(async || {
        let whole = |first| frame(first, &[b'a'; SIZE]);
        // The buffer has doubled to 120 before it is known that 100 are all.
        let in_three = |opcode| {
            [
                frame(opcode, &[b'a'; 60]),
                frame(0, &[b'a'; 10]),
                frame(0x80, &[b'a'; SIZE - 70]),
            ]
            .concat()
        };
        for (what, one) in [
            ("text", whole(0x81)),
            ("binary", whole(0x82)),
            ("text in fragments", in_three(1)),
            ("binary in fragments", in_three(2)),
        ] {
            // So many in one packet that each read has parts of some hundred.
            for packet in [37, 64 * KIB] {
                let kept = Arc::new(Mutex::new(Vec::with_capacity(MESSAGES)));
                let stack = Stack::new(Keeper(kept.clone()));
                let bytes = one.repeat(MESSAGES);
                let mut client = stack.open().await;
                client.send(&one).await;
                // Until it is read, the thread has no buffer to read to.
                while kept.lock().unwrap().is_empty() {
                    tokio::task::yield_now().await;
                }
                let mut gauge = Gauge::begin();
                for piece in bytes[one.len()..].chunks(packet) {
                    client.send(piece).await;
                    if packet < KIB {
                        tokio::task::yield_now().await;
                    }
                }
                while kept.lock().unwrap().len() < MESSAGES {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                let each = gauge.look().await / (MESSAGES - 1);
                println!("kept {what} by {packet}: {each} bytes");
                assert!(each <= SIZE + 12, "{each} bytes for {SIZE}");
                // The harness may give back a little of its own meanwhile.
                assert!(each > SIZE - 10, "{each} bytes are not what was kept");
                leave(client, &stack).await;
            }
        }
    });
}

/// What takeover costs a connection with both contexts in use, as the docs of `Deflate` say: 371
/// or 161 KiB to compress, 47 to inflate. 128 KiB of it is a table that zlib-rs always has.
#[test]
fn r6_a_context_costs_what_was_agreed_and_none_without_takeover() {
    const CONNECTIONS: usize = 10;
    for (bits, level, takeover, most) in [
        (15, 8, false, 8 * KIB),
        (12, 5, true, (161 + 47 + 8) * KIB),
        (15, 8, true, (371 + 47 + 8) * KIB),
    ] {
        alone(async move || {
            let deflate = Deflate::new()
                .threshold(0)
                .memory_level(level)
                .server_max_window_bits(bits)
                .client_max_window_bits(bits)
                .server_context_takeover(takeover)
                .client_context_takeover(takeover);
            let stack = Stack::new(Echo).with(|layer| layer.deflate(deflate));
            let offer = "Upgrade: websocket\r\nSec-WebSocket-Extensions: \
                permessage-deflate; client_max_window_bits; server_max_window_bits=15";
            let handshake = HANDSHAKE.replace("Upgrade: websocket", offer);
            let mut clients = Vec::with_capacity(CONNECTIONS + 1);
            let mut gauge = Gauge::begin();
            let mut one = 0;
            for i in 0..=CONNECTIONS {
                let mut client = stack.connect();
                client.send(handshake.as_bytes()).await;
                let head = client.head().await;
                let answer = head.header("sec-websocket-extensions").unwrap();
                assert_eq!(answer.contains("no_context"), !takeover, "{answer}");
                for _ in 0..2 {
                    client.send(&frame(0xC1, DEFLATED_HELLO)).await;
                    assert!(client.frame().await.is_some());
                }
                clients.push(client);
                if i == 0 {
                    // With what belongs to the thread.
                    one = gauge.look().await;
                }
            }
            let each = (gauge.look().await - one) / CONNECTIONS;
            println!("{bits} bits, level {level}, takeover {takeover}: {each} bytes");
            assert!(each <= most, "{each} bytes");
            assert!(takeover == (each > 16 * KIB), "{each} bytes");
        });
    }
}

/// Sends messages of 1 MiB for as long as it can, and counts how many connections have ended.
#[derive(Clone, Default)]
struct Sending(Arc<AtomicUsize>);

impl WebSocketHandler for Sending {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        let message = Message::binary(vec![b'a'; MAX_MESSAGE]);
        loop {
            conn.send(message.clone()).await?;
        }
    }

    async fn on_close(&mut self, _: &mut Connection, _: CloseEvent) -> Result {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

type Session = h2::client::SendRequest<bytes::Bytes>;

/// hyper's http2 on one end of a pipe, a client's session on the other, whose streams grant the
/// server so many bytes.
async fn http2<S, B>(service: S, window: u32) -> Session
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (client, server) = tokio::io::duplex(64 * KIB);
    tokio::spawn(serve_http2(server, service));
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window);
    let (session, connection) = builder.handshake(client).await.unwrap();
    tokio::spawn(connection);
    // The settings come with the server's first frame.
    tokio::time::sleep(Duration::from_millis(1)).await;
    session
}

async fn serve_http2<S, B>(io: DuplexStream, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_header_list_size(64 * KIB as u32)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(service))
        .await;
}

/// A WebSocket over HTTP/2.
async fn connect(session: &mut Session) -> (h2::RecvStream, h2::SendStream<bytes::Bytes>) {
    let mut request = Request::builder()
        .method(http::Method::CONNECT)
        .uri("http://localhost/ws")
        .header("sec-websocket-version", "13")
        .body(())
        .unwrap();
    let protocol = h2::ext::Protocol::from_static("websocket");
    request.extensions_mut().insert(protocol);
    let mut ready = session.clone().ready().await.unwrap();
    let (response, output) = ready.send_request(request, false).unwrap();
    let response = within(response).await.unwrap();
    assert_eq!(response.status(), 200);
    (response.into_body(), output)
}

/// hyper keeps what it took of a stream until the client resets it, and counts it nowhere: so it
/// is given little. `SECURITY.md` has the figure.
#[test]
fn s4_a_stream_of_http2_that_was_given_up_holds_three_writes_of_16_kib() {
    const STREAMS: usize = 50;
    const LEFT: usize = 3 * 16 * KIB + 3 * KIB;
    alone(async || {
        let sending = Sending::default();
        let stack = Stack::new(sending.clone());
        // No stream may be sent a byte.
        let mut session = http2(stack.layer.layer(plain()), 0).await;
        let gauge = Gauge::begin();
        let mut streams = Vec::with_capacity(STREAMS);
        for _ in 0..STREAMS {
            streams.push(connect(&mut session).await);
        }
        // Each is given up when nothing of it was read for its time.
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(sending.0.load(Ordering::Relaxed), STREAMS);
        assert_eq!(stack.shutdown.connections(), 0);
        let each = (ALLOCATOR.current_usage() - gauge.before) / STREAMS;
        println!("a stream that was given up: {each} bytes of {LEFT}");
        assert!(each <= LEFT, "{each} bytes");
        // And nothing once the client is gone.
        drop((streams, session));
        tokio::time::sleep(Duration::from_millis(10)).await;
        let held = ALLOCATOR.current_usage().saturating_sub(gauge.before);
        assert!(held <= 64 * KIB, "{held} bytes are still held");
    });
}

/// What one more idle connection holds, over HTTP/1.1, with so many bytes of headers.
async fn idle<IO>(connect: impl AsyncFn() -> Client<IO>, headers: usize) -> usize
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    // Many, so that what is made once for all of them does not count.
    const CONNECTIONS: usize = 200;
    let field = format!("X-Padding: {}\r\nUpgrade: w", "x".repeat(headers));
    let handshake = HANDSHAKE.replacen("Upgrade: w", &field, 1);
    let mut clients = Vec::with_capacity(CONNECTIONS + 1);
    let mut gauge = Gauge::begin();
    let mut one = 0;
    for i in 0..=CONNECTIONS {
        let mut client = connect().await;
        client.send(handshake.as_bytes()).await;
        assert_eq!(client.head().await.status(), 101);
        client.send(&text("hello")).await;
        client.expect(0x81, b"hello").await;
        // Of the client only its end.
        clients.push(client.io);
        if i == 0 {
            // With what belongs to the thread.
            one = gauge.look().await;
        }
    }
    (gauge.look().await - one) / CONNECTIONS
}

/// All that connections held goes before the next are counted.
async fn all_gone() {
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[test]
fn s6_behind_a_router_of_axum_an_idle_connection_keeps_no_buffer_of_the_server() {
    alone(async || {
        for headers in [0, 8 * KIB, 58 * KIB] {
            let layer = Stack::new(Echo).layer;
            let service = layer.layer(plain());
            let bare = idle(async || http1(service.clone()), headers).await;
            all_gone().await;
            let router = axum::Router::new().route("/", axum::routing::get(|| async {}));
            let router = router.layer(layer);
            let routed = idle(async || http1(router.clone()), headers).await;
            all_gone().await;
            println!("{headers} bytes of headers: {bare} bytes, behind axum's router {routed}");
            // The pipe keeps the largest write that it had.
            let most = 2050 + headers + if headers > 0 { 16 * KIB } else { 0 };
            assert!(bare < most, "{bare} bytes");
            assert!(
                routed < bare + 300,
                "{routed} bytes, {bare} without the router"
            );
        }
    });
}

#[test]
fn s6_an_idle_connection_over_tcp_has_the_socket_and_nothing_of_hyper_around_it() {
    alone(async || {
        // For sockets nobody turns the clock.
        tokio::time::resume();
        let addr = tcp(Stack::new(Echo).layer.layer(plain())).await;
        let each = idle(async || tcp_client(addr).await, 0).await;
        println!("{each} bytes over TCP");
        // 1,858, of which the client's registration has 256; with a box around the socket 40 more, with all of hyper's 120.
        assert!(each < 1880, "{each} bytes");
    });
}

/// A string of HPACK (RFC 7541 §5.2), as it is: what is not compressed is not copied either.
fn string(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    if text.len() < 127 {
        out.push(text.len() as u8);
    } else {
        out.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            out.push(rest as u8 | 128);
            rest >>= 7;
        }
        out.push(rest as u8);
    }
    out.extend(text.as_bytes());
    out
}

/// `:protocol` comes as a slice of the buffer that its frame was read into.
#[test]
fn s6_an_idle_stream_of_http2_keeps_no_buffer_of_the_server() {
    const STREAMS: usize = 50;
    alone(async || {
        for padding in [0, KIB, 15 * KIB] {
            let stack = Stack::new(Quiet);
            let router = axum::Router::new().route("/", axum::routing::get(|| async {}));
            let (mut client, server) = tokio::io::duplex(64 * KIB);
            let service = router.layer(stack.layer.clone());
            tokio::spawn(serve_http2(server, service));
            let padding = "x".repeat(padding);
            let fields = [
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "http"),
                (":authority", "localhost"),
                (":path", "/ws"),
                ("sec-websocket-version", "13"),
                ("x-padding", &padding),
            ];
            let block = fields.map(|(name, value)| [vec![0], string(name), string(value)].concat());
            let block = block.concat();
            let hello =
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";
            client.write_all(hello).await.unwrap();
            let mut gauge = Gauge::begin();
            let mut first = 0;
            for i in 0..=STREAMS {
                // HEADERS with END_HEADERS.
                let mut head = (block.len() as u32).to_be_bytes()[1..].to_vec();
                head.extend([1, 4]);
                head.extend((2 * i as u32 + 1).to_be_bytes());
                client
                    .write_all(&[&head[..], &block].concat())
                    .await
                    .unwrap();
                let now = gauge.look().await;
                if i == 0 {
                    first = now;
                }
            }
            assert_eq!(stack.shutdown.connections(), STREAMS + 1);
            let each = (gauge.look().await - first) / STREAMS;
            let padding = padding.len();
            println!("{padding} bytes of headers: {each} bytes a stream of HTTP/2");
            assert!(each < 2900 + padding, "{each} bytes");
            drop(client);
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    });
}

/// Reads ahead, fails, and leaves a `Sender` behind.
#[derive(Clone, Default)]
struct Leaving {
    kept: Arc<Mutex<Vec<tower_websocket::Sender>>>,
    may_fail: Arc<tokio::sync::Notify>,
}

impl WebSocketHandler for Leaving {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        // With a context, this makes a compressor.
        conn.send("x".repeat(1000)).await?;
        self.kept.lock().unwrap().push(conn.sender());
        self.may_fail.notified().await;
        Err("as told".into())
    }
}

#[test]
fn s9_a_sender_that_is_kept_holds_no_messages_and_no_compressor() {
    alone(async || {
        let handler = Leaving::default();
        let (kept, may_fail) = (handler.kept.clone(), handler.may_fail.clone());
        let deflate = Deflate::new().server_context_takeover(true);
        let stack = Stack::new(handler).with(|layer| layer.deflate(deflate));
        // What a thread and the runtime keep is there once the first has come and gone.
        for round in 0..2 {
            let before = ALLOCATOR.current_usage();
            let mut client = stack.connect();
            let extensions = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
            let handshake = HANDSHAKE.replace("\r\n\r\n", extensions);
            client.send(handshake.as_bytes()).await;
            assert_eq!(client.head().await.status(), 101);
            client.frame().await.unwrap();
            client.send(&frame(0x82, &vec![7; MAX_MESSAGE - 1])).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            may_fail.notify_one();
            client.end().await;
            drop(client);
            left(&stack.shutdown, 0).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            let held = ALLOCATOR.current_usage().saturating_sub(before);
            assert!(round == 0 || held < 4 * KIB, "{held} bytes");
            assert!(kept.lock().unwrap().pop().unwrap().is_closed());
        }
    });
}

/// Takes its time with the first message.
#[derive(Clone)]
struct Slow;

impl WebSocketHandler for Slow {
    async fn on_message(&mut self, _: &mut Connection, message: Message) -> Result {
        if message == Message::from("slow") {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }
}

#[test]
fn s10_what_was_read_ahead_leaves_no_memory_behind() {
    alone(async || {
        let stack = Stack::new(Slow);
        let mut client = stack.open().await;
        // What the pipe keeps is there after the first round.
        for round in 0..2 {
            let before = ALLOCATOR.current_usage();
            client.send(&text("slow")).await;
            // As many as may be read ahead, empty: their places are what costs.
            client.send(&text("").repeat(1000)).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            let during = ALLOCATOR.current_usage().saturating_sub(before);
            assert!(during > 16 * KIB, "nothing was read ahead: {during} bytes");
            tokio::time::sleep(Duration::from_secs(2)).await;
            let held = ALLOCATOR.current_usage().saturating_sub(before);
            assert!(round == 0 || held < KIB, "{held} bytes");
        }
    });
}

/// What one of the subscriptions of one of the connections costs.
fn subscribe(senders: &[Sender], names: &[String]) -> usize {
    let before = ALLOCATOR.current_usage();
    for name in names {
        for sender in senders {
            sender.subscribe(name).unwrap();
        }
    }
    (ALLOCATOR.current_usage() - before) / senders.len() / names.len()
}

/// What the first subscription of each of many connections costs, and 15 more, in topics that all of them
/// subscribe. With what malloc keeps for itself, the first is a block of 48 bytes and 16 of another, and a
/// cursor of 8 if the topic is retained.
#[test]
fn t3_a_subscription_costs_at_most_64_bytes_and_leaves_none() {
    const CONNECTIONS: usize = 500;
    let costs = async |topics: Topics| {
        let open = || TestConnection::open_in(Quiet, Request::new(()), &topics);
        let open: Vec<_> = std::iter::repeat_with(open).take(CONNECTIONS).collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let senders: Vec<_> = open.iter().map(TestConnection::sender).collect();
        let first = subscribe(&senders, &["first".to_owned()]);
        let names: Vec<_> = (1..16).map(|n| format!("room:{n}")).collect();
        let before = ALLOCATOR.current_usage();
        let each = subscribe(&senders, &names);
        println!("a subscription: the first {first} bytes, each further one {each}");
        for name in &names {
            for sender in &senders {
                assert!(sender.unsubscribe(name));
            }
        }
        let left = ALLOCATOR.current_usage().saturating_sub(before) / CONNECTIONS;
        (first, each, left)
    };
    alone(async move || {
        let (first, each, left) = costs(Topics::new()).await;
        assert!(left <= 16, "{left} bytes");
        assert!(first <= 60, "{first} bytes");
        assert!(each <= 40, "{each} bytes");
        let retained = Topics::builder().retain("", Retain::messages(9)).build();
        // What is left are the logs.
        let (first, each, _) = costs(retained).await;
        assert!(first <= 68, "{first} bytes");
        assert!(each <= 48, "{each} bytes");
    });
}

#[test]
fn a_plain_request_under_the_mount_goes_through_without_a_copy_of_its_path() {
    alone(async || {
        let inner = tower::service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(())));
        let mut service = tower_websocket::WebSocketLayer::new("/echo", Quiet).layer(inner);
        let page = || {
            let path = format!("/echo/{}", "x".repeat(10_000));
            Request::get(path).header("host", "example.com").body(())
        };
        // What is made once is there behind the first.
        for _ in 0..2 {
            let request = page().unwrap();
            ALLOCATOR.reset_peak_usage();
            let before = ALLOCATOR.current_usage();
            assert_eq!(service.call(request).await.unwrap().status(), 200);
            let most = ALLOCATOR.peak_usage() - before;
            assert!(most < 1000, "{most} bytes");
        }
    });
}
