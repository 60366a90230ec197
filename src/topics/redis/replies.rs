//! [`Replies`]: how large the server's replies are, counted before anything keeps them.

/// The most bytes of one reply or message. A page of a log has 1 MiB and one entry more, which is at most
/// 4 MiB as every envelope is; the rest is for what strangers send to our channels, which is ignored.
pub(crate) const MAX_REPLY: u64 = 16 * 1024 * 1024;

/// The most values that one reply has yet to bring: the client library makes room for all that are announced. A
/// page of a log has two for each of its 256 entries.
const MAX_VALUES: u64 = 64 * 1024;

const TOO_LARGE: &str = "the server sends more than 16 MiB in one reply or message";

/// Follows RESP3 from one value to the next, without keeping any of it: the parser of the client library
/// collects a value of any size.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    place: Place,
    /// How many values this reply has yet to bring. None: the next one begins a reply.
    values: u64,
    /// Of this reply.
    bytes: u64,
}

#[derive(Debug, Default)]
enum Place {
    /// Before a value.
    #[default]
    Kind,
    /// In its first line, which a line feed behind a carriage return ends: what kind it is, and the number
    /// so far.
    Line {
        kind: u8,
        number: u64,
        is_negative: bool,
        ends: bool,
    },
    /// In a text of that many bytes, line break included.
    Text(u64),
}

impl Replies {
    /// Follows some more bytes.
    ///
    /// # Errors
    ///
    /// A reply is larger than [`MAX_REPLY`], or says that it will be.
    pub(crate) fn follow(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        while let Some((first, rest)) = bytes.split_first() {
            let mut taken = 1;
            match &mut self.place {
                Place::Kind => {
                    self.place = Place::Line {
                        kind: *first,
                        number: 0,
                        is_negative: false,
                        ends: false,
                    };
                    if self.values == 0 {
                        (self.values, self.bytes) = (1, 0);
                    }
                }
                Place::Line {
                    kind,
                    number,
                    is_negative,
                    ends,
                } => {
                    match first {
                        b'0'..=b'9' => {
                            let digit = u64::from(first - b'0');
                            *number = number.saturating_mul(10).saturating_add(digit);
                        }
                        b'-' => *is_negative = true,
                        _ => {}
                    }
                    let is_over = *ends && *first == b'\n';
                    *ends = *first == b'\r';
                    if is_over {
                        let (kind, number) = (*kind, *number);
                        let number = Some(number).filter(|number| *number == 0 || !*is_negative);
                        self.begin(kind, number)?;
                    }
                }
                Place::Text(left) => {
                    taken = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len());
                    *left -= taken as u64;
                    if *left == 0 {
                        self.place = Place::Kind;
                    }
                }
            }
            self.bytes += taken as u64;
            let ahead = match self.place {
                Place::Text(left) => left,
                _ => 0,
            };
            if self.bytes.saturating_add(ahead) > MAX_REPLY || self.values > MAX_VALUES {
                return Err(TOO_LARGE);
            }
            bytes = match taken {
                1 => rest,
                _ => &bytes[taken..],
            };
        }
        Ok(())
    }

    /// The first line of a value is over. No number: it is below zero, which says that there is no value.
    fn begin(&mut self, kind: u8, number: Option<u64>) -> Result<(), &'static str> {
        self.place = Place::Kind;
        let inside = match kind {
            b'$' | b'=' | b'!' => {
                match number {
                    Some(number) => self.place = Place::Text(number.saturating_add(2)),
                    None if kind == b'$' => {}
                    // The client library waits for a text without end.
                    None => return Err(TOO_LARGE),
                }
                0
            }
            b'*' | b'~' | b'>' => number.unwrap_or(0),
            b'%' => number.ok_or(TOO_LARGE)?.saturating_mul(2),
            // Attributes stand before the value that they belong to.
            b'|' => number.ok_or(TOO_LARGE)?.saturating_mul(2).saturating_add(1),
            _ => 0,
        };
        self.values = (self.values - 1).saturating_add(inside);
        Ok(())
    }

    /// Whether nothing of a reply is outstanding.
    #[cfg(any(test, tower_websocket_fuzzing))]
    pub(crate) fn is_at_rest(&self) -> bool {
        self.values == 0 && matches!(self.place, Place::Kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows `bytes` in pieces of every size. Whether the last reply was over behind them.
    fn follow(bytes: &[u8]) -> Result<bool, &'static str> {
        let mut results = (1..=bytes.len()).map(|size| {
            let mut replies = Replies::default();
            for piece in bytes.chunks(size) {
                replies.follow(piece)?;
            }
            Ok(replies.is_at_rest())
        });
        let first = results.next().unwrap();
        assert!(results.all(|result| result == first), "{bytes:?}");
        first
    }

    #[test]
    fn every_kind_of_reply_is_followed_to_its_end() {
        for reply in [
            "+OK\r\n",
            "-ERR no 5\r\n",
            ":-12\r\n",
            "$5\r\n*9\r\n1\r\n",
            "$0\r\n\r\n",
            "$-1\r\n",
            "$-0\r\n\r\n",
            "*-1\r\n",
            ">-1\r\n",
            "+a\nb\r\n",
            "-a\rb\r\n",
            "*0\r\n",
            "_\r\n",
            ",-1.5e9\r\n",
            "#t\r\n",
            "!5\r\nERR x\r\n",
            "=7\r\ntxt:abc\r\n",
            "(123456789012345678901234567890\r\n",
            "*2\r\n*1\r\n:1\r\n$1\r\nx\r\n",
            "%2\r\n+a\r\n:1\r\n+b\r\n*0\r\n",
            "~1\r\n:1\r\n",
            "|1\r\n+a\r\n:1\r\n*1\r\n:1\r\n",
            ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\n\r\n\r\n",
        ] {
            assert_eq!(follow(reply.as_bytes()), Ok(true), "{reply}");
            let two = format!("{reply}{reply}");
            assert_eq!(follow(two.as_bytes()), Ok(true), "{two}");
            let short = &reply[..reply.len() - 1];
            assert_eq!(follow(short.as_bytes()), Ok(false), "{short}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_comes() {
        for reply in [
            "$16777217\r\n",
            "$99999999999999999999999\r\n",
            "*16777217\r\n",
            "%9999999999999999999\r\n",
            "*65537\r\n",
            "*40000\r\n%40000\r\n",
            // That the client library waits for, without end.
            "!-1\r\n",
            "=-1\r\n",
            "%-1\r\n",
            ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$17000000\r\n",
        ] {
            assert!(follow(reply.as_bytes()).is_err(), "{reply}");
        }
        let mut replies = Replies::default();
        let quarter = vec![b'x'; MAX_REPLY as usize / 4];
        // Replies of a quarter may come for ever, if they are not parts of one.
        for _ in 0..8 {
            replies
                .follow(format!("${}\r\n", quarter.len()).as_bytes())
                .unwrap();
            replies.follow(&quarter).unwrap();
            replies.follow(b"\r\n").unwrap();
        }
        replies.follow(b"*4\r\n").unwrap();
        let all = (0..4).try_for_each(|_| {
            replies.follow(format!("${}\r\n", quarter.len()).as_bytes())?;
            replies.follow(&quarter)?;
            replies.follow(b"\r\n")
        });
        assert!(all.is_err());
        // Nor does a line go on for ever.
        let mut replies = Replies::default();
        replies.follow(b"+").unwrap();
        assert!((0..5).any(|_| replies.follow(&quarter).is_err()));
    }
}
