//! [`negotiate`]: takes one offer of a client, with its four parameters (RFC 7692 §7.1), and says
//! what was agreed for each direction.

use super::options::Deflate;

/// The parameters of an offer, as they stand in it.
pub(crate) type Params = [(String, Option<String>)];

/// What client and server have agreed on, for each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) inbound: InboundTerms,
    pub(crate) outbound: OutboundTerms,
}

/// How the messages of the client are compressed, and what of them is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InboundTerms {
    /// A message may refer to those before it.
    pub(super) takeover: bool,
    pub(super) bits: u8,
    pub(super) max_ratio: u32,
}

/// How our messages are compressed, and which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutboundTerms {
    /// As in [`InboundTerms`].
    pub(super) takeover: bool,
    pub(super) bits: u8,
    pub(super) level: u8,
    pub(super) memory_level: u8,
    pub(super) threshold: usize,
    pub(super) max_compressed: usize,
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
        let inbound = InboundTerms {
            takeover: deflate.client_takeover
                && !self.client_no_takeover
                && client_bits <= deflate.client_bits,
            bits: client_bits,
            max_ratio: deflate.max_ratio,
        };
        let outbound = OutboundTerms {
            takeover: deflate.server_takeover && !self.server_no_takeover,
            bits: server_bits,
            level: deflate.level,
            memory_level: deflate.memory_level,
            threshold: deflate.threshold,
            max_compressed: deflate.max_compressed,
        };
        let mut answer = NAME.to_owned();
        let mut add = |param: &str| {
            answer.push_str("; ");
            answer.push_str(param);
        };
        if !outbound.takeover {
            add(SERVER_NO_TAKEOVER);
        }
        if !inbound.takeover {
            add(CLIENT_NO_TAKEOVER);
        }
        if self.server_bits.is_some() || server_bits < 15 {
            add(&format!("{SERVER_BITS}={server_bits}"));
        }
        if client_bits < 15 {
            add(&format!("{CLIENT_BITS}={client_bits}"));
        }
        Some((Agreed { inbound, outbound }, answer))
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

    fn agreed(offer: &str, deflate: Deflate) -> Option<(Agreed, String)> {
        let mut headers = HeaderMap::new();
        headers.insert(
            SEC_WEBSOCKET_EXTENSIONS,
            HeaderValue::from_str(offer).unwrap(),
        );
        let offers = extensions(&headers, &SEC_WEBSOCKET_EXTENSIONS).unwrap();
        let offers = offers.iter().map(|offer| (&*offer.name, &offer.params[..]));
        negotiate(offers, &deflate)
    }

    fn answer(offer: &str, deflate: Deflate) -> Option<String> {
        agreed(offer, deflate).map(|(_, answer)| answer)
    }

    #[test]
    fn each_direction_has_its_own_terms() {
        let deflate = Deflate::new()
            .server_context_takeover(true)
            .client_context_takeover(true)
            .max_ratio(7);
        let offer = "permessage-deflate; server_no_context_takeover; \
                     server_max_window_bits=10; client_max_window_bits=12";
        let (Agreed { inbound, outbound }, _) = agreed(offer, deflate).unwrap();
        assert_eq!((inbound.takeover, inbound.bits), (true, 12));
        assert_eq!(inbound.max_ratio, 7);
        assert_eq!((outbound.takeover, outbound.bits), (false, 10));
        assert_eq!(outbound.level, deflate.level);
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
