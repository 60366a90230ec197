use http::Request;
use http::header::{HOST, ORIGIN};
use http::request::Parts;

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
        let allowed = OriginPolicy::SameHost.allows(&Head::of(&parts));
        assert_eq!(allowed, good, "{origin} at {host}");
    }
}

#[test]
fn h14_no_origin_is_no_browser_and_two_are_nobody() {
    let list = OriginPolicy::list(["http://a"]);
    let same: &[u8] = b"http://a";
    for policy in [OriginPolicy::SameHost, list] {
        assert!(policy.allows(&Head::of(&parts("/", Some("a"), &[]))));
        assert!(policy.allows(&Head::of(&parts("/", Some("a"), &[same]))));
        assert!(!policy.allows(&Head::of(&parts("/", Some("a"), &[same, same]))));
        assert!(!policy.allows(&Head::of(&parts("/", Some("a"), &[b"http://a\xff"]))));
        assert!(!policy.allows(&Head::of(&parts("/", Some("a"), &[b"\xff\xfe"]))));
    }
    let any: [&[&[u8]]; 4] = [&[], &[b"null"], &[b"\xff"], &[b"http://b", b"http://c"]];
    for origins in any {
        assert!(OriginPolicy::Any.allows(&Head::of(&parts("/", Some("a"), origins))));
    }
}

#[test]
fn h14_the_target_names_the_host_before_the_host_field() {
    let origin: &[u8] = b"https://a.example";
    let allows =
        |target, host| OriginPolicy::SameHost.allows(&Head::of(&parts(target, host, &[origin])));
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
        let allowed = policy.allows(&Head::of(&parts("/", Some("server"), &[origin.as_bytes()])));
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
        let allowed = policy.allows(&Head::of(&parts("/", Some("server"), &[origin.as_bytes()])));
        assert_eq!(allowed, good, "{origin}");
    }
    assert!(!policy.allows(&Head::of(&parts("/", Some("server"), &[b"null", b"null"]))));
    // One does not mean the other, and none of them is listed unasked.
    for (entry, origin) in [
        ("null", "file://"),
        ("file://", "null"),
        ("http://a", "null"),
    ] {
        let policy = OriginPolicy::list([entry]);
        assert!(!policy.allows(&Head::of(&parts("/", Some("a"), &[origin.as_bytes()]))));
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
    assert!(!policy.allows(&Head::of(&parts("/", Some("a"), &[b"http://a"]))));
    assert!(!policy.allows(&Head::of(&parts("/", Some("a"), &[b"null"]))));
}
