//! [`examine`]: what a request is, and whether it may become a WebSocket.

use http::header::{ALLOW, CONNECTION, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::field::Field;
use super::head::Head;
use super::headers::{extensions, has_token, tokens};
use super::hosts::Hosts;
use super::offer::{Offer, Transport};
use super::origin::{Authority, OriginPolicy};
use super::refusals::{PROXY, bad, foreign, misdirected, upgrade_required};
use super::rejection::Rejection;
use crate::logging::escape;

/// What the layer wants of a handshake.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    /// The hosts that the server answers for; `None` allows any.
    pub(crate) hosts: Option<Hosts>,
    pub(crate) origin: OriginPolicy,
    /// The subprotocols that are spoken here, the preferred first.
    pub(crate) protocols: Vec<String>,
    /// Refuses a client that offers none of `protocols`.
    pub(crate) require_protocol: bool,
}

/// What a request is.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Not a WebSocket handshake; the inner service answers it.
    Plain,
    Refused(Rejection),
    Offer(Offer),
}

/// The most subprotocols that a client may offer. Applications in browsers offer one to three.
const MAX_PROTOCOLS: usize = 64;

/// Decides what to do with a request. `h2_protocol` is the `:protocol` of an extended CONNECT.
pub(crate) fn examine(parts: &Parts, h2_protocol: Option<&str>, policy: &Policy) -> Decision {
    if !is_handshake(parts, h2_protocol) {
        return Decision::Plain;
    }
    let http1 = parts.version <= Version::HTTP_11;
    let head = Head::of(parts);
    match offer(&head, http1, policy) {
        Ok(offer) => Decision::Offer(offer),
        // The rest of this request must not be read as the next one (RFC 9112 §9.3).
        Err(rejection) if http1 && announces_body(&head) => {
            Decision::Refused(rejection.with_header(CONNECTION, HeaderValue::from_static("close")))
        }
        Err(rejection) => Decision::Refused(rejection),
    }
}

/// Whether a request asks for a WebSocket; the handshake need not be valid.
pub(crate) fn is_handshake(parts: &Parts, h2_protocol: Option<&str>) -> bool {
    if parts.version <= Version::HTTP_11 {
        let has = |name, token| has_token(Field::of(&parts.headers, &name), token);
        has(UPGRADE, "websocket") && has(CONNECTION, "upgrade")
    } else {
        parts.method == Method::CONNECT
            && h2_protocol.is_some_and(|p| p.eq_ignore_ascii_case("websocket"))
    }
}

/// Checks the handshake against RFC 6455 §4.2.1, or RFC 8441 §5, which has no key.
fn offer(head: &Head<'_>, http1: bool, policy: &Policy) -> Result<Offer, Rejection> {
    let parts = head.parts;
    if parts.version < Version::HTTP_11 {
        return Err(Rejection::new(
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            format!("A WebSocket needs HTTP/1.1, this request came over HTTP/1.0.\n{PROXY}"),
        ));
    }
    if http1 && parts.method != Method::GET {
        return Err(Rejection::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "A WebSocket is opened with GET (RFC 6455 §4.1).",
        )
        .with_header(ALLOW, HeaderValue::from_static("GET")));
    }
    let Ok(host) = Authority::of(head) else {
        return Err(bad(if http1 {
            "There must be one Host header, with host or host:port (RFC 9112 §3.2)."
        } else {
            "There must be one :authority, with host or host:port, and no other Host \
             (RFC 9113 §8.3.1)."
        }));
    };
    if !http1 && (head.connection.is_present() || head.upgrade.is_present()) {
        return Err(bad(
            "Connection and Upgrade do not belong into HTTP/2 (RFC 9113 §8.2.2).",
        ));
    }
    if announces_body(head) {
        return Err(bad(
            "A WebSocket handshake has no body: send no Content-Length, Transfer-Encoding or \
             Expect (RFC 9110 §7.8).",
        ));
    }
    version(head.version, http1)?;
    let transport = if http1 {
        Transport::Http1 {
            accept: accept(head.key)?,
            close: has_token(head.connection, "close"),
        }
    } else {
        Transport::Http2
    };
    if policy.hosts.as_ref().is_some_and(|hosts| !hosts.has(host)) {
        return Err(misdirected(parts));
    }
    if !policy.origin.allows(head) {
        return Err(foreign(head, &policy.origin));
    }
    let offered = protocols(head.protocols)?;
    let common = policy.protocols.iter().find(|p| offered.contains(p));
    let selected = common.cloned();
    if selected.is_none() && policy.require_protocol {
        return Err(bad(format!(
            "Sec-WebSocket-Protocol must offer one of: {}.",
            policy.protocols.join(", ")
        )));
    }
    let extensions = extensions(head.extensions)
        .map_err(|_| bad("Sec-WebSocket-Extensions is malformed or too long (RFC 6455 §9.1)."))?;
    Ok(Offer {
        transport,
        offered,
        selected,
        extensions,
    })
}

