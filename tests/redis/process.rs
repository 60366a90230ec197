//! [`Process`]: a node in a process of its own, which can be killed; [`Client`]: a client of it, over TCP.
//!
//! The process is this program again, with one test alone that is told to be a node. Its clients say what it
//! is to do:
//!
//! ```text
//! sub TOPIC [POSITION]      ready RECOVERED; then what is published, a retained message as @POSITION TOPIC TEXT
//! append TOPIC TEXT         ok TEXT, when it is acknowledged, or failed TEXT
//! publish TOPIC TEXT
//! flood TOPIC FROM TO       publishes or appends the numbers, as fast as it can
//! track KEY                 tracked
//! present                   present KEY:CONNECTIONS …
//! status                    up, or degraded WAITING LOST REASON, or degraded log REASON
//! ```

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tower_websocket::topics::Redis;
use tower_websocket::{
    Connection, Message, Position, Result, Retain, Status, Subscribe, Topics, WebSocketHandler,
    WebSocketLayer,
};

use crate::support::tcp;

/// Names the server, and makes a node of this program.
const SERVER: &str = "TOWER_WEBSOCKET_TEST_NODE";

/// Of its commands, in seconds, where that is not to be 2.
pub const TIMEOUT: &str = "TOWER_WEBSOCKET_TEST_TIMEOUT";

/// What takes longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// It ends with this value, as by SIGKILL.
pub struct Process {
    process: Child,
    addr: String,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// A node, which listens to its clients already. Whether it reaches the server is another question.
    pub fn start(url: &str) -> Self {
        Self::with(url, &[])
    }

    pub fn with(url: &str, variables: &[(&str, &str)]) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "process::is_a_node_if_it_is_told_to_be_one"])
            .args(["--nocapture", "--test-threads", "1"])
            .env(SERVER, url)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let addr = lines.find_map(|line| {
            let line = line.unwrap();
            Some(line.split_once("listening on ")?.1.to_owned())
        });
        let log = Arc::<Mutex<String>>::default();
        let (stderr, to) = (process.stderr.take().unwrap(), log.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(|line| line.ok()) {
                let mut log = to.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self {
            process,
            addr: addr.expect("a node that listens"),
            log,
        }
    }

    /// As the kernel does when memory runs out: nobody is told.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it has logged this.
    pub async fn logs(&self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < end, "no {text} in {}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Of `/proc/PID/status`, in KiB; 0 where there is none.
    pub fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.map_or(0, |number| number.parse().unwrap())
    }

    pub async fn client(&self) -> Client {
        let (socket, _) = connect_async(format!("ws://{}/ws", self.addr))
            .await
            .unwrap();
        Client { socket }
    }

    /// A client that has subscribed the topics from now on.
    pub async fn subscriber(&self, topics: &[&str]) -> Client {
        let mut client = self.client().await;
        for topic in topics {
            client.send(&format!("sub {topic}")).await;
            assert_eq!(client.next().await, "ready true", "{topic}");
        }
        client
    }

    /// Waits until it reaches the other nodes.
    pub async fn up(&self) {
        let end = Instant::now() + PATIENCE;
        let mut client = self.client().await;
        loop {
            let status = client.ask("status").await;
            if status == "up" {
                return;
            }
            assert!(Instant::now() < end, "{status}: {}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("a node has logged:\n{}", self.log());
        }
    }
}

pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    pub async fn send(&mut self, text: &str) {
        assert!(self.try_send(text).await, "the connection has ended");
    }

    /// `false`: the connection has ended.
    pub async fn try_send(&mut self, text: &str) -> bool {
        self.socket.send(Frame::text(text)).await.is_ok()
    }

    /// The next message; `None`: the connection has ended.
    pub async fn try_next(&mut self) -> Option<String> {
        loop {
            let next = timeout(PATIENCE, self.socket.next()).await;
            match next.expect("a message or an end")? {
                Ok(Frame::Text(text)) => return Some(text.as_str().to_owned()),
                Ok(Frame::Ping(_)) => {}
                Ok(Frame::Close(_)) | Err(_) => return None,
                Ok(other) => panic!("{other}"),
            }
        }
    }

    pub async fn next(&mut self) -> String {
        self.try_next().await.expect("a message")
    }

    /// Of a client that subscribes nothing: the reply.
    pub async fn ask(&mut self, text: &str) -> String {
        self.send(text).await;
        self.next().await
    }

    /// What has come by now, or comes within that time.
    pub async fn all(&mut self, time: Duration) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(Some(text)) = timeout(time, self.try_next()).await {
            all.push(text);
        }
        all
    }
}

