//! [`Outbound`]: compresses our messages, in the task that sends them.

use std::fmt;
use std::sync::PoisonError;

use bytes::Bytes;
use zlib_rs::{Deflate as Compress, DeflateFlush};

use super::TAIL;
use super::negotiate::OutboundTerms;
use super::pool::{self, Settings};
use crate::sync::Mutex;

/// With a context, messages up to this size may grow a little. Longer ones that grow cannot be
/// compressed.
pub(super) const PRIMING: usize = 512;

/// Compresses the messages of one connection.
pub(crate) struct Outbound {
    terms: OutboundTerms,
    settings: Settings,
    /// With takeover, the compressor; made with the first message.
    pub(super) context: Mutex<Option<Box<Compress>>>,
}

impl Outbound {
    pub(crate) fn new(terms: OutboundTerms) -> Self {
        Self {
            terms,
            settings: Settings {
                level: terms.level,
                memory_level: terms.memory_level,
                bits: terms.bits,
            },
            context: Mutex::default(),
        }
    }

    /// Nothing more will be compressed.
    pub(crate) fn end(&self) {
        let mut context = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        *context = None;
    }

    /// Whether a message of `len` bytes is worth compressing.
    pub(crate) fn takes(&self, len: usize) -> bool {
        len >= self.terms.threshold.max(1) && len <= self.terms.max_compressed
    }

    /// Compresses `message` and gives the result to `pass`: `None` if the message does not get
    /// smaller. Calls `ready` before it does the work. Messages are passed on in the order in which
    /// they are compressed.
    pub(crate) fn compress<T>(
        &self,
        message: &Bytes,
        ready: impl FnOnce() -> Result<(), T>,
        pass: impl FnOnce(Option<Bytes>) -> Result<(), T>,
    ) -> Result<(), T> {
        if !self.terms.takeover {
            ready()?;
            return pass(compressed_alone(self.settings, message));
        }
        // The lock is held until the message is passed on, because the peer inflates in the order
        // of the queue.
        let mut context = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        ready()?;
        let compressor = context.get_or_insert_with(|| Box::new(self.settings.compressor()));
        // A short message that does not get smaller still helps later ones that resemble it.
        let growth = if message.len() <= PRIMING {
            message.len() / 8 + 8
        } else {
            0
        };
        let most = message.len() + growth;
        let compressed = deflate(compressor, message, most);
        if compressed.is_none() {
            // The peer will not see this message in its window. An empty one refers to nothing.
            compressor.reset();
        }
        pass(compressed)
    }
}

/// Compresses a message without context.
fn compressed_alone(settings: Settings, message: &Bytes) -> Option<Bytes> {
    if let Some(compressed) = pool::remembered(settings, message) {
        return compressed;
    }
    let enough = settings.for_one(message.len());
    let mut compressor = pool::compressor(enough);
    let compressed = deflate(&mut compressor, message, message.len());
    pool::keep_compressor(enough, compressor);
    pool::remember(settings, message, &compressed);
    compressed
}

/// Returns `None` unless the result is smaller than `most`.
fn deflate(compressor: &mut Compress, message: &[u8], most: usize) -> Option<Bytes> {
    // Room for output that is larger than the message, by an eighth if the codes are fixed: zlib-rs
    // 0.6 panics if level 1 runs out of room.
    let mut out = vec![0; message.len() + message.len() / 8 + 64];
    let (read, made) = (compressor.total_in(), compressor.total_out());
    let status = compressor.compress(message, &mut out, DeflateFlush::SyncFlush);
    let read = (compressor.total_in() - read) as usize;
    let made = (compressor.total_out() - made) as usize;
    // A buffer that is full may lack the end of the flush.
    if status.is_err() || read < message.len() || made >= out.len() {
        return None;
    }
    let len = made.checked_sub(TAIL.len()).filter(|len| *len > 0)?;
    debug_assert_eq!(out[len..made], TAIL);
    (len < most).then(|| Bytes::copy_from_slice(&out[..len]))
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Deflate;
    use super::super::pool::REMEMBERED;
    use super::super::tests::{agreed, inbound, noise, receive, send};
    use super::*;

    #[test]
    fn a_message_for_many_is_compressed_once() {
        let message = Bytes::from("to all ".repeat(100));
        let one = send(&Outbound::new(agreed(&Deflate::new()).outbound), &message).unwrap();
        let other = send(&Outbound::new(agreed(&Deflate::new()).outbound), &message).unwrap();
        assert_eq!(one.as_ptr(), other.as_ptr());
        // Not where it would have to be another.
        let small = Deflate::new().server_max_window_bits(9);
        let third = send(&Outbound::new(agreed(&small).outbound), &message).unwrap();
        assert_ne!(one.as_ptr(), third.as_ptr());
    }

    #[test]
    fn s9_a_broadcast_of_any_size_that_is_remembered_is_compressed_once() {
        for len in [1, 1000, 100_000, REMEMBERED] {
            let text = "to all ".repeat(len / 7 + 15);
            let message = Bytes::copy_from_slice(&text.as_bytes()[..len.max(100)]);
            let outbounds = || Outbound::new(agreed(&Deflate::new()).outbound);
            let one = send(&outbounds(), &message).unwrap();
            // Of the same bytes, wherever they are.
            let other = send(&outbounds(), &Bytes::copy_from_slice(&message)).unwrap();
            assert_eq!(one.as_ptr(), other.as_ptr(), "{len}");
            // As long, and another.
            let mut changed = message.to_vec();
            *changed.last_mut().unwrap() = b'!';
            let third = send(&outbounds(), &changed.clone().into()).unwrap();
            let mut inbound = inbound(usize::MAX / 2);
            assert_eq!(receive(&mut inbound, [&third[..]]).unwrap(), changed);
        }
        // Also that it does not get smaller.
        let noise = Bytes::from(noise(1000));
        let outbound = Outbound::new(agreed(&Deflate::new()).outbound);
        for _ in 0..2 {
            assert_eq!(send(&outbound, &noise), None);
        }
    }
}
