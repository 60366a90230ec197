use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, ORIGIN, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::input::Input;
use crate::handshake::{
    Decision, Hosts, Offer, OriginPolicy, Policy, Rejection, Transport, accept_response, examine,
    plain_refusal,
};

/// Rows H1 to H26: whatever a request says, it is examined without a panic; what is refused gets
/// a complete response, and what is accepted has all that RFC 6455 §4.2.1 asks for.
pub fn handshake(data: &[u8]) {
    let mut input = Input::new(data);
    let policy = policy(&mut input);
    let h2_protocol = input.one_of(&[None, Some("websocket"), Some("WebSocket"), Some("x")]);
    let mut extra = HeaderMap::new();
    edit(&mut extra, &mut Input::new(input.short()));
    let parts = request(&mut input);
    let http1 = parts.version <= Version::HTTP_11;

    match examine(&parts, h2_protocol, &policy) {
        Decision::Plain => {
            let asks = if http1 {
                has(&parts.headers, &UPGRADE, "websocket")
                    && has(&parts.headers, &CONNECTION, "upgrade")
            } else {
                parts.method == Method::CONNECT
                    && h2_protocol.is_some_and(|p| p.eq_ignore_ascii_case("websocket"))
            };
            assert!(!asks, "{parts:?}");
            refused(plain_refusal(&parts));
        }
        Decision::Refused(rejection) => refused(rejection),
        Decision::Offer(mut offer) => {
            offered(&parts, &policy, &offer);
            let before = offer.selected.clone();
            let name = String::from_utf8_lossy(data);
            if offer.select(&name) {
                assert!(offer.offered.iter().any(|o| *o == name));
            } else {
                assert_eq!(offer.selected, before);
            }
            accepted(&offer, extra);
        }
    }
}

fn policy(input: &mut Input<'_>) -> Policy {
    let flags = input.byte();
    Policy {
        hosts: (flags & 16 != 0).then(|| Hosts::new(["*.example", "localhost:8080", "[::1]:8080"])),
        origin: match flags & 3 {
            0 | 1 => OriginPolicy::SameHost,
            2 => OriginPolicy::Any,
            _ => OriginPolicy::list(["https://*.example.com", "http://localhost:8080"]),
        },
        protocols: if flags & 4 == 0 {
            Vec::new()
        } else {
            vec!["chat".to_owned(), "superchat".to_owned()]
        },
        require_protocol: flags & 8 != 0,
    }
}