fn version(field: Field<'_>, http1: bool) -> Result<(), Rejection> {
    let Ok(version) = field.single() else {
        return Err(bad(
            "Sec-WebSocket-Version is there twice (RFC 6455 §11.3.5).",
        ));
    };
    let got = match version.map(HeaderValue::as_bytes) {
        Some(b"13") => return Ok(()),
        Some(other) => format!("not {}", escape(other, 40)),
        None => "and is missing".to_owned(),
    };
    let text = format!("Sec-WebSocket-Version must be 13, {got} (RFC 6455 §4.4).");
    Err(upgrade_required(text, http1))
}

fn accept(field: Field<'_>) -> Result<HeaderValue, Rejection> {
    let key = field
        .single()
        .map_err(|_| bad("Sec-WebSocket-Key is there twice (RFC 6455 §11.3.1)."))?
        .ok_or_else(|| bad("Sec-WebSocket-Key is missing (RFC 6455 §4.2.1)."))?
        .as_bytes();
    is_key(key)
        .then(|| derive_accept_key(key))
        .and_then(|accept| HeaderValue::try_from(accept).ok())
        .ok_or_else(|| {
            bad(format!(
                "Sec-WebSocket-Key must be 16 bytes in base64, not \"{}\" (RFC 6455 §4.2.1).",
                escape(key, 40)
            ))
        })
}

/// Whether this is 16 bytes in base64. The unused bits before the padding may be set, as most
/// servers allow (RFC 4648 §3.5).
fn is_key(key: &[u8]) -> bool {
    key.len() == 24
        && key.ends_with(b"==")
        && key[..22]
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

fn protocols(field: Field<'_>) -> Result<Vec<String>, Rejection> {
    let malformed = || {
        bad(
            "Sec-WebSocket-Protocol must be a list of names like `chat, chat.v2` \
             (RFC 6455 §4.1).",
        )
    };
    // An empty field counts as absent: Python's `websockets` and libsoup send one if the
    // application gave them an empty list.
    let names = tokens(field).map_err(|_| malformed())?;
    if names.len() > MAX_PROTOCOLS {
        return Err(bad(format!(
            "Sec-WebSocket-Protocol has more than {MAX_PROTOCOLS} names."
        )));
    }
    for (i, name) in names.iter().enumerate() {
        if names[..i].contains(name) {
            return Err(bad(format!(
                "Sec-WebSocket-Protocol names {} twice (RFC 6455 §4.1).",
                escape(name.as_bytes(), 40)
            )));
        }
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// Whether something that is not WebSocket data follows the head, or may follow it.
fn announces_body(head: &Head<'_>) -> bool {
    let empty = |length: &HeaderValue| {
        !length.is_empty() && length.as_bytes().iter().all(|digit| *digit == b'0')
    };
    head.transfer_encoding.is_present()
        || head.expect.is_present()
        || !head.content_length.lines().all(empty)
}

#[cfg(test)]
mod tests;
