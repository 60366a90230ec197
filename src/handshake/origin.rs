//! [`OriginPolicy`]: the pages that may connect. Browsers let any page open a WebSocket to any
//! server, with the user's cookies; only this check stops a foreign page (RFC 6455 §10.2).

use std::net::Ipv6Addr;
use std::sync::Arc;

use http::{HeaderValue, Version};

use super::head::Head;
use super::headers::Malformed;

/// Which values of Origin are allowed. A request without Origin does not come from a page in a
/// browser and is always allowed.
#[derive(Clone, Debug, Default)]
pub(crate) enum OriginPolicy {
    /// Only the origin of the request's own host.
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
    pub(crate) fn allows(&self, head: &Head<'_>) -> bool {
        if matches!(self, Self::Any) {
            return true;
        }
        let Ok(value) = head.origin.single() else {
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
            // `null` does not name a host: sandboxed frames and files send it, whatever the page.
            _ => Origin::parse(value)
                .zip(Authority::of(head).ok().flatten())
                .is_some_and(|(origin, host)| origin.is_of(&host)),
        }
    }
}

/// Parses an entry of the list: `scheme://host[:port]`, `scheme://*.domain[:port]` for all hosts
/// below the domain, or an origin without a host. The error says what to write instead.
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

/// The form in which origins are compared: lower case, with the port even if it is the scheme's
/// default.
///
/// Some origins have no host: `null` (RFC 6454 §6.1), and a scheme alone, such as `file://`, which
/// web views and device libraries send.
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

/// An origin as RFC 6454 §6.1 writes it. Text with a path, user information or a second origin is
/// not an origin.
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
    /// Behind a proxy that terminates TLS, the scheme of the request is unknown. So a host without
    /// a port has the default port of the origin's scheme.
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

/// Whether this is a `scheme` (RFC 3986 §3.1).
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// The default port of a scheme. `ws` and `wss` have one because clients outside browsers, such as
/// ws4py, send the URL that they connect to. No page has such an origin, so no browser sends it.
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
    /// The host that the request addresses: `:authority` or the target's authority if it has one,
    /// otherwise Host, which HTTP/1.1 requires in any case. `None` if Host is empty: the URL has no
    /// authority, as over a Unix socket (RFC 9112 §3.2).
    pub(super) fn of(head: &Head<'a>) -> Result<Option<Self>, Malformed> {
        let http1 = head.parts.version <= Version::HTTP_11;
        let field = head.host.single().map_err(|_| Malformed)?;
        let is_empty = http1 && field.is_some_and(HeaderValue::is_empty);
        let field = field
            .filter(|_| !is_empty)
            .map(|value| value.to_str().ok().and_then(Self::parse).ok_or(Malformed))
            .transpose()?;
        let target = head
            .parts
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
            // `host:` is equivalent to `host` (RFC 3986 §6.2.3).
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
            // A trailing dot makes a difference: to a browser these are two origins.
            (Self::Name(a), Self::Name(b)) => a.eq_ignore_ascii_case(b),
            (Self::V6(a), Self::V6(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Host<'_> {}

/// Whether this is a `reg-name` (RFC 3986 §3.2.2) that is not empty.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'!' | b'$'..=b'.' | b';' | b'=' | b'_' | b'~')
        })
}

#[cfg(test)]
mod tests;
