//! [`OriginPolicy`]: the pages that may connect. Browsers let any page open a WebSocket to any
//! server, with the user's cookies; nothing but this check keeps a foreign page from it
//! (RFC 6455 §10.2).

use std::net::Ipv6Addr;
use std::sync::Arc;

use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderValue, Version};

use super::headers::{Malformed, single};

/// Which values of Origin are good. A request without Origin does not come from a page in a
/// browser and is always good.
#[derive(Clone, Debug, Default)]
pub(crate) enum OriginPolicy {
    /// The origin is that of the request's own host.
    #[default]
    SameHost,
    Any,
    /// In the [normal](normal()) form, or with `*.` before the host.
    List(Arc<[String]>),
}

impl OriginPolicy {
    /// Entries that are not origins are logged and match nothing.
    pub(crate) fn list<I>(origins: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut list = Vec::new();
        for origin in origins {
            match listed(origin.as_ref()) {
                Ok(origin) => list.push(origin),
                Err(why) => tracing::error!("an entry of `origins` will match nothing, {why}"),
            }
        }
        Self::List(list.into())
    }

    /// Whether the page that this request comes from may connect.
    pub(crate) fn allows(&self, parts: &Parts) -> bool {
        if matches!(self, Self::Any) {
            return true;
        }
        let Ok(value) = single(&parts.headers, &ORIGIN) else {
            return false;
        };
        let Some(value) = value else {
            return true;
        };
        let Ok(value) = value.to_str() else {
            return false;
        };
        match self {
            Self::List(list) => normal(value)
                .is_some_and(|origin| list.iter().any(|listed| is_listed(listed, &origin))),
            // `null` is the origin of no host: sandboxed frames and files say so, of any page.
            _ => Origin::parse(value)
                .zip(Authority::of(parts).ok().flatten())
                .is_some_and(|(origin, host)| origin.is_of(&host)),
        }
    }
}

/// Parses an entry of the list: `scheme://host[:port]`, `scheme://*.domain[:port]` for all
/// hosts below the domain, or an origin without a host. The error says what to write in its place.
fn listed(text: &str) -> Result<String, String> {
    let advice = match normal(text) {
        _ if text == "*" => "to allow every origin call `any_origin`",
        None => {
            "write scheme://host or scheme://host:port, without a path, or one of null and file://"
        }
        Some(normal) => {
            let (scheme, host) = normal.split_once("://").unwrap_or_default();
            if matches!(scheme, "ws" | "wss") {
                "an origin is that of the page, write http or https"
            } else if host.strip_prefix("*.").unwrap_or(host).contains('*') {
                "a `*` can only stand for the first names of a host: https://*.example.com"
            } else {
                return Ok(normal);
            }
        }
    };
    Err(format!("{text:?}: {advice}"))
}

/// An origin as it is compared: in lower case, with the port even if it is the scheme's own.
///
/// Beside those that have a host there are `null` (RFC 6454 §6.1), and a scheme alone: web views
/// and libraries of devices send `file://`.
fn normal(text: &str) -> Option<String> {
    if text == "null" {
        return Some(text.to_owned());
    }
    let alone = text.strip_suffix("://").filter(|scheme| is_scheme(scheme));
    if alone.is_some_and(|scheme| default_port(scheme).is_none()) {
        return Some(text.to_ascii_lowercase());
    }
    Origin::parse(text).map(|origin| origin.normal())
}

fn is_listed(listed: &str, origin: &str) -> bool {
    match listed.split_once('*') {
        None => origin == listed,
        Some((scheme, domain)) => origin
            .strip_prefix(scheme)
            .and_then(|host| host.strip_suffix(domain))
            .is_some_and(|below| !below.is_empty()),
    }
}

