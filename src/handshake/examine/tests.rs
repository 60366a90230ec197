//! The table of handshakes: what is accepted, what is refused, and with what.

use http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, ORIGIN, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    SET_COOKIE, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, Request, Response, Uri};

use super::*;
use crate::handshake::{accept_response, ambiguous_path, plain_refusal};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A good handshake; `lines` takes the place of the lines of the fields that it names.
fn get(lines: &[(HeaderName, &[&str])]) -> Parts {
    let good = Request::get("/chat")
        .header(HOST, "server.example")
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "Upgrade")
        .header(SEC_WEBSOCKET_KEY, KEY)
        .header(SEC_WEBSOCKET_VERSION, "13");
    edit(good, lines)
}

/// A good extended CONNECT.
fn connect(lines: &[(HeaderName, &[&str])]) -> Parts {
    let good = Request::connect("https://server.example/chat")
        .version(Version::HTTP_2)
        .header(SEC_WEBSOCKET_VERSION, "13");
    edit(good, lines)
}

fn edit(good: http::request::Builder, lines: &[(HeaderName, &[&str])]) -> Parts {
    let mut parts = good.body(()).unwrap().into_parts().0;
    for (name, values) in lines {
        parts.headers.remove(name);
        for value in *values {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            parts.headers.append(name, value);
        }
    }
    parts
}

fn closes(offer: &Offer) -> bool {
    matches!(offer.transport, Transport::Http1 { close: true, .. })
}

fn h1(parts: &Parts) -> Decision {
    examine(parts, None, &Policy::default())
}

fn h2(parts: &Parts) -> Decision {
    examine(parts, Some("websocket"), &Policy::default())
}

