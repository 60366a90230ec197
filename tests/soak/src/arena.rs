//! [`Arena`]: what all clients of a run share: where the server is, when to stop, and what is
//! counted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::client::{Ask, Client};
use crate::random::Random;

pub struct Arena {
    pub addr: SocketAddr,
    pub seed: u64,
    streams: AtomicU64,
    stop: watch::Sender<bool>,
    pub count: Count,
    latencies: Mutex<Vec<u32>>,
    tallies: Mutex<BTreeMap<&'static str, Tally>>,
    failures: Mutex<Vec<String>>,
}

/// What went well.
#[derive(Default)]
pub struct Count {
    pub connections: AtomicU64,
    pub visits: AtomicU64,
    pub echoes: AtomicU64,
    pub bytes: AtomicU64,
    pub pongs: AtomicU64,
    pub pings: AtomicU64,
    pub broadcasts: AtomicU64,
}

/// What became of one kind of fault.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    pub ok: u64,
    pub failed: u64,
    /// Not at its end when the run was.
    pub cut: u64,
}

impl Arena {
    pub fn new(addr: SocketAddr, seed: u64) -> Self {
        Self {
            addr,
            seed,
            streams: AtomicU64::new(0),
            stop: watch::Sender::new(false),
            count: Count::default(),
            latencies: Mutex::default(),
            tallies: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    pub fn random(&self) -> Random {
        Random::new(self.seed, self.streams.fetch_add(1, Ordering::Relaxed))
    }

    // ---- connections

    pub async fn connect(&self, ask: Ask) -> Result<Client, String> {
        add(&self.count.connections, 1);
        Client::connect(self.addr, ask, self.random()).await
    }

    pub async fn join(&self, ask: Ask) -> Result<Client, String> {
        add(&self.count.connections, 1);
        Client::join(self.addr, ask, self.random()).await
    }

    // ---- the end

    /// Tells everybody to leave, or that it goes on.
    pub fn stop(&self, stop: bool) {
        self.stop.send_replace(stop);
    }

    pub fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    pub async fn stopped(&self) {
        // Fails only without an arena.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// Sleeps, but not beyond the end.
    pub async fn rest(&self, time: Duration) {
        let _ = tokio::time::timeout(time, self.stopped()).await;
    }

    // ---- counters

    pub fn latency(&self, time: Duration) {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        lock(&self.latencies).push(micros);
    }

    /// All since the last call, in microseconds, in order.
    pub fn take_latencies(&self) -> Vec<u32> {
        let mut all = std::mem::take(&mut *lock(&self.latencies));
        all.sort_unstable();
        all
    }

    /// `None`: cut off by the end of the run.
    pub fn tally(&self, fault: &'static str, result: Option<Result<(), String>>) {
        let failure = {
            let mut tallies = lock(&self.tallies);
            let tally = tallies.entry(fault).or_default();
            match result {
                None => tally.cut += 1,
                Some(Ok(())) => tally.ok += 1,
                Some(Err(_)) => tally.failed += 1,
            }
            result.and_then(Result::err)
        };
        if let Some(failure) = failure {
            self.fail(format!("{fault}: {failure}"));
        }
    }

    pub fn tallies(&self) -> BTreeMap<&'static str, Tally> {
        lock(&self.tallies).clone()
    }

    pub fn fail(&self, failure: String) {
        let mut failures = lock(&self.failures);
        if failures.len() < 20 {
            eprintln!("FAILURE: {failure}");
        }
        failures.push(failure);
    }

    /// A failure, if it is one.
    pub fn check(&self, good: bool, failure: impl FnOnce() -> String) {
        if !good {
            self.fail(failure());
        }
    }

    pub fn failures(&self) -> usize {
        lock(&self.failures).len()
    }
}

pub fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
