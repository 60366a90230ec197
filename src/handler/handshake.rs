//! [`Handshake`]: what the application sees of a request before it accepts.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Extensions, HeaderMap};

use crate::handshake::Offer;
#[cfg(feature = "axum")]
use crate::handshake::Rejection;

/// A WebSocket handshake that is about to be accepted: the argument of `on_upgrade`, of a
/// [handler](crate::WebSocketHandler::on_upgrade) or of the
/// [layer](crate::WebSocketLayer::on_upgrade).
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
    pub(crate) mount: Arc<String>,
    /// The part of the path behind the mount, as it was when the request came.
    pub(crate) path: Box<str>,
    pub(crate) offer: Offer,
    pub(crate) response_headers: HeaderMap,
    pub(crate) peer: Option<SocketAddr>,
    /// The client behind the peer, if that is a trusted proxy.
    pub(crate) client: Option<IpAddr>,
    /// How long the connection may live.
    pub(crate) lifetime: Option<Duration>,
}

impl Handshake {
    /// The request: method, URI, headers, and the extensions that layers in front have inserted.
    ///
    /// Over HTTP/2 the method is CONNECT (RFC 8441).
    pub fn request(&self) -> &Parts {
        &self.request
    }

    /// The request, to change what [`Connection::request`](crate::Connection::request) returns
    /// later, or for extractors that need `&mut Parts`.
    ///
    /// The handshake is decided already, so changes have no effect on it: HTTP version, key,
    /// mount, [`path`](Self::path), addresses, subprotocols and extensions stay those of the
    /// request as it arrived.
    pub fn request_mut(&mut self) -> &mut Parts {
        &mut self.request
    }

    /// The extensions of the request, to pass values to the callbacks that follow. Callbacks find them
    /// in [`Connection::request`](crate::Connection::request), a function of
    /// [`WebSocketLayer::stream`](crate::WebSocketLayer::stream) in its request.
    ///
    /// [`keep_request(false)`](crate::WebSocketLayer::keep_request) discards them.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.request.extensions
    }

    /// The address of the peer, as [`Connection::peer_addr`](crate::Connection::peer_addr);
    /// `None` if the layer does not [find](crate::WebSocketLayer::peer_addr) one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The address of the client, as [`Connection::client_ip`](crate::Connection::client_ip): what
    /// a [trusted proxy](crate::WebSocketLayer::trusted_proxies) states, otherwise the peer's.
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.client.or_else(|| Some(self.peer?.ip().to_canonical()))
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

    /// The subprotocol that the response will name; `None` if it will name none.
    pub fn protocol(&self) -> Option<&str> {
        self.offer.selected.as_deref()
    }

    /// Chooses one of the [subprotocols offered](Self::protocols). `false`, and no change, if
    /// the client did not offer it: naming it would make the client fail (RFC 6455 §4.1).
    pub fn select_protocol(&mut self, protocol: &str) -> bool {
        self.offer.select(protocol)
    }

    /// How long the connection may live, such as until the token expires that opened it: it is then
    /// closed gracefully with 1001, and [`CloseCause::Lifetime`](crate::CloseCause::Lifetime) in
    /// `on_close`. Of this and the layer's [`max_lifetime`](crate::WebSocketLayer::max_lifetime) the
    /// shorter one counts. Counted from the moment when the connection opens, and exact: nothing is taken
    /// off at random. Has no effect on [`stream`](crate::WebSocketLayer::stream).
    ///
    /// ```
    /// use std::time::SystemTime;
    /// use http::StatusCode;
    /// use tower_websocket::{Handshake, Rejection};
    ///
    /// /// Left in the extensions by the login in front.
    /// #[derive(Clone, Copy)]
    /// struct Expires(SystemTime);
    ///
    /// async fn check(handshake: &mut Handshake) -> Result<(), Rejection> {
    ///     let expires = handshake.request().extensions.get::<Expires>();
    ///     let left = expires.and_then(|expires| expires.0.duration_since(SystemTime::now()).ok());
    ///     handshake.set_max_lifetime(left.ok_or(StatusCode::UNAUTHORIZED)?);
    ///     Ok(())
    /// }
    /// ```
    pub fn set_max_lifetime(&mut self, age: Duration) {
        self.lifetime = Some(age);
    }

    /// Runs an extractor of axum on the request, with the feature `axum`: what an argument of a route
    /// does, in `on_upgrade`. A rejection of the extractor becomes the answer to the handshake.
    ///
    /// ```
    /// use axum::extract::{Path, Query};
    /// use serde::Deserialize;
    /// use tower_websocket::{Handshake, Rejection, WebSocketHandler};
    ///
    /// #[derive(Deserialize)]
    /// struct Login {
    ///     name: String,
    /// }
    ///
    /// #[derive(Clone, Default)]
    /// struct Room {
    ///     id: u32,
    ///     name: String,
    /// }
    ///
    /// impl WebSocketHandler for Room {
    ///     async fn on_upgrade(&mut self, handshake: &mut Handshake) -> Result<(), Rejection> {
    ///         Path(self.id) = handshake.extract(&()).await?;
    ///         let Query(Login { name }) = handshake.extract(&()).await?;
    ///         self.name = name;
    ///         Ok(())
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// The extractor's rejection, as the response that axum would send.
    #[cfg(feature = "axum")]
    #[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
    pub async fn extract<T, S>(&mut self, state: &S) -> Result<T, Rejection>
    where
        T: axum::extract::FromRequestParts<S>,
        S: Send + Sync,
    {
        use axum::response::IntoResponse;

        let extracted = T::from_request_parts(&mut self.request, state).await;
        extracted.map_err(|rejection| Rejection::from(rejection.into_response()))
    }

    /// The headers to add to the 101 (200 over HTTP/2), such as cookies; empty at first. The layer
    /// writes those of the handshake itself and ignores them here. A [`Rejection`] does not get
    /// these headers: add its own with [`Rejection::with_header`].
    ///
    /// [`Rejection`]: crate::Rejection
    /// [`Rejection::with_header`]: crate::Rejection::with_header
    pub fn response_headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.response_headers
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("uri", &self.request.uri)
            .field("mount", &self.mount)
            .field("peer", &self.peer)
            .field("offer", &self.offer)
            .finish_non_exhaustive()
    }
}
