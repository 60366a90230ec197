//! The jitter test: connections are cut at random all the time, publishers never stop, and every client
//! ends with every message, once, in order. One message less is a failure.
//!
//! 200 clients and a minute of paused time, and fewer for seconds on several threads. With more, by hand (last run on 27 November 2026: 10,000 clients,
//! 183,391 connections, all of 10,110,000 messages):
//!
//! ```sh
//! JITTER_CLIENTS=10000 JITTER_SEED=2 \
//!     cargo test --release -p tower-websocket-tests --test stack jitter -- --nocapture
//! ```

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep, timeout};
use tower_websocket::{Message, Retain, Topics, WebSocketLayer};

use crate::cut::{live, number, serve};

const SECOND: Duration = Duration::from_secs(1);
const ROOMS: usize = 8;
/// Less than a half of what is published to a room, so that the oldest go while clients come back; and
/// many times what one of them misses at a time.
const RETAINED: usize = 200;
/// The largest message, which fits into no pipe.
const LARGEST: usize = 70_000;
static PADDING: LazyLock<String> = LazyLock::new(|| "x".repeat(LARGEST));

/// Of a room's name.
fn index(room: &str) -> usize {
    room["room".len()..].parse().unwrap()
}

/// A room as a client sees it.
struct Seen {
    room: String,
    position: String,
    next: u64,
    is_over: bool,
}

impl Seen {
    /// Takes `POSITION ROOM NUMBER SIZE PADDING`.
    fn take(&mut self, position: &str, rest: &str) {
        let mut words = rest.splitn(3, ' ');
        let mut word = || words.next().unwrap();
        let (n, size, padding) = (word(), word(), word());
        assert!(!self.is_over, "{} goes on behind its end", self.room);
        assert_eq!(n.parse(), Ok(self.next), "the next of {}", self.room);
        let size: usize = size.parse().unwrap();
        assert!(padding == &PADDING[..size], "{n} of {} is torn", self.room);
        self.next += 1;
        position.clone_into(&mut self.position);
    }
}

#[derive(Default)]
struct Counted {
    lives: AtomicUsize,
    received: AtomicUsize,
    stalls: AtomicUsize,
}

/// One client, through all its connections, until it has seen the end of its rooms.
async fn follow(
    layer: WebSocketLayer<impl tower_websocket::Application>,
    mut rooms: Vec<Seen>,
    mut random: StdRng,
    counted: Arc<Counted>,
    haste: u32,
) -> Vec<Seen> {
    let is_slow = random.random_ratio(1, 4);
    loop {
        counted.lives.fetch_add(1, Ordering::Relaxed);
        let life = Duration::from_millis(random.random_range(200..5000)) / haste;
        let seen = rooms.iter().map(|r| format!("{}={}&", r.room, r.position));
        let seen = seen.collect();
        let take = |random: &mut StdRng, position: &str, room: &str, rest: &str| {
            let seen = rooms.iter_mut().find(|seen| seen.room == room);
            let seen = seen.expect("a room that it follows");
            match rest.strip_prefix("end ") {
                Some(total) => {
                    assert_eq!(total.parse(), Ok(seen.next), "messages of {room}");
                    seen.is_over = true;
                    position.clone_into(&mut seen.position);
                }
                None => {
                    seen.take(position, rest);
                    counted.received.fetch_add(1, Ordering::Relaxed);
                }
            }
            if rooms.iter().all(|seen| seen.is_over) {
                return ControlFlow::Break(());
            }
            if is_slow && random.random_ratio(1, 100) {
                counted.stalls.fetch_add(1, Ordering::Relaxed);
                let pause = Duration::from_millis(random.random_range(200..2000)) / haste;
                return ControlFlow::Continue(pause);
            }
            ControlFlow::Continue(Duration::ZERO)
        };
        if live(&layer, seen, life, &mut random, take).await {
            return rooms;
        }
        sleep(Duration::from_millis(random.random_range(0..2000)) / haste).await;
    }
}

/// Publishes to a room until `end`, by itself or many at a time. How many subscribers were behind.
async fn publish(
    topics: Topics,
    room: String,
    mut random: StdRng,
    end: Instant,
    haste: u32,
) -> usize {
    let mut waiting = 0;
    let topic = topics.topic(&room);
    while Instant::now() < end {
        let burst = match random.random_range(0..20) {
            0 => 20,
            _ => 1,
        };
        for _ in 0..burst {
            let size = match random.random_range(0..100) {
                0 => LARGEST,
                1..3 => 8_000,
                3..20 => random.random_range(0..2000),
                _ => random.random_range(0..130),
            };
            let text = format!("{size} {}", &PADDING[..size]);
            waiting += match random.random_range(0..3) {
                0 => topics.publish(&room, text).waiting(),
                1 => topic.publish(text).waiting(),
                _ => topics.append(&room, text).await.map(|_| 0).unwrap(),
            };
        }
        sleep(Duration::from_millis(random.random_range(50..800)) / haste).await;
    }
    waiting
}

