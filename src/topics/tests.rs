//! Topics on links without sockets: a model, and what takes too long over a socket.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::config::Config;
use crate::connection::{Info, Link};
use crate::protocol::{Batch, Session};

/// The queue of a connection.
const QUEUE: usize = 4;

/// A connection whose driver is the test.
struct Client {
    link: Arc<Link>,
    session: Session,
    got: VecDeque<String>,
}

impl Client {
    fn new(topics: &Topics) -> Self {
        let config = Arc::new(Config {
            queue_messages: QUEUE,
            ..Config::default()
        });
        Self {
            link: Arc::new(Link::new(
                config.clone(),
                Info::of_nobody(),
                None,
                topics.clone(),
            )),
            session: Session::new(config),
            got: VecDeque::new(),
        }
    }

    fn subscribe(&self, topic: &str, how: Subscribe) -> Attached {
        self.link.subscribe(topic, how).expect("a subscription")
    }

    /// Writes one batch of what is queued. Whether there was something.
    fn write(&mut self) -> bool {
        let mut batch = Batch::default();
        self.link.fill(&mut self.session, &mut batch);
        let mut bytes = Vec::new();
        while !batch.is_empty() {
            batch.write_into(&mut bytes);
        }
        let mut rest = &bytes[..];
        while let [0x81, len @ 0..126, tail @ ..] = rest {
            let (text, tail) = tail.split_at(usize::from(*len));
            self.got
                .push_back(String::from_utf8(text.to_vec()).expect("text"));
            rest = tail;
        }
        assert!(rest.is_empty(), "{rest:?}");
        !bytes.is_empty()
    }

    fn write_all(&mut self) -> Vec<String> {
        while self.write() {}
        self.got.drain(..).collect()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.link.end();
    }
}

/// What a connection should get, of plain topics and all policies.
#[derive(Default)]
struct Expected {
    closed: bool,
    queue: VecDeque<String>,
    /// What waits beside it: topic, key, text.
    waiting: VecDeque<(String, Option<u8>, String)>,
    topics: BTreeMap<String, OnFull>,
}

impl Expected {
    fn publish(&mut self, topic: &str, key: u8, text: &str) {
        let Some(policy) = self.topics.get(topic).copied().filter(|_| !self.closed) else {
            return;
        };
        if self.queue.len() < QUEUE && self.waiting.is_empty() {
            self.queue.push_back(text.to_owned());
            return;
        }
        let key = (policy == OnFull::KeepLatest).then_some(key);
        match policy {
            OnFull::Close => self.closed = true,
            OnFull::DropOldest | OnFull::KeepLatest => {
                let same = |w: &&mut (String, Option<u8>, String)| w.0 == topic && w.1 == key;
                let replaced = self.waiting.iter_mut().find(same);
                if let Some(waiting) = replaced.filter(|_| key.is_some()) {
                    waiting.2 = text.to_owned();
                    return;
                }
                if self.waiting.len() >= QUEUE {
                    let Some(at) = self.waiting.iter().position(|w| w.0 == topic) else {
                        return;
                    };
                    self.waiting.remove(at);
                }
                self.waiting
                    .push_back((topic.to_owned(), key, text.to_owned()));
            }
            _ => {}
        }
    }

    /// One batch is written: all that is queued, whose room is for those who wait.
    fn write(&mut self, got: &mut Vec<String>) {
        got.extend(self.queue.drain(..));
        while self.queue.len() < QUEUE && !self.closed {
            let Some((_, _, text)) = self.waiting.pop_front() else {
                break;
            };
            self.queue.push_back(text);
        }
    }
}

