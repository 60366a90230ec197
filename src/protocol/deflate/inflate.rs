//! [`Inbound`]: inflates the messages of the client within the limits, as they arrive.

use std::fmt;

use zlib_rs::{Inflate, InflateFlush, Status};

use super::TAIL;
use super::negotiate::InboundTerms;
use super::pool;
use crate::close::CloseCode;
use crate::protocol::violation::Violation;

/// A stored block of nothing. Where the blocks of a message have ended it changes nothing; where
/// a message was cut short, something comes of it.
const NOTHING: [u8; 5] = [0, 0, 0, 0xFF, 0xFF];

/// What it costs to begin anew behind a final block, in bytes inflated.
const RESET: usize = 2 * 1024;

/// Below this many inflated bytes the ratio does not matter. The default limit on messages: what
/// anybody may send in plain, a page of spaces too, may as well be sent compressed.
const RATIO_FREE: usize = 1024 * 1024;

/// What a connection knows of the compressed messages of its peer.
pub(crate) struct Inbound {
    terms: InboundTerms,
    max_message: usize,
    /// A compressed message has come, and the next must not refer to it.
    forgets: bool,
    /// With takeover, what the messages so far have left.
    pub(super) context: Option<Box<Inflater>>,
}

impl Inbound {
    pub(crate) fn new(terms: InboundTerms, max_message: usize) -> Box<Self> {
        Box::new(Self {
            terms,
            max_message,
            forgets: false,
            context: None,
        })
    }

    /// How much payload a frame of a compressed message may have, where any other may have
    /// `max_frame`.
    pub(crate) fn room(&self, max_frame: usize) -> usize {
        if max_frame < self.max_message {
            max_frame
        } else {
            most_compressed(self.max_message)
        }
    }

    /// A compressed message begins.
    pub(crate) fn begin(&mut self) -> Box<Inflater> {
        if let Some(context) = self.context.take() {
            return context;
        }
        let inflate = if self.terms.takeover {
            // zlib's window of 8 bits has 9.
            Inflate::new(false, self.terms.bits.max(9))
        } else {
            pool::inflate()
        };
        Box::new(Inflater {
            inflate,
            ended: true,
            taken: 0,
            made: 0,
            forgets: self.forgets,
            max_message: self.max_message,
            max_ratio: self.terms.max_ratio as usize,
        })
    }

    /// It is whole.
    pub(crate) fn end(&mut self, mut inflater: Box<Inflater>) {
        if self.terms.takeover {
            (inflater.taken, inflater.made) = (0, 0);
            inflater.ended = true;
            self.context = Some(inflater);
        } else {
            self.forgets = true;
            pool::keep_inflate(inflater.inflate);
        }
    }
}

/// The state of a compressed message that is arriving.
pub(crate) struct Inflater {
    inflate: Inflate,
    /// Nothing has begun: no block yet, or the last was a final one.
    ended: bool,
    /// As in [`Inbound`].
    forgets: bool,
    /// Bytes of this message, compressed and not.
    taken: usize,
    made: usize,
    max_message: usize,
    max_ratio: usize,
}

impl Inflater {
    /// Gives what `input` is to `take`, piece by piece. Returns how much work it was, in bytes
    /// inflated.
    pub(crate) fn push(
        &mut self,
        input: &[u8],
        take: impl FnMut(&[u8]) -> Result<(), Violation>,
    ) -> Result<usize, Violation> {
        self.taken += input.len();
        // Blocks of nothing would go on for ever and never be too large.
        if self.taken > most_compressed(self.max_message) {
            return Err(Violation::too_big());
        }
        self.inflate(input, take)
    }

    /// The message has ended.
    pub(crate) fn finish(&mut self) -> Result<(), Violation> {
        // Senders have to put an empty block behind a final one (§7.2.3.4), and those that take
        // what `deflateRawSync` gives them do not. What is whole needs no `TAIL`.
        if self.ended {
            return Ok(());
        }
        // All that was to come of the message has come: it ends within an empty block.
        for end in [&TAIL[..], &NOTHING] {
            let before = self.made;
            let inflated = self.inflate(end, |_| Ok(()));
            if inflated.is_err() || self.made != before {
                return Err(incomplete(self.forgets));
            }
        }
        Ok(())
    }

