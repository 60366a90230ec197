//! What a thread lends to its connections: codecs of messages that stand by themselves, and the
//! message that it compressed last.

use std::cell::RefCell;

use bytes::Bytes;
use zlib_rs::{Deflate as Compress, DeflateConfig, Inflate};

/// How many bytes are inflated at a time, and by how many a message may exceed its limit before
/// that is noticed.
pub(super) const BLOCK: usize = 16 * 1024;

/// How many codecs of each kind a thread keeps. There are more only while more messages are
/// arriving at the same time.
const POOLED: usize = 4;

/// How many symbols a compressor of memory level 6 takes before it must end a block.
const SYMBOLS: usize = 4096;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool {
        inflaters: Vec::new(),
        block: Vec::new(),
        compressors: Vec::new(),
        last: None,
    }) };
}

struct Pool {
    inflaters: Vec<Inflate>,
    /// Where messages are inflated to, piece by piece.
    block: Vec<u8>,
    compressors: Vec<(Settings, Compress)>,
    last: Option<Remembered>,
}

/// The message that was compressed last, and the result, so that a broadcast is compressed once.
///
/// The message is a copy, and is compared byte by byte. A `Bytes` could be compared by its address,
/// but it may be a small part of a large buffer, which would then live until another message is
/// compressed. Copying 1 MiB takes 0.1 ms, compressing it 10 ms or more.
struct Remembered {
    settings: Settings,
    message: Vec<u8>,
    /// `None`: the message does not get smaller.
    compressed: Option<Bytes>,
}

/// Larger messages are not remembered. This is the default of `Deflate::max_compressed`, so all
/// broadcasts are remembered unless that is raised.
pub(super) const REMEMBERED: usize = 1024 * 1024;

/// Room that is kept for the next message to remember.
const REMEMBERED_ROOM: usize = 64 * 1024;

/// Uses the pool of this thread. `None` if the thread is about to end and has none any more.
fn pool<T>(with: impl FnOnce(&mut Pool) -> T) -> Option<T> {
    POOL.try_with(|pool| pool.try_borrow_mut().ok().map(|mut pool| with(&mut pool)))
        .ok()
        .flatten()
}

/// A decompressor with the largest window.
pub(super) fn inflate() -> Inflate {
    let lent = pool(|pool| pool.inflaters.pop()).flatten();
    lent.unwrap_or_else(|| Inflate::new(false, 15))
}

/// Gives back what [`inflate`] lent.
pub(super) fn keep_inflate(mut inflate: Inflate) {
    inflate.reset(false);
    pool(|pool| {
        if pool.inflaters.len() < POOLED {
            pool.inflaters.push(inflate);
        }
    });
}

/// Lends the thread's block.
pub(super) fn with_block<T>(with: impl FnOnce(&mut [u8]) -> T) -> T {
    // The block is taken out, so that `with` may use the pool.
    let mut block = pool(|pool| std::mem::take(&mut pool.block)).unwrap_or_default();
    block.resize(BLOCK, 0);
    let result = with(&mut block);
    pool(|pool| pool.block = block);
    result
}

/// A compressor with these settings.
pub(super) fn compressor(settings: Settings) -> Compress {
    let lent = pool(|pool| {
        let at = pool.compressors.iter().position(|(s, _)| *s == settings)?;
        Some(pool.compressors.swap_remove(at).1)
    });
    lent.flatten().unwrap_or_else(|| settings.compressor())
}

/// Gives back what [`compressor`] lent.
pub(super) fn keep_compressor(settings: Settings, mut compressor: Compress) {
    compressor.reset();
    pool(|pool| {
        if pool.compressors.len() >= POOLED {
            pool.compressors.remove(0);
        }
        pool.compressors.push((settings, compressor));
    });
}

/// The result that [`remember`] was given for this message, if that was its last call.
pub(super) fn remembered(settings: Settings, message: &[u8]) -> Option<Option<Bytes>> {
    pool(|pool| {
        pool.last
            .as_ref()
            .filter(|last| last.settings == settings && last.message == *message)
            .map(|last| last.compressed.clone())
    })
    .flatten()
}

/// Keeps a copy of a message, and what it was compressed to.
pub(super) fn remember(settings: Settings, message: &[u8], compressed: &Option<Bytes>) {
    if message.len() > REMEMBERED {
        return;
    }
    pool(|pool| {
        let last = pool.last.take();
        let mut copy = last.map(|last| last.message).unwrap_or_default();
        copy.clear();
        copy.shrink_to(REMEMBERED_ROOM);
        copy.reserve_exact(message.len());
        copy.extend_from_slice(message);
        pool.last = Some(Remembered {
            settings,
            message: copy,
            compressed: compressed.clone(),
        });
    });
}

/// Two compressors with the same settings are interchangeable.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) level: u8,
    pub(super) memory_level: u8,
    pub(super) bits: u8,
}

impl Settings {
    /// The settings that are enough for a message of `len` bytes without context. zlib-rs clears
    /// its room for symbols, 48 KiB by default, twice per message, and a message has no more
    /// symbols than bytes. For a message of 200 bytes that is a quarter of the time, and the result
    /// is the same.
    pub(super) fn for_one(self, len: usize) -> Self {
        let enough = if len < SYMBOLS { 6 } else { 9 };
        Self {
            memory_level: self.memory_level.min(enough),
            ..self
        }
    }

    pub(super) fn compressor(self) -> Compress {
        Compress::new_with_config(DeflateConfig {
            window_bits: -i32::from(self.bits),
            mem_level: self.memory_level.into(),
            ..DeflateConfig::new(self.level.into())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MIB, agreed, send};
    use super::super::{Deflate, Outbound};
    use super::*;

    #[test]
    fn a_thread_keeps_a_few_codecs_and_no_more() {
        let kept = || pool(|pool| (pool.inflaters.len(), pool.compressors.len())).unwrap();
        let lent: Vec<_> = (0..10).map(|_| inflate()).collect();
        lent.into_iter().for_each(keep_inflate);
        for level in 1..=9 {
            let settings = Settings {
                level,
                memory_level: 1,
                bits: 9,
            };
            keep_compressor(settings, compressor(settings));
        }
        assert_eq!(kept(), (POOLED, POOLED));
        drop((inflate(), inflate()));
        assert_eq!(kept(), (POOLED - 2, POOLED));
    }

    #[test]
    fn s9_what_a_thread_remembers_of_a_broadcast_is_bounded_and_pins_nothing() {
        let outbound = Outbound::new(agreed(&Deflate::new().max_compressed(usize::MAX)).outbound);
        // A slice does not hold what it is a slice of.
        let large = Bytes::from(vec![b'a'; 8 * MIB]);
        send(&outbound, &large.slice(..1000)).unwrap();
        assert!(large.is_unique());
        // Nor does a message that is larger than what is remembered.
        send(&outbound, &large).unwrap();
        assert!(large.is_unique());
        let held = || pool(|pool| pool.last.as_ref().map_or(0, |last| last.message.capacity()));
        assert!(held().unwrap() <= REMEMBERED);
        // A large one that is remembered is forgotten with the next.
        send(&outbound, &large.slice(..REMEMBERED)).unwrap();
        assert_eq!(held().unwrap(), REMEMBERED);
        send(&outbound, &large.slice(..1000)).unwrap();
        assert!(held().unwrap() < 100_000);
    }
}
