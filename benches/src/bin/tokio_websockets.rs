//! tokio-websockets on the bare socket, with its own handshake and without an HTTP server:
//! `tokio_websockets [--addr HOST:PORT] [--tuned] [--batched]`.
//!
//! Without flags as most of its examples show it. `--tuned` does not split large frames and is
//! outside tokio's budget, as its own echo server for benchmarks. `--batched` also flushes by
//! hand, once no more messages are there to answer.

use std::io;

use tokio::net::TcpStream;
use tokio::task::unconstrained;
use tokio_websockets::{Config, Limits, Message, ServerBuilder};
use tower_websocket_benches::{echo, echo_batched, known, run};

fn main() -> io::Result<()> {
    run(|listener, flags| async move {
        let [tuned, batched] = known(["--tuned", "--batched"], &flags)?;
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            if tuned {
                tokio::spawn(unconstrained(serve(socket, true, batched)));
            } else {
                tokio::spawn(serve(socket, false, batched));
            }
        }
    })
}

async fn serve(socket: TcpStream, tuned: bool, batched: bool) {
    let mut builder = ServerBuilder::new();
    if tuned {
        builder = builder
            .config(Config::default().frame_size(usize::MAX))
            .limits(Limits::unlimited());
    }
    match builder.accept(socket).await {
        Ok((_, socket)) if batched => echo_batched(socket, is_data).await,
        Ok((_, socket)) => echo(socket, is_data).await,
        Err(_) => {}
    }
}

fn is_data(message: &Message) -> bool {
    message.is_text() || message.is_binary()
}
