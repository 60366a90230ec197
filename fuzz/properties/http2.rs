use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::frames::run;
use super::input::{Cycle, Input};
use super::output::Output;
use super::stream::stream;
use crate::close::CloseEvent;
use crate::config::Config;
use crate::connection::Connection;
use crate::handler::{Result, WebSocketHandler};
use crate::message::Message;
use crate::protocol::Event;
use crate::service::WebSocketLayer;
use crate::shutdown::Shutdown;

/// Rows 2.6 to 2.13: some WebSockets on one session of HTTP/2, with hyper as the server, whose
/// client cuts the bytes into any DATA frames, has any windows, reads when it likes, resets streams
/// and gives up the session. What is echoed is a prefix of what was sent, and all of it if nothing
/// was broken off; `on_open` and `on_close` are one to one; everything ends.
///
/// `runtime` is one of a single thread whose time is paused.
pub fn http2(runtime: &Runtime, data: &[u8]) {
    runtime.block_on(async {
        let day = Duration::from_secs(24 * 3600);
        timeout(day, played(Input::new(data)))
            .await
            .expect("everything ends");
    });
}

async fn played(mut input: Input<'_>) {
    let settings = Settings::new(&mut input);
    let shutdown = Shutdown::new();
    let record = Record::default();
    let mut session = Session::open(&settings, &shutdown, &record).await;

    let mut clients = Vec::new();
    for _ in 0..settings.streams {
        let script = Script::new(&mut input, settings.longest());
        clients.push(tokio::spawn(conversation(session.sender.clone(), script)));
    }
    if let Some(lifetime) = settings.lifetime {
        sleep(lifetime).await;
        session.give_up();
    }
    for client in clients {
        let conversation = client.await.expect("the client does not panic");
        check(&conversation, &settings);
    }
    // Whatever the client does with its streams, the server is done with them, without a hint from
    // the session.
    sleep(PATIENCE).await;
    {
        let record = record.lock();
        assert_eq!(record.opened, record.closed);
    }
    session.end().await;

    // Those that still run are only to notice that their client is gone.
    let drained = shutdown.drain(Duration::from_secs(3600)).await;
    assert_eq!((drained.forced(), drained.remaining()), (0, 0));
    assert_eq!(shutdown.connections(), 0);
    let record = record.lock();
    assert_eq!(record.opened, record.closed);
    assert!(record.opened <= usize::from(settings.streams));
}

/// More than any timeout of the server. A stream that the server has given up, and which has no
/// window, is not reset by hyper as long as its last bytes could still be sent: from here on, the
/// client waits no longer for its end.
const PATIENCE: Duration = Duration::from_secs(3 * 3600);

/// Of both sides of the session.
struct Settings {
    streams: u8,
    stream_window: u32,
    session_window: u32,
    server_window: u32,
    frame: u32,
    send_buffer: usize,
    pipe: usize,
    /// The server has timeouts that no script comes near to.
    patient: bool,
    /// The session is given up after that time.
    lifetime: Option<Duration>,
}

impl Settings {
    fn new(input: &mut Input<'_>) -> Self {
        Self {
            streams: 1 + input.byte() % 3,
            stream_window: input.one_of(&[65_535, 0, 1, 100, 16_384, 1 << 20]),
            session_window: input.one_of(&[65_535, 1 << 20]),
            server_window: input.one_of(&[65_535, 1, 100, 16_384, 1 << 20]),
            frame: input.one_of(&[16_384, 1 << 20]),
            send_buffer: input.one_of(&[400 * 1024, 1, 1000, 16_384]),
            pipe: input.one_of(&[64 * 1024, 64, 1000]),
            patient: input.flag(),
            lifetime: match input.byte() {
                0..=191 => None,
                n => Some(Duration::from_millis(1 << (n & 15))),
            },
        }
    }
}

impl Settings {
    /// What a client sends on a stream, in bytes: a frame of HTTP/2 for each byte takes its time.
    fn longest(&self) -> usize {
        let smallest = self.stream_window.min(self.server_window);
        match (smallest, self.pipe) {
            (0..=100, _) | (_, 64) => 500,
            _ => 80_000,
        }
    }
}

/// What the application has seen.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    opened: usize,
    closed: usize,
}

