//! What the options of a layer and the hooks before the 101 do, and the stream style; and that
//! nothing public shows a secret when it is printed.

use std::future::Future;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use tower::{Layer, Service, ServiceExt};
use tower_websocket::{
    CloseCode, CloseEvent, Connection, Error, Handshake, Message, Rejection, Result, Shutdown,
    TrustedProxies, WebSocketHandler, WebSocketLayer,
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn limits_of_messages_frames_and_fragments_can_be_set() {
    for (bytes, code) in [
        (frame(0x82, &[0; 51]), 1009),
        (
            [frame(0x02, &[0; 50]), frame(0x80, &[0; 51])].concat(),
            1009,
        ),
        (
            [
                frame(0x02, &[0; 50]),
                frame(0x00, &[0; 50]),
                frame(0x80, &[0]),
            ]
            .concat(),
            1009,
        ),
        (
            [frame(0x01, b"a"), frame(0x00, b"b").repeat(3)].concat(),
            1008,
        ),
    ] {
        let (stack, _) = Stack::recorded();
        let stack = stack.with(|layer| {
            layer
                .max_message_size(100)
                .max_frame_size(50)
                .max_fragments(3)
        });
        let mut client = stack.open().await;
        client.send(&bytes).await;
        client.expect_close(Some(code)).await;
    }
}

/// A whole message in frames of `size`, answered in one; or the code that it is closed with.
async fn in_pieces(layer: WebSocketLayer<Recorder>, len: usize, size: usize) -> Option<u16> {
    let mut client = http1(layer.layer(plain()));
    client.open("/ws").await;
    let message = vec![7; len];
    for fragment in fragments(0x82, message.chunks(size)) {
        client.try_send(&fragment).await;
    }
    let answer = client.frame().await.unwrap();
    if answer.first == 0x82 {
        assert!(answer.payload == message);
        return None;
    }
    assert_eq!(answer.first, 0x88);
    answer.close_code()
}

#[tokio::test(start_paused = true)]
async fn p7_as_many_fragments_may_come_as_a_message_of_the_largest_size_has() {
    const MIB: usize = 1024 * 1024;
    let (stack, _) = Stack::recorded();
    let layer = || stack.layer.clone();
    // libwebsockets, 1,025 at the default limit.
    assert_eq!(in_pieces(layer(), MIB, 1023).await, None);
    // Boost.Beast, 4 KiB each.
    assert_eq!(
        in_pieces(layer().max_message_size(5 * MIB), 5 * MIB, 4096).await,
        None
    );
    // A small limit makes nobody's pieces too many.
    assert_eq!(
        in_pieces(layer().max_message_size(1100), 1100, 1).await,
        None
    );
    // What was set holds, in whichever order.
    let few = layer().max_fragments(3).max_message_size(5 * MIB);
    assert_eq!(in_pieces(few, 4, 1).await, Some(1008));
    let few = layer().max_message_size(5 * MIB).max_fragments(3);
    assert_eq!(in_pieces(few.clone(), 4, 1).await, Some(1008));
    assert_eq!(in_pieces(few, 3, 1).await, None);
}

#[tokio::test(start_paused = true)]
async fn h14_origins_are_those_of_the_list_or_any() {
    let ask = async |layer: WebSocketLayer<Recorder>, origin: &str| {
        let mut client = http1(layer.layer(plain()));
        let line = format!("Origin: {origin}\r\nHost: ");
        client
            .send(HANDSHAKE.replace("Host: ", &line).as_bytes())
            .await;
        client.head().await.status()
    };
    let (stack, _) = Stack::recorded();
    let list = stack.layer.clone().origins(["https://app.example.com"]);
    assert_eq!(ask(list.clone(), "https://app.example.com").await, 101);
    assert_eq!(ask(list.clone(), "http://app.example.com").await, 403);
    assert_eq!(ask(list, "http://localhost").await, 403);
    assert_eq!(
        ask(stack.layer.any_origin(), "https://evil.example").await,
        101
    );
}

#[derive(Clone)]
struct Undecided(fn() -> bool);

impl WebSocketHandler for Undecided {
    async fn on_upgrade(&mut self, _: &mut Handshake) -> std::result::Result<(), Rejection> {
        if (self.0)() {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a1_an_on_upgrade_that_panics_is_500_and_one_that_never_decides_503() {
    let panics = Stack::new(Undecided(|| panic!("at the door")));
    let mut client = panics.connect();
    client.send(HANDSHAKE.as_bytes()).await;
    assert_eq!(client.response().await.status(), 500);
    let waits = Stack::new(Undecided(|| true)).with(|layer| {
        layer
            .upgrade_timeout(Duration::from_secs(3))
            .max_connections(1)
    });
    for _ in 0..3 {
        let mut client = waits.connect();
        let began = tokio::time::Instant::now();
        client.send(HANDSHAKE.as_bytes()).await;
        // The permit is back each time: another would be a 503 at once.
        assert_eq!(client.response().await.status(), 503);
        assert_eq!(began.elapsed().as_secs(), 3);
    }
    assert_eq!(waits.shutdown.connections(), 0);
}

#[test]
fn a18_outside_a_runtime_and_outside_hyper_the_answer_is_500() {
    let (stack, _) = Stack::recorded();
    let request = || {
        let mut request = Request::new(Empty::<bytes::Bytes>::new());
        *request.uri_mut() = "/ws".parse().unwrap();
        for line in HANDSHAKE.lines().skip(1).filter_map(|l| l.split_once(": ")) {
            let name = http::HeaderName::from_bytes(line.0.as_bytes()).unwrap();
            request
                .headers_mut()
                .insert(name, HeaderValue::from_static(line.1));
        }
        request
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ask = |request| {
        let service = stack.layer.clone().into_service();
        let answered = runtime.block_on(service.oneshot(request)).unwrap();
        let status = answered.status();
        let text = runtime
            .block_on(answered.into_body().collect())
            .unwrap()
            .to_bytes();
        (status, String::from_utf8(text.to_vec()).unwrap())
    };
    let (status, text) = ask(request());
    assert_eq!(
        (status, &*text),
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            "this server cannot upgrade connections\n"
        )
    );
    // Polled by hand, on a thread that has no runtime.
    let (mut sender, connection, server) = runtime.block_on(async {
        let (client, server) = tokio::io::duplex(1 << 16);
        let io = hyper_util::rt::TokioIo::new(client);
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        (sender, connection, server)
    });
    let layer = stack.layer.clone();
    let without = hyper::service::service_fn(move |request| {
        let mut service = layer.layer(plain());
        service.call(request)
    });
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(hyper_util::rt::TokioIo::new(server), without)
        .with_upgrades();
    let response = futures_util::future::FutureExt::now_or_never(async {
        let mut both = std::pin::pin!(futures_util::future::join(connection, served));
        let mut answered = std::pin::pin!(sender.send_request(request()));
        std::future::poll_fn(|cx| {
            for _ in 0..20 {
                let _ = both.as_mut().poll(cx);
                if let std::task::Poll::Ready(response) = answered.as_mut().poll(cx) {
                    return std::task::Poll::Ready(response);
                }
            }
            std::task::Poll::Pending
        })
        .await
    });
    let response = response.expect("an answer").unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test(start_paused = true)]
async fn a1_a14_a_stream_that_fails_panics_or_stays_is_freed_and_ends_with_the_drain() {
    let shutdown = Shutdown::new();
    let layer = WebSocketLayer::stream("/ws", |mut socket, request| async move {
        assert_eq!(request.uri.path(), "/ws");
        while let Some(message) = socket.next().await {
            match message?.to_text()? {
                "fail" => return Err("as it was told".into()),
                "panic" => panic!("as it was told"),
                text => socket.send(text.to_owned().into()).await?,
            }
        }
        Ok(())
    })
    .max_connections(1)
    .shutdown(&shutdown);
    for word in ["fail", "panic"] {
        let mut client = http1(layer.layer(plain()));
        client.open("/ws").await;
        client.send(&text("a")).await;
        client.expect(0x81, b"a").await;
        client.send(&text(word)).await;
        client.end().await;
        assert_eq!(shutdown.connections(), 0, "{word}");
    }
    let mut client = http1(layer.layer(plain()));
    client.open("/ws").await;
    let drained = shutdown.drain(Duration::from_secs(2)).await;
    assert_eq!((drained.forced(), drained.remaining()), (1, 0));
    client.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_printed_names_its_thing_and_no_secret() {
    #[derive(Clone)]
    struct Printer(Recorder);
    impl WebSocketHandler for Printer {
        async fn on_upgrade(
            &mut self,
            handshake: &mut Handshake,
        ) -> std::result::Result<(), Rejection> {
            self.0.note(format!("{handshake:?}"));
            assert_eq!((handshake.mount(), handshake.path()), ("/ws", ""));
            assert_eq!(handshake.protocols().collect::<Vec<_>>(), ["chat"]);
            assert_eq!(handshake.protocol(), None);
            assert!(handshake.select_protocol("chat"));
            handshake.request_mut().extensions.insert("found out");
            Ok(())
        }
        async fn on_open(&mut self, conn: &mut Connection) -> Result {
            assert_eq!(conn.request().extensions.get::<&str>(), Some(&"found out"));
            assert_eq!((conn.protocol(), conn.client_ip()), (Some("chat"), None));
            let sender = conn.sender();
            assert_eq!((sender.id(), sender.is_closed()), (conn.id(), false));
            assert_eq!(conn.id().to_string(), conn.id().as_u64().to_string());
            self.0.note(format!("{conn:?} {sender:?} {:?}", conn.id()));
            Err("no more".into())
        }
        async fn on_error(&mut self, _: &mut Connection, error: Error) -> Result {
            assert!(error.is_application());
            assert_eq!(error.close_code(), Some(CloseCode::INTERNAL_ERROR));
            self.0.note(format!("{error:?}"));
            Ok(())
        }
        async fn on_close(&mut self, _: &mut Connection, event: CloseEvent) -> Result {
            self.0.note(format!("close {event:?} {}", event.reason()));
            Ok(())
        }
    }
    let recorder = Recorder::default();
    let stack = Stack::new(Printer(recorder.clone()));
    let mut client = stack.connect();
    let lines = "Cookie: session=SECRET\r\nSec-WebSocket-Protocol: chat\r\nHost: ";
    client
        .send(HANDSHAKE.replace("Host: ", lines).as_bytes())
        .await;
    assert_eq!(
        client.head().await.header("sec-websocket-protocol"),
        Some("chat")
    );
    client.end().await;
    let log = recorder.closed().await;
    for name in [
        "Handshake {",
        "Connection {",
        "Sender {",
        "ConnectionId(",
        "Error(",
        "CloseEvent {",
    ] {
        assert!(
            log.iter().any(|line| line.contains(name)),
            "{name}: {log:?}"
        );
    }
    assert!(!log.iter().any(|line| line.contains("SECRET")), "{log:?}");

    let service = stack.layer.clone().layer(plain());
    let function = WebSocketLayer::from_fn("/f", |_: Connection| async { Ok(()) });
    let stream = WebSocketLayer::stream("/s", |_, _| async { Ok(()) });
    for (printed, name) in [
        (
            format!("{:?}", stack.layer),
            "WebSocketLayer { mount: \"/ws\"",
        ),
        (
            format!("{service:?} {:?}", service.get_ref()),
            "WebSocketService",
        ),
        (format!("{function:?}{stream:?}"), "WebSocketLayer"),
        (
            format!("{:?}", stack.layer.clone().into_service().get_ref()),
            "NotFound",
        ),
        (
            format!("{:?}", stack.shutdown),
            "Shutdown { draining: false, connections: 0 }",
        ),
        (
            format!("{:?}", stack.shutdown.drain(Duration::ZERO).restarting()),
            "1012",
        ),
        (
            format!("{:?}", TrustedProxies::forwarded(["10.0.0.0/8"])),
            "Forwarded",
        ),
        (
            format!("{:?}", Message::binary(vec![7; 100])),
            "Binary(100 bytes",
        ),
        (format!("{:?}", Rejection::from(StatusCode::GONE)), "410"),
    ] {
        assert!(printed.contains(name), "{name}: {printed}");
    }
}
