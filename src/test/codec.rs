//! The client's side of the WebSocket framing (RFC 6455 §5.2): writes the frames of a client, valid
//! or not, and reads the frames of a server, strictly.
//!
//! The test kit is its home; every test, the soak, the slow readers and the benchmarks include this file. It depends on
//! `std` alone and never panics, so that each of them decides what a fault means to it. It shares no
//! code with the rest of the crate, so that a mistake in one does not hide in the other.

/// The masking key of the examples in RFC 6455 §5.7.
pub const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// "Hello", compressed: RFC 7692 §7.2.3.1.
pub const DEFLATED_HELLO: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

// ---- a client's frames

/// Everything before the masking key: the first byte, and the length in its shortest form.
pub fn header(first: u8, masked: bool, len: usize) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut out = vec![first];
    match len {
        0..=125 => out.push(mask | len as u8),
        126..=0xFFFF => {
            out.push(mask | 126);
            out.extend((len as u16).to_be_bytes());
        }
        _ => {
            out.push(mask | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out
}

/// A frame with this first byte and payload, masked with [`KEY`].
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame_with_key(first, payload, KEY)
}

/// As [`frame`], with another masking key.
pub fn frame_with_key(first: u8, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    let mut out = header(first, true, payload.len());
    out.extend(key);
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k));
    out
}

/// A frame that lacks the mask, which a server must refuse.
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = header(first, false, payload.len());
    out.extend(payload);
    out
}

/// A text message in one frame.
pub fn text(payload: &str) -> Vec<u8> {
    frame(0x81, payload.as_bytes())
}

/// A Close frame with a code and a reason.
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// One message in fragments, a frame for each: `first` is the first byte of the whole message in
/// one frame, such as 0x81 for text and 0xC2 for compressed binary data.
pub fn fragments<'a>(
    first: u8,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> impl Iterator<Item = Vec<u8>> {
    let mut pieces = pieces.into_iter().peekable();
    let mut start = first & 0x7F;
    std::iter::from_fn(move || {
        let piece = pieces.next()?;
        let end = if pieces.peek().is_none() { 0x80 } else { 0 };
        Some(frame(std::mem::take(&mut start) | end, piece))
    })
}

/// The payload of a compressed message of `len` equal bytes, of at most 0x8F: 13 bits for every 258
/// of them, in one block with fixed codes (RFC 1951 §3.2.6). The block is marked as the last, or
/// else followed by the start of the empty one that most senders end with (RFC 7692 §7.2.1).
/// Either refers to no message before it, and can be sent any number of times.
pub fn deflated_run(byte: u8, len: usize, last: bool) -> Vec<u8> {
    let mut bits = vec![last, true, false];
    let mut push = |code: u32, n: u32| bits.extend((0..n).rev().map(|i| code >> i & 1 == 1));
    let literal = 0b0011_0000 + u32::from(byte);
    let rest = len.saturating_sub(1);
    if len > 0 {
        push(literal, 8);
    }
    for _ in 0..rest / 258 {
        // Length 258, distance 1.
        push(0b1100_0101, 8);
        push(0, 5);
    }
    for _ in 0..rest % 258 {
        push(literal, 8);
    }
    // The end of the block.
    push(0, 7);
    if !last {
        push(0, 3);
    }
    let byte = |bits: &[bool]| {
        (0..)
            .zip(bits)
            .fold(0, |b, (i, bit)| b | u8::from(*bit) << i)
    };
    bits.chunks(8).map(byte).collect()
}

/// The payload of a compressed message that is not compressed: stored blocks (RFC 1951 §3.2.4).
pub fn deflated_stored(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in payload.chunks(0xFFFF) {
        let len = block.len() as u16;
        out.push(0);
        out.extend(len.to_le_bytes());
        out.extend((!len).to_le_bytes());
        out.extend(block);
    }
    // An empty block, without the four bytes that a sender cuts off (RFC 7692 §7.2.1).
    out.push(0);
    out
}

// ---- a server's frames

/// A frame of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// FIN, the reserved bits and the opcode.
    pub first: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a Close frame; `None` if it has none, or is another frame.
    pub fn close_code(&self) -> Option<u16> {
        let code = self.payload.first_chunk()?;
        (self.first == 0x88).then(|| u16::from_be_bytes(*code))
    }
}

/// What precedes the payload of a server's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    pub first: u8,
    /// The bytes of the head itself: 2, 4 or 10.
    pub size: usize,
    /// The bytes of the payload.
    pub len: usize,
}

/// The head at the start of `bytes`, or `None` until all of it is there. With `deflate`, a message
/// may be compressed.
///
/// # Errors
///
/// Names what the server did wrong: it must not set a reserved bit that nobody negotiated, use a
/// reserved opcode, mask, write a length in more bytes than needed, or fragment a control frame or
/// give it more than 125 bytes (RFC 6455 §5.1, §5.2, §5.5). RSV1 may stand only on the first frame
/// of a message (RFC 7692 §6).
pub fn parse_head(bytes: &[u8], deflate: bool) -> Result<Option<FrameHead>, String> {
    let &[first, second, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    let opcode = first & 0xF;
    let compressed = first & 0x40 != 0;
    if first & 0x30 != 0 || compressed && !(deflate && matches!(opcode, 1 | 2)) {
        return Err(format!("reserved bits in {first:#04x}"));
    }
    if !matches!(opcode, 0..=2 | 8..=10) {
        return Err(format!("a reserved opcode in {first:#04x}"));
    }
    if second & 0x80 != 0 {
        return Err("a mask from the server".into());
    }
    if opcode >= 8 && (first & 0x80 == 0 || second > 125) {
        return Err(format!("a control frame {first:#04x} {second:#04x}"));
    }
    let extended = match second {
        127 => 8,
        126 => 2,
        _ => 0,
    };
    let Some(digits) = rest.get(..extended) else {
        return Ok(None);
    };
    let len = match extended {
        0 => u64::from(second),
        _ => digits.iter().fold(0, |n, d| n << 8 | u64::from(*d)),
    };
    let shortest = match extended {
        0 => 0,
        2 => 126,
        _ => 0x1_0000,
    };
    if len < shortest || len > i64::MAX as u64 {
        return Err(format!("{extended} bytes for the length {len}"));
    }
    let size = 2 + extended;
    let len = usize::try_from(len).map_err(|e| e.to_string())?;
    Ok(Some(FrameHead { first, size, len }))
}

/// The frame at the start of `bytes` and the bytes that it takes, or `None` until all of it is
/// there.
///
/// # Errors
///
/// As [`parse_head`], as soon as the head is there.
pub fn parse(bytes: &[u8], deflate: bool) -> Result<Option<(Frame, usize)>, String> {
    let Some(FrameHead { first, size, len }) = parse_head(bytes, deflate)? else {
        return Ok(None);
    };
    let payload = bytes.get(size..).and_then(|rest| rest.get(..len));
    Ok(payload.map(|payload| {
        let payload = payload.to_vec();
        (Frame { first, payload }, size + len)
    }))
}