/// What a node serves, at `/ws`.
pub fn layer(topics: &Topics) -> WebSocketLayer<impl tower_websocket::Application + use<>> {
    WebSocketLayer::new("/ws", Node)
        .topics(topics)
        .max_queued_messages(100_000)
        .max_queued_bytes(64 << 20)
}

/// What a node does.
#[derive(Clone)]
struct Node;

impl WebSocketHandler for Node {
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        let text = message.as_text().unwrap_or_default();
        let mut words = text.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (what, topic, rest) = (word(), word().to_owned(), word().to_owned());
        let topics = conn.topics().clone();
        match what {
            "sub" => {
                let after: Option<Position> = rest.parse().ok();
                // Ahead of what was missed.
                let how = Subscribe::new()
                    .after(after)
                    .greeting(|attached| format!("ready {}", attached.recovered()).into());
                conn.subscribe_with(&topic, how).await?;
            }
            "append" => {
                let sender = conn.sender();
                tokio::spawn(async move {
                    let appended = topics.append(&topic, rest.clone()).await;
                    let word = if appended.is_ok() { "ok" } else { "failed" };
                    let _ = sender.send(format!("{word} {rest}")).await;
                });
            }
            "publish" => drop(topics.publish(&topic, rest)),
            "flood" => {
                let (from, to) = rest.split_once(' ').unwrap_or_default();
                for n in from.parse::<u64>()?..to.parse()? {
                    topics.publish(&topic, n.to_string());
                }
            }
            "track" => {
                conn.track("here", &topic, "")?;
                conn.send("tracked").await?;
            }
            "present" => {
                let list = topics.presence("here").list();
                let list = list
                    .iter()
                    .map(|who| format!(" {}:{}", who.key(), who.metas().count()));
                let list: String = list.collect();
                conn.send(format!("present{list}")).await?;
            }
            "status" => {
                let status = match topics.status() {
                    Status::Degraded {
                        cut_off: false,
                        reason,
                        ..
                    } => format!("degraded log {reason}"),
                    Status::Degraded {
                        waiting,
                        lost,
                        reason,
                        ..
                    } => format!("degraded {waiting} {lost} {reason}"),
                    _ => "up".to_owned(),
                };
                conn.send(status).await?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// A node that is told to be one. Otherwise there is nothing to do: it is not a test.
#[test]
fn is_a_node_if_it_is_told_to_be_one() {
    let Ok(url) = env::var(SERVER) else { return };
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let timeout = env::var(TIMEOUT).map_or(2, |seconds| seconds.parse().unwrap());
    runtime.block_on(async {
        let redis = Redis::new(&url).unwrap().prefix("x:");
        let topics = Topics::builder()
            .retain("log", Retain::messages(100_000))
            .retain("brief", Retain::messages(1000))
            .stamp(|topic, position, message| {
                let text = message.as_text().unwrap_or_default();
                Message::from(format!("@{position} {topic} {text}"))
            })
            .backplane(redis.timeout(Duration::from_secs(timeout)))
            .build();
        let addr = tcp(layer(&topics).into_service()).await;
        println!("listening on {addr}");
        // Until the test is over, or has failed.
        let end = tokio::task::spawn_blocking(|| {
            let mut nothing = Vec::new();
            let _ = std::io::stdin().read_to_end(&mut nothing);
        });
        let _ = end.await;
        // Not the rest of the tests' harness.
        std::process::exit(0);
    });
}
