//! Unmasking (RFC 6455 §5.3).

/// XORs `payload` with `key`, in place, and returns the key for the bytes that follow.
///
/// It works on 32 bytes at a time, which the compiler turns into vector instructions.
pub(crate) fn unmask(payload: &mut [u8], key: [u8; 4]) -> [u8; 4] {
    let wide: [u8; 32] = std::array::from_fn(|i| key[i % 4]);
    let mut blocks = payload.chunks_exact_mut(32);
    for block in &mut blocks {
        for (byte, k) in block.iter_mut().zip(wide) {
            *byte ^= k;
        }
    }
    let rest = blocks.into_remainder();
    for (byte, k) in rest.iter_mut().zip(wide) {
        *byte ^= k;
    }
    // 32 is a multiple of 4, so only the rest turns the key.
    let turned = 8 * (rest.len() % 4) as u32;
    u32::from_be_bytes(key).rotate_left(turned).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_goes_on_where_the_last_piece_ended() {
        let key = [1, 2, 4, 8];
        let plain: Vec<u8> = (0..200u8).collect();
        let whole: Vec<u8> = plain
            .iter()
            .enumerate()
            .map(|(i, b)| b ^ key[i % 4])
            .collect();
        for cut in 0..plain.len() {
            let mut masked = whole.clone();
            let (a, b) = masked.split_at_mut(cut);
            let next = unmask(a, key);
            unmask(b, next);
            assert_eq!(masked, plain, "cut at {cut}");
        }
    }
}
