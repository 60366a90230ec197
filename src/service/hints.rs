//! Log lines that explain why a handshake did not reach the application.

use http::request::Parts;
use http::{HeaderValue, StatusCode, Version, header};
use hyper::ext::Protocol;

use super::mount::Mount;
use crate::handshake::{self, PROXY, Rejection};
use crate::logging::{Throttle, escape};

/// What is wrong with a request under a mount that is not a handshake and was meant to be one.
#[inline]
pub(super) fn no_handshake(parts: &Parts) {
    let headers = &parts.headers;
    if headers.contains_key(header::SEC_WEBSOCKET_VERSION)
        || headers.contains_key(header::SEC_WEBSOCKET_KEY)
    {
        if parts.version <= Version::HTTP_11 {
            upgrade_dropped(parts);
        } else {
            extended_connect(parts);
        }
    }
}

/// One line for whoever has a proxy in front that drops `Upgrade`, as nginx does by default.
#[cold]
fn upgrade_dropped(parts: &Parts) {
    static LINES: Throttle = Throttle::new();
    if !parts.headers.contains_key(header::SEC_WEBSOCKET_KEY) {
        return;
    }
    if let Some(missed) = LINES.pass() {
        let path = escape(parts.uri.path().as_bytes(), 200);
        tracing::warn!(
            missed,
            "a request has Sec-WebSocket-Key but not `Connection: Upgrade` and `Upgrade: \
             websocket`, so it is not a WebSocket handshake: a proxy in front has dropped them. \
             {PROXY} Path: \"{path}\""
        );
    }
}

/// One line for whoever wonders why pages of a development server, or all pages behind a proxy, are
/// refused.
#[cold]
pub(super) fn refused(parts: &Parts, status: StatusCode) {
    static ORIGINS: Throttle = Throttle::new();
    static HOSTS: Throttle = Throttle::new();
    let field = |name| {
        let value = parts.headers.get(name).map(HeaderValue::as_bytes);
        escape(value.unwrap_or_default(), 100)
    };
    match status {
        StatusCode::FORBIDDEN => {
            if let Some(missed) = ORIGINS.pass() {
                let authority = parts.uri.authority().map(|a| a.as_str().as_bytes());
                let host = parts.headers.get(header::HOST).map(HeaderValue::as_bytes);
                let host = escape(authority.or(host).unwrap_or_default(), 100);
                let origin = field(header::ORIGIN);
                tracing::warn!(
                    missed,
                    "a WebSocket handshake was refused with 403, since its Origin \"{origin}\" is \
                     not allowed for the host \"{host}\". If a proxy in front changed Host, have it \
                     pass on the original (nginx: proxy_set_header Host $http_host;). To allow pages \
                     of another host, such as a development server, list them: \
                     `.origins([\"{origin}\"])`"
                );
            }
        }
        StatusCode::MISDIRECTED_REQUEST => {
            if let Some(missed) = HOSTS.pass() {
                let host = field(header::HOST);
                tracing::warn!(
                    missed,
                    "a WebSocket handshake was refused with 421, since its host \"{host}\" is not \
                     among `allowed_hosts`. If a proxy in front changed Host, have it pass on the \
                     original (nginx: proxy_set_header Host $http_host;)"
                );
            }
        }
        _ => {}
    }
}

/// What to write in place of a pattern.
pub(super) fn pattern(mount: &Mount) -> String {
    let mount = escape(mount.as_str().as_bytes(), 100);
    format!(
        "A WebSocket is mounted at \"{mount}\", but a mount is a literal path and has no parameters: \
         nothing opens there.\nIn a route: `.route(\"{mount}\", any(handler))`, whose handler ends with \
         `options.upgrade(request, ..)` of `WebSocketOptions`; or \
         `.route_service(\"{mount}\", WebSocketLayer::new(\"/\", ..).into_service())`."
    )
}

/// The answer to a handshake that cannot open, since the mount is not where the router is.
#[cold]
pub(super) fn misplaced(parts: &Parts, mount: &Mount) -> Option<Rejection> {
    let protocol = parts.extensions.get::<Protocol>().map(Protocol::as_str);
    if !handshake::is_handshake(parts, protocol) {
        return None;
    }
    static LINES: Throttle = Throttle::new();
    let (status, text) = if mount.is_pattern() {
        (StatusCode::INTERNAL_SERVER_ERROR, pattern(mount))
    } else {
        let path = escape(parts.uri.path().as_bytes(), 200);
        let mount = escape(mount.as_str().as_bytes(), 100);
        let text = format!(
            "A WebSocket handshake for \"{path}\" was routed to a service that is mounted at \
             \"{mount}\".\nA service inside a route should be mounted at \"/\"; axum's `nest` takes its \
             prefix off the path before the service sees it."
        );
        (StatusCode::NOT_FOUND, text)
    };
    if let Some(missed) = LINES.pass() {
        tracing::warn!(missed, "{}", text.replace('\n', " "));
    }
    Some(Rejection::new(status, text))
}

/// One line for whoever forgot `enable_connect_protocol()` and wonders why nothing opens.
fn extended_connect(parts: &Parts) {
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
