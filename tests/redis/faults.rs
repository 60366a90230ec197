//! Two nodes, what happens to the server between them, and what the clients notice of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tower_websocket::test::{TestClient, TestServer};
use tower_websocket::topics::Redis;
use tower_websocket::{
    Connection, Message, Position, Result, Retain, Status, Subscribe, Topics, TopicsBuilder,
    WebSocketLayer,
};

use crate::process::{PATIENCE, Process};
use crate::relay::Relay;
use crate::server::Server;

/// Subscribes a plain topic and, after a position, `/?POSITION`, a retained one.
async fn serve(mut conn: Connection) -> Result {
    let query = conn.request().uri.query().unwrap_or_default();
    let after: Option<Position> = query.parse().ok();
    conn.subscribe("plain")?;
    let how = Subscribe::new().after(after);
    let attached = conn.subscribe_with("log", how).await?;
    match attached.is_unknown() {
        true => conn.send("unknown").await?,
        false => conn.send(format!("ready {}", attached.recovered())).await?,
    }
    while conn.recv().await?.is_some() {}
    Ok(())
}

pub struct Node {
    pub topics: Topics,
    pub client: TestClient,
    server: TestServer,
}

impl Node {
    pub async fn new(server: &Server) -> Self {
        Self::at(server.url()).await
    }

    async fn at(url: &str) -> Self {
        let redis = Redis::new(url).unwrap().timeout(Duration::from_secs(2));
        Self::with(redis, Topics::builder()).await
    }

    async fn with(redis: Redis, options: TopicsBuilder) -> Self {
        let topics = options
            .retain("log", Retain::messages(100_000))
            .backplane(redis.prefix("x:"))
            .build();
        up(&topics).await;
        let layer = WebSocketLayer::from_fn("/", serve).topics(&topics);
        let server = TestServer::new(layer.into_service());
        let mut client = server.connect("/").await.expect("a 101");
        client.expect_text("ready true").await;
        Self {
            topics,
            client,
            server,
        }
    }

    pub async fn next(&mut self) -> String {
        let message = timeout(PATIENCE, self.client.recv()).await;
        message.expect("a message").as_text().unwrap().to_owned()
    }
}

pub async fn up(topics: &Topics) {
    let up = async {
        loop {
            let changed = topics.changed();
            if topics.status() == Status::Up {
                return;
            }
            changed.await;
        }
    };
    timeout(PATIENCE, up).await.expect("the node is up");
}

/// Appends 1, 2, 3 … until it is told to stop.
struct Publisher {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<u32>>,
}

impl Publisher {
    /// Some are acknowledged when it returns.
    async fn start(topics: &Topics) -> Self {
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let (topics, stopped, counted) = (topics.clone(), stop.clone(), count.clone());
        let task = tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for n in 1.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let appended = timeout(PATIENCE, topics.append("log", n.to_string()));
                if appended.await.expect("an end").is_ok() {
                    acknowledged.push(n);
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                sleep(Duration::from_millis(5)).await;
            }
            acknowledged
        });
        let end = Instant::now() + PATIENCE;
        while count.load(Ordering::Relaxed) < 20 {
            assert!(Instant::now() < end, "nothing is acknowledged");
            sleep(Duration::from_millis(5)).await;
        }
        Self { stop, task }
    }

    /// Those that were acknowledged.
    async fn end(self) -> Vec<u32> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Does something to the server while messages are appended at one node, and expects that both nodes'
/// clients get all that was acknowledged, once, in order; and that both kinds of topic then go on. Whether
/// the node was degraded meanwhile.
async fn survive(server: &mut Server, fault: impl AsyncFnOnce(&mut Server)) -> bool {
    let nodes = [Node::new(server).await, Node::new(server).await];
    survive_at(nodes, async || fault(server).await).await
}

