//! [`Deflate`]: the options of compression.

/// How a layer compresses: permessage-deflate (RFC 7692), for
/// [`WebSocketLayer::deflate`](crate::WebSocketLayer::deflate).
///
/// The defaults hold no memory for a quiet connection: each message is compressed by itself (no
/// "context takeover"), and the codecs belong to the threads. A peer can make a connection cost its
/// message limit, and 47 KiB for the state of a message that is arriving.
///
/// Time: a message is compressed in the call that sends it, which takes about 10 ms for 1 MiB.
/// Longer messages are sent uncompressed unless [`max_compressed`](Self::max_compressed) is raised.
/// A broadcast of up to 1 MiB is compressed once per thread: a thread keeps a copy of the last
/// message of up to that size, and its compressed form. Incoming data is inflated at most 64 KiB
/// (and a piece of 258 KiB) per poll, which takes a fraction of a millisecond; larger messages
/// spread over more polls.
///
/// With takeover, messages that resemble each other become several times smaller, and every
/// connection keeps its own state as long as it lives: see [`server_context_takeover`] and
/// [`client_context_takeover`].
///
/// Some clients (Tornado, Mojolicious) agree to `client_no_context_takeover` and then ignore it:
/// their second compressed message refers to the first, which is forgotten, and the connection is
/// closed with 1007 and a reason that names the parameter. [`client_context_takeover`] supports
/// them.
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

    /// The compression level, 1 (fast) to 9 (small); other values become the nearest of these.
    /// Default: 3, which takes half the time of 6 on JSON, for a few percent more bytes.
    pub fn level(mut self, level: u8) -> Self {
        self.level = level.clamp(1, 9);
        self
    }

    /// The memory of a compressor for what it has not coded yet, 1 (1 KiB) to 9 (240 KiB); each
    /// level about doubles it, and other values become the nearest of these. Default: 8, as in
    /// zlib.
    pub fn memory_level(mut self, level: u8) -> Self {
        self.memory_level = level.clamp(1, 9);
        self
    }

    /// Messages with fewer bytes are sent uncompressed. Default: 256. Without a shared context,
    /// shorter ones seldom get smaller by more than a header.
    pub fn threshold(mut self, bytes: usize) -> Self {
        self.threshold = bytes;
        self
    }

    /// Messages with more bytes are sent uncompressed. Default: 1 MiB. `send` itself compresses,
    /// and a larger message would block its thread for more than about 20 ms.
    pub fn max_compressed(mut self, bytes: usize) -> Self {
        self.max_compressed = bytes;
        self
    }

    /// By what factor a message may exceed its size on the wire, once it has more than 1 MiB;
    /// beyond that the connection is closed with 1009. Default: 500. Typical text compresses below
    /// 50:1, and DEFLATE cannot exceed 1,032:1. With the default message limit of 1 MiB this option
    /// has no effect.
    pub fn max_ratio(mut self, ratio: u32) -> Self {
        self.max_ratio = ratio;
        self
    }

    /// Compresses each message with the help of those sent before, if the client allows it.
    /// Default: `false`.
    ///
    /// A connection then keeps its compressor, from its first compressed message on: 371 KiB with
    /// the defaults, 161 KiB with 12 window bits and a memory level of 5, 134 KiB at least. Of
    /// these, 128 KiB are a table that zlib-rs allocates at every size.
    pub fn server_context_takeover(mut self, takeover: bool) -> Self {
        self.server_takeover = takeover;
        self
    }

    /// Lets the client compress each message with the help of those it sent before. Default:
    /// `false`.
    ///
    /// A connection then keeps its decompressor, from the first compressed message on: 47 KiB,
    /// whatever the window. This is not granted to clients that omit `client_max_window_bits` if
    /// you [requested](Self::client_max_window_bits) a window below 32 KiB.
    pub fn client_context_takeover(mut self, takeover: bool) -> Self {
        self.client_takeover = takeover;
        self
    }

    /// The window for outgoing messages, as the base-2 logarithm of its bytes, 9 to 15; other
    /// values become the nearest of these. Default: 15, which is 32 KiB. A client may ask for less.
    ///
    /// A client that asks for 8 gets no compression, because zlib has no such window.
    pub fn server_max_window_bits(mut self, bits: u8) -> Self {
        self.server_bits = bits.clamp(9, 15);
        self
    }

    /// The window for incoming messages, if the client lets the server choose. Values and default
    /// are those of [`server_max_window_bits`](Self::server_max_window_bits).
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
