//! [`Process`]: the server, seen from outside.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

pub struct Process {
    pub addr: SocketAddr,
    pid: u32,
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
}

/// What the server counts; see `Room::stats`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub on_open: u64,
    pub on_close: u64,
    pub on_error: u64,
    pub skipped: u64,
    pub members: u64,
    pub connections: u64,
    pub tasks: u64,
    pub closed: u64,
    pub forced: u64,
}

/// One look at it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub rss_kib: u64,
    pub descriptors: u64,
    pub threads: u64,
    pub stats: Stats,
}

impl Process {
    pub async fn start(max_connections: usize) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut child = Command::new(program)
            .arg("server")
            .arg(max_connections.to_string())
            // Its end tells the server that we are gone.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| format!("the server does not start: {e}"))?;
        let output = child.stdout.take().ok_or("no output")?;
        let mut output = BufReader::new(output).lines();
        let line = timeout(Duration::from_secs(10), output.next_line()).await;
        let line = line.ok().and_then(Result::ok).flatten().unwrap_or_default();
        let addr = line.strip_prefix("listening on ");
        Ok(Self {
            addr: addr
                .and_then(|addr| addr.parse().ok())
                .ok_or_else(|| format!("the server says {line:?}"))?,
            pid: child.id().ok_or("the server has ended")?,
            child,
            output,
        })
    }

    pub async fn sample(&self) -> Result<Sample, String> {
        let stats = self.stats().await?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid));
        let status = status.map_err(|e| format!("the server is gone: {e}"))?;
        let field = |name: &str| -> u64 {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.split_whitespace().next())
                .and_then(|n| n.parse().ok())
                .unwrap_or_default()
        };
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.pid));
        Ok(Sample {
            rss_kib: field("VmRSS:"),
            threads: field("Threads:"),
            descriptors: descriptors.map_or(0, |all| all.count() as u64),
            stats,
        })
    }

    /// Before anybody has come: the least of a few looks, since each look is a connection too.
    pub async fn start_sample(&self) -> Result<Sample, String> {
        let mut start = self.sample().await?;
        for _ in 0..5 {
            sleep(Duration::from_millis(50)).await;
            let again = self.sample().await?;
            start.descriptors = start.descriptors.min(again.descriptors);
            start.stats.tasks = start.stats.tasks.min(again.stats.tasks);
        }
        Ok(start)
    }

    /// Waits until tasks, descriptors and connections are as they were at `start`.
    pub async fn settle(&self, start: &Sample, within: Duration) -> Result<Sample, String> {
        let deadline = Instant::now() + within;
        loop {
            let now = self.sample().await?;
            if now.stats.connections == start.stats.connections
                && now.stats.members == now.stats.connections
                && now.stats.tasks <= start.stats.tasks
                && now.descriptors <= start.descriptors
            {
                return Ok(now);
            }
            if Instant::now() > deadline {
                return Err(format!("after {within:?} not back at the start: {now:?}"));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn stats(&self) -> Result<Stats, String> {
        let asked = async {
            let mut socket = TcpStream::connect(self.addr).await?;
            let request = b"GET /stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            socket.write_all(request).await?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = timeout(Duration::from_secs(30), asked)
            .await
            .map_err(|_| "no answer from /stats")?
            .map_err(|e| format!("/stats: {e}"))?;
        Ok(Stats::parse(answer.lines()))
    }

    /// SIGTERM; what it says when it has drained.
    pub async fn terminate(mut self, meanwhile: impl Future<Output = ()>) -> Result<Stats, String> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        kill_process(pid.ok_or("no process")?, Signal::TERM).map_err(|e| e.to_string())?;
        let (said, ()) = tokio::join!(
            timeout(Duration::from_secs(40), async {
                let mut said = Vec::new();
                while let Ok(Some(line)) = self.output.next_line().await {
                    said.push(line);
                }
                (said, self.child.wait().await)
            }),
            meanwhile
        );
        let (said, status) = said.map_err(|_| "the server does not end after SIGTERM")?;
        if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
            return Err(format!("the server ended with {status:?}"));
        }
        Ok(Stats::parse(said.iter().map(String::as_str)))
    }
}

impl Stats {
    fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut stats = Self::default();
        for line in lines {
            let Some((name, value)) = line.split_once(' ') else {
                continue;
            };
            let field = match name {
                "on_open" => &mut stats.on_open,
                "on_close" => &mut stats.on_close,
                "on_error" => &mut stats.on_error,
                "skipped" => &mut stats.skipped,
                "members" => &mut stats.members,
                "connections" => &mut stats.connections,
                "tasks" => &mut stats.tasks,
                "closed" => &mut stats.closed,
                "forced" => &mut stats.forced,
                _ => continue,
            };
            *field = value.parse().unwrap_or(u64::MAX);
        }
        stats
    }
}
