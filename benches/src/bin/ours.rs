//! The crate as its users run it: `ours [--addr HOST:PORT] [--recv|--stream] [--axum]`.
//!
//! Echo by callbacks, or pull style (`--recv`), or on a tungstenite stream (`--stream`);
//! behind hyper with the settings of `examples/echo.rs`, or behind `axum::serve` (`--axum`).

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{Layer, service_fn};
use tower_websocket::{Connection, Message, Result, WebSocketHandler, WebSocketLayer, types};
use tower_websocket_benches::{run, unknown};

#[derive(Clone)]
struct Echo;

impl WebSocketHandler for Echo {
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.send(message).await?;
        Ok(())
    }
}

fn main() -> io::Result<()> {
    run(|listener, flags| async move {
        let (mut style, mut axum) = ("--callbacks".to_owned(), false);
        for flag in flags {
            match &*flag {
                "--callbacks" | "--recv" | "--stream" => style = flag,
                "--axum" => axum = true,
                _ => return Err(unknown(&flag)),
            }
        }
        match &*style {
            "--recv" => {
                let recv = |mut conn: Connection| async move {
                    while let Some(message) = conn.recv().await? {
                        conn.send(message).await?;
                    }
                    Ok(())
                };
                serve(WebSocketLayer::from_fn("/echo", recv), listener, axum).await
            }
            "--stream" => {
                let stream = WebSocketLayer::stream("/echo", |mut socket, _| async move {
                    while let Some(message) = socket.next().await {
                        let message = message?;
                        if message.is_text() || message.is_binary() {
                            socket.send(message).await?;
                        }
                    }
                    Ok(())
                });
                serve(stream, listener, axum).await
            }
            _ => serve(WebSocketLayer::new("/echo", Echo), listener, axum).await,
        }
    })
}

async fn serve<E: types::Endpoint>(
    layer: WebSocketLayer<E>,
    listener: TcpListener,
    axum: bool,
) -> io::Result<()> {
    if axum {
        let listener = listener.tap_io(|socket| socket.set_nodelay(true).expect("TCP_NODELAY"));
        return axum::serve(listener, Router::new().layer(layer)).await;
    }
    let service = TowerToHyperService::new(layer.layer(service_fn(plain)));
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let service = service.clone();
        tokio::spawn(async move {
            let mut server = auto::Builder::new(TokioExecutor::new());
            server
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .max_buf_size(64 * 1024);
            let io = TokioIo::new(socket);
            // A client that leaves is none of a benchmark's business.
            let _ = server.serve_connection_with_upgrades(io, service).await;
        });
    }
}

async fn plain(_: Request<Incoming>) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("plain\n")))
}
