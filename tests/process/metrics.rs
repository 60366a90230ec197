//! Each metric moves when it should, and by as much. A process of its own: the recorder belongs to it.

#![allow(clippy::unwrap_used, unreachable_pub, missing_debug_implementations)]

#[allow(dead_code)]
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use tower_websocket::test::{Engine, TestClient, TestServer};
use tower_websocket::{
    CloseCode, Connection, Handshake, Message, OnFull, Rejection, Result, Retain, Subscribe,
    Topics, WebSocketHandler, WebSocketLayer,
};

use crate::support::*;

/// Sums of counters and gauges; of histograms how often something was recorded, and the last value.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeMap<String, (f64, f64)>>>);

struct One(String, Seen);

impl One {
    fn add(&self, n: f64, last: f64) {
        let mut all = self.1.0.lock().unwrap();
        let entry = all.entry(self.0.clone()).or_default();
        *entry = (entry.0 + n, last);
    }
}

impl CounterFn for One {
    fn increment(&self, n: u64) {
        self.add(n as f64, 0.0);
    }
    fn absolute(&self, _: u64) {
        panic!("counters are incremented");
    }
}

impl GaugeFn for One {
    fn increment(&self, n: f64) {
        self.add(n, 0.0);
    }
    fn decrement(&self, n: f64) {
        self.add(-n, 0.0);
    }
    fn set(&self, _: f64) {
        panic!("of several layers the last would win");
    }
}

impl HistogramFn for One {
    fn record(&self, value: f64) {
        self.add(1.0, value);
    }
}

impl Seen {
    fn one(&self, key: &Key) -> Arc<One> {
        let labels = key.labels().map(|label| format!(" {}", label.value()));
        let name = key.name().strip_prefix("websocket.server.").unwrap();
        let name = format!("{name}{}", labels.collect::<String>());
        Arc::new(One(name, self.clone()))
    }

    fn get(&self, name: &str) -> (f64, f64) {
        self.0
            .lock()
            .unwrap()
            .get(name)
            .copied()
            .unwrap_or_default()
    }
}

impl Recorder for Seen {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.one(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.one(key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.one(key))
    }
}

/// One test at a time, with how the metrics stood before it.
struct Alone {
    seen: Seen,
    before: BTreeMap<String, (f64, f64)>,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

impl Alone {
    async fn begin() -> Self {
        static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        static SEEN: LazyLock<Seen> = LazyLock::new(|| {
            let seen = Seen::default();
            metrics::set_global_recorder(seen.clone()).unwrap();
            seen
        });
        let turn = TURN.lock().await;
        let seen = SEEN.clone();
        let before = seen.0.lock().unwrap().clone();
        Self {
            seen,
            before,
            _turn: turn,
        }
    }

    /// By how much it has moved since the beginning.
    fn moved(&self, name: &str) -> f64 {
        self.seen.get(name).0 - self.before.get(name).copied().unwrap_or_default().0
    }

    fn last(&self, name: &str) -> f64 {
        self.seen.get(name).1
    }
}

/// Does what the message says.
#[derive(Clone)]
struct Obeys(Witness);

type Witness = support::Recorder;

impl WebSocketHandler for Obeys {
    async fn on_upgrade(&mut self, handshake: &mut Handshake) -> Result<(), Rejection> {
        match handshake.path() {
            "/no" => Err(http::StatusCode::FORBIDDEN.into()),
            "/late" => std::future::pending().await,
            "/panic" => panic!("as asked"),
            _ => Ok(()),
        }
    }

    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        match message.as_text() {
            Some("fail") => Err("as asked".into()),
            Some("sleep") => {
                tokio::time::sleep(Duration::from_secs(3)).await;
                Ok(())
            }
            Some("bye") => {
                conn.close(CloseCode::NORMAL_CLOSURE, "")?;
                Ok(())
            }
            Some("full") => {
                conn.send("fills the queue").await?;
                assert!(conn.try_send("too much").unwrap_err().is_full());
                conn.send("waits").await?;
                Ok(())
            }
            _ => Ok(conn.send(message).await?),
        }
    }

