//! The compression of the client's messages, by another implementation than the server's.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

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
