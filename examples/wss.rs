//! cargo run --example wss -- [--addr 127.0.0.1:3443]
//!
//! WebSockets over TLS, on HTTP/2 (RFC 8441) with browsers and on HTTP/1.1 with others: the chat
//! of `chat.rs` with its page at `/`, and an echo at `/echo`. The log tells the HTTP version of
//! every request. The certificate is made at start and signed by nobody: browsers
//! ask before they go on.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tower_websocket::{Connection, Message, Result, Shutdown, WebSocketHandler, WebSocketLayer};

#[path = "chat.rs"]
#[expect(dead_code, reason = "only its app is used here")]
mod chat;
mod first_request;

#[derive(Clone)]
struct Echo;

impl WebSocketHandler for Echo {
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.send(message).await?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), String> {
    tracing_subscriber::fmt().init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let addr = match &args[..] {
        [] => "127.0.0.1:3443",
        [flag, addr] if flag == "--addr" => addr,
        _ => return Err("usage: wss [--addr HOST:PORT]".to_owned()),
    };

    let app = chat::app(&Shutdown::new(), chat::topics().build())
        .layer(WebSocketLayer::new("/echo", Echo))
        .layer(from_fn(|request: Request, next: Next| async move {
            let (method, path) = (request.method(), request.uri().path());
            tracing::info!("{:?} {method} {path}", request.version());
            next.run(request).await
        }));
    let acceptor = acceptor().map_err(|e| format!("no certificate could be made: {e}"))?;
    let listener = TcpListener::bind(addr)
        .await
        .map_err(|e| format!("cannot listen on {addr}: {e}; choose another address with --addr"))?;
    let addr = listener.local_addr().map_err(|e| e.to_string())?;
    println!("listening on {addr}\nwss: open https://{addr}/ in a browser");
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let (acceptor, app) = (acceptor.clone(), app.clone());
                tokio::spawn(async move {
                    if let Err(e) = serve(socket, acceptor, app).await {
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

async fn serve(
    socket: TcpStream,
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
    // Without it browsers do not try: they open a connection of HTTP/1.1 for the WebSocket.
    server
        .http2()
        .timer(TokioTimer::new())
        .enable_connect_protocol();
    let (app, first) = first_request::noticed(app);
    let service = TowerToHyperService::new(app);
    let serving = server.serve_connection_with_upgrades(TokioIo::new(socket), service);
    first.or_drop(serving).await.unwrap_or(Ok(()))
}

/// A TLS server for `localhost` that prefers HTTP/2.
fn acceptor() -> Result<TlsAcceptor, Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()])?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
