//! Log lines that explain why a handshake did not reach the application.

use http::request::Parts;
use http::{Version, header};
use hyper::ext::Protocol;

use crate::handshake;
use crate::logging::{Throttle, escape};

/// One line for whoever forgot `enable_connect_protocol()` and wonders why nothing opens.
pub(super) fn extended_connect(parts: &Parts) {
    if parts.version == Version::HTTP_2
        && parts.headers.contains_key(header::SEC_WEBSOCKET_VERSION)
        && parts.extensions.get::<Protocol>().is_none()
    {
        static LINES: Throttle = Throttle::new();
        if let Some(missed) = LINES.pass() {
            tracing::warn!(
                missed,
                "an HTTP/2 request with WebSocket headers is no extended CONNECT (RFC 8441): \
                 call `enable_connect_protocol()` on the server's HTTP/2 builder, and have \
                 proxies in front speak it or HTTP/1.1"
            );
        }
    }
}

/// One line for whoever put an identifier with `%2F` into a path and wonders who answers.
#[cold]
pub(super) fn ambiguous(parts: &Parts) {
    let protocol = parts.extensions.get::<Protocol>().map(Protocol::as_str);
    if !handshake::is_handshake(parts, protocol) {
        return;
    }
    static LINES: Throttle = Throttle::new();
    if let Some(missed) = LINES.pass() {
        let path = escape(parts.uri.path().as_bytes(), 200);
        tracing::warn!(
            missed,
            "a WebSocket handshake went to the inner service, since servers read its path in \
             different ways (%2F, %5C, a backslash, a segment . or ..): \"{path}\""
        );
    }
}
