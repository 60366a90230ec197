//! [`Inbound`]: inflates the messages of the client within the limits, as they arrive.

use std::fmt;

use zlib_rs::{Inflate, InflateFlush, Status};

use super::TAIL;
use super::negotiate::InboundTerms;
use super::pool;
use crate::close::CloseCode;
use crate::protocol::violation::Violation;

/// An empty stored block. After a complete message it produces nothing; after a truncated one it
/// produces output or an error.
const NOTHING: [u8; 5] = [0, 0, 0, 0xFF, 0xFF];

/// What it costs to start again after a final block, in bytes inflated.
const RESET: usize = 2 * 1024;

/// Up to this many inflated bytes, the ratio does not matter. It is the default limit on messages:
/// what a client may send uncompressed, even a page of spaces, it may send compressed.
const RATIO_FREE: usize = 1024 * 1024;

/// Inflates the compressed messages of one connection's peer.
pub(crate) struct Inbound {
    terms: InboundTerms,
    max_message: usize,
    /// A compressed message has come, and the next must not refer to it.
    forgets: bool,
    /// With takeover, the state that the messages so far have left.
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

    /// How much payload a frame of a compressed message may have, if any other may have
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

    /// The message is complete.
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
    /// No block is in progress: none has begun, or the last one was final.
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
    /// Inflates `input` and passes the result to `take`, piece by piece. Returns how many bytes
    /// that was, and adds [`RESET`] for each final block.
    pub(crate) fn push(
        &mut self,
        input: &[u8],
        take: impl FnMut(&[u8]) -> Result<(), Violation>,
    ) -> Result<usize, Violation> {
        self.taken += input.len();
        // Empty blocks could go on forever and never become too large.
        if self.taken > most_compressed(self.max_message) {
            return Err(Violation::too_big());
        }
        self.inflate(input, take)
    }

    /// The message has ended.
    pub(crate) fn finish(&mut self) -> Result<(), Violation> {
        // A sender must put an empty block after a final one (§7.2.3.4), but one that uses
        // `deflateRawSync` does not. A stream that is complete does not need `TAIL`.
        if self.ended {
            return Ok(());
        }
        // A complete message ends within an empty block, so nothing more comes out of it.
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
                // A final block ends zlib's stream but not the message (§7.2.3.4). What follows
                // must not refer to what came before.
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

/// The most bytes that a message within the limit takes on the wire. Data that cannot be compressed
/// grows by 5 bytes in 16 KiB if zlib stores it. With a small window or little memory zlib may not
/// store it, and its bound is an eighth (`deflateBound`: codes of 9 bits). Some clients also flush
/// now and then.
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

/// `forgets`: earlier messages are forgotten, as agreed, so a client that ignores this fails with
/// its second message. At most 123 bytes fit into a Close frame.
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

/// As [`garbage`], if the end is missing.
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
mod tests;
