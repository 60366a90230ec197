use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, timeout_at};
use tower_websocket::test::Received;
use tower_websocket::{
    CloseCode, Connection, Message, Position, Result, Retain, Subscribe, WebSocketLayer,
};

use super::*;

fn options(options: TopicsBuilder) -> TopicsBuilder {
    options
        .retain("log:", Retain::messages(1000))
        .stamp(|_, position, message| {
            Message::from(format!(
                "{position} {}",
                message.as_text().unwrap_or_default()
            ))
        })
}

/// `/?POSITION` subscribes `log:1` after a position, and says first whether that was possible; `/?P…` also
/// where the client stands.
async fn serve(mut conn: Connection) -> Result {
    let query = conn.request().uri.query().unwrap_or_default();
    let told = query.strip_prefix('P');
    let after: Option<Position> = told.unwrap_or(query).parse().ok();
    let told = told.is_some();
    let how = Subscribe::new().after(after).greeting(move |attached| {
        let position = attached.position().filter(|_| told);
        let position = position.map(|position| format!(" {position}"));
        let recovered = match attached.is_unknown() {
            true => "unknown".to_owned(),
            false => attached.recovered().to_string(),
        };
        format!("{recovered}{}", position.unwrap_or_default()).into()
    });
    conn.subscribe_with("log:1", how).await?;
    while let Some(message) = conn.recv().await? {
        conn.publish("log:1", message);
    }
    Ok(())
}

async fn come(node: &Node, after: Option<&str>) -> TestClient {
    let layer = WebSocketLayer::from_fn("/", serve).topics(&node.topics);
    let server = TestServer::new(layer.into_service());
    let path = format!("/?{}", after.unwrap_or_default());
    server.connect(&path).await.expect("a 101")
}

/// What a message says, and where it stands.
async fn next(client: &mut TestClient) -> (String, String) {
    let message = client.recv().await;
    let (position, text) = message.as_text().unwrap().split_once(' ').unwrap();
    (position.to_owned(), text.to_owned())
}

/// Appends numbers, one after the other.
async fn append(node: &Node, numbers: Range<u32>) {
    for n in numbers {
        let appended = node.topics.append("log:1", n.to_string()).await;
        appended.unwrap();
    }
}

/// The client gets numbers next. Gives the position of the last.
async fn expect(client: &mut TestClient, numbers: Range<u32>) -> String {
    let mut position = String::new();
    for n in numbers {
        let (at, text) = next(client).await;
        assert_eq!(text, n.to_string());
        position = at;
    }
    position
}

