use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::broadcast;
use tokio::time::Instant;
use tower_websocket::topics::{Backplane, EngineError, Link, Order, Pending};
use tower_websocket::{CloseCode, Connection, Message, Retain, WebSocketLayer};

use super::*;

#[tokio::test(start_paused = true)]
async fn what_is_published_on_one_node_reaches_the_subscribers_of_all() {
    let nodes = nodes(&Engine::new(1), 3, |options| options).await;
    let mut clients = Vec::new();
    for node in &nodes {
        clients.push(node.subscriber("room").await);
    }
    let mut other = nodes[1].subscriber("other").await;
    settle().await;
    let published = nodes[0].topics.publish("room", "hello");
    assert!(published.delivered() == 1 && published.sent());
    nodes[0].topics.topic("room").publish(vec![1, 2]);
    for client in &mut clients {
        client.expect_text("hello").await;
        client.expect_binary(&[1, 2]).await;
    }
    // To all but the connection that publishes.
    ask(
        &mut clients[0],
        "pub room from a client",
        "Published { delivered: 0, waiting: 0, dropped: 0 }",
    )
    .await;
    for client in &mut clients[1..] {
        client.expect_text("from a client").await;
    }
    clients[0].expect_silence(SECOND).await;
    other.expect_silence(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_subscribers_of_a_topic_does_not_see_its_messages() {
    let engine = Engine::new(1);
    let nodes = nodes(&engine, 2, |options| options).await;
    let mut client = nodes[0].subscriber("room").await;
    settle().await;
    let mut own = engine.channels();
    own.retain(|channel| !channel.starts_with("node"));
    assert_eq!(own, ["t:room"]);
    ask(&mut client, "unsub room", "true").await;
    settle().await;
    assert!(!engine.channels().contains(&"t:room".to_owned()));
    // Digests and probes come still.
    let before = engine.carried();
    for _ in 0..1000 {
        nodes[0].topics.publish("room", "nobody");
    }
    settle().await;
    assert!(engine.carried() - before < 10);
    // As does a connection that ends.
    let client = nodes[1].subscriber("room").await;
    settle().await;
    assert!(engine.channels().contains(&"t:room".to_owned()));
    drop(client);
    settle().await;
    assert!(!engine.channels().contains(&"t:room".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_user_is_logged_out_on_every_node() {
    let nodes = nodes(&Engine::new(1), 3, |options| options).await;
    let mut clients = Vec::new();
    for node in &nodes {
        clients.push(node.subscriber("user:7").await);
    }
    settle().await;
    let closed = nodes[2]
        .topics
        .close("user:7", CloseCode::POLICY_VIOLATION, "logged out");
    assert_eq!(closed, Ok(1));
    for client in &mut clients {
        let reason = client.expect_close(CloseCode::POLICY_VIOLATION).await;
        assert_eq!(reason, "logged out");
    }
}

#[tokio::test(start_paused = true)]
async fn t11_what_waits_for_the_engine_is_sent_when_it_is_back_and_what_is_too_much_is_told() {
    let nodes = nodes(&Engine::new(1), 2, |options| options).await;
    let mut there = nodes[1].subscriber("room").await;
    settle().await;
    let changed = nodes[0].topics.changed();
    nodes[0].port.cut();
    changed.await;
    for n in 0..4100 {
        nodes[0].topics.publish("room", n.to_string());
    }
    match nodes[0].topics.status() {
        Status::Degraded { waiting, lost, .. } => assert_eq!((waiting, lost), (4096, 4)),
        status => panic!("{status:?}"),
    }
    let large = nodes[0].topics.publish("room", vec![0; 5 * 1024 * 1024]);
    assert!(!large.sent());
    let changed = nodes[0].topics.changed();
    nodes[0].port.mend();
    changed.await;
    assert_eq!(nodes[0].topics.status(), Status::Up);
    // The subscriber is closed, as who reads too slowly; what it got is the oldest that was left.
    there.expect_text("4").await;
}

/// Takes a half of a second for each batch of orders that is full.
struct Slow(broadcast::Sender<(String, Bytes)>);

impl Backplane for Slow {
    fn run<'a>(&'a self, link: &'a mut Link) -> Pending<'a, EngineError> {
        Box::pin(async move {
            let mut channels = HashSet::new();
            let mut sent = self.0.subscribe();
            loop {
                tokio::select! {
                    orders = link.next() => {
                        let is_full = orders.len() >= 256;
                        for order in orders {
                            match order {
                                Order::Listen(channel) => {
                                    link.listening(&channel);
                                    channels.insert(channel);
                                }
                                Order::Send { channel, envelope } => {
                                    let _ = self.0.send((channel, envelope));
                                }
                                _ => {}
                            }
                        }
                        if is_full {
                            sleep(SECOND / 2).await;
                        }
                    }
                    sent = sent.recv() => {
                        let (channel, envelope) = sent.unwrap();
                        if channels.contains(&channel) {
                            link.receive(&channel, envelope);
                        }
                    }
                }
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn t11_of_many_messages_that_wait_none_is_lost_to_what_the_nodes_tell_each_other() {
    let (sent, _) = broadcast::channel(10_000);
    let node = || Topics::builder().backplane(Slow(sent.clone())).build();
    let (here, there) = (node(), node());
    let layer = WebSocketLayer::from_fn("/", |mut conn: Connection| async move {
        conn.subscribe("room")?;
        conn.send("ready").await?;
        while conn.recv().await?.is_some() {}
        Ok(())
    });
    let layer = layer.topics(&there).max_queued_messages(10_000);
    let server = TestServer::new(layer.into_service());
    let mut client = open(&server).await;
    client.expect_text("ready").await;
    settle().await;
    // Eight seconds, in which four digests go ahead of what waits.
    for n in 0..4000 {
        here.publish("room", n.to_string());
    }
    for n in 0..4000 {
        client.expect_text(&n.to_string()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn t11_how_much_waits_for_the_engine_can_be_chosen() {
    let engine = Engine::new(1);
    let options = |options: TopicsBuilder| {
        let options = options.max_outbox_messages(10).max_outbox_bytes(0);
        options.retain("log", Retain::messages(10))
    };
    let node = Node::new(&engine, options);
    node.port.cut();
    let waits = |topic: &str, message: Message| {
        let sent = node.topics.publish(topic, message).sent();
        match node.topics.status() {
            Status::Degraded { waiting, lost, .. } => (sent, waiting, lost),
            status => panic!("{status:?}"),
        }
    };
    for n in 1..=10 {
        assert_eq!(waits("room", "x".into()), (true, n, 0));
    }
    assert_eq!(waits("room", "x".into()), (true, 10, 1));
    // Zero bytes are 64 KiB, of which two messages do not fit.
    assert_eq!(waits("room", vec![0; 40_000].into()), (true, 10, 2));
    assert_eq!(waits("room", vec![0; 40_000].into()), (true, 1, 12));
    assert_eq!(waits("room", vec![0; 64 * 1024].into()), (false, 1, 13));
    for _ in 0..10 {
        assert_eq!(waits("log", "x".into()), (true, 1, 13));
    }
    assert_eq!(waits("log", "x".into()), (false, 1, 14));

    let options = |options: TopicsBuilder| options.max_outbox_messages(0);
    let node = Node::new(&engine, options);
    node.port.cut();
    node.topics.publish("room", "x");
    node.topics.publish("room", "x");
    let status = node.topics.status();
    let shown = matches!(
        status,
        Status::Degraded {
            waiting: 1,
            lost: 1,
            ..
        }
    );
    assert!(shown, "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn t13_when_a_connection_is_probed_can_be_chosen_and_no_time_is_too_short_or_too_long() {
    let options = |options: TopicsBuilder| {
        let options = options.probe_after(3 * SECOND);
        options.probe_timeout(SECOND)
    };
    let node = &nodes(&Engine::new(1), 1, options).await[0];
    settle().await;
    let (begin, changed) = (Instant::now(), node.topics.changed());
    node.port.hang();
    changed.await;
    // It was heard at most two seconds before.
    let took = begin.elapsed();
    assert!((2 * SECOND..=4 * SECOND).contains(&took), "{took:?}");

    for time in [Duration::ZERO, Duration::MAX] {
        let options = |options: TopicsBuilder| {
            let options = options.probe_after(time).probe_timeout(time);
            options.isolated_after(Duration::MAX)
        };
        let node = &nodes(&Engine::new(1), 1, options).await[0];
        let changed = node.topics.changed();
        assert!(timeout(600 * SECOND, changed).await.is_err());
        node.port.cut();
        settle().await;
        assert!(node.topics.status().is_degraded());
        node.port.mend();
        reach(node).await;
    }
}

#[tokio::test(start_paused = true)]
async fn t13_a_connection_that_is_open_and_dead_is_found_and_made_anew() {
    let engine = Engine::new(1);
    let nodes = nodes(&engine, 2, |options| options).await;
    let mut there = nodes[1].subscriber("room").await;
    settle().await;
    let begin = Instant::now();
    let changed = nodes[1].topics.changed();
    nodes[1].port.hang();
    changed.await;
    let took = begin.elapsed();
    assert!((10 * SECOND..=21 * SECOND).contains(&took), "{took:?}");
    nodes[1].port.mend();
    // The connection that was made meanwhile hangs, too.
    let changed = nodes[1].topics.changed();
    changed.await;
    nodes[0].topics.publish("room", "again");
    there.expect_text("again").await;
    // One that is sound stays, whether there is something to do or not.
    let changed = nodes[1].topics.changed();
    assert!(timeout(600 * SECOND, changed).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn t13_a_node_that_is_cut_off_for_too_long_closes_its_clients_one_after_the_other() {
    let options = |options: TopicsBuilder| options.isolated_after(5 * SECOND);
    let nodes = nodes(&Engine::new(1), 2, options).await;
    let mut clients = Vec::new();
    for n in 0..20 {
        clients.push(nodes[0].subscriber(&format!("room:{}", n % 3)).await);
    }
    let mut there = nodes[1].subscriber("room:0").await;
    nodes[0].port.cut();
    sleep(3 * SECOND).await;
    nodes[0].port.mend();
    reach(&nodes[0]).await;
    // A time that was over does not count; no heartbeat is due yet.
    nodes[0].port.cut();
    sleep(4 * SECOND).await;
    assert_eq!(nodes[0].topics.subscribers("room:0"), 7);
    let begin = Instant::now();
    let mut at = Vec::new();
    for client in &mut clients {
        client.expect_close(CloseCode::SERVICE_RESTART).await;
        at.push(begin.elapsed());
    }
    assert!(begin.elapsed() <= 7 * SECOND);
    there.expect_silence(10 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn t12_what_is_no_envelope_of_ours_is_ignored() {
    /// Says nonsense to whoever listens.
    struct Nonsense(Mutex<Vec<(String, Vec<u8>)>>);

    impl Backplane for Nonsense {
        fn run<'a>(&'a self, link: &'a mut Link) -> Pending<'a, EngineError> {
            Box::pin(async move {
                let mut rng = StdRng::seed_from_u64(1);
                loop {
                    for order in link.next().await {
                        match order {
                            Order::Listen(channel) => {
                                link.listening(&channel);
                                link.listening("a channel that nobody wants");
                                for len in 0..300 {
                                    let mut bytes: Vec<u8> =
                                        (0..len).map(|_| rng.random()).collect();
                                    if len % 2 == 0 && len > 2 {
                                        bytes[..2].copy_from_slice(&[1, (len % 11) as u8]);
                                    }
                                    link.receive(&channel, bytes.clone().into());
                                    let position = tower_websocket::Position::new(1, len as u64);
                                    link.logged(&channel, position, bytes.into());
                                }
                                link.receive(&channel, vec![1; 5 * 1024 * 1024].into());
                            }
                            Order::Leave(channel) => drop(channel),
                            Order::Send { channel, envelope } => {
                                let bytes = envelope.to_vec();
                                self.0.lock().unwrap().push((channel, bytes));
                            }
                            _ => unreachable!(),
                        }
                    }
                }
            })
        }
    }

    let nonsense = Arc::new(Nonsense(Mutex::default()));
    let topics = Topics::builder().backplane(nonsense.clone()).build();
    let server = server(&topics);
    let mut client = open(&server).await;
    ask(&mut client, "sub room", "ok").await;
    sleep(SECOND).await;
    topics.publish("room", "still here");
    loop {
        // Bytes at random may be a message.
        if client.recv().await == Message::from("still here") {
            break;
        }
    }
    assert!(!nonsense.0.lock().unwrap().is_empty());
}

/// An engine that is known to be dropped.
struct Held {
    engine: Engine,
    _token: Arc<()>,
}

impl Held {
    fn new(engine: &Engine, token: &Arc<()>) -> Self {
        Self {
            engine: engine.port(),
            _token: token.clone(),
        }
    }
}

impl Backplane for Held {
    fn run<'a>(&'a self, link: &'a mut Link) -> Pending<'a, EngineError> {
        self.engine.run(link)
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_when_the_topics_are_gone_is_sent_within_a_second() {
    let engine = Engine::new(1).delay(SECOND / 5);
    let nodes = nodes(&engine, 1, |options| options).await;
    let mut there = nodes[0].subscriber("room").await;
    settle().await;
    for is_up in [true, false] {
        let token = Arc::new(());
        let held = Held::new(&engine, &token);
        let topics = Topics::builder().backplane(held).build();
        if is_up {
            sleep(SECOND).await;
            assert_eq!(topics.status(), Status::Up);
        }
        for n in 0..100 {
            topics.publish("room", n.to_string());
        }
        let begin = Instant::now();
        drop(topics);
        for n in 0..100 {
            there.expect_text(&n.to_string()).await;
        }
        while Arc::strong_count(&token) > 1 {
            assert!(begin.elapsed() < SECOND, "the task goes on");
            sleep(SECOND / 100).await;
        }
    }
    // Nobody waits for ever, nor for nothing.
    for messages in 0..2 {
        let token = Arc::new(());
        let held = Held::new(&engine, &token);
        held.engine.hang();
        let topics = Topics::builder().backplane(held).build();
        for _ in 0..messages {
            topics.publish("room", "never");
        }
        drop(topics);
        for after in [SECOND / 10, SECOND * 8 / 10] {
            sleep(after).await;
            assert_eq!(Arc::strong_count(&token), 1 + messages);
        }
        sleep(SECOND / 5).await;
        assert_eq!(Arc::strong_count(&token), 1);
    }
    there.expect_silence(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_flush_waits_until_all_is_sent_and_says_whether_it_was() {
    let engine = Engine::new(1).delay(SECOND / 5);
    let options = |options: TopicsBuilder| options.retain("log:", Retain::messages(100));
    let nodes = nodes(&engine, 2, options).await;
    let topics = &nodes[0].topics;
    let mut there = nodes[1].subscriber("room").await;
    settle().await;
    let begin = Instant::now();
    assert!(topics.flush(SECOND).await && begin.elapsed() < SECOND);
    for n in 0..100 {
        topics.publish("room", n.to_string());
        topics.publish("log:1", n.to_string());
    }
    assert!(topics.flush(5 * SECOND).await);
    let last = topics.append("log:1", "last").await.unwrap();
    assert_eq!(last.offset(), 101);
    for n in 0..100 {
        there.expect_text(&n.to_string()).await;
    }

    // Out of reach: what waits is not sent, then it is.
    nodes[0].port.cut();
    settle().await;
    topics.publish("room", "late");
    let begin = Instant::now();
    assert!(!topics.flush(SECOND).await);
    assert!((SECOND..SECOND * 11 / 10).contains(&begin.elapsed()));
    let ((), is_sent) = tokio::join!(
        async {
            sleep(SECOND).await;
            nodes[0].port.mend();
        },
        topics.flush(20 * SECOND),
    );
    assert!(is_sent);
    there.expect_text("late").await;
    // A connection that breaks takes along what it had taken.
    let ((), is_sent) = tokio::join!(
        async {
            sleep(SECOND / 100).await;
            nodes[0].port.shake();
        },
        topics.flush(20 * SECOND),
    );
    assert!(!is_sent);
    reach(&nodes[0]).await;
    nodes[0].port.hang();
    assert!(!topics.flush(SECOND).await);
    assert!(Topics::new().flush(Duration::ZERO).await);
}

/// Random publishers, subscribers and faults: nobody gets a message twice or one of another topic, each gets
/// those of a publisher in order if the engine keeps the order; without faults everybody gets everything.
#[tokio::test(start_paused = true)]
async fn t11_at_random_nobody_gets_anything_twice_and_without_faults_everybody_gets_everything() {
    for seed in 0..12 {
        let faulty = seed % 3 != 0;
        let reorder = seed % 3 == 2;
        let mut engine = Engine::new(seed).delay(SECOND / 20).reorder(reorder);
        if faulty {
            engine = engine.double(0.2).lose(0.05);
        }
        let mut rng = StdRng::seed_from_u64(seed);
        let nodes = nodes(&engine, 3, |options| options).await;
        let mut clients = Vec::new();
        for n in 0..9 {
            let topic = format!("room:{}", n % 2);
            clients.push((topic.clone(), nodes[n % 3].subscriber(&topic).await));
        }
        settle().await;
        let mut sent: HashMap<String, usize> = HashMap::new();
        for _ in 0..60 {
            for _ in 0..rng.random_range(0..3) {
                let by = rng.random_range(0..3);
                let topic = format!("room:{}", rng.random_range(0..2));
                let count = sent.entry(format!("{topic} {by}")).or_default();
                *count += 1;
                let text = format!("{topic} {by} {count}");
                assert!(nodes[by].topics.publish(&topic, text).sent());
            }
            if faulty && rng.random_range(0..20) == 0 {
                nodes[rng.random_range(0..3)].port.shake();
            }
            sleep(SECOND / 50).await;
        }
        settle().await;
        for (topic, client) in &mut clients {
            nodes[0].topics.publish(topic, "end");
            let mut got: HashMap<String, Vec<usize>> = HashMap::new();
            while let Ok(message) = timeout(SECOND, client.recv()).await {
                let text = message.as_text().unwrap();
                let Some((from, n)) = text.rsplit_once(' ') else {
                    continue;
                };
                assert!(from.starts_with(&*topic), "{from} in {topic}");
                got.entry(from.to_owned())
                    .or_default()
                    .push(n.parse().unwrap());
            }
            for (from, numbers) in &mut got {
                if !reorder {
                    assert!(numbers.is_sorted(), "seed {seed}: {from} {numbers:?}");
                }
                numbers.sort_unstable();
                let count = numbers.len();
                numbers.dedup();
                assert_eq!(numbers.len(), count, "seed {seed}: a double from {from}");
                if !faulty {
                    assert_eq!(count, sent[from], "seed {seed}: {from}");
                }
            }
            assert!(!got.is_empty());
        }
    }
}

/// Built where there is no runtime, a node begins with whatever it is used for first in one.
#[test]
fn topics_that_were_built_before_the_runtime_begin_with_their_first_use() {
    type Use = fn(&Topics);
    let uses: [(&str, Use); 6] = [
        ("status", |topics| {
            topics.status();
        }),
        ("changed", |topics| drop(topics.changed())),
        ("publish", |topics| {
            topics.publish("room", "hello");
        }),
        ("handle", |topics| {
            topics.topic("room").publish("hello");
        }),
        ("log", |topics| {
            topics.topic("log:1").publish("hello");
        }),
        ("close", |topics| {
            topics
                .close("room", CloseCode::POLICY_VIOLATION, "")
                .unwrap();
        }),
    ];
    for (name, first) in uses {
        let engine = Engine::new(1);
        let options = || Topics::builder().retain("log:", Retain::messages(9));
        let topics = options().backplane(engine.port()).build();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let other = Node::new(&engine, |_| options());
            reach(&other).await;
            let topic = if name == "log" { "log:1" } else { "room" };
            let mut client = other.subscriber(topic).await;
            settle().await;
            first(&topics);
            settle().await;
            match name {
                "status" | "changed" => {}
                "close" => drop(client.expect_close(CloseCode::POLICY_VIOLATION).await),
                _ => client.expect_text("hello").await,
            }
            assert_eq!(topics.status(), Status::Up, "{name}");
        });
    }
}
