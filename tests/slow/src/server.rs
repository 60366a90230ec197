//! The server, with default options, and a log of what its callbacks are called with.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
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
    /// How many bytes the kernel had taken.
    pub(crate) taken: usize,
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
                "on_close after {:.0} s, {:.1} MB written: {}",
                closed.after.as_secs_f64(),
                closed.taken as f64 / 1e6,
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
            taken: conn
                .request()
                .extensions
                .get::<Taken>()
                .map_or(0, |taken| taken.0.load(Ordering::Relaxed)),
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
            let taken = Taken::default();
            let socket = Counted {
                socket,
                taken: taken.clone(),
            };
            let layer = TowerToHyperService::new(service.clone());
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(taken.clone());
                layer.call(request)
            });
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

/// How many bytes the kernel took of a connection.
#[derive(Clone, Default)]
struct Taken(Arc<AtomicUsize>);

/// A socket that counts what is written.
struct Counted {
    socket: TcpStream,
    taken: Taken,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.socket).poll_write(cx, buf))?;
        self.taken.0.fetch_add(n, Ordering::Relaxed);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, bufs))?;
        self.taken.0.fetch_add(n, Ordering::Relaxed);
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
