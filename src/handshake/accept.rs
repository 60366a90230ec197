//! [`accept_response`]: the response that opens a WebSocket.

use http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::headers::is_token;
use super::offer::Transport;

/// The response that opens the WebSocket: 101, or 200 over HTTP/2.
///
/// `protocol` is the subprotocol that was selected, and `extensions` the answer to the extensions that the
/// client offered. Headers in `extra` that belong to the handshake or frame a body are dropped.
pub(crate) fn accept_response(
    transport: Transport,
    protocol: Option<&str>,
    mut extra: HeaderMap,
    extensions: Option<String>,
) -> Response<()> {
    let ours: Vec<HeaderName> = extra.keys().filter(|name| is_ours(name)).cloned().collect();
    for name in ours {
        extra.remove(name);
    }
    let mut response = Response::new(());
    *response.headers_mut() = extra;
    if let Transport::Http1 { accept, .. } = transport {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    let protocol = protocol.filter(|name| is_token(name));
    if let Some(protocol) = protocol.and_then(|name| HeaderValue::from_str(name).ok()) {
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    if let Some(extensions) = extensions.and_then(|text| HeaderValue::from_str(&text).ok()) {
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_EXTENSIONS, extensions);
    }
    response
}

fn is_ours(name: &HeaderName) -> bool {
    matches!(
        *name,
        CONNECTION | UPGRADE | CONTENT_LENGTH | TRANSFER_ENCODING
    ) || name.as_str().starts_with("sec-websocket-")
}
