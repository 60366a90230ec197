//! What the servers have in common: the flags, the runtime, the line that says where; hyper for
//! those that are used behind it, and the two ways to echo on a stream that is a sink.

/// The frames of the tests' client. The hot paths, both floors (`frames`) and the replies that `load` reads, have
/// their own: a copy of each payload would be measured.
#[path = "../../src/test/codec.rs"]
pub mod codec;
pub mod frames;
pub mod quiet;

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// What stops a connection.
pub type Fault = Box<dyn Error + Send + Sync>;

/// The frame every server is run in: one thread, and a listener on `--addr`.
///
/// `serve` gets the listener and the flags that are not `--addr`. With `--workers N` as the first
/// of them, the runtime is tokio's `multi_thread` with so many, which look at the queue of all for every second task
/// with `--fair 2` behind it; with `--threads N`, there are so many of
/// one thread each, which share the port and nothing else.
///
/// # Panics
///
/// If there is no runtime or no such address.
pub fn run<F>(
    serve: impl FnOnce(TcpListener, Vec<String>) -> F + Clone + Send + 'static,
) -> io::Result<()>
where
    F: Future<Output = io::Result<()>>,
{
    let (addr, mut flags) = flags();
    let mut addr = addr.parse().map_err(io::Error::other)?;
    let mut number = |flag: &str| -> io::Result<Option<usize>> {
        if flags.first().is_none_or(|first| first != flag) {
            return Ok(None);
        }
        let number = flags.get(1).and_then(|n| n.parse().ok());
        let number = number.ok_or_else(|| unknown(&format!("{flag} without a number")))?;
        flags.drain(..2);
        Ok(Some(number))
    };
    let (workers, fair) = (number("--workers")?, number("--fair")?);
    let threads = number("--threads")?;
    let mut others = threads.unwrap_or(1);
    loop {
        let mut builder = runtime::Builder::new_current_thread();
        if let Some(workers) = workers {
            builder = runtime::Builder::new_multi_thread();
            builder.worker_threads(workers);
        }
        if let Some(fair) = fair {
            builder.global_queue_interval(fair as u32);
        }
        let runtime = builder.enable_all().build()?;
        let listener = runtime.block_on(async { listen(addr, threads.is_some()) })?;
        // If the port was 0, the others listen on the one that the first has got.
        addr = listener.local_addr()?;
        let (serve, flags) = (serve.clone(), flags.clone());
        others -= 1;
        if others == 0 {
            println!("listening on {addr}");
            return runtime.block_on(serve(listener, flags));
        }
        thread::spawn(move || runtime.block_on(serve(listener, flags)));
    }
}

fn listen(addr: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(shared)?;
    socket.bind(addr)?;
    socket.listen(1024)
}

/// The value of `--addr`, and all other arguments.
pub fn flags() -> (String, Vec<String>) {
    let mut addr = "127.0.0.1:0".to_owned();
    let mut flags = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--addr" {
            addr = args.next().unwrap_or(addr);
        } else {
            flags.push(arg);
        }
    }
    (addr, flags)
}

/// How a server is reached. The default is HTTP/1.1 without timeouts, as the documentation of most
/// peers shows it.
#[derive(Clone, Default)]
pub struct Server {
    /// Behind hyper-util's auto server with the settings of `examples/echo.rs`: it looks at the first
    /// bytes for HTTP/2, which may open WebSockets too, and a client has 10 s to send a head.
    pub auto: bool,
    /// Over TLS.
    pub tls: Option<TlsAcceptor>,
}

impl Server {
    /// Serves each connection in a task of its own.
    pub async fn serve<S, B>(self, listener: TcpListener, service: S) -> io::Result<()>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error: Into<Fault>, Future: Send>
            + Clone
            + Send
            + 'static,
        B: Body<Data: Send, Error: Into<Fault>> + Send + 'static,
    {
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let service = service.clone();
            match (self.tls.clone(), self.auto) {
                (None, false) => tokio::spawn(http1(socket, service)),
                (None, true) => tokio::spawn(auto(socket, service)),
                (Some(tls), is_auto) => tokio::spawn(async move {
                    match tls.accept(socket).await {
                        Ok(stream) if is_auto => auto(stream, service).await,
                        Ok(stream) => http1(stream, service).await,
                        Err(_) => {}
                    }
                }),
            };
        }
    }
}

// A client that leaves is none of a benchmark's business: nobody looks at the errors of a connection.

