//! An echo over one stream in memory, for callgrind: what a message costs with and without what operating
//! needs.
//!
//! ```text
//! cargo build --release [--features metrics]
//! for n in 16000 32000; do
//!     valgrind --tool=callgrind target/release/operating --messages $n --at-once 1 [--unlisted | --watched]
//! done
//! ```
//!
//! The difference, by 16,000, is what a message costs. `--at-once`: how many messages come before the client
//! waits. `--unlisted`: `track_connections(false)`. `--watched`: a subscriber at INFO takes the span, slow
//! callbacks are reported, and, with the feature `metrics`, a recorder counts.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tower::{Layer, ServiceExt};
use tower_websocket::{Connection, Message, Result, Upgrade, WebSocketHandler, WebSocketLayer};

#[derive(Clone)]
struct Echo;

impl WebSocketHandler for Echo {
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.send(message).await?;
        Ok(())
    }
}

const SIZE: usize = 64;
/// Of a frame of the server.
const ECHO: usize = SIZE + 2;

/// A client that sends when it has all echoes of what it has sent.
struct Talker {
    /// So many messages.
    frames: Vec<u8>,
    turns: usize,
    /// Bytes that are yet to come.
    owed: usize,
    reader: Option<Waker>,
    done: Arc<Notify>,
}

impl AsyncRead for Talker {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.owed > 0 {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if self.turns == 0 {
            self.done.notify_one();
            return Poll::Ready(Ok(()));
        }
        self.turns -= 1;
        self.owed = self.frames.len() / (SIZE + 6) * ECHO;
        buffer.put_slice(&self.frames);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Talker {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.owed = self.owed.saturating_sub(bytes.len());
        if self.owed == 0 {
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

// Paused: how long a turn of a connection lasts must not depend on valgrind.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<usize>().ok()
    };
    let messages = value("--messages").unwrap_or(20_000);
    let at_once = value("--at-once").unwrap_or(1);
    let layer = WebSocketLayer::new("/echo", Echo);
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let mut layer = layer.track_connections(!has("--unlisted"));
    if has("--watched") {
        layer = layer.warn_slow_callbacks(Duration::from_secs(1));
        tracing_subscriber::fmt().with_writer(io::sink).init();
        #[cfg(feature = "metrics")]
        metrics::set_global_recorder(recorder::Counting).unwrap();
    }

    let mut frame = vec![0x81, 0x80 | SIZE as u8, 0, 0, 0, 0];
    frame.resize(frame.len() + SIZE, b'x');
    let done = Arc::new(Notify::new());
    let talker = Talker {
        frames: frame.repeat(at_once),
        turns: messages / at_once,
        owed: 0,
        reader: None,
        done: done.clone(),
    };
    let mut request = Request::get("/echo")
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(())
        .unwrap();
    let stream = Upgrade::new(std::future::ready(Ok::<_, io::Error>(talker)));
    request.extensions_mut().insert(stream);
    let inner = tower::service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let response = layer.layer(inner).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 101);
    done.notified().await;
}

#[cfg(feature = "metrics")]
mod recorder {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use metrics::{
        Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };

    /// Counters are atomic additions, as those of any exporter; of histograms nothing is kept.
    pub struct Counting;

    impl Recorder for Counting {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(Arc::new(AtomicU64::new(0)))
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(Arc::new(AtomicU64::new(0)))
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }
}
