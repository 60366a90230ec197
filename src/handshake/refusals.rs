//! Refusals: whole responses that say what is wrong and what to write instead.

use http::header::{CONNECTION, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Version};

use super::field::Field;
use super::head::Head;
use super::headers::has_token;
use super::origin::OriginPolicy;
use super::rejection::Rejection;
use crate::logging::escape;

pub(crate) const PROXY: &str = "Behind nginx: proxy_http_version 1.1; proxy_set_header Upgrade \
    $http_upgrade; proxy_set_header Connection upgrade;";

/// The answer to a request that is [plain](Decision::Plain), if there is no inner service to answer
/// it.
pub(crate) fn plain_refusal(parts: &Parts) -> Rejection {
    let http1 = parts.version <= Version::HTTP_11;
    if parts.method == Method::CONNECT {
        let text = if http1 {
            "CONNECT is not implemented here."
        } else {
            "CONNECT is implemented here only with the :protocol websocket (RFC 8441 §4)."
        };
        return Rejection::new(StatusCode::NOT_IMPLEMENTED, text);
    }
    let wants = |name, token| has_token(Field::of(&parts.headers, &name), token);
    let text = if !http1 {
        "This is a WebSocket; over HTTP/2 it is opened with an extended CONNECT (RFC 8441)."
            .to_owned()
    } else if wants(UPGRADE, "websocket") {
        format!("`Connection: Upgrade` is missing.\n{PROXY}")
    } else if parts.headers.contains_key(SEC_WEBSOCKET_KEY) {
        format!("`Upgrade: websocket` is missing.\n{PROXY}")
    } else {
        "This is a WebSocket; connect with a client for ws:// or wss://.".to_owned()
    };
    upgrade_required(text, http1)
}

/// The answer to a path under the mount that a proxy or another server may read as a different
/// path, if there is no inner service to answer it.
pub(crate) fn ambiguous_path() -> Rejection {
    bad(
        "The path has %2F, %5C, a backslash, or a segment that is . or .., which servers read in \
         different ways, so nothing is mounted there.\nPut such an identifier into the query, or \
         encode it without slashes (base64url).",
    )
}

/// 426, with what to upgrade to (RFC 9110 §15.5.22). HTTP/2 does not have those fields.
pub(super) fn upgrade_required(text: String, http1: bool) -> Rejection {
    let rejection = Rejection::new(StatusCode::UPGRADE_REQUIRED, text)
        .with_header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    if !http1 {
        return rejection;
    }
    rejection
        .with_header(UPGRADE, HeaderValue::from_static("websocket"))
        .with_header(CONNECTION, HeaderValue::from_static("Upgrade"))
}

pub(super) fn bad(text: impl Into<String>) -> Rejection {
    Rejection::new(StatusCode::BAD_REQUEST, text)
}

/// 421, so that a client that reuses a connection for another host tries a new one
/// (RFC 9110 §15.5.20).
pub(super) fn misdirected(parts: &Parts) -> Rejection {
    let target = parts
        .uri
        .authority()
        .map(|target| target.as_str().as_bytes());
    let field = parts.headers.get(HOST).map(HeaderValue::as_bytes);
    let host = escape(target.or(field).unwrap_or_default(), 100);
    Rejection::new(
        StatusCode::MISDIRECTED_REQUEST,
        format!(
            "WebSockets of the host \"{host}\" are not served here (RFC 9110 §7.4).\n\
             To serve them, add \"{host}\" to `allowed_hosts`; if a proxy in front changed Host, \
             make it pass on the original."
        ),
    )
}

pub(super) fn foreign(head: &Head<'_>, policy: &OriginPolicy) -> Rejection {
    let origin = match head.origin.single() {
        Ok(origin) => escape(origin.map_or(b"", HeaderValue::as_bytes), 100).to_string(),
        Err(_) => "twice".to_owned(),
    };
    let advice = match policy {
        OriginPolicy::SameHost => {
            "It is not the host that the request names. To allow it, list it in `origins`; \
             if a proxy in front changed Host, make it pass on the original."
        }
        _ => "It is not among those that the application allows.",
    };
    Rejection::new(
        StatusCode::FORBIDDEN,
        format!("Pages of this Origin may not connect: {origin} (RFC 6455 §10.2).\n{advice}"),
    )
}
