//! One connection that never rests beside others: how much it does between two looks at the
//! sockets, and whether its own deadlines still come (rows S1, S2).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tower::Layer;
use tower_websocket::{
    Connection, Deflate, Message, Result, WebSocketHandler, WebSocketLayer, WebSocketService,
};

use crate::support::*;

/// Counts what it gets, in messages and bytes.
#[derive(Clone, Default)]
struct Counter {
    messages: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
}

impl Counter {
    fn count(&self, message: &Message) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(message.len(), Ordering::Relaxed);
    }
}

impl WebSocketHandler for Counter {
    async fn on_message(&mut self, _: &mut Connection, message: Message) -> Result {
        self.count(&message);
        Ok(())
    }
}

/// Has as many bytes of a flood waiting as the largest sockets hold, and lets the server take them.
/// Most messages, and bytes of them, between two looks of tokio at its sockets.
async fn most_in_a_turn<E>(
    service: WebSocketService<Plain, E>,
    counter: &Counter,
    flood: &[u8],
    head: &str,
) -> (usize, usize)
where
    WebSocketService<Plain, E>: Clone,
    E: tower_websocket::Application,
{
    let (client, server) = tokio::io::duplex(4 * 1024 * 1024);
    tokio::spawn(serve_http1(server, service));
    let mut client = Client::new(client);
    client.send(head.as_bytes()).await;
    assert_eq!(client.head().await.status(), 101);
    let times = 4 * 1024 * 1024 / flood.len();
    client.io.write_all(&flood.repeat(times)).await.unwrap();
    let (mut before, mut most) = ((0, 0), (0, 0));
    let mut idle = 0;
    // Whoever yields is woken behind the next look at the sockets.
    while idle < 100 {
        tokio::task::yield_now().await;
        let messages = counter.messages.load(Ordering::Relaxed);
        let bytes = counter.bytes.load(Ordering::Relaxed);
        most.0 = most.0.max(messages - before.0);
        most.1 = most.1.max(bytes - before.1);
        idle = if (messages, bytes) == before {
            idle + 1
        } else {
            0
        };
        before = (messages, bytes);
    }
    most
}

#[tokio::test(start_paused = true)]
async fn s1_a_connection_handles_128_messages_between_two_looks_at_the_sockets() {
    let flood = frame(0x82, b"12345678");
    let counter = Counter::default();
    let layer = WebSocketLayer::new("/ws", counter.clone()).heartbeat(None);
    let push = most_in_a_turn(layer.layer(plain()), &counter, &flood, HANDSHAKE).await;
    assert!((1..=128).contains(&push.0), "{push:?}");

    let counter = Counter::default();
    let counted = counter.clone();
    let layer = WebSocketLayer::from_fn("/ws", move |mut conn: Connection| {
        let counter = counted.clone();
        async move {
            while let Some(message) = conn.recv().await? {
                counter.count(&message);
            }
            Ok(())
        }
    });
    let pull = most_in_a_turn(layer.layer(plain()), &counter, &flood, HANDSHAKE).await;
    // What one read ahead may leave, and the callback takes in one go.
    assert!((1..=256).contains(&pull.0), "{pull:?}");
}

/// Zeros, compressed.
fn bomb(len: usize) -> Vec<u8> {
    frame(0xC2, &deflated_run(0, len, true))
}

