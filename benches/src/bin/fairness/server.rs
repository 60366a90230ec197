//! The server. It is a process of its own, so that killing it discards the backlog of a flood.

use std::hint::spin_loop;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::serve::ListenerExt;
use tokio::runtime::Builder;
use tower_websocket::{Connection, Deflate, Message, WebSocketHandler, WebSocketLayer};

use crate::{Result, Runtime};

/// What a message of `/busy` and `/pull` costs.
const WORK: Duration = Duration::from_micros(10);

/// Messages that the handlers of the floods got.
static COUNT: AtomicU64 = AtomicU64::new(0);

pub(crate) struct Server {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub(crate) floods: SocketAddr,
    pub(crate) victims: SocketAddr,
}

impl Server {
    pub(crate) fn start(runtime: Runtime) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["server", runtime.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let nowhere = SocketAddr::from(([0; 4], 0));
        let mut server = Self {
            child,
            input: input.ok_or("no input")?,
            output: BufReader::new(output.ok_or("no output")?),
            floods: nowhere,
            victims: nowhere,
        };
        let line = server.line()?;
        let (floods, victims) = line.split_once(' ').ok_or("no addresses")?;
        (server.floods, server.victims) = (floods.parse()?, victims.parse()?);
        Ok(server)
    }

    /// How many messages of floods there were so far. A dedicated thread answers, busy or not.
    pub(crate) fn count(&mut self) -> Result<u64> {
        self.input.write_all(b"\n")?;
        Ok(self.line()?.parse()?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Clone)]
struct Echo;

impl WebSocketHandler for Echo {
    async fn on_message(
        &mut self,
        conn: &mut Connection,
        message: Message,
    ) -> tower_websocket::Result {
        conn.send(message).await?;
        Ok(())
    }
}

/// Counts messages, and works on each.
#[derive(Clone)]
struct Sink {
    work: Duration,
}

impl Sink {
    fn take(&self, _: Message) {
        COUNT.fetch_add(1, Ordering::Relaxed);
        if self.work > Duration::ZERO {
            let start = Instant::now();
            while start.elapsed() < self.work {
                spin_loop();
            }
        }
    }
}

impl WebSocketHandler for Sink {
    async fn on_message(
        &mut self,
        _: &mut Connection,
        message: Message,
    ) -> tower_websocket::Result {
        self.take(message);
        Ok(())
    }
}

/// Serves until its input ends.
pub(crate) fn serve(runtime: Runtime) -> io::Result<()> {
    let floods = listen()?;
    let victims = match runtime {
        Runtime::Elsewhere => Some(listen()?),
        _ => None,
    };
    let addr = floods.local_addr()?;
    let victims_addr = victims.as_ref().map_or(Ok(addr), |v| v.local_addr())?;
    println!("{addr} {victims_addr}");
    std::thread::spawn(|| {
        for _ in io::stdin().lines() {
            println!("{}", COUNT.load(Ordering::Relaxed));
        }
        // Whoever started us is gone.
        std::process::exit(3);
    });
    if let Some(victims) = victims {
        std::thread::spawn(|| run(Builder::new_current_thread(), victims));
    }
    match runtime {
        Runtime::Two => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(2);
            run(builder, floods)
        }
        _ => run(Builder::new_current_thread(), floods),
    }
}

fn listen() -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Default options throughout: the goals apply to them.
fn run(mut builder: Builder, listener: std::net::TcpListener) -> io::Result<()> {
    let pull = |work| {
        move |mut conn: Connection| async move {
            let sink = Sink { work };
            while let Some(message) = conn.recv().await? {
                sink.take(message);
            }
            Ok(())
        }
    };
    let idle = Sink {
        work: Duration::ZERO,
    };
    let app = Router::new()
        .layer(WebSocketLayer::new("/echo", Echo))
        .layer(WebSocketLayer::new("/busy", Sink { work: WORK }))
        .layer(WebSocketLayer::from_fn("/pull", pull(WORK)))
        .layer(WebSocketLayer::from_fn("/pull_idle", pull(Duration::ZERO)))
        .layer(WebSocketLayer::new("/inflate", idle).deflate(Deflate::new()));
    builder.enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let listener = listener.tap_io(|socket| socket.set_nodelay(true).expect("TCP_NODELAY"));
        axum::serve(listener, app).await
    })
}
