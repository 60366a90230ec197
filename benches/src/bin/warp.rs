//! warp: `warp [--addr HOST:PORT] [--batched]`.
//!
//! Without flags as its documentation shows it. `--batched` flushes by hand, once no more
//! messages are there to answer; its buffers cannot be chosen.

use std::io;

use tower_websocket_benches::{echo, echo_batched, known, run};
use warp::Filter;
use warp::ws::{Message, Ws};

fn main() -> io::Result<()> {
    run(|listener, flags| async move {
        let [batched] = known(["--batched"], &flags)?;
        let echoes = warp::path("echo").and(warp::ws()).map(move |ws: Ws| {
            ws.on_upgrade(move |socket| async move {
                if batched {
                    echo_batched(socket, is_data).await;
                } else {
                    echo(socket, is_data).await;
                }
            })
        });
        warp::serve(echoes).incoming(listener).run().await;
        Ok(())
    })
}

fn is_data(message: &Message) -> bool {
    message.is_text() || message.is_binary()
}
