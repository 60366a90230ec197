//! cargo run -- [--addr 127.0.0.1:3444] [--heartbeat SECONDS]
//!
//! WebSockets over HTTP/1.1, HTTP/2 (RFC 8441) and HTTP/3 (RFC 9220): the same handler on one port
//! number, TCP and UDP. `/echo` echoes, `/` tells which version it was asked with, and the log says
//! how every connection ends. The certificate is made at start and signed by nobody.
//!
//!     curl -ki https://127.0.0.1:3444/      # the header `alt-svc` names the door of HTTP/3
//!     curl -ki --http3-only https://127.0.0.1:3444/      # where curl was built with it
//!     ../../tests/peers/http3.sh            # aioquic as the client
//!
//! An experiment: QUIC is quinn's, HTTP/3 that of the crate `http3`, which is young. (`h3` 0.0.8 refuses
//! `:protocol = websocket`; `http3` 0.2 needs a newer Rust than this package.)
//!
//! What is particular to HTTP/3, and where:
//! - `requests.rs`: a CONNECT in early data (0-RTT) gets 425; the stream goes to the layer by
//!   `Upgrade` once the 200 was sent.
//! - `stream.rs`, `quic.rs`: a FIN follows the Close frame, and a stream that is dropped before it is
//!   reset (RESET_STREAM). One that the client resets is code 1006 to the handler.
//! - `frames.rs`: what `http3` may be made to buffer.
//! - here: `Alt-Svc`, quinn's limits, its idle time-out beside the layer's heartbeat. A client that
//!   changes its address (connection migration) keeps its WebSockets; quinn sees to that.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, Request, Version, header};
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, IdleTimeout, TransportConfig, VarInt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tower::util::MapResponseLayer;
use tower_websocket::{
    CloseEvent, Connection, Message, Result, Shutdown, WebSocketHandler, WebSocketLayer,
};

#[path = "../../first_request/mod.rs"]
mod first_request;
mod frames;
mod quic;
mod requests;
mod stream;

/// An HTTP/3 connection on which nothing comes ends after this. The layer's heartbeat finds a dead peer
/// in 40 s and says so to the handler: it has to be first. The shorter of both sides' time-outs holds,
/// 30 s with most clients, and every ping and pong begins it anew: so the heartbeat (20 s of silence)
/// has to be shorter than that.
const QUIC_IDLE: VarInt = VarInt::from_u32(60_000);

/// What a client may send ahead on one stream: as much as the layer reads at once.
const STREAM_WINDOW: u32 = 64 * 1024;

/// Requests and WebSockets at a time on one connection, as RFC 9114 §6.1 asks.
const STREAMS: u32 = 100;

/// Connections at a time; further ones are refused.
const CONNECTIONS: usize = 10_000;

#[derive(Clone)]
struct Echo;

impl WebSocketHandler for Echo {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        tracing::info!("{} open over {:?}", conn.id(), conn.request().version);
        Ok(())
    }

    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.send(message).await?;
        Ok(())
    }

    async fn on_close(&mut self, conn: &mut Connection, event: CloseEvent) -> Result {
        let (code, cause) = (event.code(), event.cause());
        tracing::info!("{} closed with {} by {cause:?}", conn.id(), u16::from(code));
        Ok(())
    }
}

/// Every version's service.
fn app(heartbeat: Duration, shutdown: &Shutdown, port: u16) -> Router {
    let alt_svc = HeaderValue::try_from(format!("h3=\":{port}\"; ma=3600"));
    let alt_svc = alt_svc.expect("only digits are put in");
    let websocket = WebSocketLayer::new("/echo", Echo)
        .heartbeat(heartbeat)
        .shutdown(shutdown);
    Router::new()
        .route("/", get(async |version: Version| format!("{version:?}\n")))
        .layer(websocket)
        .layer(MapResponseLayer::new(
            move |mut response: axum::response::Response| {
                // Tells those who come over TCP. Over HTTP/3 it keeps the entry fresh.
                response
                    .headers_mut()
                    .insert(header::ALT_SVC, alt_svc.clone());
                response
            },
        ))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().init();
    let (mut addr, mut heartbeat) = (SocketAddr::from(([127, 0, 0, 1], 3444)), 20);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or(format!("{arg} needs a value"))?;
        match &*arg {
            "--addr" => addr = value.parse()?,
            "--heartbeat" => heartbeat = value.parse::<u64>()?.max(1),
            _ => return Err("usage: [--addr IP:PORT] [--heartbeat SECONDS]".into()),
        }
    }

    let (certificate, key) = certificate()?;
    let tls = |protocols: &[&[u8]]| {
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.clone_key())?;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok::<_, Box<dyn Error>>(config)
    };
    let acceptor = TlsAcceptor::from(Arc::new(tls(&[b"h2", b"http/1.1"])?));
    let (tcp, udp) = listen(addr, &quic(tls(&[b"h3"])?)?)
        .await
        .map_err(|e| format!("cannot listen on {addr}: {e}; choose another address with --addr"))?;
    let addr = tcp.local_addr()?;
    println!("listening on {addr}");

    let shutdown = Shutdown::new();
    let app = app(Duration::from_secs(heartbeat), &shutdown, addr.port());
    tokio::spawn(serve_quic(udp.clone(), app.clone(), shutdown.clone()));
    tokio::select! {
        () = serve_tcp(tcp, acceptor, app) => {}
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    println!("{:?}", shutdown.drain(Duration::from_secs(5)).await);
    udp.close(VarInt::from_u32(0x100), b"H3_NO_ERROR");
    udp.wait_idle().await;
    Ok(())
}

