//! Frames in any pieces, good and bad.

use super::*;
use crate::close::CloseCode;

fn limits(max_message: usize, max_frame: usize, max_fragments: u32) -> Config {
    Config {
        max_message,
        max_frame,
        max_fragments: Some(max_fragments),
        ..Config::default()
    }
}

fn small() -> Config {
    limits(300, 200, 4)
}

#[test]
fn an_assembler_has_56_bytes() {
    assert_eq!(size_of::<Assembler>(), 56);
}

/// A client's frame: first byte, payload, masked.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xFA, 0x21, 0x3D];
    let mut out = vec![first];
    match payload.len() {
        0..=125 => out.push(0x80 | payload.len() as u8),
        126..=0xFFFF => {
            out.push(0xFE);
            out.extend((payload.len() as u16).to_be_bytes());
        }
        _ => {
            out.push(0xFF);
            out.extend((payload.len() as u64).to_be_bytes());
        }
    }
    out.extend(key);
    out.extend(payload.iter().enumerate().map(|(i, b)| b ^ key[i % 4]));
    out
}

fn with(config: &Config, bytes: &[u8], piece: usize) -> (Vec<Received>, Option<Violation>) {
    let mut assembler = Assembler::default();
    let mut all = Vec::new();
    for chunk in bytes.chunks(piece.max(1)) {
        let mut chunk = chunk.to_vec();
        let mut at = 0;
        loop {
            match assembler.take(&mut chunk, &mut at, config) {
                Ok(Some(received)) => all.push(received),
                Ok(None) => break,
                Err(violation) => return (all, Some(violation)),
            }
        }
        assert_eq!(at, chunk.len());
    }
    (all, None)
}

/// The same in every chunking, row N9.
fn run(bytes: &[u8]) -> (Vec<Received>, Option<Violation>) {
    let whole = with(&small(), bytes, bytes.len());
    for piece in 1..bytes.len() {
        assert_eq!(with(&small(), bytes, piece), whole, "in pieces of {piece}");
    }
    whole
}

fn text(text: &str) -> Received {
    Received::Message(Message::from(text))
}

#[test]
fn f13_a_ping_between_fragments_is_seen_at_once_and_the_message_stays_whole() {
    let bytes = [
        frame(0x01, b"Hel"),
        frame(0x89, b"p"),
        frame(0x00, b""),
        frame(0x80, b"lo"),
    ]
    .concat();
    let expected = vec![Received::Ping(Bytes::from_static(b"p")), text("Hello")];
    assert_eq!(run(&bytes), (expected, None));
}

#[test]
fn f14_f15_f16_text_is_validated_as_it_arrives() {
    // Split inside a character, over fragments.
    let bytes = [frame(0x01, b"\xe2\x82"), frame(0x80, b"\xac")].concat();
    assert_eq!(run(&bytes), (vec![text("€")], None));
    // Refused at the fragment that cannot be right, before the message ends.
    let bytes = [frame(0x01, b"\xe2\x82"), frame(0x00, b"x")].concat();
    assert_eq!(
        run(&bytes).1.unwrap().code,
        CloseCode::INVALID_FRAME_PAYLOAD_DATA
    );
    // Refused in an unfinished frame.
    let whole = frame(0x81, b"ab\xffcd");
    assert_eq!(
        with(&small(), &whole[..whole.len() - 2], 1).1.unwrap().code,
        CloseCode::INVALID_FRAME_PAYLOAD_DATA
    );
    // Truncated at the end of the message.
    let bytes = [frame(0x01, b"a"), frame(0x80, b"\xe2\x82")].concat();
    assert_eq!(
        run(&bytes).1.unwrap().code,
        CloseCode::INVALID_FRAME_PAYLOAD_DATA
    );
    assert_eq!(
        run(&frame(0x81, b"\xe2\x82")).1.unwrap().code,
        CloseCode::INVALID_FRAME_PAYLOAD_DATA
    );
    // Binary is anything.
    assert_eq!(run(&frame(0x82, b"\xff")).1, None);
}

#[test]
fn f17_empty_messages_are_messages() {
    let bytes = [
        frame(0x81, b""),
        frame(0x82, b""),
        frame(0x01, b""),
        frame(0x80, b""),
    ]
    .concat();
    let expected = vec![
        text(""),
        Received::Message(Message::binary(Bytes::new())),
        text(""),
    ];
    assert_eq!(run(&bytes), (expected, None));
}

