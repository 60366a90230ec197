//! The test kit proves that it can fail: each of its expectations, met and not met.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use http::Request;
use serde_json::json;
use tower_websocket::test::{RawClient, Received, TestClient, TestConnection, TestServer};
use tower_websocket::{
    Close, CloseCode, CloseEvent, Connection, Event, Message, Result, WebSocketHandler,
    WebSocketLayer,
};

use crate::support::{Recorder, assert_lines, shown, shown_close};

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

type Expecting<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// What the expectation panics with.
async fn failure(
    expect: impl for<'a> FnOnce(&'a mut TestClient) -> Expecting<'a> + Send + 'static,
) -> String {
    let failed = tokio::spawn(async move {
        let mut client = open().await;
        client.send("before").await;
        client.expect_text("before").await;
        expect(&mut client).await;
    });
    let panic = failed.await.expect_err("it does not fail").into_panic();
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn each_expectation_says_what_it_expected_and_what_came_instead() {
    let before = "; the last that came: Text(6 bytes: \"before\")";
    let failures = [
        (
            failure(|c| {
                Box::pin(async {
                    c.send("b").await;
                    c.expect_text("a").await;
                })
            })
            .await,
            "expected the text \"a\", got Text(1 bytes: \"b\")",
        ),
        (
            failure(|c| {
                Box::pin(async {
                    c.send(vec![1]).await;
                    c.expect_text("a").await;
                })
            })
            .await,
            "expected the text \"a\", got Binary(1 bytes: \"\\x01\")",
        ),
        (
            failure(|c| {
                Box::pin(async {
                    c.send("a").await;
                    c.expect_binary(b"a").await;
                })
            })
            .await,
            "expected Binary(1 bytes: \"a\"), got Text(1 bytes: \"a\")",
        ),
        (
            failure(|c| {
                Box::pin(async {
                    c.send("[1]").await;
                    c.expect_json(json!([2])).await;
                })
            })
            .await,
            "expected the JSON [2], got Text(3 bytes: \"[1]\")",
        ),
        (
            failure(|c| {
                Box::pin(async {
                    c.send("close").await;
                    c.recv().await;
                })
            })
            .await,
            "expected a message, got a Close frame with 4000 \"as told\"",
        ),
        (
            failure(|c| {
                Box::pin(async {
                    c.send("close").await;
                    c.expect_close(1000).await;
                })
            })
            .await,
            "expected a Close frame with 1000, got a Close frame with 4000 \"as told\"",
        ),
        (
            failure(|c| {
                Box::pin(async {
                    c.send("a").await;
                    c.expect_close(1000).await;
                })
            })
            .await,
            "expected a Close frame with 1000, got Text(1 bytes: \"a\")",
        ),
        (
            failure(|c| {
                Box::pin(async {
                    c.send("a").await;
                    c.expect_end().await;
                })
            })
            .await,
            "expected the end of the connection, got Text(1 bytes: \"a\")",
        ),
        (
            failure(|c| {
                Box::pin(async {
                    c.send("abort").await;
                    c.recv().await;
                })
            })
            .await,
            "expected a message, got the end of the connection",
        ),
        (
            failure(|c| {
                Box::pin(async {
                    c.send("quiet").await;
                    c.expect_text("a").await;
                })
            })
            .await,
            "expected the text \"a\", got nothing in 10 s",
        ),
        (
            failure(|c| {
                Box::pin(async {
                    c.next().await;
                })
            })
            .await,
            "expected anything, got nothing in 10 s",
        ),
        (
            failure(|c| {
                Box::pin(async {
                    c.send("later").await;
                    c.expect_silence(Duration::from_secs(61)).await;
                })
            })
            .await,
            "expected silence for 61s, got Text(14 bytes: \"a minute later\")",
        ),
        (
            failure(|c| {
                Box::pin(async {
                    c.send("abort").await;
                    c.expect_end().await;
                    c.send("late").await;
                })
            })
            .await,
            "expected to be able to send, got ",
        ),
    ];
    for (failure, expected) in failures {
        assert!(
            failure.starts_with(expected),
            "{failure} does not begin with {expected}"
        );
        assert!(failure.contains(before), "{failure}");
    }
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
    let open = async || {
        let mut raw: RawClient = server().raw();
        assert_eq!(raw.handshake("/").await.status(), 101);
        raw
    };
    // A reserved opcode.
    let mut raw = open().await;
    raw.send_frame(0x83, b"").await;
    raw.expect_close(1002).await;
    // A byte a second is slower than allowed.
    let mut raw = open().await;
    raw.send(b"\x81\xFE\x03\xE8\0\0\0\0").await;
    raw.send_slowly(b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxx", Duration::from_secs(1))
        .await;
    raw.expect_close(1008).await;
    // Half a message, then nothing more.
    let mut raw = open().await;
    raw.send_frame(0x01, b"half").await;
    raw.half_close().await;
    assert_eq!(raw.frame().await, None);
    // Half a handshake.
    let mut raw = server().raw();
    raw.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = raw.head().await;
    assert_eq!(
        (head.status().as_u16(), &head.headers()["upgrade"]),
        (426, &"websocket".parse().unwrap())
    );
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
    let request = Request::get("/rooms/7").body(()).unwrap().into_parts().0;
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

/// Ten thousand connections without a descriptor: a second or two.
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
