//! Connections that are cut all the time, for the jitter tests: what they serve, and one of them from its
//! handshake to its end.

use std::env;
use std::ops::ControlFlow;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tower::Layer;
use tower_websocket::{
    Application, CloseCode, Connection, Position, Result, Subscribe, WebSocketLayer,
};

use crate::support::{Frame, HANDSHAKE, frame, parse, plain, serve_http1};

pub fn number(variable: &str, default: usize) -> usize {
    let value = env::var(variable);
    value.map_or(default, |n| n.parse().expect("a number"))
}

/// `room3=POSITION&room5=POSITION&abort=MILLISECONDS`: subscribes after what the client has seen, and ends
/// the connection if the client says so.
pub async fn serve(mut conn: Connection) -> Result {
    let query = conn.request().uri.query().unwrap_or_default().to_owned();
    let mut end = None;
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        if name == "abort" || name == "close" {
            end = Some((name, Duration::from_millis(value.parse()?)));
            continue;
        }
        let how = Subscribe::new().after(value.parse::<Position>()?);
        if !conn.subscribe_with(name, how).await?.recovered() {
            conn.close(CloseCode::POLICY_VIOLATION, "not recovered")?;
        }
    }
    let quiet = async { while let Ok(Some(_)) = conn.recv().await {} };
    match end {
        None => quiet.await,
        Some((how, after)) => {
            if timeout(after, quiet).await.is_err() && how == "abort" {
                conn.sender().abort();
            } else {
                conn.close(CloseCode::SERVICE_RESTART, "")?;
            }
        }
    }
    Ok(())
}

/// A connection that may end anywhere, inside a frame too, where the kit's clients fail a test.
struct Wire {
    io: DuplexStream,
    input: Vec<u8>,
}

impl Wire {
    /// Whether something came.
    async fn more(&mut self) -> bool {
        self.io.read_buf(&mut self.input).await.unwrap_or(0) > 0
    }

    async fn head(&mut self) -> String {
        loop {
            if let Some(at) = self.input.windows(4).position(|w| w == b"\r\n\r\n") {
                return String::from_utf8(self.input.drain(..at + 4).collect()).unwrap();
            }
            assert!(self.more().await, "no response");
        }
    }

    /// `None`: the connection has ended.
    async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, size)) = parse(&self.input, false).unwrap() {
                self.input.drain(..size);
                return Some(frame);
            }
            if !self.more().await {
                return None;
            }
        }
    }
}

/// One connection of a client that has seen so much of its rooms, `room3=POSITION&room5=POSITION&`. It ends within
/// `life`, by the server or the network, or is dropped while it is opened. `take` gets each message, in three
/// parts: position, room, the rest; it breaks off when it wants no more, and goes on after a pause. Whether it broke off.
pub async fn live(
    layer: &WebSocketLayer<impl Application>,
    seen: String,
    life: Duration,
    random: &mut StdRng,
    mut take: impl FnMut(&mut StdRng, &str, &str, &str) -> ControlFlow<(), Duration>,
) -> bool {
    let mut query = seen;
    // Who cuts it: the server, without a word or with one, or the network.
    let by_server = match random.random_range(0..4) {
        0 => Some("abort"),
        1 => Some("close"),
        _ => None,
    };
    if let Some(how) = by_server {
        query += &format!("{how}={}", life.as_millis());
    }
    let (io, server) = tokio::io::duplex(16 * 1024);
    tokio::spawn(serve_http1(server, layer.layer(plain())));
    let mut client = Wire {
        io,
        input: Vec::new(),
    };
    let request = HANDSHAKE.replace("/ws", &format!("/ws?{query}"));
    client.io.write_all(request.as_bytes()).await.unwrap();
    // Now and then while it is opened.
    if !random.random_ratio(15, 16) {
        return false;
    }
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let end = Instant::now()
        + match by_server {
            Some(_) => Duration::from_secs(60),
            None => life,
        };
    while let Ok(Some(got)) = timeout_at(end, client.frame()).await {
        match got.first {
            0x81 => {}
            0x89 => {
                let _ = client.io.write_all(&frame(0x8A, &got.payload)).await;
                continue;
            }
            _ => {
                let reason = String::from_utf8_lossy(&got.payload);
                let code = (got.first, got.close_code());
                assert_eq!(code, (0x88, Some(1012)), "{reason}");
                break;
            }
        }
        let text = String::from_utf8(got.payload).unwrap();
        let (position, rest) = text.split_once(' ').unwrap();
        let (room, rest) = rest.split_once(' ').unwrap();
        match take(random, position, room, rest) {
            ControlFlow::Break(()) => return true,
            ControlFlow::Continue(pause) if pause.is_zero() => {}
            ControlFlow::Continue(pause) => sleep(pause).await,
        }
    }
    false
}
