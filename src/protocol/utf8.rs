//! UTF-8 that arrives in pieces, refused at the first byte that cannot be part of it
//! (RFC 6455 §8.1).

use super::buffer::grown;
use crate::message::Utf8Bytes;

/// A text under construction.
#[derive(Debug, Default)]
pub(crate) struct TextBuilder {
    text: String,
    /// The beginning of a character whose end has not arrived.
    tail: [u8; 4],
    tail_len: u8,
}

/// The bytes are not, and cannot become, UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InvalidUtf8;

impl TextBuilder {
    /// Appends what arrived. `expected` is how many bytes may still come, these included:
    /// it caps the growth of the buffer, which follows what arrived.
    pub(crate) fn push(&mut self, mut bytes: &[u8], expected: usize) -> Result<(), InvalidUtf8> {
        while self.tail_len > 0 {
            let Some((first, rest)) = bytes.split_first() else {
                return Ok(());
            };
            let len = usize::from(self.tail_len);
            self.tail[len] = *first;
            self.tail_len += 1;
            bytes = rest;
            match std::str::from_utf8(&self.tail[..=len]) {
                Ok(character) => {
                    self.text.push_str(character);
                    self.tail_len = 0;
                }
                // A fourth byte always completes a character or proves it invalid, so the tail
                // cannot outgrow its array.
                Err(e) if e.error_len().is_none() => {}
                Err(_) => return Err(InvalidUtf8),
            }
        }
        if bytes.len() > self.text.capacity() - self.text.len() {
            let most = self.text.len().saturating_add(expected);
            let goal = grown(self.text.len() + bytes.len(), most);
            self.text.reserve_exact(goal - self.text.len());
        }
        let (whole, tail) = bytes.split_at(bytes.len() - unfinished(bytes));
        self.text
            .push_str(simdutf8::basic::from_utf8(whole).map_err(|_| InvalidUtf8)?);
        if matches!(std::str::from_utf8(tail), Err(e) if e.error_len().is_some()) {
            return Err(InvalidUtf8);
        }
        self.tail[..tail.len()].copy_from_slice(tail);
        self.tail_len = tail.len() as u8;
        Ok(())
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.text.len() + usize::from(self.tail_len)
    }

    /// Bytes of memory that it owns.
    #[cfg(any(tower_websocket_fuzzing, test))]
    pub(crate) fn held(&self) -> usize {
        self.text.capacity()
    }

    /// The text, unless it ends inside a character.
    pub(crate) fn finish(self) -> Result<Utf8Bytes, InvalidUtf8> {
        if self.tail_len > 0 {
            return Err(InvalidUtf8);
        }
        let mut text = self.text;
        // The application may keep the message, so it must not keep spare capacity with it.
        text.shrink_to_fit();
        Ok(text.into())
    }
}

/// How many bytes at the end begin an incomplete character: 0 to 3.
fn unfinished(bytes: &[u8]) -> usize {
    for (back, byte) in bytes.iter().rev().take(3).enumerate() {
        let needs = match byte {
            0x80..=0xBF => continue,
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0.. => 4,
            _ => 1,
        };
        return if needs > back + 1 { back + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_pieces(bytes: &[u8], piece: usize) -> Result<Utf8Bytes, InvalidUtf8> {
        let mut builder = TextBuilder::default();
        for chunk in bytes.chunks(piece) {
            builder.push(chunk, bytes.len())?;
        }
        builder.finish()
    }

    #[test]
    fn f15_a_character_split_anywhere_is_whole_again() {
        let text = "aé€😀z".repeat(20);
        for piece in 1..40 {
            assert_eq!(
                in_pieces(text.as_bytes(), piece).unwrap(),
                text.as_str(),
                "{piece}"
            );
        }
    }

    #[test]
    fn f14_what_is_not_utf8_is_refused_in_any_pieces() {
        let bad: &[&[u8]] = &[
            b"\xff",
            b"a\x80b",
            b"\xc0\xaf",         // overlong
            b"\xe0\x80\xaf",     // overlong
            b"\xf0\x80\x80\xaf", // overlong
            b"\xed\xa0\x80",     // surrogate
            b"\xf4\x90\x80\x80", // > U+10FFFF
            b"\xf5\x80\x80\x80", // > U+10FFFF
            b"ok\xe2\x82",       // truncated
            b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        ];
        for bytes in bad {
            for piece in 1..=bytes.len() {
                assert!(in_pieces(bytes, piece).is_err(), "{bytes:x?} by {piece}");
            }
        }
    }

    #[test]
    fn f16_the_first_bad_byte_decides_before_the_text_is_whole() {
        // 0xF4 0x90 can begin no character, whatever comes.
        let mut builder = TextBuilder::default();
        assert_eq!(builder.push(b"\xf4", 100), Ok(()));
        assert_eq!(builder.push(b"\x90", 100), Err(InvalidUtf8));
        let mut builder = TextBuilder::default();
        assert_eq!(builder.push(b"\xf4\x90", 100), Err(InvalidUtf8));
    }

    #[test]
    fn agrees_with_the_standard_library_on_every_short_input() {
        let alphabet = [
            b'a', 0x80, 0xbf, 0xc2, 0xe0, 0xa0, 0xed, 0xf0, 0x90, 0xf4, 0xff,
        ];
        let mut inputs: Vec<Vec<u8>> = vec![vec![]];
        for _ in 0..4 {
            inputs = inputs
                .into_iter()
                .flat_map(|prefix| {
                    alphabet.map(|b| {
                        let mut next = prefix.clone();
                        next.push(b);
                        next
                    })
                })
                .collect();
            for input in &inputs {
                let expected = std::str::from_utf8(input).is_ok();
                for piece in 1..=input.len() {
                    assert_eq!(
                        in_pieces(input, piece).is_ok(),
                        expected,
                        "{input:x?} by {piece}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_buffer_grows_with_what_arrived_not_with_what_was_declared() {
        let mut builder = TextBuilder::default();
        builder.push(b"abc", 1 << 30).unwrap();
        assert!(builder.text.capacity() < 64);
        assert_eq!(grown(65, 1 << 20), 256);
        assert_eq!(grown(65, 100), 100);
        assert_eq!(grown(10, 10), 10);
        for most in [1000, 4097, 1 << 20, usize::MAX] {
            assert!((1..=1000).all(|n| (n..=4 * n).contains(&grown(n, most))));
        }
    }

    #[test]
    fn r2_a_buffer_and_its_successor_are_never_more_than_one_and_a_quarter_messages() {
        const MOST: usize = 1 << 20;
        for first in [1, 1000, 4082, 65_535, MOST / 2 - 1, MOST / 2, MOST / 2 + 1] {
            let (mut capacity, mut peak) = (first, 0);
            while capacity < MOST {
                let next = grown(capacity + 1, MOST);
                peak = peak.max(capacity + next);
                capacity = next;
            }
            assert_eq!(capacity, MOST);
            // What came at once is more only by its own size.
            assert!(peak <= MOST + first.max(MOST / 4), "{first}: {peak}");
        }
    }
}