async fn http1<IO, S, B>(io: IO, service: S)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<Fault>, Future: Send> + Send,
    B: Body<Data: Send, Error: Into<Fault>> + Send + 'static,
{
    let serving = conn::http1::Builder::new().serve_connection(TokioIo::new(io), service);
    let _ = serving.with_upgrades().await;
}

async fn auto<IO, S, B>(io: IO, service: S)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<Fault>, Future: Send>
        + Send
        + 'static,
    B: Body<Data: Send, Error: Into<Fault>> + Send + 'static,
{
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .max_buf_size(64 * 1024);
    server.http2().enable_connect_protocol();
    let io = TokioIo::new(io);
    let _ = server.serve_connection_with_upgrades(io, service).await;
}

/// With a certificate of its own, which `load` does not look at.
///
/// # Panics
///
/// If there is no randomness.
pub fn tls() -> TlsAcceptor {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key);
    TlsAcceptor::from(Arc::new(config.expect("a key that fits")))
}

/// Serves a function that answers at once.
pub async fn serve_http<B>(
    listener: TcpListener,
    server: Server,
    answer: impl Fn(Request<Incoming>) -> Result<Response<B>, Fault> + Clone + Send + 'static,
) -> io::Result<()>
where
    B: Body<Data: Send, Error: Into<Fault>> + Send + 'static,
{
    let service = service_fn(move |request| std::future::ready(answer(request)));
    server.serve(listener, service).await
}

/// Sends back what comes, each message by itself, as the documentation of all peers shows it.
pub async fn echo<M, E>(
    mut socket: impl Stream<Item = Result<M, E>> + Sink<M> + Unpin,
    is_data: impl Fn(&M) -> bool,
) {
    while let Some(Ok(message)) = socket.next().await {
        if is_data(&message) && socket.send(message).await.is_err() {
            return;
        }
    }
}

/// The same, but flushed by hand: only when no more messages are there to answer.
pub async fn echo_batched<M, E>(
    mut socket: impl Stream<Item = Result<M, E>> + Sink<M> + Unpin,
    is_data: impl Fn(&M) -> bool,
) {
    while let Some(Ok(message)) = socket.next().await {
        let mut next = Some(message);
        while let Some(message) = next {
            if is_data(&message) && socket.feed(message).await.is_err() {
                return;
            }
            next = match socket.next().now_or_never() {
                Some(Some(Ok(message))) => Some(message),
                Some(_) => return,
                None => None,
            };
        }
        if socket.flush().await.is_err() {
            return;
        }
    }
}

/// Takes a flag and its value out of the flags.
///
/// # Errors
///
/// The flag is there, and no value.
pub fn value(name: &str, flags: &mut Vec<String>) -> io::Result<Option<String>> {
    let Some(at) = flags.iter().position(|flag| flag == name) else {
        return Ok(None);
    };
    if at + 1 == flags.len() {
        return Err(unknown(&format!("{name} without a value")));
    }
    Ok(flags.drain(at..at + 2).nth(1))
}

/// Connections, and rooms, of the workload with many rooms, whose first path is `/rooms`.
pub const ROOMS: usize = 10_000;

/// Rooms that a connection is in, and members that a room has.
pub const MEMBERS: usize = 10;

/// The rooms of connection `i`: first its own, to which it publishes.
pub fn rooms(i: usize) -> impl Iterator<Item = usize> {
    (0..MEMBERS).map(move |j| (i + j * (ROOMS / MEMBERS)) % ROOMS)
}

/// Finds out which of the flags that a server knows are there.
pub fn known<const N: usize>(names: [&str; N], flags: &[String]) -> io::Result<[bool; N]> {
    match flags.iter().find(|flag| !names.contains(&&***flag)) {
        Some(flag) => Err(unknown(flag)),
        None => Ok(names.map(|name| flags.iter().any(|flag| flag == name))),
    }
}

/// What a server says to a flag it does not know.
pub fn unknown(flag: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("unknown flag {flag}"))
}

/// The request of a plain client; `{host}` is to be replaced.
pub const REQUEST: &str = "GET /echo HTTP/1.1\r\n\
    Host: {host}\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n";

/// What a browser adds to it.
pub const BROWSER: &str = "Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Origin: http://{host}\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en-US;q=0.9,en;q=0.8\r\n\
    Cookie: session=5f2c1f7b8d9e4a3f8c6b7a5d4e3f2a1b; theme=dark; consent=2026-01-01\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
    Sec-Fetch-Dest: websocket\r\n\
    Sec-Fetch-Mode: websocket\r\n";

/// The header that proves an answer to [`REQUEST`] (RFC 6455 §1.3).
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The whole answer, as the floor gives it.
pub const RESPONSE: &str = "HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
