//! `axum::extract::ws`: `axum [--addr HOST:PORT] [--tuned] [--batched]`.
//!
//! Without flags as its documentation shows it. `--tuned` has the read and write buffers that
//! suit small messages and many connections. `--batched` also flushes by hand, once no more
//! messages are there to answer.

use std::io;

use axum::Router;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use tower_websocket_benches::{echo, echo_batched, known, run};

/// The default of 128 KiB is zeroed before each read and kept by each connection.
const TUNED: usize = 4 * 1024;

fn main() -> io::Result<()> {
    run(|listener, flags| async move {
        let [tuned, batched] = known(["--tuned", "--batched"], &flags)?;
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
        upgrade.on_upgrade(|socket| echo_batched(socket, is_data))
    } else {
        upgrade.on_upgrade(|socket| echo(socket, is_data))
    }
}

fn is_data(message: &Message) -> bool {
    matches!(message, Message::Text(_) | Message::Binary(_))
}
