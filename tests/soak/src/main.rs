//! Chaos against a server of its own; started by `run.sh`, described in `README.md`.

mod arena;
mod client;
#[path = "../../../src/test/codec.rs"]
#[allow(dead_code, reason = "each program that includes it uses a part")]
mod codec;
mod deflate;
mod fault;
mod faults;
mod finale;
mod healthy;
mod hostile;
mod mixed;
mod process;
mod random;
mod report;
mod server;

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const USAGE: &str = "soak mixed [--seconds 120] [--clients 2000]
soak faults [--faults 10000]
soak hostile [--seconds 60] [--hostiles 1000]
each with [--seed N]";

struct Options {
    seconds: u64,
    clients: u64,
    faults: u64,
    hostiles: u64,
    seed: u64,
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let mode = args.next().unwrap_or_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::FAILURE;
        }
    };
    if mode == "server" {
        let connections = args.next().and_then(|n| n.parse().ok());
        return match runtime.block_on(server::serve(connections.unwrap_or(usize::MAX))) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("server: {e}");
                ExitCode::FAILURE
            }
        };
    }
    let Some(options) = Options::parse(args, if mode == "hostile" { 60 } else { 120 }) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let seconds = Duration::from_secs(options.seconds.max(8));
    let seed = options.seed;
    let passed = runtime.block_on(async {
        match &*mode {
            "mixed" => mixed::run(seconds, options.clients.max(20), seed).await,
            "faults" => faults::run(options.faults, seed).await,
            "hostile" => hostile::run(seconds, options.hostiles, seed).await,
            _ => Err(USAGE.to_owned()),
        }
    });
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>, seconds: u64) -> Option<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        let mut options = Self {
            seconds,
            clients: 2000,
            faults: 10_000,
            hostiles: 1000,
            seed: now.as_secs(),
        };
        while let Some(arg) = args.next() {
            let value = args.next()?.parse().ok()?;
            match &*arg {
                "--seconds" => options.seconds = value,
                "--clients" => options.clients = value,
                "--faults" => options.faults = value,
                "--hostiles" => options.hostiles = value,
                "--seed" => options.seed = value,
                _ => return None,
            }
        }
        Some(options)
    }
}
