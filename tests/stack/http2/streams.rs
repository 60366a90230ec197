//! The same handler over HTTP/2, extended CONNECT in place of the upgrade. Rows 2.x, and the framing
//! rows once more where the transport could matter.

use tower::Layer;
use tower_websocket::{Connection, Message, Result, WebSocketHandler, WebSocketLayer};

use super::*;

#[tokio::test(start_paused = true)]
async fn messages_of_every_size_come_back() {
    let (stack, recorder) = Stack::recorded();
    let sender = session(stack.layer.layer(plain())).await;
    let mut socket = open(&sender).await;
    for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
        let payload = vec![7; size];
        let (sending, reply) = (frame(0x82, &payload), payload);
        socket.send(&sending).await;
        socket.expect(0x82, &reply).await;
    }
    socket.send(&frame(0x89, b"hi")).await;
    socket.expect(0x8A, b"hi").await;
    socket.send(&close(1000, "bye")).await;
    socket.expect_close(Some(1000)).await;
    let log = recorder.closed().await;
    assert_eq!(log.first().unwrap(), "open");
    assert_eq!(log.last().unwrap(), "close 1000 Peer clean");
}

#[tokio::test(start_paused = true)]
async fn messages_in_data_frames_of_their_own_are_answered_in_one() {
    let (stack, _) = Stack::recorded();
    let sender = session(stack.layer.layer(plain())).await;
    let mut socket = open(&sender).await;
    // Fewer than the reads of a turn.
    for _ in 0..10 {
        socket.send(&text("hello")).await;
    }
    let answer = within(socket.body.data()).await.unwrap().unwrap();
    assert_eq!(&answer[..], b"\x81\x05hello".repeat(10));
    // One that is large is not waited with until the next is here, and none of them is lost.
    let payload = vec![7; 20_000];
    for _ in 0..40 {
        socket.send(&frame(0x82, &payload)).await;
    }
    for _ in 0..40 {
        socket.expect(0x82, &payload).await;
    }
}

#[tokio::test]
async fn the_auto_builder_serves_http2() {
    let (stack, recorder) = Stack::recorded();
    let addr = tcp(stack.layer.layer(plain())).await;
    let sender = client_session(tokio::net::TcpStream::connect(addr).await.unwrap()).await;
    echo_once(&sender, &recorder).await;
}

#[tokio::test]
async fn axum_serves_http2() {
    let (stack, recorder) = Stack::recorded();
    let app = axum::Router::new().layer(stack.layer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, app).into_future());
    let sender = client_session(tokio::net::TcpStream::connect(addr).await.unwrap()).await;
    echo_once(&sender, &recorder).await;
}

async fn echo_once(sender: &SendRequest<Bytes>, recorder: &Recorder) {
    let mut socket = open(sender).await;
    socket.send(&text("hello")).await;
    socket.expect(0x81, b"hello").await;
    socket.send(&close(1000, "")).await;
    socket.expect_close(Some(1000)).await;
    assert_lines(
        &recorder.closed().await,
        &["open", "text hello", "close 1000 Peer clean"],
    );
}

