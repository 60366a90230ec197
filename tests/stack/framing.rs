//! Rows F: what a client may and may not send after the 101.

use std::time::Duration;

use crate::support::*;

/// Sends `bytes`; the connection must be closed with `code`, which the application is told as
/// an error, and nothing else of it.
async fn violation(bytes: &[u8], code: u16) {
    let (stack, recorder) = Stack::recorded();
    let mut client = stack.open().await;
    client.send(bytes).await;
    client.expect_close(Some(code)).await;
    drop(client);
    let log = recorder.closed().await;
    assert_eq!(log.len(), 3, "{log:?}");
    assert_eq!(log[0], "open");
    assert!(
        log[1].starts_with(&format!("error closed with {code}: ")),
        "{log:?}"
    );
    assert_eq!(log[2], format!("close {code} Violation unclean"));
    stack.is_clean().await;
}

/// Sends `bytes`; these messages must arrive and come back, in order.
async fn delivered(bytes: &[u8], expected: &[(u8, &[u8])]) {
    let (stack, recorder) = Stack::recorded();
    let mut client = stack.open().await;
    client.send(bytes).await;
    for (first, payload) in expected {
        client.expect(*first, payload).await;
    }
    client.send(&close(1000, "")).await;
    client.expect_close(Some(1000)).await;
    assert_eq!(
        recorder.closed().await.last().unwrap(),
        "close 1000 Peer clean"
    );
    stack.is_clean().await;
}

#[tokio::test(start_paused = true)]
async fn f1_an_unmasked_frame_is_refused_from_its_header() {
    violation(&[0x81, 0x05], 1002).await;
}

#[tokio::test(start_paused = true)]
async fn f2_reserved_bits_are_refused_from_the_header() {
    for bit in [0x40, 0x20, 0x10] {
        violation(&[0x81 | bit, 0x85], 1002).await;
    }
}

#[tokio::test(start_paused = true)]
async fn f4_reserved_opcodes_are_refused() {
    for opcode in (3..8).chain(0xB..0x10) {
        violation(&[0x80 | opcode], 1002).await;
    }
}

#[tokio::test(start_paused = true)]
async fn f5_a_length_over_63_bits_is_refused() {
    violation(&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 1], 1002).await;
}

#[tokio::test(start_paused = true)]
async fn f6_a_length_that_is_not_minimal_is_refused() {
    violation(&[0x82, 0xFE, 0, 5], 1002).await;
    violation(&[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0, 200], 1002).await;
}

