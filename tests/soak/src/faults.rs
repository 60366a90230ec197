//! Row X7: every fault in turn, thousands of times; then all is as it was at the start.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::arena::Arena;
use crate::fault::FAULTS;
use crate::finale;
use crate::healthy::{Habit, live};
use crate::process::Process;
use crate::report::{self, grew, line, mib};

/// After each all is quiet, and memory is looked at.
const LAPS: u64 = 4;
const AT_A_TIME: usize = 800;
/// Healthy clients beside them, who must not notice.
const CANARIES: u64 = 50;

pub async fn run(faults: u64, seed: u64) -> Result<bool, String> {
    let permits = finale::room_for(AT_A_TIME as u64 * 2);
    let server = Process::start(permits).await?;
    let arena = Arc::new(Arena::new(server.addr, seed));
    let start = server.start_sample().await?;
    let began = Instant::now();

    let mut memory = Vec::new();
    for n in 0..LAPS {
        let from = faults * n / LAPS;
        lap(&arena, from..faults * (n + 1) / LAPS).await;
        let quiet = server.settle(&start, Duration::from_secs(60)).await;
        match quiet {
            Ok(quiet) => memory.push(quiet.rss_kib as f64),
            Err(failure) => arena.fail(failure),
        }
        if arena.failures() > 100 {
            return Err("more than a hundred failures: given up".into());
        }
    }

    println!(
        "{faults} faults in {LAPS} laps, every fault in turn, beside {CANARIES} healthy clients"
    );
    report::clients(&arena, began.elapsed().as_secs_f64());
    report::latencies("echo", &arena.take_latencies());
    report::tallies(&arena);
    let shown: Vec<_> = memory.iter().map(|kib| mib(*kib)).collect();
    line("memory after each lap", shown.join(", "));
    if let [_, second, .., last] = memory[..] {
        arena.check(!grew(second, last), || {
            format!("memory grew from {} to {}", mib(second), mib(last))
        });
    }
    finale::run(&arena, server, &start, permits).await;
    Ok(report::verdict(&arena))
}

async fn lap(arena: &Arc<Arena>, faults: std::ops::Range<u64>) {
    arena.stop(false);
    let mut canaries = JoinSet::new();
    for id in 0..CANARIES {
        let arena = arena.clone();
        canaries.spawn(async move { live(&arena, id, &Habit::default()).await });
    }
    let room = Arc::new(Semaphore::new(AT_A_TIME));
    let mut all = JoinSet::new();
    for n in faults {
        let fault = &FAULTS[n as usize % FAULTS.len()];
        let Ok(permit) = room.clone().acquire_owned().await else {
            break;
        };
        // A storm is a hundredth of them, not a cloudburst of all at once.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let arena = arena.clone();
        all.spawn(async move {
            let result = fault.commit(&arena).await;
            arena.tally(fault.name, Some(result));
            drop(permit);
        });
    }
    while all.join_next().await.is_some() {}
    arena.stop(true);
    while canaries.join_next().await.is_some() {}
}
