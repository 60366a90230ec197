//! The report: plain text, one line a fact.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::arena::Arena;

pub fn line(name: &str, value: impl std::fmt::Display) {
    println!("{name:<34}{value}");
}

/// What the clients saw.
pub fn clients(arena: &Arena, seconds: f64) {
    let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
    let count = &arena.count;
    line("duration", format!("{seconds:.0} s"));
    line("seed", arena.seed);
    line("connections opened", get(&count.connections));
    line("visits that ended properly", get(&count.visits));
    let (echoes, mib) = (get(&count.echoes), get(&count.bytes) >> 20);
    line(
        "messages echoed and verified",
        format!("{echoes}, {mib} MiB"),
    );
    line("pings of clients answered", get(&count.pongs));
    line("pings of the server answered", get(&count.pings));
    line("broadcasts heard, in order", get(&count.broadcasts));
}

pub fn latencies(name: &str, sorted: &[u32]) {
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|q| percentile(sorted, q));
    line(
        name,
        format!("p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms"),
    );
}

/// In milliseconds.
pub fn percentile(sorted: &[u32], quantile: f64) -> f64 {
    let at = ((sorted.len() as f64 * quantile) as usize).min(sorted.len().saturating_sub(1));
    f64::from(sorted.get(at).copied().unwrap_or_default()) / 1000.0
}

pub fn tallies(arena: &Arena) {
    println!("{:<34}{:>7}{:>8}{:>9}", "fault", "ok", "failed", "cut off");
    for (name, tally) in arena.tallies() {
        println!(
            "  {name:<32}{:>7}{:>8}{:>9}",
            tally.ok, tally.failed, tally.cut
        );
    }
}

/// The verdict, and whether it is good.
pub fn verdict(arena: &Arena) -> bool {
    let failures = arena.failures();
    if failures == 0 {
        println!("PASSED");
    } else {
        println!("FAILED: {failures} failures, the first of them above");
    }
    failures == 0
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Later memory must not exceed earlier memory by more: what an allocator keeps differs from
/// moment to moment, what leaks grows.
pub fn grew(earlier_kib: f64, later_kib: f64) -> bool {
    later_kib > earlier_kib * 1.15 + 16.0 * 1024.0
}

pub fn mib(kib: f64) -> String {
    format!("{:.1} MiB", kib / 1024.0)
}