async fn survive_at(mut nodes: [Node; 2], fault: impl AsyncFnOnce()) -> bool {
    let publisher = Publisher::start(&nodes[0].topics).await;
    let topics = nodes[1].topics.clone();
    let degraded = tokio::spawn(async move {
        topics.changed().await;
    });
    fault().await;
    for node in &nodes {
        up(&node.topics).await;
    }
    sleep(Duration::from_millis(200)).await;
    let acknowledged = publisher.end().await;
    let end = Instant::now() + PATIENCE;
    while let Err(error) = nodes[1].topics.append("log", "end").await {
        assert!(Instant::now() < end, "{error}");
    }
    for node in &mut nodes {
        let mut got = Vec::new();
        loop {
            let text = node.next().await;
            if text == "end" {
                break;
            }
            got.push(text.parse::<u32>().unwrap());
        }
        assert!(got.is_sorted_by(|a, b| a < b), "{got:?}");
        let missing = acknowledged.iter().filter(|n| !got.contains(n));
        assert_eq!(missing.collect::<Vec<_>>(), Vec::<&u32>::new());
    }
    for from in 0..2 {
        nodes[from]
            .topics
            .publish("plain", Message::from(format!("from {from}")));
        for node in &mut nodes {
            assert_eq!(node.next().await, format!("from {from}"));
        }
    }
    let was_degraded = degraded.is_finished();
    degraded.abort();
    was_degraded
}

/// A server that loses nothing.
fn durable() -> Option<Server> {
    Server::with(&["--appendonly", "yes", "--appendfsync", "always"])
}

#[tokio::test]
async fn b1_a_server_that_is_killed_and_starts_again_loses_nothing_acknowledged() {
    let Some(mut server) = durable() else { return };
    let was_degraded = survive(&mut server, async |server| {
        server.kill();
        sleep(Duration::from_millis(500)).await;
        server.start();
    });
    assert!(was_degraded.await);
}

#[tokio::test]
async fn b1_who_comes_back_while_the_server_is_down_is_told_so_and_gets_all_of_it_when_it_is_up() {
    let Some(mut server) = durable() else { return };
    let mut nodes = [Node::new(&server).await, Node::new(&server).await];
    let seen = nodes[0].topics.append("log", "seen").await.unwrap();
    for n in 0..3 {
        nodes[0].topics.append("log", n.to_string()).await.unwrap();
    }
    // The last that knew the topic is gone, so nothing of it is on this node.
    let gone = std::mem::replace(
        &mut nodes[0].client,
        nodes[1].server.connect("/").await.unwrap(),
    );
    drop(gone);
    let changed = nodes[0].topics.changed();
    server.kill();
    timeout(PATIENCE, changed).await.expect("it is noticed");
    let back = nodes[0].server.connect(&format!("/?{seen}")).await;
    let mut back = back.expect("a 101");
    let word = timeout(PATIENCE, back.recv()).await.expect("a word");
    assert_eq!(word.as_text(), Some("unknown"));
    server.start();
    for n in 0..3 {
        let message = timeout(PATIENCE, back.recv()).await.expect("a message");
        assert_eq!(message.as_text(), Some(&*n.to_string()));
    }
    nodes[1].topics.append("log", "new").await.unwrap();
    let message = timeout(PATIENCE, back.recv()).await.expect("a message");
    assert_eq!(message.as_text(), Some("new"));
}

#[tokio::test]
async fn b1_connections_that_the_server_ends_are_made_anew() {
    let Some(mut server) = Server::own() else {
        return;
    };
    let was_degraded = survive(&mut server, async |server| {
        for _ in 0..3 {
            server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            sleep(Duration::from_millis(300)).await;
        }
    });
    assert!(was_degraded.await);
}

#[tokio::test]
async fn b5_t16_after_the_server_is_emptied_nobody_is_told_that_nothing_was_missed() {
    let Some(server) = Server::own() else { return };
    let mut nodes = [Node::new(&server).await, Node::new(&server).await];
    let seen = nodes[0].topics.append("log", "one").await.unwrap();
    for node in &mut nodes {
        assert_eq!(node.next().await, "one");
    }
    server.command(&["FLUSHALL"]);
    let new = nodes[0].topics.append("log", "two").await.unwrap();
    assert!(new.epoch() != seen.epoch());
    for mut node in nodes {
        // Who was there while the log was lost is told to come back.
        timeout(PATIENCE, node.client.expect_close(1012))
            .await
            .expect("an end");
        let client = node.server.connect(&format!("/?{seen}")).await;
        let mut client = client.expect("a 101");
        client.expect_text("ready false").await;
        node.topics.append("log", "three").await.unwrap();
        let text = timeout(PATIENCE, client.recv()).await.expect("a message");
        assert_eq!(text.as_text(), Some("three"));
    }
}

