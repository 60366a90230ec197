//! yawc, a client that compresses, against the echo example with `--deflate`:
//! `yawc-client HOST:PORT`.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{copy_bidirectional, duplex};
use tokio::net::TcpStream;
use tokio::time::timeout;
use yawc::{Frame, Options, WebSocket};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let addr = std::env::args().nth(1).ok_or("where to?")?;
    let alone = Options::default()
        .with_balanced_compression()
        .server_no_context_takeover()
        .client_no_context_takeover();
    for (name, options) in [
        (
            "low latency",
            Options::default().with_low_latency_compression(),
        ),
        (
            "high compression",
            Options::default().with_high_compression(),
        ),
        ("no context takeover", alone),
    ] {
        timeout(Duration::from_secs(30), exchange(&addr, name, options)).await??;
    }
    Ok(())
}

/// Messages there and back, and on the wire a small part of them each way.
async fn exchange(addr: &str, name: &str, options: Options) -> Result {
    let mut tcp = TcpStream::connect(addr).await?;
    let (io, mut far) = duplex(64 * 1024);
    let counted = tokio::spawn(async move { copy_bidirectional(&mut far, &mut tcp).await });
    let url = format!("ws://{addr}/echo").parse()?;
    let mut socket = WebSocket::handshake(url, io, options).await?;
    let mut plain = 0;
    for round in 0..100 {
        let text = format!("round {round}: {}", "over and over, ".repeat(100));
        plain += text.len() as u64;
        socket.send(Frame::text(text.clone())).await?;
        let echo = socket.next().await.ok_or("the server ended")?;
        if echo.payload() != text.as_bytes() {
            return Err(format!("{name}: {text:?} came back as {:?}", echo.payload()).into());
        }
    }
    socket
        .send(Frame::close(yawc::close::CloseCode::Normal, ""))
        .await?;
    while socket.next().await.is_some() {}
    drop(socket);
    let (sent, got) = counted.await??;
    println!("  {name}: {plain} bytes were {sent} there and {got} back");
    if sent.max(got) > plain / 5 {
        return Err(format!("{name}: that is not compressed").into());
    }
    Ok(())
}
