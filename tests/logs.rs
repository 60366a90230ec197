//! What the log says: spans, refusals, wire events, and servers that forgot something.
//!
//! A process of its own: in one with threads that have no subscriber, tracing now and then takes
//! an event for one that nobody reads.

#![allow(clippy::unwrap_used, unreachable_pub, missing_debug_implementations)]

#[allow(dead_code)]
#[path = "wire/support.rs"]
mod support;

use std::io;
use std::sync::{Arc, Mutex, Once};

use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tower::Layer;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, Interest};
use tracing::{Event, Metadata, Subscriber};

use crate::support::*;

/// The subscriber of threads that have no other: it reads nothing, and has tracing ask each time.
struct Nobody;

impl Subscriber for Nobody {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Everything that is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn begin(level: LevelFilter) -> (Self, DefaultGuard) {
        static FIRST: Once = Once::new();
        FIRST.call_once(|| tracing::subscriber::set_global_default(Nobody).unwrap());
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn lines_with(&self, word: &str) -> Vec<String> {
        let text = self.text();
        let lines = text.lines().filter(|line| line.contains(word));
        lines.map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn r12_a_connection_has_a_span_and_its_messages_are_shortened_and_escaped() {
    let (log, _guard) = Log::begin(LevelFilter::DEBUG);
    let (stack, recorder) = Stack::recorded();
    let stack = stack.with(|layer| layer.debug(true).protocols(["chat"]));
    let mut client = stack.connect();
    let handshake = HANDSHAKE
        .replace("/ws", "/ws/room")
        .replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n");
    client.send(handshake.as_bytes()).await;
    assert_eq!(client.head().await.status, 101);
    let nasty = format!("line\r\nERROR forged \x1b[31m{}", "x".repeat(5000));
    client.send(&text(&nasty)).await;
    client.expect(0x81, nasty.as_bytes()).await;
    client.send(&close(1000, "")).await;
    client.expect_close(Some(1000)).await;
    drop(client);
    recorder.closed().await;

    let opened = &log.lines_with(" open")[0];
    for field in [
        "websocket{",
        "mount=\"/ws\"",
        "path=\"/ws/room\"",
        "HTTP/1.1",
        "protocol=\"chat\"",
    ] {
        assert!(opened.contains(field), "no {field} in {opened}");
    }
    assert_eq!(
        log.lines_with("closed code=1000").len(),
        1,
        "{}",
        log.text()
    );
    let wire = log.lines_with("tower_websocket::wire");
    assert!(
        wire.iter().any(|line| line.contains("received")),
        "{wire:?}"
    );
    assert!(wire.iter().all(|line| line.len() < 1000), "{wire:?}");
    let text = log.text();
    assert!(!text.contains('\x1b') && !text.lines().any(|l| l.starts_with("ERROR")));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_logged_with_its_reason() {
    let (log, _guard) = Log::begin(LevelFilter::DEBUG);
    let (stack, _) = Stack::recorded();
    let mut client = stack.connect();
    let foreign = "Upgrade: websocket\r\nOrigin: https://evil.example";
    client
        .send(HANDSHAKE.replace("Upgrade: websocket", foreign).as_bytes())
        .await;
    assert_eq!(client.response().await.0.status, 403);
    let lines = log.lines_with("refused a WebSocket handshake");
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains("403"), "{lines:?}");
}

/// And only one, however many clients come to a server that is not right.
#[tokio::test(start_paused = true)]
async fn r12_a_server_without_with_upgrades_is_told_so_in_one_line() {
    let (log, _guard) = Log::begin(LevelFilter::WARN);
    let (stack, recorder) = Stack::recorded();
    for _ in 0..50 {
        let (client, server) = tokio::io::duplex(1 << 16);
        let service = TowerToHyperService::new(stack.layer.clone().layer(plain()));
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(server), service)
                .await;
        });
        let mut client = Client::new(client);
        client.send(HANDSHAKE.as_bytes()).await;
        client.end().await;
    }
    left(&stack.shutdown, 0).await;
    assert_eq!(log.text().lines().count(), 1, "{}", log.text());
    assert_eq!(log.lines_with("with_upgrades").len(), 1, "{}", log.text());
    assert!(recorder.log().is_empty());
}

/// An identifier with a slash in it: the application is not asked, and somebody has to say so.
#[tokio::test(start_paused = true)]
async fn p8_a_handshake_whose_path_can_be_read_in_two_ways_is_named_in_one_line() {
    let (log, _guard) = Log::begin(LevelFilter::WARN);
    let (stack, recorder) = Stack::recorded();
    for _ in 0..5 {
        for path in ["/ws/a%2Fb%1b", "/ws/../x"] {
            let mut client = stack.connect();
            client
                .send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
                .await;
            client.response().await;
            client.send(HANDSHAKE.replace("/ws", path).as_bytes()).await;
            assert_eq!(client.response().await.0.status, 200);
        }
    }
    assert_eq!(log.text().lines().count(), 1, "{}", log.text());
    assert_eq!(
        log.lines_with("\"/ws/a%2Fb%1b\"").len(),
        1,
        "{}",
        log.text()
    );
    assert!(recorder.log().is_empty());
}
