//! A million connections in one process: bytes of memory each, and the time to open them all, to send one
//! message to all, and to drain them.
//!
//! Descriptors do not suffice for it, so each client is a stream in this process, which hands itself over by
//! `tower_websocket::Upgrade` after the handshake of a browser. It keeps 48 bytes, takes what is written, and
//! answers pings and Close frames.
//!
//! ```text
//! cargo run --release --bin million -- [--connections 1000000] [--forget]
//! ```
//!
//! `--forget`: with `keep_request(false)`.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower::{Layer, ServiceExt};
use tower_websocket::{
    Connection, Message, Result, Sender, Shutdown, Upgrade, WebSocketHandler, WebSocketLayer,
};

/// Frames that clients were sent and that are not control frames.
static DELIVERED: AtomicUsize = AtomicUsize::new(0);
static SENDERS: Mutex<Vec<Sender>> = Mutex::new(Vec::new());

/// The client.
#[derive(Default)]
struct Quiet {
    reader: Option<Waker>,
    /// A frame that the server is yet to read.
    answer: Option<Box<[u8]>>,
    closed: bool,
}

impl AsyncRead for Quiet {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(answer) = self.answer.take() {
            buffer.put_slice(&answer);
            return Poll::Ready(Ok(()));
        }
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Quiet {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // The server's frames are written whole, each with its payload, and are small here.
        let opcode = bytes.first().map_or(0, |first| first & 0xF);
        if opcode < 8 {
            DELIVERED.fetch_add(1, Ordering::Relaxed);
            return Poll::Ready(Ok(bytes.len()));
        }
        let payload = &bytes[2.min(bytes.len())..];
        let answer = if opcode == 8 { 0x88 } else { 0x8A };
        self.closed = opcode == 8;
        // A masking key of zeros.
        let head = [answer, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        self.answer = Some([&head, payload].concat().into());
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[derive(Clone)]
struct Chat;

impl WebSocketHandler for Chat {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        SENDERS.lock().unwrap().push(conn.sender());
        Ok(())
    }
}

/// The handshake of a Chromium.
fn handshake() -> Request<()> {
    let mut request = Request::get("/chat")
        .header("host", "chat.example.com")
        .header("connection", "Upgrade")
        .header("pragma", "no-cache")
        .header("cache-control", "no-cache")
        .header(
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
             Chrome/141.0.0.0 Safari/537.36",
        )
        .header("upgrade", "websocket")
        .header("origin", "https://chat.example.com")
        .header("sec-websocket-version", "13")
        .header("accept-encoding", "gzip, deflate, br, zstd")
        .header("accept-language", "en-GB,en;q=0.9")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(())
        .unwrap();
    let stream = Upgrade::new(std::future::ready(Ok::<_, io::Error>(Quiet::default())));
    request.extensions_mut().insert(stream);
    request
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let connections = value("--connections").map_or(1_000_000, |n| n.parse().unwrap());
    let shutdown = Shutdown::new();
    let layer = WebSocketLayer::new("/chat", Chat)
        .keep_request(!arguments.iter().any(|argument| argument == "--forget"))
        .shutdown(&shutdown);
    let inner = tower::service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let service = layer.layer(inner);
    SENDERS.lock().unwrap().reserve_exact(connections);

    let (before, begin) = (resident(), Instant::now());
    for i in 0..connections {
        let response = service.clone().oneshot(handshake()).await.unwrap();
        assert_eq!(response.status(), 101);
        if i % 100 == 99 {
            tokio::task::yield_now().await;
        }
    }
    while SENDERS.lock().unwrap().len() < connections {
        tokio::task::yield_now().await;
    }
    let opened = begin.elapsed();
    let each = (resident() - before) / connections;
    println!("{connections} open: {each} bytes each");
    let per_second = connections as f64 / opened.as_secs_f64();
    println!(
        "opened in {:.2} s, {per_second:.0} a second",
        opened.as_secs_f64()
    );

    let senders = std::mem::take(&mut *SENDERS.lock().unwrap());
    for round in ["first", "second"] {
        DELIVERED.store(0, Ordering::Relaxed);
        let message = Message::from("x".repeat(512));
        let begin = Instant::now();
        for sender in &senders {
            sender.try_send(message.clone()).unwrap();
        }
        let queued = begin.elapsed();
        while DELIVERED.load(Ordering::Relaxed) < connections {
            tokio::task::yield_now().await;
        }
        let (queued, written) = (queued.as_secs_f64(), begin.elapsed().as_secs_f64());
        println!(
            "{round} broadcast of 512 bytes: queued in {queued:.2} s, written in {written:.2} s"
        );
    }
    drop(senders);
    println!(
        "{} bytes each after it",
        (resident() - before) / connections
    );

    let begin = Instant::now();
    let drained = shutdown.drain(Duration::from_secs(60)).await;
    println!(
        "drained in {:.2} s: {drained:?}",
        begin.elapsed().as_secs_f64()
    );
}
