//! [`Payload`]: what is published on a channel: an envelope as it is, or one that a log has numbered.
//!
//! ```text
//! P envelope
//! L epoch (16 hexadecimal digits) offset (the same) envelope      written by append.lua
//! ```

use bytes::Bytes;

use crate::topics::Position;

/// See the module docs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Payload {
    Plain(Bytes),
    Logged(Position, Bytes),
}

const DIGITS: usize = 16;

impl Payload {
    /// A plain one.
    pub(super) fn plain(envelope: &[u8]) -> Vec<u8> {
        [b"P", envelope].concat()
    }

    /// `None`: somebody else's.
    pub(super) fn parse(payload: &Bytes) -> Option<Self> {
        match payload.first()? {
            b'P' => Some(Self::Plain(payload.slice(1..))),
            b'L' => {
                let epoch = number(payload.get(1..1 + DIGITS)?)?;
                let offset = number(payload.get(1 + DIGITS..1 + 2 * DIGITS)?)?;
                let envelope = payload.slice(1 + 2 * DIGITS..);
                Some(Self::Logged(Position::new(epoch, offset), envelope))
            }
            _ => None,
        }
    }
}

/// A number as logs and scripts write it: doubles, which is what Lua has, would not hold an epoch.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    let is_plain = digits.len() == DIGITS && digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_plain)?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_comes_back_as_it_went_and_what_is_foreign_is_nothing() {
        let parse = |payload: &[u8]| Payload::parse(&Bytes::copy_from_slice(payload));
        let plain = Payload::plain(b"hello");
        assert_eq!(parse(&plain), Some(Payload::Plain("hello".into())));
        assert_eq!(parse(b"P"), Some(Payload::Plain(Bytes::new())));
        let logged = Payload::Logged(Position::new(0xABC, 17), "hello".into());
        let text = format!("L{:016x}{:016x}hello", 0xABC, 17);
        assert_eq!(parse(text.as_bytes()), Some(logged));
        for foreign in [
            "",
            "hello",
            "L",
            "L12",
            &text[..32],
            &text.replace("abc", "+bc"),
        ] {
            assert_eq!(parse(foreign.as_bytes()), None, "{foreign}");
        }
    }
}
