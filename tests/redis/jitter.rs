//! The jitter test over two nodes and a real Redis: connections are cut at random all the time, the server ends the
//! nodes' own now and then, publishers on both nodes never stop, and a client that was cut comes back to the
//! other node. Every client ends with every message, once, in order. One message less is a failure.
//!
//! 50 clients for some seconds. With more, by hand: `tests/soak/redis.sh jitter`.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep, timeout};
use tower_websocket::topics::Redis;
use tower_websocket::{Message, Position, Retain, Topics, WebSocketLayer};

use crate::cut::{live, number, serve};
use crate::faults::up;
use crate::server::Server;

const SECOND: Duration = Duration::from_secs(1);
const ROOMS: usize = 4;
/// Some seconds of a room, which is more than a client misses at a time.
const RETAINED: usize = 1000;
/// The largest message, which does not fit into a pipe.
const LARGEST: usize = 40_000;
static PADDING: LazyLock<String> = LazyLock::new(|| "x".repeat(LARGEST));

/// A room as a client sees it.
struct Seen {
    room: String,
    position: Position,
    /// The next message of each of its two publishers.
    next: [u64; 2],
    is_over: bool,
}

impl Seen {
    /// Takes `POSITION ROOM PUBLISHER NUMBER SIZE PADDING`, or `POSITION ROOM end TOTAL TOTAL`.
    fn take(&mut self, position: Position, rest: &str) {
        assert!(!self.is_over, "{} goes on behind its end", self.room);
        let next = Position::new(self.position.epoch(), self.position.offset() + 1);
        assert_eq!(position, next, "the next of {}", self.room);
        self.position = next;
        let mut words = rest.splitn(4, ' ');
        let mut word = || words.next().unwrap();
        let first = word();
        if first == "end" {
            let totals: [u64; 2] = [word(), word()].map(|total| total.parse().unwrap());
            assert_eq!(totals, self.next, "messages of {}", self.room);
            self.is_over = true;
            return;
        }
        let (publisher, n, size, padding) = (first, word(), word(), word());
        let publisher: usize = publisher.parse().unwrap();
        assert_eq!(
            n.parse(),
            Ok(self.next[publisher]),
            "the next of {}",
            self.room
        );
        let size: usize = size.parse().unwrap();
        assert!(padding == &PADDING[..size], "{n} of {} is torn", self.room);
        self.next[publisher] += 1;
    }
}

#[derive(Default)]
struct Counted {
    lives: AtomicUsize,
    received: AtomicU64,
}

/// One client, through all its connections, by turns to one node and the other, until it has seen the end
/// of its rooms.
async fn follow(
    layers: [WebSocketLayer<impl tower_websocket::Application>; 2],
    mut rooms: Vec<Seen>,
    mut random: StdRng,
    counted: Arc<Counted>,
) {
    let is_slow = random.random_ratio(1, 4);
    let mut node = random.random_range(0..2);
    loop {
        node = 1 - node;
        counted.lives.fetch_add(1, Ordering::Relaxed);
        let life = Duration::from_millis(random.random_range(50..1500));
        let seen = rooms.iter().map(|r| format!("{}={}&", r.room, r.position));
        let seen = seen.collect();
        let take = |random: &mut StdRng, position: &str, room: &str, rest: &str| {
            let seen = rooms.iter_mut().find(|seen| seen.room == room);
            let seen = seen.expect("a room that it follows");
            seen.take(position.parse().unwrap(), rest);
            counted.received.fetch_add(1, Ordering::Relaxed);
            if rooms.iter().all(|seen| seen.is_over) {
                return ControlFlow::Break(());
            }
            if is_slow && random.random_ratio(1, 100) {
                let pause = Duration::from_millis(random.random_range(50..500));
                return ControlFlow::Continue(pause);
            }
            ControlFlow::Continue(Duration::ZERO)
        };
        if live(&layers[node], seen, life, &mut random, take).await {
            return;
        }
        sleep(Duration::from_millis(random.random_range(0..300))).await;
    }
}

