//! The test kit proves that it can fail: each of its expectations, met and not met.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tower_websocket::test::{
    self, ErrorKind, RawClient, Received, TestClient, TestConnection, TestServer,
};
use tower_websocket::{
    Close, CloseCause, CloseCode, CloseEvent, Connection, Deflate, Event, Message, Result,
    WebSocketHandler, WebSocketLayer,
};

use crate::support::{DEFLATED_HELLO, Recorder, assert_lines, frame, shown, shown_close, text};

/// Does what a message says, and echoes all others.
#[derive(Clone)]
struct Obedient;

impl WebSocketHandler for Obedient {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        if conn.path() == "/peer" {
            let peer = conn.peer_addr().ok_or("no address")?;
            conn.send(format!("{peer} {:?}", conn.protocol())).await?;
        }
        Ok(())
    }
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        match message.as_text() {
            Some("close") => return Err(Close::new(4000, "as told").into()),
            Some("abort") => conn.sender().abort(),
            Some("later") => {
                let sender = conn.sender();
                conn.spawn(async move {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    let _ = sender.send("a minute later").await;
                });
            }
            Some("quiet") => {}
            _ => conn.send(message).await?,
        }
        Ok(())
    }
}

fn server() -> TestServer {
    let layer = WebSocketLayer::new("/", Obedient).protocols(["chat", "v2"]);
    TestServer::new(layer.into_service())
}

async fn open() -> TestClient {
    server().connect("/").await.expect("open")
}

/// What it panics with.
async fn panic_of(run: impl Future<Output = ()>) -> String {
    let panicked = AssertUnwindSafe(run).catch_unwind().await;
    let panic = panicked.expect_err("it does not fail");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().unwrap().to_string(),
    }
}

/// What the expectation of a client panics with that has received "before".
async fn failure(expect: impl AsyncFnOnce(&mut TestClient)) -> String {
    let mut client = open().await;
    client.send("before").await;
    client.expect_text("before").await;
    panic_of(expect(&mut client)).await
}

