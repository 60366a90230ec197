//! cargo run --example hyper -- [--addr 127.0.0.1:3002]
//!
//! No framework: hyper's HTTP/1.1 server and a tower stack with two mounts. `/clock` sends the time and
//! obeys its client, `/echo` repeats what it hears, everything else is answered by a function.
//!
//!     python3 -m websockets ws://127.0.0.1:3002/clock
//!     python3 -m websockets ws://127.0.0.1:3002/echo

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::time::interval;
use tower::ServiceBuilder;
use tower_websocket::{
    CloseCode, Connection, Message, Result, Shutdown, WebSocketHandler, WebSocketLayer,
    WebSocketOptions,
};

/// The pull style: one loop over whatever can happen.
async fn clock(mut conn: Connection) -> Result {
    let start = Instant::now();
    let mut period = interval(Duration::from_secs(1));
    conn.send("say `faster`, `slower` or `stop`").await?;
    loop {
        let message = tokio::select! {
            _ = period.tick() => {
                conn.send(format!("{:.1} s", start.elapsed().as_secs_f32())).await?;
                continue;
            }
            message = conn.recv() => message?,
        };
        let Some(message) = message else {
            return Ok(()); // the client has gone
        };
        period = match message.as_text() {
            Some("faster") => interval((period.period() / 2).max(Duration::from_millis(10))),
            Some("slower") => interval((period.period() * 2).min(Duration::from_secs(60))),
            Some("stop") => return Ok(()), // closes with 1000
            _ => return Ok(conn.close(CloseCode::UNSUPPORTED_DATA, "that is no word for a clock")?),
        };
    }
}

/// The callback style.
#[derive(Clone)]
struct Echo;

impl WebSocketHandler for Echo {
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.send(message).await?;
        Ok(())
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::from("a clock ticks at /clock\n"));
    if request.uri().path() != "/" {
        *response.status_mut() = StatusCode::NOT_FOUND;
        *response.body_mut() = Full::from("not found\n");
    }
    Ok(response)
}

#[tokio::main]
async fn main() -> Result<(), String> {
    tracing_subscriber::fmt().init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let addr = match &args[..] {
        [] => "127.0.0.1:3002",
        [flag, addr] if flag == "--addr" => addr,
        _ => return Err("usage: hyper [--addr HOST:PORT]".to_owned()),
    };

    let shutdown = Shutdown::new();
    // What both mounts have in common: a limit on connections, and who ends them.
    let options = WebSocketOptions::new()
        .max_connections(10_000)
        .shutdown(&shutdown);
    let service = ServiceBuilder::new()
        .layer(WebSocketLayer::from_fn("/clock", clock).options(&options))
        .layer(WebSocketLayer::new("/echo", Echo).options(&options))
        .service(tower::service_fn(answer));
    let service = TowerToHyperService::new(service);

    let listener = TcpListener::bind(addr)
        .await
        .map_err(|e| format!("cannot listen on {addr}: {e}; choose another address with --addr"))?;
    println!(
        "listening on {}",
        listener.local_addr().map_err(|e| e.to_string())?
    );
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    loop {
        let socket = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stop => break,
        };
        let (socket, peer) = match socket {
            Ok(accepted) => accepted,
            Err(e) => {
                // Out of descriptors, most likely: those in use come back.
                tracing::warn!("accept: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if let Err(e) = socket.set_nodelay(true) {
            tracing::debug!("{e}");
            continue;
        }
        let service = service.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            // Where the layer finds it, for the log and for limits per address.
            request.extensions_mut().insert(peer);
            service.call(request)
        });
        let connection = http1::Builder::new()
            // What a server on the open internet should set.
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(10))
            .max_buf_size(64 * 1024)
            .serve_connection(TokioIo::new(socket), service)
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
    Ok(())
}