#[tokio::test(start_paused = true)]
async fn all_nodes_have_the_messages_of_a_retained_topic_in_one_order() {
    let engine = Engine::new(1).delay(SECOND / 50);
    let nodes = nodes(&engine, 3, options).await;
    let mut clients = Vec::new();
    for node in &nodes {
        let mut client = come(node, None).await;
        client.expect_text("true").await;
        clients.push(client);
    }
    for n in 0..60 {
        let published = nodes[n % 3].topics.publish("log:1", n.to_string());
        assert!(published.sent() && published.delivered() == 0);
    }
    let position = nodes[1].topics.append("log:1", "last").await.unwrap();
    let mut lists = Vec::new();
    for client in &mut clients {
        let mut list = Vec::new();
        loop {
            let (at, text) = next(client).await;
            if text == "last" {
                assert_eq!(at, position.to_string());
            }
            list.push((at, text));
            if list.len() == 61 {
                break;
            }
        }
        lists.push(list);
    }
    assert!(lists[0] == lists[1] && lists[1] == lists[2]);
    // Each publisher's in its order.
    let of_first = lists[0].iter().filter_map(|(_, text)| text.parse().ok());
    let of_first: Vec<usize> = of_first.filter(|n| n % 3 == 0).collect();
    assert_eq!(of_first, (0..20).map(|n| n * 3).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_to_another_node_gets_what_it_missed_and_not_its_own() {
    let nodes = nodes(&Engine::new(1), 3, options).await;
    let mut client = come(&nodes[0], None).await;
    client.expect_text("true").await;
    // By a connection: it does not get it, others do.
    let mut other = come(&nodes[0], None).await;
    other.expect_text("true").await;
    client.send("mine").await;
    assert_eq!(next(&mut other).await.1, "mine");
    client.expect_silence(SECOND).await;
    nodes[2].topics.publish("log:1", "one");
    let (position, text) = next(&mut client).await;
    assert_eq!(text, "one");
    drop((client, other));
    settle().await;
    for text in ["two", "three"] {
        nodes[1].topics.append("log:1", text).await.unwrap();
    }
    // Neither node has had a subscriber.
    for node in &nodes {
        let mut client = come(node, Some(&position)).await;
        client.expect_text("true").await;
        assert_eq!(next(&mut client).await.1, "two");
        assert_eq!(next(&mut client).await.1, "three");
        client.expect_silence(SECOND).await;
    }
    for old in ["0000000000000001-1", "ffffffffffffffff-ffffffffffffffff"] {
        let mut client = come(&nodes[0], Some(old)).await;
        client.expect_text("false").await;
        client.expect_silence(SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn t15_without_the_engine_nothing_is_appended_and_that_is_said() {
    let nodes = nodes(&Engine::new(1), 2, options).await;
    let mut client = come(&nodes[0], None).await;
    client.expect_text("true").await;
    let first = nodes[0].topics.append("log:1", "first").await.unwrap();
    assert_eq!(next(&mut client).await.1, "first");
    nodes[0].port.cut();
    let begin = Instant::now();
    let error = nodes[0].topics.append("log:1", "second").await.unwrap_err();
    assert!(error.is_unreachable());
    assert_eq!(error.into_message(), Message::from("second"));
    assert!((9 * SECOND..=11 * SECOND).contains(&begin.elapsed()));
    let error = nodes[0].topics.append("chat", "plain").await.unwrap_err();
    assert!(!error.is_unreachable());
    // Who comes is answered from what is here.
    let mut back = come(&nodes[0], Some(&first.to_string())).await;
    back.expect_text("true").await;
    // Elsewhere things go on, and here when the engine is back: for who is here, too.
    nodes[1].topics.append("log:1", "third").await.unwrap();
    let append = nodes[0].topics.append("log:1", "fourth");
    nodes[0].port.mend();
    append.await.unwrap();
    for client in [&mut client, &mut back] {
        assert_eq!(next(client).await.1, "third");
        assert_eq!(next(client).await.1, "fourth");
        client.expect_silence(SECOND).await;
    }
    // A topic that this node does not know.
    nodes[0].port.cut();
    settle().await;
    let begin = Instant::now();
    let mut stranger = {
        let layer = WebSocketLayer::from_fn("/", |mut conn: Connection| async move {
            let how = Subscribe::new().after("0000000000000001-1".parse::<Position>()?);
            let attached = conn.subscribe_with("log:2", how).await?;
            assert!(attached.is_unknown() && !attached.recovered());
            conn.send("unknown").await?;
            while conn.recv().await?.is_some() {}
            Ok(())
        });
        let layer = layer.topics(&nodes[0].topics);
        TestServer::new(layer.into_service())
            .connect("/")
            .await
            .unwrap()
    };
    stranger.expect_text("unknown").await;
    assert!(begin.elapsed() <= 6 * SECOND);
    nodes[0].port.mend();
    // The log is there, and has never heard of that position.
    stranger.expect_close(1012).await;
}

#[tokio::test(start_paused = true)]
async fn t15_who_comes_back_while_the_log_is_out_of_reach_is_told_so_and_gets_all_of_it_later() {
    let nodes = nodes(&Engine::new(1), 2, options).await;
    let first = nodes[1].topics.append("log:1", "0").await.unwrap();
    let first = first.to_string();
    append(&nodes[1], 1..3).await;
    // One node has never seen the topic.
    nodes[0].port.cut();
    settle().await;
    let mut back = come(&nodes[0], Some(&format!("P{first}"))).await;
    let mut again = come(&nodes[0], Some(&first)).await;
    let mut new = come(&nodes[0], None).await;
    back.expect_text(&format!("unknown {first}")).await;
    again.expect_text("unknown").await;
    new.expect_text("true").await;
    // One of them goes, and its place is taken by somebody else.
    drop(again);
    settle().await;
    let mut other = come(&nodes[0], None).await;
    other.expect_text("true").await;
    append(&nodes[1], 3..400).await;
    back.expect_silence(5 * SECOND).await;
    nodes[0].port.mend();
    for n in 1..400 {
        assert_eq!(next(&mut back).await.1, n.to_string());
    }
    sleep(SECOND).await;
    append(&nodes[1], 400..402).await;
    for client in [&mut back, &mut new, &mut other] {
        for n in 400..402 {
            assert_eq!(next(client).await.1, n.to_string());
        }
        client.expect_silence(SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn t15_who_has_seen_more_than_a_node_that_is_cut_off_gets_what_follows_once() {
    let nodes = nodes(&Engine::new(1), 2, options).await;
    let mut here = come(&nodes[0], None).await;
    here.expect_text("true").await;
    append(&nodes[1], 0..3).await;
    for n in 0..3 {
        assert_eq!(next(&mut here).await.1, n.to_string());
    }
    nodes[0].port.cut();
    settle().await;
    append(&nodes[1], 3..5).await;
    let seen = nodes[1].topics.append("log:1", "5").await.unwrap();
    let mut back = come(&nodes[0], Some(&seen.to_string())).await;
    back.expect_text("unknown").await;
    append(&nodes[1], 6..9).await;
    nodes[0].port.mend();
    for n in 6..9 {
        assert_eq!(next(&mut back).await.1, n.to_string());
    }
    back.expect_silence(SECOND).await;
    for n in 3..9 {
        assert_eq!(next(&mut here).await.1, n.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn t16_who_waits_for_a_log_that_comes_back_without_what_was_missed_is_closed_and_then_told() {
    let engine = Engine::new(1);
    let few = |builder: TopicsBuilder| options(builder).retain("log:", Retain::messages(2));
    let nodes = nodes(&engine, 2, few).await;
    let seen = nodes[1].topics.append("log:1", "0").await.unwrap();
    let seen = seen.to_string();
    nodes[0].port.cut();
    settle().await;
    let mut back = come(&nodes[0], Some(&seen)).await;
    back.expect_text("unknown").await;
    append(&nodes[1], 1..10).await;
    nodes[0].port.mend();
    back.expect_close(1012).await;
    let mut back = come(&nodes[0], Some(&seen)).await;
    back.expect_text("false").await;
    append(&nodes[1], 10..11).await;
    assert_eq!(next(&mut back).await.1, "10");

    // With a gap function, it is told, and goes on. Nothing of the topic is on this node when nobody subscribes it.
    drop(back);
    sleep(6 * SECOND).await;
    nodes[0].port.cut();
    settle().await;
    let with_gap = |mut conn: Connection| async move {
        let after: Position = conn.request().uri.query().unwrap_or_default().parse()?;
        let how = Subscribe::new().after(after);
        let how = how.gap(|lost| format!("at-least {lost}").into());
        let attached = conn.subscribe_with("log:1", how).await?;
        conn.send(format!("{}", attached.is_unknown())).await?;
        while conn.recv().await?.is_some() {}
        Ok(())
    };
    let layer = WebSocketLayer::from_fn("/", with_gap).topics(&nodes[0].topics);
    let server = TestServer::new(layer.into_service());
    let mut told = server.connect(&format!("/?{seen}")).await.expect("a 101");
    told.expect_text("true").await;
    nodes[0].port.mend();
    told.expect_text("at-least 1").await;
    append(&nodes[1], 11..12).await;
    assert_eq!(next(&mut told).await.1, "11");
}

#[tokio::test(start_paused = true)]
async fn t15_too_much_that_waits_for_the_log_is_refused_at_once() {
    let nodes = nodes(&Engine::new(1), 1, options).await;
    nodes[0].port.cut();
    settle().await;
    let sent = (0..5000).filter(|n| {
        let published = nodes[0].topics.publish("log:1", n.to_string());
        published.sent()
    });
    assert_eq!(sent.count(), 4096);
    let refused = nodes[0].topics.append("log:2", "more").await;
    assert!(refused.unwrap_err().is_unreachable());
    nodes[0].port.mend();
    sleep(SECOND).await;
    nodes[0].topics.append("log:1", "all others").await.unwrap();
    assert_eq!(
        nodes[0]
            .topics
            .append("log:2", "one")
            .await
            .unwrap()
            .offset(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn t16_when_the_log_is_lost_nobody_is_told_that_it_has_everything() {
    let engine = Engine::new(1);
    let nodes = nodes(&engine, 2, options).await;
    let saved = engine.save_logs();
    let mut clients = vec![come(&nodes[0], None).await, come(&nodes[1], None).await];
    let mut position = String::new();
    for client in &mut clients {
        client.expect_text("true").await;
    }
    append(&nodes[0], 0..5).await;
    let middle = engine.save_logs();
    append(&nodes[0], 5..10).await;
    for client in &mut clients {
        position = expect(client, 0..10).await;
    }
    for saved in [saved, middle] {
        let (epoch, _) = position.split_once('-').unwrap();
        let before = position.clone();
        engine.restore_logs(&saved);
        let new = nodes[1].topics.append("log:1", "new").await.unwrap();
        assert_ne!(&new.to_string()[..16], epoch);
        // Who is there does not learn what was lost: it has to come again, and load everything.
        for client in &mut clients {
            loop {
                match client.next().await {
                    Received::Message(message) => panic!("{message:?}"),
                    Received::Close(close) => {
                        assert_eq!(close.unwrap().0, CloseCode::SERVICE_RESTART);
                        break;
                    }
                    _ => {}
                }
            }
        }
        clients = vec![
            come(&nodes[0], Some(&before)).await,
            come(&nodes[1], Some(&before)).await,
        ];
        for client in &mut clients {
            client.expect_text("false").await;
        }
        append(&nodes[0], 0..10).await;
        for client in &mut clients {
            position = expect(client, 0..10).await;
        }
    }
}

/// What clients have seen, and publishers were told.
#[derive(Default)]
struct Book {
    /// What stands at each position: the same for all.
    entries: BTreeMap<String, String>,
    /// Positions that publishers were told.
    appended: Vec<(u64, u64)>,
}

impl Book {
    fn enter(&mut self, position: &str, text: &str, who: &str) {
        let before = self.entries.insert(position.to_owned(), text.to_owned());
        let same = before.as_deref().is_none_or(|before| before == text);
        assert!(same, "{who}: {position} is {text} and {before:?}");
    }
}

/// Comes and goes, from node to node, and checks what it gets. Gives how often it was not recovered, and how
/// far it came.
async fn client(
    nodes: Arc<Vec<Node>>,
    book: Arc<Mutex<Book>>,
    seed: u64,
    until: Instant,
) -> (usize, Option<Position>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut seen, mut lost) = (None::<Position>, 0);
    let mut is_last = false;
    loop {
        let node = &nodes[rng.random_range(0..nodes.len())];
        let shown = seen.map_or_else(String::new, |seen| seen.to_string());
        let mut client = come(node, Some(&format!("P{shown}"))).await;
        let greeting = client.next().await;
        let Received::Message(greeting) = greeting else {
            continue;
        };
        let mut words = greeting.as_text().unwrap().split(' ');
        let recovered = words.next() == Some("true");
        lost += usize::from(!recovered);
        // Who is told to load everything has it up to there; if nobody knows where, from the next message.
        let mut at: Option<Position> = words.next().map(|position| position.parse().unwrap());
        if recovered && seen.is_some() {
            assert_eq!(at, seen, "client {seed}");
        }
        let stay = Duration::from_millis(rng.random_range(1..3000));
        let end = Instant::now() + if is_last { 15 * SECOND } else { stay };
        let ended = loop {
            // The client itself is patient for 10 s.
            let soon = end.min(Instant::now() + 9 * SECOND);
            match timeout_at(soon, client.next()).await {
                Err(_) if Instant::now() < end => {}
                Err(_) => break false,
                Ok(Received::Message(message)) => {
                    let (position, text) = message.as_text().unwrap().split_once(' ').unwrap();
                    book.lock()
                        .unwrap()
                        .enter(position, text, &format!("client {seed}"));
                    let position: Position = position.parse().unwrap();
                    if let Some(at) = at {
                        assert_eq!(
                            (position.epoch(), position.offset()),
                            (at.epoch(), at.offset() + 1),
                            "client {seed}, {recovered}: behind {at}"
                        );
                    }
                    at = Some(position);
                }
                Ok(Received::Ping(_) | Received::Pong(_)) => {}
                Ok(_) => break true,
            }
        };
        seen = at;
        if is_last && !ended {
            return (lost, seen);
        }
        is_last = Instant::now() >= until;
    }
}

/// Publishes at random, and keeps what it was told.
async fn publisher(nodes: Arc<Vec<Node>>, book: Arc<Mutex<Book>>, seed: u64, until: Instant) {
    let mut rng = StdRng::seed_from_u64(seed);
    for n in 0.. {
        if Instant::now() >= until {
            return;
        }
        let node = &nodes[rng.random_range(0..nodes.len())];
        let text = format!("{seed}/{n}");
        if let Ok(position) = node.topics.append("log:1", text.clone()).await {
            let mut book = book.lock().unwrap();
            book.enter(&position.to_string(), &text, "publisher");
            book.appended.push((position.epoch(), position.offset()));
        }
        sleep(Duration::from_millis(rng.random_range(0..100))).await;
    }
}

/// Runs clients and publishers over an engine that does its worst, and `harm` beside them. Gives how often
/// clients were not recovered.
async fn run(
    seed: u64,
    engine: Engine,
    harm: impl AsyncFn(&[Node], &Engine, &mut StdRng),
) -> usize {
    let nodes = Arc::new(nodes(&engine, 3, options).await);
    let book = Arc::new(Mutex::new(Book::default()));
    let until = Instant::now() + 60 * SECOND;
    let clients = (0..6).map(|n| {
        let client = client(
            nodes.clone(),
            book.clone(),
            seed * 100 + n,
            until + 40 * SECOND,
        );
        tokio::spawn(client)
    });
    let clients: Vec<_> = clients.collect();
    let publishers = (0..3).map(|n| {
        let publisher = publisher(nodes.clone(), book.clone(), seed * 100 + 50 + n, until);
        tokio::spawn(publisher)
    });
    let publishers: Vec<_> = publishers.collect();
    let mut rng = StdRng::seed_from_u64(seed);
    while Instant::now() < until {
        harm(&nodes, &engine, &mut rng).await;
    }
    for node in nodes.iter() {
        node.port.mend();
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let engine = engine.lose(0.0);
    let last = nodes[0].topics.append("log:1", "the end").await.unwrap();
    book.lock()
        .unwrap()
        .enter(&last.to_string(), "the end", "the end");
    let mut lost = 0;
    for client in clients {
        let (times, seen) = client.await.unwrap();
        assert_eq!(seen, Some(last), "seed {seed}");
        lost += times;
    }
    let book = book.lock().unwrap();
    let mut doubles = HashMap::new();
    for (position, text) in &book.entries {
        // An append that is tried again is one message.
        let before = doubles.insert(text.clone(), position.clone());
        let same_epoch = before.is_some_and(|before| before[..16] == position[..16]);
        assert!(!same_epoch, "seed {seed}: {text} is there twice");
    }
    assert!(
        book.appended.len() > 100,
        "seed {seed}: {}",
        book.appended.len()
    );
    drop(engine);
    lost
}

#[tokio::test(start_paused = true)]
async fn t15_over_an_engine_that_delays_doubles_reorders_and_loses_everybody_gets_everything_once_in_order()
 {
    for seed in 0..6 {
        let engine = Engine::new(seed).delay(SECOND / 20).reorder(true);
        let engine = engine.double(0.1).lose(0.05);
        let harm = async |nodes: &[Node], _: &Engine, rng: &mut StdRng| {
            let node = &nodes[rng.random_range(0..3)];
            match rng.random_range(0..10) {
                0..4 => node.port.shake(),
                4 => {
                    node.port.cut();
                    // Who waits for a log waits longer.
                    sleep(Duration::from_millis(rng.random_range(0..800))).await;
                    node.port.mend();
                }
                _ => {}
            }
            sleep(Duration::from_millis(rng.random_range(0..1000))).await;
        };
        assert_eq!(run(seed, engine, harm).await, 0, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn t16_when_logs_are_lost_or_come_back_older_nobody_misses_anything_without_being_told() {
    let mut lost = 0;
    for seed in 0..6 {
        let engine = Engine::new(seed).delay(SECOND / 20).reorder(true);
        let engine = engine.double(0.1).lose(0.02);
        let harm = async |nodes: &[Node], engine: &Engine, rng: &mut StdRng| {
            let saved = engine.save_logs();
            sleep(Duration::from_millis(rng.random_range(5000..9000))).await;
            match rng.random_range(0..4) {
                0 => engine.lose_logs(),
                1 => engine.restore_logs(&saved),
                _ => nodes[rng.random_range(0..3)].port.shake(),
            }
        };
        lost += run(seed, engine, harm).await;
    }
    assert!(lost > 10, "{lost}");
}
