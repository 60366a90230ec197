//! The test kit's client that can misbehave, and stacks to misbehave against: real hyper, the real
//! layer, over pipes in memory (where time can be paused) or over TCP.

#[allow(dead_code, reason = "each program that includes it uses a part")]
#[path = "../../src/test/codec.rs"]
mod codec;

use std::convert::Infallible;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer, Service};
use tower_websocket::test::{RawClient, TestServer};
use tower_websocket::{
    CloseEvent, Connection, Error, Message, Result, Sender, Shutdown, WebSocketHandler,
    WebSocketLayer,
};

pub use self::codec::*;

/// A handshake that is right in every respect.
pub const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

// ---- handlers

/// Echoes, and writes down what it is told.
#[derive(Clone, Default)]
pub struct Recorder {
    log: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    pub fn note(&self, line: impl Into<String>) {
        self.log.lock().unwrap().push(line.into());
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits until `on_close` was called, and a little longer, in case it is called again.
    pub async fn closed(&self) -> Vec<String> {
        within(async {
            while !self.log().iter().any(|line| line.starts_with("close")) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.log()
    }
}

pub fn shown(message: &Message) -> String {
    match message.as_text() {
        Some(text) => format!("text {text}"),
        None => format!("binary {}", message.len()),
    }
}

pub fn shown_close(event: &CloseEvent) -> String {
    format!(
        "close {} {:?} {}",
        event.code(),
        event.cause(),
        if event.was_clean() {
            "clean"
        } else {
            "unclean"
        }
    )
}

impl WebSocketHandler for Recorder {
    async fn on_open(&mut self, _: &mut Connection) -> Result {
        self.note("open");
        Ok(())
    }

    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        self.note(shown(&message));
        conn.send(message).await?;
        Ok(())
    }

    async fn on_close(&mut self, _: &mut Connection, event: CloseEvent) -> Result {
        self.note(shown_close(&event));
        Ok(())
    }

    async fn on_error(&mut self, _: &mut Connection, error: Error) -> Result {
        self.note(format!("error {error}"));
        Ok(())
    }
}

/// Sends 0, 1, 2 and so on while the connection accepts them, and does `between` after each. Returns
/// how many were accepted; [`numbers`] receives them.
pub async fn send_numbers<F: Future<Output = ()>>(sender: Sender, between: impl Fn() -> F) -> u32 {
    let mut accepted = 0;
    while sender.send(accepted.to_string()).await.is_ok() {
        accepted += 1;
        between().await;
    }
    accepted
}

// ---- stacks

pub type Plain = tower::util::ServiceFn<
    fn(
        Request<Incoming>,
    ) -> std::future::Ready<std::result::Result<Response<Full<Bytes>>, Infallible>>,
>;

/// The inner service: answers with method and path, so that a test sees who answered.
pub fn plain() -> Plain {
    tower::service_fn(|request: Request<Incoming>| {
        let text = format!("inner {} {}", request.method(), request.uri().path());
        std::future::ready(Ok(Response::new(Full::from(text))))
    })
}

/// A layer at `/ws` around [`plain`], with what a test needs to look at it.
pub struct Stack<H> {
    pub layer: WebSocketLayer<H>,
    pub shutdown: Shutdown,
}

impl Stack<Recorder> {
    pub fn recorded() -> (Self, Recorder) {
        let recorder = Recorder::default();
        (Self::new(recorder.clone()), recorder)
    }
}

impl<H: WebSocketHandler> Stack<H> {
    pub fn new(handler: H) -> Self {
        let shutdown = Shutdown::new();
        Self {
            layer: WebSocketLayer::new("/ws", handler).shutdown(&shutdown),
            shutdown,
        }
    }

    pub fn with(mut self, change: impl FnOnce(WebSocketLayer<H>) -> WebSocketLayer<H>) -> Self {
        self.layer = change(self.layer);
        self
    }

    /// A connection to it, nothing sent yet.
    pub fn connect(&self) -> Client {
        http1(self.layer.layer(plain()))
    }

    /// A connection to it, open.
    pub async fn open(&self) -> Client {
        let mut client = self.connect();
        client.open("/ws").await;
        client
    }

    /// Nothing is left, and a fresh connection works.
    pub async fn is_clean(&self) {
        left(&self.shutdown, 0).await;
        let mut client = self.open().await;
        client.send(&frame(0x88, &[])).await;
        client.expect_close(None).await;
    }
}

/// hyper's http1 on one end of a pipe, the client on the other.
pub fn http1<S, B>(service: S) -> Client
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    TestServer::new(service).raw()
}

pub async fn serve_http1<IO, S, B>(io: IO, service: S)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let service = TowerToHyperService::new(service);
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades()
        .await;
}

/// hyper-util's auto builder on TCP, for what a pipe cannot show.
pub async fn tcp<S, B>(service: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let mut server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                server.http2().enable_connect_protocol();
                let _ = server
                    .serve_connection_with_upgrades(TokioIo::new(socket), service)
                    .await;
            });
        }
    });
    addr
}

// ---- the client

/// Speaks bytes and frames, right or wrong.
pub type Client<IO = DuplexStream> = RawClient<IO>;

pub async fn tcp_client(addr: SocketAddr) -> Client<TcpStream> {
    let io = TcpStream::connect(addr).await.unwrap();
    io.set_nodelay(true).unwrap();
    Client::new(io)
}

/// The head of a response.
pub type Head = Response<()>;

/// A header of it, as text.
pub trait Header {
    fn header(&self, name: &str) -> Option<&str>;
}

impl<B> Header for Response<B> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }
}

/// A response, and its body as text.
pub fn whole(response: Response<Bytes>) -> (Response<()>, String) {
    let body = String::from_utf8(response.body().to_vec()).unwrap();
    (response.map(drop), body)
}

/// Receives the messages of [`send_numbers`] up to the Close frame: all of them, in order and once.
/// Calls `each` with the count behind every one of them, and returns it.
pub async fn numbers(client: &mut Client, mut each: impl FnMut(u32)) -> u32 {
    let mut received = 0u32;
    loop {
        let frame = client.frame().await.expect("a frame");
        if frame.first == 0x88 {
            return received;
        }
        assert_eq!(frame.payload, received.to_string().into_bytes());
        received += 1;
        each(received);
    }
}

/// Waits until no more than so many connections are left.
pub async fn left(shutdown: &Shutdown, connections: usize) {
    within(async {
        while shutdown.connections() > connections {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// No test waits longer; with paused time this is as good as at once.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(120), future).await {
        Ok(value) => value,
        Err(_) => panic!("nothing happened for two minutes"),
    }
}

pub fn assert_lines(log: &[String], expected: &[&str])
where
    String: Debug,
{
    assert_eq!(log, expected);
}
