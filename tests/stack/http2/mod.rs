//! WebSockets over HTTP/2 (RFC 8441): by a good client, which is here (`streams`), and by one that
//! writes its HTTP/2 frames by hand (`raw`).

mod raw;
mod streams;

use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

use crate::support::*;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// hyper's http2 on one end of a pipe, a client's session on the other.
pub async fn session<S, B>(service: S) -> SendRequest<Bytes>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (client, server) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .enable_connect_protocol()
            .serve_connection(TokioIo::new(server), TowerToHyperService::new(service))
            .await;
    });
    client_session(client).await
}

async fn client_session<IO>(io: IO) -> SendRequest<Bytes>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Wide enough that one stalled stream does not use up the window of all.
    let (sender, connection) = h2::client::Builder::new()
        .initial_connection_window_size(1 << 20)
        .handshake(io)
        .await
        .unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let mut sender = sender.ready().await.unwrap();
    // The setting comes with the server's first frame.
    within(async {
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            sender = sender.clone().ready().await.unwrap();
        }
    })
    .await;
    sender
}

pub fn connect(path: &str) -> Request<()> {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://localhost{path}"))
        .header("sec-websocket-version", "13")
        .body(())
        .unwrap();
    request
        .extensions_mut()
        .insert(Protocol::from_static("websocket"));
    request
}

/// A stream of HTTP/2 that carries WebSocket frames.
pub struct Socket {
    pub output: SendStream<Bytes>,
    body: RecvStream,
    input: Vec<u8>,
    /// Whether the server agreed to permessage-deflate, and may compress.
    deflate: bool,
    /// Whether what was read is acknowledged, so that the server may send more.
    reads: bool,
}

/// How the server ended the stream.
#[derive(Debug, PartialEq)]
pub enum End {
    EndStream,
    Reset(h2::Reason),
}

pub async fn request(sender: &SendRequest<Bytes>, request: Request<()>) -> (StatusCode, Socket) {
    let mut sender = sender.clone().ready().await.unwrap();
    let (response, output) = sender.send_request(request, false).unwrap();
    let response = within(response).await.unwrap();
    let status = response.status();
    let socket = Socket {
        output,
        deflate: response.headers().contains_key("sec-websocket-extensions"),
        body: response.into_body(),
        input: Vec::new(),
        reads: true,
    };
    (status, socket)
}

async fn open(sender: &SendRequest<Bytes>) -> Socket {
    let (status, socket) = request(sender, connect("/ws")).await;
    assert_eq!(status, StatusCode::OK);
    socket
}

impl Socket {
    pub async fn send(&mut self, bytes: &[u8]) {
        let mut rest = Bytes::copy_from_slice(bytes);
        while !rest.is_empty() {
            self.output.reserve_capacity(rest.len());
            let n = within(std::future::poll_fn(|cx| self.output.poll_capacity(cx)))
                .await
                .unwrap()
                .unwrap();
            let n = n.min(rest.len());
            self.output.send_data(rest.split_to(n), false).unwrap();
        }
    }

    async fn more(&mut self) -> std::result::Result<(), End> {
        match within(self.body.data()).await {
            Some(Ok(data)) => {
                if self.reads {
                    self.body
                        .flow_control()
                        .release_capacity(data.len())
                        .unwrap();
                }
                self.input.extend_from_slice(&data);
                Ok(())
            }
            Some(Err(error)) => Err(End::Reset(error.reason().unwrap())),
            None => Err(End::EndStream),
        }
    }

    pub async fn frame(&mut self) -> std::result::Result<Frame, End> {
        loop {
            if let Some((frame, size)) = parse(&self.input, self.deflate).unwrap() {
                self.input.drain(..size);
                return Ok(frame);
            }
            self.more().await?;
        }
    }

    pub async fn expect(&mut self, first: u8, payload: &[u8]) {
        let frame = self.frame().await.unwrap();
        assert_eq!((frame.first, frame.payload.len()), (first, payload.len()));
        assert!(frame.payload == payload);
    }

    /// A Close frame with this code, then END_STREAM.
    async fn expect_close(&mut self, code: Option<u16>) {
        let frame = self.frame().await.unwrap();
        assert_eq!(frame.first, 0x88, "{frame:x?}");
        assert_eq!(frame.close_code(), code);
        assert_eq!(self.frame().await, Err(End::EndStream));
    }
}