/// Against a map: random subscribing, unsubscribing, publishing, closing and lagging.
#[test]
fn t1_topics_do_what_a_map_of_queues_would_do() {
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let topics = Topics::new();
        let mut clients: Vec<(Client, Expected)> = Vec::new();
        for step in 0..300 {
            if clients.len() < 5 && random.random_bool(0.2) {
                clients.push((Client::new(&topics), Expected::default()));
            }
            if clients.is_empty() {
                continue;
            }
            let at = random.random_range(0..clients.len());
            let topic = ["a", "b", "c"][random.random_range(0..3)];
            let (client, expected) = &mut clients[at];
            match random.random_range(0..100) {
                0..25 if !expected.closed => {
                    let policies = [
                        OnFull::Close,
                        OnFull::DropNewest,
                        OnFull::DropOldest,
                        OnFull::KeepLatest,
                        OnFull::Pause,
                    ];
                    let policy = policies[random.random_range(0..5)];
                    // A subscription that is changed begins anew with what waits.
                    if !expected.topics.contains_key(topic) {
                        let how = Subscribe::new().on_full(policy);
                        let how = how.key(|message| message.as_bytes()[0]);
                        client.subscribe(topic, how);
                        let policy = match policy {
                            OnFull::Pause => OnFull::Close,
                            policy => policy,
                        };
                        expected.topics.insert(topic.to_owned(), policy);
                    }
                }
                25..35 => {
                    let was = expected.topics.remove(topic).is_some();
                    assert_eq!(client.link.unsubscribe(topic), was);
                    // What it left waiting is still sent, and belongs to nobody.
                    for waiting in expected.waiting.iter_mut().filter(|w| w.0 == topic) {
                        waiting.0.clear();
                    }
                }
                35..40 => drop(clients.swap_remove(at)),
                40..60 => {
                    let mut got = Vec::new();
                    expected.write(&mut got);
                    let (was_closed, link) = (expected.closed, &client.link);
                    assert_eq!(link.is_closed(), was_closed, "seed {seed} step {step}");
                    client.write();
                    assert_eq!(Vec::from_iter(client.got.drain(..)), got, "{seed} {step}");
                }
                _ => {
                    let key = b'k' + random.random_range(0..3u8);
                    let text = format!("{}{topic}{step}", char::from(key));
                    let is_from = random.random_bool(0.5);
                    if is_from {
                        client.link.publish(topic, &text.clone().into());
                    } else {
                        topics.publish(topic, text.clone());
                    }
                    for (i, (_, expected)) in clients.iter_mut().enumerate() {
                        if !is_from || i != at {
                            expected.publish(topic, key, &text);
                        }
                    }
                }
            }
            for topic in ["a", "b", "c"] {
                let subscribed = |(_, e): &&(Client, Expected)| e.topics.contains_key(topic);
                let count = clients.iter().filter(subscribed).count();
                assert_eq!(topics.subscribers(topic), count, "seed {seed} step {step}");
            }
        }
        let used: BTreeSet<&String> = clients.iter().flat_map(|(_, e)| e.topics.keys()).collect();
        assert_eq!(topics.registry().count(), used.len());
        clients.clear();
        assert_eq!(topics.registry().count(), 0);
    }
}

/// The same for retained topics, where the model is simpler: everything, in order, once.
#[test]
fn t2_t6_whoever_subscribes_a_retained_topic_gets_all_of_it_however_it_lags_and_comes_back() {
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let topics = Topics::builder()
            .retain("", Retain::messages(10_000))
            .stamp(|_, position, message| {
                format!("{position} {}", message.as_text().unwrap()).into()
            })
            .build();
        let (mut published, mut heard) = (0, 0);
        let mut client = Client::new(&topics);
        let attached = client.subscribe("room", Subscribe::new());
        let mut position = attached.position().unwrap();
        let take = |client: &mut Client, position: &mut Position, heard: &mut usize| {
            for text in client.got.drain(..) {
                let (at, n) = text.split_once(' ').unwrap();
                *position = at.parse().unwrap();
                assert_eq!(n.parse(), Ok(*heard), "seed {seed}");
                *heard += 1;
            }
        };
        for _ in 0..400 {
            match random.random_range(0..10) {
                0..6 => {
                    topics.publish("room", published.to_string());
                    published += 1;
                }
                6..9 => {
                    client.write();
                    take(&mut client, &mut position, &mut heard);
                }
                _ => {
                    // Cut off: what is queued is lost.
                    client = Client::new(&topics);
                    let attached = client.subscribe("room", Subscribe::new().after(position));
                    assert!(attached.recovered());
                    assert_eq!(attached.position(), Some(position));
                }
            }
        }
        while client.write() {}
        take(&mut client, &mut position, &mut heard);
        assert_eq!(heard, published, "seed {seed}");
    }
}

#[test]
fn r10_t3_a_million_subscriptions_that_come_and_go_leave_nothing() {
    let topics = Topics::new();
    let client = Client::new(&topics);
    for n in 0..1_000_000u32 {
        let name = format!("topic {}", n % 1000);
        client.subscribe(&name, Subscribe::new());
        assert!(client.link.unsubscribe(&name));
    }
    assert_eq!(topics.registry().count(), 0);
}

