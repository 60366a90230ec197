//! hyper-tungstenite: `hyper_tungstenite [--addr HOST:PORT] [--tuned] [--batched]`.
//!
//! Without flags as its documentation shows it. `--tuned` has buffers of 4 KiB instead of
//! 128 KiB. `--batched` also flushes by hand, once no more messages are there to answer.

use std::io;

use hyper_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};
use tower_websocket_benches::{Server, echo, echo_batched, known, run, serve_http};

fn main() -> io::Result<()> {
    run(|listener, flags| async move {
        let [tuned, batched] = known(["--tuned", "--batched"], &flags)?;
        let config = tuned.then(|| {
            WebSocketConfig::default()
                .read_buffer_size(4 * 1024)
                .write_buffer_size(4 * 1024)
        });
        serve_http(listener, Server::default(), move |request| {
            let (response, socket) = hyper_tungstenite::upgrade(request, config)?;
            tokio::spawn(async move {
                match socket.await {
                    Ok(socket) if batched => echo_batched(socket, is_data).await,
                    Ok(socket) => echo(socket, is_data).await,
                    Err(_) => {}
                }
            });
            Ok(response)
        })
        .await
    })
}

fn is_data(message: &Message) -> bool {
    message.is_text() || message.is_binary()
}