    fn inflate(
        &mut self,
        input: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), Violation>,
    ) -> Result<usize, Violation> {
        pool::with_block(|block| self.inflate_to(input, block, &mut take))
    }

    fn inflate_to(
        &mut self,
        mut input: &[u8],
        block: &mut [u8],
        take: &mut impl FnMut(&[u8]) -> Result<(), Violation>,
    ) -> Result<usize, Violation> {
        self.ended &= input.is_empty();
        let mut work = 0;
        loop {
            let (read, made) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(input, block, InflateFlush::SyncFlush)
                .map_err(|_| garbage(self.forgets))?;
            let read = (self.inflate.total_in() - read) as usize;
            let made = (self.inflate.total_out() - made) as usize;
            input = input.get(read..).unwrap_or_default();
            self.made += made;
            work += made;
            if self.made > self.max_message {
                return Err(Violation::too_big());
            }
            let most = self.taken.saturating_mul(self.max_ratio);
            if self.made > RATIO_FREE && self.made > most {
                return Err(bomb());
            }
            take(&block[..made])?;
            if status == Status::StreamEnd {
                // A final block ends zlib's stream and not the message (§7.2.3.4). Here what
                // follows must not refer to what was before.
                self.inflate.reset(false);
                work += RESET;
            } else if made < block.len() && (input.is_empty() || read == 0) {
                return if input.is_empty() {
                    Ok(work)
                } else {
                    Err(garbage(self.forgets))
                };
            }
            if status == Status::StreamEnd && input.is_empty() {
                self.ended = true;
                return Ok(work);
            }
        }
    }
}

/// The most that a message within the limit has on the wire: what does not get smaller grows by 5
/// bytes in 16 KiB where it is stored, but with a small window or little memory it may not be, and
/// zlib's bound is an eighth (`deflateBound`: codes of 9 bits); some clients flush now and then.
fn most_compressed(max_message: usize) -> usize {
    max_message
        .saturating_add(max_message / 8)
        .saturating_add(max_message / 64)
        .saturating_add(1024)
}

#[cold]
fn bomb() -> Violation {
    Violation::new(
        CloseCode::MESSAGE_TOO_BIG,
        "a message compressed by more than the ratio this server takes",
    )
}

/// `forgets`: what came before is forgotten, as was agreed; a client that does not keep to it
/// fails with its second message. At most 123 bytes fit a Close frame.
#[cold]
fn garbage(forgets: bool) -> Violation {
    let reason = if forgets {
        "a compressed message that cannot be inflated; perhaps the client ignores \
         client_no_context_takeover (RFC 7692 §7.1.1.2)"
    } else {
        "a compressed message that cannot be inflated (RFC 7692 §7.2.2)"
    };
    Violation::new(CloseCode::INVALID_FRAME_PAYLOAD_DATA, reason)
}

