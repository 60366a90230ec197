//! Buffer growth: the capacity follows the bytes that arrived, quadruples, and never exceeds what may
//! still arrive.

/// The next capacity of a buffer that must hold `needed`: `most`, which is all that can come, or a quarter
/// of it, or a quarter of that, whichever is the least that suffices.
///
/// So it is never more than four times what arrived; a buffer that moves while it grows takes no more
/// than 1.25 times `most` with its old self; and where the allocator has to move it, a third of the message is
/// copied, and not as much as the message once more, as by doubling.
pub(crate) fn grown(needed: usize, most: usize) -> usize {
    let needed = needed.max(1);
    let mut next = needed.max(most);
    while next / 4 >= needed {
        next /= 4;
    }
    next
}

/// Makes room for `additional` bytes where `expected` may still come, these included.
pub(crate) fn reserve(bytes: &mut Vec<u8>, additional: usize, expected: usize) {
    let needed = bytes.len() + additional;
    if needed > bytes.capacity() {
        let goal = grown(needed, bytes.len().saturating_add(expected));
        bytes.reserve_exact(goal - bytes.len());
    }
}
