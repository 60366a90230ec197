//! [`Offer`]: a valid handshake, with the subprotocols and extensions that the client offers.

use http::HeaderValue;

use super::headers::ExtensionOffer;

/// A valid handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) transport: Transport,
    /// Subprotocols, in the client's order.
    pub(crate) offered: Vec<String>,
    pub(crate) selected: Option<String>,
    pub(crate) extensions: Vec<ExtensionOffer>,
}

/// How the WebSocket is opened. This is decided once, before the application sees the request and
/// may change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Http1 {
        /// Sec-WebSocket-Accept of the 101.
        accept: HeaderValue,
        /// The client asks to end the connection after the final response. A 101 is not one (RFC
        /// 9112 §9.6), so the connection is upgraded anyway; after any other response the server
        /// ends it.
        close: bool,
    },
    /// A 200 on a stream of its own (RFC 8441).
    Http2,
}

impl Transport {
    pub(crate) fn is_http1(&self) -> bool {
        matches!(self, Self::Http1 { .. })
    }
}

impl Offer {
    /// Selects a subprotocol. Returns `false` and changes nothing if the client did not offer it,
    /// because the client would have to fail the connection (RFC 6455 §4.1).
    pub(crate) fn select(&mut self, protocol: &str) -> bool {
        let offered = self.offered.iter().any(|offered| offered == protocol);
        if offered {
            self.selected = Some(protocol.to_owned());
        }
        offered
    }
}
