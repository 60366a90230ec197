//! Where the frames of a request begin (RFC 9114 §7.1).
//!
//! `http3` 0.0.8 keeps a frame that is not DATA until it is whole, whatever its length, and reads ahead
//! of small ones without an end. Handed to it piece by piece, no piece with bytes of two frames, it keeps
//! one frame; and one that is too long never reaches it.

/// DATA frames pass in pieces, of any length. The others are heads, which `MAX_HEAD` of `requests.rs`
/// bounds when they are decoded, and kinds that are not known here and are skipped.
const MAX_FRAME: u64 = 64 * 1024;

const DATA: u64 = 0;

/// Two integers of at most 8 bytes: type and length.
const HEAD: usize = 16;

/// What comes next.
pub(crate) struct Frames {
    head: [u8; HEAD],
    filled: usize,
    /// Of the payload. 0: a head is next.
    payload: u64,
}

impl Frames {
    pub(crate) fn new() -> Self {
        Self {
            head: [0; HEAD],
            filled: 0,
            payload: 0,
        }
    }

    /// How many bytes may be read.
    pub(crate) fn room(&self, most: usize) -> usize {
        if self.payload > 0 {
            return usize::try_from(self.payload).map_or(most, |payload| payload.min(most));
        }
        match self.integers() {
            Err(missing) => missing,
            // It would have been taken.
            Ok(_) => 0,
        }
    }

    /// Takes note of bytes that were read, no more than there was room for.
    ///
    /// # Errors
    ///
    /// A frame too long to be kept.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(), FrameTooLong> {
        if self.payload > 0 {
            self.payload = self.payload.saturating_sub(bytes.len() as u64);
            return Ok(());
        }
        for (free, byte) in self.head[self.filled..].iter_mut().zip(bytes) {
            *free = *byte;
            self.filled += 1;
        }
        if let Ok((kind, length)) = self.integers() {
            if kind != DATA && length > MAX_FRAME {
                return Err(FrameTooLong(length));
            }
            self.payload = length;
            self.filled = 0;
        }
        Ok(())
    }

    /// Type and length, or how many bytes of them are missing for certain.
    fn integers(&self) -> Result<(u64, u64), usize> {
        let head = &self.head[..self.filled];
        let (kind, rest) = integer(head).map_err(|missing| missing + 1)?;
        let (length, _) = integer(rest)?;
        Ok((kind, length))
    }
}

/// An integer of variable length (RFC 9000 §16) and what is behind it, or how many bytes are missing for
/// certain.
fn integer(bytes: &[u8]) -> Result<(u64, &[u8]), usize> {
    let first = *bytes.first().ok_or(1_usize)?;
    let length = 1 << (first >> 6);
    let Some((all, rest)) = bytes.split_at_checked(length) else {
        return Err(length - bytes.len());
    };
    let value = all[1..]
        .iter()
        .fold(u64::from(first & 0x3f), |value, byte| {
            value << 8 | u64::from(*byte)
        });
    Ok((value, rest))
}

#[derive(Debug)]
pub(crate) struct FrameTooLong(u64);

impl std::fmt::Display for FrameTooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a frame of {} bytes that is not DATA", self.0)
    }
}

impl std::error::Error for FrameTooLong {}