/// As [`garbage`], where the end is missing.
#[cold]
fn incomplete(forgets: bool) -> Violation {
    let reason = if forgets {
        "a compressed message that is not complete; perhaps the client ignores \
         client_no_context_takeover (RFC 7692 §7.1.1.2)"
    } else {
        "a compressed message that is not complete (RFC 7692 §7.2.2)"
    };
    Violation::new(CloseCode::INVALID_FRAME_PAYLOAD_DATA, reason)
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound").finish_non_exhaustive()
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{MIB, agreed, code, inbound, receive, send};
    use super::super::{Deflate, Outbound};
    use super::*;

    #[test]
    fn the_examples_of_rfc_7692_are_inflated() {
        // §7.2.3.1: one block; two fragments; §7.2.3.3: no compression; §7.2.3.4: a final block;
        // §7.2.3.5: two blocks.
        let whole: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        let examples: [&[&[u8]]; 5] = [
            &[whole],
            &[&whole[..3], &whole[3..]],
            &[&[
                0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
            ]],
            &[&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]],
            &[&[
                0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
            ]],
        ];
        for pieces in examples {
            let got = receive(&mut inbound(MIB), pieces.iter().copied());
            assert_eq!(got.unwrap(), b"Hello", "{pieces:x?}");
        }
        // §7.2.3.2: the second message refers to the first.
        let deflate = Deflate::new().client_context_takeover(true);
        let mut inbound = Inbound::new(agreed(&deflate).inbound, MIB);
        assert_eq!(receive(&mut inbound, [whole]).unwrap(), b"Hello");
        let again: &[u8] = &[0xf2, 0x00, 0x11, 0x00, 0x00];
        assert_eq!(receive(&mut inbound, [again]).unwrap(), b"Hello");
        // Without takeover there is nothing to refer to.
        assert_eq!(code(receive(&mut self::inbound(MIB), [again])), 1007);
        // An empty message.
        assert_eq!(receive(&mut inbound, [&[0][..]]).unwrap(), b"");
    }

    #[test]
    fn r5_a_bomb_is_refused_while_it_grows() {
        let zeros = vec![0; 16 * MIB];
        let deflate = Deflate::new().level(9).max_compressed(usize::MAX);
        let bomb = send(&Outbound::new(agreed(&deflate).outbound), &zeros.into()).unwrap();
        assert!(bomb.len() < 20_000, "{}", bomb.len());
        let mut held = 0;
        let mut inflater = inbound(MIB).begin();
        let result = inflater.push(&bomb, |bytes| {
            held += bytes.len();
            Ok(())
        });
        assert_eq!(result.unwrap_err().code.as_u16(), 1009);
        assert!(held <= MIB, "{held}");
        // In fragments.
        let result = receive(&mut inbound(MIB), bomb.chunks(7));
        assert_eq!(code(result), 1009);
        // As large as may be, it is no bomb.
        let page = send(
            &Outbound::new(agreed(&deflate).outbound),
            &vec![0; MIB].into(),
        )
        .unwrap();
        assert_eq!(receive(&mut inbound(MIB), [&page[..]]).unwrap(), [0; MIB]);
        // A limit on messages that is no help: the ratio is.
        let result = receive(&mut inbound(usize::MAX / 2), [&bomb[..]]);
        assert_eq!(code(result), 1009);
        // With what was before.
        let takeover = Deflate::new().client_context_takeover(true);
        let mut inbound = Inbound::new(agreed(&takeover).inbound, MIB);
        assert_eq!(
            receive(
                &mut inbound,
                [&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..]]
            )
            .unwrap(),
            b"Hello"
        );
        assert_eq!(code(receive(&mut inbound, [&bomb[..]])), 1009);
    }

    #[test]
    fn r5_blocks_of_nothing_end_at_the_limit_too() {
        let mut inflater = inbound(1000).begin();
        let result = (0..10_000).try_for_each(|_| inflater.push(&NOTHING, |_| Ok(())).map(drop));
        assert_eq!(result.unwrap_err().code.as_u16(), 1009);
        // Final blocks, each a stream of its own.
        let mut inflater = inbound(1000).begin();
        let result =
            (0..10_000).try_for_each(|_| inflater.push(&[0x03, 0x00], |_| Ok(())).map(drop));
        assert_eq!(result.unwrap_err().code.as_u16(), 1009);
    }

    #[test]
    fn r5_a_stream_that_is_cut_or_bad_is_1007() {
        // A stored block that says 5 and has 2; a bad length; a bad kind of block.
        for bad in [
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65][..],
            &[0x00, 0x05, 0x00, 0x00, 0x00],
            &[0x06],
        ] {
            assert_eq!(code(receive(&mut inbound(MIB), [bad])), 1007, "{bad:x?}");
        }
        let text = "The quick brown fox jumps over the lazy dog. ".repeat(20);
        let whole = send(
            &Outbound::new(agreed(&Deflate::new()).outbound),
            &text.clone().into(),
        )
        .unwrap();
        for cut in 1..whole.len() {
            if let Ok(got) = receive(&mut inbound(MIB), [&whole[..cut]]) {
                // Only where nothing was lost, or a block had ended.
                assert!(text.as_bytes().starts_with(&got), "{cut}");
            }
        }
    }

    #[test]
    fn p8_what_deflate_raw_sync_makes_is_a_message_and_so_is_nothing() {
        for takeover in [false, true] {
            let deflate = Deflate::new().client_context_takeover(takeover);
            let mut inbound = Inbound::new(agreed(&deflate).inbound, MIB);
            let hello: &[u8] = &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
            for _ in 0..2 {
                assert_eq!(receive(&mut inbound, [hello]).unwrap(), b"Hello");
                assert_eq!(receive(&mut inbound, hello.chunks(1)).unwrap(), b"Hello");
                // Of an empty message; and of one for which zlib had nothing more to flush.
                assert_eq!(receive(&mut inbound, [&[0x03, 0x00][..]]).unwrap(), b"");
                assert_eq!(receive(&mut inbound, []).unwrap(), b"");
                // Two streams in one message.
                let two = [hello, hello].concat();
                assert_eq!(receive(&mut inbound, [&two[..]]).unwrap(), b"HelloHello");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_inflated_within_the_limit_or_refused(
            input in proptest::collection::vec(any::<u8>(), 0..4000),
            piece in 1..4000_usize,
            takeover in any::<bool>(),
        ) {
            let deflate = Deflate::new().client_context_takeover(takeover);
            let mut inbound = Inbound::new(agreed(&deflate).inbound, 10_000);
            for _ in 0..2 {
                match receive(&mut inbound, input.chunks(piece)) {
                    Ok(got) => prop_assert!(got.len() <= 10_000),
                    Err(violation) => {
                        prop_assert!([1007, 1009].contains(&violation.code.as_u16()));
                        break;
                    }
                }
            }
        }
    }
}
