//! What both floors know of a client's frames, and no more: nothing is checked.

/// How long the header of a frame is, and its payload, if that much of it is here.
#[inline]
pub fn lengths(frame: &[u8]) -> Option<(usize, usize)> {
    match frame {
        [_, short, ..] if short & 127 < 126 => Some((6, usize::from(short & 127))),
        [_, 0xFE, a, b, ..] => Some((8, usize::from(u16::from_be_bytes([*a, *b])))),
        [_, 0xFF, long @ ..] => Some((14, u64::from_be_bytes(*long.first_chunk()?) as usize)),
        _ => None,
    }
}

/// Unmasks a whole payload, or masks it.
#[inline]
pub fn unmask(payload: &mut [u8], key: [u8; 4]) {
    let key16 = u128::from_ne_bytes(std::array::from_fn(|i| key[i % 4]));
    let mut words = payload.chunks_exact_mut(16);
    for word in &mut words {
        let plain = u128::from_ne_bytes((&*word).try_into().expect("16 bytes")) ^ key16;
        word.copy_from_slice(&plain.to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}