/// Publishes to a room until `end`, by itself or many at a time. How many there were.
async fn publish(
    topics: Topics,
    room: String,
    publisher: usize,
    mut random: StdRng,
    end: Instant,
) -> u64 {
    let topic = topics.topic(&room);
    let mut n = 0;
    while Instant::now() < end {
        let burst = match random.random_range(0..20) {
            0 => 20,
            _ => 1,
        };
        for _ in 0..burst {
            let size = match random.random_range(0..100) {
                0 => LARGEST,
                1..20 => random.random_range(0..2000),
                _ => random.random_range(0..130),
            };
            let text = format!("{publisher} {n} {size} {}", &PADDING[..size]);
            match random.random_range(0..3) {
                0 => assert!(topics.publish(&room, text).sent()),
                1 => assert!(topic.publish(text).sent()),
                _ => drop(topics.append(&room, text).await.expect("a position")),
            }
            n += 1;
        }
        sleep(Duration::from_millis(random.random_range(20..150))).await;
    }
    n
}

fn node(server: &Server) -> Topics {
    let redis = Redis::new(server.url()).unwrap().prefix("x:");
    Topics::builder()
        .retain("room", Retain::messages(RETAINED).bytes(64 << 20))
        .stamp(|room, position, message| {
            let text = message.as_text().unwrap();
            Message::from(format!("{position} {room} {text}"))
        })
        .backplane(redis.timeout(2 * SECOND))
        .build()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t15_with_connections_cut_all_the_time_clients_that_come_back_to_the_other_node_get_everything()
 {
    let Some(server) = Server::own() else { return };
    let clients = number("JITTER_CLIENTS", 50);
    let seconds = number("JITTER_SECONDS", 6) as u32;
    let seed = number("JITTER_SEED", 1) as u64;
    let mut random = StdRng::seed_from_u64(seed);

    let nodes = [node(&server), node(&server)];
    for node in &nodes {
        up(node).await;
    }
    let layers = nodes.each_ref().map(|topics| {
        WebSocketLayer::from_fn("/ws", serve)
            .topics(topics)
            // Few, so that who stalls for a while is behind.
            .max_queued_messages(8)
    });
    let names: Vec<_> = (0..ROOMS).map(|n| format!("room{n}")).collect();
    let mut starts = Vec::new();
    for name in &names {
        starts.push(nodes[0].append(name, "start").await.unwrap());
    }
    let counted = Arc::<Counted>::default();
    let followers: Vec<_> = (0..clients)
        .map(|i| {
            let rooms = [i % ROOMS, (i + 1 + i / ROOMS % (ROOMS - 1)) % ROOMS];
            let rooms = rooms.map(|n| Seen {
                room: names[n].clone(),
                position: starts[n],
                next: [0; 2],
                is_over: false,
            });
            let random = StdRng::seed_from_u64(random.random());
            tokio::spawn(follow(
                layers.clone(),
                rooms.into(),
                random,
                counted.clone(),
            ))
        })
        .collect();
    let end = Instant::now() + seconds * SECOND;
    let publishers: Vec<_> = (0..2 * ROOMS)
        .map(|n| {
            let random = StdRng::seed_from_u64(random.random());
            let (node, name) = (nodes[n % 2].clone(), names[n / 2].clone());
            tokio::spawn(publish(node, name, n % 2, random, end))
        })
        .collect();
    let server = Arc::new(server);
    while Instant::now() < end {
        sleep(SECOND * 3 / 2).await;
        let server = server.clone();
        let killed = tokio::task::spawn_blocking(move || {
            server.command(&["CLIENT", "KILL", "TYPE", "pubsub"])
        });
        killed.await.unwrap();
    }
    let mut totals = Vec::new();
    for publisher in publishers {
        totals.push(publisher.await.unwrap());
    }
    for (name, totals) in names.iter().zip(totals.chunks(2)) {
        let end = format!("end {} {}", totals[0], totals[1]);
        nodes[1].append(name, end).await.unwrap();
    }
    for follower in followers {
        let followed = timeout(60 * SECOND, follower).await;
        followed.expect("nothing is missing").unwrap();
    }
    let lives = counted.lives.load(Ordering::Relaxed);
    let received = counted.received.load(Ordering::Relaxed);
    println!(
        "seed {seed}: {clients} clients, {lives} connections; {received} messages of {} once, in order",
        totals.iter().sum::<u64>()
    );
    // Each has come back, most of them many times.
    assert!(lives > 2 * clients, "{lives} connections");
}
