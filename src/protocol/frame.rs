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
    /// Reads a client's header; `None` if it is incomplete.
    ///
    /// A header is refused at its first bad byte, whether the rest has arrived or not. `fragmented`
    /// says whether a fragmented message is in progress, `compression` whether RSV1 has a meaning,
    /// `room` how much payload a data frame may have.
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
mod tests;