/// TCP and UDP on one number. Of port 0 the system makes one that is free for TCP, which UDP may have in
/// use: then another.
async fn listen(
    addr: SocketAddr,
    quic: &quinn::ServerConfig,
) -> std::io::Result<(TcpListener, Endpoint)> {
    let mut tries = if addr.port() == 0 { 10 } else { 1 };
    loop {
        let tcp = TcpListener::bind(addr).await?;
        tries -= 1;
        match Endpoint::server(quic.clone(), tcp.local_addr()?) {
            Err(_) if tries > 0 => {}
            udp => return Ok((tcp, udp?)),
        }
    }
}

/// HTTP/3, until the endpoint is closed.
async fn serve_quic(udp: Endpoint, app: Router, shutdown: Shutdown) {
    while let Some(incoming) = udp.accept().await {
        if udp.open_connections() >= CONNECTIONS {
            incoming.refuse();
            continue;
        }
        let (app, shutdown) = (app.clone(), shutdown.clone());
        tokio::spawn(async move {
            let peer = incoming.remote_address();
            // Requests in early data are answered before the handshake is complete. That the server
            // side can always do so is quinn's word.
            let connection = match incoming.accept().map(quinn::Connecting::into_0rtt) {
                Ok(Ok((connection, _))) => connection,
                Ok(Err(_)) => return,
                Err(e) => return tracing::debug!("{peer}: {e}"),
            };
            if let Err(e) = requests::serve(connection, app, shutdown).await {
                tracing::debug!("{peer}: {e}");
            }
        });
    }
}

fn quic(mut tls: ServerConfig) -> Result<quinn::ServerConfig, Box<dyn Error>> {
    // All or nothing: the only values that QUIC has. 0 refuses early data of any kind.
    tls.max_early_data_size = u32::MAX;
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(QUIC_IDLE)))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS))
        // Control, the two of QPACK, and those of kinds that are yet to come.
        .max_concurrent_uni_streams(VarInt::from_u32(8))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        // So that a handler that does not read never stops another one of the same client.
        .receive_window(VarInt::from_u32(STREAM_WINDOW * (STREAMS + 8)))
        .send_window(1024 * 1024)
        .datagram_receive_buffer_size(None);
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// HTTP/1.1 and HTTP/2.
async fn serve_tcp(tcp: TcpListener, acceptor: TlsAcceptor, app: Router) {
    loop {
        match tcp.accept().await {
            Ok((socket, peer)) => {
                let (acceptor, app) = (acceptor.clone(), app.clone());
                tokio::spawn(async move {
                    if let Err(e) = serve_tls(socket, peer, acceptor, app).await {
                        tracing::debug!("{peer}: {e}");
                    }
                });
            }
            Err(e) => {
                // Out of descriptors, most likely: those in use come back.
                tracing::warn!("accept: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_tls(
    socket: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    app: Router,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    socket.set_nodelay(true)?;
    let socket = tokio::time::timeout(Duration::from_secs(10), acceptor.accept(socket)).await??;
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .max_buf_size(64 * 1024);
    server
        .http2()
        .timer(TokioTimer::new())
        .enable_connect_protocol();
    let app = tower::ServiceBuilder::new()
        .map_request(move |mut request: Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(peer);
            request
        })
        .service(app);
    let (app, first) = first_request::noticed(app);
    let service = TowerToHyperService::new(app);
    let serving = server.serve_connection_with_upgrades(TokioIo::new(socket), service);
    first.or_drop(serving).await.unwrap_or(Ok(()))
}

fn certificate() -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()])?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    Ok((made.cert.der().clone(), key))
}
