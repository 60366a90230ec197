//! Handshakes from outside, where hyper and the layer decide together (rows H). The layer's own
//! decisions have their table in `src/handshake`.

use std::time::Duration;

use tokio::net::TcpListener;
use tower::Layer;

use crate::support::*;

/// The status that a request gets, and whether the connection ends after it.
async fn status(request: &[u8]) -> u16 {
    let (stack, recorder) = Stack::recorded();
    let mut client = stack.connect();
    client.send(request).await;
    let status = client.head().await.status().as_u16();
    if status != 101 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(recorder.log().is_empty());
        assert_eq!(stack.shutdown.connections(), 0);
    }
    status
}

fn with(line: &str) -> Vec<u8> {
    let headers = format!("\r\n{line}\r\n\r\n");
    HANDSHAKE.replace("\r\n\r\n", &headers).into_bytes()
}

#[tokio::test(start_paused = true)]
async fn h1_h2_h3_the_request_line_and_host_are_checked() {
    let post = HANDSHAKE.replace("GET", "POST");
    assert_eq!(status(post.as_bytes()).await, 405);
    let old = HANDSHAKE.replace("HTTP/1.1", "HTTP/1.0");
    assert!(matches!(status(old.as_bytes()).await, 426 | 505));
    let none = HANDSHAKE.replace("Host: localhost\r\n", "");
    assert_eq!(status(none.as_bytes()).await, 400);
    assert_eq!(status(&with("Host: other")).await, 400);
}

#[tokio::test(start_paused = true)]
async fn h5_h7_h8_lists_cases_and_several_lines_are_understood() {
    for (line, replaced) in [
        ("Connection: Upgrade", "Connection: keep-alive,\tUpGrade"),
        (
            "Connection: Upgrade",
            "Connection: keep-alive\r\nConnection: upgrade",
        ),
        ("Upgrade: websocket", "Upgrade: WebSocket"),
    ] {
        let request = HANDSHAKE.replace(line, replaced);
        assert_eq!(status(request.as_bytes()).await, 101, "{replaced}");
    }
}

#[tokio::test(start_paused = true)]
async fn h6_a_token_that_only_contains_upgrade_is_none() {
    let request = HANDSHAKE.replace("Connection: Upgrade", "Connection: noupgradehere");
    // Not ours: the inner service answers.
    assert_eq!(status(request.as_bytes()).await, 200);
}

#[tokio::test(start_paused = true)]
async fn h10_h12_what_must_stand_once_stands_once() {
    let key = with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(status(&key).await, 400);
    assert_eq!(status(&with("Sec-WebSocket-Version: 13")).await, 400);
}

#[tokio::test(start_paused = true)]
async fn h18_h19_a_handshake_has_no_body() {
    assert_eq!(status(&with("Content-Length: 5")).await, 400);
    assert_eq!(status(&with("Transfer-Encoding: chunked")).await, 400);
    let both = with("Content-Length: 5\r\nTransfer-Encoding: chunked");
    assert_eq!(status(&both).await, 400);
    assert_eq!(
        status(&with("Content-Length: 5\r\nContent-Length: 6")).await,
        400
    );
}

#[tokio::test(start_paused = true)]
async fn p8_what_small_clients_send_in_a_handshake_is_understood() {
    let host = |value: &str| HANDSHAKE.replace("Host: localhost", &format!("Host: {value}"));
    // Python's `websockets` with `subprotocols=[]`, libsoup; ws4py; curl over a Unix socket.
    assert_eq!(status(&with("Sec-WebSocket-Protocol: ")).await, 101);
    assert_eq!(status(&with("Origin: ws://localhost")).await, 101);
    assert_eq!(status(&with("Origin: ws://evil.example")).await, 403);
    assert_eq!(status(host("").as_bytes()).await, 101);
    let page = host("").replace("Upgrade: w", "Origin: http://localhost\r\nUpgrade: w");
    assert_eq!(status(page.as_bytes()).await, 403);
}