impl Record {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
struct Echo(Record);

impl WebSocketHandler for Echo {
    async fn on_open(&mut self, _: &mut Connection) -> Result {
        self.0.lock().opened += 1;
        Ok(())
    }

    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.send(message).await?;
        Ok(())
    }

    async fn on_close(&mut self, _: &mut Connection, _: CloseEvent) -> Result {
        let mut seen = self.0.lock();
        seen.closed += 1;
        assert!(seen.closed <= seen.opened);
        Ok(())
    }
}

/// A session of HTTP/2 over a pipe.
struct Session {
    sender: SendRequest<Bytes>,
    client: JoinHandle<()>,
    server: JoinHandle<()>,
}

impl Session {
    async fn open(settings: &Settings, shutdown: &Shutdown, record: &Record) -> Self {
        let (client, server) = tokio::io::duplex(settings.pipe);
        let mut layer = WebSocketLayer::new("/", Echo(record.clone()))
            .max_control_frames_per_second(u32::MAX)
            .shutdown(shutdown);
        if settings.patient {
            let hour = Duration::from_secs(3600);
            layer = layer.heartbeat(None).progress_timeout(hour);
            layer = layer.idle_timeout(2 * hour);
        }
        let service = layer.into_service();
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .enable_connect_protocol()
            .initial_stream_window_size(settings.server_window)
            .max_frame_size(settings.frame)
            .max_send_buf_size(settings.send_buffer);
        let service = TowerToHyperService::new(service);
        let server = builder.serve_connection(TokioIo::new(server), service);
        let server = tokio::spawn(async move {
            let _ = server.await;
        });
        let (sender, client) = h2::client::Builder::new()
            .initial_window_size(settings.stream_window)
            .initial_connection_window_size(settings.session_window)
            .max_frame_size(settings.frame)
            .handshake(client)
            .await
            .expect("a session");
        let client = tokio::spawn(async move {
            let _ = client.await;
        });
        let mut sender = sender.ready().await.expect("a session");
        // The setting comes with the server's first frame.
        while !sender.is_extended_connect_protocol_enabled() {
            sleep(Duration::from_millis(1)).await;
            sender = sender.ready().await.expect("a session");
        }
        Self {
            sender,
            client,
            server,
        }
    }

    /// The client goes without a word.
    fn give_up(&self) {
        self.client.abort();
    }

    async fn end(&mut self) {
        self.give_up();
        // It may panic where assertions are on: h2 asserts that no stream is left when a connection
        // is dropped, which is wrong where the peer goes without a word
        // (https://github.com/hyperium/h2/issues/907).
        let _ = (&mut self.server).await;
    }
}

/// What a client does with one stream.
struct Script {
    bytes: Vec<u8>,
    chunks: Cycle,
    reads: Cycle,
    /// How the client ends what it sends.
    end: End,
}

#[derive(Clone, Copy)]
enum End {
    Stream,
    Nothing,
    Reset(Reason),
    Dropped,
}

impl Script {
    fn new(input: &mut Input<'_>, longest: usize) -> Self {
        let end = input.one_of(&[
            End::Stream,
            End::Nothing,
            End::Reset(Reason::CANCEL),
            End::Reset(Reason::PROTOCOL_ERROR),
            End::Dropped,
        ]);
        let chunks = Cycle::new(input.short());
        let reads = Cycle::new(input.short());
        let len = usize::from(input.u16() & 0x0FFF);
        let mut bytes = stream(&mut Input::new(input.take(len)), None);
        bytes.truncate(longest);
        Self {
            bytes,
            chunks,
            reads,
            end,
        }
    }
}

/// What came of a stream.
#[derive(Default)]
struct Conversation {
    sent: Vec<u8>,
    received: Vec<u8>,
    /// Everything was sent, and the server ended the stream behind what it had to say.
    whole: bool,
}