#[tokio::test]
async fn b3_a_server_with_another_password_is_left_and_found_again() {
    let Some(mut server) = Server::own() else {
        return;
    };
    let was_degraded = survive(&mut server, async |server| {
        server.commands(&[
            &["CONFIG", "SET", "requirepass", "other"],
            &["AUTH", "other"],
            &["CLIENT", "KILL", "TYPE", "pubsub"],
        ]);
        sleep(Duration::from_millis(500)).await;
        server.commands(&[&["AUTH", "other"], &["CONFIG", "SET", "requirepass", ""]]);
    });
    assert!(was_degraded.await);
}

#[tokio::test]
async fn b4_a_server_whose_memory_is_full_takes_messages_again_when_it_has_room() {
    let Some(mut server) = Server::own() else {
        return;
    };
    let survived = survive(&mut server, async |server| {
        server.command(&["CONFIG", "SET", "maxmemory", "1"]);
        sleep(Duration::from_millis(500)).await;
        server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    });
    survived.await;
}

/// The connections stay open, so only the timeout and the probe find out.
#[tokio::test]
async fn b2_a_server_that_stands_still_for_some_seconds_is_waited_for_or_left() {
    let Some(mut server) = durable() else { return };
    let survived = survive(&mut server, async |server| {
        server.signal("-STOP");
        sleep(Duration::from_secs(4)).await;
        server.signal("-CONT");
    });
    survived.await;
}

