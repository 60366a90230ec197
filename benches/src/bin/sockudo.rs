//! sockudo-ws: `sockudo [--addr HOST:PORT] [--batched]`.
//!
//! Without flags as its documentation shows it with axum. `--batched` flushes by hand, once no
//! more messages are there to answer.

use std::io;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, StatusCode, header};
use axum::routing::any;
use axum::serve::ListenerExt;
use hyper_util::rt::TokioIo;
use sockudo_ws::handshake::generate_accept_key;
use sockudo_ws::{Config, Message, WebSocketStream};
use tower_websocket_benches::{echo, echo_batched, known, run};

fn main() -> io::Result<()> {
    run(|listener, flags| async move {
        let [batched] = known(["--batched"], &flags)?;
        let accept = move |request: Request| async move { accept(request, batched) };
        let listener = listener.tap_io(|socket| socket.set_nodelay(true).expect("TCP_NODELAY"));
        axum::serve(listener, Router::new().route("/echo", any(accept))).await
    })
}

fn accept(request: Request, batched: bool) -> Response<Body> {
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
    let key = key.and_then(|key| key.to_str().ok()).unwrap_or_default();
    let accept = generate_accept_key(key);
    tokio::spawn(async move {
        let Ok(socket) = hyper::upgrade::on(request).await else {
            return;
        };
        let socket = WebSocketStream::server(TokioIo::new(socket), Config::default());
        if batched {
            echo_batched(socket, is_data).await;
        } else {
            echo(socket, is_data).await;
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .body(Body::empty())
        .expect("a response")
}

fn is_data(message: &Message) -> bool {
    matches!(message, Message::Text(_) | Message::Binary(_))
}