#[test]
fn r10_t4_a_hundred_thousand_topics_of_one_peer_where_that_is_allowed() {
    let topics = Topics::builder().max_subscriptions(100_000).build();
    let client = Client::new(&topics);
    for n in 0..100_000 {
        client.subscribe(&format!("topic {n}"), Subscribe::new());
    }
    let one_more = client.link.subscribe("one more", Subscribe::new());
    assert_eq!(one_more, Err(SubscribeError::TooMany(100_000)));
    assert_eq!(topics.registry().count(), 100_000);
    drop(client);
    assert_eq!(topics.registry().count(), 0);
}

#[test]
fn a_topic_of_several_chunks_reaches_all_its_members_and_uses_their_slots_again() {
    let topics = Topics::new();
    let mut clients: Vec<Client> = (0..3000).map(|_| Client::new(&topics)).collect();
    for client in &clients {
        client.subscribe("room", Subscribe::new());
    }
    assert_eq!(topics.publish("room", "one").delivered(), 3000);
    for client in clients.iter_mut().step_by(2) {
        assert!(client.link.unsubscribe("room"));
    }
    assert_eq!(topics.publish("room", "two").delivered(), 1500);
    for client in clients.iter().step_by(4) {
        client.subscribe("room", Subscribe::new());
    }
    assert_eq!(topics.publish("room", "three").delivered(), 2250);
    for (i, client) in clients.iter_mut().enumerate() {
        let expected: &[&str] = match i % 4 {
            0 => &["one", "three"],
            2 => &["one"],
            _ => &["one", "two", "three"],
        };
        assert_eq!(client.write_all(), expected, "{i}");
    }
}

/// All subscribers see one order, whoever publishes; and each publisher's own.
#[test]
fn t6_all_members_get_the_messages_of_many_threads_in_one_order() {
    let topics = Topics::new();
    let config = Arc::new(Config {
        queue_messages: usize::MAX,
        queue_bytes: usize::MAX,
        ..Config::default()
    });
    let mut clients: Vec<Client> = (0..2500).map(|_| Client::new(&topics)).collect();
    for client in &mut clients {
        let info = Info::of_nobody();
        client.link = Arc::new(Link::new(config.clone(), info, None, topics.clone()));
        client.subscribe("room", Subscribe::new());
    }
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let topics = &topics;
            scope.spawn(move || {
                for n in 0..50 {
                    topics.publish("room", format!("{thread} {n}"));
                }
            });
        }
    });
    let first = clients[0].write_all();
    assert_eq!(first.len(), 150);
    for thread in ["0 ", "1 ", "2 "] {
        let own = first.iter().filter_map(|text| text.strip_prefix(thread));
        let own: Vec<u32> = own.map(|n| n.parse().unwrap()).collect();
        assert_eq!(own, (0..50).collect::<Vec<_>>());
    }
    for client in &mut clients[1..] {
        assert_eq!(client.write_all(), first);
    }
}

#[test]
fn t2_threads_that_subscribe_while_others_publish_get_a_run_without_holes() {
    for retained in [false, true] {
        let builder = Topics::builder();
        let topics = match retained {
            true => builder.retain("", Retain::messages(100_000)).build(),
            false => builder.build(),
        };
        let (topics, done) = (&topics, &AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..20_000u32 {
                    topics.publish("room", n.to_string());
                }
                done.store(true, Ordering::Release);
            });
            for _ in 0..3 {
                scope.spawn(move || {
                    while !done.load(Ordering::Acquire) {
                        let mut client = Client::new(topics);
                        client.subscribe("room", Subscribe::new());
                        for _ in 0..50 {
                            client.write();
                        }
                        let got = client.got.drain(..);
                        let got: Vec<u32> = got.map(|n| n.parse().unwrap()).collect();
                        for (before, after) in got.iter().zip(got.iter().skip(1)) {
                            // A plain topic closes who is too slow; what it got has no holes.
                            assert_eq!(before + 1, *after);
                        }
                    }
                });
            }
        });
    }
}

#[test]
fn topics_that_nobody_uses_are_limited_in_number() {
    let topics = Topics::builder().retain("", Retain::messages(1)).build();
    for n in 0..40_000 {
        topics.publish(&format!("topic {n}"), "x");
    }
    assert!((10_000..=16_384 + 32).contains(&topics.registry().count()));
}

/// Whose messages begin with "a".
fn choosy() -> Subscribe {
    Subscribe::new().filter(|message| message.as_bytes()[0] == b'a')
}

