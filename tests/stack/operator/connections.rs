//! The live connections of a layer.

use std::time::Duration;

use tower::Layer;
use tower_websocket::test::TestServer;
use tower_websocket::{
    CloseCode, CloseError, Connection, ConnectionId, Connections, LiveConnection, OnFull,
    Subscribe, Topics, WebSocketLayer,
};

use crate::support::*;

async fn open(stack: &Stack<Recorder>, path: &str) -> Client {
    let mut client = stack.connect();
    let handshake = HANDSHAKE.replace("/ws", path);
    client.send(handshake.as_bytes()).await;
    assert_eq!(client.head().await.status(), 101);
    client
}

fn at(stack: &Stack<Recorder>, path: &str) -> LiveConnection {
    let mut found = stack.layer.connections().iter();
    found.find(|one| one.path() == path).unwrap()
}

#[tokio::test(start_paused = true)]
async fn r1_a_connection_is_listed_with_what_it_is_and_what_it_did() {
    let (stack, _) = Stack::recorded();
    let connections = stack.layer.connections();
    assert_eq!((connections.count(), connections.iter().count()), (0, 0));
    let mut client = open(&stack, "/ws/room").await;
    tokio::time::advance(Duration::from_secs(5)).await;
    client.send(&text("hello")).await;
    client.expect(0x81, b"hello").await;
    tokio::time::advance(Duration::from_secs(7)).await;

    assert_eq!(connections.count(), 1);
    let one = connections.iter().next().unwrap();
    assert_eq!((one.mount(), one.path()), ("/ws", "/room"));
    assert_eq!(one.version(), http::Version::HTTP_11);
    assert_eq!((one.protocol(), one.is_compressed()), (None, false));
    assert_eq!((one.peer_addr(), one.client_ip()), (None, None));
    let (received, sent) = (one.received(), one.sent());
    assert_eq!((received.messages, received.bytes), (1, 5));
    assert_eq!((sent.messages, sent.bytes), (1, 5));
    assert_eq!((one.queued().messages(), one.dropped()), (0, 0));
    for (time, seconds) in [(one.age(), 12), (one.idle(), 7)] {
        let off = time.abs_diff(Duration::from_secs(seconds));
        assert!(off < Duration::from_millis(100), "{time:?}");
    }
    assert_eq!(connections.get(one.id()).unwrap().path(), "/room");
    assert_eq!(
        connections.get_by_number(one.id().as_u64()).unwrap().id(),
        one.id()
    );

    client.send(&close(1000, "")).await;
    client.expect_close(Some(1000)).await;
    drop(client);
    left(&stack.shutdown, 0).await;
    assert_eq!((connections.count(), connections.iter().count()), (0, 0));
    assert!(connections.get(one.id()).is_none() && one.is_closed());
    assert_eq!(one.received().messages, 1);
}

#[tokio::test(start_paused = true)]
async fn c4_the_round_trip_of_a_heartbeat_is_known_when_its_pong_came() {
    let (stack, _) = Stack::recorded();
    let mut client = open(&stack, "/ws/far").await;
    assert_eq!(at(&stack, "/far").round_trip(), None);
    let ping = client.frame().await.unwrap();
    assert_eq!(ping.first, 0x89);
    tokio::time::advance(Duration::from_millis(80)).await;
    client.send(&frame(0x8a, &ping.payload)).await;
    client.send(&text("here")).await;
    client.expect(0x81, b"here").await;
    let round_trip = at(&stack, "/far").round_trip().unwrap();
    assert!((80..90).contains(&round_trip.as_millis()), "{round_trip:?}");
}

#[tokio::test(start_paused = true)]
async fn f27_one_connection_or_all_that_match_are_closed_and_no_other() {
    let (stack, recorder) = Stack::recorded();
    let connections = stack.layer.connections();
    let mut clients = Vec::new();
    for room in ["/ws/a", "/ws/b", "/ws/b", "/ws/c"] {
        clients.push(open(&stack, room).await);
    }
    let code = CloseCode::SERVICE_RESTART;
    connections
        .close(at(&stack, "/a").id(), code, "you")
        .unwrap();
    clients[0].expect_close(Some(1012)).await;

    let in_b = |one: &LiveConnection| one.path() == "/b";
    assert_eq!(connections.close_matching(in_b, code, "move").unwrap(), 2);
    for client in &mut clients[1..3] {
        client.expect_close(Some(1012)).await;
    }
    // They are closing already.
    assert_eq!(connections.close_matching(in_b, code, "move").unwrap(), 0);

    clients[3].send(&text("still here")).await;
    clients[3].expect(0x81, b"still here").await;
    drop(clients.drain(..3));
    left(&stack.shutdown, 1).await;
    drop(clients);
    assert!(
        recorder
            .closed()
            .await
            .iter()
            .any(|line| line.contains("1012"))
    );
}

