//! Measures peers that read slowly but steadily, and peers that do not read at all, against a server
//! with default options: `slow [--addr HOST:PORT] [--proxy HOST:PORT]`. See `run.sh`.

mod client;
#[path = "../../../src/test/codec.rs"]
#[allow(dead_code, reason = "each program that includes it uses a part")]
mod codec;
mod relay;
mod server;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use crate::client::Seen;
use crate::server::{Log, Told};

pub(crate) type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> =
    std::result::Result<T, E>;

/// The server must give up a peer that reads nothing this long after `on_open` at the latest:
/// 30 s, and 1 s for each 16 kB that the kernel took (SECURITY.md), with 5 s for a busy machine.
fn given_up(taken: usize) -> Duration {
    Duration::from_secs(30 + 5) + Duration::from_secs_f64(taken as f64 / 16_000.0)
}

/// What SECURITY.md promises whatever the kernel took.
const GIVEN_UP: Duration = Duration::from_secs(600);

/// Where the slow link is.
#[derive(Clone, Copy, PartialEq)]
enum Via {
    /// The client itself reads slowly.
    Direct,
    /// A relay with small buffers passes data on at the rate, and the client reads at once.
    Relay,
    /// The client reads slowly, from a proxy.
    Proxy,
}

#[derive(Clone, Copy)]
struct Case {
    /// The size in bytes of the one message that the server sends.
    size: usize,
    /// Bytes per second. With 0, the client reads the handshake and nothing else.
    rate: usize,
    via: Via,
    /// The server closes behind the message. Otherwise the client closes when it has all of it.
    server_closes: bool,
}

const fn case(size: usize, rate: usize, via: Via) -> Case {
    Case {
        size,
        rate,
        via,
        server_closes: false,
    }
}

/// From 16 kB/s on, the server must not cut a peer off.
const CASES: [Case; 12] = [
    case(1_500_000, 25_000, Via::Relay),
    case(3_000_000, 25_000, Via::Relay),
    case(8_000_000, 50_000, Via::Relay),
    case(2_500_000, 16_000, Via::Relay),
    case(1_000_000, 20_000, Via::Direct),
    case(8_000_000, 50_000, Via::Direct),
    case(1_500_000, 25_000, Via::Proxy),
    Case {
        server_closes: true,
        ..case(1_500_000, 25_000, Via::Relay)
    },
    Case {
        server_closes: true,
        ..case(8_000_000, 50_000, Via::Direct)
    },
    // The kernel has room for all of the first, and for a part of the others.
    case(1_000_000, 0, Via::Direct),
    case(16_000_000, 0, Via::Direct),
    case(16_000_000, 0, Via::Relay),
];

fn main() -> Result<ExitCode> {
    let (mut addr, mut proxy) = (SocketAddr::from(([127, 0, 0, 1], 0)), None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or("an argument without a value")?.parse()?;
        match &*arg {
            "--addr" => addr = value,
            "--proxy" => proxy = Some(value),
            _ => return Err(format!("unknown argument {arg}").into()),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(run(addr, proxy))
}

async fn run(addr: SocketAddr, proxy: Option<SocketAddr>) -> Result<ExitCode> {
    let log = Log::default();
    let addr = server::start(addr, log.clone()).await?;
    let mut running = Vec::new();
    for (id, case) in CASES.into_iter().enumerate() {
        if case.via == Via::Proxy && proxy.is_none() {
            println!("no proxy: {case} is left out");
            continue;
        }
        let to = match case.via {
            Via::Direct => addr,
            Via::Relay => relay::start(addr, case.rate).await?,
            Via::Proxy => proxy.unwrap_or(addr),
        };
        let log = log.clone();
        let seen = tokio::spawn(async move {
            let seen = client::read(to, id, case, &log).await;
            // Its own end is seen by the server a little later.
            log.closed(id, Duration::from_secs(10)).await;
            seen
        });
        running.push((id, case, seen));
    }
    println!("| peer | got | took | the client saw | the server told | |");
    println!("|---|---|---|---|---|---|");
    let mut failed = 0;
    for (id, case, seen) in running {
        let seen = seen.await?;
        let told = log.of(id);
        let right = case.is_right(&seen, &told);
        failed += u32::from(!right);
        println!(
            "| {case} | {} | {:.0} s | {} | {told} | {} |",
            seen.got,
            seen.took.as_secs_f64(),
            seen.end,
            if right { "ok" } else { "FAILED" },
        );
    }
    println!("{failed} failed");
    Ok(ExitCode::from(u8::from(failed > 0)))
}

impl Case {
    /// A peer that reads gets all and an orderly end. One that does not is given up in time.
    fn is_right(&self, seen: &Seen, told: &Told) -> bool {
        if self.rate == 0 {
            return told
                .closed
                .as_ref()
                .is_some_and(|c| c.after <= given_up(c.taken).min(GIVEN_UP));
        }
        seen.got == self.size
            && seen.end == "1000 and the end"
            && told.error.is_none()
            && told.closed.as_ref().is_some_and(|closed| closed.clean)
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let via = match self.via {
            Via::Direct => "directly",
            Via::Relay => "through a relay",
            Via::Proxy => "through nginx",
        };
        write!(f, "{:.1} MB", self.size as f64 / 1e6)?;
        match self.rate {
            0 => write!(f, ", reads nothing, {via}")?,
            rate => write!(f, " at {} kB/s, {via}", rate / 1000)?,
        }
        if self.server_closes {
            write!(f, ", the server closes")?;
        }
        Ok(())
    }
}
