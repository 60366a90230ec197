//! sockudo-ws: `sockudo [--addr HOST:PORT] [--batched] [--deflate]`.
//!
//! Without flags as its documentation shows it with axum. `--batched` flushes by hand, once no
//! more messages are there to answer. `--deflate` compresses every message at level 6 and keeps no
//! context.

use std::io;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, StatusCode, header};
use axum::routing::any;
use axum::serve::ListenerExt;
use hyper_util::rt::TokioIo;
use sockudo_ws::deflate::{DeflateConfig, negotiate_server_deflate};
use sockudo_ws::handshake::generate_accept_key;
use sockudo_ws::{CompressedWebSocketStream, Config, Message, WebSocketStream};
use tower_websocket_benches::{echo, echo_batched, known, run};

fn main() -> io::Result<()> {
    run(|listener, flags| async move {
        let [batched, deflate] = known(["--batched", "--deflate"], &flags)?;
        let accept = move |request: Request| async move { accept(request, batched, deflate) };
        let listener = listener.tap_io(|socket| socket.set_nodelay(true).expect("TCP_NODELAY"));
        axum::serve(listener, Router::new().route("/echo", any(accept))).await
    })
}

fn accept(request: Request, batched: bool, deflate: bool) -> Response<Body> {
    let header = |name| {
        let value = request.headers().get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let mut response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header(
            header::SEC_WEBSOCKET_ACCEPT,
            generate_accept_key(header(header::SEC_WEBSOCKET_KEY)),
        );
    let policy = DeflateConfig {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        compression_threshold: 0,
        ..DeflateConfig::default()
    };
    let agreed = deflate
        .then(|| negotiate_server_deflate(header(header::SEC_WEBSOCKET_EXTENSIONS), &policy))
        .flatten();
    if let Some(agreed) = &agreed {
        response = response.header(
            header::SEC_WEBSOCKET_EXTENSIONS,
            agreed.to_response_header(),
        );
    }
    tokio::spawn(async move {
        let Ok(socket) = hyper::upgrade::on(request).await else {
            return;
        };
        let (socket, config) = (TokioIo::new(socket), Config::default());
        if let Some(agreed) = agreed {
            let socket = CompressedWebSocketStream::server(socket, config, agreed.config);
            return echo(socket, is_data).await;
        }
        let socket = WebSocketStream::server(socket, config);
        if batched {
            echo_batched(socket, is_data).await;
        } else {
            echo(socket, is_data).await;
        }
    });
    response.body(Body::empty()).expect("a response")
}

fn is_data(message: &Message) -> bool {
    matches!(message, Message::Text(_) | Message::Binary(_))
}
