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
