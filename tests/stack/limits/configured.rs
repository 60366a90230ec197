//! Limits on connections and on what a peer may send: who is refused, who is closed, with what.

use std::net::SocketAddr;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::Layer;
use tower::util::MapRequestLayer;
use tower_websocket::test::RawFrame;
use tower_websocket::{
    CloseCode, Connection, Message, Result, TrustedProxies, WebSocketHandler, WebSocketLayer,
};

use crate::support::*;

/// A connection to `layer` that comes from `peer`, and says that it speaks for `forwarded`.
async fn from(layer: &WebSocketLayer<Recorder>, peer: &str, forwarded: &str) -> (Client, Head) {
    let peer: SocketAddr = peer.parse().unwrap();
    let tell = MapRequestLayer::new(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request
    });
    let mut client = http1(tell.layer(layer.layer(plain())));
    let line = format!("X-Forwarded-For: {forwarded}\r\nHost: ");
    client
        .send(HANDSHAKE.replace("Host: ", &line).as_bytes())
        .await;
    let head = client.head().await;
    (client, head)
}

#[tokio::test(start_paused = true)]
async fn r1_more_connections_of_one_address_than_the_limit_are_429() {
    let (stack, recorder) = Stack::recorded();
    let stack = stack.with(|layer| layer.max_connections_per_ip(2));
    let layer = &stack.layer;
    let (first, head) = from(layer, "192.0.2.1:1", "1.1.1.1").await;
    assert_eq!(head.status(), 101);
    let (_second, head) = from(layer, "192.0.2.1:2", "2.2.2.2").await;
    assert_eq!(head.status(), 101);
    // Nobody has listed it as a proxy, so what it says does not count.
    let (_, head) = from(layer, "192.0.2.1:3", "3.3.3.3").await;
    assert_eq!(head.status(), 429);
    let wait: u64 = head.header("retry-after").unwrap().parse().unwrap();
    assert!((5..=10).contains(&wait));
    let (_other, head) = from(layer, "192.0.2.2:1", "1.1.1.1").await;
    assert_eq!(head.status(), 101);
    drop(first);
    recorder.closed().await;
    left(&stack.shutdown, 2).await;
    assert_eq!(from(layer, "192.0.2.1:4", "").await.1.status(), 101);
}

#[tokio::test(start_paused = true)]
async fn r1_behind_a_trusted_proxy_each_client_has_its_own_limit() {
    let (stack, _) = Stack::recorded();
    let stack = stack.with(|layer| {
        layer
            .trusted_proxies(TrustedProxies::x_forwarded_for(["10.0.0.0/8"]))
            .max_connections_per_ip(1)
    });
    let mut held = Vec::new();
    for (forwarded, status) in [
        ("1.1.1.1", 101),
        ("2.2.2.2", 101),
        ("1.1.1.1", 429),
        ("6.6.6.6, 1.1.1.1", 429),
        ("2.2.2.2, 3.3.3.3", 101),
    ] {
        let (client, head) = from(&stack.layer, "10.0.0.1:80", forwarded).await;
        assert_eq!(head.status(), status, "{forwarded}");
        held.push(client);
    }
}