#[test]
fn f18_too_many_fragments_are_refused_even_empty_ones() {
    let mut bytes = frame(0x02, b"");
    for _ in 0..3 {
        bytes.extend(frame(0x00, b""));
    }
    assert_eq!(run(&bytes), (vec![], None));
    bytes.extend(frame(0x00, b""));
    assert_eq!(run(&bytes).1.unwrap().code, CloseCode::POLICY_VIOLATION);
}

#[test]
fn f7_f21_sizes_are_refused_from_the_header_that_breaks_the_limit() {
    // 201 bytes in one frame, header only.
    let big = frame(0x82, &[0; 201]);
    assert_eq!(run(&big[..4]).1.unwrap().code, CloseCode::MESSAGE_TOO_BIG);
    // 200 + 101 in two.
    let bytes = [frame(0x02, &[0; 200]), frame(0x80, &[0; 101])].concat();
    let (received, violation) = run(&bytes[..bytes.len() - 101]);
    assert_eq!(
        (received, violation.unwrap().code),
        (vec![], CloseCode::MESSAGE_TOO_BIG)
    );
    // 200 + 100 is the limit itself.
    let bytes = [frame(0x02, &[0; 200]), frame(0x80, &[0; 100])].concat();
    assert_eq!(
        run(&bytes),
        (vec![Received::Message(Message::from(vec![0; 300]))], None)
    );
}

#[test]
fn f25_f26_f27_f28_close_frames_are_read_strictly() {
    let close = |payload: &[u8]| run(&frame(0x88, payload));
    assert_eq!(close(b""), (vec![Received::Close(None)], None));
    assert_eq!(close(b"\x03").1.unwrap().code, CloseCode::PROTOCOL_ERROR);
    let frame = CloseFrame::new(CloseCode::NORMAL_CLOSURE, "bye").unwrap();
    assert_eq!(
        close(b"\x03\xe8bye"),
        (vec![Received::Close(Some(frame))], None)
    );
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535u16] {
        assert_eq!(
            close(&code.to_be_bytes()).1.unwrap().code,
            CloseCode::PROTOCOL_ERROR,
            "{code}"
        );
    }
    assert_eq!(
        close(b"\x03\xe8\xff").1.unwrap().code,
        CloseCode::INVALID_FRAME_PAYLOAD_DATA
    );
}

#[test]
fn a_control_frame_in_pieces_between_pieces_of_a_message_is_whole() {
    let bytes = [
        frame(0x01, b"ab"),
        frame(0x8A, &[7; 125]),
        frame(0x80, b"c"),
    ]
    .concat();
    let expected = vec![Received::Pong(Bytes::from(vec![7; 125])), text("abc")];
    assert_eq!(run(&bytes), (expected, None));
}

#[test]
fn a_large_binary_payload_is_read_straight_into_its_message() {
    let config = limits(1 << 20, 1 << 20, 9);
    let payload: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
    let bytes = frame(0x82, &payload);
    let mut assembler = Assembler::default();
    let mut first = bytes[..1000].to_vec();
    assert_eq!(assembler.take(&mut first, &mut 0, &config), Ok(None));
    let mut rest = &bytes[1000..];
    let mut received = None;
    while received.is_none() {
        let mut buffer = assembler.direct(64, &config).expect("a large rest");
        let n = buffer.remaining_mut().min(rest.len()).min(7777);
        assert!(n > 0);
        buffer.put_slice(&rest[..n]);
        rest = &rest[n..];
        received = assembler.filled(n).unwrap();
        if received.is_none() && assembler.direct(64, &config).is_none() {
            let mut tail = rest.to_vec();
            received = assembler.take(&mut tail, &mut 0, &config).unwrap();
        }
    }
    assert_eq!(received, Some(Received::Message(Message::from(payload))));
    assert!(assembler.is_idle());
}

#[test]
fn memory_follows_what_arrived_not_what_was_declared() {
    let config = limits(1 << 30, 1 << 30, 9);
    let mut assembler = Assembler::default();
    let mut bytes = vec![0x82, 0xFF, 0, 0, 0, 0, 0x3F, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7];
    assert_eq!(assembler.take(&mut bytes, &mut 0, &config), Ok(None));
    let Some(Partial {
        data: Data::Binary(data),
        ..
    }) = assembler.message.as_deref()
    else {
        panic!("a binary message has begun");
    };
    assert_eq!(data.len(), 3);
    assert!(data.capacity() < 100);
}

