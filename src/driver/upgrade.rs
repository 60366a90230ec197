//! [`Upgrade`]: a byte stream of somebody else's in place of hyper's upgrade, and [`Source`], either of
//! the two.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use http::Extensions;
use hyper::upgrade::OnUpgrade;
use tokio::io::{AsyncRead, AsyncWrite};

use super::io::{Stream, UpgradedIo};

/// The byte stream that a WebSocket is to be opened on, for servers that are not hyper: HTTP/3, a Unix
/// socket with a parser of its own, io_uring, memory.
///
/// Whoever owns the stream inserts an `Upgrade` into the extensions of the request before it calls the
/// service. The layer takes it where hyper's `OnUpgrade` is not there, checks the request as any other,
/// and waits for the stream when it has accepted: after a 101 to HTTP/1.1, or after a 200 to an extended
/// CONNECT over HTTP/2 and later (RFC 8441, RFC 9220), for which the extensions hold a
/// `hyper::ext::Protocol` of `websocket`.
///
/// The future yields the stream once the response has been sent, and an error, or nothing for the
/// layer's [`upgrade_timeout`](crate::WebSocketLayer::upgrade_timeout), if it was not: then nothing
/// opens. The stream carries the bytes behind the head of the request. Shutting it down ends our side
/// only.
///
/// ```
/// use http::Request;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
/// use tower::Service;
/// use tower_websocket::{Connection, Upgrade, WebSocketLayer};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let mut service = WebSocketLayer::from_fn("/hello", |conn: Connection| async move {
///     conn.send("hello").await?;
///     Ok(())
/// })
/// .into_service();
///
/// let (mut client, server) = duplex(1024);
/// let (sent, response_sent) = tokio::sync::oneshot::channel();
/// let mut request = Request::get("/hello")
///     .header("host", "localhost")
///     .header("upgrade", "websocket")
///     .header("connection", "upgrade")
///     .header("sec-websocket-version", "13")
///     .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
///     .body(())
///     .unwrap();
/// request.extensions_mut().insert(Upgrade::new(async {
///     response_sent.await.map_err(std::io::Error::other)?;
///     Ok(server)
/// }));
/// let response = service.call(request).await.unwrap();
/// assert_eq!(response.status(), 101);
/// // A server writes the response here.
/// sent.send(()).unwrap();
///
/// let mut frame = [0; 7];
/// client.read_exact(&mut frame).await.unwrap();
/// assert_eq!(&frame, b"\x81\x05hello");
/// # }
/// ```
#[derive(Clone)]
pub struct Upgrade {
    /// Extensions have to be `Clone`; the first to take it has it.
    stream: Arc<Mutex<Option<Promised>>>,
}

type Promised = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

impl Upgrade {
    /// Of a future that yields the stream once the response has been sent.
    pub fn new<F, IO>(stream: F) -> Self
    where
        F: Future<Output = io::Result<IO>> + Send + 'static,
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let promised: Promised = Box::pin(async {
            let stream: Box<dyn Stream> = Box::new(stream.await?);
            Ok(stream)
        });
        Self {
            stream: Arc::new(Mutex::new(Some(promised))),
        }
    }

    fn take(&self) -> Option<Promised> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.take()
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").finish_non_exhaustive()
    }
}

/// Who hands over the stream.
#[derive(Debug)]
pub(crate) enum Source {
    Hyper(OnUpgrade),
    Own(Upgrade),
}

/// Why there is no stream.
#[derive(Debug)]
pub(super) enum Lost {
    Hyper(hyper::Error),
    Own(io::Error),
}

impl Source {
    /// Takes out what a server has put into the extensions of a request.
    pub(crate) fn take(extensions: &mut Extensions) -> Option<Self> {
        match extensions.remove::<OnUpgrade>() {
            Some(upgrade) => Some(Self::Hyper(upgrade)),
            None => extensions.remove::<Upgrade>().map(Self::Own),
        }
    }

    pub(crate) fn is_in(extensions: &Extensions) -> bool {
        extensions.get::<OnUpgrade>().is_some() || extensions.get::<Upgrade>().is_some()
    }

    pub(super) async fn open(self) -> Result<UpgradedIo, Lost> {
        match self {
            Self::Hyper(upgrade) => match upgrade.await {
                Ok(upgraded) => Ok(UpgradedIo::hyper(upgraded)),
                Err(error) => Err(Lost::Hyper(error)),
            },
            Self::Own(upgrade) => match upgrade.take() {
                Some(promised) => {
                    let stream = promised.await.map_err(Lost::Own)?;
                    Ok(UpgradedIo::own(stream))
                }
                None => Err(Lost::Own(io::Error::other("the stream was taken before"))),
            },
        }
    }
}
