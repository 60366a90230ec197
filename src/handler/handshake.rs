//! [`Handshake`]: what the application sees of a request before it accepts.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use http::request::Parts;

use crate::handshake::Offer;

/// A WebSocket handshake that is about to be accepted; see
/// [`on_upgrade`](crate::WebSocketHandler::on_upgrade).
///
/// ```
/// use http::StatusCode;
/// use tower_websocket::{Handshake, Rejection, WebSocketHandler};
///
/// #[derive(Clone)]
/// struct Members;
///
/// impl WebSocketHandler for Members {
///     async fn on_upgrade(&mut self, handshake: &mut Handshake) -> Result<(), Rejection> {
///         if handshake.request().headers.get("authorization").is_none() {
///             return Err(Rejection::new(StatusCode::UNAUTHORIZED, "log in first"));
///         }
///         Ok(())
///     }
/// }
/// ```
pub struct Handshake {
    pub(crate) request: Parts,
    pub(crate) mount: Arc<str>,
    /// The part of the path behind the mount, as it was when the request came.
    pub(crate) path: Box<str>,
    pub(crate) offer: Offer,
    pub(crate) headers: HeaderMap,
}

impl Handshake {
    /// The request: method, URI, headers, extensions (the peer's address, what layers in
    /// front have found out).
    pub fn request(&self) -> &Parts {
        &self.request
    }

    /// The request, to put something into its extensions for the callbacks that follow.
    pub fn request_mut(&mut self) -> &mut Parts {
        &mut self.request
    }

    /// The path under which the layer is mounted; empty for `/`.
    pub fn mount(&self) -> &str {
        &self.mount
    }

    /// The rest of the path behind the mount: empty, or it begins with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The subprotocols that the client offers, in its order.
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        self.offer.offered.iter().map(String::as_str)
    }

    /// The subprotocol that the response will name.
    pub fn protocol(&self) -> Option<&str> {
        self.offer.selected.as_deref()
    }

    /// Chooses one of the [subprotocols offered](Self::protocols). `false`, and no change, if
    /// the client did not offer it: naming it would make the client fail (RFC 6455 §4.1).
    pub fn select_protocol(&mut self, protocol: &str) -> bool {
        self.offer.select(protocol)
    }

    /// Headers to add to the response, such as cookies. Those that make the handshake are
    /// the layer's own and are left out.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("uri", &self.request.uri)
            .field("mount", &self.mount)
            .field("offer", &self.offer)
            .finish_non_exhaustive()
    }
}