#[tokio::test(start_paused = true)]
async fn f27_a_code_that_must_not_be_sent_closes_nothing() {
    let (stack, _) = Stack::recorded();
    let connections = stack.layer.connections();
    let mut client = open(&stack, "/ws/a").await;
    let id: ConnectionId = at(&stack, "/a").id();
    let wrong = connections.close(id, CloseCode::ABNORMAL_CLOSURE, "");
    assert!(matches!(wrong, Err(CloseError::InvalidCode(_))));
    let long = connections.close_matching(|_| true, CloseCode::NORMAL_CLOSURE, &"x".repeat(124));
    assert!(matches!(long, Err(CloseError::ReasonTooLong(124))));
    client.send(&text("open")).await;
    client.expect(0x81, b"open").await;
}

#[tokio::test(start_paused = true)]
async fn r1_who_is_not_tracked_is_counted_and_drained_but_not_listed() {
    let (stack, _) = Stack::recorded();
    let stack = stack.with(|layer| layer.track_connections(false));
    let connections = stack.layer.connections();
    let mut client = open(&stack, "/ws/a").await;
    assert_eq!((connections.count(), connections.iter().count()), (1, 0));
    let drain = tokio::spawn(stack.shutdown.drain(Duration::from_secs(9)));
    client.expect_close(Some(1001)).await;
    drop(client);
    assert_eq!(drain.await.unwrap().closed(), 1);
}

#[tokio::test(start_paused = true)]
async fn r1_a_connection_of_a_stream_is_listed_and_dropped_when_it_is_closed() {
    let layer = WebSocketLayer::stream("/ws", |socket, _| async move {
        let _socket = socket;
        std::future::pending().await
    });
    let connections = layer.connections();
    let mut client = http1(layer.layer(plain()));
    client.open("/ws").await;
    let one = within(async {
        loop {
            match connections.iter().next() {
                Some(one) => return one,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    })
    .await;
    one.close(CloseCode::NORMAL_CLOSURE, "").unwrap();
    client.end().await;
    assert_eq!(connections.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn r1_a_snapshot_is_data_that_serde_writes() {
    let (stack, _) = Stack::recorded();
    let mut client = open(&stack, "/ws/a%20b").await;
    client.send(&text("hi")).await;
    client.expect(0x81, b"hi").await;
    let snapshot = stack.layer.connections().snapshot();
    let json = serde_json::to_value(&snapshot).unwrap();
    assert_eq!(json[0]["path"], "/a%20b");
    assert_eq!(json[0]["http"], "HTTP/1.1");
    assert_eq!(json[0]["received"]["bytes"], 2);
    assert_eq!(json[0]["round_trip_us"], serde_json::Value::Null);
}

/// A server whose connections subscribe what their path says, with a queue of 2.
fn subscribers(topics: &Topics) -> (TestServer, Connections) {
    let layer = WebSocketLayer::from_fn("/", |mut conn: Connection| async move {
        for topic in conn.path().split('/').skip(1) {
            let newest = Subscribe::new().on_full(OnFull::DropNewest);
            conn.subscribe_with(topic, newest).await?;
        }
        conn.send("ready").await?;
        while let Some(message) = conn.recv().await? {
            conn.unsubscribe(message.as_text().unwrap_or_default());
            conn.send("done").await?;
        }
        Ok(())
    });
    let layer = layer.max_queued_messages(2).topics(topics);
    let connections = layer.connections();
    (TestServer::new(layer.into_service()), connections)
}

#[tokio::test(start_paused = true)]
async fn r1_the_topics_of_a_connection_are_listed_up_to_a_number() {
    let topics = Topics::new();
    let (server, connections) = subscribers(&topics);
    let mut client = server.connect("/sea/air/land").await.expect("a 101");
    client.expect_text("ready").await;
    let one = connections.iter().next().unwrap();
    assert_eq!(one.subscriptions(), 3);
    assert_eq!(one.topics(16), ["air", "land", "sea"]);
    assert_eq!((one.topics(2).len(), one.topics(0).len()), (2, 0));
    client.send("air").await;
    client.expect_text("done").await;
    assert_eq!(one.topics(16), ["land", "sea"]);
    let snapshot = one.snapshot();
    assert_eq!(
        (snapshot.subscriptions, &*snapshot.topics),
        (2, &["land".to_owned(), "sea".to_owned()][..])
    );
    client.close(CloseCode::NORMAL_CLOSURE, "").await;
    client.expect_close(CloseCode::NORMAL_CLOSURE).await;
    within(async {
        while one.subscriptions() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn t1_what_was_dropped_is_summed_over_topics_and_stays_when_they_are_left() {
    let topics = Topics::new();
    let (server, connections) = subscribers(&topics);
    let mut client = server.connect("/sea/air").await.expect("a 101");
    client.expect_text("ready").await;
    let one = connections.iter().next().unwrap();
    assert_eq!(one.dropped(), 0);
    let mut dropped = 0;
    for _ in 0..20 {
        for topic in ["sea", "air"] {
            // More than the pipe takes without a reader.
            dropped += topics.publish(topic, "x".repeat(50_000)).dropped() as u64;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(dropped > 2, "{dropped}");
    assert_eq!((one.dropped(), one.snapshot().dropped), (dropped, dropped));
    client.send("sea").await;
    while client.recv().await.as_text() != Some("done") {}
    assert_eq!((one.subscriptions(), one.dropped()), (1, dropped));
    drop(client);
    within(async {
        while connections.count() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!((one.subscriptions(), one.dropped()), (0, dropped));
}
