//! A relay with small buffers. It passes the server's data on at a rate, and the client's at once.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{self, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::{MissedTickBehavior, interval};

use crate::Result;

/// The receive buffer of the socket to the server: small, so that data waits at the server.
const BUFFER: u32 = 16 * 1024;

/// Serves one client. With rate 0 it passes the handshake on and nothing else.
pub(crate) async fn start(server: SocketAddr, rate: usize) -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        // An error on one side drops both sockets, and so the other side sees it.
        let _ = pass(listener, server, rate).await;
    });
    Ok(addr)
}

async fn pass(listener: TcpListener, server: SocketAddr, rate: usize) -> io::Result<()> {
    let (mut client, _) = listener.accept().await?;
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(BUFFER)?;
    let mut server = socket.connect(server).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let up = async {
        io::copy(&mut from_client, &mut to_server).await?;
        to_server.shutdown().await
    };
    let down = async {
        let mut buffer = [0; 8 * 1024];
        // The handshake.
        let n = from_server.read(&mut buffer[..1024]).await?;
        to_client.write_all(&buffer[..n]).await?;
        if rate == 0 {
            return pending().await;
        }
        let mut ticks = interval(Duration::from_millis(100));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            ticks.tick().await;
            let mut may = rate / 10;
            while may > 0 {
                let most = may.min(buffer.len());
                let n = from_server.read(&mut buffer[..most]).await?;
                if n == 0 {
                    return to_client.shutdown().await;
                }
                to_client.write_all(&buffer[..n]).await?;
                may -= n;
            }
        }
    };
    tokio::try_join!(up, down)?;
    Ok(())
}