#[test]
fn r2_the_buffer_of_many_fragments_grows_in_few_steps_and_not_beyond_the_limit() {
    let config = limits(1 << 20, 1 << 20, 1 << 20);
    let mut assembler = Assembler::default();
    let mut steps = Vec::new();
    for i in 0..1 << 14 {
        let mut bytes = frame(if i == 0 { 0x02 } else { 0x00 }, &[7; 64]);
        assert_eq!(assembler.take(&mut bytes, &mut 0, &config), Ok(None));
        let Some(Partial {
            data: Data::Binary(data),
            ..
        }) = assembler.message.as_deref()
        else {
            panic!("a binary message has begun");
        };
        if steps.last() != Some(&data.capacity()) {
            steps.push(data.capacity());
        }
        assert!(data.capacity() <= 4 * data.len());
    }
    assert!(steps.len() < 16, "{steps:?}");
    assert_eq!(steps.last(), Some(&config.max_message));
}

#[test]
fn a_kept_message_owns_only_its_own_bytes() {
    let config = limits(1 << 20, 1 << 20, 9);
    let bytes = [
        frame(0x02, &[1; 1000]),
        frame(0x00, &[2; 100]),
        frame(0x80, &[]),
    ]
    .concat();
    let (received, _) = with(&config, &bytes, 10);
    let [Received::Message(Message::Binary(bytes))] = &received[..] else {
        panic!("one message");
    };
    let vec = Vec::from(bytes.clone());
    assert_eq!(vec.capacity(), 1100);
}

#[cfg(feature = "deflate")]
mod compressed {
    use super::*;
    use crate::protocol::{Deflate, negotiate};

    /// A message that did not get smaller: stored blocks of at most `size` bytes (RFC 1951
    /// §3.2.4), then the empty one whose end is not sent (RFC 7692 §7.2.1).
    fn stored(message: &[u8], size: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for block in message.chunks(size) {
            let len = block.len() as u16;
            out.push(0);
            out.extend(len.to_le_bytes());
            out.extend((!len).to_le_bytes());
            out.extend(block);
        }
        out.push(0);
        out
    }

    fn receive(max_message: usize, max_frame: usize, bytes: &[u8]) -> Result<usize, CloseCode> {
        let config = limits(max_message, max_frame, 10);
        let mut assembler = Assembler::default();
        let offers = [("permessage-deflate", &[][..])].into_iter();
        let (agreed, _) = negotiate(offers, &Deflate::new()).unwrap();
        assembler.set_deflate(agreed.inbound, &config);
        let mut bytes = bytes.to_vec();
        match assembler.take(&mut bytes, &mut 0, &config) {
            Ok(Some(Received::Message(message))) => Ok(message.len()),
            Ok(other) => panic!("{other:?}"),
            Err(violation) => Err(violation.code),
        }
    }

    #[test]
    fn r5_a_message_within_the_limit_may_be_larger_on_the_wire() {
        let message = stored(&[7; 1000], 100);
        assert_eq!(message.len(), 1051);
        let whole = frame(0xC2, &message);
        assert_eq!(receive(1000, 1000, &whole), Ok(1000));
        assert_eq!(receive(999, 999, &whole), Err(CloseCode::MESSAGE_TOO_BIG));
        // No limit at all.
        assert_eq!(receive(usize::MAX, usize::MAX, &whole), Ok(1000));
        // Frames that have a limit of their own keep it.
        assert_eq!(receive(1000, 999, &whole), Err(CloseCode::MESSAGE_TOO_BIG));
        let halves = [frame(0x42, &message[..525]), frame(0x80, &message[525..])].concat();
        assert_eq!(receive(1000, 526, &halves), Ok(1000));
        assert_eq!(receive(1000, 525, &halves), Err(CloseCode::MESSAGE_TOO_BIG));
    }

    #[test]
    fn r5_a_last_fragment_is_not_measured_by_what_the_first_was_inflated_to() {
        // 995 bytes are there, 5 are to come, in 11 on the wire.
        let bytes = [
            frame(0x42, &stored(&[7; 995], 995)[..1000]),
            frame(0x80, &stored(&[7; 5], 5)),
        ];
        assert_eq!(receive(1000, 1000, &bytes.concat()), Ok(1000));
    }

    #[test]
    fn r1_a_header_that_says_too_much_is_refused_before_its_payload() {
        let far = frame(0xC2, &[0; 3000]);
        assert_eq!(
            receive(1000, 1000, &far[..8]),
            Err(CloseCode::MESSAGE_TOO_BIG)
        );
        // Plain frames are what they say.
        let plain = frame(0x82, &[0; 1001]);
        assert_eq!(
            receive(1000, 1000, &plain[..8]),
            Err(CloseCode::MESSAGE_TOO_BIG)
        );
    }
}
