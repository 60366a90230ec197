use super::*;

const KEY: [u8; 4] = [9, 8, 7, 6];

fn with_key(head: &[u8]) -> Vec<u8> {
    [head, &KEY].concat()
}

#[test]
fn lengths_of_every_class_are_read() {
    let cases: &[(&[u8], u64)] = &[
        (&[0x82, 0x80], 0),
        (&[0x82, 0x80 | 125], 125),
        (&[0x82, 0xFE, 0, 126], 126),
        (&[0x82, 0xFE, 0xFF, 0xFF], 65535),
        (&[0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0], 65536),
        (
            &[0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
            i64::MAX as u64,
        ),
    ];
    for (head, len) in cases {
        let bytes = with_key(head);
        let header = Header::parse(&bytes, false, false, usize::MAX)
            .unwrap()
            .unwrap();
        assert_eq!(
            (header.len, header.mask, header.size),
            (*len, KEY, bytes.len())
        );
        assert!(header.fin && header.opcode == OpCode::Binary);
        for short in 0..bytes.len() {
            assert_eq!(
                Header::parse(&bytes[..short], false, false, usize::MAX),
                Ok(None),
                "{bytes:x?}"
            );
        }
    }
}

/// Refused from the bytes given, which are as few as can tell.
fn refused(bytes: &[u8], fragmented: bool, compression: bool) {
    let violation = Header::parse(bytes, fragmented, compression, usize::MAX).unwrap_err();
    assert_eq!(violation.code, CloseCode::PROTOCOL_ERROR, "{bytes:x?}");
    if bytes.len() > 1 {
        let before = &bytes[..bytes.len() - 1];
        assert_eq!(
            Header::parse(before, fragmented, compression, usize::MAX),
            Ok(None),
            "{bytes:x?}"
        );
    }
}

#[test]
fn f1_an_unmasked_frame_is_refused_at_its_second_byte() {
    refused(&[0x81, 0x05], false, false);
    refused(&[0x88, 0x00], false, false);
}

#[test]
fn f2_reserved_bits_are_refused_at_the_first_byte() {
    for bit in [0x40, 0x20, 0x10, 0x70] {
        refused(&[0x81 | bit], false, false);
        refused(&[0x89 | bit], false, false);
    }
    refused(&[0xA1], false, true);
}

#[test]
fn f3_rsv1_belongs_to_the_first_frame_of_a_message() {
    assert_eq!(Header::parse(&[0xC1], false, true, usize::MAX), Ok(None));
    refused(&[0xC9], false, true);
    refused(&[0xC0], true, true);
}

#[test]
fn f4_reserved_opcodes_are_refused_at_the_first_byte() {
    for opcode in [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        refused(&[0x80 | opcode], false, false);
        refused(&[opcode], true, false);
    }
}

#[test]
fn f5_a_64_bit_length_with_the_first_bit_set_is_refused_at_that_byte() {
    refused(&[0x82, 0xFF, 0x80], false, false);
    refused(&[0x82, 0xFF, 0xFF], false, false);
}

#[test]
fn f6_a_length_in_more_bytes_than_needed_is_refused() {
    refused(&[0x82, 0xFE, 0, 125], false, false);
    refused(&[0x82, 0xFE, 0, 0], false, false);
    refused(&[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], false, false);
    refused(&[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0], false, false);
}

#[test]
fn f7_a_declared_length_over_the_limit_is_refused_before_the_mask_arrives() {
    let violation = Header::parse(&[0x82, 0xFE, 1, 1], false, false, 256).unwrap_err();
    assert_eq!(violation.code, CloseCode::MESSAGE_TOO_BIG);
    assert_eq!(
        Header::parse(&[0x82, 0xFE, 1, 0], false, false, 256),
        Ok(None)
    );
    assert_eq!(Header::parse(&[0x89, 0xFD], false, false, 0), Ok(None));
}

#[test]
fn f9_a_control_frame_over_125_bytes_is_refused_at_its_second_byte() {
    for opcode in [0x88, 0x89, 0x8A] {
        refused(&[opcode, 0xFE], false, false);
        refused(&[opcode, 0xFF], false, false);
    }
}

#[test]
fn f10_a_fragmented_control_frame_is_refused() {
    for opcode in [0x08, 0x09, 0x0A] {
        refused(&[opcode], false, false);
    }
}

#[test]
fn f11_f12_fragments_must_be_in_order() {
    refused(&[0x80], false, false);
    refused(&[0x00], false, false);
    refused(&[0x81], true, false);
    refused(&[0x02], true, false);
    assert_eq!(Header::parse(&[0x80], true, false, usize::MAX), Ok(None));
}

#[test]
fn a_written_header_uses_the_fewest_bytes() {
    let mut out = Vec::new();
    for len in [0, 125, 126, 65535, 65536] {
        write_header(&mut out, OpCode::Text, false, len);
    }
    let expected: &[u8] = &[
        0x81, 0, 0x81, 125, 0x81, 126, 0, 126, 0x81, 126, 0xFF, 0xFF, 0x81, 127, 0, 0, 0, 0, 0, 1,
        0, 0,
    ];
    assert_eq!(out, expected);
    out.clear();
    write_header(&mut out, OpCode::Binary, true, 1);
    assert_eq!(out, [0xC2, 1]);
}
