//! [`TrustedProxies`]: the proxies whose header may name the client's address.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{FORWARDED, HeaderName};
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

/// The proxies in front of a server, and the header in which they name the client.
///
/// Anyone can send these headers. Only listed proxies are trusted, and only for the header they set,
/// since a proxy passes the other one on as it came. The client is the last address in that header
/// that does not belong to a trusted proxy: the client, or anyone else, may have written the rest. Do
/// not list a proxy that passes the header on unchanged.
///
/// ```
/// use tower_websocket::TrustedProxies;
///
/// // nginx, HAProxy, most load balancers of clouds:
/// let proxies = TrustedProxies::x_forwarded_for(["10.0.0.0/8", "127.0.0.1", "::1"]);
/// // RFC 7239:
/// let proxies = TrustedProxies::forwarded(["10.0.0.0/8"]);
/// # drop(proxies);
/// ```
#[derive(Clone)]
pub struct TrustedProxies {
    header: Header,
    networks: Arc<[IpNet]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Header {
    XForwardedFor,
    Forwarded,
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

impl TrustedProxies {
    /// Proxies that append the address of their peer to `X-Forwarded-For`.
    ///
    /// An entry is an address (`192.0.2.1`, `::1`) or a network (`10.0.0.0/8`); one that is
    /// neither is reported in the log and has no effect.
    pub fn x_forwarded_for<I>(networks: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Self::new(Header::XForwardedFor, networks)
    }

    /// Proxies that append an element to `Forwarded` (RFC 7239); entries as in
    /// [`x_forwarded_for`](Self::x_forwarded_for).
    pub fn forwarded<I>(networks: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Self::new(Header::Forwarded, networks)
    }

    fn new<I>(header: Header, networks: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let networks = networks.into_iter().filter_map(|entry| {
            let entry = entry.as_ref();
            let network = network(entry.trim());
            if network.is_none() {
                tracing::error!(
                    "{entry:?} is no address and no network, such as 10.0.0.0/8: no proxy is \
                     trusted for it"
                );
            }
            network
        });
        Self {
            header,
            networks: networks.collect(),
        }
    }

    /// The address of the client whose request `peer` has sent.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        let lines: Vec<&HeaderValue> = match self.header {
            Header::XForwardedFor => headers.get_all(X_FORWARDED_FOR).iter().collect(),
            Header::Forwarded => headers.get_all(FORWARDED).iter().collect(),
        };
        // From the nearest to the farthest.
        for line in lines.into_iter().rev() {
            let addresses: Vec<Option<IpAddr>> = match self.header {
                Header::XForwardedFor => line.as_bytes().split(|b| *b == b',').map(node).collect(),
                Header::Forwarded => elements(line.as_bytes()),
            };
            for address in addresses.into_iter().rev() {
                match address {
                    Some(address) => client = address.to_canonical(),
                    // The proxy does not name the client, so all of its clients count as one.
                    None => return client,
                }
                if !self.trusts(client) {
                    return client;
                }
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks
            .iter()
            .any(|network| network.contains(&address))
    }
}

/// An address or a network. An IPv4 address that is mapped to IPv6, as a dual-stack socket reports
/// it, becomes IPv4, like the addresses that it is compared with.
fn network(entry: &str) -> Option<IpNet> {
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Some(address.to_canonical().into());
    }
    let network = entry.parse::<IpNet>().ok()?;
    let mapped = match network.addr().to_canonical() {
        v4 @ IpAddr::V4(_) => network.prefix_len().checked_sub(96).map(|len| (v4, len)),
        IpAddr::V6(_) => None,
    };
    match (network, mapped) {
        (IpNet::V6(_), Some((v4, len))) => IpNet::new(v4, len).ok(),
        _ => Some(network),
    }
}

/// The addresses behind `for` in the elements of a `Forwarded` line (RFC 7239 §4), in one pass.
fn elements(line: &[u8]) -> Vec<Option<IpAddr>> {
    if !is_whole(line) {
        // If a client leaves a quoted string open, what the proxy appends becomes a part of it.
        return vec![None];
    }
    line.split(separator(b','))
        .map(|element| {
            let pairs = element.split(separator(b';')).map(<[u8]>::trim_ascii);
            let mut values = pairs.filter_map(|pair| {
                let (name, value) = pair.split_at_checked(4)?;
                name.eq_ignore_ascii_case(b"for=").then_some(value)
            });
            match (values.next(), values.next()) {
                (Some(value), None) => {
                    let inside = value.strip_prefix(b"\"");
                    node(inside.and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value))
                }
                _ => None,
            }
        })
        .collect()
}

/// Matches the byte `wanted` outside of quoted strings.
fn separator(wanted: u8) -> impl FnMut(&u8) -> bool {
    let mut quotes = Quotes::default();
    move |b| {
        let inside = quotes.quoted;
        quotes.pass(*b);
        !inside && *b == wanted
    }
}

/// Whether every quoted string in `line` is closed.
fn is_whole(line: &[u8]) -> bool {
    let mut quotes = Quotes::default();
    line.iter().for_each(|b| quotes.pass(*b));
    !quotes.quoted
}

/// Where a quoted string begins and ends (RFC 9110 §5.6.4).
#[derive(Default)]
struct Quotes {
    quoted: bool,
    escaped: bool,
}

impl Quotes {
    fn pass(&mut self, b: u8) {
        let literal = self.escaped;
        self.escaped = self.quoted && !literal && b == b'\\';
        self.quoted ^= b == b'"' && !literal;
    }
}

/// An address, with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`,
/// `[2001:db8::1]:80`, or with an obfuscated port, `192.0.2.1:_a` (RFC 7239 §6, and other forms
/// seen in practice).
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim_ascii();
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Some(inside) = text.strip_prefix('[') {
        let (address, port) = inside.split_once(']')?;
        let address = IpAddr::V6(address.parse().ok()?);
        let is_good = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return is_good.then_some(address);
    }
    let (address, port) = text.split_once(':')?;
    let address = IpAddr::V4(address.parse().ok()?);
    is_port(port).then_some(address)
}

/// A `node-port` of RFC 7239 §6: a number, or `_` and letters, digits, `.`, `_`, `-`.
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(hidden) => {
            !hidden.is_empty()
                && hidden
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        }
        None => text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok(),
    }
}

impl fmt::Debug for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = match self.header {
            Header::XForwardedFor => "X-Forwarded-For",
            Header::Forwarded => "Forwarded",
        };
        f.debug_struct("TrustedProxies")
            .field("header", &header)
            .field("networks", &self.networks)
            .finish()
    }
}

#[cfg(test)]
mod tests;