/// A good handshake that is edited.
fn request(input: &mut Input<'_>) -> Parts {
    let version = input.one_of(&[
        Version::HTTP_11,
        Version::HTTP_11,
        Version::HTTP_2,
        Version::HTTP_10,
    ]);
    let method = input.one_of(&[Method::GET, Method::CONNECT, Method::POST].each_ref());
    let target = input.one_of(&[
        "/chat",
        "*",
        "server.example:80",
        "https://server.example/chat",
        "http://[::1]:8080/",
        "",
    ]);
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.version = version;
    parts.method = method.clone();
    parts.uri = Uri::try_from(target)
        .or_else(|_| Uri::try_from(input.short()))
        .unwrap_or_default();
    let given = input.byte();
    for (i, (name, value)) in [
        (HOST, "server.example"),
        (UPGRADE, "websocket"),
        (CONNECTION, "Upgrade"),
        (SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
        (SEC_WEBSOCKET_VERSION, "13"),
    ]
    .into_iter()
    .enumerate()
    {
        // All of them for 0, so that most inputs begin with a good request.
        if given & (1 << i) == 0 {
            parts.headers.insert(name, HeaderValue::from_static(value));
        }
    }
    edit(&mut parts.headers, input);
    parts
}

/// Headers that mean something here, and one that does not.
const NAMES: [HeaderName; 13] = [
    HOST,
    UPGRADE,
    CONNECTION,
    SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION,
    SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_ACCEPT,
    ORIGIN,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    EXPECT,
    http::header::COOKIE,
];

const VALUES: [&str; 20] = [
    "websocket",
    "h2c, WebSocket",
    "keep-alive, Upgrade",
    "upgrade, close",
    "13",
    "13, 8",
    "dGhlIHNhbXBsZSBub25jZQ==",
    "dGhlIHNhbXBsZSBub25jZR==",
    "chat",
    "a, superchat,chat",
    "permessage-deflate; client_max_window_bits",
    "x; a=\"b\\c\", permessage-deflate",
    "http://server.example",
    "https://server.example:80",
    "https://a.example.com",
    "http://[0:0::1]:8080",
    "null",
    "0",
    "chunked",
    "[::1]:8080",
];

/// Adds, replaces and removes headers until the input is at its end.
fn edit(headers: &mut HeaderMap, input: &mut Input<'_>) {
    while !input.is_empty() {
        let op = input.byte();
        let name = match NAMES.get(usize::from(op & 0x0F)) {
            Some(name) => name.clone(),
            None => match HeaderName::from_bytes(input.short()) {
                Ok(name) => name,
                Err(_) => continue,
            },
        };
        let value = match op >> 4 {
            0..=3 => HeaderValue::from_bytes(input.short()),
            4..=11 => HeaderValue::from_str(input.one_of(&VALUES)),
            _ => {
                headers.remove(name);
                continue;
            }
        };
        let Ok(value) = value else {
            continue;
        };
        if op & 0x10 == 0 {
            headers.append(name, value);
        } else {
            headers.insert(name, value);
        }
    }
}

/// A refusal is a response that can be sent and read.
fn refused(rejection: Rejection) {
    let response = rejection.into_response();
    assert!(response.status().is_client_error() || response.status().is_server_error());
    let length = response.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    assert_eq!(length, response.body().len());
    // What came is not repeated as it came.
    let text = std::str::from_utf8(response.body().known()).expect("the text is UTF-8");
    assert!(
        text.chars().all(|c| c == '\n' || !c.is_control()),
        "{text:?}"
    );
}

fn offered(parts: &Parts, policy: &Policy, offer: &Offer) {
    let headers = &parts.headers;
    let all = |name: &HeaderName| {
        let values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
        values.collect::<Vec<_>>()
    };
    assert_eq!(all(&SEC_WEBSOCKET_VERSION), [b"13"]);
    let close = matches!(offer.transport, Transport::Http1 { close: true, .. });
    assert_eq!(
        close,
        offer.transport.is_http1() && has(headers, &CONNECTION, "close")
    );
    assert!(!headers.contains_key(TRANSFER_ENCODING) && !headers.contains_key(EXPECT));
    let lengths = all(&CONTENT_LENGTH);
    assert!(lengths.iter().flat_map(|l| l.iter()).all(|b| *b == b'0'));
    assert!(all(&HOST).len() <= 1);
    if parts.version == Version::HTTP_11 {
        assert_eq!(parts.method, Method::GET);
        assert!(has(headers, &UPGRADE, "websocket") && has(headers, &CONNECTION, "upgrade"));
        assert_eq!(all(&HOST).len(), 1);
        let [key] = all(&SEC_WEBSOCKET_KEY)[..] else {
            panic!("not one key: {headers:?}");
        };
        assert_eq!(decoded_len(key), Some(16), "{headers:?}");
        let Transport::Http1 { accept, .. } = &offer.transport else {
            panic!("a key over HTTP/2");
        };
        let accept = Some(accept.as_bytes());
        assert_eq!(accept, Some(derive_accept_key(key).as_bytes()));
    } else {
        assert_eq!(parts.version, Version::HTTP_2);
        assert_eq!(parts.method, Method::CONNECT);
        assert!(!headers.contains_key(UPGRADE) && !headers.contains_key(CONNECTION));
        assert!(!offer.transport.is_http1());
    }
    for (i, name) in offer.offered.iter().enumerate() {
        assert!(!name.is_empty() && !offer.offered[..i].contains(name));
        assert!(has(headers, &SEC_WEBSOCKET_PROTOCOL, name), "{name:?}");
    }
    match &offer.selected {
        Some(name) => assert!(offer.offered.contains(name) && policy.protocols.contains(name)),
        None => assert!(!policy.require_protocol),
    }
    if policy.hosts.is_some() {
        let own = own_host(parts);
        let (host, port) = split(&own);
        // An address has more than one way to be written.
        let local = (host == "localhost" || host.starts_with('[')) && port == Some("8080");
        assert!(local || host.ends_with(".example"), "{own}");
    }
    origin(parts, policy, &all(&ORIGIN));
}

/// What was let in, judged by eye: the host of the page is the host of the request.
fn origin(parts: &Parts, policy: &Policy, origins: &[&[u8]]) {
    if matches!(policy.origin, OriginPolicy::Any) {
        return;
    }
    assert!(origins.len() <= 1, "{origins:?}");
    let Some(origin) = origins.first() else {
        return;
    };
    let origin = String::from_utf8_lossy(origin).to_lowercase();
    let (scheme, authority) = origin.split_once("://").expect("an origin has a scheme");
    let (host, port) = split(authority);
    if let OriginPolicy::List(_) = policy.origin {
        let local = scheme == "http" && host == "localhost" && port == Some("8080");
        let below = scheme == "https" && host.ends_with(".example.com");
        assert!(
            local || below && matches!(port, None | Some("443")),
            "{origin}"
        );
        return;
    }
    assert!(matches!(scheme, "http" | "https" | "ws" | "wss"));
    let own = own_host(parts);
    // An address has more than one way to be written.
    let (own, _) = split(&own);
    assert!(
        host == own || host.starts_with('[') && own.starts_with('['),
        "{origin} {own}"
    );
}

fn own_host(parts: &Parts) -> String {
    match parts.uri.authority() {
        Some(authority) => authority.to_string(),
        None => String::from_utf8_lossy(parts.headers[HOST].as_bytes()).into_owned(),
    }
    .to_lowercase()
}

fn split(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, Some(port)),
        _ => (authority, None),
    }
}

