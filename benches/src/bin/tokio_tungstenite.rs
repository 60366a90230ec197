//! tokio-tungstenite on the bare socket, with its own handshake and without an HTTP server:
//! `tokio_tungstenite [--addr HOST:PORT] [--tuned] [--batched] [--tls]`.
//!
//! Without flags as its documentation shows it. `--tuned` has buffers of 4 KiB instead of
//! 128 KiB. `--batched` also flushes by hand, once no more messages are there to answer.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};
use tower_websocket_benches::{echo, echo_batched, known, run};

fn main() -> io::Result<()> {
    run(|listener, flags| async move {
        let [tuned, batched, tls] = known(["--tuned", "--batched", "--tls"], &flags)?;
        let tls = tls.then(tower_websocket_benches::tls);
        let config = tuned.then(|| {
            WebSocketConfig::default()
                .read_buffer_size(4 * 1024)
                .write_buffer_size(4 * 1024)
        });
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let Some(tls) = tls.clone() else {
                tokio::spawn(serve(socket, config, batched));
                continue;
            };
            tokio::spawn(async move {
                if let Ok(socket) = tls.accept(socket).await {
                    serve(socket, config, batched).await;
                }
            });
        }
    })
}

async fn serve<IO>(io: IO, config: Option<WebSocketConfig>, batched: bool)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    match accept_async_with_config(io, config).await {
        Ok(socket) if batched => echo_batched(socket, is_data).await,
        Ok(socket) => echo(socket, is_data).await,
        Err(_) => {}
    }
}

fn is_data(message: &Message) -> bool {
    message.is_text() || message.is_binary()
}
