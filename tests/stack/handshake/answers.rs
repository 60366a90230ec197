//! The layer in its stack: who answers what, and what an outer middleware can do (row X1).

use std::time::Duration;

use http::StatusCode;
use tokio_tungstenite::tungstenite::Message as ClientMessage;
use tower::Layer;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a17_other_requests_go_to_the_inner_service() {
    let (stack, recorder) = Stack::recorded();
    for path in ["/", "/ws", "/ws/room", "/other"] {
        let mut client = stack.connect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.send(request.as_bytes()).await;
        let (head, body) = whole(client.response().await);
        assert_eq!(
            (head.status().as_u16(), body),
            (200, format!("inner GET {path}"))
        );
    }
    assert!(recorder.log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn h9_h11_h14_refusals_are_whole_responses() {
    let (stack, _) = Stack::recorded();
    let rows = [
        (
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Key: short",
            400,
        ),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8", 426),
        (
            "Upgrade: websocket",
            "Upgrade: websocket\r\nOrigin: https://evil.com",
            403,
        ),
    ];
    for (line, replaced, status) in rows {
        let mut client = stack.connect();
        client
            .send(HANDSHAKE.replace(line, replaced).as_bytes())
            .await;
        let (head, body) = whole(client.response().await);
        assert_eq!(head.status(), status, "{replaced}");
        assert!(!body.is_empty() && head.header("content-type").is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn x5_h20_a_handshake_and_1000_frames_in_one_write() {
    let (stack, _) = Stack::recorded();
    let client = stack.connect();
    let mut bytes = HANDSHAKE.as_bytes().to_vec();
    for i in 0..1000u32 {
        bytes.extend(text(&i.to_string()));
    }
    let (mut reader, mut writer) = tokio::io::split(client.io);
    let sending = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut writer, &bytes)
            .await
            .unwrap();
        writer
    });
    let mut joined = Vec::new();
    while joined.windows(5).all(|w| w != b"\x81\x03999") {
        assert!(
            within(tokio::io::AsyncReadExt::read_buf(&mut reader, &mut joined))
                .await
                .unwrap()
                > 0
        );
    }
    sending.await.unwrap();
}

#[tokio::test]
async fn x1_a_middleware_that_makes_the_101_a_403_opens_nothing() {
    let (stack, recorder) = Stack::recorded();
    let forbid = tower::util::MapResponseLayer::new(|mut response: http::Response<_>| {
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
    });
    let addr = tcp(forbid.layer(stack.layer.layer(plain()))).await;
    let mut client = tcp_client(addr).await;
    client.send(HANDSHAKE.as_bytes()).await;
    assert_eq!(client.head().await.status(), 403);
    client
        .try_send(b"0\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await;
    client.try_send(&text("let me in")).await;
    client.end().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(recorder.log().is_empty(), "{:?}", recorder.log());
    assert_eq!(stack.shutdown.connections(), 0);
}

#[tokio::test]
async fn tungstenites_client_gets_its_messages_back() {
    use futures_util::{SinkExt, StreamExt};
    let (stack, recorder) = Stack::recorded();
    let addr = tcp(stack.layer.layer(plain())).await;
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{addr}/ws/room"))
        .await
        .unwrap();
    for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
        let message = ClientMessage::binary(vec![7; size]);
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    assert_eq!(
        recorder.closed().await.last().unwrap(),
        "close 1005 Peer clean"
    );
}
