//! Slow readers: what each policy does, and that nobody else notices.

use std::time::Duration;

use tower_websocket::test::{TestClient, TestServer};
use tower_websocket::{
    CloseCode, Connection, Message, OnFull, Published, Retain, Subscribe, Topics, WebSocketLayer,
};

use crate::support::{HANDSHAKE, Header as _, http1};

const SECOND: Duration = Duration::from_secs(1);

/// The queue of a connection.
const QUEUE: usize = 8;

/// More than the pipe and the batch that is being written take without a reader.
const STUFFING: usize = 40;

/// Larger than what is written together with its neighbours, so that a number of messages is in flight
/// and not a number of bytes.
fn large(n: usize) -> String {
    format!("{n} {}", "x".repeat(20_000))
}

/// The number in front of a message, or all of it.
fn number(message: &Message) -> String {
    let text = message.as_text().unwrap();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// A server whose connections subscribe "room" as `how` says.
fn server(topics: &Topics, how: fn() -> Subscribe) -> TestServer {
    let layer = WebSocketLayer::from_fn("/", move |mut conn: Connection| async move {
        conn.subscribe_with("room", how()).await?;
        conn.send("ready").await?;
        while let Some(message) = conn.recv().await? {
            let dropped = conn.dropped("room");
            conn.send(format!(
                "{} {dropped}",
                message.as_text().unwrap_or_default()
            ))
            .await?;
        }
        Ok(())
    });
    let layer = layer.max_queued_messages(QUEUE).topics(topics);
    TestServer::new(layer.into_service())
}

async fn open(server: &TestServer) -> TestClient {
    let mut client = server.connect("/").await.expect("a 101");
    client.expect_text("ready").await;
    client
}

/// Publishes many messages, each a millisecond behind the last, of which the client reads none. The sum of
/// what became of them.
async fn publish(topics: &Topics, numbers: std::ops::Range<usize>) -> (usize, usize, usize) {
    let mut sum = (0, 0, 0);
    for n in numbers {
        let published: Published = topics.publish("room", large(n));
        sum.0 += published.delivered();
        sum.1 += published.waiting();
        sum.2 += published.dropped();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    sum
}

/// The numbers of the messages up to the one that is "end".
async fn numbers(client: &mut TestClient) -> Vec<String> {
    let mut numbers = Vec::new();
    loop {
        let number = number(&client.recv().await);
        if number == "end" {
            return numbers;
        }
        numbers.push(number);
    }
}

fn range(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|n| n.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn t1_by_default_who_is_too_slow_is_closed_with_1013_behind_what_was_queued() {
    let topics = Topics::new();
    let server = server(&topics, Subscribe::new);
    let mut client = open(&server).await;
    let (delivered, waiting, dropped) = publish(&topics, 0..STUFFING).await;
    assert!(
        delivered >= QUEUE && waiting == 0 && dropped == 1,
        "{delivered}"
    );
    for n in 0..delivered {
        assert_eq!(number(&client.recv().await), n.to_string());
    }
    let reason = client.expect_close(CloseCode::TRY_AGAIN_LATER).await;
    assert_eq!(reason, "the connection is too slow for what it subscribes");
}

#[tokio::test(start_paused = true)]
async fn t1_drop_newest_keeps_what_was_queued_and_counts_the_rest() {
    let topics = Topics::new();
    let how = || Subscribe::new().on_full(OnFull::DropNewest);
    let server = server(&topics, how);
    let mut client = open(&server).await;
    let (delivered, _, dropped) = publish(&topics, 0..STUFFING).await;
    assert_eq!(delivered + dropped, STUFFING);
    assert!(dropped > 0);
    for n in 0..delivered {
        assert_eq!(number(&client.recv().await), n.to_string());
    }
    client.send("dropped:").await;
    client.expect_text(&format!("dropped: {dropped}")).await;
    topics.publish("room", "again");
    client.expect_text("again").await;
}

#[tokio::test(start_paused = true)]
async fn t1_drop_oldest_keeps_the_latest() {
    let topics = Topics::new();
    let how = || {
        Subscribe::new()
            .on_full(OnFull::DropOldest)
            .gap(|n| format!("gap {n}").into())
    };
    let server = server(&topics, how);
    let mut client = open(&server).await;
    let (delivered, waiting, dropped) = publish(&topics, 0..STUFFING).await;
    assert_eq!((delivered + waiting, waiting - dropped), (STUFFING, QUEUE));
    let mut expected = range(0..delivered);
    expected.extend(range(STUFFING - QUEUE..STUFFING));
    for n in expected {
        assert_eq!(number(&client.recv().await), n);
    }
    // The client is told once, behind what has waited.
    client.expect_text(&format!("gap {dropped}")).await;
    topics.publish("room", "end");
    assert!(numbers(&mut client).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn t1_keep_latest_keeps_the_latest_of_each_key() {
    let topics = Topics::new();
    let how = || {
        Subscribe::new()
            .on_full(OnFull::KeepLatest)
            .key(|message| number(message).parse().unwrap_or(0) % 3)
    };
    let server = server(&topics, how);
    let mut client = open(&server).await;
    let (delivered, waiting, dropped) = publish(&topics, 0..STUFFING).await;
    assert_eq!((delivered + waiting, waiting - dropped), (STUFFING, 3));
    for n in 0..delivered {
        assert_eq!(number(&client.recv().await), n.to_string());
    }
    let mut latest = Vec::new();
    for _ in 0..3 {
        latest.push(number(&client.recv().await));
    }
    latest.sort();
    assert_eq!(latest, range(STUFFING - 3..STUFFING));
    client.expect_silence(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn t1_t6_a_paused_reader_of_a_retained_topic_loses_nothing() {
    let topics = Topics::builder()
        .retain("room", Retain::messages(1000).bytes(usize::MAX))
        .build();
    let server = server(&topics, Subscribe::new);
    let mut client = open(&server).await;
    let (delivered, waiting, dropped) = publish(&topics, 0..STUFFING).await;
    assert_eq!((delivered + waiting, dropped), (STUFFING, 0));
    assert!(waiting > 0);
    // A publisher that is faster than its reader all the time.
    let publisher = {
        let topics = topics.clone();
        tokio::spawn(async move { publish(&topics, STUFFING..300).await })
    };
    for n in 0..300 {
        assert_eq!(number(&client.recv().await), n.to_string());
        if n % 20 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(publisher.await.unwrap().2, 0);
}

#[tokio::test(start_paused = true)]
async fn t7_a_paused_reader_behind_the_end_of_the_log_is_closed() {
    let topics = Topics::builder()
        .retain("room", Retain::messages(5))
        .build();
    let server = server(&topics, Subscribe::new);
    let mut client = open(&server).await;
    let (delivered, ..) = publish(&topics, 0..STUFFING).await;
    for n in 0..delivered {
        assert_eq!(number(&client.recv().await), n.to_string());
    }
    client.expect_close(CloseCode::TRY_AGAIN_LATER).await;
}

#[tokio::test(start_paused = true)]
async fn t7_a_paused_reader_with_a_gap_function_is_told_how_many_it_missed_and_goes_on() {
    let topics = Topics::builder()
        .retain("room", Retain::messages(5))
        .build();
    let how = || Subscribe::new().gap(|n| format!("gap:{n}").into());
    let server = server(&topics, how);
    let mut client = open(&server).await;
    let (delivered, ..) = publish(&topics, 0..STUFFING).await;
    let missed = STUFFING - 5 - delivered;
    let mut expected = range(0..delivered);
    expected.push(format!("gap:{missed}"));
    expected.extend(range(STUFFING - 5..STUFFING));
    for n in expected {
        assert_eq!(number(&client.recv().await), n);
    }
    topics.publish("room", "end");
    assert!(numbers(&mut client).await.is_empty());
}

/// One reader that is stuck for ever, with each policy.
#[tokio::test(start_paused = true)]
async fn r9_t6_a_stuck_reader_slows_down_neither_publisher_nor_the_others() {
    let policies = [
        OnFull::Close,
        OnFull::DropNewest,
        OnFull::DropOldest,
        OnFull::KeepLatest,
        OnFull::Pause,
    ];
    for retained in [false, true] {
        for policy in policies {
            let builder = Topics::builder();
            let topics = if retained {
                builder.retain("room", Retain::messages(10)).build()
            } else {
                builder.build()
            };
            let layer = WebSocketLayer::from_fn("/", move |mut conn: Connection| async move {
                let how = Subscribe::new().on_full(policy);
                conn.subscribe_with("room", how).await?;
                conn.send("ready").await?;
                while conn.recv().await?.is_some() {}
                Ok(())
            });
            let layer = layer.max_queued_messages(QUEUE).topics(&topics);
            let server = TestServer::new(layer.into_service());
            let mut stuck = open(&server).await;
            let mut readers = Vec::new();
            for _ in 0..10 {
                let mut reader = open(&server).await;
                readers.push(tokio::spawn(async move {
                    for n in 0..500 {
                        assert_eq!(number(&reader.recv().await), n.to_string());
                    }
                }));
            }
            for n in 0..500 {
                // The publisher does not even yield: it waits for nobody.
                topics.publish("room", large(n));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            for reader in readers {
                reader
                    .await
                    .expect("a reader that keeps up gets everything");
            }
            // It learns what its policy says, and the server goes on.
            assert_eq!(number(&stuck.recv().await), "0");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn t1_compressed_messages_take_the_same_ways() {
    for takeover in [false, true] {
        for policy in [OnFull::DropOldest, OnFull::KeepLatest, OnFull::Pause] {
            let topics = Topics::builder()
                .retain("room", Retain::messages(5000).bytes(usize::MAX))
                .build();
            let layer = WebSocketLayer::from_fn("/", move |mut conn: Connection| async move {
                let how = Subscribe::new().on_full(policy);
                conn.subscribe_with("room", how).await?;
                conn.send("ready").await?;
                while conn.recv().await?.is_some() {}
                Ok(())
            });
            let deflate = tower_websocket::Deflate::new().server_context_takeover(takeover);
            let layer = layer
                .max_queued_messages(QUEUE)
                .topics(&topics)
                .deflate(deflate);
            let mut client = http1(layer.into_service());
            let handshake = HANDSHAKE.replace("/ws", "/").replace(
                "Upgrade: websocket",
                "Upgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate",
            );
            client.send(handshake.as_bytes()).await;
            let head = client.head().await;
            assert!(head.header("sec-websocket-extensions").is_some());
            tokio::time::sleep(SECOND).await;
            // Small when compressed: what is in the queue counts as that.
            let (delivered, waiting, dropped) = publish(&topics, 0..2000).await;
            assert_eq!(delivered + waiting, 2000);
            assert!(waiting > 0, "{policy:?}");
            client.expect(0x81, b"ready").await;
            for n in 0..2000 - dropped {
                // Compressed text, whole.
                let frame = client.frame().await.expect("a frame");
                assert_eq!(frame.first, 0xC1, "{policy:?} {takeover} {n}");
            }
        }
    }
}
