//! The layer in axum: among layers (`layers`), inside routes (`route`), and in arrangements that look
//! right and are not (`arrangements`).

mod arrangements;
mod layers;
mod route;

use std::net::SocketAddr;

use axum::Router;
use axum::extract::OriginalUri;
use tower_websocket::{Connection, Result, WebSocketHandler};

use crate::support::*;

/// Tells where it is, and echoes nothing.
#[derive(Clone)]
pub struct Where;

impl WebSocketHandler for Where {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        let original = conn.request().extensions.get::<OriginalUri>();
        let original = original.map_or_else(String::new, |uri| uri.0.to_string());
        let line = format!("{}|{}|{original}", conn.mount(), conn.path());
        conn.send(line).await?;
        Ok(())
    }
}

pub async fn serve(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum::serve(listener, app).into_future());
    addr
}

pub fn handshake(path: &str) -> String {
    HANDSHAKE.replace("/ws", path)
}

/// The status of a handshake at `path`, and the client that made it.
pub async fn ask(addr: SocketAddr, path: &str) -> (u16, Client<tokio::net::TcpStream>) {
    let mut client = tcp_client(addr).await;
    client.send(handshake(path).as_bytes()).await;
    let head = client.head().await;
    assert!(head.status() != 101 || head.header("content-length").is_none());
    (head.status().as_u16(), client)
}

pub async fn expect_where(addr: SocketAddr, path: &str, line: &str) {
    let (status, mut client) = ask(addr, path).await;
    assert_eq!(status, 101, "{path}");
    client.expect(0x81, line.as_bytes()).await;
}