#[track_caller]
fn offered(decision: Decision) -> Offer {
    match decision {
        Decision::Offer(offer) => offer,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(decision: Decision) -> Response<String> {
    match decision {
        Decision::Refused(rejection) => response(rejection),
        other => panic!("{other:?}"),
    }
}

/// Every refusal is a complete response that says something.
#[track_caller]
fn response(rejection: Rejection) -> Response<String> {
    let response = rejection.into_response();
    assert!(response.headers().contains_key(CONTENT_TYPE));
    assert!(response.headers().contains_key(CONTENT_LENGTH));
    let response = response.map(|text| String::from_utf8(text.known().to_vec()).unwrap());
    assert!(response.body().len() > 20 && response.body().ends_with('\n'));
    assert!(response.body().lines().count() <= 2, "{}", response.body());
    response
}

#[track_caller]
fn status(decision: Decision) -> u16 {
    match decision {
        Decision::Plain => 0,
        Decision::Refused(rejection) => response(rejection).status().as_u16(),
        Decision::Offer(_) => 101,
    }
}

fn accepted(offer: &Offer, extra: HeaderMap) -> Response<()> {
    let protocol = offer.selected.as_deref();
    accept_response(offer.transport.clone(), protocol, extra, None)
}

#[test]
fn the_example_of_rfc_6455_is_accepted() {
    let offer = offered(h1(&get(&[])));
    let response = accepted(&offer, HeaderMap::new());
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()[CONNECTION], "Upgrade");
    assert_eq!(response.headers()[UPGRADE], "websocket");
    assert_eq!(
        response.headers()[SEC_WEBSOCKET_ACCEPT],
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    assert_eq!(response.headers().len(), 3, "nothing that nobody asked for");
}

#[test]
fn the_example_of_rfc_8441_is_accepted() {
    let mut offer = offered(h2(&connect(&[
        (SEC_WEBSOCKET_PROTOCOL, &["chat, superchat"]),
        (SEC_WEBSOCKET_EXTENSIONS, &["permessage-deflate"]),
        (ORIGIN, &["https://server.example"]),
    ])));
    assert_eq!(offer.transport, Transport::Http2);
    assert_eq!(offer.offered, ["chat", "superchat"]);
    assert_eq!(offer.extensions[0].name, "permessage-deflate");
    assert!(offer.select("chat"));
    let response = accepted(&offer, HeaderMap::new());
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers().len(), 1);
    assert_eq!(response.headers()[SEC_WEBSOCKET_PROTOCOL], "chat");
}

#[test]
fn h1_a_handshake_with_another_method_than_get_is_405() {
    for method in ["POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "get"] {
        let mut parts = get(&[]);
        parts.method = method.parse().unwrap();
        let response = refused(h1(&parts));
        assert_eq!(response.status(), 405, "{method}");
        assert_eq!(response.headers()[ALLOW], "GET");
        assert!(!response.headers().contains_key(CONNECTION));
    }
    let mut parts = get(&[(CONTENT_LENGTH, &["5"])]);
    parts.method = Method::POST;
    let response = refused(h1(&parts));
    assert_eq!(response.status(), 405);
    assert_eq!(
        response.headers()[CONNECTION],
        "close",
        "its body is unread"
    );
}

#[test]
fn h2_a_handshake_over_http_1_0_is_505() {
    for version in [Version::HTTP_10, Version::HTTP_09] {
        let mut parts = get(&[]);
        parts.version = version;
        let response = refused(h1(&parts));
        assert_eq!(response.status(), 505);
        assert!(response.body().contains("proxy_http_version 1.1"));
    }
}

#[test]
fn h3_a_handshake_without_one_valid_host_is_400() {
    let bad: &[&[&str]] = &[
        &[],
        &["", ""],
        &["", "a"],
        &[":80"],
        &["a", "a"],
        &["a", "b"],
        &["user@a"],
        &["a/b"],
        &["a b"],
        &["a:b"],
        &["a:1:2"],
        &["a:65536"],
        &["a, b"],
        &["::1"],
        &["[::1"],
        &["ä"],
        &["http://a"],
    ];
    for hosts in bad {
        assert_eq!(status(h1(&get(&[(HOST, hosts)]))), 400, "{hosts:?}");
    }
    for host in [
        "a",
        "a:1",
        "a:",
        "A.b-c_d.",
        "127.0.0.1:80",
        "[::1]:80",
        "[::1]",
    ] {
        assert_eq!(status(h1(&get(&[(HOST, &[host])]))), 101, "{host}");
    }
    // A target that names the host makes Host no less necessary.
    for (target, hosts, expected) in [
        ("http://a/chat", &["b"][..], 101),
        ("http://a/chat", &[], 400),
        ("http://a/chat", &["b", "b"], 400),
        ("http://user@a/chat", &["a"], 400),
    ] {
        let mut parts = get(&[(HOST, hosts)]);
        parts.uri = target.parse().unwrap();
        assert_eq!(status(h1(&parts)), expected, "{target} {hosts:?}");
    }
}

#[test]
fn h4_h6_a17_what_does_not_ask_for_websocket_is_not_ours() {
    let plain: &[&[(HeaderName, &[&str])]] = &[
        &[(UPGRADE, &[])],
        &[(CONNECTION, &[])],
        &[(UPGRADE, &[]), (CONNECTION, &[])],
        &[(UPGRADE, &[""])],
        &[(UPGRADE, &["h2c"])],
        &[(UPGRADE, &["h2c, TLS/1.0"])],
        &[(UPGRADE, &["websocket2"])],
        &[(UPGRADE, &["websocket/13"])],
        &[(UPGRADE, &["web socket"])],
        &[(CONNECTION, &["noupgradehere"])],
        &[(CONNECTION, &["upgrade-insecure-requests"])],
        &[(CONNECTION, &["keep-alive"])],
        &[(CONNECTION, &["close"])],
        &[(CONNECTION, &["upgrade;x"])],
        &[(CONNECTION, &["\"upgrade\""])],
    ];
    for lines in plain {
        assert_eq!(status(h1(&get(lines))), 0, "{lines:?}");
    }
}

#[test]
fn h5_h7_h8_tokens_of_connection_and_upgrade_come_in_any_case_list_and_line() {
    let good: &[(HeaderName, &[&str])] = &[
        (CONNECTION, &["keep-alive, Upgrade"]),
        (CONNECTION, &["keep-alive,Upgrade"]),
        (CONNECTION, &["UPGRADE"]),
        (CONNECTION, &["\tupgrade\t,\tkeep-alive"]),
        (CONNECTION, &[",, upgrade ,"]),
        (CONNECTION, &["keep-alive", "upgrade"]),
        (CONNECTION, &["Upgrade", "Upgrade"]),
        (UPGRADE, &["WebSocket"]),
        (UPGRADE, &["WEBSOCKET"]),
        (UPGRADE, &["h2c, websocket"]),
        (UPGRADE, &["h2c", "websocket"]),
    ];
    for line in good {
        assert_eq!(
            status(h1(&get(std::slice::from_ref(line)))),
            101,
            "{line:?}"
        );
    }
}

#[test]
fn h9_h10_a_key_that_is_not_once_16_bytes_of_base64_is_400() {
    let bad: &[(&[&str], &str)] = &[
        (&[], "missing"),
        (&[""], "not \"\""),
        (&[KEY, KEY], "twice"),
        (&["dGhlIHNhbXBsZSBub25jZQ"], "base64"),
        (&["dGhlIHNhbXBsZSBub25jZQ="], "base64"),
        (&["dGhlIHNhbXBsZSBub25jZQ==="], "base64"),
        (&["dGhlIHNhbXBsZSBub25jZQAA"], "base64"),
        (&["dGhlIHNhbXBsZSBub25jZQA="], "base64"),
        (&["dGhlIHNhbXBsZSBub25j"], "base64"),
        (&["dGhlIHNhbXBsZSBub25jZQ==, x"], "base64"),
        (&["dGhlIHNhbXBsZSBub25 ZQ=="], "base64"),
        (&["dGhlIHNhbXBsZSBub25-ZQ=="], "base64"),
        (&["dGhlIHNhbXBsZSBub25=ZQ=="], "base64"),
        (&["dGhlIHNhbXBsZSBub2ééZQ=="], "base64"),
    ];
    for (keys, text) in bad {
        let response = refused(h1(&get(&[(SEC_WEBSOCKET_KEY, keys)])));
        assert_eq!(response.status(), 400, "{keys:?}");
        assert!(response.body().contains(text), "{}", response.body());
    }
    for key in [KEY, "AAAAAAAAAAAAAAAAAAAAAA==", "+/+/+/+/+/+/+/+/+/+/+/=="] {
        let parts = get(&[(SEC_WEBSOCKET_KEY, &[key])]);
        assert_eq!(status(h1(&parts)), 101, "{key}");
    }
    // RFC 8441 §5 has no use for it.
    for keys in [&[][..], &["x"], &[KEY, KEY]] {
        assert_eq!(status(h2(&connect(&[(SEC_WEBSOCKET_KEY, keys)]))), 101);
    }
}

#[test]
fn h11_another_version_than_13_is_426_with_what_to_ask_for() {
    for versions in [
        &[][..],
        &["12"],
        &["13, 8"],
        &["8"],
        &[""],
        &["013"],
        &["13 8"],
    ] {
        let response = refused(h1(&get(&[(SEC_WEBSOCKET_VERSION, versions)])));
        assert_eq!(response.status(), 426, "{versions:?}");
        assert_eq!(response.headers()[SEC_WEBSOCKET_VERSION], "13");
        assert_eq!(response.headers()[UPGRADE], "websocket");
        assert_eq!(response.headers()[CONNECTION], "Upgrade");

        let response = refused(h2(&connect(&[(SEC_WEBSOCKET_VERSION, versions)])));
        assert_eq!(response.status(), 426, "{versions:?}");
        assert_eq!(response.headers()[SEC_WEBSOCKET_VERSION], "13");
        assert!(!response.headers().contains_key(UPGRADE));
        assert!(!response.headers().contains_key(CONNECTION));
    }
}

#[test]
fn h12_two_versions_are_400() {
    for versions in [["13", "13"], ["13", "8"]] {
        assert_eq!(status(h1(&get(&[(SEC_WEBSOCKET_VERSION, &versions)]))), 400);
        assert_eq!(
            status(h2(&connect(&[(SEC_WEBSOCKET_VERSION, &versions)]))),
            400
        );
    }
}

#[test]
fn h13_bytes_beyond_ascii_in_any_header_are_refused_or_ignored() {
    let names = [
        HOST,
        UPGRADE,
        CONNECTION,
        SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_VERSION,
        SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_EXTENSIONS,
        ORIGIN,
        CONTENT_LENGTH,
        EXPECT,
        http::header::COOKIE,
    ];
    for name in names {
        for byte in 0x80..=0xff {
            for value in [&[byte][..], &[b'a', byte], &[byte, b',', byte]] {
                let value = HeaderValue::from_bytes(value).unwrap();
                for mut parts in [get(&[]), connect(&[])] {
                    parts.headers.insert(name.clone(), value.clone());
                    let protocol = (parts.version == Version::HTTP_2).then_some("websocket");
                    let decision = examine(&parts, protocol, &Policy::default());
                    let ignored = matches!(decision, Decision::Plain | Decision::Offer(_));
                    assert!(ignored || status(decision) >= 400, "{name}: {value:?}");
                    response(plain_refusal(&parts));
                }
            }
        }
    }
}

#[test]
fn h14_a_foreign_origin_is_403() {
    for origins in [
        &["http://evil.example"][..],
        &["null"],
        &["http://server.example"; 2],
    ] {
        let response = refused(h1(&get(&[(ORIGIN, origins)])));
        assert_eq!(response.status(), 403);
        assert!(response.body().contains("origins"), "{}", response.body());
        assert_eq!(status(h2(&connect(&[(ORIGIN, origins)]))), 403);
    }
    let same = [(ORIGIN, &["https://server.example"][..])];
    assert_eq!(status(h1(&get(&same))), 101);
    assert_eq!(status(h2(&connect(&same))), 101);
    let long = format!("http://{}\u{1b}", "e".repeat(9000)).replace('\u{1b}', "é");
    let response = refused(h1(&get(&[(ORIGIN, &[&long])])));
    assert!(response.body().len() < 500);
}

#[test]
fn s9_a_host_that_is_not_listed_is_421_and_the_answer_says_what_to_write() {
    let policy = Policy {
        hosts: Some(Hosts::new(["server.example", "localhost:3000"])),
        ..Policy::default()
    };
    // What a page sees whose name now leads to this machine: Host and Origin agree.
    let rebound: &[(HeaderName, &[&str])] = &[
        (HOST, &["evil.example:3000"]),
        (ORIGIN, &["http://evil.example:3000"]),
    ];
    assert_eq!(status(h1(&get(rebound))), 101, "the origin does not tell");
    let response = refused(examine(&get(rebound), None, &policy));
    assert_eq!(response.status(), 421);
    let text = response.body();
    assert!(
        text.contains("add \"evil.example:3000\" to `allowed_hosts`"),
        "{text}"
    );

    assert_eq!(status(examine(&get(&[]), None, &policy)), 101);
    let local: &[(HeaderName, &[&str])] = &[
        (HOST, &["localhost:3000"]),
        (ORIGIN, &["http://localhost:3000"]),
    ];
    assert_eq!(status(examine(&get(local), None, &policy)), 101);
    assert_eq!(
        status(examine(&connect(&[]), Some("websocket"), &policy)),
        101
    );
    let mut parts = connect(&[]);
    parts.uri = Uri::from_static("https://evil.example/chat");
    let response = refused(examine(&parts, Some("websocket"), &policy));
    assert_eq!(response.status(), 421);
    assert!(response.body().contains("evil.example"));
    // A request for something else is not asked.
    let plain = get(&[(UPGRADE, &[]), (HOST, &["evil.example"])]);
    assert_eq!(status(examine(&plain, None, &policy)), 0);
}

#[test]
fn h15_the_servers_first_subprotocol_that_was_offered_is_selected() {
    let select = |ours: &[&str], lines: &[&str]| {
        let policy = Policy {
            protocols: ours.iter().map(|p| (*p).to_owned()).collect(),
            ..Policy::default()
        };
        let parts = get(&[(SEC_WEBSOCKET_PROTOCOL, lines)]);
        offered(examine(&parts, None, &policy)).selected
    };
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(select(&["b", "a"], &["a, b"]), some("b"));
    assert_eq!(select(&["c", "a"], &["a, b"]), some("a"));
    assert_eq!(select(&["b"], &["a", "b"]), some("b"));
    assert_eq!(select(&["c"], &["a, b"]), None, "101 without one");
    assert_eq!(select(&["A"], &["a"]), None);
    assert_eq!(select(&["a"], &[]), None, "never unasked");
    assert_eq!(select(&[], &["a"]), None, "never echoed");
}

#[test]
fn h15_a_required_subprotocol_that_is_not_offered_is_400() {
    let policy = Policy {
        protocols: vec!["v2".to_owned(), "v1".to_owned()],
        require_protocol: true,
        ..Policy::default()
    };
    for (lines, expected) in [(&["v1"][..], 101), (&["v3"], 400), (&[], 400)] {
        let parts = get(&[(SEC_WEBSOCKET_PROTOCOL, lines)]);
        assert_eq!(status(examine(&parts, None, &policy)), expected);
    }
    let response = refused(examine(&get(&[]), None, &policy));
    assert!(response.body().contains("v2, v1"));
}

#[test]
fn h15_subprotocols_that_are_malformed_twice_or_far_too_many_are_400() {
    let many = (0..20_000).map(|n| format!("{n},")).collect::<String>();
    let bad: &[&[&str]] = &[
        &["a b"],
        &["a;b"],
        &["a/b"],
        &["\"a\""],
        &["é"],
        &["a, a"],
        &["a", "a"],
        &["a, b", "c, a"],
        &[&many],
    ];
    for lines in bad {
        let lines = [(SEC_WEBSOCKET_PROTOCOL, *lines)];
        assert_eq!(status(h1(&get(&lines))), 400);
        assert_eq!(status(h2(&connect(&lines))), 400);
    }
}

#[test]
fn p8_an_empty_list_of_subprotocols_is_none() {
    let required = Policy {
        protocols: vec!["v1".to_owned()],
        require_protocol: true,
        ..Policy::default()
    };
    for lines in [&[""][..], &[" "], &[","], &[" , ,"], &["", ""]] {
        let line = [(SEC_WEBSOCKET_PROTOCOL, lines)];
        for decision in [h1(&get(&line)), h2(&connect(&line))] {
            let offer = offered(decision);
            assert_eq!((offer.offered.len(), offer.selected), (0, None));
        }
        assert_eq!(status(examine(&get(&line), None, &required)), 400);
    }
    let both = [(SEC_WEBSOCKET_PROTOCOL, &["", "v1"][..])];
    let offer = offered(examine(&get(&both), None, &required));
    assert_eq!(offer.selected.as_deref(), Some("v1"));
}

#[test]
fn p8_an_empty_host_is_good_unless_an_origin_is_compared_with_it() {
    let host = (HOST, &[""][..]);
    assert_eq!(status(h1(&get(std::slice::from_ref(&host)))), 101);
    for origin in ["http://a", "http://", "https://localhost", "null", ""] {
        let lines = [host.clone(), (ORIGIN, &[origin][..])];
        assert_eq!(status(h1(&get(&lines))), 403, "{origin}");
    }
    let lines = [host.clone(), (ORIGIN, &["http://a"][..])];
    for origin in [OriginPolicy::Any, OriginPolicy::list(["http://a"])] {
        let policy = Policy {
            origin,
            ..Policy::default()
        };
        assert_eq!(status(examine(&get(&lines), None, &policy)), 101);
    }
    // A list of hosts has no empty one.
    let policy = Policy {
        hosts: Some(Hosts::new(["a", ""])),
        ..Policy::default()
    };
    let parts = get(std::slice::from_ref(&host));
    assert_eq!(status(examine(&parts, None, &policy)), 421);
    // The target names the host then.
    let mut parts = get(&[host.clone(), (ORIGIN, &["http://a"][..])]);
    parts.uri = Uri::from_static("http://a/chat");
    assert_eq!(status(h1(&parts)), 101);
    // Over HTTP/2 `:authority` is there, and an empty Host is another (RFC 9113 §8.3.1).
    assert_eq!(status(h2(&connect(&[host]))), 400);
}

#[test]
fn h16_malformed_extensions_are_400_in_linear_time() {
    // Would take hours if the time grew with the square of the length.
    let params = format!("a{}", ";b=1".repeat(4_000_000));
    let quote = format!("a;b=\"{}", "\\x".repeat(4_000_000));
    let commas = format!("a{}", ",".repeat(4_000_000));
    for (line, expected) in [
        (&*params, 400),
        (&quote, 400),
        (&commas, 101),
        ("a;b=\"c", 400),
        ("a;;b", 400),
        ("a; b=c d", 400),
        ("a, b; c=\"d\"", 101),
    ] {
        let lines = [(SEC_WEBSOCKET_EXTENSIONS, &[line][..])];
        assert_eq!(status(h1(&get(&lines))), expected, "{line:.20}");
        assert_eq!(status(h2(&connect(&lines))), expected, "{line:.20}");
    }
}

#[test]
fn h17_bad_parameters_of_an_extension_are_its_own_affair() {
    let line = "permessage-deflate; server_max_window_bits=7; x; x, permessage-deflate";
    let offer = offered(h1(&get(&[(SEC_WEBSOCKET_EXTENSIONS, &[line])])));
    assert_eq!(offer.extensions.len(), 2);
    assert_eq!(offer.extensions[0].params.len(), 3);
}

#[test]
fn h18_h19_a_handshake_that_announces_a_body_is_400_and_ends_the_connection() {
    let bad: &[&[(HeaderName, &[&str])]] = &[
        &[(CONTENT_LENGTH, &["5"])],
        &[(CONTENT_LENGTH, &["0", "5"])],
        &[(CONTENT_LENGTH, &["0, 5"])],
        &[(CONTENT_LENGTH, &["-1"])],
        &[(CONTENT_LENGTH, &[""])],
        &[(TRANSFER_ENCODING, &["chunked"])],
        &[(TRANSFER_ENCODING, &["chunked", "chunked"])],
        &[(CONTENT_LENGTH, &["0"]), (TRANSFER_ENCODING, &["chunked"])],
        &[(EXPECT, &["100-continue"])],
    ];
    for lines in bad {
        let response = refused(h1(&get(lines)));
        assert_eq!(response.status(), 400, "{lines:?}");
        assert_eq!(response.headers()[CONNECTION], "close", "{lines:?}");
    }
    assert_eq!(status(h1(&get(&[(CONTENT_LENGTH, &["0"])]))), 101);
}

#[test]
fn p2_an_upgrade_of_a_connection_that_ends_after_the_final_response_is_accepted() {
    for lines in [
        &["Upgrade, close"][..],
        &["CLOSE,upgrade"],
        &["upgrade", "close"],
        &["close", "keep-alive, upgrade"],
    ] {
        let offer = offered(h1(&get(&[(CONNECTION, lines)])));
        assert!(closes(&offer), "{lines:?}");
    }
    assert!(!closes(&offered(h1(&get(&[])))));
    let only = get(&[(CONNECTION, &["close"])]);
    assert_eq!(status(h1(&only)), 0, "that asks for no upgrade");
}

#[test]
fn h26_only_subprotocols_that_were_offered_can_be_selected_or_sent() {
    let mut offer = offered(h1(&get(&[(SEC_WEBSOCKET_PROTOCOL, &["a, b"])])));
    for name in ["c", "", "a\r\nSet-Cookie: x", "a, b", "A"] {
        assert!(!offer.select(name), "{name:?}");
        assert_eq!(offer.selected, None);
    }
    assert!(offer.select("b"));
    assert_eq!(offer.selected.as_deref(), Some("b"));
    for name in ["", "a\r\nSet-Cookie: x", "a b", "é"] {
        offer.selected = Some(name.to_owned());
        let response = accepted(&offer, HeaderMap::new());
        assert_eq!(response.headers().len(), 3, "{name:?}");
    }
}

#[test]
fn headers_of_the_application_do_not_touch_the_handshake() {
    let mut extra = HeaderMap::new();
    for name in [
        "connection",
        "upgrade",
        "content-length",
        "transfer-encoding",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "sec-websocket-x",
    ] {
        extra.append(name, HeaderValue::from_static("1"));
        extra.append(name, HeaderValue::from_static("2"));
    }
    extra.append(SET_COOKIE, HeaderValue::from_static("a=1"));
    extra.append(SET_COOKIE, HeaderValue::from_static("b=2"));

    let response = accepted(&offered(h2(&connect(&[]))), extra.clone());
    assert_eq!(
        response.headers().keys().collect::<Vec<_>>(),
        ["set-cookie"]
    );
    assert_eq!(response.headers().len(), 2);

    let mut offer = offered(h1(&get(&[(SEC_WEBSOCKET_PROTOCOL, &["p"])])));
    assert!(offer.select("p"));
    let response = accepted(&offer, extra);
    assert_eq!(response.headers().len(), 6);
    assert_eq!(response.headers()[CONNECTION], "Upgrade");
    assert_eq!(response.headers()[UPGRADE], "websocket");
    assert_eq!(
        response
            .headers()
            .get_all(SEC_WEBSOCKET_ACCEPT)
            .iter()
            .count(),
        1
    );
    assert_eq!(response.headers()[SEC_WEBSOCKET_PROTOCOL], "p");
}

#[test]
fn rows_2_1_to_2_4_only_an_extended_connect_for_websocket_is_ours_over_http_2() {
    let decide = |parts: &Parts, protocol| status(examine(parts, protocol, &Policy::default()));
    for (protocol, expected) in [
        (Some("websocket"), 101),
        (Some("WebSocket"), 101),
        (Some("connect-udp"), 0),
        (Some("websocket2"), 0),
        (Some(""), 0),
        (None, 0),
    ] {
        assert_eq!(decide(&connect(&[]), protocol), expected, "{protocol:?}");
    }
    let mut parts = connect(&[]);
    parts.method = Method::GET;
    assert_eq!(decide(&parts, Some("websocket")), 0);
    let mut parts = get(&[]);
    parts.version = Version::HTTP_2;
    assert_eq!(decide(&parts, None), 0, "an upgrade is nothing over HTTP/2");
    let mut parts = get(&[(UPGRADE, &[])]);
    parts.method = Method::CONNECT;
    assert_eq!(
        decide(&parts, Some("websocket")),
        0,
        "nor CONNECT over HTTP/1.1"
    );
    for name in [CONNECTION, UPGRADE] {
        assert_eq!(status(h2(&connect(&[(name, &["websocket"])]))), 400);
    }
    let mut parts = connect(&[]);
    parts.version = Version::HTTP_3;
    assert_eq!(
        decide(&parts, Some("websocket")),
        101,
        "RFC 9220 is the same"
    );
}

#[test]
fn an_extended_connect_has_one_authority() {
    for (target, hosts, expected) in [
        ("https://server.example/chat", &[][..], 101),
        ("https://server.example/chat", &["server.example"], 101),
        ("https://server.example/chat", &["other.example"], 400),
        ("https://server.example/chat", &["server.example"; 2], 400),
        ("https://user@server.example/chat", &[], 400),
        ("/chat", &["server.example"], 101),
        ("/chat", &[], 400),
    ] {
        let mut parts = connect(&[(HOST, hosts)]);
        parts.uri = target.parse().unwrap();
        assert_eq!(status(h2(&parts)), expected, "{target} {hosts:?}");
    }
}

#[test]
fn row_2_5_an_extended_connect_with_a_length_is_400() {
    let response = refused(h2(&connect(&[(CONTENT_LENGTH, &["5"])])));
    assert_eq!(response.status(), 400);
    assert!(!response.headers().contains_key(CONNECTION));
    assert_eq!(status(h2(&connect(&[(CONTENT_LENGTH, &["0"])]))), 101);
}

#[test]
fn h4_a_plain_request_without_an_inner_service_is_426_and_hears_what_is_missing() {
    for (lines, text) in [
        (&[(UPGRADE, &[][..]), (SEC_WEBSOCKET_KEY, &[])][..], "ws://"),
        (&[(UPGRADE, &[])], "`Upgrade: websocket` is missing"),
        (&[(CONNECTION, &[])], "`Connection: Upgrade` is missing"),
    ] {
        let parts = get(lines);
        assert_eq!(status(h1(&parts)), 0);
        let response = response(plain_refusal(&parts));
        assert_eq!(response.status(), 426);
        assert_eq!(response.headers()[UPGRADE], "websocket");
        assert_eq!(response.headers()[CONNECTION], "Upgrade");
        assert_eq!(response.headers()[SEC_WEBSOCKET_VERSION], "13");
        assert!(response.body().contains(text), "{}", response.body());
    }
    let mut parts = connect(&[]);
    parts.method = Method::GET;
    let response = response(plain_refusal(&parts));
    assert_eq!(response.status(), 426);
    assert!(!response.headers().contains_key(UPGRADE));
    assert!(!response.headers().contains_key(CONNECTION));
}

#[test]
fn p8_the_answer_to_an_ambiguous_path_says_what_is_ambiguous() {
    let response = response(ambiguous_path());
    assert_eq!(response.status(), 400);
    assert!(response.body().contains("%2F"), "{}", response.body());
}

#[test]
fn rows_2_2_and_2_3_a_connect_without_an_inner_service_is_501() {
    assert_eq!(response(plain_refusal(&connect(&[]))).status(), 501);
    let mut parts = get(&[(UPGRADE, &[]), (CONNECTION, &[])]);
    parts.method = Method::CONNECT;
    parts.uri = Uri::from_static("server.example:80");
    assert_eq!(response(plain_refusal(&parts)).status(), 501);
}