#[tokio::test(start_paused = true)]
async fn f7_a_message_over_the_limit_is_refused_before_its_payload() {
    violation(&[0x82, 0xFF, 0, 0, 0, 0, 0, 0x10, 0, 1], 1009).await;
    violation(
        &[0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        1009,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn f8_n6_a_frame_that_stalls_is_closed_with_1008() {
    let (stack, recorder) = Stack::recorded();
    let mut client = stack.open().await;
    let whole = frame(0x82, &[7; 1000]);
    let start = tokio::time::Instant::now();
    client.send(&whole[..100]).await;
    // A byte a second buys no time.
    for byte in &whole[100..125] {
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.send(&[*byte]).await;
    }
    client.expect_close(Some(1008)).await;
    let took = start.elapsed().as_secs();
    assert!((30..32).contains(&took), "{took} s");
    let log = recorder.closed().await;
    assert_eq!(log[1], "error timed out: a message did not arrive in time");
    assert_eq!(log[2], "close 1008 Timeout unclean");
    stack.is_clean().await;
}

#[tokio::test(start_paused = true)]
async fn f9_f10_control_frames_are_short_and_whole() {
    for opcode in [8, 9, 10] {
        violation(&[0x80 | opcode, 0xFE], 1002).await;
        violation(&[opcode, 0x80], 1002).await;
    }
}

#[tokio::test(start_paused = true)]
async fn f11_f12_fragments_must_be_in_order() {
    violation(&frame(0x80, b"x"), 1002).await;
    violation(&[frame(0x01, b"a"), frame(0x81, b"b")].concat(), 1002).await;
}

#[tokio::test(start_paused = true)]
async fn f13_a_ping_between_fragments_is_answered_at_once() {
    let bytes = [frame(0x01, b"Hel"), frame(0x89, b"now"), frame(0x80, b"lo")].concat();
    delivered(&bytes, &[(0x8A, b"now"), (0x81, b"Hello")]).await;
    // At once: the message is not even whole.
    let (stack, _) = Stack::recorded();
    let mut client = stack.open().await;
    client.send(&bytes[..bytes.len() - 3]).await;
    client.expect(0x8A, b"now").await;
}

#[tokio::test(start_paused = true)]
async fn f14_text_that_is_not_utf8_is_refused() {
    for bad in [
        &b"\xff"[..],
        b"a\xe2\x82",
        b"\xed\xa0\x80",
        b"\xc0\xaf",
        b"\xf4\x90\x80\x80",
    ] {
        violation(&frame(0x81, bad), 1007).await;
    }
}

#[tokio::test(start_paused = true)]
async fn f15_a_character_may_be_split_over_fragments() {
    let bytes = [frame(0x01, b"\xe2\x82"), frame(0x80, b"\xac")].concat();
    delivered(&bytes, &[(0x81, "€".as_bytes())]).await;
    violation(
        &[frame(0x01, b"\xe2\x82"), frame(0x00, b"x")].concat(),
        1007,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn f16_a_bad_byte_is_refused_before_its_frame_is_whole() {
    let whole = frame(0x81, b"ok\xff and much more that never arrives");
    violation(&whole[..9], 1007).await;
}

#[tokio::test(start_paused = true)]
async fn f17_empty_messages_are_delivered() {
    let bytes = [
        frame(0x81, b""),
        frame(0x82, b""),
        frame(0x01, b""),
        frame(0x80, b""),
    ]
    .concat();
    delivered(&bytes, &[(0x81, b""), (0x82, b""), (0x81, b"")]).await;
}

#[tokio::test(start_paused = true)]
async fn f18_endless_empty_fragments_are_refused() {
    let mut bytes = frame(0x01, b"");
    // As many as the default allows are none too many.
    for _ in 0..16 * 1024 - 1 {
        bytes.extend(frame(0x00, b""));
    }
    delivered(
        &[&bytes[..bytes.len() - 6], &frame(0x80, b"")].concat(),
        &[(0x81, b"")],
    )
    .await;
    bytes.extend(frame(0x00, b""));
    violation(&bytes, 1008).await;
}

#[tokio::test(start_paused = true)]
async fn f19_a_message_of_one_byte_fragments_has_a_deadline() {
    let (stack, recorder) = Stack::recorded();
    let mut client = stack.open().await;
    let start = tokio::time::Instant::now();
    client.send(&frame(0x01, b"a")).await;
    for _ in 0..25 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.send(&frame(0x00, b"a")).await;
    }
    client.expect_close(Some(1008)).await;
    assert!((30..32).contains(&start.elapsed().as_secs()));
    assert_eq!(recorder.closed().await[2], "close 1008 Timeout unclean");
    stack.is_clean().await;
}

#[tokio::test(start_paused = true)]
async fn f20_one_byte_at_a_time_is_the_same() {
    let (stack, recorder) = Stack::recorded();
    let mut client = stack.open().await;
    let bytes = [
        text("one"),
        frame(0x02, &[1; 200]),
        frame(0x89, b"p"),
        frame(0x80, &[2; 70]),
        close(4000, "done"),
    ]
    .concat();
    for byte in bytes {
        client.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    client.expect(0x81, b"one").await;
    client.expect(0x8A, b"p").await;
    client
        .expect(0x82, &[[1; 200].as_slice(), &[2; 70]].concat())
        .await;
    client.expect_close(Some(4000)).await;
    assert_lines(
        &recorder.closed().await,
        &["open", "text one", "binary 270", "close 4000 Peer clean"],
    );
    stack.is_clean().await;
}

#[tokio::test(start_paused = true)]
async fn f21_the_sum_of_fragments_is_limited() {
    let (stack, _) = Stack::recorded();
    let stack = stack.with(|layer| layer.max_message_size(300));
    let mut client = stack.open().await;
    client
        .send(&[frame(0x02, &[0; 200]), frame(0x80, &[0; 101])].concat())
        .await;
    client.expect_close(Some(1009)).await;
    stack.is_clean().await;
}

#[tokio::test(start_paused = true)]
async fn f22_equal_pings_coalesce_and_a_flood_is_closed_with_1008() {
    let (stack, recorder) = Stack::recorded();
    let mut client = stack.open().await;
    client.send(&frame(0x89, b"same").repeat(20)).await;
    client.expect(0x8A, b"same").await;
    client.send(&text("next")).await;
    let frame_behind = client.frame().await.unwrap();
    assert_eq!(
        frame_behind.payload, b"next",
        "one pong for equal pings of one read"
    );
    tokio::time::sleep(Duration::from_secs(2)).await;

    let flood: Vec<u8> = (0..60u8).flat_map(|i| frame(0x89, &[i])).collect();
    client.send(&flood).await;
    for i in 0..50 {
        client.expect(0x8A, &[i]).await;
    }
    client.expect_close(Some(1008)).await;
    assert_eq!(
        recorder.closed().await.last().unwrap(),
        "close 1008 Violation unclean"
    );
    stack.is_clean().await;
}

#[tokio::test(start_paused = true)]
async fn f23_pings_of_a_peer_that_never_reads_end_with_the_write_deadline() {
    let (stack, recorder) = Stack::recorded();
    let mut client = stack.open().await;
    // Fill the way out, then go on pinging at a rate that is allowed.
    for i in 0..40u8 {
        client.send(&frame(0x82, &[i; 1000])).await;
    }
    let start = tokio::time::Instant::now();
    let mut refused = false;
    for i in 0..3000u32 {
        tokio::time::sleep(Duration::from_millis(25)).await;
        let ping = frame(0x89, &[i.to_be_bytes().as_slice(), &[0; 100]].concat());
        let sent = tokio::time::timeout(
            Duration::from_secs(60),
            tokio::io::AsyncWriteExt::write_all(&mut client.io, &ping),
        );
        if !matches!(sent.await, Ok(Ok(()))) {
            refused = true;
            break;
        }
    }
    assert!(refused, "reading must stop when the answers cannot leave");
    assert!(start.elapsed() < Duration::from_secs(100));
    let log = recorder.closed().await;
    assert_eq!(log.last().unwrap(), "close 1006 Timeout unclean");
    stack.is_clean().await;
}

#[tokio::test(start_paused = true)]
async fn f24_only_the_pong_to_our_ping_answers_the_heartbeat() {
    let (stack, recorder) = Stack::recorded();
    // Unsolicited pongs are no answer, and no offence.
    let mut client = stack.open().await;
    let start = tokio::time::Instant::now();
    let ping = client.frame().await.unwrap();
    assert_eq!(ping.first, 0x89);
    assert_eq!(start.elapsed().as_secs(), 20);
    client.send(&frame(0x8A, b"other")).await;
    client.expect_close(Some(1011)).await;
    assert_eq!(start.elapsed().as_secs(), 40);
    let log = recorder.closed().await;
    assert_lines(
        &log,
        &[
            "open",
            "error timed out: no pong came back",
            "close 1006 Timeout unclean",
        ],
    );

    // The right one is.
    let mut client = stack.open().await;
    for _ in 0..10 {
        let ping = client.frame().await.unwrap();
        assert_eq!(ping.first, 0x89);
        client.send(&frame(0x8A, &ping.payload)).await;
    }
    client.send(&text("still here")).await;
    client.expect(0x81, b"still here").await;
    drop(client);
    stack.is_clean().await;
}

#[tokio::test(start_paused = true)]
async fn f25_an_empty_close_is_echoed_empty() {
    let (stack, recorder) = Stack::recorded();
    let mut client = stack.open().await;
    client.send(&frame(0x88, b"")).await;
    client.expect_close(None).await;
    assert_lines(&recorder.closed().await, &["open", "close 1005 Peer clean"]);
    stack.is_clean().await;
}

#[tokio::test(start_paused = true)]
async fn f26_f27_f28_close_frames_are_read_strictly() {
    violation(&frame(0x88, b"\x03"), 1002).await;
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        violation(&close(code, ""), 1002).await;
    }
    violation(&frame(0x88, b"\x03\xe8\xff"), 1007).await;
}

#[tokio::test(start_paused = true)]
async fn f29_data_after_close_is_never_delivered() {
    let (stack, recorder) = Stack::recorded();
    let mut client = stack.open().await;
    client
        .send(&[text("a"), close(1000, ""), text("b")].concat())
        .await;
    client.expect(0x81, b"a").await;
    client.expect_close(Some(1000)).await;
    assert_lines(
        &recorder.closed().await,
        &["open", "text a", "close 1000 Peer clean"],
    );
    stack.is_clean().await;
}

#[tokio::test(start_paused = true)]
async fn f30_close_inside_a_fragmented_message_discards_the_part() {
    let (stack, recorder) = Stack::recorded();
    let mut client = stack.open().await;
    client
        .send(&[frame(0x01, b"half"), close(1001, "bye")].concat())
        .await;
    client.expect_close(Some(1001)).await;
    assert_lines(&recorder.closed().await, &["open", "close 1001 Peer clean"]);
    stack.is_clean().await;
}