async fn conversation(sender: SendRequest<Bytes>, script: Script) -> Conversation {
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = http::Uri::from_static("http://localhost/");
    let version = http::HeaderValue::from_static("13");
    request
        .headers_mut()
        .insert("sec-websocket-version", version);
    let websocket = Protocol::from_static("websocket");
    request.extensions_mut().insert(websocket);

    let Ok(mut sender) = sender.ready().await else {
        return Conversation::default();
    };
    let Ok((response, output)) = sender.send_request(request, false) else {
        return Conversation::default();
    };
    let Script {
        bytes,
        chunks,
        reads,
        end,
    } = script;
    let reading = tokio::spawn(async move {
        let mut received = Vec::new();
        let reading = timeout(PATIENCE, async {
            let response = response.await.ok()?;
            assert_eq!(response.status(), StatusCode::OK);
            read(response.into_body(), reads, &mut received).await
        });
        let ended = reading.await.ok().flatten().is_some();
        (received, ended)
    });
    // Data may be sent ahead of the answer.
    let writing = timeout(PATIENCE, write(output, &bytes, chunks, end));
    let output = writing.await.ok().flatten();
    let (received, ended) = reading.await.expect("the reader does not panic");
    Conversation {
        sent: bytes,
        received,
        whole: ended && output.is_some(),
    }
}

/// The stream, if everything was sent and the stream was not reset. One that is dropped is reset,
/// unless it has ended.
async fn write(
    mut output: SendStream<Bytes>,
    bytes: &[u8],
    mut chunks: Cycle,
    end: End,
) -> Option<SendStream<Bytes>> {
    let mut steps = 0;
    let mut at = 0;
    while at < bytes.len() {
        steps += 1;
        let size = match chunks.next() {
            _ if steps > 300 => bytes.len(),
            n @ 0..=0xBF => 1 + usize::from(n),
            n @ 0xC0..=0xDF => 1 << (n & 0x0F),
            // DATA may be empty.
            0xE0 => {
                output.send_data(Bytes::new(), false).ok()?;
                continue;
            }
            n @ 0xE1..=0xEF => {
                sleep(Duration::from_millis(1 << (n & 0x0F))).await;
                continue;
            }
            _ => bytes.len(),
        };
        // Byte by byte only what is short: it takes its time.
        let size = size.max(bytes.len() / 100).min(bytes.len() - at);
        output.reserve_capacity(size);
        let capacity = Capacity(&mut output).await;
        let chunk = &bytes[at..][..size.min(capacity?)];
        output
            .send_data(Bytes::copy_from_slice(chunk), false)
            .ok()?;
        at += chunk.len();
    }
    match end {
        End::Stream => output.send_data(Bytes::new(), true).ok()?,
        End::Nothing => {}
        End::Reset(reason) => {
            output.send_reset(reason);
            return None;
        }
        End::Dropped => return None,
    }
    Some(output)
}

/// The room that a window has for DATA; `None` once the stream is no more.
struct Capacity<'a>(&'a mut SendStream<Bytes>);

impl Future for Capacity<'_> {
    type Output = Option<usize>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0.capacity() {
            0 => self.0.poll_capacity(cx).map(|capacity| capacity?.ok()),
            n => Poll::Ready(Some(n)),
        }
    }
}

/// Reads to the end, as fast as `reads` says. `None` if that was not an orderly one.
async fn read(mut body: RecvStream, mut reads: Cycle, received: &mut Vec<u8>) -> Option<()> {
    let mut owed = 0;
    loop {
        match reads.next() {
            // A while in which nothing is read.
            n @ 0xC0..=0xEF => sleep(Duration::from_millis(1 << (n & 0x0F))).await,
            // It is read, and the server is not told.
            0xF0..=0xFE => {}
            0xFF => return None,
            _ => {
                let _ = body.flow_control().release_capacity(owed);
                owed = 0;
            }
        }
        match body.data().await {
            Some(Ok(data)) => {
                owed += data.len();
                received.extend_from_slice(&data);
            }
            Some(Err(_)) => return None,
            None => return Some(()),
        }
    }
}

fn check(conversation: &Conversation, settings: &Settings) {
    let config = Config {
        max_control_rate: u32::MAX,
        ..Config::default()
    };
    let sent = run(&Arc::new(config), None, &conversation.sent, || usize::MAX);
    let messages = sent.events.iter().filter_map(|event| match event {
        Event::Message(message) => Some(message),
        Event::Control(..) | Event::Close(_) => None,
    });
    let messages: Vec<Message> = messages.cloned().collect();
    let output = Output::read(&conversation.received, None);
    assert!(
        messages.starts_with(&output.messages),
        "sent {messages:?}, echoed {:?}",
        output.messages
    );
    if conversation.whole {
        assert!(!output.torn, "the server has ended the stream in a frame");
        if settings.patient {
            assert_eq!(output.messages, messages, "not all is echoed");
        }
    }
}