    async fn on_close(
        &mut self,
        conn: &mut Connection,
        event: tower_websocket::CloseEvent,
    ) -> Result {
        self.0.on_close(conn, event).await
    }
}

fn stack() -> Stack<Obeys> {
    Stack::new(Obeys(Witness::default()))
}

/// What a handshake with this path gets, and with this change.
async fn refused(stack: &Stack<Obeys>, path: &str, from: &str, to: &str) -> u16 {
    let mut client = stack.connect();
    let handshake = HANDSHAKE.replace("/ws", path).replace(from, to);
    client.send(handshake.as_bytes()).await;
    client.head().await.status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_opened_active_closed_and_has_a_duration() {
    let metrics = Alone::begin().await;
    let stack = stack();
    let mut client = stack.open().await;
    client.send(&text("x")).await;
    client.expect(0x81, b"x").await;
    let open = ["active_connections", "opened_connections"].map(|name| metrics.moved(name));
    assert_eq!(open, [1.0, 1.0]);
    tokio::time::advance(Duration::from_secs(5)).await;
    client.send(&close(1000, "")).await;
    client.expect_close(Some(1000)).await;
    drop(client);
    left(&stack.shutdown, 0).await;
    let closed = [
        "active_connections",
        "opened_connections",
        "closed_connections peer",
    ];
    assert_eq!(closed.map(|name| metrics.moved(name)), [0.0, 1.0, 1.0]);
    assert_eq!(metrics.moved("connection.duration"), 1.0);
    let duration = metrics.last("connection.duration");
    assert!((5.0..6.0).contains(&duration), "{duration}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_counted_by_its_cause_when_it_closes() {
    let metrics = Alone::begin().await;
    for (says, cause) in [
        (text("bye"), "application"),
        (text("fail"), "application_failed"),
        (vec![0xff, 0x80, 0, 0, 0, 0], "violation"),
        (vec![], "transport"),
    ] {
        let stack = stack();
        let mut client = stack.open().await;
        client.send(&says).await;
        if !says.is_empty() {
            client.end().await;
        }
        drop(client);
        left(&stack.shutdown, 0).await;
        assert_eq!(
            metrics.moved(&format!("closed_connections {cause}")),
            1.0,
            "{cause}"
        );
    }
    let with = [
        (
            stack().with(|layer| layer.idle_timeout(Duration::from_secs(1))),
            "idle",
        ),
        (
            stack().with(|layer| layer.max_lifetime(Duration::from_secs(1))),
            "lifetime",
        ),
        (
            stack().with(|layer| layer.heartbeat(Duration::from_secs(1))),
            "timeout",
        ),
    ];
    for (stack, cause) in with {
        let mut client = stack.open().await;
        client.end().await;
        drop(client);
        left(&stack.shutdown, 0).await;
        assert_eq!(
            metrics.moved(&format!("closed_connections {cause}")),
            1.0,
            "{cause}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn messages_and_their_bytes_are_counted_in_both_directions() {
    let metrics = Alone::begin().await;
    let stack = stack();
    let mut client = stack.open().await;
    for said in ["one", "three"] {
        client.send(&text(said)).await;
        client.expect(0x81, said.as_bytes()).await;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    for direction in ["received", "sent"] {
        assert_eq!(metrics.moved(&format!("messages {direction}")), 2.0);
        assert_eq!(metrics.moved(&format!("message_bytes {direction}")), 8.0);
    }
}

#[tokio::test(start_paused = true)]
async fn handshakes_are_counted_by_why_they_were_refused() {
    let metrics = Alone::begin().await;
    let full = |stack: Stack<Obeys>| stack.with(|layer| layer.max_connections(0));
    let client_full = |stack: Stack<Obeys>| stack.with(|layer| layer.max_connections_per_ip(0));
    let hosts = |stack: Stack<Obeys>| stack.with(|layer| layer.allowed_hosts(["else.example"]));
    let draining = stack();
    assert_eq!(draining.shutdown.drain(Duration::ZERO).await.closed(), 0);
    let origin = "\r\nOrigin: http://evil.example\r\n\r\n";
    for (stack, path, from, to, status, reason) in [
        (full(stack()), "/ws", "", "", 503, "limit"),
        (client_full(stack()), "/ws", "", "", 429, "client_limit"),
        (hosts(stack()), "/ws", "", "", 421, "host"),
        (draining, "/ws", "", "", 503, "draining"),
        (stack(), "/ws", "\r\n\r\n", origin, 403, "origin"),
        (stack(), "/ws", "Version: 13", "Version: 12", 426, "invalid"),
        (stack(), "/ws/no", "", "", 403, "application"),
        (stack(), "/ws/panic", "", "", 500, "panic"),
        (stack(), "/ws/late", "", "", 503, "timeout"),
    ] {
        assert_eq!(refused(&stack, path, from, to).await, status, "{reason}");
        assert_eq!(
            metrics.moved(&format!("refused_handshakes {reason}")),
            1.0,
            "{reason}"
        );
    }
    assert_eq!(metrics.moved("opened_connections"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_the_server_cannot_upgrade_is_counted_too() {
    let metrics = Alone::begin().await;
    let mut request = http::Request::get("/ws").body(String::new()).unwrap();
    for line in HANDSHAKE
        .lines()
        .skip(1)
        .take_while(|line| !line.is_empty())
    {
        let (name, value) = line.split_once(": ").unwrap();
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let service = stack().layer.into_service();
    let response = tower::ServiceExt::oneshot(service, request).await.unwrap();
    assert_eq!(response.status(), 500);
    assert_eq!(metrics.moved("refused_handshakes server"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_finds_the_queue_full_is_counted_once() {
    let metrics = Alone::begin().await;
    let stack = stack().with(|layer| layer.max_queued_messages(1));
    let mut client = stack.open().await;
    client.send(&text("full")).await;
    client.expect(0x81, b"fills the queue").await;
    client.expect(0x81, b"waits").await;
    // One that was given back, and one that waited.
    assert_eq!(metrics.moved("queue_full"), 2.0);
}

#[tokio::test(start_paused = true)]
async fn the_round_trip_of_a_heartbeat_is_recorded_once() {
    let metrics = Alone::begin().await;
    let stack = stack();
    let mut client = stack.open().await;
    let ping = client.frame().await.unwrap();
    assert_eq!(ping.first, 0x89);
    tokio::time::advance(Duration::from_millis(80)).await;
    for _ in 0..2 {
        // The second answers nothing.
        client.send(&frame(0x8a, &ping.payload)).await;
    }
    client.send(&text("x")).await;
    client.expect(0x81, b"x").await;
    assert_eq!(metrics.moved("heartbeat.round_trip"), 1.0);
    let round_trip = metrics.last("heartbeat.round_trip");
    assert!((0.08..0.09).contains(&round_trip), "{round_trip}");
}

#[tokio::test(start_paused = true)]
async fn a_callback_is_timed_by_its_name() {
    let metrics = Alone::begin().await;
    let stack = stack();
    let mut client = stack.open().await;
    client.send(&text("sleep")).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(metrics.moved("callback.duration on_message"), 1.0);
    let took = metrics.last("callback.duration on_message");
    assert!((3.0..3.1).contains(&took), "{took}");

    client.send(&text("fail")).await;
    client.expect_close(Some(1011)).await;
    drop(client);
    left(&stack.shutdown, 0).await;
    for name in ["on_upgrade", "on_open", "on_error", "on_close"] {
        assert_eq!(
            metrics.moved(&format!("callback.duration {name}")),
            1.0,
            "{name}"
        );
    }
    assert_eq!(metrics.moved("callback.duration on_message"), 2.0);
}

#[tokio::test(start_paused = true)]
async fn an_event_is_timed_as_one() {
    let metrics = Alone::begin().await;
    let stack = stack();
    let mut client = stack.open().await;
    client.send(&text("x")).await;
    client.expect(0x81, b"x").await;
    let one = stack.layer.connections().iter().next().unwrap();
    one.sender().notify(()).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(metrics.moved("callback.duration on_event"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_counts_what_became_of_each_connection() {
    let metrics = Alone::begin().await;
    let stack = stack().with(|layer| layer.close_timeout(Duration::from_secs(60)));
    let mut leaves = stack.open().await;
    let _stays = stack.open().await;
    let drain = tokio::spawn(stack.shutdown.drain(Duration::from_secs(5)));
    leaves.send(&close(1000, "")).await;
    leaves.end().await;
    drop(leaves);
    drain.await.unwrap();
    let outcomes = ["closed", "forced", "unopened"];
    let moved = outcomes.map(|name| metrics.moved(&format!("drained_connections {name}")));
    assert_eq!(moved, [1.0, 1.0, 0.0]);
    // The first one may have been ahead of the drain.
    let [shutdown, peer] =
        ["shutdown", "peer"].map(|cause| metrics.moved(&format!("closed_connections {cause}")));
    assert!(
        shutdown >= 1.0 && shutdown + peer == 2.0,
        "{shutdown} {peer}"
    );
}

/// A server whose connections subscribe "room", after the position in their path if there is one, and
/// unsubscribe when their client speaks. Their queue has room for 2 messages.
fn subscribers(topics: &Topics, how: fn() -> Subscribe) -> TestServer {
    let layer = WebSocketLayer::from_fn("/", move |mut conn: Connection| async move {
        let after = conn
            .path()
            .strip_prefix("/")
            .and_then(|path| path.parse().ok());
        conn.subscribe_with("room", how().after(after)).await?;
        conn.send("ready").await?;
        while conn.recv().await?.is_some() {
            conn.unsubscribe("room");
            conn.send("done").await?;
        }
        Ok(())
    });
    let layer = layer.max_queued_messages(2).topics(topics);
    TestServer::new(layer.into_service())
}

async fn subscriber(server: &TestServer, path: &str) -> TestClient {
    let mut client = server.connect(path).await.expect("a 101");
    client.expect_text("ready").await;
    client
}

/// Publishes 20 messages, more than the pipe takes without a reader. How many were dropped for them.
async fn flood(topics: &Topics) -> f64 {
    let mut dropped = 0;
    for _ in 0..20 {
        dropped += topics.publish("room", "x".repeat(50_000)).dropped();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    dropped as f64
}

#[tokio::test(start_paused = true)]
async fn subscriptions_publishes_and_deliveries_are_counted() {
    let metrics = Alone::begin().await;
    let topics = Topics::new();
    let server = subscribers(&topics, Subscribe::new);
    let moved = || {
        ["subscriptions", "publishes", "deliveries"]
            .map(|what| metrics.moved(&format!("topic.{what}")))
    };
    topics.publish("room", "to nobody");
    assert_eq!(moved(), [0.0, 1.0, 0.0]);
    let mut leaves = subscriber(&server, "/").await;
    let mut stays = subscriber(&server, "/").await;
    topics.publish("room", "to two");
    assert_eq!(moved(), [2.0, 2.0, 2.0]);
    leaves.expect_text("to two").await;
    leaves.send("leave").await;
    leaves.expect_text("done").await;
    topics.topic("room").publish("to one");
    assert_eq!(moved(), [1.0, 3.0, 3.0]);
    for text in ["to two", "to one"] {
        stays.expect_text(text).await;
    }
    drop((leaves, stays));
    within(async {
        while moved()[0] > 0.0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_a_slow_subscriber_does_not_get_is_counted_by_policy() {
    let metrics = Alone::begin().await;
    for (how, policy) in [
        (Subscribe::new as fn() -> Subscribe, "close"),
        (
            || Subscribe::new().on_full(OnFull::DropNewest),
            "drop_newest",
        ),
        (
            || Subscribe::new().on_full(OnFull::DropOldest),
            "drop_oldest",
        ),
        (
            || Subscribe::new().on_full(OnFull::KeepLatest),
            "keep_latest",
        ),
    ] {
        let topics = Topics::new();
        let server = subscribers(&topics, how);
        let _client = subscriber(&server, "/").await;
        let dropped = flood(&topics).await;
        assert!(dropped >= 1.0, "{policy}");
        let moved = metrics.moved(&format!("topic.dropped_messages {policy}"));
        assert_eq!(moved, dropped, "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_delivered_when_it_is_read_and_what_the_log_has_lost_is_dropped() {
    let metrics = Alone::begin().await;
    let gap: fn() -> Subscribe = || Subscribe::new().gap(|_| "gap".into());
    let oldest: fn() -> Subscribe = || Subscribe::new().on_full(OnFull::DropOldest);
    let retained = |messages| {
        let retain = Retain::messages(messages);
        Topics::builder().retain("room", retain).build()
    };
    for (topics, how, policy, loses) in [
        (retained(100), gap, "pause", false),
        (retained(3), gap, "pause", true),
        (Topics::new(), oldest, "drop_oldest", true),
    ] {
        let names = [
            "topic.deliveries".to_owned(),
            format!("topic.dropped_messages {policy}"),
        ];
        let before = names.each_ref().map(|name| metrics.moved(name));
        let server = subscribers(&topics, how);
        let mut client = subscriber(&server, "/").await;
        flood(&topics).await;
        topics.publish("room", "last");
        let mut read = 1.0;
        loop {
            match client.recv().await.as_text() {
                Some("gap") => {}
                Some("last") => break,
                _ => read += 1.0,
            }
        }
        let [delivered, dropped] = [0, 1].map(|at| metrics.moved(&names[at]) - before[at]);
        assert_eq!(delivered, read, "{policy}");
        assert_eq!(delivered + dropped, 21.0, "{policy}");
        assert_eq!(dropped > 0.0, loses, "{policy} {dropped}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_is_counted_by_whether_something_is_missing() {
    let metrics = Alone::begin().await;
    let topics = Topics::builder()
        .retain("room", Retain::messages(2))
        .build();
    let server = subscribers(&topics, Subscribe::new);
    let first = topics.append("room", "first").await.unwrap();
    let moved = || ["yes", "no"].map(|what| metrics.moved(&format!("topic.recoveries {what}")));
    let _new = subscriber(&server, "/").await;
    assert_eq!(moved(), [0.0, 0.0]);
    let _back = subscriber(&server, &format!("/{first}")).await;
    assert_eq!(moved(), [1.0, 0.0]);
    for text in ["second", "third", "fourth"] {
        topics.publish("room", text);
    }
    let _late = subscriber(&server, &format!("/{first}")).await;
    assert_eq!(moved(), [1.0, 1.0]);
}

#[tokio::test(start_paused = true)]
async fn a_backplane_is_up_lags_keeps_loses_and_comes_again() {
    let metrics = Alone::begin().await;
    let engine = Engine::new(1).delay(Duration::from_millis(20)).port();
    let topics = Topics::builder().backplane(engine.clone()).build();
    let moved = |name: &str| metrics.moved(&format!("backplane.{name}"));
    let moves_to = async |name: &str, to: f64| {
        let wait = async {
            while moved(name) != to {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
        assert!(waited.is_ok(), "{name} is {}", moved(name));
    };
    moves_to("up", 1.0).await;
    assert_eq!(moved("reconnects"), 0.0);
    moves_to("lag", 3.0).await;
    let lag = metrics.last("backplane.lag");
    assert!((0.0001..0.1).contains(&lag), "{lag}");

    engine.cut();
    moves_to("up", 0.0).await;
    for _ in 0..4_100 {
        topics.publish("room", "x");
    }
    assert_eq!((moved("outbox"), moved("lost_messages")), (4_096.0, 4.0));
    engine.mend();
    moves_to("up", 1.0).await;
    moves_to("outbox", 0.0).await;
    assert_eq!(moved("reconnects"), 1.0);

    engine.cut();
    moves_to("up", 0.0).await;
    topics.publish("room", "x");
    assert_eq!(moved("outbox"), 1.0);
    // What waits for nobody is counted no longer.
    drop(topics);
    moves_to("outbox", 0.0).await;
}
