//! A server that runs out of file descriptors (row R7): the examples `echo` (an accept loop of
//! its own) and `axum` (`axum::serve`) as processes that may have 64 of them, and 100 clients.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, unreachable_pub, missing_debug_implementations)]

#[allow(dead_code)]
#[path = "../support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;

use crate::support::*;

const DESCRIPTORS: usize = 64;
const CLIENTS: usize = 100;

/// An example, running until it is dropped.
struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Server {
    fn start(example: &str) -> Self {
        let target = std::env::current_exe().unwrap();
        let path = target
            .ancestors()
            .nth(2)
            .unwrap()
            .join("examples")
            .join(example);
        assert!(
            path.exists(),
            "`cargo test` builds the examples, `cargo test --test descriptors` does not: \
             `cargo build --example {example}`"
        );
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!("ulimit -n {DESCRIPTORS}; exec \"$0\" \"$@\""))
            .arg(path)
            .args(["--addr", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let addr = line.trim().strip_prefix("listening on ").unwrap();
        let addr = addr.parse().unwrap();
        Self { child, addr }
    }

    /// Those that count: it may have inherited some from beyond its limit.
    fn descriptors(&self) -> usize {
        let all = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let numbers = all.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        numbers
            .filter(|number| number.parse::<usize>().unwrap() < DESCRIPTORS)
            .count()
    }

    /// CPU time it has used, in hundredths of a second.
    fn cpu(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Behind the name, which may have spaces: fields 3 and on; utime and stime are 14 and 15.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let fields = fields.split(' ').skip(11).take(2);
        fields.map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn echoes(client: &mut Client<TcpStream>) {
    client.send(&text("still served")).await;
    // The example with axum greets first.
    while !client
        .frame()
        .await
        .unwrap()
        .payload
        .ends_with(b"still served")
    {}
}

async fn runs_out(example: &str, path: &str) {
    let server = Server::start(example);
    let handshake = HANDSHAKE.replace("/ws", path);
    let before = server.descriptors();
    let mut waiting = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = tcp_client(server.addr).await;
        client.send(handshake.as_bytes()).await;
        waiting.push(client);
    }
    let mut waiting = waiting.into_iter();

    // As many are served as there are descriptors; the others wait in the kernel's queue.
    let mut served = Vec::new();
    for _ in before..DESCRIPTORS {
        let mut client = waiting.next().unwrap();
        assert_eq!(client.head().await.status(), 101);
        served.push(client);
    }
    assert!(served.len() > 40, "{}", served.len());
    assert_eq!(server.descriptors(), DESCRIPTORS);

    // Meanwhile the accept loop does not spin.
    let cpu = server.cpu();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let cpu = server.cpu() - cpu;
    assert!(cpu < 5, "{cpu} % of a core, to accept nothing");
    let mut next = waiting.next().unwrap();
    let answer = tokio::time::timeout(Duration::from_millis(50), next.head());
    assert!(answer.await.is_err(), "there are no descriptors left");
    for client in &mut served {
        echoes(client).await;
    }

    // Some leave, some in good order; as many of those that wait take their places.
    for (i, mut client) in served.drain(..20).enumerate() {
        if i % 2 == 0 {
            client.send(&close(1000, "")).await;
            client.expect_close(Some(1000)).await;
        }
    }
    for mut client in std::iter::once(next).chain(waiting.by_ref().take(19)) {
        assert_eq!(client.head().await.status(), 101);
        echoes(&mut client).await;
        served.push(client);
    }

    // When all are gone, so is every descriptor of theirs.
    drop((served, waiting));
    within(async {
        while server.descriptors() > before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let mut client = tcp_client(server.addr).await;
    client.send(handshake.as_bytes()).await;
    assert_eq!(client.head().await.status(), 101);
    echoes(&mut client).await;
}

#[tokio::test]
async fn r7_an_accept_loop_without_descriptors_is_quiet_and_goes_on_when_some_are_free() {
    runs_out("echo", "/echo").await;
}

#[tokio::test]
async fn r7_axum_without_descriptors_is_quiet_and_goes_on_when_some_are_free() {
    runs_out("axum", "/echo?token=ada-token").await;
}
