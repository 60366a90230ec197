//! The header of a frame (RFC 6455 §5.2), read with every check that it allows, and written.

use super::violation::Violation;
use crate::close::CloseCode;

/// The opcodes of §5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpCode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

impl OpCode {
    pub(crate) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The header of a frame from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) fin: bool,
    /// "Per-message compressed" when an extension says so (RFC 7692 §6).
    pub(crate) rsv1: bool,
    pub(crate) opcode: OpCode,
    pub(crate) len: u64,
    pub(crate) mask: [u8; 4],
    /// Bytes that the header itself took.
    pub(crate) size: usize,
}

/// The bit of the first byte that an extension may give a meaning.
pub(crate) const RSV1: u8 = 0x40;

/// The longest header of a client: 2 bytes, 8 of length, 4 of mask.
pub(crate) const MAX_HEADER: usize = 14;

impl Header {
    /// Reads a client's header; `None` if it is not all there.
    ///
    /// A header is refused at its first bad byte, whether the rest has arrived or not.
    /// `fragmented` says whether a message is under way, `compression` whether RSV1 has a
    /// meaning, `room` how much payload a data frame may have.
    #[inline]
    pub(crate) fn parse(
        bytes: &[u8],
        fragmented: bool,
        compression: bool,
        room: usize,
    ) -> Result<Option<Self>, Violation> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let fin = first & 0x80 != 0;
        let rsv1 = first & RSV1 != 0;
        let opcode = match first & 0x0F {
            0x0 => OpCode::Continuation,
            0x1 => OpCode::Text,
            0x2 => OpCode::Binary,
            0x8 => OpCode::Close,
            0x9 => OpCode::Ping,
            0xA => OpCode::Pong,
            _ => return Err(protocol("an opcode that is reserved (RFC 6455 §5.2)")),
        };
        if first & 0x30 != 0 || rsv1 && !compression {
            return Err(protocol(
                "a reserved bit is set and no extension was agreed (RFC 6455 §5.2)",
            ));
        }
        if rsv1 && !matches!(opcode, OpCode::Text | OpCode::Binary) {
            return Err(protocol(
                "RSV1 belongs to the first frame of a message (RFC 7692 §6)",
            ));
        }
        match opcode {
            OpCode::Continuation if !fragmented => {
                return Err(protocol(
                    "a continuation frame of no message (RFC 6455 §5.4)",
                ));
            }
            OpCode::Text | OpCode::Binary if fragmented => {
                return Err(protocol(
                    "a new message inside a fragmented one (RFC 6455 §5.4)",
                ));
            }
            _ if opcode.is_control() && !fin => {
                return Err(protocol(
                    "a control frame must not be fragmented (RFC 6455 §5.5)",
                ));
            }
            _ => {}
        }

        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        if second & 0x80 == 0 {
            return Err(protocol("a client must mask its frames (RFC 6455 §5.1)"));
        }
        let short = second & 0x7F;
        if opcode.is_control() && short > 125 {
            return Err(protocol(
                "a control frame carries at most 125 bytes (RFC 6455 §5.5)",
            ));
        }
        let (len, at) = match short {
            126 => {
                let Some(length) = bytes.get(2..4) else {
                    return Ok(None);
                };
                let len = u64::from(u16::from_be_bytes([length[0], length[1]]));
                if len < 126 {
                    return Err(minimal());
                }
                (len, 4)
            }
            127 => {
                // "the most significant bit MUST be 0"
                if bytes.get(2).is_some_and(|b| b & 0x80 != 0) {
                    return Err(protocol("a length over 63 bits (RFC 6455 §5.2)"));
                }
                let Some(length) = bytes.get(2..10) else {
                    return Ok(None);
                };
                let mut eight = [0; 8];
                eight.copy_from_slice(length);
                let len = u64::from_be_bytes(eight);
                if len <= 0xFFFF {
                    return Err(minimal());
                }
                (len, 10)
            }
            _ => (u64::from(short), 2),
        };
        if len > room as u64 && !opcode.is_control() {
            return Err(Violation::too_big());
        }
        let Some(key) = bytes.get(at..at + 4) else {
            return Ok(None);
        };
        Ok(Some(Self {
            fin,
            rsv1,
            opcode,
            len,
            mask: [key[0], key[1], key[2], key[3]],
            size: at + 4,
        }))
    }
}

/// Appends the header of a server's frame: not masked, never fragmented.
#[inline]
pub(crate) fn write_header(out: &mut Vec<u8>, opcode: OpCode, rsv1: bool, len: usize) {
    let first = 0x80 | if rsv1 { RSV1 } else { 0 } | opcode as u8;
    match len {
        0..=125 => out.extend_from_slice(&[first, len as u8]),
        126..=0xFFFF => {
            let [a, b] = (len as u16).to_be_bytes();
            out.extend_from_slice(&[first, 126, a, b]);
        }
        _ => {
            let [a, b, c, d, e, f, g, h] = (len as u64).to_be_bytes();
            out.extend_from_slice(&[first, 127, a, b, c, d, e, f, g, h]);
        }
    }
}

#[cold]
fn protocol(reason: &'static str) -> Violation {
    Violation::new(CloseCode::PROTOCOL_ERROR, reason)
}

#[cold]
fn minimal() -> Violation {
    protocol("a length must be encoded in the fewest bytes (RFC 6455 §5.2)")
}

#[cfg(test)]
mod tests {
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
            0x81, 0, 0x81, 125, 0x81, 126, 0, 126, 0x81, 126, 0xFF, 0xFF, 0x81, 127, 0, 0, 0, 0, 0,
            1, 0, 0,
        ];
        assert_eq!(out, expected);
        out.clear();
        write_header(&mut out, OpCode::Binary, true, 1);
        assert_eq!(out, [0xC2, 1]);
    }
}