#[tokio::test(start_paused = true)]
async fn p8_a_path_that_can_be_read_in_two_ways_is_refused_with_the_reason_where_nobody_else_answers()
 {
    let (stack, recorder) = Stack::recorded();
    for path in ["/ws/a%2Fb", "/ws/../ws", "/ws/%2e%2e"] {
        let handshake = HANDSHAKE.replace("/ws", path);
        let get = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        for request in [handshake, get] {
            let mut client = stack.connect();
            client.send(request.as_bytes()).await;
            let (head, body) = whole(client.response().await);
            assert_eq!(
                (head.status().as_u16(), body),
                (200, format!("inner GET {path}"))
            );

            let refusing = stack.layer.clone().require_upgrade();
            let leaf = stack.layer.clone().into_service();
            let clients = [http1(tower::Layer::layer(&refusing, plain())), http1(leaf)];
            for mut client in clients {
                client.send(request.as_bytes()).await;
                let (head, body) = whole(client.response().await);
                assert_eq!(head.status(), 400);
                assert!(body.contains("%2F"), "{body}");
            }
        }
    }
    assert!(recorder.log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn s9_a_handshake_for_a_host_that_is_not_listed_is_421() {
    let (stack, recorder) = Stack::recorded();
    let stack = stack.with(|layer| layer.allowed_hosts(["localhost"]));
    let rebound = "Host: evil.example\r\nOrigin: http://evil.example";
    let mut client = stack.connect();
    client
        .send(HANDSHAKE.replace("Host: localhost", rebound).as_bytes())
        .await;
    let (head, body) = whole(client.response().await);
    assert_eq!(head.status(), 421);
    assert!(
        body.contains("\"evil.example\" to `allowed_hosts`"),
        "{body}"
    );
    // Other requests are the inner service's, whatever their host.
    client
        .send(b"GET /ws HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status(), 200);
    assert!(recorder.log().is_empty());
    stack.is_clean().await;
}

#[tokio::test(start_paused = true)]
async fn h21_a_request_pipelined_behind_the_handshake_is_bytes_of_a_frame() {
    let (stack, recorder) = Stack::recorded();
    let mut client = stack.connect();
    let second = "GET /secret HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.send(format!("{HANDSHAKE}{second}").as_bytes()).await;
    assert_eq!(client.head().await.status(), 101);
    client.expect_close(Some(1002)).await;
    assert_eq!(
        recorder.closed().await.last().unwrap(),
        "close 1002 Violation unclean"
    );
}

/// The server hands over a socket, and beside it what it read behind the head.
#[tokio::test]
async fn h21_frames_that_come_with_the_handshake_are_read_first_from_the_socket_of_either_server() {
    let (stack, _) = Stack::recorded();
    let service = stack.layer.layer(plain());
    let by_auto = tcp(service.clone()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let by_http1 = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        serve_http1(socket, service).await;
    });
    for addr in [by_auto, by_http1] {
        let mut client = tcp_client(addr).await;
        let first = [
            HANDSHAKE.as_bytes(),
            &frame(0x81, b"first"),
            &frame(0x81, b"second")[..5],
        ]
        .concat();
        client.send(&first).await;
        assert_eq!(client.head().await.status(), 101);
        client.expect(0x81, b"first").await;
        client.send(&frame(0x81, b"second")[5..]).await;
        client.expect(0x81, b"second").await;
        client.send_frame(0x88, b"").await;
        client.expect_close(None).await;
        client.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn h23_too_many_or_too_large_headers_are_431() {
    let many = vec!["a: b"; 130].join("\r\n");
    assert_eq!(status(&with(&many)).await, 431);
}

#[tokio::test(start_paused = true)]
async fn h24_a_slow_handshake_ends_after_ten_seconds() {
    let (stack, recorder) = Stack::recorded();
    let (client, server) = tokio::io::duplex(1024);
    tokio::spawn(serve_http1(server, stack.layer.layer(plain())));
    let mut client = Client::new(client);
    let began = tokio::time::Instant::now();
    client.send(&HANDSHAKE.as_bytes()[..50]).await;
    client.end().await;
    assert!(began.elapsed() <= Duration::from_secs(11));
    assert!(recorder.log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn h25_of_a_client_that_left_before_the_101_nothing_stays() {
    let (stack, recorder) = Stack::recorded();
    let mut client = stack.connect();
    client.send(HANDSHAKE.as_bytes()).await;
    drop(client);
    within(async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        while stack.shutdown.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let log = recorder.log();
    let opened = log.iter().filter(|l| *l == "open").count();
    let closed = log.iter().filter(|l| l.starts_with("close")).count();
    assert_eq!(opened, closed, "{log:?}");
}
