//! Buffer growth: the capacity follows the bytes that arrived, doubles, and never exceeds what may
//! still arrive.

/// The next capacity of a buffer that must hold `needed`: twice the last one, so that growing
/// costs little, but never more than `most`, which is all that can come.
///
/// The step that passes half of `most` is the last. So a buffer that moves while it grows takes
/// no more than 1.5 times `most` with its old self, and is never copied for a little rest.
pub(crate) fn grown(capacity: usize, needed: usize, most: usize) -> usize {
    let twice = needed.max(capacity.saturating_mul(2));
    if twice > most / 2 {
        needed.max(most)
    } else {
        twice
    }
}

/// Makes room for `additional` bytes where `expected` may still come, these included.
pub(crate) fn reserve(bytes: &mut Vec<u8>, additional: usize, expected: usize) {
    let needed = bytes.len() + additional;
    if needed > bytes.capacity() {
        let goal = grown(
            bytes.capacity(),
            needed,
            bytes.len().saturating_add(expected),
        );
        bytes.reserve_exact(goal - bytes.len());
    }
}
