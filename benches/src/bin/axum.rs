//! `axum::extract::ws`: `axum [--addr HOST:PORT] [--tuned] [--batched]`.
//!
//! Without flags as its documentation shows it. `--tuned` has the read and write buffers that
//! suit small messages and many connections. `--batched` also flushes by hand, once no more
//! messages are there to answer.
//!
//! `/broadcast` is the idiom of axum's chat example: a `tokio::sync::broadcast` channel, and for each
//! connection a task that sends what comes from it. A reader that the channel has overtaken goes on with
//! what is left.

use std::io;

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tower_websocket_benches::{echo, echo_batched, known, run};

/// The default of 128 KiB is zeroed before each read and kept by each connection.
const TUNED: usize = 4 * 1024;
/// Messages that the channel of `/broadcast` holds, as many as a queue of ours.
const CHANNEL: usize = 128;

fn main() -> io::Result<()> {
    run(|listener, flags| async move {
        let [tuned, batched] = known(["--tuned", "--batched"], &flags)?;
        let upgrade =
            move |upgrade: WebSocketUpgrade| async move { accept(upgrade, tuned, batched) };
        let listener = listener.tap_io(|socket| socket.set_nodelay(true).expect("TCP_NODELAY"));
        let all = broadcast::Sender::new(CHANNEL);
        let chat = move |upgrade: WebSocketUpgrade| {
            let all = all.clone();
            async move { with_buffers(upgrade, tuned).on_upgrade(|socket| chat(socket, all)) }
        };
        let router = Router::new().route("/echo", any(upgrade));
        axum::serve(listener, router.route("/broadcast", any(chat))).await
    })
}

/// One subscribes, sends and receives: both halves, a task each.
async fn chat(socket: WebSocket, all: broadcast::Sender<Message>) {
    let (mut sink, mut stream) = socket.split();
    let mut messages = all.subscribe();
    let sending = tokio::spawn(async move {
        loop {
            let message = match messages.recv().await {
                Ok(message) => message,
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            if sink.send(message).await.is_err() {
                return;
            }
        }
    });
    while let Some(Ok(message)) = stream.next().await {
        if is_data(&message) {
            let _ = all.send(message);
        }
    }
    sending.abort();
}

fn with_buffers(upgrade: WebSocketUpgrade, tuned: bool) -> WebSocketUpgrade {
    if tuned {
        upgrade.read_buffer_size(TUNED).write_buffer_size(TUNED)
    } else {
        upgrade
    }
}

fn accept(upgrade: WebSocketUpgrade, tuned: bool, batched: bool) -> Response {
    let upgrade = with_buffers(upgrade, tuned);
    if batched {
        upgrade.on_upgrade(|socket| echo_batched(socket, is_data))
    } else {
        upgrade.on_upgrade(|socket| echo(socket, is_data))
    }
}

fn is_data(message: &Message) -> bool {
    matches!(message, Message::Text(_) | Message::Binary(_))
}
