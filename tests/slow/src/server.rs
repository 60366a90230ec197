//! The server, with default options, and a log of what its callbacks are called with.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower_websocket::{
    CloseCode, CloseEvent, Connection, Error, Message, WebSocketHandler, WebSocketLayer,
};

use crate::{CASES, Result};

/// What the callbacks of one connection were called with.
#[derive(Clone, Default)]
pub(crate) struct Told {
    opened: Option<Instant>,
    pub(crate) error: Option<String>,
    pub(crate) closed: Option<Closed>,
}

#[derive(Clone)]
pub(crate) struct Closed {
    pub(crate) after: Duration,
    pub(crate) clean: bool,
    what: String,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(error) = &self.error {
            write!(f, "on_error: {error}; ")?;
        }
        match &self.closed {
            None => write!(f, "nothing"),
            Some(closed) => write!(
                f,
                "on_close after {:.0} s: {}",
                closed.after.as_secs_f64(),
                closed.what
            ),
        }
    }
}

/// By the number of the case.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<[Told; CASES.len()]>>);

impl Log {
    fn all(&self) -> MutexGuard<'_, [Told; CASES.len()]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn of(&self, id: usize) -> Told {
        self.all()[id].clone()
    }

    /// Waits for `on_close`, at most `within`.
    pub(crate) async fn closed(&self, id: usize, within: Duration) {
        let start = Instant::now();
        while self.of(id).closed.is_none() && start.elapsed() < within {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[derive(Clone)]
struct Sender {
    log: Log,
}

fn id(conn: &Connection) -> usize {
    let query = conn.request().uri.query().and_then(|id| id.parse().ok());
    query.unwrap_or_default()
}

impl WebSocketHandler for Sender {
    async fn on_open(&mut self, conn: &mut Connection) -> tower_websocket::Result {
        let id = id(conn);
        self.log.all()[id].opened = Some(Instant::now());
        conn.send(Message::binary(vec![b'x'; CASES[id].size]))
            .await?;
        if CASES[id].server_closes {
            conn.close(CloseCode::NORMAL_CLOSURE, "done")?;
        }
        Ok(())
    }

    async fn on_error(&mut self, conn: &mut Connection, error: Error) -> tower_websocket::Result {
        self.log.all()[id(conn)].error = Some(error.to_string());
        Ok(())
    }

    async fn on_close(
        &mut self,
        conn: &mut Connection,
        event: CloseEvent,
    ) -> tower_websocket::Result {
        let told = &mut self.log.all()[id(conn)];
        told.closed = Some(Closed {
            after: told.opened.map(|at| at.elapsed()).unwrap_or_default(),
            clean: event.was_clean(),
            what: format!(
                "{} {:?} by {:?}",
                event.code().as_u16(),
                event.reason(),
                event.cause()
            ),
        });
        Ok(())
    }
}

pub(crate) async fn start(addr: SocketAddr, log: Log) -> Result<SocketAddr> {
    let service = WebSocketLayer::new("/slow", Sender { log }).into_service();
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                // The callbacks report every error that matters here.
                let _ = server
                    .serve_connection_with_upgrades(TokioIo::new(socket), service)
                    .await;
            });
        }
    });
    Ok(addr)
}