fn assert_begins(failure: &str, expected: &str) {
    assert!(
        failure.starts_with(expected),
        "{failure:?} does not begin with {expected:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn each_expectation_says_what_it_expected_and_what_came_instead() {
    /// What the server is asked for, what is expected, what the failure says.
    macro_rules! failures {
        ($($sent:expr, |$client:ident| $expect:expr => $failure:expr;)*) => {[$((
            failure(async |$client| {
                $client.send($sent).await;
                let _ = $expect.await;
            })
            .await,
            $failure,
        )),*]};
    }
    let close = "a Close frame with 4000 \"as told\"";
    let failures = failures![
        "b", |c| c.expect_text("a") => "expected the text \"a\", got Text(1 bytes: \"b\")";
        vec![1], |c| c.expect_text("a") => "expected the text \"a\", got Binary(1 bytes: \"\\x01\")";
        "close", |c| c.expect_text("a") => &format!("expected the text \"a\", got {close}");
        "abort", |c| c.expect_text("a") => "expected the text \"a\", got the end of the connection";
        "quiet", |c| c.expect_text("a") => "expected the text \"a\", got nothing in 10 s";
        "a", |c| c.expect_binary(b"a") => "expected Binary(1 bytes: \"a\"), got Text(1 bytes: \"a\")";
        vec![2], |c| c.expect_binary(b"\x01")
            => "expected Binary(1 bytes: \"\\x01\"), got Binary(1 bytes: \"\\x02\")";
        "quiet", |c| c.expect_binary(b"a") => "expected Binary(1 bytes: \"a\"), got nothing in 10 s";
        "[1]", |c| c.expect_json(json!([2])) => "expected the JSON [2], got Text(3 bytes: \"[1]\")";
        "[", |c| c.expect_json(json!([2])) => "expected the JSON [2], got Text(1 bytes: \"[\")";
        "close", |c| c.expect_json(json!([2])) => &format!("expected the JSON [2], got {close}");
        "close", |c| c.recv() => &format!("expected a message, got {close}");
        "abort", |c| c.recv() => "expected a message, got the end of the connection";
        "quiet", |c| c.recv() => "expected a message, got nothing in 10 s";
        "quiet", |c| c.next() => "expected anything, got nothing in 10 s";
        "close", |c| c.expect_close(1000) => &format!("expected a Close frame with 1000, got {close}");
        "a", |c| c.expect_close(1000) => "expected a Close frame with 1000, got Text(1 bytes: \"a\")";
        "abort", |c| c.expect_close(1000)
            => "expected a Close frame with 1000, got the end of the connection";
        "quiet", |c| c.expect_close(1000) => "expected a Close frame with 1000, got nothing in 10 s";
        "a", |c| c.expect_end() => "expected the end of the connection, got Text(1 bytes: \"a\")";
        "quiet", |c| c.expect_end() => "expected the end of the connection, got nothing in 10 s";
        "later", |c| c.expect_silence(Duration::from_secs(61))
            => "expected silence for 61s, got Text(14 bytes: \"a minute later\")";
        "close", |c| c.expect_silence(Duration::from_secs(1))
            => &format!("expected silence for 1s, got {close}");
        "abort", |c| c.expect_silence(Duration::from_secs(1))
            => "expected silence for 1s, got the end of the connection";
        "abort", |c| async {
            c.expect_end().await;
            c.send("late").await;
        } => "expected to be able to send, got ";
    ];
    for (failure, expected) in failures {
        assert_begins(&failure, expected);
        let before = "; the last that came: Text(6 bytes: \"before\")";
        assert!(failure.contains(before), "{failure}");
    }
}

/// A server that answers a handshake with these headers and bytes, whatever they are, and then leaves.
fn broken(accept: &'static str, extensions: &'static str, bytes: Vec<u8>) -> TestServer {
    TestServer::new(tower::service_fn(move |mut request: Request<Incoming>| {
        let (upgrade, bytes) = (hyper::upgrade::on(&mut request), bytes.clone());
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgrade.await.unwrap());
            let _ = io.write_all(&bytes).await;
            let _ = io.shutdown().await;
        });
        let response = Response::builder()
            .status(101)
            .header("upgrade", "websocket")
            .header("connection", "Upgrade")
            .header("sec-websocket-accept", accept)
            .header("sec-websocket-extensions", extensions);
        std::future::ready(response.body(String::new()))
    }))
}

const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

#[tokio::test(start_paused = true)]
async fn what_a_server_does_wrong_is_named() {
    let deflate = "permessage-deflate; server_no_context_takeover";
    let open = |accept, extensions, bytes: &[u8]| {
        let server = broken(accept, extensions, bytes.to_vec());
        async move { server.connect("/").deflate().await.unwrap() }
    };
    for (accept, extensions, expected) in [
        ("another", deflate, "a wrong Sec-WebSocket-Accept"),
        (
            ACCEPT,
            "bzip2",
            "a wrong Sec-WebSocket-Extensions: \"bzip2\" was not",
        ),
        (ACCEPT, "", "a wrong Sec-WebSocket-Extensions"),
    ] {
        let failure = panic_of(async { drop(open(accept, extensions, b"").await) }).await;
        assert!(failure.contains(expected), "{failure}");
    }
    for (bytes, expected) in [
        (
            &b"\x81\x80\0\0\0\0"[..],
            "frames that keep RFC 6455, got a mask",
        ),
        (b"\xA1\0", "frames that keep RFC 6455, got reserved bits"),
        (
            b"\x80\0",
            "frames that keep RFC 6455, got fragments in a wrong order",
        ),
        (
            b"\x01\0\x81\0",
            "frames that keep RFC 6455, got fragments in a wrong order",
        ),
        (
            b"\x81\x01\xFF",
            "text in UTF-8, got a text message that is not",
        ),
        (b"\x81\x05He", "a whole frame, got the end inside of one"),
        (
            b"\xC1\x01\x06",
            "messages that keep RFC 7692, got a compressed message that is none",
        ),
        (b"\x88\0", "a message, got a Close frame without a code"),
    ] {
        let mut client = open(ACCEPT, deflate, bytes).await;
        let failure = panic_of(async { drop(client.recv().await) }).await;
        assert_begins(&failure, &format!("expected {expected}"));
        assert!(failure.contains("; "), "{failure}");
    }
    // A message that refers to one before, although the server has agreed that none does.
    let twice = [&b"\xC1\x07"[..], DEFLATED_HELLO, b"\xC1\x05\xf2\0\x11\0\0"].concat();
    let mut client = open(ACCEPT, deflate, &twice).await;
    client.expect_text("Hello").await;
    let failure = panic_of(async { drop(client.recv().await) }).await;
    assert_begins(&failure, "expected messages that keep RFC 7692");
    let mut client = open(ACCEPT, "permessage-deflate", &twice).await;
    client.expect_text("Hello").await;
    client.expect_text("Hello").await;
    assert_eq!(client.compressed(), 2);
}