/// An origin as RFC 6454 §6.1 writes it. A path, user information or a second origin behind
/// it make it something else.
struct Origin<'a> {
    scheme: &'a str,
    authority: Authority<'a>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        Some(Self {
            scheme: is_scheme(scheme).then_some(scheme)?,
            authority: Authority::parse(authority)?,
        })
    }

    /// Whether a page of this origin talks to its own server.
    ///
    /// The scheme of the request is not known behind a proxy that ends TLS. So a host without
    /// a port stands for the default port of whatever scheme the origin has.
    fn is_of(&self, host: &Authority<'_>) -> bool {
        let default = default_port(self.scheme);
        let same_port = match host.port {
            Some(port) => self.port() == Some(port),
            None => self.port() == default,
        };
        default.is_some() && same_port && self.authority.host == host.host
    }

    /// See [`normal`](normal()).
    fn normal(&self) -> String {
        let mut normal = match self.authority.host {
            Host::Name(name) => format!("{}://{name}", self.scheme),
            Host::V6(address) => format!("{}://[{address}]", self.scheme),
        };
        normal.make_ascii_lowercase();
        if let Some(port) = self.port() {
            normal += &format!(":{port}");
        }
        normal
    }

    fn port(&self) -> Option<u16> {
        self.authority.port.or(default_port(self.scheme))
    }
}

/// A `scheme` of RFC 3986 §3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// Clients without a page, ws4py for one, send the URL that they connect to. No page has such an
/// origin, so no browser sends it.
fn default_port(scheme: &str) -> Option<u16> {
    let is = |name| scheme.eq_ignore_ascii_case(name);
    if is("https") || is("wss") {
        Some(443)
    } else if is("http") || is("ws") {
        Some(80)
    } else {
        None
    }
}

/// `host[:port]` (RFC 3986 §3.2), without user information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    pub(super) host: Host<'a>,
    pub(super) port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Whom the request is for: `:authority` or the target's authority if it has one, else
    /// Host, which HTTP/1.1 must have in any case. `None` where that is empty: the URL has no
    /// authority then, as over a Unix socket (RFC 9112 §3.2).
    pub(super) fn of(parts: &'a Parts) -> Result<Option<Self>, Malformed> {
        let http1 = parts.version <= Version::HTTP_11;
        let field = single(&parts.headers, &HOST)?;
        let is_empty = http1 && field.is_some_and(HeaderValue::is_empty);
        let field = field
            .filter(|_| !is_empty)
            .map(|value| value.to_str().ok().and_then(Self::parse).ok_or(Malformed))
            .transpose()?;
        let target = parts
            .uri
            .authority()
            .map(|target| Self::parse(target.as_str()).ok_or(Malformed))
            .transpose()?;
        match (target, field) {
            (target, None) if is_empty => Ok(target),
            (_, None) if http1 => Err(Malformed),
            // RFC 9113 §8.3.1; over HTTP/1.1 the target simply wins.
            (Some(target), Some(field)) if !http1 && target != field => Err(Malformed),
            (target, field) => target.or(field).map(Some).ok_or(Malformed),
        }
    }

    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            (Host::V6(address.parse().ok()?), port)
        } else {
            let colon = text.bytes().position(|b| b == b':');
            let (name, port) = text.split_at(colon.unwrap_or(text.len()));
            (Host::Name(is_name(name).then_some(name)?), port)
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            None => return None,
            // `host:` is as good as `host` (RFC 3986 §6.2.3).
            Some("") => None,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            Some(_) => return None,
        };
        Some(Self { host, port })
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Host<'a> {
    /// A name or an IPv4 address.
    Name(&'a str),
    V6(Ipv6Addr),
}

