//! Topics of many connections in one process: bytes a subscription, and the time of `publish`. The clients
//! are those of `million`.
//!
//! ```text
//! cargo run --release --bin topics -- [--connections 1000000] [--crowd 25000]
//! ```
//!
//! Bytes are counted by the allocator, as glibc's malloc rounds them: 8 more for each block, then to a multiple
//! of 16. Beside them are those of the process in memory, with what lies unused between blocks. Times are those
//! of the one thread's CPU, so that other work on the machine counts less.
//!
//! All connections subscribe four topics, one after the other, then each ten of them one of their own. Then
//! as many as the crowd subscribe another, to which is published.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tower_websocket::{Message, Topics, WebSocketLayer};
use tower_websocket_benches::quiet::{DELIVERED, Silent, open, reserve, resident};

struct Counting;

/// Bytes of all blocks.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

/// What a block takes: at least 32 bytes.
fn block(size: usize) -> usize {
    (size + 8).next_multiple_of(16).max(32)
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(block(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(block(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED.fetch_add(block(size), Ordering::Relaxed);
        ALLOCATED.fetch_sub(block(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocated() -> usize {
    ALLOCATED.load(Ordering::Relaxed)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str, default: usize| {
        let at = arguments.iter().position(|argument| argument == name);
        let value = at.and_then(|at| arguments.get(at + 1));
        value.map_or(default, |n| n.parse().unwrap())
    };
    let connections = value("--connections", 1_000_000);
    let crowd = value("--crowd", 25_000).min(connections);

    let topics = Topics::new();
    let layer = WebSocketLayer::new("/chat", Silent)
        .keep_request(false)
        .topics(&topics);
    reserve(connections);
    let senders = open(&layer, connections).await;
    println!("{connections} connections");

    let steps: [(&str, &dyn Fn(usize) -> String); 5] = [
        ("the first of a connection", &|_| "all 1".to_owned()),
        ("the second", &|_| "all 2".to_owned()),
        ("the third", &|_| "all 3".to_owned()),
        ("the fourth", &|_| "all 4".to_owned()),
        ("the fifth, ten to a topic", &|i| format!("room:{}", i / 10)),
    ];
    for (what, name) in steps {
        let (before, process, begin) = (allocated(), resident(), cpu());
        for (i, sender) in senders.iter().enumerate() {
            sender.subscribe(&name(i)).unwrap();
        }
        let each = (cpu() - begin).as_nanos() as usize / connections;
        let bytes = (allocated() - before) as f64 / connections as f64;
        let process = (resident() - process) as f64 / connections as f64;
        println!(
            "a subscription, {what}: {bytes:.1} bytes, of the process {process:.1}, {each} ns"
        );
    }

    let message = Message::from("x".repeat(512));
    nobody("nothing but a clone of the message", || {
        black_box(message.clone()).len() - 512
    });
    nobody("by name", || {
        topics.publish("nobody", message.clone()).delivered()
    });
    let handle = topics.topic("nobody");
    nobody("by handle", || handle.publish(message.clone()).delivered());

    for sender in &senders[..crowd] {
        sender.subscribe("crowd").unwrap();
    }
    let handle = topics.topic("crowd");
    for (publishes, rounds) in [(1, 50), (16, 10)] {
        let (mut times, mut whole, mut most) = (Vec::new(), Vec::new(), 0);
        for _ in 0..rounds {
            DELIVERED.store(0, Ordering::Relaxed);
            let begin = cpu();
            for _ in 0..publishes {
                let begin = cpu();
                assert_eq!(handle.publish(message.clone()).delivered(), crowd);
                times.push(cpu() - begin);
            }
            while DELIVERED.load(Ordering::Relaxed) < crowd {
                tokio::task::yield_now().await;
            }
            whole.push(cpu() - begin);
            // Whatever is left.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            most = most.max(DELIVERED.load(Ordering::Relaxed));
        }
        let of = format!("{publishes} to {crowd}");
        print("publish returns", &of, &mut times);
        print("written to all", &of, &mut whole);
        println!(
            "writes, {of}: at most {:.3} a receiver",
            most as f64 / crowd as f64
        );
    }
}

/// The CPU time of this thread.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A publish that reaches nobody.
fn nobody(how: &str, publish: impl Fn() -> usize) {
    const TIMES: u32 = 2_000_000;
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let begin = cpu();
        for _ in 0..TIMES {
            assert_eq!(black_box(publish()), 0);
        }
        best = best.min(cpu() - begin);
    }
    let nanos = best.as_nanos() as f64 / f64::from(TIMES);
    println!("a publish that reaches nobody, {how}: {nanos:.1} ns");
}

fn print(what: &str, of: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let millis = |at: usize| times[at].as_secs_f64() * 1e3;
    println!(
        "{what}, {of}: {:.2} ms, at best {:.2}, at worst {:.2}",
        millis(times.len() / 2),
        millis(0),
        millis(times.len() - 1),
    );
}