#[tokio::test(start_paused = true)]
async fn each_expectation_of_a_raw_client_says_what_came_instead() {
    /// What is sent, what is expected, what the failure says.
    macro_rules! failures {
        ($($bytes:expr, |$raw:ident| $expect:expr => $failure:expr;)*) => {[$({
            let mut $raw = raw("/").await;
            $raw.send(&text("before")).await;
            $raw.expect(0x81, b"before").await;
            $raw.send(&$bytes).await;
            (panic_of(async { let _ = $expect.await; }).await, $failure)
        }),*]};
    }
    let end = "the end of the connection";
    let failures = failures![
        text("a"), |raw| raw.expect(0x81, b"b")
            => "expected a frame 0x81 of 1 bytes b\"b\", got a frame 0x81 of 1 bytes b\"a\"";
        text("a"), |raw| raw.expect(0x82, b"a")
            => "expected a frame 0x82 of 1 bytes b\"a\", got a frame 0x81 of 1 bytes b\"a\"";
        text("abort"), |raw| raw.expect(0x81, b"a")
            => &format!("expected a frame 0x81 of 1 bytes b\"a\", got {end}");
        text("close"), |raw| raw.expect(0x81, b"a")
            => "expected a frame 0x81 of 1 bytes b\"a\", got a Close frame with 4000 b\"as told\"";
        text("a"), |raw| raw.expect_close(1000)
            => "expected a Close frame with 1000, got a frame 0x81 of 1 bytes b\"a\"";
        text("close"), |raw| raw.expect_close(1000)
            => "expected a Close frame with 1000, got a Close frame with 4000 b\"as told\"";
        text("close"), |raw| raw.expect_close(None)
            => "expected a Close frame without a code, got a Close frame with 4000 b\"as told\"";
        frame(0x88, b""), |raw| raw.expect_close(1000)
            => "expected a Close frame with 1000, got a frame 0x88 of 0 bytes b\"\"";
        text("abort"), |raw| raw.expect_close(1000)
            => &format!("expected a Close frame with 1000, got {end}");
        text("a"), |raw| raw.expect_bytes(b"HTTP") => "expected b\"HTTP\", got b\"\\x81\\x01a\\x89\"";
        text("abc"), |raw| raw.expect_bytes(b"HTTP") => "expected b\"HTTP\", got b\"\\x81\\x03ab\"";
        text("abort"), |raw| raw.head() => "expected a response, got b\"\" and the end";
        text("abort"), |raw| raw.response() => "expected a response, got b\"\" and the end";
        text("abort"), |raw| async {
            raw.end().await;
            raw.send(b"a").await;
        } => "expected to be able to send, got ";
        // Pongs are never sent, so that the server gives up at 40 s; the client waits for that.
        text("quiet"), |raw| raw.expect(0x81, b"a")
            => "expected a frame 0x81 of 1 bytes b\"a\", got a frame 0x89 of";
    ];
    for (failure, expected) in failures {
        assert_begins(&failure, expected);
        let before = "; the last that came: a frame 0x81 of 6 bytes b\"before\"";
        assert!(failure.contains(before), "{failure}");
    }
    let silent = TestServer::new(tower::service_fn(|_: Request<Incoming>| {
        std::future::pending::<Result<Response<String>, Infallible>>()
    }));
    let failure = panic_of(async { drop(silent.raw().handshake("/").await) }).await;
    assert_begins(
        &failure,
        "expected a response, got nothing in two minutes; nothing came before",
    );
    for (bytes, expected) in [
        (
            b"\x88\x02\x03\xE8\x81\0".to_vec(),
            "expected the end of the connection, got a frame 0x81",
        ),
        (
            b"\x88\x03\x03\xE8\xFF".to_vec(),
            "expected a reason in UTF-8",
        ),
        (
            b"\x88".to_vec(),
            "expected a whole frame, got b\"\\x88\" and the end",
        ),
        (
            b"\x83\0".to_vec(),
            "expected frames that keep RFC 6455, got a reserved opcode",
        ),
    ] {
        let mut raw = broken(ACCEPT, "", bytes).raw();
        raw.handshake("/").await;
        assert_begins(&panic_of(raw.expect_close(1000)).await, expected);
    }
    let (ours, theirs) = tokio::io::duplex(64);
    let mut raw = RawClient::new(ours);
    assert_begins(&panic_of(raw.send(&[0; 65])).await, UNREAD);
    assert_begins(&panic_of(raw.try_send(&[0])).await, UNREAD);
    drop(theirs);
    raw.try_send(&[0]).await;
    assert_begins(
        &panic_of(async { raw.reset() }).await,
        "a client of TestServer::raw",
    );
}

