//! cargo run --example graceful_shutdown -- [--addr 127.0.0.1:3003] [--server axum|hyper]
//!
//! Goes down as Kubernetes and systemd want it: on SIGTERM the probe at `/ready` says 503, the
//! server goes on for as long as load balancers need to notice, and then HTTP requests and
//! WebSockets are finished, side by side. Try it with
//!
//!     python3 -m websockets ws://127.0.0.1:3003/echo      # and, elsewhere:
//!     pkill -TERM graceful
//!
//! In the pod:
//!
//!     readinessProbe: { httpGet: { path: /ready, port: 3003 }, periodSeconds: 2 }
//!     terminationGracePeriodSeconds: 30      # more than NOTICE + DEADLINE + 2 s

mod first_request;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Router, routing::get};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tower_websocket::{Connection, Message, Result, Shutdown, WebSocketHandler, WebSocketLayer};

/// How long load balancers may take to read from `/ready` that they should send nobody.
const NOTICE: Duration = Duration::from_secs(3);
/// What is not finished then is dropped.
const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Clone)]
struct Echo;

impl WebSocketHandler for Echo {
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.send(message).await?;
        Ok(())
    }
}

/// Ready when the process is told to stop, and the notice is over.
async fn stop(stopping: Arc<AtomicBool>) {
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return eprintln!("no signals can be received here: stopping at once");
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    stopping.store(true, Ordering::Relaxed);
    println!("stopping in {NOTICE:?}");
    tokio::time::sleep(NOTICE).await;
}

async fn ready(State(stopping): State<Arc<AtomicBool>>) -> StatusCode {
    if stopping.load(Ordering::Relaxed) {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().init();
    let (mut addr, mut hyper) = (SocketAddr::from(([127, 0, 0, 1], 3003)), false);
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        match (&*flag, args.next().as_deref()) {
            ("--addr", Some(value)) => addr = value.parse()?,
            ("--server", Some(value @ ("axum" | "hyper"))) => hyper = value == "hyper",
            _ => {
                return Err(
                    "usage: graceful_shutdown [--addr HOST:PORT] [--server axum|hyper]".into(),
                );
            }
        }
    }

    let shutdown = Shutdown::new();
    let stopping = Arc::new(AtomicBool::new(false));
    let app = Router::new()
        .route("/ready", get(ready))
        .with_state(stopping.clone())
        .layer(WebSocketLayer::new("/echo", Echo).shutdown(&shutdown));
    let listener = TcpListener::bind(addr).await?;
    println!("listening on {}", listener.local_addr()?);
    if hyper {
        serve_hyper(listener, app, &shutdown, stop(stopping)).await;
    } else {
        serve_axum(listener, app, &shutdown, stop(stopping)).await?;
    }
    Ok(())
}

async fn serve_axum(
    listener: TcpListener,
    app: Router,
    shutdown: &Shutdown,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    // axum finishes the requests, and does not know of WebSockets once they are open: so the drain
    // begins at the signal, and the server stops accepting when the drain has begun.
    let drain = tokio::spawn(shutdown.drain_on(stop, DEADLINE));
    let server = axum::serve(listener, app).with_graceful_shutdown(shutdown.started());
    let server = tokio::spawn(server.into_future());
    shutdown.started().await;
    // A request that does not end in time is not waited for.
    let (drained, _) = tokio::join!(drain, timeout(DEADLINE, server));
    println!("{:?}", drained.map_err(std::io::Error::other)?);
    Ok(())
}

async fn serve_hyper(
    listener: TcpListener,
    app: Router,
    shutdown: &Shutdown,
    stop: impl Future<Output = ()>,
) {
    let requests = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let socket = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let Ok((socket, _)) = socket else {
            // Out of descriptors, most likely: those in use come back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let mut server = auto::Builder::new(TokioExecutor::new());
        server.http2().enable_connect_protocol();
        let (service, first) = first_request::noticed(app.clone());
        let connection = server
            .serve_connection_with_upgrades(TokioIo::new(socket), TowerToHyperService::new(service))
            .into_owned();
        tokio::spawn(first.or_drop(requests.watch(connection)));
    }
    drop(listener);
    let finish = timeout(DEADLINE, requests.shutdown());
    let (drained, _) = tokio::join!(shutdown.drain(DEADLINE), finish);
    println!("{drained:?}");
}
