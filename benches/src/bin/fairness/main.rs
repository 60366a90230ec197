//! Measures the latency of one quiet client beside floods on the same server:
//! `fairness [--seconds N] [--rounds N] [--floods "messages pull"] [--out FILE] [--check]`.
//!
//! The victim is one connection that sends 64 bytes, waits for the echo, and pauses. Meanwhile, one or
//! ten other connections flood the same server with one kind of flood at a time ([`flood::FLOODS`]),
//! on a runtime with one thread and on one with two workers. In the third case, `elsewhere`, another
//! thread of the same process serves the victim. That row shows what the machine's scheduler
//! contributes, and the server cannot do better.
//!
//! Prints a table in Markdown, and writes a line of JSON for each measurement to FILE. With
//! `--check` it fails where the goals are missed.

mod flood;
mod server;
mod victim;

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::flood::{FLOODS, Flood};
use crate::server::Server;
use crate::victim::{Seen, Victim};

pub(crate) type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> =
    std::result::Result<T, E>;

/// Floods have filled the buffers of the kernel by then.
const SETTLING: Duration = Duration::from_millis(300);

/// The goals beside any flood.
const P99: Duration = Duration::from_millis(5);
const WORST: Duration = Duration::from_millis(50);

/// Where victim and flood are served.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Runtime {
    One,
    Two,
    /// Each on a `current_thread` of its own.
    Elsewhere,
}

impl Runtime {
    const ALL: [Self; 3] = [Self::One, Self::Two, Self::Elsewhere];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::One => "current_thread",
            Self::Two => "two workers",
            Self::Elsewhere => "elsewhere",
        }
    }
}

struct Options {
    time: Duration,
    rounds: u32,
    floods: Vec<&'static Flood>,
    out: Option<File>,
    check: bool,
}

/// A row of the table.
struct Case {
    /// `None`: the victim is alone.
    flood: Option<&'static Flood>,
    connections: usize,
    runtime: Runtime,
    rounds: Vec<Measured>,
}