const UNREAD: &str = "expected to be able to send, got a server that does not read";

/// A raw client that is open.
async fn raw(path: &str) -> RawClient {
    let mut raw = server().raw();
    assert_eq!(raw.handshake(path).await.status(), 101);
    raw
}

#[tokio::test(start_paused = true)]
async fn each_expectation_of_a_bare_connection_fails_where_it_is_over() {
    let over = async || {
        let mut conn = TestConnection::open(Obedient);
        conn.message("abort").await;
        conn.client().expect_end().await;
        conn
    };
    let mut conn = over().await;
    let failure = panic_of(conn.message("a")).await;
    assert_begins(&failure, "expected to be able to send");
    assert_eq!(
        panic_of(async { conn.event(1) }).await,
        "the event is not taken"
    );
    let failure = panic_of(over().await.close(1000, "")).await;
    assert_begins(&failure, "expected to be able to send");
    let mut conn = TestConnection::open(Obedient);
    conn.message("close").await;
    let failure = panic_of(conn.close(1000, "")).await;
    assert_begins(
        &failure,
        "expected a Close frame with 1000, got a Close frame with 4000",
    );
}

#[tokio::test(start_paused = true)]
async fn messages_are_compressed_in_both_directions_where_that_was_agreed() {
    let long = "hello ".repeat(100);
    for takeover in [false, true] {
        let deflate = Deflate::new()
            .server_context_takeover(takeover)
            .client_context_takeover(takeover);
        let layer = WebSocketLayer::new("/", Obedient).deflate(deflate);
        let server = TestServer::new(layer.into_service());
        let small = "permessage-deflate; server_max_window_bits=9";
        let tiny = "permessage-deflate; client_max_window_bits=8";
        for connect in [
            server.connect("/").deflate(),
            server.connect_h2("/").deflate(),
            server
                .connect("/")
                .header("sec-websocket-extensions", small),
            server.connect("/").header("sec-websocket-extensions", tiny),
        ] {
            let mut client = connect.await.expect("open");
            for n in 1..=3 {
                client.send(long.as_str()).await;
                client.expect_text(&long).await;
                assert_eq!(client.compressed(), n);
            }
            client.send_fragments(vec![7; 100_000], 10).await;
            client.expect_binary(&[7; 100_000]).await;
            // Not worth it.
            client.send("").await;
            client.expect_text("").await;
            assert_eq!(client.compressed(), 4);
            client.close(1000, "").await;
            client.expect_close(1000).await;
        }
        let mut client = server.connect("/").await.expect("open");
        client.send(long.as_str()).await;
        client.expect_text(&long).await;
        assert_eq!(client.compressed(), 0);
    }
    // What the client sends is compressed: 1 MiB in less than the limit of bytes a second, which
    // counts what arrives.
    let layer = WebSocketLayer::new("/", Obedient).max_bytes_per_second(10_000);
    let server = TestServer::new(layer.deflate(Deflate::new()).into_service());
    let zeros = vec![0; 1024 * 1024];
    let mut client = server.connect("/").deflate().await.expect("open");
    client.send(zeros.clone()).await;
    client.expect_binary(&zeros).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_expected_and_comes_passes_over_both_versions_of_http() {
    let server = server();
    for connect in [server.connect("/"), server.connect_h2("/")] {
        let mut client = connect.await.expect("open");
        client.send("a").await;
        client.expect_text("a").await;
        client.send_fragments(vec![7; 100_000], 999).await;
        client.expect_binary(&[7; 100_000]).await;
        client.send_json(&json!({"a": 1})).await;
        client.expect_json(json!({"a": 1})).await;
        client.ping(b"?").await;
        assert_eq!(client.next().await, Received::Pong("?".into()));
        client.send("later").await;
        client.expect_silence(Duration::from_secs(59)).await;
        assert_eq!(client.recv().await, Message::from("a minute later"));
        assert!(client.pings() >= 1);
        client.send("close").await;
        assert_eq!(client.expect_close(4000).await, "as told");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_has_headers_protocols_and_what_a_server_puts_into_it() {
    let peer = SocketAddr::from(([192, 0, 2, 7], 80));
    let server = server();
    for connect in [server.connect("/peer"), server.connect_h2("/peer")] {
        let client = connect.extension(peer).protocols(["v1", "v2"]).await;
        let mut client = client.expect("open");
        client.expect_text("192.0.2.7:80 Some(\"v2\")").await;
        assert_eq!(client.protocol(), Some("v2"));
        assert!([101, 200].contains(&client.response().status().as_u16()));
    }
    for connect in [server.connect("/"), server.connect_h2("/")] {
        let refused = connect.origin("https://evil.example").await;
        let refused = refused.expect_err("a foreign page");
        assert_eq!(refused.status(), 403);
        assert!(refused.body().starts_with(b"Pages of this Origin"));
    }
    let refused = server.connect("/").header("host", "a b").await;
    assert_eq!(refused.expect_err("no host").status(), 400);
}

#[tokio::test(start_paused = true)]
async fn a_raw_client_breaks_every_rule() {
    // A reserved opcode.
    let mut client = raw("/").await;
    client.send_frame(0x83, b"").await;
    client.expect_close(1002).await;
    // A byte a second is slower than allowed.
    let mut client = raw("/").await;
    client.send(b"\x81\xFE\x03\xE8\0\0\0\0").await;
    let second = Duration::from_secs(1);
    client.send_slowly(&[b'x'; 29], second).await;
    client.expect_close(1008).await;
    // A stall within a message: of 29 s, and of 31.
    let mut client = raw("/").await;
    client.send_frame(0x01, b"half").await;
    client.stall(29 * second).await;
    client.send_frame(0x80, b" and half").await;
    assert_eq!(client.frame().await.unwrap().first, 0x89);
    client.expect(0x81, b"half and half").await;
    let mut client = raw("/").await;
    client.send_frame(0x01, b"half").await;
    client.stall(31 * second).await;
    assert_eq!(client.frame().await.unwrap().first, 0x89);
    client.expect_close(1008).await;
    // Half a message, then nothing more.
    let mut client = raw("/").await;
    client.send_frame(0x01, b"half").await;
    client.half_close().await;
    assert_eq!(client.frame().await, None);
    // Half a handshake.
    let mut client = server().raw();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let refused = client.response().await;
    assert_eq!(refused.status(), 426);
    assert_eq!(refused.headers()["upgrade"], "websocket");
    assert!(!refused.body().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_an_error_and_a_client_that_never_reads_is_given_up() {
    let recorder = Recorder::default();
    let server = TestServer::new(WebSocketLayer::new("/", recorder.clone()).into_service());
    let mut raw = server.raw();
    raw.handshake("/").await;
    raw.send(&text("a")).await;
    raw.expect(0x81, b"a").await;
    // What is in the pipe is lost.
    raw.send(&text("lost")).await;
    raw.reset();
    assert_lines(
        &recorder.closed().await,
        &[
            "open",
            "text a",
            "error the transport failed",
            "close 1006 Transport unclean",
        ],
    );

    let recorder = Recorder::default();
    let server = TestServer::new(WebSocketLayer::new("/", recorder.clone()).into_service());
    let mut raw = server.raw();
    raw.handshake("/").await;
    for _ in 0..10 {
        raw.send(&frame(0x82, &[0; 100_000])).await;
        raw.stall(Duration::from_millis(1)).await;
    }
    let log = recorder.closed().await;
    assert_eq!(log.last().unwrap(), "close 1006 Timeout unclean");
}

/// Writes down what it is told.
#[derive(Clone)]
struct Clerk(Recorder);

impl WebSocketHandler for Clerk {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        self.0.note(format!("open {}", conn.path()));
        Ok(())
    }
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        self.0.note(shown(&message));
        conn.send(message).await?;
        Ok(())
    }
    async fn on_event(&mut self, conn: &mut Connection, event: Event) -> Result {
        let n: u32 = event.downcast().map_err(|_| "not a number")?;
        conn.send(format!("event {n}")).await?;
        Ok(())
    }
    async fn on_close(&mut self, _: &mut Connection, event: CloseEvent) -> Result {
        self.0.note(shown_close(&event));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_runs_without_http() {
    let recorder = Recorder::default();
    let mut conn = TestConnection::open(Clerk(recorder.clone()));
    conn.message("a").await;
    conn.client().expect_text("a").await;
    conn.event(7_u32);
    conn.client().expect_text("event 7").await;
    conn.sender().try_send("from outside").unwrap();
    conn.client().expect_text("from outside").await;
    conn.close(1000, "bye").await;
    assert_lines(
        &recorder.log(),
        &["open /", "text a", "close 1000 Peer clean"],
    );

    let recorder = Recorder::default();
    let request = Request::get("/rooms/7").body(()).unwrap();
    let mut conn = TestConnection::open_with(Clerk(recorder.clone()), request);
    conn.message("a").await;
    conn.client().expect_text("a").await;
    conn.sender().close(CloseCode::GOING_AWAY, "").unwrap();
    conn.client().expect_close(1001).await;
    conn.ended().await;
    assert_lines(
        &recorder.log(),
        &["open /rooms/7", "text a", "close 1001 Application clean"],
    );
}

#[tokio::test(start_paused = true)]
async fn each_callback_can_be_called_by_a_test() {
    let peer = SocketAddr::from(([192, 0, 2, 7], 80));
    let request = || {
        let request = Request::get("/rooms/7").header("sec-websocket-protocol", "v1, v2");
        request.extension(peer).body(()).unwrap()
    };
    let recorder = Recorder::default();
    let mut clerk = Clerk(recorder.clone());
    let (mut conn, mut client) = test::connection(request());
    assert_eq!((conn.path(), conn.protocol()), ("/rooms/7", Some("v1")));
    assert_eq!((conn.mount(), conn.peer_addr()), ("", Some(peer)));
    clerk.on_open(&mut conn).await.unwrap();
    clerk.on_message(&mut conn, "a".into()).await.unwrap();
    client.expect_text("a").await;
    clerk.on_event(&mut conn, test::event(7_u32)).await.unwrap();
    client.expect_text("event 7").await;
    assert!(clerk.on_event(&mut conn, test::event("7")).await.is_err());
    let event = test::close_event(4000, "bye", CloseCause::Peer, true);
    assert_eq!((event.reason(), event.was_clean()), ("bye", true));
    clerk.on_close(&mut conn, event).await.unwrap();
    assert_lines(
        &recorder.log(),
        &["open /rooms/7", "text a", "close 4000 Peer clean"],
    );
    // Both ways, in order, to the end.
    for text in ["b", "c"] {
        client.send(text).await;
    }
    client.close(1000, "").await;
    for text in ["b", "c"] {
        assert_eq!(conn.recv().await.unwrap(), Some(text.into()));
    }
    assert_eq!(conn.recv().await.unwrap(), None);
    client.expect_close(1000).await;
    assert!(conn.try_send("late").unwrap_err().is_closed());

    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut request = request();
        *request.version_mut() = version;
        let mut handshake = test::handshake(request);
        assert!(handshake.protocols().eq(["v1", "v2"]));
        assert_eq!((handshake.path(), handshake.protocol()), ("/rooms/7", None));
        assert_eq!(handshake.client_ip(), Some(peer.ip()));
        assert!(handshake.select_protocol("v2") && !handshake.select_protocol("v3"));
        assert!(clerk.on_upgrade(&mut handshake).await.is_ok());
    }
}

#[test]
fn each_kind_of_error_can_be_made() {
    let protocol = || ErrorKind::Protocol(CloseCode::MESSAGE_TOO_BIG, "too big".into());
    let errors = [
        (
            ErrorKind::Application("a".into()),
            "on_message returned an error",
            Some(1011),
        ),
        (
            ErrorKind::Panic("a".into()),
            "on_message panicked: a",
            Some(1011),
        ),
        (
            ErrorKind::CallbackTimeout,
            "on_message took longer",
            Some(1011),
        ),
        (protocol(), "closed with 1009: too big", Some(1009)),
        (
            ErrorKind::Timeout(Some(1008.into())),
            "timed out: ",
            Some(1008),
        ),
        (
            ErrorKind::Io(std::io::ErrorKind::BrokenPipe.into()),
            "the transport failed",
            None,
        ),
    ];
    for (i, (kind, text, code)) in errors.into_iter().enumerate() {
        let error = test::error(kind);
        assert_begins(&error.to_string(), text);
        assert_eq!(error.close_code().map(CloseCode::as_u16), code);
        let is = [
            error.is_application(),
            error.is_panic(),
            error.is_callback_timeout(),
            error.is_protocol(),
            error.is_timeout(),
            error.is_io(),
        ];
        assert_eq!(is.iter().position(|is| *is), Some(i));
        assert_eq!(is.iter().filter(|is| **is).count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_takes_services_that_are_not_sync_and_puts_extensions_into_every_request() {
    let service = WebSocketLayer::new("/", Obedient).into_service();
    let service = tower::util::BoxCloneService::new(service);
    let peer = SocketAddr::from(([192, 0, 2, 7], 80));
    let server = TestServer::new(service).extension(peer);
    for connect in [server.connect("/peer"), server.connect_h2("/peer")] {
        connect
            .await
            .expect("open")
            .expect_text("192.0.2.7:80 None")
            .await;
    }
    let mut raw = server.raw();
    raw.handshake("/peer").await;
    raw.expect(0x81, b"192.0.2.7:80 None").await;
}

/// Ten thousand connections without a descriptor, in seconds.
#[tokio::test(start_paused = true)]
async fn ten_thousand_connections_in_memory() {
    let server = server();
    let mut clients = Vec::new();
    for _ in 0..10_000 {
        clients.push(server.connect("/").await.expect("open"));
    }
    for client in &mut clients {
        client.send("a").await;
    }
    for client in &mut clients {
        client.expect_text("a").await;
    }
}
