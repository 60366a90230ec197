//! cargo run --example unix_socket -- [--path /tmp/tower-websocket.sock]
//!
//! WebSockets over a Unix domain socket, for clients on the same machine: a proxy in front, an agent, a
//! command line. hyper serves any stream, so that the layer needs nothing for it. Try it with Python's
//! `websockets`, or curl:
//!
//!     python3 -c '
//!     from websockets.sync.client import unix_connect
//!     with unix_connect("/tmp/tower-websocket.sock", "ws://localhost/echo") as ws:
//!         ws.send("hello"); print(ws.recv())'
//!     curl --unix-socket /tmp/tower-websocket.sock http://localhost/
//!
//! nginx: `proxy_pass http://unix:/tmp/tower-websocket.sock:;`

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tower::{Layer, service_fn};
use tower_websocket::{Connection, Message, Result, Shutdown, WebSocketHandler, WebSocketLayer};

#[derive(Clone)]
struct Echo;

impl WebSocketHandler for Echo {
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.send(message).await?;
        Ok(())
    }
}

async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("an echo listens at /echo\n")))
}

/// Listens at `path`, where a server that was killed may have left its socket. Only this user can
/// connect, but for the moment until the mode is set: where that counts, let nobody else enter the
/// folder.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::other("there is a file that is no socket"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        Ok(_) => fs::remove_file(path)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

#[tokio::main]
async fn main() -> Result<(), String> {
    tracing_subscriber::fmt().init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let path = match &args[..] {
        [] => Path::new("/tmp/tower-websocket.sock"),
        [flag, path] if flag == "--path" => Path::new(path),
        _ => return Err("usage: unix_socket [--path FILE]".to_owned()),
    };

    let shutdown = Shutdown::new();
    // No peer has an address here, so `max_connections_per_ip` would need one from `peer_addr`.
    let layer = WebSocketLayer::new("/echo", Echo)
        .max_connections(1_000)
        .shutdown(&shutdown);
    let service = TowerToHyperService::new(layer.layer(service_fn(answer)));

    let listener = listen(path).map_err(|e| format!("cannot listen at {}: {e}", path.display()))?;
    println!("listening at {}", path.display());
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    loop {
        let socket: UnixStream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => socket,
                Err(e) => {
                    // Out of descriptors, most likely: those in use come back.
                    tracing::warn!("accept: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            _ = &mut stop => break,
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(10))
            .max_buf_size(64 * 1024)
            .serve_connection(TokioIo::new(socket), service.clone())
            // Without it there is no way from HTTP to WebSocket.
            .with_upgrades();
        tokio::spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!("{e}");
            }
        });
    }
    let drained = shutdown.drain(Duration::from_secs(5)).await;
    println!("{drained:?}");
    fs::remove_file(path).map_err(|e| format!("cannot remove {}: {e}", path.display()))
}