struct Measured {
    seen: Seen,
    /// Messages that the server took from the floods in a second.
    rate: f64,
    /// Why a flood was closed, if one was.
    closed: Option<String>,
}

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, runtime] = &*args
        && first == "server"
    {
        let runtime = Runtime::ALL.into_iter().find(|r| r.name() == runtime);
        server::serve(runtime.ok_or("no such runtime")?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut options = Options::parse(&args)?;
    let mut cases: Vec<Case> = Vec::new();
    let mut add = |flood, connections, runtime| {
        cases.push(Case {
            flood,
            connections,
            runtime,
            rounds: Vec::new(),
        });
    };
    for runtime in [Runtime::One, Runtime::Two] {
        add(None, 0, runtime);
    }
    for flood in options.floods {
        for connections in [1, 10] {
            for runtime in Runtime::ALL {
                add(Some(flood), connections, runtime);
            }
        }
    }
    for round in 1..=options.rounds {
        for case in &mut cases {
            let measured = case.measure(options.time)?;
            if let Some(out) = &mut options.out {
                writeln!(out, "{}", case.json(round, &measured))?;
            }
            case.rounds.push(measured);
        }
    }
    println!("| flood | connections | runtime | p50 | p99 | worst | slow | flood |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut missed = 0;
    for case in &cases {
        println!("{}", case.row());
        missed += u32::from(!case.is_fair());
    }
    println!();
    if missed > 0 {
        println!("{missed} rows miss the goals: p99 up to {P99:?}, worst up to {WORST:?}");
    }
    Ok(ExitCode::from(u8::from(options.check && missed > 0)))
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self {
            time: Duration::from_millis(1500),
            rounds: 1,
            floods: FLOODS.iter().collect(),
            out: None,
            check: false,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match &**arg {
                "--seconds" => options.time = Duration::try_from_secs_f64(value()?.parse()?)?,
                "--rounds" => options.rounds = value()?.parse()?,
                "--out" => options.out = Some(File::create(value()?)?),
                "--check" => options.check = true,
                "--floods" => {
                    let names = value()?.split_whitespace();
                    options.floods = names
                        .map(|name| FLOODS.iter().find(|flood| flood.name == name))
                        .collect::<Option<_>>()
                        .ok_or("no such flood")?;
                }
                _ => return Err(format!("unknown argument {arg}").into()),
            }
        }
        Ok(options)
    }
}

impl Case {
    fn measure(&self, time: Duration) -> Result<Measured> {
        let mut server = Server::start(self.runtime)?;
        let mut victim = Victim::open(server.victims)?;
        let mut floods = Vec::new();
        if let Some(flood) = self.flood {
            for _ in 0..self.connections {
                floods.push(flood.open(server.floods)?);
            }
        }
        for flood in &mut floods {
            flood.start()?;
        }
        sleep(SETTLING);
        let (before, start) = (server.count()?, Instant::now());
        let seen = victim.measure(time)?;
        let rate = (server.count()? - before) as f64 / start.elapsed().as_secs_f64();
        let closed = floods.iter().find_map(|flood| flood.closed());
        // Ends the floods too: they have nobody to write to.
        drop(server);
        for flood in floods {
            flood.end();
        }
        Ok(Measured { seen, rate, closed })
    }

    fn name(&self) -> &'static str {
        self.flood.map_or("none", |flood| flood.name)
    }

    fn json(&self, round: u32, measured: &Measured) -> String {
        let Measured { seen, rate, closed } = measured;
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        format!(
            "{{\"flood\": \"{}\", \"connections\": {}, \"runtime\": \"{}\", \"round\": {round}, \
             \"echoes\": {}, \"p50_us\": {:.1}, \"p99_us\": {:.1}, \"worst_us\": {:.1}, \
             \"unanswered\": {}, \"slow_share\": {:.3}, \"flood_per_s\": {rate:.1}, \
             \"closed\": {}}}",
            self.name(),
            self.connections,
            self.runtime.name(),
            seen.echoes,
            micros(seen.p50),
            micros(seen.p99),
            micros(seen.worst),
            seen.unanswered,
            seen.slow,
            closed
                .as_ref()
                .map_or("null".into(), |why| format!("\"{why}\"")),
        )
    }

    /// Medians, and the worst of all rounds.
    fn row(&self) -> String {
        let of = |value: fn(&Measured) -> f64| {
            let mut values: Vec<f64> = self.rounds.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let mut row = format!(
            "| {} | {} | {} | {} | {} | {}",
            self.name(),
            self.connections,
            self.runtime.name(),
            shown(of(|m| m.seen.p50.as_secs_f64())),
            shown(of(|m| m.seen.p99.as_secs_f64())),
            shown(of(|m| m.seen.worst.as_secs_f64())),
        );
        if self.rounds.len() > 1 {
            let worst = self.rounds.iter().map(|m| m.seen.worst).max();
            let _ = write!(row, " ({})", shown(worst.unwrap_or_default().as_secs_f64()));
        }
        if self.rounds.iter().any(|m| m.seen.unanswered) {
            row += " and no answer";
        }
        let _ = write!(row, " | {:.0} % |", of(|m| m.seen.slow) * 100.0);
        if let Some(flood) = self.flood {
            let rate = of(|m| m.rate);
            let _ = write!(row, " {}", flood.shown(rate));
        }
        let closed = self.rounds.iter().filter_map(|m| m.closed.as_deref());
        for why in closed.take(1) {
            let _ = write!(row, ", {why}");
        }
        row + " |"
    }

    /// Whether the median of the rounds reaches the goals. What the machine does is not judged.
    fn is_fair(&self) -> bool {
        let fair = |m: &&Measured| m.seen.p99 <= P99 && m.seen.worst <= WORST;
        let count = self.rounds.iter().filter(fair).count();
        self.runtime == Runtime::Elsewhere || count * 2 > self.rounds.len()
    }
}

fn shown(seconds: f64) -> String {
    match seconds {
        ..1e-3 => format!("{:.0} µs", seconds * 1e6),
        ..1e-2 => format!("{:.1} ms", seconds * 1e3),
        ..1.0 => format!("{:.0} ms", seconds * 1e3),
        _ => format!("{seconds:.1} s"),
    }
}
