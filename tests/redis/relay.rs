//! [`Relay`]: stands between nodes and the server, as a name or a proxy does: it leads elsewhere from a moment on,
//! and counts what passes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Its tasks end with the runtime.
pub struct Relay {
    url: String,
    target: Arc<AtomicU16>,
    came: Arc<AtomicU64>,
}

impl Relay {
    /// To the port of a server here.
    pub async fn new(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self {
            url: format!("redis://{}", listener.local_addr().unwrap()),
            target: Arc::new(AtomicU16::new(port)),
            came: Arc::default(),
        };
        let (target, came) = (relay.target.clone(), relay.came.clone());
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let port = target.load(Ordering::Relaxed);
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(copy(from_client, to_server, Arc::default()));
                tokio::spawn(copy(from_server, to_client, came.clone()));
            }
        });
        relay
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Who connects from now on gets there. The others stay.
    pub fn lead_to(&self, port: u16) {
        self.target.store(port, Ordering::Relaxed);
    }

    /// Bytes that the server has sent.
    pub fn came(&self) -> u64 {
        self.came.load(Ordering::Relaxed)
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, count: Arc<AtomicU64>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(size @ 1..) = from.read(&mut buffer).await {
        count.fetch_add(size as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..size]).await.is_err() {
            return;
        }
    }
}