impl PartialEq for Host<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            // Not without a trailing dot: to a browser these are two origins.
            (Self::Name(a), Self::Name(b)) => a.eq_ignore_ascii_case(b),
            (Self::V6(a), Self::V6(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Host<'_> {}

/// A `reg-name` of RFC 3986 §3.2.2 that is not empty.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'!' | b'$'..=b'.' | b';' | b'=' | b'_' | b'~')
        })
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(target: &str, host: Option<&str>, origins: &[&[u8]]) -> Parts {
        let mut request = Request::builder().uri(target);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        for origin in origins {
            request = request.header(ORIGIN, *origin);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn h14_by_default_only_pages_of_the_same_host_may_connect() {
        for (host, origin, good) in [
            ("example.com", "http://example.com", true),
            ("example.com", "https://example.com", true),
            ("Example.COM", "https://eXample.com", true),
            ("example.com", "HTTPS://example.com", true),
            ("example.com", "https://example.com:443", true),
            ("example.com:", "https://example.com", true),
            ("example.com:443", "https://example.com", true),
            ("example.com:80", "http://example.com", true),
            ("example.com:8080", "http://example.com:8080", true),
            ("example.com:8443", "https://example.com:8443", true),
            ("example.com.", "http://example.com.", true),
            ("127.0.0.1:9001", "http://127.0.0.1:9001", true),
            ("[::1]:9001", "http://[::1]:9001", true),
            ("[0:0:0:0:0:0:0:1]", "http://[::1]", true),
            // another port is another server
            ("example.com", "https://example.com:8443", false),
            ("example.com", "https://example.com:80", false),
            ("example.com:8080", "http://example.com", false),
            ("example.com:80", "https://example.com", false),
            ("localhost:3000", "http://localhost:5173", false),
            // look-alikes
            ("example.com", "http://evil.com", false),
            ("example.com", "http://example.com.evil.com", false),
            ("example.com", "http://evilexample.com", false),
            ("example.com", "http://evil.example.com", false),
            ("evil.example.com", "http://example.com", false),
            ("example.com", "http://example.com@evil.com", false),
            ("example.com", "http://evil.com@example.com", false),
            ("example.com", "http://evil.com/example.com", false),
            ("example.com", "http://evil.com?example.com", false),
            ("example.com", "http://evil.com#example.com", false),
            ("example.com", "http://evil.com\\example.com", false),
            ("example.com", "http://example.com.", false),
            ("example.com.", "http://example.com", false),
            ("example.com", "http://example.com/", false),
            ("example.com", "http://example.com http://evil.com", false),
            ("a.com", "http://a.com, http://a.com", false),
            ("example.com", " http://example.com", false),
            ("::1", "http://::1", false),
            ("[::1]", "http://[::2]", false),
            ("[::1]", "http://[::1]evil.com", false),
            ("[::1]", "http://[::1", false),
            ("[::1]", "http://[::1%25lo]", false),
            // no origins of the web
            ("example.com", "null", false),
            ("example.com", "NULL", false),
            ("example.com", "", false),
            ("example.com", "*", false),
            ("example.com", "example.com", false),
            ("example.com", "//example.com", false),
            ("example.com", "://example.com", false),
            ("example.com", "http:example.com", false),
            ("example.com", "http://", false),
            ("example.com", "http://:80", false),
            ("example.com", "http://example.com:80a", false),
            ("example.com", "http://example.com:+80", false),
            ("example.com", "http://example.com:65616", false),
            ("example.com", "http://example.com:80:80", false),
            ("example.com", "chrome-extension://example.com", false),
            ("example.com", "file://example.com", false),
            // The scheme of the URL that a client connects to, from clients that have no page.
            ("example.com", "ws://example.com", true),
            ("example.com", "WSS://example.com", true),
            ("example.com:9000", "ws://example.com:9000", true),
            ("example.com:80", "ws://example.com", true),
            ("example.com:443", "wss://example.com", true),
            ("example.com:443", "ws://example.com", false),
            ("example.com", "wss://example.com:9000", false),
            ("example.com", "ws://evil.com", false),
            ("example.com", "file://", false),
            ("", "null", false),
            ("", "file://", false),
        ] {
            let parts = parts("/", Some(host), &[origin.as_bytes()]);
            let allowed = OriginPolicy::SameHost.allows(&parts);
            assert_eq!(allowed, good, "{origin} at {host}");
        }
    }

    #[test]
    fn h14_no_origin_is_no_browser_and_two_are_nobody() {
        let list = OriginPolicy::list(["http://a"]);
        let same: &[u8] = b"http://a";
        for policy in [OriginPolicy::SameHost, list] {
            assert!(policy.allows(&parts("/", Some("a"), &[])));
            assert!(policy.allows(&parts("/", Some("a"), &[same])));
            assert!(!policy.allows(&parts("/", Some("a"), &[same, same])));
            assert!(!policy.allows(&parts("/", Some("a"), &[b"http://a\xff"])));
            assert!(!policy.allows(&parts("/", Some("a"), &[b"\xff\xfe"])));
        }
        let any: [&[&[u8]]; 4] = [&[], &[b"null"], &[b"\xff"], &[b"http://b", b"http://c"]];
        for origins in any {
            assert!(OriginPolicy::Any.allows(&parts("/", Some("a"), origins)));
        }
    }

    #[test]
    fn h14_the_target_names_the_host_before_the_host_field() {
        let origin: &[u8] = b"https://a.example";
        let allows = |target, host| OriginPolicy::SameHost.allows(&parts(target, host, &[origin]));
        assert!(allows("http://a.example/chat", Some("b.example")));
        assert!(!allows("http://b.example/chat", Some("a.example")));
        assert!(!allows("/chat", None));
    }

    #[test]
    fn h14_listed_origins_may_connect_and_others_not() {
        let policy = OriginPolicy::list([
            "https://app.example.com",
            "HTTP://LocalHost:5173",
            "https://*.tenants.example.com",
            "http://[0:0::1]:80",
            "chrome-extension://abcdef",
        ]);
        for (origin, good) in [
            ("https://app.example.com", true),
            ("https://app.example.com:443", true),
            ("https://APP.example.com", true),
            ("http://localhost:5173", true),
            ("https://a.tenants.example.com", true),
            ("https://a.b.Tenants.example.com", true),
            ("http://[::1]", true),
            ("chrome-extension://abcdef", true),
            ("http://app.example.com", false),
            ("https://app.example.com:8443", false),
            ("https://app.example.com.evil", false),
            ("https://evil-app.example.com", false),
            ("http://localhost", false),
            ("https://tenants.example.com", false),
            ("https://.tenants.example.com", false),
            ("https://eviltenants.example.com", false),
            ("https://a.tenants.example.com:8443", false),
            ("https://evil/.tenants.example.com", false),
            ("https://evil:1.tenants.example.com", false),
            ("http://a.tenants.example.com", false),
            ("chrome-extension://abcdeg", false),
            // not of the list, though of the same host
            ("http://server", false),
            ("null", false),
        ] {
            let allowed = policy.allows(&parts("/", Some("server"), &[origin.as_bytes()]));
            assert_eq!(allowed, good, "{origin}");
        }
    }

    #[test]
    fn p8_null_and_schemes_without_a_host_are_origins_where_they_are_listed() {
        let policy = OriginPolicy::list(["null", "FILE://", "http://a"]);
        for (origin, good) in [
            ("null", true),
            ("file://", true),
            ("File://", true),
            ("http://a", true),
            ("NULL", false),
            ("null ", false),
            ("null, null", false),
            ("file:///", false),
            ("file:///etc", false),
            ("file://a", false),
            ("files://", false),
            ("http://", false),
            ("://", false),
            ("", false),
        ] {
            let allowed = policy.allows(&parts("/", Some("server"), &[origin.as_bytes()]));
            assert_eq!(allowed, good, "{origin}");
        }
        assert!(!policy.allows(&parts("/", Some("server"), &[b"null", b"null"])));
        // One does not mean the other, and none of them is listed unasked.
        for (entry, origin) in [
            ("null", "file://"),
            ("file://", "null"),
            ("http://a", "null"),
        ] {
            let policy = OriginPolicy::list([entry]);
            assert!(!policy.allows(&parts("/", Some("a"), &[origin.as_bytes()])));
        }
    }

    #[test]
    fn an_entry_that_is_no_origin_says_what_to_write() {
        for (entry, advice) in [
            ("*", "any_origin"),
            ("example.com", "scheme://host"),
            ("https://example.com/", "without a path"),
            ("https://example.com/chat", "without a path"),
            ("NULL", "scheme://host"),
            ("http://", "scheme://host"),
            ("", "scheme://host"),
            ("wss://example.com", "http or https"),
            ("https://*", "https://*.example.com"),
            ("https://app-*.example.com", "https://*.example.com"),
            ("https://*.*.example.com", "https://*.example.com"),
        ] {
            let why = listed(entry).unwrap_err();
            assert!(why.contains(advice), "{why}");
        }
        let policy = OriginPolicy::list(["*", "nil"]);
        assert!(!policy.allows(&parts("/", Some("a"), &[b"http://a"])));
        assert!(!policy.allows(&parts("/", Some("a"), &[b"null"])));
    }
}
