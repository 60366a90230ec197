//! [`Deflate`]: what a layer wants of compression.

/// How a layer compresses: permessage-deflate (RFC 7692), for
/// [`WebSocketLayer::deflate`](crate::WebSocketLayer::deflate).
///
/// The defaults hold no memory for a quiet connection: each message is compressed by itself (no
/// "context takeover"), and the codecs belong to the threads. What a peer can make a connection
/// cost is its message limit and 47 KiB for the state of a message that is arriving.
///
/// Time: a message is compressed in the call that sends it, some 10 ms for 1 MiB, and longer ones
/// not at all unless [`max_compressed`](Self::max_compressed) says so; a broadcast is compressed
/// once, if it has at most 1 MiB: a thread keeps a copy of the last message up to that size, and what
/// it became. Incoming
/// data is inflated at most 64 KiB (and a piece of 258 KiB) per poll, a fraction of a millisecond;
/// larger messages spread over more polls.
///
/// With takeover, messages that resemble each other become several times smaller, and every
/// connection keeps its own state for as long as it lives: see [`server_context_takeover`] and
/// [`client_context_takeover`].
///
/// Some clients agree to `client_no_context_takeover` and do not keep to it (Tornado's, Mojolicious'):
/// their second compressed message refers to the first, which is forgotten, and the connection is
/// closed with 1007 and a reason that names the parameter. [`client_context_takeover`] lets them in.
///
/// ```
/// use tower_websocket::Deflate;
///
/// let small = Deflate::new().level(1).threshold(512);
/// let chatty = Deflate::new()
///     .server_context_takeover(true)
///     .server_max_window_bits(12)
///     .memory_level(5);
/// ```
///
/// [`server_context_takeover`]: Self::server_context_takeover
/// [`client_context_takeover`]: Self::client_context_takeover
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Deflate {
    pub(super) level: u8,
    pub(super) memory_level: u8,
    pub(super) threshold: usize,
    pub(super) max_compressed: usize,
    pub(super) max_ratio: u32,
    pub(super) server_takeover: bool,
    pub(super) client_takeover: bool,
    pub(super) server_bits: u8,
    pub(super) client_bits: u8,
}

impl Default for Deflate {
    fn default() -> Self {
        Self {
            level: 3,
            memory_level: 8,
            threshold: 256,
            max_compressed: 1024 * 1024,
            max_ratio: 500,
            server_takeover: false,
            client_takeover: false,
            server_bits: 15,
            client_bits: 15,
        }
    }
}

impl Deflate {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How hard to try, 1 (fast) to 9 (small); others are taken to the nearest. Default: 3, which
    /// on JSON costs half of what 6 costs and gives a few percent more bytes.
    pub fn level(mut self, level: u8) -> Self {
        self.level = level.clamp(1, 9);
        self
    }

    /// Memory of a compressor for what it has not yet coded, 1 (1 KiB) to 9 (240 KiB), about
    /// doubling with each; others are taken to the nearest. Default: 8, zlib's own.
    pub fn memory_level(mut self, level: u8) -> Self {
        self.memory_level = level.clamp(1, 9);
        self
    }

    /// Messages with fewer bytes go as they are. Default: 256; shorter ones seldom get smaller
    /// by more than a header, if they do not share a context.
    pub fn threshold(mut self, bytes: usize) -> Self {
        self.threshold = bytes;
        self
    }

    /// Messages with more bytes go as they are. Default: 1 MiB; compressing happens in the call
    /// of `send`, and a larger message would hold its thread for longer than some 20 ms.
    pub fn max_compressed(mut self, bytes: usize) -> Self {
        self.max_compressed = bytes;
        self
    }

    /// How many times its size on the wire a message may have, once it has more than 1 MiB;
    /// past that the connection is closed with 1009. Default: 500. Typical text compresses below
    /// 50:1, and DEFLATE cannot exceed 1,032:1. With the default message limit of 1 MiB this option
    /// has no effect.
    pub fn max_ratio(mut self, ratio: u32) -> Self {
        self.max_ratio = ratio;
        self
    }

    /// Compress what we send with what was sent before, if the client allows it. Default: no.
    ///
    /// A connection then keeps its compressor from the first message that is compressed on:
    /// 371 KiB with the defaults, 161 KiB with 12 window bits and a memory level of 5, 134 KiB at
    /// the least. 128 KiB of that are a table that zlib-rs has at every size.
    pub fn server_context_takeover(mut self, takeover: bool) -> Self {
        self.server_takeover = takeover;
        self
    }

    /// Let the client compress with what it sent before. Default: no.
    ///
    /// A connection then keeps its decompressor from the first compressed message on: 47 KiB,
    /// whatever the window. A client that does not offer `client_max_window_bits` is not allowed
    /// to, where a smaller window than 32 KiB was [asked for](Self::client_max_window_bits).
    pub fn client_context_takeover(mut self, takeover: bool) -> Self {
        self.client_takeover = takeover;
        self
    }

    /// The window of what we send, as the base-2 logarithm of its bytes, 9 to 15; others are
    /// taken to the nearest. Default: 15, 32 KiB. A client may ask for less.
    ///
    /// One that asks for 8 gets no compression: zlib has no such window.
    pub fn server_max_window_bits(mut self, bits: u8) -> Self {
        self.server_bits = bits.clamp(9, 15);
        self
    }

    /// The window of what the client sends, where it lets us choose; as
    /// [`server_max_window_bits`](Self::server_max_window_bits).
    pub fn client_max_window_bits(mut self, bits: u8) -> Self {
        self.client_bits = bits.clamp(9, 15);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_of_what_zlib_has_become_the_nearest_that_it_has() {
        let low = Deflate::new().level(0).memory_level(0);
        let low = low.server_max_window_bits(8).client_max_window_bits(0);
        assert_eq!((low.level, low.memory_level), (1, 1));
        assert_eq!((low.server_bits, low.client_bits), (9, 9));
        let high = Deflate::new().level(10).memory_level(255);
        let high = high.server_max_window_bits(16).client_max_window_bits(255);
        assert_eq!((high.level, high.memory_level), (9, 9));
        assert_eq!((high.server_bits, high.client_bits), (15, 15));
    }
}