/// What a trial has shown.
struct Shown {
    lives: usize,
    /// How often subscribers were behind.
    waiting: usize,
    counts: Vec<u64>,
}

#[tokio::test(start_paused = true)]
async fn t2_t6_with_connections_cut_all_the_time_every_client_gets_every_message_once_in_order() {
    let clients = number("JITTER_CLIENTS", 200);
    let seconds = number("JITTER_SECONDS", 60) as u32;
    let seed = number("JITTER_SEED", 1) as u64;
    let shown = jitter(clients, seconds * SECOND, seed, 1).await;
    // It was not too easy: many cuts, many readers behind, and logs that have lost their beginning.
    let lives = shown.lives;
    assert!(
        lives > clients * seconds as usize / 10,
        "{lives} connections"
    );
    let waiting = shown.waiting;
    assert!(waiting > clients / 2, "{waiting} times behind");
    let forgotten = |count: &u64| *count > 2 * RETAINED as u64;
    let counts = shown.counts;
    assert!(seconds < 60 || counts.iter().all(forgotten), "{counts:?}");
}

/// Time is not paused on several threads, so everything happens ten times as fast.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn t2_t6_the_same_on_several_threads() {
    let clients = number("JITTER_CLIENTS", 200) / 5;
    let shown = jitter(clients, 3 * SECOND, number("JITTER_SEED", 1) as u64, 10).await;
    assert!(shown.lives > clients, "{} connections", shown.lives);
}

/// Connections are cut until `time` is over; `haste`: so much faster than it is written.
async fn jitter(clients: usize, time: Duration, seed: u64, haste: u32) -> Shown {
    let mut random = StdRng::seed_from_u64(seed);

    // How many messages each room has. They are numbered where they are ordered.
    let counts: Arc<[AtomicU64; ROOMS]> = Arc::default();
    let numbers = counts.clone();
    let topics = Topics::builder()
        .retain("room", Retain::messages(RETAINED).bytes(64 << 20))
        .stamp(move |room, position, message| {
            let text = message.as_text().unwrap();
            if text == "start" || text == "end" {
                let total = numbers[index(room)].load(Ordering::Relaxed);
                return format!("{position} {room} {text} {total}").into();
            }
            let n = numbers[index(room)].fetch_add(1, Ordering::Relaxed);
            Message::from(format!("{position} {room} {n} {text}"))
        })
        .build();
    let layer = WebSocketLayer::from_fn("/ws", serve)
        .topics(&topics)
        // Few, so that who stalls for a while is behind.
        .max_queued_messages(8);

    let mut starts = Vec::new();
    for n in 0..ROOMS {
        let start = topics.append(&format!("room{n}"), "start").await.unwrap();
        starts.push(start.to_string());
    }
    let counted = Arc::<Counted>::default();
    let mut followers = Vec::new();
    for i in 0..clients {
        let rooms = [i % ROOMS, (i + 1 + i / ROOMS % (ROOMS - 1)) % ROOMS];
        let rooms = rooms.map(|n| Seen {
            room: format!("room{n}"),
            position: starts[n].clone(),
            next: 0,
            is_over: false,
        });
        let random = StdRng::seed_from_u64(random.random());
        let follow = follow(layer.clone(), rooms.into(), random, counted.clone(), haste);
        followers.push(tokio::spawn(follow));
    }
    let end = Instant::now() + time;
    let publishers: Vec<_> = (0..2 * ROOMS)
        .map(|n| {
            let random = StdRng::seed_from_u64(random.random());
            let room = format!("room{}", n % ROOMS);
            tokio::spawn(publish(topics.clone(), room, random, end, haste))
        })
        .collect();
    let mut waiting = 0;
    for publisher in publishers {
        waiting += publisher.await.unwrap();
    }
    for n in 0..ROOMS {
        topics.publish(&format!("room{n}"), "end");
    }

    let mut due = 0;
    for follower in followers {
        let rooms = timeout(120 * SECOND, follower).await;
        for seen in rooms.expect("nothing is missing").unwrap() {
            let total = counts[index(&seen.room)].load(Ordering::Relaxed);
            assert_eq!(seen.next, total, "messages of {}", seen.room);
            due += total as usize;
        }
    }
    let count = |counted: &AtomicUsize| counted.load(Ordering::Relaxed);
    let (received, lives, stalls) = (
        count(&counted.received),
        count(&counted.lives),
        count(&counted.stalls),
    );
    println!(
        "seed {seed}: {clients} clients, {lives} connections, {stalls} stalls, {waiting} times behind; \
         {received} of {due} messages, once, in order"
    );
    assert_eq!(received, due);
    let counts = counts.iter().map(|count| count.load(Ordering::Relaxed));
    Shown {
        lives,
        waiting,
        counts: counts.collect(),
    }
}
