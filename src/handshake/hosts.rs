//! [`Hosts`]: the host names that `allowed_hosts` accepts. Only such a list detects DNS rebinding.
//!
//! In DNS rebinding, the name of a page, such as `evil.example`, is made to resolve to this
//! machine. To the browser, the page talks to its own host: Host and Origin agree. Only a list
//! shows that the name is not ours.

use std::sync::Arc;

use super::origin::{Authority, Host};

/// Entries of `host[:port]`, or `*.domain[:port]` for all hosts below the domain.
#[derive(Clone, Debug)]
pub(crate) struct Hosts(Arc<[String]>);

impl Hosts {
    /// Entries that are not hosts are logged and match nothing.
    pub(crate) fn new<I>(hosts: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut list = Vec::new();
        for host in hosts {
            let host = host.as_ref();
            match listed(host) {
                Ok(()) => list.push(host.to_owned()),
                Err(advice) => {
                    tracing::error!(
                        "an entry of `allowed_hosts` will match nothing, {host:?}: {advice}"
                    );
                }
            }
        }
        Self(list.into())
    }

    /// Whether the list has the host of the request; `None` is an empty Host.
    pub(super) fn has(&self, host: Option<Authority<'_>>) -> bool {
        host.is_some_and(|host| self.0.iter().any(|listed| is_listed(listed, &host)))
    }
}

/// Checks an entry of the list. The error says what to write instead.
fn listed(entry: &str) -> Result<(), &'static str> {
    let (_, rest) = domain(entry);
    if entry.contains("://") {
        Err("write host or host:port, without a scheme")
    } else if rest.contains('*') {
        Err("a `*` can only stand for the first names of a host: *.example.com")
    } else if Authority::parse(rest).is_none() {
        Err("write host or host:port, an IPv6 address in brackets")
    } else {
        Ok(())
    }
}

/// Whether an entry stands for the hosts below a domain, and the entry without its `*.`.
fn domain(entry: &str) -> (bool, &str) {
    match entry.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, entry),
    }
}

fn is_listed(entry: &str, host: &Authority<'_>) -> bool {
    let (below, rest) = domain(entry);
    let Some(listed) = Authority::parse(rest) else {
        return false;
    };
    let same_host = match (listed.host, host.host) {
        (Host::Name(domain), Host::Name(name)) if below => is_below(name, domain),
        (listed, host) => !below && listed == host,
    };
    same_host && same_port(listed.port, host.port)
}

fn is_below(name: &str, domain: &str) -> bool {
    let Some((first, rest)) = name
        .len()
        .checked_sub(domain.len())
        .and_then(|at| name.split_at_checked(at))
    else {
        return false;
    };
    rest.eq_ignore_ascii_case(domain) && first.len() > 1 && first.ends_with('.')
}

/// As with origins, a missing port is the scheme's default port. The scheme is unknown behind a
/// proxy that terminates TLS, so either default matches.
fn same_port(a: Option<u16>, b: Option<u16>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b,
        (None, None) => true,
        (Some(port), None) | (None, Some(port)) => matches!(port, 80 | 443),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s9_hosts_are_compared_like_origins() {
        let hosts = Hosts::new([
            "example.com",
            "LocalHost:3000",
            "[::1]:3000",
            "*.tenants.example.com",
            "secure.example.com:443",
            "127.0.0.1:8080",
        ]);
        for (host, good) in [
            ("example.com", true),
            ("EXAMPLE.com", true),
            ("example.com:", true),
            ("example.com:80", true),
            ("example.com:443", true),
            ("localhost:3000", true),
            ("[0:0::1]:3000", true),
            ("a.tenants.example.com", true),
            ("a.b.Tenants.example.com:443", true),
            ("secure.example.com", true),
            ("127.0.0.1:8080", true),
            ("example.com:8080", false),
            ("example.com.", false),
            ("evil.com", false),
            ("evilexample.com", false),
            ("www.example.com", false),
            ("localhost", false),
            ("localhost:3001", false),
            ("[::1]", false),
            ("[::2]:3000", false),
            ("tenants.example.com", false),
            (".tenants.example.com", false),
            ("eviltenants.example.com", false),
            ("a.tenants.example.com:8080", false),
            ("secure.example.com:80", false),
            ("127.0.0.2:8080", false),
        ] {
            let authority = Authority::parse(host).unwrap();
            assert_eq!(hosts.has(Some(authority)), good, "{host}");
        }
        assert!(!hosts.has(None));
    }

    #[test]
    fn s9_an_entry_that_is_no_host_says_what_to_write() {
        for (entry, advice) in [
            ("https://example.com", "without a scheme"),
            ("*", "*.example.com"),
            ("*.*.example.com", "*.example.com"),
            ("app-*.example.com", "*.example.com"),
            ("example.com/", "host:port"),
            ("example.com:http", "host:port"),
            ("::1", "brackets"),
            ("", "host:port"),
            ("*.", "host:port"),
        ] {
            let why = listed(entry).unwrap_err();
            assert!(why.contains(advice), "{entry}: {why}");
            let any = Authority::parse("example.com").unwrap();
            assert!(!Hosts::new([entry]).has(Some(any)));
        }
    }
}