#[tokio::test(start_paused = true)]
async fn r2_2_r2_3_connect_without_or_with_another_protocol_is_not_ours() {
    let (stack, recorder) = Stack::recorded();
    let sender = session(stack.layer.clone().layer(plain())).await;
    let leaf = session(stack.layer.clone().into_service()).await;
    let mut other = connect("/ws");
    other
        .extensions_mut()
        .insert(Protocol::from_static("webtransport"));
    let (status, _) = request(&sender, other.clone()).await;
    assert_eq!(status, StatusCode::OK, "the inner service answers");
    let (status, _) = request(&leaf, other).await;
    assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
    assert!(recorder.log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn p6_cookies_that_came_in_pieces_are_one_field() {
    #[derive(Clone)]
    struct Cookies(Recorder);
    impl Cookies {
        fn note(&self, place: &str, parts: &http::request::Parts) {
            let lines = parts.headers.get_all("cookie").iter();
            let lines = lines.map(|line| line.to_str().unwrap());
            self.0
                .note(format!("{place} {:?}", lines.collect::<Vec<_>>()));
        }
    }
    impl WebSocketHandler for Cookies {
        async fn on_upgrade(
            &mut self,
            handshake: &mut tower_websocket::Handshake,
        ) -> std::result::Result<(), tower_websocket::Rejection> {
            self.note("on_upgrade", handshake.request());
            Ok(())
        }
        async fn on_open(&mut self, conn: &mut Connection) -> Result {
            self.note("on_open", conn.request());
            Ok(())
        }
    }
    let with_cookies = |mut request: Request<()>| {
        for cookie in ["a=1", "b=2", "c=3; d=4"] {
            let cookie = http::HeaderValue::from_static(cookie);
            request.headers_mut().append("cookie", cookie);
        }
        request
    };
    let cookies = Cookies(Recorder::default());
    let log = cookies.0.clone();
    let stream = cookies.clone();
    let stream = WebSocketLayer::stream("/stream", move |_, request| {
        stream.note("stream", &request);
        async { Ok(()) }
    });
    let inner = cookies.clone();
    let inner = tower::service_fn(move |request: Request<Incoming>| {
        inner.note("inner", &request.into_parts().0);
        std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(
            http_body_util::Empty::<Bytes>::new(),
        )))
    });
    let layer = WebSocketLayer::new("/ws", cookies);
    let sender = session(layer.layer(stream.layer(inner))).await;
    for path in ["/ws", "/stream"] {
        let (status, socket) = request(&sender, with_cookies(connect(path))).await;
        assert_eq!(status, StatusCode::OK);
        drop(socket);
    }
    let plain = Request::get("http://localhost/ws").body(()).unwrap();
    let (status, _) = request(&sender, with_cookies(plain)).await;
    assert_eq!(status, StatusCode::OK);
    within(async {
        while log.log().len() < 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let mut log = log.log();
    log.sort();
    assert_lines(
        &log,
        &[
            // Whoever is behind the layer gets what came.
            "inner [\"a=1\", \"b=2\", \"c=3; d=4\"]",
            "on_open [\"a=1; b=2; c=3; d=4\"]",
            "on_upgrade [\"a=1; b=2; c=3; d=4\"]",
            "stream [\"a=1; b=2; c=3; d=4\"]",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn r2_6_a_reset_in_a_message_is_1006_once() {
    let (stack, recorder) = Stack::recorded();
    let sender = session(stack.layer.layer(plain())).await;
    let mut socket = open(&sender).await;
    socket.send(&frame(0x82, &[1; 1000])[..500]).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    socket.output.send_reset(h2::Reason::CANCEL);
    let log = recorder.closed().await;
    assert_eq!(log.last().unwrap(), "close 1006 Transport unclean");
    assert_eq!(log.iter().filter(|l| l.starts_with("close")).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn r2_7_the_end_of_the_stream_without_a_close_frame_is_1006() {
    let (stack, recorder) = Stack::recorded();
    let sender = session(stack.layer.layer(plain())).await;
    let mut socket = open(&sender).await;
    socket.send(&text("last words")).await;
    socket.output.send_data(Bytes::new(), true).unwrap();
    socket.expect(0x81, b"last words").await;
    assert_eq!(
        recorder.closed().await.last().unwrap(),
        "close 1006 Transport unclean"
    );
}

/// Sends one message after the other, as long as it can.
#[derive(Clone)]
struct Flood(Recorder);

impl WebSocketHandler for Flood {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        loop {
            conn.send(vec![0; 1000]).await?;
            tokio::task::yield_now().await;
        }
    }

    async fn on_close(&mut self, _: &mut Connection, e: tower_websocket::CloseEvent) -> Result {
        self.0.note(shown_close(&e));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn r2_8_a_peer_that_grants_no_window_is_given_up() {
    let recorder = Recorder::default();
    let stack = Stack::new(Flood(recorder.clone()));
    let sender = session(stack.layer.layer(plain())).await;
    let mut socket = open(&sender).await;
    socket.reads = false;
    assert_eq!(
        recorder.closed().await.last().unwrap(),
        "close 1006 Timeout unclean"
    );
    drop(socket);
}

#[tokio::test(start_paused = true)]
async fn r2_9_one_stalled_stream_does_not_stop_the_others() {
    #[derive(Clone)]
    struct Either(Flood);
    impl WebSocketHandler for Either {
        async fn on_open(&mut self, conn: &mut Connection) -> Result {
            if conn.path() == "/flood" {
                self.0.on_open(conn).await?;
            }
            Ok(())
        }
        async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
            conn.send(message).await?;
            Ok(())
        }
    }
    let stack = Stack::new(Either(Flood(Recorder::default())));
    let sender = session(stack.layer.clone().layer(plain())).await;
    let (status, mut stalled) = request(&sender, connect("/ws/flood")).await;
    assert_eq!(status, StatusCode::OK);
    stalled.reads = false;
    let mut others = Vec::new();
    for _ in 0..50 {
        others.push(open(&sender).await);
    }
    assert_eq!(stack.shutdown.connections(), 51, "streams are connections");
    for socket in &mut others {
        socket.send(&text("still here")).await;
        socket.expect(0x81, b"still here").await;
    }
    drop(stalled);
}

#[tokio::test(start_paused = true)]
async fn r2_11_r2_12_our_close_comes_behind_all_that_was_sent_and_ends_the_stream() {
    let layer = WebSocketLayer::from_fn("/ws", |conn: Connection| async move {
        for i in 0..100u32 {
            conn.send(vec![i as u8; 5000]).await?;
        }
        Ok(())
    });
    let sender = session(layer.layer(plain())).await;
    let mut socket = open(&sender).await;
    for i in 0..100u32 {
        socket.expect(0x82, &[i as u8; 5000]).await;
    }
    let frame = socket.frame().await.unwrap();
    assert_eq!((frame.first, &frame.payload[..]), (0x88, &[0x03, 0xE8][..]));
    socket.send(&close(1000, "")).await;
    assert_eq!(socket.frame().await, Err(End::EndStream));
}

#[tokio::test(start_paused = true)]
async fn faults_in_the_frames_are_closed_with_their_code() {
    let rows: [(&str, Vec<u8>, u16); 6] = [
        ("f1", vec![0x81, 0x01, b'a'], 1002),
        ("f2", frame(0xC1, b"a"), 1002),
        ("f4", frame(0x83, b""), 1002),
        ("f7", vec![0x82, 0xFF, 0, 0, 0, 0, 0x7F, 0, 0, 0], 1009),
        ("f14", frame(0x81, b"\xED\xA0\x80"), 1007),
        ("f26", frame(0x88, b"\x03"), 1002),
    ];
    for (row, bytes, code) in rows {
        let (stack, recorder) = Stack::recorded();
        let sender = session(stack.layer.layer(plain())).await;
        let mut socket = open(&sender).await;
        socket.send(&bytes).await;
        socket.expect_close(Some(code)).await;
        let log = recorder.closed().await;
        let last = format!("close {code} Violation unclean");
        assert_eq!(log.last(), Some(&last), "{row}");
    }
}

#[tokio::test(start_paused = true)]
async fn r2_13_after_goaway_open_sockets_go_on_and_none_is_opened() {
    let (stack, recorder) = Stack::recorded();
    let (client, server) = tokio::io::duplex(64 * 1024);
    let service = TowerToHyperService::new(stack.layer.layer(plain()));
    let (go_away, gone) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).enable_connect_protocol();
        let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(server), service));
        tokio::select! {
            _ = serving.as_mut() => return,
            _ = gone => serving.as_mut().graceful_shutdown(),
        }
        let _ = serving.await;
    });
    let sender = client_session(client).await;
    let mut socket = open(&sender).await;
    go_away.send(()).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // h2's client does not even try.
    let refused = async {
        sender
            .clone()
            .ready()
            .await?
            .send_request(connect("/ws"), false)
    };
    assert!(within(refused).await.is_err());
    socket.send(&text("still here")).await;
    socket.expect(0x81, b"still here").await;
    socket.send(&close(1000, "")).await;
    socket.expect_close(Some(1000)).await;
    within(serving).await.unwrap();
    assert_lines(
        &recorder.closed().await,
        &["open", "text still here", "close 1000 Peer clean"],
    );
}

#[tokio::test(start_paused = true)]
async fn shutdown_closes_streams_with_1001() {
    let (stack, recorder) = Stack::recorded();
    let sender = session(stack.layer.layer(plain())).await;
    let mut socket = open(&sender).await;
    let shutdown = stack.shutdown.clone();
    let draining = tokio::spawn(async move { shutdown.drain(Duration::from_secs(10)).await });
    let frame = socket.frame().await.unwrap();
    assert_eq!(frame.close_code(), Some(1001));
    socket.send(&close(1001, "")).await;
    assert_eq!(socket.frame().await, Err(End::EndStream));
    assert_eq!(draining.await.unwrap().forced(), 0);
    assert_eq!(
        recorder.closed().await.last().unwrap(),
        "close 1001 Shutdown clean"
    );
    let (status, _) = request(&sender, connect("/ws")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn x1_a_middleware_that_makes_the_200_a_403_opens_nothing() {
    let (stack, recorder) = Stack::recorded();
    let forbid = tower::util::MapResponseLayer::new(|mut response: Response<_>| {
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
    });
    let sender = session(forbid.layer(stack.layer.layer(plain()))).await;
    let (status, mut socket) = request(&sender, connect("/ws")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let _ = socket
        .output
        .send_data(Bytes::from(text("let me in")), true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(recorder.log().is_empty());
    assert_eq!(stack.shutdown.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn messages_are_compressed_over_http2_too() {
    let (stack, _) = Stack::recorded();
    let stack = stack.with(|layer| layer.deflate(tower_websocket::Deflate::new().threshold(0)));
    let sender = session(stack.layer.layer(plain())).await;
    let mut connect = connect("/ws");
    connect.headers_mut().insert(
        "sec-websocket-extensions",
        http::HeaderValue::from_static("permessage-deflate"),
    );
    let (status, mut socket) = request(&sender, connect).await;
    assert_eq!(status, StatusCode::OK);
    // RFC 7692 §7.2.3.1.
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    socket.send(&frame(0xC1, &hello)).await;
    socket.expect(0x81, b"Hello").await;
    socket.send(&text(&"a".repeat(100))).await;
    assert_eq!(socket.frame().await.unwrap().first, 0xC1);
}