#[tokio::test(start_paused = true)]
async fn r1_the_application_is_told_who_the_client_is() {
    let layer = WebSocketLayer::from_fn("/ws", |conn: Connection| async move {
        let (peer, client) = (conn.peer_addr().unwrap(), conn.client_ip().unwrap());
        conn.send(format!("{client} by {peer}")).await?;
        Ok(())
    })
    .peer_addr(|_| Some(([10, 0, 0, 1], 80).into()))
    .trusted_proxies(TrustedProxies::x_forwarded_for(["10.0.0.1"]));
    let mut client = http1(layer.layer(plain()));
    let request = HANDSHAKE.replace("Host: ", "X-Forwarded-For: 1.2.3.4\r\nHost: ");
    client.send(request.as_bytes()).await;
    assert_eq!(client.head().await.status(), 101);
    client.expect(0x81, b"1.2.3.4 by 10.0.0.1:80").await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_faster_than_the_limit_is_closed_with_1008() {
    let (stack, recorder) = Stack::recorded();
    let stack = stack.with(|layer| layer.max_messages_per_second(10));
    let mut client = stack.open().await;
    for i in 0..30 {
        client.send(&text("a")).await;
        client.expect(0x81, b"a").await;
        if i >= 9 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    client.send(&text("a").repeat(20)).await;
    while let Some(frame) = client.frame().await {
        if frame.first == 0x88 {
            assert_eq!(frame.close_code(), Some(1008));
        }
    }
    drop(client);
    assert_eq!(
        recorder.closed().await.last().unwrap(),
        "close 1008 Violation unclean"
    );
    stack.is_clean().await;

    let (stack, _) = Stack::recorded();
    let stack = stack.with(|layer| layer.max_message_size(1000).max_bytes_per_second(1000));
    let mut client = stack.open().await;
    for _ in 0..100 {
        client.send(&frame(0x82, &[0; 900])).await;
        client.expect(0x82, &[0; 900]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let flood = tokio::spawn(async move {
        for _ in 0..100 {
            client.try_send(&frame(0x82, &[0; 900])).await;
            let frame = tokio::time::timeout(Duration::from_millis(1), client.frame()).await;
            if let Ok(Some(frame @ RawFrame { first: 0x88, .. })) = frame {
                return frame.close_code();
            }
        }
        panic!("100 messages at once passed");
    });
    assert_eq!(within(flood).await.unwrap(), Some(1008));
}

#[tokio::test(start_paused = true)]
async fn a_peer_at_the_full_rate_is_not_closed_because_the_application_was_busy() {
    #[derive(Clone)]
    struct Busy(u64);
    impl WebSocketHandler for Busy {
        async fn on_message(&mut self, conn: &mut Connection, _: Message) -> Result {
            let busy = std::mem::replace(&mut self.0, 1);
            tokio::time::sleep(Duration::from_millis(busy)).await;
            conn.send("ok").await?;
            Ok(())
        }
    }
    let stack = Stack::new(Busy(5000)).with(|layer| layer.max_messages_per_second(10));
    // As much as a socket may hold, so that the peer is never held up.
    let (client, server) = tokio::io::duplex(16 << 20);
    tokio::spawn(serve_http1(server, stack.layer.layer(plain())));
    let mut client = Client::new(client);
    client.open("/ws").await;
    for _ in 0..60 {
        // Two of them are more than is read ahead.
        client.send(&frame(0x82, &[0; 60_000])).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for _ in 0..60 {
        client.expect(0x81, b"ok").await;
    }
}

/// The same where it is so busy that its thread stands still, in real time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_at_the_full_rate_is_not_closed_because_the_application_blocked() {
    #[derive(Clone)]
    struct Blocks;
    impl WebSocketHandler for Blocks {
        async fn on_message(&mut self, conn: &mut Connection, _: Message) -> Result {
            std::thread::sleep(Duration::from_millis(60));
            conn.try_send("ok")?;
            Ok(())
        }
    }
    let stack = Stack::new(Blocks).with(|layer| layer.max_messages_per_second(20));
    let mut client = tcp_client(tcp(stack.layer.layer(plain())).await).await;
    client.open("/ws").await;
    let (mut reader, mut writer) = tokio::io::split(client.io);
    let sending = tokio::spawn(async move {
        for _ in 0..30 {
            writer.write_all(&text("a")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        writer
    });
    let mut echoed = [0; 4 * 30];
    within(reader.read_exact(&mut echoed)).await.unwrap();
    assert_eq!(echoed[..], b"\x81\x02ok".repeat(30)[..]);
    drop(sending);
}

#[tokio::test(start_paused = true)]
async fn f22_the_limit_on_control_frames_can_be_set() {
    let (stack, _) = Stack::recorded();
    let stack = stack.with(|layer| layer.max_control_frames_per_second(3));
    let mut client = stack.open().await;
    client.send(&frame(0x8A, b"").repeat(3)).await;
    client.send(&text("a")).await;
    client.expect(0x81, b"a").await;
    client.send(&frame(0x8A, b"")).await;
    client.expect_close(Some(1008)).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_has_lived_long_enough_is_closed_with_1001_and_not_all_at_once() {
    let (stack, _) = Stack::recorded();
    let stack = stack.with(|layer| layer.max_lifetime(Duration::from_secs(100)).heartbeat(None));
    let began = tokio::time::Instant::now();
    let mut ages = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(stack.open().await);
    }
    for mut client in clients {
        ages.push(tokio::spawn(async move {
            let close = client.frame().await.unwrap();
            assert_eq!(
                (close.first, &close.payload[..2]),
                (0x88, &[0x03, 0xE9][..])
            );
            let age = began.elapsed();
            client.send(&frame(0x88, &close.payload[..2])).await;
            client.end().await;
            age
        }));
    }
    let mut seen = std::collections::BTreeSet::new();
    for age in ages {
        let age = age.await.unwrap();
        assert!((90..=101).contains(&age.as_secs()), "{age:?}");
        seen.insert(age.as_secs());
    }
    assert!(seen.len() > 3, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn every_timeout_can_be_set() {
    let (stack, recorder) = Stack::recorded();
    let stack = stack.with(|layer| {
        layer
            .heartbeat(Duration::from_secs(2))
            .pong_timeout(Duration::from_secs(1))
    });
    let mut client = stack.open().await;
    let began = tokio::time::Instant::now();
    client.end().await;
    assert_eq!(began.elapsed().as_secs(), 3);
    assert_eq!(
        recorder.closed().await.last().unwrap(),
        "close 1006 Timeout unclean"
    );

    let (stack, _) = Stack::recorded();
    let stack = stack.with(|layer| {
        layer
            .progress_timeout(Duration::from_secs(1))
            .heartbeat(None)
    });
    let mut client = stack.open().await;
    let began = tokio::time::Instant::now();
    client.send(&text("begun")[..4]).await;
    let close = client.frame().await.unwrap();
    assert_eq!((close.first, began.elapsed().as_secs()), (0x88, 1));
}

/// Heartbeats are no messages, in whichever direction they go.
#[tokio::test(start_paused = true)]
async fn an_idle_connection_whose_peer_answers_heartbeats_is_idle() {
    let (stack, recorder) = Stack::recorded();
    let stack = stack.with(|layer| layer.idle_timeout(Duration::from_secs(90)));
    let mut client = stack.open().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    client.send(&text("a")).await;
    client.expect(0x81, b"a").await;
    let began = tokio::time::Instant::now();
    let mut pings = 0;
    let close = loop {
        let received = client.frame().await.unwrap();
        if received.first != 0x89 {
            break received;
        }
        pings += 1;
        client.send(&frame(0x8A, &received.payload)).await;
    };
    assert_eq!(close.close_code(), Some(1001));
    assert_eq!((pings, began.elapsed().as_secs()), (4, 90));
    client.send(&frame(0x88, &close.payload[..2])).await;
    client.end().await;
    assert_eq!(
        recorder.closed().await.last().unwrap(),
        "close 1001 Idle clean"
    );
}

/// Whatever is set, nothing panics and nothing spins.
#[tokio::test(start_paused = true)]
async fn the_largest_values_are_no_limits_and_the_smallest_do_no_harm() {
    let (stack, _) = Stack::recorded();
    let stack = stack.with(|layer| {
        let longest = Duration::MAX;
        layer
            .max_message_size(usize::MAX)
            .max_fragments(u32::MAX)
            .max_control_frames_per_second(u32::MAX)
            .max_messages_per_second(u32::MAX)
            .max_bytes_per_second(1000)
            .max_queued_messages(usize::MAX)
            .max_queued_bytes(usize::MAX)
            .max_connections(usize::MAX)
            .max_connections_per_ip(usize::MAX)
            .heartbeat(longest)
            .pong_timeout(longest)
            .progress_timeout(longest)
            .on_message_timeout(longest)
            .idle_timeout(longest)
            .max_lifetime(longest)
            .close_timeout(longest)
            .upgrade_timeout(longest)
    });
    let mut client = stack.open().await;
    // The second fragment begins within a character, and the buffer has to grow for it.
    let message = ["é".as_bytes(), &[b'a'; 1000]].concat();
    client.send(&frame(0x01, &message[..1])).await;
    client.send(&frame(0x00, &message[1..])).await;
    client.send(&frame(0x80, b"")).await;
    client.expect(0x81, &message).await;
    client.send(&frame(0x88, &[])).await;
    client.expect_close(None).await;

    let (stack, _) = Stack::recorded();
    let stack = stack.with(|layer| layer.heartbeat(Duration::ZERO).max_fragments(0));
    let mut client = stack.open().await;
    for byte in text("abc") {
        client.send(&[byte]).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    client.expect(0x81, b"abc").await;
    let quiet = tokio::time::timeout(Duration::from_secs(100), client.frame());
    assert!(quiet.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn p8_a_pong_timeout_of_zero_is_none_and_heartbeats_go_on() {
    let (stack, _) = Stack::recorded();
    let stack = stack.with(|layer| layer.pong_timeout(Duration::ZERO));
    let mut client = stack.open().await;
    let began = tokio::time::Instant::now();
    for i in 1..=5 {
        assert_eq!(client.frame().await.unwrap().first, 0x89);
        assert_eq!(began.elapsed().as_secs(), 20 * i);
    }
    client.send(&text("still here")).await;
    client.expect(0x81, b"still here").await;
}

/// What can be off is off with zero; what cannot has a least value with which clients can live.
#[tokio::test(start_paused = true)]
async fn p8_no_zero_closes_a_client_that_does_nothing_wrong() {
    #[derive(Clone)]
    struct Slow(Recorder);
    impl WebSocketHandler for Slow {
        async fn on_upgrade(
            &mut self,
            _: &mut tower_websocket::Handshake,
        ) -> std::result::Result<(), tower_websocket::Rejection> {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(())
        }
        async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if message.as_text() == Some("leave") {
                conn.close(CloseCode::NORMAL_CLOSURE, "")?;
                return Ok(());
            }
            self.0.on_message(conn, message).await
        }
    }
    type Change = fn(WebSocketLayer<Slow>) -> WebSocketLayer<Slow>;
    let zero: [(&str, Change); 11] = [
        ("heartbeat", |layer| layer.heartbeat(Duration::ZERO)),
        ("pong_timeout", |layer| layer.pong_timeout(Duration::ZERO)),
        ("idle_timeout", |layer| layer.idle_timeout(Duration::ZERO)),
        ("max_lifetime", |layer| layer.max_lifetime(Duration::ZERO)),
        ("on_message_timeout", |layer| {
            layer.on_message_timeout(Duration::ZERO)
        }),
        ("upgrade_timeout", |layer| {
            layer.upgrade_timeout(Duration::ZERO)
        }),
        ("progress_timeout", |layer| {
            layer.progress_timeout(Duration::ZERO)
        }),
        ("close_timeout", |layer| layer.close_timeout(Duration::ZERO)),
        ("control frames", |layer| {
            layer.max_control_frames_per_second(0)
        }),
        ("messages", |layer| layer.max_messages_per_second(0)),
        ("bytes", |layer| layer.max_bytes_per_second(0)),
    ];
    for (name, change) in zero {
        let stack = Stack::new(Slow(Recorder::default())).with(change);
        let mut client = stack.connect();
        client.send(HANDSHAKE.as_bytes()).await;
        assert_eq!(client.head().await.status(), 101, "{name}");
        for byte in text("abc") {
            client.send(&[byte]).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        client.expect(0x81, b"abc").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.send(&frame(0x89, b"?")).await;
        client.expect(0x8A, b"?").await;
        client.send(&text("leave")).await;
        client.expect_close(Some(1000)).await;
        left(&stack.shutdown, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn n4_the_queue_is_as_long_as_it_was_set() {
    let layer = WebSocketLayer::from_fn("/ws", |conn: Connection| async move {
        let mut accepted = 0;
        while conn.try_send(vec![0; 100]).is_ok() {
            accepted += 1;
        }
        assert_eq!(accepted, 3);
        Ok(())
    })
    .max_queued_messages(3)
    .max_queued_bytes(1_000_000);
    let mut client = http1(layer.layer(plain()));
    client.open("/ws").await;
    for _ in 0..3 {
        client.expect(0x82, &[0; 100]).await;
    }
    client.expect_close(Some(1000)).await;
}

/// What waits in the socket while a callback is busy is not the peer's haste.
#[tokio::test(start_paused = true)]
async fn s9_a_peer_that_pings_once_a_second_while_a_callback_is_busy_has_done_nothing_wrong() {
    #[derive(Clone)]
    struct Busy;
    impl WebSocketHandler for Busy {
        async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
            if message == Message::from("busy") {
                // With the read-ahead full nothing is read: see below.
                tokio::time::sleep(Duration::from_secs(110)).await;
                conn.send("done").await?;
            }
            Ok(())
        }
    }
    let stack = Stack::new(Busy);
    let mut client = stack.open().await;
    client.send(&text("busy")).await;
    for _ in 0..2 {
        client.send(&frame(0x82, &[0; 40_000])).await;
    }
    for second in 0..105 {
        client.send(&frame(0x89, &[second])).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    loop {
        let frame = client.frame().await.unwrap();
        assert_ne!(frame.first, 0x88, "{frame:?}");
        if frame.first == 0x81 {
            break;
        }
    }
    // Nor is its next haste excused.
    client.send(&frame(0x8A, b"").repeat(500)).await;
    loop {
        let frame = client.frame().await.unwrap();
        if frame.first == 0x88 {
            assert_eq!(frame.close_code(), Some(1008));
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s9_a_queue_that_is_limited_in_bytes_is_full_of_empty_messages_some_day() {
    #[derive(Clone)]
    struct Filling(Recorder);
    impl WebSocketHandler for Filling {
        async fn on_open(&mut self, conn: &mut Connection) -> Result {
            let queued = (0..1_000_000).take_while(|_| conn.try_send("").is_ok());
            self.0.note(queued.count().to_string());
            Ok(())
        }
    }
    let recorder = Recorder::default();
    let stack = Stack::new(Filling(recorder.clone()));
    let stack = stack.with(|layer| {
        layer
            .max_queued_messages(usize::MAX)
            .max_queued_bytes(64 * 1024)
    });
    let mut client = stack.open().await;
    client.frame().await.unwrap();
    assert_eq!(recorder.log(), ["1024"]);
}
