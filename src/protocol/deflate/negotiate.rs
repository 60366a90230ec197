//! [`negotiate`]: takes one offer of a client, with its four parameters (RFC 7692 §7.1), and says
//! what was agreed for each direction.

use super::options::Deflate;

/// The parameters of an offer, as the client wrote them.
pub(crate) type Params = [(String, Option<String>)];

/// What client and server have agreed on, for each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) inbound: InboundTerms,
    pub(crate) outbound: OutboundTerms,
}

/// How the client's messages are compressed, and the highest ratio that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InboundTerms {
    /// A message may refer to those before it.
    pub(super) takeover: bool,
    pub(super) bits: u8,
    pub(super) max_ratio: u32,
}

/// How our messages are compressed, and which of them are.
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

/// Accepts the first offer that is acceptable, and returns the Sec-WebSocket-Extensions of the
/// answer. An offer that is not understood is declined, as if it were absent (RFC 7692 §5, §7.1).
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
            // The answer must not have the parameter then (§7.1.2.2).
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
mod tests;
