//! The tests' own client codec: it writes what tungstenite writes, and refuses what a server must
//! not send.

use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::support::*;

#[test]
fn a_clients_frame_is_what_tungstenite_writes_at_every_size_of_the_length() {
    for len in [0, 1, 125, 126, 0xFFFF, 0x1_0000, 100_001] {
        let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let mut wanted = Vec::new();
        let header = FrameHeader {
            opcode: OpCode::Data(Data::Binary),
            mask: Some(KEY),
            ..FrameHeader::default()
        };
        header.format(len as u64, &mut wanted).unwrap();
        wanted.extend(payload.iter().enumerate().map(|(i, b)| b ^ KEY[i % 4]));
        assert!(frame(0x82, &payload) == wanted, "{len} bytes");
    }
}

#[test]
fn fragments_begin_with_the_opcode_and_end_with_fin() {
    let pieces = [&b"a"[..], b"", b"b"];
    let written: Vec<_> = fragments(0xC1, pieces).collect();
    assert_eq!(
        written,
        [frame(0x41, b"a"), frame(0, b""), frame(0x80, b"b")]
    );
    let whole: Vec<_> = fragments(0x82, [&b"whole"[..]]).collect();
    assert_eq!(whole, [frame(0x82, b"whole")]);
}

#[test]
fn a_servers_frame_is_read_when_all_of_it_is_there() {
    for len in [0, 125, 126, 0xFFFF, 0x1_0000] {
        let bytes = unmasked(0x82, &vec![7; len]);
        for short in [0, 1, 2, 3, 9, bytes.len() - 1] {
            let part = &bytes[..short.min(bytes.len() - 1)];
            assert_eq!(parse(part, false), Ok(None), "{short} of {len}");
        }
        let more = [&bytes[..], b"\x81"].concat();
        let (frame, size) = parse(&more, false).unwrap().unwrap();
        assert_eq!((frame.first, frame.payload.len()), (0x82, len));
        assert_eq!(size, bytes.len());
    }
    let close = unmasked(0x88, &1001u16.to_be_bytes());
    let (close, _) = parse(&close, false).unwrap().unwrap();
    assert_eq!(close.close_code(), Some(1001));
}

#[test]
fn what_a_server_must_not_send_is_refused_from_the_head() {
    for (bytes, deflate) in [
        // Reserved bits (RFC 6455 §5.2), and RSV1 where nobody agreed to it.
        (&[0xA1, 0][..], true),
        (&[0x91, 0], true),
        (&[0xC1, 0], false),
        // RSV1 on a continuation or a control frame (RFC 7692 §6).
        (&[0xC0, 0], true),
        (&[0xC9, 0], true),
        // Reserved opcodes.
        (&[0x83, 0], false),
        (&[0x8B, 0], false),
        // A mask (§5.1).
        (&[0x81, 0x80], false),
        // A control frame in fragments, or of more than 125 bytes (§5.5).
        (&[0x09, 0], false),
        (&[0x88, 126, 0, 126], false),
        // Not the shortest length, and one of more than 63 bits.
        (&[0x82, 126, 0, 125], false),
        (&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], false),
        (&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], false),
    ] {
        assert!(parse(bytes, deflate).is_err(), "{bytes:x?} {deflate}");
    }
    assert!(parse(&[0xC1, 0], true).is_ok());
}