#[test]
fn what_a_filter_refuses_is_neither_sent_nor_counted_nor_closes_anybody() {
    let topics = Topics::new();
    let mut client = Client::new(&topics);
    client.subscribe("room", choosy());
    for n in 0..QUEUE {
        assert_eq!(
            topics.publish("room", format!("b{n}")),
            Published::default()
        );
        assert_eq!(topics.publish("room", format!("a{n}")).delivered(), 1);
    }
    // The queue is full, which only concerns what is wanted.
    assert_eq!(topics.publish("room", "b"), Published::default());
    assert!(!client.link.is_closed());
    assert_eq!(client.write_all(), ["a0", "a1", "a2", "a3"]);
    // To subscribe again takes it back.
    client.subscribe("room", Subscribe::new());
    assert_eq!(topics.publish("room", "b").delivered(), 1);
}

#[test]
fn what_a_filter_refuses_is_skipped_by_the_cursor_and_in_replay() {
    let topics = Topics::builder().retain("", Retain::messages(100)).build();
    let start = Client::new(&topics).subscribe("room", Subscribe::new());
    let mut client = Client::new(&topics);
    client.subscribe("room", choosy());
    for n in 0..20 {
        let letter = if n % 3 == 0 { 'a' } else { 'b' };
        topics.publish("room", format!("{letter}{n}"));
    }
    let wanted = ["a0", "a3", "a6", "a9", "a12", "a15", "a18"];
    assert_eq!(client.write_all(), wanted);
    let mut other = Client::new(&topics);
    let attached = other.subscribe("room", choosy().after(start.position()));
    assert!(attached.recovered());
    assert_eq!(other.write_all(), wanted);
    topics.publish("room", "b");
    topics.publish("room", "a");
    for client in [&mut client, &mut other] {
        assert_eq!(client.write_all(), ["a"]);
    }
}

#[test]
fn t7_a_gap_counts_neither_own_messages_nor_those_that_a_filter_refuses() {
    let topics = Topics::builder().retain("", Retain::messages(5)).build();
    let mut client = Client::new(&topics);
    client.subscribe("room", choosy().gap(|n| format!("gap {n}").into()));
    for round in 0..3 {
        // In the queue.
        for _ in 0..QUEUE {
            topics.publish("room", "a");
        }
        // Lost: 2 of 6. What is retained: 2 of 5, of which none is a loss.
        for text in ["a", "b", "a", "b", "b"] {
            topics.publish("room", text);
        }
        client.link.publish("room", &"a".into());
        for text in ["b", "a", "b", "a", "b"] {
            topics.publish("room", text);
        }
        assert_eq!(client.write_all(), ["a", "a", "a", "a", "gap 2", "a", "a"]);
        assert_eq!(client.link.dropped("room"), 2 * (round + 1));
    }
    // Nothing but those: there is no gap.
    for _ in 0..QUEUE + 1 {
        topics.publish("room", "a");
    }
    client.write();
    for _ in 0..10 {
        client.link.publish("room", &"a".into());
        topics.publish("room", "b");
    }
    assert!(!client.write_all().concat().contains("gap"));
    assert_eq!(client.link.dropped("room"), 6);
}

#[test]
fn t10_a_filter_that_panics_or_uses_topics_refuses_nothing() {
    for is_retained in [false, true] {
        let builder = Topics::builder();
        let topics = match is_retained {
            true => builder.retain("", Retain::messages(100)).build(),
            false => builder.build(),
        };
        let (mut client, inside) = (Client::new(&topics), topics.clone());
        let how = Subscribe::new().filter(move |message| match message.as_bytes()[0] {
            b'p' => panic!("in filter"),
            b't' => inside.publish("room", "never").delivered() > 0,
            first => first == b'a',
        });
        client.subscribe("room", how);
        let mut other = Client::new(&topics);
        other.subscribe("room", Subscribe::new());
        for text in ["a", "b", "panic", "topics"] {
            topics.publish("room", text);
        }
        assert_eq!(client.write_all(), ["a", "panic", "topics"]);
        assert_eq!(other.write_all(), ["a", "b", "panic", "topics"]);
    }
}

#[test]
fn t10_a_key_a_gap_and_a_greeting_that_panic_lose_their_own_message_alone() {
    let topics = Topics::new();
    let mut client = Client::new(&topics);
    let how = Subscribe::new()
        .on_full(OnFull::KeepLatest)
        .key(|_| -> u8 { panic!("in key") })
        .gap(|_| panic!("in gap"))
        .greeting(|_| panic!("in greeting"));
    client.subscribe("room", how);
    for n in 0..10 {
        topics.publish("room", n.to_string());
    }
    // Those without a key are equal.
    assert_eq!(client.write_all(), ["0", "1", "2", "3", "9"]);
    assert_eq!(client.link.dropped("room"), 5);
    topics.publish("room", "more");
    assert_eq!(client.write_all(), ["more"]);
}