fn with_deflate() -> String {
    HANDSHAKE.replace(
        "\r\n\r\n",
        "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    )
}

/// Work of 10 µs.
fn work() {
    let advance = std::pin::pin!(tokio::time::advance(Duration::from_micros(10)));
    // It advances the clock at once, and then only lets others run.
    let _ = advance.poll(&mut Context::from_waker(std::task::Waker::noop()));
}

#[derive(Clone)]
struct Worker(Counter);

impl WebSocketHandler for Worker {
    async fn on_message(&mut self, _: &mut Connection, message: Message) -> Result {
        self.0.count(&message);
        work();
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn s1_an_application_that_works_does_so_for_200_microseconds_between_two_looks() {
    let flood = frame(0x82, b"12345678");
    let counter = Counter::default();
    let layer = WebSocketLayer::new("/ws", Worker(counter.clone())).heartbeat(None);
    let push = most_in_a_turn(layer.layer(plain()), &counter, &flood, HANDSHAKE).await;

    let counter = Counter::default();
    let counted = counter.clone();
    let layer = WebSocketLayer::from_fn("/ws", move |mut conn: Connection| {
        let counter = counted.clone();
        async move {
            while let Some(message) = conn.recv().await? {
                counter.count(&message);
                work();
            }
            Ok(())
        }
    });
    let layer = layer.heartbeat(None);
    let pull = most_in_a_turn(layer.layer(plain()), &counter, &flood, HANDSHAKE).await;
    // 20, and what comes before the next look at the clock.
    for (most, _) in [push, pull] {
        assert!((1..=20 + 8).contains(&most), "{push:?} {pull:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn s1_a_connection_inflates_about_64_kib_between_two_looks_at_the_sockets() {
    for size in [1_000, 20_000, 1_000_000] {
        let counter = Counter::default();
        let layer =
            WebSocketLayer::new("/ws", counter.clone()).deflate(Deflate::new().max_ratio(2000));
        let service = layer.heartbeat(None).layer(plain());
        let flood = bomb(size);
        let most = most_in_a_turn(service, &counter, &flood, &with_deflate()).await;
        let allowed = size.max(64 * 1024) + 258 * 1024;
        assert!(
            most.1 > 0 && most.1 <= allowed,
            "{size}: {most:?} of {allowed}"
        );
        let seen = counter.messages.load(Ordering::Relaxed);
        assert_eq!(seen, 4 * 1024 * 1024 / flood.len(), "{size}");
    }
}

/// The victim's looks at its socket while a megabyte of one attack is taken.
#[tokio::test(start_paused = true)]
async fn s1_empty_final_blocks_are_work_too() {
    let counter = Counter::default();
    let layer = WebSocketLayer::new("/ws", counter.clone()).deflate(Deflate::new());
    let (client, server) = tokio::io::duplex(4 * 1024 * 1024);
    tokio::spawn(serve_http1(server, layer.layer(plain())));
    let mut client = Client::new(client);
    client.send(with_deflate().as_bytes()).await;
    assert_eq!(client.head().await.status(), 101);
    client.send(&frame(0xC2, &[3, 0].repeat(100_000))).await;
    let mut looks = 0;
    while counter.messages.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
        looks += 1;
        assert!(looks < 100_000);
    }
    // 100,000 of them at 2 KiB of work, 128 of them in a piece.
    assert!(looks >= 500, "{looks}");
}

#[tokio::test(start_paused = true)]
async fn s1_what_messages_inflate_to_in_a_second_may_have_a_limit() {
    let counter = Counter::default();
    let layer = WebSocketLayer::new("/ws", counter.clone())
        .deflate(Deflate::new().max_ratio(2000))
        .max_message_size(10_000)
        .max_inflated_bytes_per_second(200_000);
    let mut client = http1(layer.layer(plain()));
    client.send(with_deflate().as_bytes()).await;
    assert_eq!(client.head().await.status(), 101);
    // 90,000 bytes and ten final blocks in a second, and again.
    for _ in 0..3 {
        client.send(&bomb(9_000).repeat(10)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(counter.messages.load(Ordering::Relaxed), 30);
    // As much at once as in three seconds is too much.
    client.send(&bomb(9_000).repeat(30)).await;
    client.expect_close(Some(1008)).await;
}

/// A socket whose peer sends a handshake and then the same bytes for ever, as fast as they are read,
/// and takes all that is written.
struct Endless {
    head: std::collections::VecDeque<u8>,
    bytes: Vec<u8>,
    at: usize,
}

impl AsyncRead for Endless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if !self.head.is_empty() {
            let n = self.head.len().min(buffer.remaining());
            let head: Vec<u8> = self.head.drain(..n).collect();
            buffer.put_slice(&head);
            return Poll::Ready(Ok(()));
        }
        while buffer.remaining() > 0 {
            let n = buffer.remaining().min(self.bytes.len() - self.at);
            buffer.put_slice(&self.bytes[self.at..self.at + n]);
            self.at = (self.at + n) % self.bytes.len();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn s2_a_connection_that_is_never_idle_keeps_its_deadlines() {
    for what in ["lifetime", "drain", "abort"] {
        for pull in [false, true] {
            let shutdown = tower_websocket::Shutdown::new();
            let age = (what == "lifetime").then_some(Duration::from_secs(2));
            let timeout = Duration::from_millis(500);
            let io = Endless {
                head: HANDSHAKE.bytes().collect(),
                bytes: text(&"busy".repeat(25)),
                at: 0,
            };
            if pull {
                let function = |mut conn: Connection| async move {
                    while conn.recv().await?.is_some() {}
                    Ok(())
                };
                let layer = WebSocketLayer::from_fn("/ws", function).shutdown(&shutdown);
                tokio::spawn(serve_http1(
                    io,
                    layer
                        .max_lifetime(age)
                        .close_timeout(timeout)
                        .layer(plain()),
                ));
            } else {
                let layer = WebSocketLayer::new("/ws", Counter::default()).shutdown(&shutdown);
                tokio::spawn(serve_http1(
                    io,
                    layer
                        .max_lifetime(age)
                        .close_timeout(timeout)
                        .layer(plain()),
                ));
            }
            while shutdown.connections() == 0 {
                tokio::task::yield_now().await;
            }
            let seconds = match what {
                "drain" => Some(60),
                "abort" => Some(1),
                _ => None,
            };
            if let Some(seconds) = seconds {
                let drain = shutdown.drain(Duration::from_secs(seconds));
                drop(tokio::spawn(drain.into_future()));
            }
            // The close timeout is in it, since this peer answers nothing.
            let mut passed = Duration::ZERO;
            while shutdown.connections() > 0 {
                tokio::time::advance(Duration::from_millis(100)).await;
                passed += Duration::from_millis(100);
                assert!(passed < Duration::from_secs(4), "{what} {pull}");
            }
        }
    }
}
