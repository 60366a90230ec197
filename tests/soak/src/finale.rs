//! The end of every run: nothing is left, every permit is free, and SIGTERM drains a full house.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::arena::{Arena, add};
use crate::client::{Ask, Got, PATIENCE, request};
use crate::process::{Process, Sample};
use crate::report::{line, mib};

/// Permits of the server for so many clients: reconnect storms come on top.
pub fn room_for(clients: u64) -> usize {
    clients as usize + clients as usize / 10 + 500
}

/// Writes its part of the report, and what fails into the arena.
pub async fn run(arena: &Arc<Arena>, server: Process, start: &Sample, permits: usize) {
    let after = server.settle(start, Duration::from_secs(60)).await;
    let after = after.unwrap_or_else(|failure| {
        arena.fail(failure);
        Sample::default()
    });
    let stats = after.stats;
    line("on_open / on_close / on_error", {
        format!(
            "{} / {} / {}",
            stats.on_open, stats.on_close, stats.on_error
        )
    });
    line(
        "broadcasts a member had no room for",
        format!(" {}", stats.skipped),
    );
    arena.check(stats.on_open == stats.on_close, || {
        format!("on_open {} and on_close {}", stats.on_open, stats.on_close)
    });
    for (name, start, end) in [
        ("tasks at start and end", start.stats.tasks, stats.tasks),
        (
            "descriptors at start and end",
            start.descriptors,
            after.descriptors,
        ),
        ("threads at start and end", start.threads, after.threads),
    ] {
        line(name, format!("{start} / {end}"));
    }
    let [first, last] = [start.rss_kib, after.rss_kib].map(|kib| mib(kib as f64));
    line("memory at start and end", format!("{first} / {last}"));

    let (open, told) = watch::channel(false);
    let mut house = JoinSet::new();
    for _ in 0..permits {
        let (arena, told) = (arena.clone(), told.clone());
        house.spawn(async move { stay(&arena, told).await });
    }
    let full = fill(arena, &server, permits).await;
    arena.check(full.is_ok(), || {
        format!("not every permit is free: {full:?}")
    });
    let left = async {
        open.send_replace(true);
        while let Some(one) = house.join_next().await {
            let one = one.unwrap_or_else(|e| Err(e.to_string()));
            if let Err(failure) = one {
                arena.fail(format!("a client in the drain: {failure}"));
            }
        }
    };
    match server.terminate(left).await {
        Err(failure) => arena.fail(failure),
        Ok(last) => {
            line("closed and forced by the drain", {
                format!("{} / {} of {permits}", last.closed, last.forced)
            });
            line("on_open / on_close at its end", {
                format!("{} / {}", last.on_open, last.on_close)
            });
            let good = last.closed == permits as u64
                && (last.forced, last.connections, last.members) == (0, 0, 0)
                && last.on_open == last.on_close
                && last.on_open == stats.on_open + permits as u64;
            arena.check(good, || format!("the drain left {last:?}"));
        }
    }
}

/// Every permit is taken, and the next client is refused.
async fn fill(arena: &Arena, server: &Process, permits: usize) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let connections = server.sample().await?.stats.connections;
        if connections == permits as u64 {
            break;
        }
        if Instant::now() > deadline {
            return Err(format!("{connections} of {permits} connections"));
        }
        sleep(Duration::from_millis(100)).await;
    }
    let mut late = arena.connect(Ask::default()).await?;
    late.send(request(Ask::default()).as_bytes());
    let head = late.head().await?;
    if head.starts_with("HTTP/1.1 503 ") {
        Ok(())
    } else {
        Err(format!("one more than {permits} got {head:?}"))
    }
}

/// There when the server goes down: closed with 1001.
async fn stay(arena: &Arena, mut told: watch::Receiver<bool>) -> Result<(), String> {
    let mut client = arena.join(Ask::default()).await?;
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        match client.next(deadline).await? {
            Some(Got::Ping(payload)) => client.frame(0x8A, &payload),
            Some(Got::Close(Some(1001))) => break,
            Some(Got::Close(code)) => return Err(format!("Close {code:?}")),
            Some(Got::End { reset }) => return Err(format!("ended, reset: {reset}")),
            Some(_) => {}
            None => return Err("no Close".into()),
        }
    }
    let due = timeout(PATIENCE, async { told.wait_for(|due| *due).await.is_ok() }).await;
    if due != Ok(true) {
        return Err("closed before its time".into());
    }
    client.close(1001);
    match client.next(Instant::now() + PATIENCE).await? {
        Some(Got::End { reset: false }) => {
            add(&arena.count.visits, 1);
            Ok(())
        }
        Some(Got::End { reset: true }) => Err("reset after the Close frames".into()),
        _ => Err("no end after the Close frames".into()),
    }
}
