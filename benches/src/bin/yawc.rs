//! yawc: `yawc [--addr HOST:PORT] [--tuned] [--batched] [--deflate] [--pool]`.
//!
//! Without flags as its documentation shows it; it does not check that text is UTF-8 then.
//! `--tuned` checks it, as every other peer does, and has the buffers of its own benchmark:
//! 128 KiB to read and 64 KiB to write before it waits. `--batched` also flushes by hand, once
//! no more messages are there to answer. `--deflate` compresses every message at level 6 and
//! keeps no context; `--pool` shares the codecs and has the small buffers of the pool's example.

use std::convert::Infallible;
use std::io;

use futures_util::StreamExt;
use tower_websocket_benches::{Server, echo, echo_batched, known, run, serve_http};
use yawc::{CompressionLevel, DeflatePool, Frame, OpCode, Options, WebSocket};

fn main() -> io::Result<()> {
    run(|listener, flags| async move {
        let [tuned, batched, deflate, pool] =
            known(["--tuned", "--batched", "--deflate", "--pool"], &flags)?;
        // The limit is exclusive, and 1 MiB by default: one of the workloads.
        let mut options = Options::default().with_max_payload_read(64 << 20);
        if tuned {
            options = options
                .with_utf8()
                .with_read_buffer_capacity(128 * 1024)
                .with_backpressure_boundary(64 * 1024);
        }
        if deflate {
            options = options
                .with_compression_level(CompressionLevel::new(6))
                .with_compression_threshold(0)
                .server_no_context_takeover()
                .client_no_context_takeover();
        }
        if pool {
            options = options
                .with_utf8()
                .with_deflate_pool(DeflatePool::new(64))
                .with_read_buffer_capacity(1024)
                .with_write_buffer_capacity(1024);
        }
        serve_http(listener, Server::default(), move |mut request| {
            let (response, socket) =
                WebSocket::upgrade_with_options(&mut request, options.clone())?;
            tokio::spawn(async move {
                let Ok(socket) = socket.await else { return };
                let socket = socket.map(Ok::<_, Infallible>);
                if batched {
                    echo_batched(socket, is_data).await;
                } else {
                    echo(socket, is_data).await;
                }
            });
            Ok(response)
        })
        .await
    })
}

fn is_data(frame: &Frame) -> bool {
    matches!(frame.opcode(), OpCode::Text | OpCode::Binary)
}
