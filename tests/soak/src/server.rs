//! The server that is soaked: the stack of `examples/echo.rs` with a room, and counters.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpSocket;
use tokio::signal::unix::{SignalKind, signal};
use tower::{Layer, service_fn};
use tower_websocket::{
    CloseEvent, Connection, ConnectionId, Deflate, Message, Result, Sender, Shutdown,
    WebSocketHandler, WebSocketLayer,
};

/// Echoes to the sender; the room hears a broadcast every second.
#[derive(Clone, Default)]
struct Soak {
    room: Arc<Room>,
}

#[derive(Default)]
struct Room {
    members: Mutex<HashMap<ConnectionId, Sender>>,
    on_open: AtomicU64,
    on_close: AtomicU64,
    on_error: AtomicU64,
    /// Broadcasts that a member had no room for.
    skipped: AtomicU64,
}

impl Room {
    fn members(&self) -> MutexGuard<'_, HashMap<ConnectionId, Sender>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn broadcast(self: Arc<Self>) {
        for n in 0u64.. {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let message = Message::text(format!("room {n} {}", "so it goes, ".repeat(10)));
            for member in self.members().values() {
                if member.try_send(message.clone()).is_err() {
                    self.skipped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn stats(&self, shutdown: &Shutdown) -> String {
        let count = |n: &AtomicU64| n.load(Ordering::SeqCst);
        // Closed before opened: with a connection in between there are never too many closed.
        let closed = count(&self.on_close);
        format!(
            "on_open {}\non_close {closed}\non_error {}\nskipped {}\nmembers {}\nconnections {}\ntasks {}\n",
            count(&self.on_open),
            count(&self.on_error),
            count(&self.skipped),
            self.members().len(),
            shutdown.connections(),
            tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks(),
        )
    }
}

impl WebSocketHandler for Soak {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        self.room.on_open.fetch_add(1, Ordering::SeqCst);
        self.room.members().insert(conn.id(), conn.sender());
        Ok(())
    }

    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.send(message).await?;
        Ok(())
    }

    async fn on_close(&mut self, conn: &mut Connection, _: CloseEvent) -> Result {
        self.room.on_close.fetch_add(1, Ordering::SeqCst);
        self.room.members().remove(&conn.id());
        Ok(())
    }

    async fn on_error(&mut self, _: &mut Connection, _: tower_websocket::Error) -> Result {
        self.room.on_error.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Until SIGTERM.
pub async fn serve(max_connections: usize) -> std::result::Result<(), Box<dyn Error>> {
    // Whoever started us holds the other end: no server outlives its soak.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(3);
    });
    let shutdown = Shutdown::new();
    let soak = Soak::default();
    let room = soak.room.clone();
    tokio::spawn(room.clone().broadcast());
    let layer = WebSocketLayer::new("/soak", soak)
        .shutdown(&shutdown)
        .max_connections(max_connections)
        .heartbeat(Duration::from_secs(5))
        .close_timeout(Duration::from_secs(2))
        .deflate(Deflate::new());
    let stats = (room.clone(), shutdown.clone());
    let service = layer.layer(service_fn(move |_: Request<Incoming>| {
        let text = stats.0.stats(&stats.1);
        std::future::ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(
            text,
        ))))
    }));

    let socket = TcpSocket::new_v4()?;
    // The sockets of the connections inherit it. What the kernel took is what a client that does
    // not read is given time for: with the 4 MiB of Linux it would stay for four minutes.
    socket.set_send_buffer_size(64 * 1024)?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(4096)?;
    println!("listening on {}", listener.local_addr()?);
    let accepting = tokio::spawn(async move {
        loop {
            let Ok((socket, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                if socket.set_nodelay(true).is_err() {
                    return;
                }
                let mut server = auto::Builder::new(TokioExecutor::new());
                server
                    .http1()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(5))
                    .max_buf_size(64 * 1024);
                server
                    .http2()
                    .timer(TokioTimer::new())
                    .enable_connect_protocol();
                let io = TokioIo::new(socket);
                // What clients did wrong is theirs to count.
                let _ = server.serve_connection_with_upgrades(io, service).await;
            });
        }
    });

    signal(SignalKind::terminate())?.recv().await;
    let drained = shutdown.drain(Duration::from_secs(20)).await;
    accepting.abort();
    println!("closed {}\nforced {}", drained.closed(), drained.forced());
    print!("{}", room.stats(&shutdown));
    Ok(())
}
