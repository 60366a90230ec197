//! What is agreed on: the four parameters of RFC 7692 §7.1, offered and answered.

/// The parameters of an offer, as they stand in it.
pub(crate) type Params = [(String, Option<String>)];

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
    server_takeover: bool,
    client_takeover: bool,
    server_bits: u8,
    client_bits: u8,
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

/// What client and server have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(super) deflate: Deflate,
    pub(super) server_takeover: bool,
    pub(super) client_takeover: bool,
    pub(super) server_bits: u8,
    pub(super) client_bits: u8,
}

const NAME: &str = "permessage-deflate";
const SERVER_NO_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_BITS: &str = "server_max_window_bits";
const CLIENT_BITS: &str = "client_max_window_bits";

/// Takes the first offer that can be taken, and gives the answer's Sec-WebSocket-Extensions.
/// One that is not understood is declined, as if it were not there (RFC 7692 §5, §7.1).
pub(crate) fn negotiate<'a>(
    offers: impl Iterator<Item = (&'a str, &'a Params)>,
    deflate: &Deflate,
) -> Option<(Agreed, String)> {
    offers
        .filter(|(name, _)| *name == NAME)
        .filter_map(|(_, params)| Offered::read(params))
        .find_map(|offered| offered.agree(deflate))
}

/// The parameters of one offer.
#[derive(Default)]
struct Offered {
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_bits: Option<u8>,
    /// With a value or without.
    client_bits: Option<Option<u8>>,
}

impl Offered {
    fn read(params: &Params) -> Option<Self> {
        let mut offered = Self::default();
        for (name, value) in params {
            let twice = match (&**name, value) {
                (SERVER_NO_TAKEOVER, None) => {
                    std::mem::replace(&mut offered.server_no_takeover, true)
                }
                (CLIENT_NO_TAKEOVER, None) => {
                    std::mem::replace(&mut offered.client_no_takeover, true)
                }
                (SERVER_BITS, Some(value)) => offered.server_bits.replace(bits(value)?).is_some(),
                (CLIENT_BITS, None) => offered.client_bits.replace(None).is_some(),
                (CLIENT_BITS, Some(value)) => {
                    offered.client_bits.replace(Some(bits(value)?)).is_some()
                }
                _ => return None,
            };
            if twice {
                return None;
            }
        }
        Some(offered)
    }

    fn agree(&self, deflate: &Deflate) -> Option<(Agreed, String)> {
        let server_bits = deflate.server_bits.min(self.server_bits.unwrap_or(15));
        if server_bits < 9 {
            return None;
        }
        let client_bits = match self.client_bits {
            Some(most) => deflate.client_bits.min(most.unwrap_or(15)),
            // The answer must not have it then (§7.1.2.2).
            None => 15,
        };
        let agreed = Agreed {
            deflate: *deflate,
            server_takeover: deflate.server_takeover && !self.server_no_takeover,
            client_takeover: deflate.client_takeover
                && !self.client_no_takeover
                && client_bits <= deflate.client_bits,
            server_bits,
            client_bits,
        };
        let mut answer = NAME.to_owned();
        let mut add = |param: &str| {
            answer.push_str("; ");
            answer.push_str(param);
        };
        if !agreed.server_takeover {
            add(SERVER_NO_TAKEOVER);
        }
        if !agreed.client_takeover {
            add(CLIENT_NO_TAKEOVER);
        }
        if self.server_bits.is_some() || server_bits < 15 {
            add(&format!("{SERVER_BITS}={server_bits}"));
        }
        if client_bits < 15 {
            add(&format!("{CLIENT_BITS}={client_bits}"));
        }
        Some((agreed, answer))
    }
}

