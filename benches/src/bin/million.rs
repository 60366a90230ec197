//! A million connections in one process: bytes of memory each, and the time to open them all, to send one
//! message to all, and to drain them.
//!
//! Descriptors do not suffice for it, so each client is a stream in this process, which hands itself over by
//! `tower_websocket::Upgrade` after the handshake of a browser: `src/quiet.rs`.
//!
//! ```text
//! cargo run --release --bin million -- [--connections 1000000] [--forget]
//! ```
//!
//! `--forget`: with `keep_request(false)`.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tower_websocket::{Message, Shutdown, WebSocketLayer};
use tower_websocket_benches::quiet::{DELIVERED, Silent, open, reserve, resident};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let connections = value("--connections").map_or(1_000_000, |n| n.parse().unwrap());
    let shutdown = Shutdown::new();
    let layer = WebSocketLayer::new("/chat", Silent)
        .keep_request(!arguments.iter().any(|argument| argument == "--forget"))
        .shutdown(&shutdown);
    reserve(connections);

    let (before, begin) = (resident(), Instant::now());
    let senders = open(&layer, connections).await;
    let opened = begin.elapsed();
    let each = (resident() - before) / connections;
    println!("{connections} open: {each} bytes each");
    let per_second = connections as f64 / opened.as_secs_f64();
    println!(
        "opened in {:.2} s, {per_second:.0} a second",
        opened.as_secs_f64()
    );

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
