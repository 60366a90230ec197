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

    /// Where a request comes from that `peer` has sent.
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
                    // The proxy does not say: all that it speaks for are one.
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

/// An address or a network. IPv4 that is written as IPv6, as a socket for both tells it, is IPv4:
/// so is what it is compared with.
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
        // A client that begins a quoted string makes what the proxy appends a part of it.
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

/// Whether a byte is `wanted`, and not inside a quoted string.
fn separator(wanted: u8) -> impl FnMut(&u8) -> bool {
    let mut quotes = Quotes::default();
    move |b| {
        let inside = quotes.quoted;
        quotes.pass(*b);
        !inside && *b == wanted
    }
}

/// Whether every quoted string in `line` ends in it.
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

/// An address, with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`,
/// `[2001:db8::1]`, `[2001:db8::1]:80`, or with a port that hides the number, `192.0.2.1:_a`
/// (RFC 7239 §6, and what is seen besides).
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
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn r1_x_forwarded_for_is_read_from_the_right_as_far_as_proxies_are_trusted() {
        let proxies = TrustedProxies::x_forwarded_for(["10.0.0.0/8", "::1", "2001:db8:f::/48"]);
        let rows: &[(&str, &[&str], &str)] = &[
            // Nobody's word is taken who is not listed.
            ("192.0.2.9", &["1.2.3.4"], "192.0.2.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["1.2.3.4"], "1.2.3.4"),
            ("::ffff:10.0.0.1", &["::ffff:1.2.3.4"], "1.2.3.4"),
            // What the client wrote itself stands on the left.
            ("10.0.0.1", &["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
            ("10.0.0.1", &["6.6.6.6,1.2.3.4 , 10.0.0.2"], "1.2.3.4"),
            ("10.0.0.1", &["6.6.6.6", "1.2.3.4", "10.2.0.2"], "1.2.3.4"),
            ("::1", &["2001:db8::7, 2001:db8:f::1"], "2001:db8::7"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["1.2.3.4:5678"], "1.2.3.4"),
            ("10.0.0.1", &["[2001:db8::7]:5678"], "2001:db8::7"),
            ("10.0.0.1", &["[2001:db8::7]"], "2001:db8::7"),
            // A proxy that does not say speaks for one client.
            ("10.0.0.1", &["1.2.3.4, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["1.2.3.4, 10.0.0.2, "], "10.0.0.1"),
            ("10.0.0.1", &["1.2.3.4, nonsense, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["1.2.3.4, \u{e9}"], "10.0.0.1"),
        ];
        for (peer, lines, client) in rows {
            let lines: Vec<_> = lines
                .iter()
                .map(|line| ("x-forwarded-for", *line))
                .collect();
            let found = proxies.client(ip(peer), &headers(&lines));
            assert_eq!(found, ip(client), "{peer} {lines:?}");
        }
    }

    #[test]
    fn r1_forwarded_is_read_as_rfc_7239_has_it() {
        let proxies = TrustedProxies::forwarded(["10.0.0.1", "10.0.0.2"]);
        let rows = [
            ("for=1.2.3.4", "1.2.3.4"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            (
                "for=6.6.6.6;proto=http, by=10.0.0.2;for=1.2.3.4 ;proto=https",
                "1.2.3.4",
            ),
            ("for=1.2.3.4, for=10.0.0.2", "1.2.3.4"),
            ("for=1.2.3.4;host=\"a, for=6.6.6.6\"", "1.2.3.4"),
            // A port may be obfuscated (§6.3), and is a port then.
            ("for=\"1.2.3.4:_x9\"", "1.2.3.4"),
            ("for=\"1.2.3.4:_._-\"", "1.2.3.4"),
            ("for=\"[2001:db8::1]:_port\"", "2001:db8::1"),
            (
                "for=6.6.6.6, for=\"1.2.3.4:_a\", for=\"10.0.0.2:_b\"",
                "1.2.3.4",
            ),
            ("for=\"1.2.3.4:_\"", "10.0.0.1"),
            ("for=\"1.2.3.4:_ä\"", "10.0.0.1"),
            ("for=\"1.2.3.4:x9\"", "10.0.0.1"),
            ("for=\"1.2.3.4:\"", "10.0.0.1"),
            ("for=\"1.2.3.4:65536\"", "10.0.0.1"),
            ("for=\"2001:db8::1:_x\"", "10.0.0.1"),
            ("for=\"[1.2.3.4]:_x\"", "10.0.0.1"),
            ("for=\"[2001:db8::1]_x\"", "10.0.0.1"),
            ("for=\"_hidden:_x\"", "10.0.0.1"),
            ("for=1.2.3.4;host=\"a\\\", for=6.6.6.6\"", "1.2.3.4"),
            // These do not say, or say two things.
            ("for=_hidden", "10.0.0.1"),
            ("for=unknown", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
            ("for=1.2.3.4;for=6.6.6.6", "10.0.0.1"),
            ("for=1.2.3.4, for=\"6.6.6.6", "10.0.0.1"),
            ("", "10.0.0.1"),
            // The client has begun a string, so that what the proxy appends is inside of it.
            ("for=6.6.6.6;x=\", for=1.2.3.4", "10.0.0.1"),
            ("for=6.6.6.6;x=\"\\, for=1.2.3.4", "10.0.0.1"),
            ("for=6.6.6.6, x=\", for=\"[2001:db8::1]\"", "10.0.0.1"),
        ];
        for (line, client) in rows {
            let found = proxies.client(ip("10.0.0.1"), &headers(&[("forwarded", line)]));
            assert_eq!(found, ip(client), "{line}");
        }
    }

    #[test]
    fn r1_the_header_that_the_proxies_do_not_write_is_not_read() {
        let lines = [("forwarded", "for=1.1.1.1"), ("x-forwarded-for", "2.2.2.2")];
        let peer = ip("10.0.0.1");
        let found = TrustedProxies::forwarded(["10.0.0.1"]).client(peer, &headers(&lines));
        assert_eq!(found, ip("1.1.1.1"));
        let proxies = TrustedProxies::x_forwarded_for(["10.0.0.1", "no address"]);
        assert_eq!(proxies.client(peer, &headers(&lines)), ip("2.2.2.2"));
    }

    #[test]
    fn r1_an_entry_means_the_same_however_it_is_written() {
        let entries = [
            "::ffff:10.0.0.1",
            " 10.0.0.2",
            "::ffff:10.1.0.0/112",
            "10.2.9.9/16",
        ];
        let proxies = TrustedProxies::x_forwarded_for(entries);
        for trusted in ["10.0.0.1", "10.0.0.2", "10.1.255.9", "10.2.0.1"] {
            assert!(proxies.trusts(ip(trusted)), "{trusted}");
        }
        for other in ["10.0.0.3", "10.3.0.1", "10.4.0.1", "::1"] {
            assert!(!proxies.trusts(ip(other)), "{other}");
        }
    }
}
