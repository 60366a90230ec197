//! Peers on slow links, behind a socket that takes megabytes at once and then nothing for half a
//! minute (row P5).

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Interval, interval};
use tower::Layer;
use tower_websocket::{CloseEvent, Connection, Error, Result, WebSocketHandler, WebSocketLayer};

use crate::support::*;

/// What Linux takes of a message before it says that the socket is full.
const BUFFER: usize = 2_600_000;

/// The server's end of a connection to a good client that reads `rate` bytes a second, answers pings
/// when it has read them, and closes behind the first message. There is room again when a third of
/// the buffer is free.
struct SlowLink {
    rate: usize,
    opened: Instant,
    tick: Interval,
    input: VecDeque<u8>,
    /// All that was written, from the 101 on.
    output: Vec<u8>,
    /// How much of it the client has understood.
    parsed: usize,
    full: bool,
}

impl SlowLink {
    fn new(rate: usize) -> Self {
        Self {
            rate,
            opened: Instant::now(),
            tick: interval(Duration::from_secs(1)),
            input: HANDSHAKE.bytes().collect(),
            output: Vec::new(),
            parsed: 0,
            full: false,
        }
    }

    fn read(&self) -> usize {
        let read = self.rate as u128 * self.opened.elapsed().as_millis() / 1000;
        self.output.len().min(usize::try_from(read).unwrap())
    }

    /// What the client does about what it has read.
    fn answer(&mut self) {
        let read = self.read();
        if self.parsed == 0 {
            let head = self.output[..read]
                .windows(4)
                .position(|w| w == b"\r\n\r\n");
            let Some(head) = head else { return };
            self.parsed = head + 4;
        }
        while let Some((got, size)) = parse(&self.output[self.parsed..read], false).unwrap() {
            self.parsed += size;
            match got.first {
                0x89 => self.input.extend(frame(0x8A, &got.payload)),
                0x82 => self.input.extend(close(1000, "")),
                _ => {}
            }
        }
    }
}

impl AsyncRead for SlowLink {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.input.is_empty() {
            if self.tick.poll_tick(cx).is_pending() {
                return Poll::Pending;
            }
            self.answer();
        }
        let n = self.input.len().min(buffer.remaining());
        let bytes: Vec<u8> = self.input.drain(..n).collect();
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SlowLink {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // The tick wakes the task.
        let waiting = self.output.len() - self.read();
        self.full &= waiting > BUFFER * 2 / 3;
        let n = bytes.len().min(BUFFER - waiting);
        if self.full || n == 0 {
            self.full = true;
            return Poll::Pending;
        }
        self.output.extend_from_slice(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[derive(Clone)]
struct Sends {
    bytes: usize,
    closes: bool,
    recorder: Recorder,
}

impl WebSocketHandler for Sends {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        conn.send(vec![0; self.bytes]).await?;
        if self.closes {
            conn.close(tower_websocket::CloseCode::NORMAL_CLOSURE, "")?;
        }
        Ok(())
    }
    async fn on_error(&mut self, _: &mut Connection, error: Error) -> Result {
        self.recorder.note(format!("error {error}"));
        Ok(())
    }
    async fn on_close(&mut self, _: &mut Connection, event: CloseEvent) -> Result {
        self.recorder.note(shown_close(&event));
        Ok(())
    }
}

/// What the application is told, and after how many seconds.
async fn told(bytes: usize, rate: usize, closes: bool) -> (Vec<String>, u64) {
    let recorder = Recorder::default();
    let layer = WebSocketLayer::new(
        "/ws",
        Sends {
            bytes,
            closes,
            recorder: recorder.clone(),
        },
    );
    let began = Instant::now();
    tokio::spawn(serve_http1(SlowLink::new(rate), layer.layer(plain())));
    while !recorder.log().iter().any(|line| line.starts_with("close")) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(began.elapsed() < Duration::from_secs(3600));
    }
    (recorder.log(), began.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn p5_a_peer_that_reads_steadily_gets_every_byte_however_slow_its_link() {
    for (bytes, rate) in [
        (1_000_000, 16_000),
        (1_000_000, 20_000),
        (1_500_000, 25_000),
        (3_000_000, 25_000),
        (8_000_000, 50_000),
    ] {
        for (closes, who) in [(false, "Peer"), (true, "Application")] {
            let (log, seconds) = told(bytes, rate, closes).await;
            let expected = format!("close 1000 {who} clean");
            assert_eq!(log, [expected], "{bytes} at {rate} after {seconds} s");
            let needed = (bytes / rate) as u64;
            assert!((needed..needed + 10).contains(&seconds), "{seconds}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p5_a_peer_that_reads_nothing_is_given_up_when_a_slow_one_would_have_read() {
    // 158 s for what the socket took at 16 kB a second, and 30.
    let (log, seconds) = told(8_000_000, 0, false).await;
    assert_eq!(log.last().unwrap(), "close 1006 Timeout unclean");
    assert!((180..200).contains(&seconds), "{seconds}");
    // All of it is in the socket, and the ping behind it: 58 s, and 20 to answer.
    let (log, seconds) = told(1_000_000, 0, false).await;
    assert_eq!(log.last().unwrap(), "close 1006 Timeout unclean");
    assert!((75..90).contains(&seconds), "{seconds}");
}
