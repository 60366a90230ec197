//! [`Position`]: how far somebody has read in a retained topic.

use std::fmt;
use std::str::FromStr;

/// How far a client has read in a retained topic.
///
/// A client that comes back shows the position of the last message that it got, and
/// [`Subscribe::after`](crate::Subscribe::after) sends it what it missed. It travels as a short text
/// ([`Display`](fmt::Display), [`FromStr`]) whose form may change: compare positions only for being
/// equal, and take them apart nowhere.
///
/// It is not a secret and not a permission. A client that makes one up gets messages that are retained
/// in a topic that the application lets it subscribe, or is told that it cannot be brought up to date.
///
/// ```
/// use tower_websocket::Position;
///
/// assert!("not a position".parse::<Position>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// Of the log. Another one means that the log was lost.
    pub(super) epoch: u64,
    /// Of the message; the first has 1.
    pub(super) offset: u64,
}

impl Position {
    /// A position in a log, for a [`Log`](crate::topics::Log): its epoch, and the number of an entry,
    /// from 1 on.
    pub fn new(epoch: u64, offset: u64) -> Self {
        Self { epoch, offset }
    }

    /// The epoch, for a [`Log`](crate::topics::Log).
    pub fn epoch(self) -> u64 {
        self.epoch
    }

    /// The number of the entry, for a [`Log`](crate::topics::Log).
    pub fn offset(self) -> u64 {
        self.offset
    }
}

/// A text is not a [`Position`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParsePositionError;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:x}", self.epoch, self.offset)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({self})")
    }
}

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, ParsePositionError> {
        let (epoch, offset) = text.split_once('-').ok_or(ParsePositionError)?;
        let number = |digits: &str, lens: std::ops::RangeInclusive<usize>| {
            let is_ours = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            let fits = lens.contains(&digits.len()) && digits.bytes().all(is_ours);
            let number = u64::from_str_radix(digits, 16).ok().filter(|_| fits);
            number.ok_or(ParsePositionError)
        };
        Ok(Self {
            epoch: number(epoch, 16..=16)?,
            offset: number(offset, 1..=16)?,
        })
    }
}

impl fmt::Display for ParsePositionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is not a position in a topic")
    }
}

impl std::error::Error for ParsePositionError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_its_text() {
        for (epoch, offset) in [(0, 0), (1, 15), (u64::MAX, u64::MAX), (0xABC, 16)] {
            let position = Position { epoch, offset };
            assert_eq!(position.to_string().parse(), Ok(position));
        }
    }

    #[test]
    fn t8_a_text_that_is_no_position_is_refused() {
        let long = "0".repeat(1_000_000);
        let texts = [
            "",
            "-",
            "1-1",
            "000000000000000g-1",
            "0000000000000000-",
            "0000000000000000",
            "+000000000000000-1",
            "0000000000000000-+1",
            "0000000000000000--1",
            "0000000000000000-10000000000000000",
            "00000000000000000-1",
            "0000000000000000-1 ",
            "000000000000000A-1",
            "é000000000000000-1",
            &long,
        ];
        for text in texts {
            assert_eq!(
                text.parse::<Position>(),
                Err(ParsePositionError),
                "{text:.40}"
            );
        }
    }
}
