//! Streams that are not hyper's: an [`Upgrade`] in the extensions of a request, and
//! [`WebSocketLayer::accept`].

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use tokio::io::DuplexStream;
use tokio::sync::oneshot;
use tower::{Layer, ServiceExt};
use tower_websocket::{Upgrade, UpgradeGuardLayer, WebSocketHandler, WebSocketLayer};

use crate::support::*;

/// A handshake for `/ws` that hyper has never seen.
fn handshake(version: Version) -> Request<()> {
    let request = Request::builder()
        .version(version)
        .uri("http://localhost/ws/room");
    let request = request
        .header("host", "localhost")
        .header("sec-websocket-version", "13");
    if version == Version::HTTP_11 {
        let request = request
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        return request.body(()).unwrap();
    }
    let mut request = request.method(Method::CONNECT).body(()).unwrap();
    let protocol = hyper::ext::Protocol::from_static("websocket");
    request.extensions_mut().insert(protocol);
    request
}

async fn inner(request: Request<()>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from(format!(
        "inner {}",
        request.uri().path()
    ))))
}

/// The layer's answer, the client, and what hands over the server's end of its stream.
async fn ask<H: WebSocketHandler>(
    layer: &WebSocketLayer<H>,
    version: Version,
) -> (StatusCode, Client, oneshot::Sender<io::Result<()>>) {
    let (client, server) = tokio::io::duplex(16 * 1024);
    let (sent, response_sent) = oneshot::channel::<io::Result<()>>();
    let mut request = handshake(version);
    request.extensions_mut().insert(Upgrade::new(async move {
        response_sent.await.map_err(io::Error::other)??;
        Ok(server)
    }));
    let service = layer.layer(tower::service_fn(inner));
    let response = service.oneshot(request).await.unwrap();
    (response.status(), Client::new(client), sent)
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_anybody_opens_once_its_owner_hands_it_over_whatever_the_version_of_http() {
    for (version, status) in [
        (Version::HTTP_11, 101),
        (Version::HTTP_2, 200),
        (Version::HTTP_3, 200),
    ] {
        let (stack, recorder) = Stack::recorded();
        let (answer, mut client, sent) = ask(&stack.layer, version).await;
        assert_eq!(answer, status, "{version:?}");
        // As long as the response is on its way nothing opens.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(recorder.log().is_empty());
        sent.send(Ok(())).unwrap();
        client.send(&text("over anything")).await;
        assert_eq!(client.frame().await.unwrap().payload, b"over anything");
        client.send(&close(1000, "")).await;
        client.expect_close(Some(1000)).await;
        assert_eq!(
            recorder.closed().await,
            ["open", "text over anything", "close 1000 Peer clean"],
            "{version:?}"
        );
        left(&stack.shutdown, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_its_owner_withholds_opens_nothing() {
    let (stack, recorder) = Stack::recorded();
    let (_, mut client, sent) = ask(&stack.layer, Version::HTTP_3).await;
    sent.send(Err(io::ErrorKind::ConnectionReset.into()))
        .unwrap();
    client.end().await;
    let (_, mut client, sent) = ask(&stack.layer, Version::HTTP_11).await;
    drop(sent);
    client.end().await;
    // Nor one that never comes, and it is not waited for longer than for hyper.
    let (_, mut client, never) = ask(&stack.layer, Version::HTTP_11).await;
    let begin = tokio::time::Instant::now();
    client.end().await;
    assert!(
        begin.elapsed() < Duration::from_secs(60),
        "{:?}",
        begin.elapsed()
    );
    drop(never);
    left(&stack.shutdown, 0).await;
    assert!(recorder.log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn x1_a_guard_decides_over_a_stream_of_anybody_too() {
    for (replaced, opens) in [(false, true), (true, false)] {
        let (stack, recorder) = Stack::recorded();
        let (client, server) = tokio::io::duplex(1024);
        let service = tower::ServiceBuilder::new()
            .layer(UpgradeGuardLayer::new())
            .map_response(move |mut response: Response<_>| {
                if replaced {
                    *response.status_mut() = StatusCode::FORBIDDEN;
                }
                response
            })
            .layer(stack.layer.clone())
            .service_fn(inner);
        let mut request = handshake(Version::HTTP_11);
        let upgrade = Upgrade::new(std::future::ready(Ok::<DuplexStream, _>(server)));
        request.extensions_mut().insert(upgrade);
        service.oneshot(request).await.unwrap();
        let mut client = Client::new(client);
        if opens {
            client.send(&close(1000, "")).await;
            client.expect_close(Some(1000)).await;
        } else {
            client.end().await;
        }
        left(&stack.shutdown, 0).await;
        assert_eq!(!recorder.log().is_empty(), opens);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_handed_over_once_however_often_its_request_is_copied() {
    let (stack, recorder) = Stack::recorded();
    let (client, server) = tokio::io::duplex(1024);
    let upgrade = Upgrade::new(std::future::ready(Ok::<DuplexStream, _>(server)));
    for _ in 0..2 {
        let mut request = handshake(Version::HTTP_3);
        request.extensions_mut().insert(upgrade.clone());
        let service = stack.layer.layer(tower::service_fn(inner));
        assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
    }
    let mut client = Client::new(client);
    client.send(&close(1000, "")).await;
    client.expect_close(Some(1000)).await;
    left(&stack.shutdown, 0).await;
    assert_eq!(recorder.log(), ["open", "close 1000 Peer clean"]);
}

#[tokio::test]
async fn a_request_that_is_no_handshake_keeps_its_stream_and_one_without_a_stream_gets_500() {
    let (stack, _) = Stack::recorded();
    let service = stack
        .layer
        .layer(tower::service_fn(|request: Request<()>| async move {
            let kept = request.extensions().get::<Upgrade>().is_some();
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(format!("{kept}"))))
        }));
    let (_client, server) = tokio::io::duplex(1024);
    let mut request = Request::get("http://localhost/ws").body(()).unwrap();
    let upgrade = Upgrade::new(std::future::ready(Ok::<DuplexStream, _>(server)));
    request.extensions_mut().insert(upgrade);
    let response = service.clone().oneshot(request).await.unwrap();
    let body = http_body_util::BodyExt::collect(response.into_body())
        .await
        .unwrap();
    assert_eq!(body.to_bytes(), "true");

    let response = service.oneshot(handshake(Version::HTTP_11)).await.unwrap();
    assert_eq!(response.status(), 500);
}

/// A request that somebody else has answered.
fn answered(path: &str) -> http::request::Parts {
    Request::get(path).body(()).unwrap().into_parts().0
}

#[tokio::test(start_paused = true)]
async fn an_accepted_stream_has_the_request_the_subprotocol_and_the_options_of_the_layer() {
    let layer = WebSocketLayer::from_fn("/ws", async |conn: tower_websocket::Connection| {
        let said = format!("{} {} {:?}", conn.mount(), conn.path(), conn.protocol());
        conn.send(said).await?;
        std::future::pending().await
    })
    .max_connections(1);
    let shutdown = tower_websocket::Shutdown::new();
    let layer = layer.shutdown(&shutdown);

    let (client, server) = tokio::io::duplex(1024);
    layer
        .accept(answered("/ws/a"), Some("chat.v2"), server)
        .unwrap();
    let mut client = Client::new(client);
    let said = client.frame().await.unwrap().payload;
    assert_eq!(said, b"/ws /a Some(\"chat.v2\")");

    let (_other, server) = tokio::io::duplex(1024);
    let refused = layer.accept(answered("/ws"), None, server).unwrap_err();
    assert_eq!(refused.status(), 503);
    let (_other, server) = tokio::io::duplex(1024);
    let refused = layer
        .accept(answered("/elsewhere"), None, server)
        .unwrap_err();
    assert_eq!(refused.status(), 404);

    let drain = tokio::spawn(shutdown.clone().drain(Duration::from_secs(5)));
    let frame = client.frame().await.unwrap();
    assert_eq!(frame.close_code(), Some(1001));
    client.send(&close(1001, "")).await;
    client.end().await;
    drain.await.unwrap();
    let (_other, server) = tokio::io::duplex(1024);
    let refused = layer.accept(answered("/ws"), None, server).unwrap_err();
    assert_eq!(refused.status(), 503);
}

#[tokio::test(start_paused = true)]
async fn a_function_of_a_tungstenite_stream_gets_a_stream_of_anybody() {
    use futures_util::{SinkExt, StreamExt};
    let layer = WebSocketLayer::stream("/ws", |mut socket, _| async move {
        while let Some(message) = socket.next().await {
            socket.send(message?).await?;
        }
        Ok(())
    });
    let (client, server) = tokio::io::duplex(1024);
    layer.accept(answered("/ws"), None, server).unwrap();
    let mut client = Client::new(client);
    client.send(&text("hello")).await;
    assert_eq!(client.frame().await.unwrap().payload, b"hello");
}
