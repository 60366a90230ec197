//! `examples/graceful_shutdown.rs` as a Kubernetes pod lives and ends: SIGTERM, the probe, the
//! Close frames, the exit code. Rows A13 and A15 on a process of its own.

#![cfg(unix)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite::{self, Message, protocol::CloseFrame};

/// `cargo test` builds the examples beside the tests; with `--test` it does not, and one that
/// stands there is as old as it is.
struct Example {
    process: Child,
    output: BufReader<ChildStdout>,
    addr: String,
}

impl Example {
    fn start(server: &str) -> Self {
        let tests = std::env::current_exe().unwrap();
        let path = tests
            .parent()
            .unwrap()
            .join("../examples/graceful_shutdown");
        let mut process = Command::new(path)
            .args(["--addr", "127.0.0.1:0", "--server", server])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example, which `cargo build --example graceful_shutdown` makes");
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let addr = line.trim().strip_prefix("listening on ").unwrap();
        Self {
            addr: addr.to_owned(),
            process,
            output,
        }
    }

    fn terminate(&self) {
        let pid = self.process.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    fn socket(&self) -> tungstenite::WebSocket<TcpStream> {
        let socket = TcpStream::connect(&self.addr).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        tungstenite::client(format!("ws://{}/echo", self.addr), socket)
            .unwrap()
            .0
    }

    fn is_ready(&self) -> u16 {
        let mut socket = TcpStream::connect(&self.addr).unwrap();
        let request = b"GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        socket.write_all(request).unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn a_pod_that_is_told_to_end(server: &str) {
    let mut example = Example::start(server);
    assert_eq!(example.is_ready(), 200);
    let mut sockets: Vec<_> = (0..20).map(|_| example.socket()).collect();
    example.terminate();
    let began = Instant::now();
    while example.is_ready() != 503 {
        assert!(began.elapsed() < Duration::from_secs(2), "still ready");
        std::thread::sleep(Duration::from_millis(10));
    }
    // Load balancers have not noticed yet: who comes now is served.
    sockets.push(example.socket());
    for (i, socket) in sockets.iter_mut().enumerate() {
        let message = Message::text(format!("message {i}"));
        socket.send(message.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), message);
    }
    for mut socket in sockets {
        let Message::Close(Some(CloseFrame { code, .. })) = socket.read().unwrap() else {
            panic!("no Close frame");
        };
        assert_eq!(u16::from(code), 1001);
        while socket.read().is_ok() {}
    }
    let mut output = String::new();
    example.output.read_to_string(&mut output).unwrap();
    let drained = "Drained { closed: 21, forced: 0, remaining: 0, unopened: 0 }";
    assert!(output.contains(drained), "{output}");
    assert!(example.process.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn a13_axum_goes_down_on_sigterm_and_every_socket_is_told() {
    a_pod_that_is_told_to_end("axum");
}

#[test]
fn a13_hyper_util_goes_down_on_sigterm_and_every_socket_is_told() {
    a_pod_that_is_told_to_end("hyper");
}
