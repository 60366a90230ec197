//! `axum::extract::ws`: `axum [--addr HOST:PORT] [--tuned] [--batched]`.
//!
//! Without flags as its documentation shows it. `--tuned` has the read and write buffers that
//! suit small messages and many connections. `--batched` also flushes by hand, once no more
//! messages are there to answer.

use std::io;

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tower_websocket_benches::{run, unknown};

/// The default of 128 KiB is zeroed before each read and kept by each connection.
const TUNED: usize = 4 * 1024;

fn main() -> io::Result<()> {
    run(|listener, flags| async move {
        let (mut tuned, mut batched) = (false, false);
        for flag in flags {
            match &*flag {
                "--tuned" => tuned = true,
                "--batched" => batched = true,
                _ => return Err(unknown(&flag)),
            }
        }
        let upgrade =
            move |upgrade: WebSocketUpgrade| async move { accept(upgrade, tuned, batched) };
        let listener = listener.tap_io(|socket| socket.set_nodelay(true).expect("TCP_NODELAY"));
        axum::serve(listener, Router::new().route("/echo", any(upgrade))).await
    })
}

fn accept(mut upgrade: WebSocketUpgrade, tuned: bool, batched: bool) -> Response {
    if tuned {
        upgrade = upgrade.read_buffer_size(TUNED).write_buffer_size(TUNED);
    }
    if batched {
        upgrade.on_upgrade(echo_batched)
    } else {
        upgrade.on_upgrade(echo)
    }
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if is_data(&message) && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn echo_batched(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let mut next = Some(message);
        while let Some(message) = next {
            if is_data(&message) && socket.feed(message).await.is_err() {
                return;
            }
            next = match socket.next().now_or_never() {
                Some(Some(Ok(message))) => Some(message),
                Some(_) => return,
                None => None,
            };
        }
        if socket.flush().await.is_err() {
            return;
        }
    }
}

fn is_data(message: &Message) -> bool {
    matches!(message, Message::Text(_) | Message::Binary(_))
}
