//! Frames of a client, written, and frames of a server, read; right or wrong, as asked.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// A frame of the server.
pub struct Frame {
    pub first: u8,
    pub payload: Vec<u8>,
}

/// A masked frame: first byte and payload, with the shortest length.
pub fn frame(first: u8, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    let mut out = header(first, 0x80, payload.len());
    out.extend(key);
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k));
    out
}

/// As [`frame`], but it lacks the mask.
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = header(first, 0, payload.len());
    out.extend(payload);
    out
}

/// What stands before the mask.
pub fn header(first: u8, mask: u8, len: usize) -> Vec<u8> {
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

/// A frame at the beginning of `bytes`, and how long it is; `None` if it is not all here.
/// Holds the server to its duties: not masked, the shortest length, no reserved bit.
pub fn parse(bytes: &[u8], deflate: bool) -> Result<Option<(Frame, usize)>, String> {
    let (Some(&first), Some(&second)) = (bytes.first(), bytes.get(1)) else {
        return Ok(None);
    };
    let compressed = first & 0x40 != 0;
    if first & 0x30 != 0 || compressed && !(deflate && matches!(first & 0xF, 1 | 2)) {
        return Err(format!("reserved bits in {first:#x}"));
    }
    if !matches!(first & 0xF, 0..=2 | 8..=10) {
        return Err(format!("opcode of {first:#x}"));
    }
    let extended = match second {
        0x80.. => return Err("a mask from the server".into()),
        127 => 8,
        126 => 2,
        _ => 0,
    };
    let Some(digits) = bytes.get(2..2 + extended) else {
        return Ok(None);
    };
    let len = match extended {
        0 => usize::from(second),
        _ => digits.iter().fold(0, |n, d| n << 8 | usize::from(*d)),
    };
    if extended == 2 && len < 126 || extended == 8 && len < 0x1_0000 {
        return Err(format!("{extended} bytes for the length {len}"));
    }
    let end = 2 + extended + len;
    let Some(payload) = bytes.get(2 + extended..end) else {
        return Ok(None);
    };
    let payload = payload.to_vec();
    Ok(Some((Frame { first, payload }, end)))
}

/// RFC 7692 §7.2.1, without context takeover.
pub fn deflate(payload: &[u8]) -> Vec<u8> {
    // Room for what does not get smaller: miniz, when it is called a second time for the rest
    // of a flush, gets lost.
    let mut out = Vec::with_capacity(payload.len() + payload.len() / 8 + 256);
    let mut codec = Compress::new(Compression::fast(), false);
    // Into memory, with room: it cannot fail.
    let _ = codec.compress_vec(payload, &mut out, FlushCompress::Sync);
    if out.ends_with(&[0, 0, 0xFF, 0xFF]) {
        out.truncate(out.len() - 4);
    }
    out
}

/// RFC 7692 §7.2.2.
pub fn inflate(payload: &[u8], limit: usize) -> Result<Vec<u8>, String> {
    let input = [payload, &[0, 0, 0xFF, 0xFF]].concat();
    let mut out = Vec::with_capacity(payload.len() * 4 + 64);
    let mut codec = Decompress::new(false);
    loop {
        let rest = input.get(codec.total_in() as usize..).unwrap_or_default();
        codec
            .decompress_vec(rest, &mut out, FlushDecompress::Sync)
            .map_err(|e| e.to_string())?;
        if codec.total_in() as usize == input.len() && out.len() < out.capacity() {
            return Ok(out);
        }
        if out.len() > limit {
            return Err(format!("more than {limit} bytes inflated"));
        }
        out.reserve(out.capacity());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn what_is_deflated_is_inflated() {
        let mut random = Random::new(1, 1);
        for n in 0..3000 {
            let size = random.size(1, 64 * 1024);
            let few = random.between(1, 64) as u8;
            let payload: Vec<u8> = random.bytes(size).iter().map(|b| b % few).collect();
            let packed = deflate(&payload);
            assert!(
                inflate(&packed, 1 << 20).unwrap() == payload,
                "{n}: {size} bytes"
            );
        }
    }
}