/// For twelve seconds, with a probe after one second for one second; by hand for as long as one likes, with the default times:
/// `REDIS_PAUSE_SECONDS=30`.
#[tokio::test]
async fn b2_while_the_server_stands_still_the_node_says_so_and_what_waits_is_bounded_and_told() {
    let Some(mut server) = durable() else { return };
    let by_hand = std::env::var("REDIS_PAUSE_SECONDS").ok();
    let by_hand: Option<u64> = by_hand.map(|seconds| seconds.parse().unwrap());
    let pause = Duration::from_secs(by_hand.unwrap_or(12));
    let second = Duration::from_secs(1);
    let (options, found_within) = match by_hand {
        // The timeout of a command is less.
        Some(_) => (None, 10 * second),
        // A digest, two seconds at most before, is what was heard last.
        None => (Some(60 * second), 3 * second),
    };
    let node = async || {
        let redis = Redis::new(server.url()).unwrap();
        let builder = Topics::builder().max_outbox_messages(100);
        match options {
            None => Node::with(redis, builder).await,
            Some(timeout) => {
                let builder = builder.probe_after(second).probe_timeout(second);
                Node::with(redis.timeout(timeout), builder).await
            }
        }
    };
    let mut nodes = [node().await, node().await];
    let publisher = Publisher::start(&nodes[0].topics).await;

    let changed = nodes.each_ref().map(|node| node.topics.changed());
    let stopped = Instant::now();
    server.signal("-STOP");
    for changed in changed {
        timeout(PATIENCE, changed).await.expect("it is noticed");
    }
    // And for a machine that is busy.
    assert!(stopped.elapsed() < found_within + 5 * second);
    for n in 0..500 {
        let published = nodes[0].topics.publish("plain", format!("plain {n}"));
        assert!(
            published.sent() && published.delivered() == 1,
            "{published:?}"
        );
        if n % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    match nodes[0].topics.status() {
        Status::Degraded { waiting, lost, .. } => {
            assert!(waiting == 100 && lost >= 400, "{waiting} {lost}");
        }
        status => panic!("{status:?}"),
    }
    let asked = Instant::now();
    let error = nodes[1].topics.append("log", "too late").await.unwrap_err();
    assert!(error.is_unreachable() && asked.elapsed() < 12 * second);
    assert_eq!(error.into_message().as_text(), Some("too late"));
    sleep((stopped + pause).saturating_duration_since(Instant::now())).await;
    let went_on = Instant::now();
    server.signal("-CONT");
    for node in &nodes {
        up(&node.topics).await;
    }
    // The longest pause between two attempts.
    assert!(went_on.elapsed() < 5 * second + 5 * second);
    println!("up again after {:?}", went_on.elapsed());
    let acknowledged = publisher.end().await;
    nodes[1].topics.append("log", "end").await.unwrap();
    for (n, node) in nodes.iter_mut().enumerate() {
        let (mut got, mut plain) = (Vec::new(), Vec::new());
        loop {
            let text = node.next().await;
            if text == "end" {
                break;
            }
            match text.strip_prefix("plain ") {
                Some(text) => plain.push(text.parse::<u32>().unwrap()),
                // It was in nobody's hands when the server stood still.
                None if text == "too late" => {}
                None => got.push(text.parse::<u32>().unwrap()),
            }
        }
        assert!(got.is_sorted_by(|a, b| a < b), "{got:?}");
        let missing = acknowledged.iter().filter(|n| !got.contains(n));
        assert_eq!(missing.collect::<Vec<_>>(), Vec::<&u32>::new());
        // Here all of them, at once; there the latest, if it listened again when they were sent.
        assert!(plain.is_sorted_by(|a, b| a < b), "{plain:?}");
        if n == 0 {
            assert_eq!(plain, (0..500).collect::<Vec<_>>());
        } else {
            assert!(plain.iter().all(|n| *n >= 400), "{plain:?}");
        }
    }
}

#[tokio::test]
async fn b3_why_a_password_is_refused_is_logged_now_and_then_and_never_the_password() {
    let Some(server) = Server::own() else { return };
    let set = |old: &str, new: &str| {
        server.commands(&[
            &["AUTH", old],
            &["CONFIG", "SET", "requirepass", new],
            &["AUTH", new],
            &["CLIENT", "KILL", "TYPE", "pubsub"],
        ]);
    };
    set("", "hush-1");
    let url = server.url().replace("redis://", "redis://:hush-1@");
    let node = Process::start(&url);
    node.up().await;
    let stranger = Process::start(server.url());
    stranger.logs("NOAUTH").await;

    set("hush-1", "hush-2");
    node.logs("WRONGPASS").await;
    let mut client = node.client().await;
    assert!(client.ask("status").await.starts_with("degraded"));
    // Some more attempts, of which at most one more line may tell.
    sleep(Duration::from_secs(3)).await;
    set("hush-2", "hush-1");
    node.up().await;
    assert_eq!(client.ask("append log again").await, "ok again");
    set("hush-1", "");
    stranger.up().await;
    for process in [&node, &stranger] {
        let log = process.log();
        assert!(!log.contains("hush"), "{log}");
        let lines = log
            .lines()
            .filter(|line| line.contains("topics do not reach"));
        assert!(lines.count() <= 3, "{log}");
    }
}

#[tokio::test]
async fn b4_a_server_that_still_loads_what_it_has_saved_is_waited_for() {
    let Some(mut server) = durable() else { return };
    let fill = "for i = 1, 5000 do redis.call('SET', 'k' .. i, i) end";
    server.command(&["EVAL", fill, "0"]);
    let survived = survive(&mut server, async |server| {
        server.kill();
        // A half of a millisecond for each key.
        server.add_options(&["--key-load-delay", "500"]);
        server.start();
        let reply = server.command(&["GET", "k1"]);
        assert!(reply.starts_with("-LOADING"), "{reply}");
        let end = Instant::now() + PATIENCE;
        while server.command(&["GET", "k1"]).starts_with("-LOADING") {
            assert!(Instant::now() < end);
            sleep(Duration::from_millis(50)).await;
        }
    });
    survived.await;
}

/// The connections to what was the primary stay open, and it answers.
#[tokio::test]
async fn b4_a_primary_that_becomes_a_replica_is_left_for_the_new_one() {
    let (Some(old), Some(new)) = (Server::own(), Server::own()) else {
        return;
    };
    let (old_port, new_port) = (old.port().to_string(), new.port().to_string());
    let relay = Relay::new(old.port()).await;
    new.command(&["REPLICAOF", "127.0.0.1", &old_port]);
    let nodes = [Node::at(relay.url()).await, Node::at(relay.url()).await];
    let role = |server: &Server| {
        let info = server.command(&["INFO", "replication"]);
        let is_replica = info.contains("role:slave");
        (is_replica, info.contains("master_link_status:up"))
    };
    let until = async |server: &Server, expected: (bool, bool)| {
        let end = Instant::now() + PATIENCE;
        while role(server) != expected {
            assert!(Instant::now() < end, "{:?}", role(server));
            sleep(Duration::from_millis(50)).await;
        }
    };
    until(&new, (true, true)).await;
    let was_degraded = survive_at(nodes, async || {
        // Writes stop until the new one has all.
        let reply = old.command(&["FAILOVER", "TO", "127.0.0.1", &new_port]);
        assert_eq!(reply, "+OK");
        until(&new, (false, false)).await;
        until(&old, (true, true)).await;
        // They come back to the same, which refuses them, until the name leads elsewhere.
        sleep(Duration::from_millis(500)).await;
        relay.lead_to(new.port());
    });
    assert!(was_degraded.await);
}
