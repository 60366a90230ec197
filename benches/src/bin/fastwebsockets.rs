//! fastwebsockets: `fastwebsockets [--addr HOST:PORT] [--tuned] [--auto] [--tls]`.
//!
//! Without flags as its documentation shows it. `--tuned` is outside tokio's budget, as its own
//! echo server. It writes every frame by itself; there is nothing to batch with. `--auto` is behind the HTTP server of `ours`, `--tls` over rustls.

use std::io;

use fastwebsockets::upgrade::{UpgradeFut, upgrade};
use fastwebsockets::{FragmentCollector, OpCode, WebSocketError};
use tokio::task::unconstrained;
use tower_websocket_benches::{Server, known, run, serve_http};

fn main() -> io::Result<()> {
    run(|listener, flags| async move {
        let [tuned, auto, tls] = known(["--tuned", "--auto", "--tls"], &flags)?;
        let tls = tls.then(tower_websocket_benches::tls);
        serve_http(listener, Server { auto, tls }, move |mut request| {
            let (response, socket) = upgrade(&mut request)?;
            if tuned {
                tokio::spawn(unconstrained(echo(socket)));
            } else {
                tokio::spawn(echo(socket));
            }
            Ok(response)
        })
        .await
    })
}

async fn echo(socket: UpgradeFut) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(socket.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}
