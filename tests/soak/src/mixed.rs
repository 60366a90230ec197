//! The soak: many healthy clients, a few faulty ones among them, for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use crate::arena::Arena;
use crate::fault::FAULTS;
use crate::healthy::{Habit, live};
use crate::process::{Process, Sample};
use crate::report::{self, line, median, mib};
use crate::{finale, report::grew};

pub async fn run(time: Duration, clients: u64, seed: u64) -> Result<bool, String> {
    let permits = finale::room_for(clients);
    let server = Process::start(permits).await?;
    let arena = Arc::new(Arena::new(server.addr, seed));
    let start = server.start_sample().await?;
    let began = Instant::now();

    let faulty = (clients / 20).max(1);
    let next = Arc::new(AtomicUsize::new(0));
    let mut all = JoinSet::new();
    for id in 0..clients - faulty {
        let arena = arena.clone();
        all.spawn(async move {
            // Not all at once: storms are a fault of their own.
            let late = arena.random().between(0, time.as_millis() as u64 / 8);
            arena.rest(Duration::from_millis(late)).await;
            live(&arena, id, &Habit::default()).await;
        });
    }
    for _ in 0..faulty {
        let (arena, next) = (arena.clone(), next.clone());
        all.spawn(async move { misbehave(&arena, &next).await });
    }

    let samples = watch(&server, &arena, time).await?;
    arena.stop(true);
    let left = timeout(Duration::from_secs(60), async {
        while all.join_next().await.is_some() {}
    });
    let left = left.await;
    arena.check(left.is_ok(), || {
        format!("{} clients do not come to an end", all.len())
    });
    all.shutdown().await;

    println!("soak of {clients} clients, {faulty} of them faulty at any time");
    report::clients(&arena, began.elapsed().as_secs_f64());
    report::latencies("echo", &arena.take_latencies());
    report::tallies(&arena);
    memory(&arena, &samples);
    descriptors(&arena, &samples, &start, clients);
    finale::run(&arena, server, &start, permits).await;
    Ok(report::verdict(&arena))
}

/// One fault after the other, each in its turn.
async fn misbehave(arena: &Arc<Arena>, next: &AtomicUsize) {
    let mut random = arena.random();
    while !arena.is_stopped() {
        let fault = &FAULTS[next.fetch_add(1, Ordering::Relaxed) % FAULTS.len()];
        let result = tokio::select! {
            result = fault.commit(arena) => Some(result),
            () = arena.stopped() => None,
        };
        arena.tally(fault.name, result);
        arena
            .rest(Duration::from_millis(random.between(50, 500)))
            .await;
    }
}

/// A look a second.
async fn watch(server: &Process, arena: &Arena, time: Duration) -> Result<Vec<Sample>, String> {
    let end = Instant::now() + time;
    let mut second = interval(Duration::from_secs(1));
    let mut samples = Vec::new();
    while Instant::now() < end {
        second.tick().await;
        match server.sample().await {
            Ok(sample) => samples.push(sample),
            Err(failure) => arena.fail(failure),
        }
        if arena.failures() > 100 {
            return Err("more than a hundred failures: given up".into());
        }
    }
    Ok(samples)
}

/// The first quarter warms up; from the second to the last nothing grows.
fn memory(arena: &Arena, samples: &[Sample]) {
    let quarter = samples.len() / 4;
    let rss = |part: &[Sample]| median(part.iter().map(|s| s.rss_kib as f64).collect());
    let second = rss(&samples[quarter..quarter * 2]);
    let last = rss(&samples[samples.len() - quarter..]);
    line("memory, second and last quarter", {
        format!("{} / {}", mib(second), mib(last))
    });
    arena.check(!grew(second, last), || {
        format!("memory grew from {} to {}", mib(second), mib(last))
    });
}

/// Beside the connections there are some that shake hands or have just ended.
fn descriptors(arena: &Arena, samples: &[Sample], start: &Sample, clients: u64) {
    let beside =
        |s: &Sample| s.descriptors as f64 - start.descriptors as f64 - s.stats.connections as f64;
    let tail = &samples[samples.len() * 3 / 4..];
    let extra = median(tail.iter().map(beside).collect());
    let most = samples.iter().map(|s| s.descriptors).max().unwrap_or(0);
    let connections = samples
        .iter()
        .map(|s| s.stats.connections)
        .max()
        .unwrap_or(0);
    line(
        "connections and descriptors, most",
        format!("{connections} / {most}"),
    );
    line(
        "descriptors beside connections",
        format!("{extra} at a time"),
    );
    let bound = 64.0 + clients as f64 / 20.0;
    arena.check(extra <= bound, || {
        format!("{extra} descriptors beside those of connections")
    });
}
