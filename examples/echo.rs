//! cargo run --release --example echo -- [--addr 127.0.0.1:9001] [--workers N]
//!     [--max-message BYTES] [--any-origin] [--tls] [--deflate]
//!
//! The measuring stick: the target of conformance suites and benchmarks.
//! `/echo` by a handler, `/stream` by a tungstenite stream, `/` an ordinary HTTP route,
//! `/guarded` the same echo under a middleware that turns every response into 403.

mod first_request;

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tower::{Service, ServiceBuilder, service_fn};
use tower_websocket::{Connection, Deflate, Message, Result, WebSocketHandler, WebSocketLayer};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

#[derive(Clone)]
struct Echo;

impl WebSocketHandler for Echo {
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.send(message).await?;
        Ok(())
    }
}

struct Options {
    addr: SocketAddr,
    workers: Option<usize>,
    max_message: Option<usize>,
    any_origin: bool,
    tls: bool,
    deflate: bool,
}

impl Options {
    fn from_args() -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            addr: ([127, 0, 0, 1], 9001).into(),
            workers: None,
            max_message: None,
            any_origin: false,
            tls: false,
            deflate: false,
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match &*arg {
                "--addr" => options.addr = value()?.parse()?,
                "--workers" => options.workers = Some(value()?.parse::<usize>()?.max(1)),
                "--max-message" => options.max_message = Some(value()?.parse()?),
                "--any-origin" => options.any_origin = true,
                "--tls" => options.tls = true,
                "--deflate" => options.deflate = true,
                _ => return Err(format!("unknown argument {arg}").into()),
            }
        }
        Ok(options)
    }

    fn set<E>(&self, mut layer: WebSocketLayer<E>) -> WebSocketLayer<E> {
        if let Some(bytes) = self.max_message {
            layer = layer.max_message_size(bytes);
        }
        if self.any_origin {
            layer = layer.any_origin();
        }
        if self.deflate {
            // With all that a client may ask for, so that a suite can.
            layer = layer.deflate(
                Deflate::new()
                    .threshold(0)
                    .server_context_takeover(true)
                    .client_context_takeover(true),
            );
        }
        layer
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // Errors only, unless RUST_LOG says otherwise.
    let log = std::env::var("RUST_LOG").unwrap_or_else(|_| "error".to_owned());
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_filter(log.parse::<Targets>()?))
        .init();
    let options = Options::from_args()?;
    let mut runtime = match options.workers {
        Some(1) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if let Some(workers) = options.workers {
        runtime.worker_threads(workers);
    }
    if options.workers != Some(1) {
        // Of more than 256 connections that have something to do, some would wait several times as long as others.
        runtime.global_queue_interval(2);
    }
    runtime.enable_all().build()?.block_on(serve(options))
}

async fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let stream = WebSocketLayer::stream("/stream", |mut socket, _request| async move {
        while let Some(message) = socket.next().await {
            let message = message?;
            if message.is_text() || message.is_binary() {
                socket.send(message).await?;
            }
        }
        Ok(())
    });
    let service = ServiceBuilder::new()
        .layer(options.set(WebSocketLayer::new("/echo", Echo)))
        .layer(options.set(stream))
        .layer(options.set(WebSocketLayer::new("/guarded", Echo)))
        .service(service_fn(plain));
    let service = service_fn(move |request| forbid_guarded(service.clone(), request));

    let tls = options.tls.then(acceptor).transpose()?;
    let listener = TcpListener::bind(options.addr).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(e) => {
                // Out of descriptors, most likely: those in use come back.
                eprintln!("accept: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (service, tls) = (service.clone(), tls.clone());
        tokio::spawn(async move {
            if socket.set_nodelay(true).is_err() {
                return;
            }
            let (service, first) = first_request::noticed(service);
            let service = TowerToHyperService::new(service);
            let mut server = auto::Builder::new(TokioExecutor::new());
            // What a server on the open internet should set.
            server
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .max_buf_size(64 * 1024);
            server
                .http2()
                .timer(TokioTimer::new())
                .enable_connect_protocol();
            let served = if let Some(tls) = tls {
                let accepted = tokio::time::timeout(Duration::from_secs(10), tls.accept(socket));
                let Ok(Ok(socket)) = accepted.await else {
                    return;
                };
                let io = TokioIo::new(socket);
                let serving = server.serve_connection_with_upgrades(io, service);
                first.or_drop(serving).await
            } else {
                let io = TokioIo::new(socket);
                let serving = server.serve_connection_with_upgrades(io, service);
                first.or_drop(serving).await
            };
            match served {
                Some(Ok(())) => {}
                Some(Err(e)) => tracing::debug!("{e}"),
                None => tracing::debug!("no request came in time"),
            }
        });
    }
}

async fn plain(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::from("an echo server: /echo and /stream\n"));
    if request.uri().path() != "/" {
        *response.status_mut() = StatusCode::NOT_FOUND;
        *response.body_mut() = Full::from("not found\n");
    }
    Ok(response)
}

/// A middleware as clumsy as some are: changes the status of whatever comes, a 101 too.
async fn forbid_guarded<S, B>(
    mut inner: S,
    request: Request<Incoming>,
) -> Result<Response<B>, S::Error>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
{
    let guarded = request.uri().path().starts_with("/guarded");
    let mut response = inner.call(request).await?;
    if guarded {
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
    Ok(response)
}

fn acceptor() -> Result<TlsAcceptor, Box<dyn Error>> {
    let key = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()])?;
    let secret = PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], secret)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
