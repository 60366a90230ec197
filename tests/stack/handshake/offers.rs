//! What a handshake offers and how it is spelt, from outside (rows H4, H13 to H17, H26): the
//! tables of the decisions are in `src/handshake`.

use http::HeaderValue;
use http::header::{SEC_WEBSOCKET_PROTOCOL, SET_COOKIE};
use tower::Layer;
use tower_websocket::{Deflate, Handshake, Rejection, WebSocketHandler, WebSocketLayer};

use crate::support::*;

/// The answer to a handshake with one more line in it.
async fn answer(stack: &Stack<Recorder>, line: &[u8]) -> Head {
    let mut client = stack.connect();
    let (start, _) = HANDSHAKE.split_at(HANDSHAKE.len() - 2);
    client
        .send(&[start.as_bytes(), line, b"\r\n\r\n"].concat())
        .await;
    client.head().await
}

#[tokio::test(start_paused = true)]
async fn h4_without_upgrade_or_connection_it_is_a_plain_request_or_426() {
    for line in ["Upgrade: websocket\r\n", "Connection: Upgrade\r\n"] {
        let request = HANDSHAKE.replace(line, "");
        let (stack, recorder) = Stack::recorded();
        let mut client = stack.connect();
        client.send(request.as_bytes()).await;
        assert_eq!(client.response().await.body(), "inner GET /ws");
        let refusing = stack.layer.clone().require_upgrade();
        for mut client in [
            http1(refusing.layer(plain())),
            http1(stack.layer.clone().into_service()),
        ] {
            client.send(request.as_bytes()).await;
            let (head, body) = whole(client.response().await);
            assert_eq!(head.status(), 426, "{line}");
            assert_eq!(head.header("upgrade"), Some("websocket"));
            assert!(!body.is_empty());
        }
        assert!(recorder.log().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn h13_bytes_beyond_ascii_in_any_header_are_refused_or_ignored() {
    let names = HANDSHAKE.lines().skip(1).filter_map(|l| l.split_once(':'));
    let names = names.map(|(name, _)| name);
    let more = [
        "Origin",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
        "Cookie",
    ];
    let stack = Stack::recorded().0.with(|l| l.deflate(Deflate::new()));
    for name in names.chain(more) {
        for value in [&b"\x80"[..], b"\xFF\xFE", "\u{fc}".as_bytes(), b"a\xE9, b"] {
            let value = [format!("{name}: ").as_bytes(), value].concat();
            // In the place of the header, and beside it.
            let line = HANDSHAKE.lines().find(|l| l.starts_with(name));
            if let Some(line) = line {
                let (before, after) = HANDSHAKE.split_once(line).unwrap();
                let request = [before.as_bytes(), &value, after.as_bytes()].concat();
                let mut client = stack.connect();
                client.send(&request).await;
                // 200: not a WebSocket handshake any more.
                assert!(
                    matches!(client.head().await.status().as_u16(), 200 | 400 | 403 | 426),
                    "{name}"
                );
            }
            let status = answer(&stack, &value).await.status().as_u16();
            assert!(matches!(status, 101 | 400 | 403), "{name} {status}");
        }
    }
    stack.is_clean().await;
}

#[tokio::test(start_paused = true)]
async fn h14_origins_that_only_look_like_the_host_are_403() {
    let (stack, _) = Stack::recorded();
    for (origin, status) in [
        ("Origin: http://localhost", 101),
        ("Origin: http://localhost.evil.com", 403),
        ("Origin: http://evil-localhost", 403),
        ("Origin: http://localhost@evil.com", 403),
        ("Origin: null", 403),
        ("Origin: http://localhost\r\nOrigin: http://evil.com", 403),
    ] {
        let head = answer(&stack, origin.as_bytes()).await;
        assert_eq!(head.status(), status, "{origin}");
    }
}

#[tokio::test(start_paused = true)]
async fn h15_the_servers_first_subprotocol_is_chosen_and_nonsense_is_400() {
    let (stack, _) = Stack::recorded();
    let stack = stack.with(|layer| layer.protocols(["chat.v2", "chat.v1"]));
    for (line, status, chosen) in [
        ("chat.v1, chat.v2", 101, Some("chat.v2")),
        ("chat.v1", 101, Some("chat.v1")),
        ("other", 101, None),
        ("chat.v1, chat.v1", 400, None),
        ("chat v1", 400, None),
        ("chat.v1, (", 400, None),
    ] {
        let line = format!("Sec-WebSocket-Protocol: {line}");
        let head = answer(&stack, line.as_bytes()).await;
        assert_eq!(head.status(), status, "{line}");
        assert_eq!(head.header("sec-websocket-protocol"), chosen, "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn h16_h17_bad_extensions_are_400_or_declined() {
    let stack = Stack::recorded().0.with(|l| l.deflate(Deflate::new()));
    let many = "permessage-deflate".to_owned() + &"; a=1".repeat(10_000);
    for (offer, status) in [
        ("permessage-deflate; =1", 400),
        ("permessage-deflate; a=\"open", 400),
        (";", 400),
        (&many, 400),
        // Well spelt, and not to be had: declined, and the connection opens without.
        ("permessage-deflate; server_max_window_bits=7", 101),
        ("permessage-deflate; server_max_window_bits=16", 101),
        (
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            101,
        ),
        ("permessage-deflate; unknown", 101),
        ("permessage-lz4", 101),
    ] {
        let line = format!("Sec-WebSocket-Extensions: {offer}");
        let head = answer(&stack, line.as_bytes()).await;
        let start = &offer[..offer.len().min(60)];
        assert_eq!(head.status(), status, "{start}");
        assert_eq!(head.header("sec-websocket-extensions"), None, "{start}");
    }
    // A bad offer does not spoil the good one behind it.
    let line = "Sec-WebSocket-Extensions: permessage-deflate; x, permessage-deflate";
    let head = answer(&stack, line.as_bytes()).await;
    let agreed = head.header("sec-websocket-extensions").unwrap();
    assert!(agreed.starts_with("permessage-deflate"));
}

#[tokio::test(start_paused = true)]
async fn h26_an_application_cannot_break_the_response_with_what_it_chooses() {
    #[derive(Clone)]
    struct Chooser;
    impl WebSocketHandler for Chooser {
        async fn on_upgrade(
            &mut self,
            handshake: &mut Handshake,
        ) -> std::result::Result<(), Rejection> {
            assert!(!handshake.select_protocol("chat\r\nSet-Cookie: admin=1"));
            assert!(!handshake.select_protocol("not offered"));
            // Neither in the back way.
            let headers = handshake.response_headers_mut();
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("other"));
            assert!(HeaderValue::from_str("a\r\nb").is_err());
            Ok(())
        }
    }
    let layer = WebSocketLayer::new("/ws", Chooser);
    let mut client = http1(layer.layer(plain()));
    let line = "Sec-WebSocket-Protocol: chat\r\nHost: ";
    let request = HANDSHAKE.replace("Host: ", line);
    client.send(request.as_bytes()).await;
    let head = client.head().await;
    assert_eq!(head.status(), 101);
    assert_eq!(head.header("sec-websocket-protocol"), None);
    assert_eq!(head.header(SET_COOKIE.as_str()), None);
}
