//! cargo run --example duplex
//!
//! A WebSocket on a stream in memory, with no HTTP server and no socket: whoever has a byte stream and
//! a request can have the layer, whatever the stream is. The client is tungstenite's.

use std::error::Error;
use std::io;

use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use tokio::io::{DuplexStream, duplex};
use tokio::sync::oneshot;
use tower::ServiceExt;
use tower_websocket::tokio_tungstenite::WebSocketStream;
use tower_websocket::tokio_tungstenite::tungstenite::Message as ClientMessage;
use tower_websocket::tokio_tungstenite::tungstenite::protocol::Role;
use tower_websocket::{Connection, Message, Result, Upgrade, WebSocketHandler, WebSocketLayer};

#[derive(Clone)]
struct Shout;

impl WebSocketHandler for Shout {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        conn.send(format!("you are at {}", conn.path())).await?;
        Ok(())
    }

    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        let text = message.as_text().unwrap_or("what?").to_uppercase();
        conn.send(text).await?;
        Ok(())
    }
}

/// What a server does: asks the service, sends its response, and hands over the stream.
async fn open(layer: &WebSocketLayer<Shout>, stream: DuplexStream) -> Result<(), Box<dyn Error>> {
    let mut request = Request::get("/shout/here")
        .header("host", "localhost")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(())?;
    let (sent, response_sent) = oneshot::channel();
    request.extensions_mut().insert(Upgrade::new(async {
        // An error where `sent` was dropped: nothing opens.
        response_sent.await.map_err(io::Error::other)?;
        Ok(stream)
    }));

    let service = layer.clone().into_service();
    let response: Response<_> = service.oneshot(request).await?;
    println!("the layer answers {}", response.status());
    if response.status() == 101 {
        // Here a server writes the head of the response to the client.
        let _ = sent.send(());
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().init();
    let (client, server) = duplex(4 * 1024);
    let layer = WebSocketLayer::new("/shout", Shout);
    open(&layer, server).await?;
    // Where the handshake has been checked and answered elsewhere, `layer.accept(request, None, server)`
    // does all of it.

    let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    client.send(ClientMessage::text("hello")).await?;
    for _ in 0..2 {
        let message = client.next().await.ok_or("the server has gone")??;
        println!("the client reads: {message}");
    }
    client.close(None).await?;
    while let Some(message) = client.next().await {
        println!("the client reads: {:?}", message?);
    }
    Ok(())
}
