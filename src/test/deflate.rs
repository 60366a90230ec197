//! [`Deflate`]: permessage-deflate (RFC 7692) from the client's side. It shares no code with the
//! server's, so that a mistake in one does not hide in the other.

use zlib_rs::{DeflateFlush, InflateFlush, Status};

/// What a browser offers.
pub(super) const OFFER: &str = "permessage-deflate; client_max_window_bits";

/// What a sender takes off the end of a message (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

/// See the module docs.
pub(super) struct Deflate {
    inflate: zlib_rs::Inflate,
    server_takeover: bool,
    /// `None` where the window is one that zlib cannot compress for.
    compress: Option<zlib_rs::Deflate>,
    client_takeover: bool,
}

impl Deflate {
    /// What the server's `answer` to `offer` agrees to.
    ///
    /// # Errors
    ///
    /// Says what a client must fail the connection for (RFC 7692 §5, §7.1).
    pub(super) fn agreed(offer: &str, answer: &str) -> Result<Self, String> {
        let mut params = answer.split(';').map(str::trim);
        if params.next() != Some("permessage-deflate") || !offer.contains("permessage-deflate") {
            return Err(format!("{answer:?} was not offered"));
        }
        let (mut server_takeover, mut client_takeover) = (true, true);
        let (mut server_bits, mut client_bits) = (None, None);
        for param in params {
            let (name, value) = match param.split_once('=') {
                Some((name, value)) => (name, Some(value.trim_matches('"'))),
                None => (param, None),
            };
            let bits = value.and_then(|bits| bits.parse().ok());
            let bits = bits.filter(|bits: &u8| (8..=15).contains(bits));
            let was_there = match (name, value, bits) {
                ("server_no_context_takeover", None, _) => {
                    !std::mem::replace(&mut server_takeover, false)
                }
                ("client_no_context_takeover", None, _) => {
                    !std::mem::replace(&mut client_takeover, false)
                }
                ("server_max_window_bits", _, Some(bits)) => server_bits.replace(bits).is_some(),
                ("client_max_window_bits", _, Some(bits)) if offer.contains(name) => {
                    client_bits.replace(bits).is_some()
                }
                _ => return Err(format!("{param:?} in {answer:?}")),
            };
            if was_there {
                return Err(format!("{param:?} twice in {answer:?}"));
            }
        }
        let client_bits = client_bits.unwrap_or(15);
        Ok(Self {
            // zlib's window of 8 bits has 9.
            inflate: zlib_rs::Inflate::new(false, server_bits.unwrap_or(15).max(9)),
            server_takeover,
            compress: (client_bits > 8).then(|| zlib_rs::Deflate::new(6, false, client_bits)),
            client_takeover,
        })
    }

    /// The payload of a compressed message; `None` if it has to be sent as it is.
    pub(super) fn compress(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let compress = self.compress.as_mut()?;
        if message.is_empty() {
            // RFC 7692 §7.2.3.6.
            return Some(vec![0]);
        }
        if !self.client_takeover {
            compress.reset();
        }
        let mut out = vec![0; message.len() + message.len() / 8 + 64];
        let before = compress.total_out();
        let status = compress.compress(message, &mut out, DeflateFlush::SyncFlush);
        out.truncate((compress.total_out() - before) as usize);
        assert!(
            status.is_ok() && out.ends_with(&TAIL),
            "zlib did not compress"
        );
        out.truncate(out.len() - TAIL.len());
        Some(out)
    }

    /// The message in a compressed payload.
    ///
    /// # Errors
    ///
    /// It is none, or refers to messages that the server must not refer to.
    pub(super) fn inflate(&mut self, mut payload: Vec<u8>) -> Result<Vec<u8>, String> {
        if !self.server_takeover {
            self.inflate.reset(false);
        }
        payload.extend(TAIL);
        let (mut input, mut message) = (&payload[..], Vec::new());
        let mut block = vec![0; 16 * 1024];
        loop {
            let (read, made) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(input, &mut block, InflateFlush::SyncFlush)
                .map_err(|error| format!("a compressed message that is none: {error:?}"))?;
            let read = (self.inflate.total_in() - read) as usize;
            let made = (self.inflate.total_out() - made) as usize;
            input = &input[read..];
            message.extend_from_slice(&block[..made]);
            if status == Status::StreamEnd {
                self.inflate.reset(false);
            } else if made < block.len() {
                return match input {
                    [] => Ok(message),
                    _ => Err("a compressed message with something behind it".into()),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(answer: &str) -> Deflate {
        Deflate::agreed(OFFER, answer).unwrap()
    }

    /// RFC 7692 §7.2.3.1 and §7.2.3.2: "Hello" twice.
    const HELLO: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    const AGAIN: &[u8] = &[0xf2, 0x00, 0x11, 0x00, 0x00];

    #[test]
    fn the_examples_of_rfc_7692_are_inflated_and_made() {
        let mut deflate = agreed("permessage-deflate");
        for payload in [HELLO, AGAIN] {
            assert_eq!(deflate.inflate(payload.to_vec()).unwrap(), b"Hello");
            assert_eq!(deflate.compress(b"Hello").unwrap(), payload);
        }
        assert_eq!(deflate.compress(b"").unwrap(), [0]);
        assert_eq!(deflate.inflate(vec![0]).unwrap(), b"");
        // A final block, and nothing behind it.
        let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(deflate.inflate(last.to_vec()).unwrap(), b"Hello");
    }

    #[test]
    fn without_takeover_no_message_refers_to_another() {
        let mut deflate =
            agreed("permessage-deflate; server_no_context_takeover; client_no_context_takeover");
        assert_eq!(deflate.inflate(HELLO.to_vec()).unwrap(), b"Hello");
        assert!(deflate.inflate(AGAIN.to_vec()).is_err());
        for _ in 0..2 {
            assert_eq!(deflate.compress(b"Hello").unwrap(), HELLO);
        }
    }

    #[test]
    fn an_answer_that_was_not_offered_or_is_wrong_is_an_error() {
        let mut deflate = agreed("permessage-deflate; client_max_window_bits=8");
        assert_eq!(deflate.compress(b"Hello"), None);
        for (offer, answer) in [
            ("", "permessage-deflate"),
            (OFFER, "permessage-bzip2"),
            (OFFER, "permessage-deflate; what"),
            (OFFER, "permessage-deflate; server_max_window_bits"),
            (OFFER, "permessage-deflate; server_max_window_bits=16"),
            (OFFER, "permessage-deflate; server_no_context_takeover=1"),
            (
                "permessage-deflate",
                "permessage-deflate; client_max_window_bits=9",
            ),
            (
                OFFER,
                "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            ),
        ] {
            assert!(Deflate::agreed(offer, answer).is_err(), "{answer}");
        }
    }

    #[test]
    fn what_is_compressed_is_inflated_again_at_every_size() {
        let (mut ours, mut theirs) = (agreed("permessage-deflate"), agreed("permessage-deflate"));
        for size in [1, 100, 16 * 1024, 100_000] {
            let noise = (0..size).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
            for message in [vec![7; size as usize], noise.collect()] {
                let payload = ours.compress(&message).unwrap();
                assert!(theirs.inflate(payload).unwrap() == message, "{size}");
            }
        }
    }
}