fn accepted(offer: &Offer, extra: HeaderMap) {
    let cookies = extra.get_all(http::header::COOKIE).iter().count();
    let answer = Some("permessage-deflate".to_owned());
    let (transport, protocol) = (offer.transport.clone(), offer.selected.as_deref());
    let response = accept_response(transport, protocol, extra, answer);
    let headers = response.headers();
    let lines = |name: &HeaderName| headers.get_all(name).iter().count();
    let http1 = offer.transport.is_http1();
    let status = if http1 {
        StatusCode::SWITCHING_PROTOCOLS
    } else {
        StatusCode::OK
    };
    assert_eq!(response.status(), status);
    for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT] {
        assert_eq!(lines(&name), usize::from(http1), "{name}");
    }
    assert_eq!(lines(&SEC_WEBSOCKET_EXTENSIONS), 1);
    assert_eq!(
        lines(&SEC_WEBSOCKET_PROTOCOL),
        offer.selected.iter().count()
    );
    for name in [
        CONTENT_LENGTH,
        TRANSFER_ENCODING,
        SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_VERSION,
    ] {
        assert_eq!(lines(&name), 0, "{name}");
    }
    assert_eq!(lines(&http::header::COOKIE), cookies);
}

/// Whether a list has the token, as simply as it can be said.
fn has(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        let mut tokens = value.as_bytes().split(|b| *b == b',');
        tokens.any(|t| t.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    })
}

/// How many bytes this base64 stands for.
fn decoded_len(text: &[u8]) -> Option<usize> {
    let digits = text.iter().take_while(|b| **b != b'=').count();
    let padding = text.len() - digits;
    let good = text[..digits]
        .iter()
        .all(|b| b.is_ascii_alphanumeric() || b"+/".contains(b))
        && text[digits..].iter().all(|b| *b == b'=')
        && text.len() % 4 == 0
        && padding <= 2;
    good.then(|| digits * 6 / 8)
}
