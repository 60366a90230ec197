//! From an HTTP/3 connection to the service and back: each request in a task of its own.

use std::error::Error;
use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use http3::ext::Protocol;
use http3::server::RequestResolver;
use tokio::sync::oneshot;
use tower::ServiceExt;
use tower_websocket::{Shutdown, Upgrade};

use crate::quic;
use crate::stream::{Incoming, SendHalf, Tunnel};

/// What the head of a request may have, as hyper's HTTP/2 has it, in the sum of RFC 9114 §4.2.2.
const MAX_HEAD: u64 = 16 * 1024;

/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

type BoxError = Box<dyn Error + Send + Sync>;

/// Serves a connection until it ends.
pub(crate) async fn serve(
    connection: quinn::Connection,
    app: Router,
    shutdown: Shutdown,
) -> Result<(), BoxError> {
    let mut requests = http3::server::builder()
        // SETTINGS_ENABLE_CONNECT_PROTOCOL: without it a client must not try (RFC 9220 §3).
        .enable_extended_connect(true)
        .max_field_section_size(MAX_HEAD)
        .build(quic::Connection::new(connection.clone()))
        .await?;
    let mut draining = pin!(shutdown.started());
    let mut is_draining = false;
    loop {
        let request = tokio::select! {
            request = requests.accept() => request?,
            () = &mut draining, if !is_draining => {
                is_draining = true;
                // GOAWAY: the client sends further requests elsewhere.
                requests.shutdown(0).await?;
                continue;
            }
        };
        let Some(request) = request else {
            return Ok(());
        };
        let (app, connection) = (app.clone(), connection.clone());
        tokio::spawn(async move {
            if let Err(e) = answer(request, app, &connection).await {
                tracing::debug!("{}: {e}", connection.remote_address());
            }
        });
    }
}

async fn answer(
    request: RequestResolver<quic::Connection, bytes::Bytes>,
    app: Router,
    connection: &quinn::Connection,
) -> Result<(), BoxError> {
    let head = tokio::time::timeout(HEAD_TIMEOUT, request.resolve_request());
    let (request, stream) = head.await??;
    let is_early = stream.is_0rtt();
    let (mut send, recv) = stream.split();
    let (mut request, ()) = request.into_parts();

    // Whoever saw early data go by can send it again (RFC 8470 §5.2): a WebSocket would be opened a
    // second time, and everything that the client put behind the CONNECT would be said again.
    if is_early && !request.method.is_safe() {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::TOO_EARLY;
        return respond(&mut send, response).await;
    }

    // The address of this moment. The connection may move on to another one.
    request.extensions.insert(connection.remote_address());
    let protocol = request.extensions.remove::<Protocol>();
    if request.method != Method::CONNECT {
        let request = Request::from_parts(request, Body::new(Incoming::new(recv)));
        return respond(&mut send, app.oneshot(request).await?).await;
    }

    let (stream, promised) = oneshot::channel();
    if let Some(protocol) = protocol {
        // hyper's type, which the layer knows; it leaves what is not `websocket` to the service inside.
        let protocol = hyper::ext::Protocol::from(protocol.as_str());
        request.extensions.insert(protocol);
        let stream = async { promised.await.map_err(io::Error::other) };
        request.extensions.insert(Upgrade::new(stream));
    }
    let request = Request::from_parts(request, Body::empty());
    let response = app.oneshot(request).await?;
    if !response.status().is_success() {
        return respond(&mut send, response).await;
    }
    let _empty = send_head(&mut send, response).await?;
    // If nobody waits for it, it is dropped, and the stream reset.
    let _ = stream.send(Tunnel::new(send, recv));
    Ok(())
}

async fn respond(send: &mut SendHalf, response: Response<Body>) -> Result<(), BoxError> {
    let mut body = pin!(send_head(send, response).await?);
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => send.send_data(data).await?,
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    send.send_trailers(trailers).await?;
                }
            }
        }
    }
    Ok(send.finish().await?)
}

/// Gives the body, which is not sent.
async fn send_head(send: &mut SendHalf, response: Response<Body>) -> Result<Body, BoxError> {
    let (mut head, body) = response.into_parts();
    // Of HTTP/1.1 alone; a response that has them is malformed (RFC 9114 §4.2).
    for name in [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        head.headers.remove(name);
    }
    send.send_response(Response::from_parts(head, ())).await?;
    Ok(body)
}
