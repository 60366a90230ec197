//! permessage-deflate on whole stacks: what is agreed, what is sent, what is refused.

use tower_websocket::{Deflate, WebSocketLayer};

use crate::support::*;

const BROWSER: &str = "permessage-deflate; client_max_window_bits";

fn with_deflate(deflate: Deflate) -> (Stack<Recorder>, Recorder) {
    let (stack, recorder) = Stack::recorded();
    (stack.with(|layer| layer.deflate(deflate)), recorder)
}

/// Opens a WebSocket with an offer, and gives the answer to it.
async fn open(stack: &Stack<Recorder>, offer: &str) -> (Client, Option<String>) {
    let mut client = stack.connect();
    let handshake = HANDSHAKE.replace(
        "Upgrade: websocket",
        &format!("Upgrade: websocket\r\nSec-WebSocket-Extensions: {offer}"),
    );
    client.send(handshake.as_bytes()).await;
    let head = client.head().await;
    assert_eq!(head.status(), 101);
    let answer = head.header("sec-websocket-extensions").map(str::to_owned);
    (client, answer)
}

#[tokio::test(start_paused = true)]
async fn a_compressed_message_is_delivered_and_the_echo_is_compressed() {
    let (stack, recorder) = with_deflate(Deflate::new().threshold(0).level(9));
    let (mut client, answer) = open(&stack, BROWSER).await;
    assert_eq!(
        answer.as_deref(),
        Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
    );
    // Whole, and in fragments with a ping between.
    client.send(&frame(0xC1, DEFLATED_HELLO)).await;
    client.expect(0x81, b"Hello").await;
    client.send(&frame(0x41, &DEFLATED_HELLO[..3])).await;
    client.send(&frame(0x89, b"?")).await;
    client.expect(0x8A, b"?").await;
    client.send(&frame(0x80, &DEFLATED_HELLO[3..])).await;
    client.expect(0x81, b"Hello").await;
    // Plain ones are as before; an answer that gets smaller is compressed.
    let long = "a".repeat(100);
    client.send(&text(&long)).await;
    let answer = client.frame().await.unwrap();
    assert_eq!(answer.first, 0xC1);
    assert!(answer.payload.len() < 20, "{:x?}", answer.payload);
    client.send(&frame(0xC1, &answer.payload)).await;
    assert_eq!(client.frame().await.unwrap().payload, answer.payload);
    client.send(&close(1000, "")).await;
    client.expect_close(Some(1000)).await;
    let long = format!("text {long}");
    assert_lines(
        &recorder.closed().await,
        &[
            "open",
            "text Hello",
            "text Hello",
            &long,
            &long,
            "close 1000 Peer clean",
        ],
    );
    stack.is_clean().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_agreed_unless_the_layer_and_the_client_want_it() {
    let (stack, _) = Stack::recorded();
    let (mut client, answer) = open(&stack, BROWSER).await;
    assert_eq!(answer, None);
    client.send(&frame(0xC1, DEFLATED_HELLO)).await;
    client.expect_close(Some(1002)).await;

    let (stack, _) = with_deflate(Deflate::new());
    let (mut client, answer) = open(&stack, "permessage-deflate; what=1").await;
    assert_eq!(answer, None);
    client.send(&frame(0xC1, DEFLATED_HELLO)).await;
    client.expect_close(Some(1002)).await;
}

#[tokio::test(start_paused = true)]
async fn f3_rsv1_on_control_frames_and_continuations_is_1002() {
    for bytes in [
        frame(0xC9, b""),
        frame(0xC8, b""),
        [
            frame(0x41, &DEFLATED_HELLO[..3]),
            frame(0xC0, &DEFLATED_HELLO[3..]),
        ]
        .concat(),
    ] {
        let (stack, _) = with_deflate(Deflate::new());
        let (mut client, _) = open(&stack, BROWSER).await;
        client.send(&bytes).await;
        client.expect_close(Some(1002)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn r5_garbage_is_1007_and_what_grows_too_large_1009() {
    for (payload, code) in [
        (&[0x06][..], 1007),
        // A text that is not UTF-8, stored.
        (&[0x00, 0x01, 0x00, 0xfe, 0xff, 0xff, 0x00], 1007),
        // One byte 200 thousand times.
        (&deflated_run(b'a', 200_000, true), 1009),
    ] {
        let (stack, recorder) = with_deflate(Deflate::new());
        let stack = stack.with(|layer| layer.max_message_size(100_000));
        let (mut client, _) = open(&stack, BROWSER).await;
        client.send(&frame(0xC1, payload)).await;
        client.expect_close(Some(code)).await;
        let log = recorder.closed().await;
        assert_eq!(log.len(), 3, "{log:?}");
        assert_eq!(log[2], format!("close {code} Violation unclean"));
        stack.is_clean().await;
    }
}

#[tokio::test(start_paused = true)]
async fn p8_a_message_that_ends_with_a_final_block_is_whole() {
    // "Hello" as `deflateRawSync` makes it, and nothing behind it.
    let last: &[u8] = &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    for takeover in [false, true] {
        let (stack, _) = with_deflate(Deflate::new().client_context_takeover(takeover));
        let (mut client, _) = open(&stack, BROWSER).await;
        client.send(&frame(0xC1, last)).await;
        client.expect(0x81, b"Hello").await;
        client.send(&frame(0x41, &last[..5])).await;
        client.send(&frame(0x00, &last[5..])).await;
        client.send(&frame(0x80, b"")).await;
        client.expect(0x81, b"Hello").await;
        client.send(&frame(0xC1, DEFLATED_HELLO)).await;
        client.expect(0x81, b"Hello").await;
        if takeover {
            // RFC 7692 §7.2.3.2: what came since is there to refer to.
            client
                .send(&frame(0xC1, &[0xf2, 0x00, 0x11, 0x00, 0x00]))
                .await;
            client.expect(0x81, b"Hello").await;
        }
    }
}

/// The code and reason of the Close frame that answers compressed messages.
async fn refused(stack: &Stack<Recorder>, messages: &[&[u8]]) -> (u16, String) {
    let (mut client, _) = open(stack, BROWSER).await;
    let (last, good) = messages.split_last().unwrap();
    for message in good {
        client.send(&frame(0xC1, message)).await;
        assert_eq!(client.frame().await.unwrap().first & 0x0F, 1);
    }
    client.send(&frame(0xC1, last)).await;
    let close = client.frame().await.unwrap();
    let code = close.close_code().unwrap();
    let reason = String::from_utf8(close.payload[2..].to_vec()).unwrap();
    (code, reason)
}

#[tokio::test(start_paused = true)]
async fn p8_a_compressed_text_that_ends_badly_is_not_blamed_on_its_characters() {
    let (stack, _) = with_deflate(Deflate::new());
    for cut in [
        // A stored block that says 5 and has 2.
        &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65][..],
        // Behind a final block the beginning of another.
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00, 0x05],
        // The end that a sender has to take off, left on.
        &[DEFLATED_HELLO, &[0x00, 0x00, 0xff, 0xff]].concat(),
    ] {
        let (code, reason) = refused(&stack, &[cut]).await;
        assert_eq!(code, 1007);
        assert!(reason.contains("not complete"), "{reason}");
    }
    let (code, reason) = refused(&stack, &[&[0x06]]).await;
    assert_eq!((code, reason.contains("cannot be inflated")), (1007, true));
    // This one is whole, and its text is not.
    let (_, reason) = refused(&stack, &[&[0x00, 0x01, 0x00, 0xfe, 0xff, 0xff, 0x00]]).await;
    assert!(reason.contains("UTF-8"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn p8_a_client_that_ignores_client_no_context_takeover_is_named_in_the_reason() {
    // Refers to the message before (RFC 7692 §7.2.3.2).
    let again: &[u8] = &[0xf2, 0x00, 0x11, 0x00, 0x00];
    let name = "client_no_context_takeover";
    let (stack, recorder) = with_deflate(Deflate::new());
    let (code, reason) = refused(&stack, &[DEFLATED_HELLO, again]).await;
    assert_eq!(code, 1007);
    assert!(reason.contains(name), "{reason}");
    assert!(recorder.closed().await[2].contains(name));
    // The first message has nothing to take over, and with takeover it is something else.
    let (_, reason) = refused(&stack, &[again]).await;
    assert!(!reason.contains(name), "{reason}");
    let (stack, _) = with_deflate(Deflate::new().client_context_takeover(true));
    let (_, reason) = refused(&stack, &[DEFLATED_HELLO, again, &[0x06]]).await;
    assert!(!reason.is_empty() && !reason.contains(name), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn p8_a_message_within_the_limit_is_not_too_fast_where_compression_made_it_larger() {
    // Stored in blocks of 50 bytes: a tenth more.
    let mut stored = Vec::new();
    for _ in 0..1024 * 1024 / 50 {
        stored.extend([0, 50, 0, 0xff - 50, 0xff]);
        stored.extend([b'a'; 50]);
    }
    stored.push(0);
    let (stack, _) = with_deflate(Deflate::new());
    let stack = stack.with(|layer| layer.max_bytes_per_second(1));
    let (mut client, _) = open(&stack, BROWSER).await;
    client.send(&frame(0xC1, &stored)).await;
    assert_eq!(client.frame().await.unwrap().first, 0xC1);
}

#[tokio::test(start_paused = true)]
async fn with_takeover_messages_share_a_context_in_both_directions() {
    let deflate = Deflate::new()
        .threshold(0)
        .server_context_takeover(true)
        .client_context_takeover(true);
    let (stack, _) = with_deflate(deflate);
    let (mut client, answer) = open(&stack, BROWSER).await;
    assert_eq!(answer.as_deref(), Some("permessage-deflate"));
    let message = "something that is said more than once";
    client.send(&text(message)).await;
    let first = client.frame().await.unwrap();
    client.send(&text(message)).await;
    let second = client.frame().await.unwrap();
    assert!(second.payload.len() < first.payload.len() / 2);
    // RFC 7692 §7.2.3.2.
    client.send(&frame(0xC1, DEFLATED_HELLO)).await;
    client.frame().await.unwrap();
    client
        .send(&frame(0xC1, &[0xf2, 0x00, 0x11, 0x00, 0x00]))
        .await;
    client.frame().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_stream_style_agrees_to_nothing() {
    let layer = WebSocketLayer::stream("/ws", |_, _| async { Ok(()) }).deflate(Deflate::new());
    let mut client = http1(tower::Layer::layer(&layer, plain()));
    let offer = format!("Upgrade: websocket\r\nSec-WebSocket-Extensions: {BROWSER}");
    client
        .send(HANDSHAKE.replace("Upgrade: websocket", &offer).as_bytes())
        .await;
    let head = client.head().await;
    assert_eq!(head.status(), 101);
    assert_eq!(head.header("sec-websocket-extensions"), None);
}