/// "A decimal integer between 8 to 15 inclusive without leading zeros."
fn bits(value: &str) -> Option<u8> {
    match value {
        "8" => Some(8),
        "9" => Some(9),
        "10" => Some(10),
        "11" => Some(11),
        "12" => Some(12),
        "13" => Some(13),
        "14" => Some(14),
        "15" => Some(15),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::header::SEC_WEBSOCKET_EXTENSIONS;
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::handshake::extensions;

    fn answer(offer: &str, deflate: Deflate) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(
            SEC_WEBSOCKET_EXTENSIONS,
            HeaderValue::from_str(offer).unwrap(),
        );
        let offers = extensions(&headers, &SEC_WEBSOCKET_EXTENSIONS).unwrap();
        let offers = offers.iter().map(|offer| (&*offer.name, &offer.params[..]));
        negotiate(offers, &deflate).map(|(_, answer)| answer)
    }

    #[test]
    fn h17_offers_are_answered_with_what_was_agreed_and_bad_ones_declined() {
        const BOTH: &str =
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        let default = Deflate::new();
        let takeover = default
            .server_context_takeover(true)
            .client_context_takeover(true);
        let small = takeover
            .server_max_window_bits(11)
            .client_max_window_bits(10);
        let with = |params: &str| Some(format!("{BOTH}{params}"));
        let plain = |params: &str| Some(format!("permessage-deflate{params}"));
        let table = [
            // What a browser offers.
            (
                "permessage-deflate; client_max_window_bits",
                default,
                with(""),
            ),
            ("permessage-deflate", default, with("")),
            ("permessage-deflate", takeover, plain("")),
            (
                "permessage-deflate; client_max_window_bits",
                takeover,
                plain(""),
            ),
            (
                "permessage-deflate; server_no_context_takeover",
                takeover,
                plain("; server_no_context_takeover"),
            ),
            (
                "permessage-deflate; client_no_context_takeover",
                takeover,
                plain("; client_no_context_takeover"),
            ),
            // Windows.
            (
                "permessage-deflate; server_max_window_bits=10",
                default,
                with("; server_max_window_bits=10"),
            ),
            (
                "permessage-deflate; server_max_window_bits=\"10\"",
                default,
                with("; server_max_window_bits=10"),
            ),
            (
                "permessage-deflate; server_max_window_bits=15",
                default,
                with("; server_max_window_bits=15"),
            ),
            (
                "permessage-deflate; server_max_window_bits=8",
                default,
                None,
            ),
            (
                "permessage-deflate; client_max_window_bits=8",
                default,
                with("; client_max_window_bits=8"),
            ),
            (
                "permessage-deflate; client_max_window_bits=12",
                takeover,
                plain("; client_max_window_bits=12"),
            ),
            (
                "permessage-deflate; client_max_window_bits",
                small,
                plain("; server_max_window_bits=11; client_max_window_bits=10"),
            ),
            // It cannot be told to keep a small window, so it must keep none.
            (
                "permessage-deflate",
                small,
                plain("; client_no_context_takeover; server_max_window_bits=11"),
            ),
            (
                "permessage-deflate; server_max_window_bits=14",
                small,
                plain("; client_no_context_takeover; server_max_window_bits=11"),
            ),
            // Bad, unknown, twice: declined, and the next offer is looked at.
            ("permessage-deflate; server_max_window_bits", default, None),
            (
                "permessage-deflate; server_max_window_bits=7",
                default,
                None,
            ),
            (
                "permessage-deflate; server_max_window_bits=16",
                default,
                None,
            ),
            (
                "permessage-deflate; server_max_window_bits=010",
                default,
                None,
            ),
            (
                "permessage-deflate; server_max_window_bits=ten",
                default,
                None,
            ),
            (
                "permessage-deflate; client_max_window_bits=7",
                default,
                None,
            ),
            (
                "permessage-deflate; client_max_window_bits=16",
                default,
                None,
            ),
            (
                "permessage-deflate; server_no_context_takeover=1",
                default,
                None,
            ),
            ("permessage-deflate; unknown", default, None),
            ("permessage-deflate; unknown=1", default, None),
            (
                "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
                default,
                None,
            ),
            (
                "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
                default,
                None,
            ),
            (
                "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
                default,
                None,
            ),
            ("x-webkit-deflate-frame", default, None),
            ("permessage-bzip2, permessage-deflate", default, with("")),
            (
                "permessage-deflate; unknown, permessage-deflate; server_max_window_bits=9, \
                 permessage-deflate",
                default,
                with("; server_max_window_bits=9"),
            ),
        ];
        for (offer, deflate, expected) in table {
            assert_eq!(answer(offer, deflate), expected, "{offer}");
        }
    }
}
