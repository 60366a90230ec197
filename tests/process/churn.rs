//! Row X7: ten thousand connections over TCP, each opened and dropped by another fault in turn.
//! Afterwards nothing of them is left: not a task, not a permit, not a descriptor, no memory.
//!
//! 64 clients at a time, in one process with the server; `tests/soak` does the same with more
//! faults, more clients, and for longer.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, unreachable_pub, missing_debug_implementations)]

#[allow(dead_code)]
#[path = "../support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use peak_alloc::PeakAlloc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::Layer;
use tower_websocket::{CloseEvent, Connection, Deflate, Message, Result, WebSocketHandler};

use crate::support::*;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const CONNECTIONS: usize = 10_000;
const AT_A_TIME: usize = 64;
/// A page that reloads, a proxy that probes: more than are ever open at a time here.
const PERMITS: usize = 200;

#[derive(Clone, Default)]
struct Echo {
    opened: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
}

impl WebSocketHandler for Echo {
    async fn on_open(&mut self, _: &mut Connection) -> Result {
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        if message.as_text() == Some("panic") {
            std::panic::resume_unwind(Box::new("as the client wishes"));
        }
        conn.send(message).await?;
        Ok(())
    }
    async fn on_close(&mut self, _: &mut Connection, _: CloseEvent) -> Result {
        self.closed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// What a client does, and with which code it is closed, if it stays to hear that.
const FAULTS: [(&str, &[u8], Option<u16>); 12] = [
    // Before it is open.
    (
        "leaves in the handshake",
        b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgr",
        None,
    ),
    ("is refused", b"refused", None),
    // Open.
    (
        "closes as one should",
        b"\x88\x82\0\0\0\0\x03\xE8",
        Some(1000),
    ),
    ("sends a frame without a mask", b"\x81\x01a", Some(1002)),
    ("sends a reserved opcode", b"\x83\x80\0\0\0\0", Some(1002)),
    ("sends no UTF-8", b"\x81\x81\0\0\0\0\xFF", Some(1007)),
    (
        "declares too much",
        b"\x82\xFF\0\0\0\x01\0\0\0\0",
        Some(1009),
    ),
    (
        "sends garbage that should inflate",
        b"\xC2\x82\0\0\0\0\xFF\xFF",
        Some(1007),
    ),
    (
        "makes the application panic",
        b"\x81\x85\0\0\0\0panic",
        Some(1011),
    ),
    ("stalls in a frame", b"\x82\x8A\0\0\0\0abc", Some(1008)),
    ("resets in a frame", b"\x82\x8A\0\0\0\0abc", None),
    ("leaves without a word, and much unread", b"unread", None),
];

async fn fail(addr: SocketAddr, (what, bytes, code): (&str, &[u8], Option<u16>)) {
    let mut client = tcp_client(addr).await;
    match what {
        "leaves in the handshake" => return client.send(bytes).await,
        "is refused" => {
            let foreign = HANDSHAKE.replace("Host: ", "Origin: http://evil.example\r\nHost: ");
            client.send(foreign.as_bytes()).await;
            return assert_eq!(client.head().await.status(), 403);
        }
        _ => {}
    }
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\nHost: ";
    client
        .send(HANDSHAKE.replace("Host: ", offer).as_bytes())
        .await;
    assert_eq!(client.head().await.status(), 101);
    match what {
        "resets in a frame" => {
            client.send(bytes).await;
            client.io.set_zero_linger().unwrap();
        }
        "leaves without a word, and much unread" => {
            client.send(&frame(0x82, &[0; 20_000]).repeat(5)).await;
        }
        _ => {
            client.send(bytes).await;
            let close = client.frame().await.expect("a Close frame");
            let code = code.unwrap().to_be_bytes();
            assert_eq!(
                (close.first, close.payload.get(..2)),
                (0x88, Some(&code[..])),
                "{what}"
            );
            // It answers, and waits for the end, as clients do; then no descriptor lingers.
            client.try_send(b"\x88\x80\0\0\0\0").await;
            let _ = client.io.shutdown().await;
            let mut rest = Vec::new();
            let _ = client.io.read_to_end(&mut rest).await;
        }
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Waits until as few are left as there were.
async fn settles(what: &str, now: impl Fn() -> usize, was: usize) {
    let began = tokio::time::Instant::now();
    while now() > was {
        let left = now();
        assert!(
            began.elapsed().as_secs() < 60,
            "{what}: {left} are left of {was}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn lap(addr: SocketAddr, connections: usize) {
    let places = Arc::new(tokio::sync::Semaphore::new(AT_A_TIME));
    let mut clients = tokio::task::JoinSet::new();
    for i in 0..connections {
        let place = places.clone().acquire_owned().await.unwrap();
        clients.spawn(async move {
            within(fail(addr, FAULTS[i % FAULTS.len()])).await;
            drop(place);
        });
        while let Some(done) = clients.try_join_next() {
            done.unwrap();
        }
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x7_after_ten_thousand_connections_and_every_fault_nothing_is_left() {
    let echo = Echo::default();
    let stack = Stack::new(echo.clone()).with(|layer| {
        layer
            .deflate(Deflate::new())
            .max_connections(PERMITS)
            // Those who stall are 833.
            .progress_timeout(Duration::from_millis(200))
            .close_timeout(Duration::from_secs(1))
    });
    let addr = tcp(stack.layer.layer(plain())).await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let tasks = || metrics.num_alive_tasks();
    // What is made once, and then kept for all: buffers of threads, codecs, tables.
    let (tasks_before, descriptors_before) = (tasks(), descriptors());
    lap(addr, 1000).await;
    settles("tasks", tasks, tasks_before).await;
    let memory_before = ALLOCATOR.current_usage();

    lap(addr, CONNECTIONS - 1000).await;

    settles("connections", || stack.shutdown.connections(), 0).await;
    settles("tasks", tasks, tasks_before).await;
    settles("descriptors", descriptors, descriptors_before).await;
    let before_open = 2 * CONNECTIONS.div_ceil(FAULTS.len());
    let opened = echo.opened.load(Ordering::Relaxed);
    assert!(
        (CONNECTIONS - before_open..CONNECTIONS - before_open + 4).contains(&opened),
        "{opened}"
    );
    assert_eq!(echo.closed.load(Ordering::Relaxed), opened);
    // 16 bytes of each connection would be more.
    let memory = || ALLOCATOR.current_usage();
    settles("bytes", memory, memory_before + 128 * 1024).await;
    // Every permit is back.
    let mut clients = Vec::new();
    for _ in 0..PERMITS {
        let mut client = tcp_client(addr).await;
        client.open("/ws").await;
        clients.push(client);
    }
    let mut late = tcp_client(addr).await;
    late.send(HANDSHAKE.as_bytes()).await;
    assert_eq!(late.head().await.status(), 503);
}
