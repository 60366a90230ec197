use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL};

use http::HeaderMap;

use super::*;

fn map(name: &HeaderName, lines: &[&[u8]]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(name, HeaderValue::from_bytes(line).unwrap());
    }
    headers
}

#[test]
fn h5_h6_h7_tokens_are_whole_in_any_case_over_all_lines() {
    let has =
        |lines: &[&[u8]]| has_token(Field::of(&map(&CONNECTION, lines), &CONNECTION), "upgrade");
    assert!(has(&[b"Upgrade"]));
    assert!(has(&[b"keep-alive,\tUPGRADE "]));
    assert!(has(&[b"keep-alive", b"upgrade"]));
    assert!(has(&[b",, ,upgrade"]));
    assert!(!has(&[b"noupgradehere"]));
    assert!(!has(&[b"upgrade-insecure"]));
    assert!(!has(&[b"up grade"]));
    assert!(!has(&[b"upgrade\xff"]));
    assert!(!has(&[]));
}

#[test]
fn p6_cookies_that_came_in_pieces_are_one_field() {
    let joined = |version, lines: &[(&str, bool)]| {
        let mut parts = http::Request::new(()).into_parts().0;
        parts.version = version;
        for (line, sensitive) in lines {
            let mut value = HeaderValue::from_bytes(line.as_bytes()).unwrap();
            value.set_sensitive(*sensitive);
            parts.headers.append(COOKIE, value);
        }
        join_cookies(&mut parts);
        let lines = parts.headers.get_all(COOKIE).iter();
        let text = |value: &HeaderValue| String::from_utf8(value.as_bytes().to_vec()).unwrap();
        lines
            .map(|value| (text(value), value.is_sensitive()))
            .collect::<Vec<_>>()
    };
    let (one, none) = (("a=1", false), []);
    for version in [Version::HTTP_2, Version::HTTP_3] {
        let got = joined(version, &[one, ("b=2; c=é", true), ("d=4", false)]);
        assert_eq!(got, [("a=1; b=2; c=é; d=4".to_owned(), true)]);
        let got = joined(version, &[one, ("b=2", false)]);
        assert_eq!(got, [("a=1; b=2".to_owned(), false)]);
        assert_eq!(joined(version, &[one]), [("a=1".to_owned(), false)]);
        assert_eq!(joined(version, &[]), none);
    }
    assert_eq!(joined(Version::HTTP_11, &[one, one]).len(), 2);
}

#[test]
fn h15_a_list_of_tokens_has_only_tokens() {
    let read = |line: &[u8]| {
        let headers = map(&SEC_WEBSOCKET_PROTOCOL, &[line]);
        tokens(Field::of(&headers, &SEC_WEBSOCKET_PROTOCOL)).map(|list| list.join("|"))
    };
    assert_eq!(
        read(b"chat, superchat,,v1.x "),
        Ok("chat|superchat|v1.x".into())
    );
    assert_eq!(read(b""), Ok(String::new()));
    for bad in [&b"a b"[..], b"a;b", b"\"a\"", b"a\xe4", b"a/b"] {
        assert_eq!(read(bad), Err(Malformed), "{bad:?}");
    }
}

#[test]
fn h16_extensions_follow_their_grammar() {
    let read = |line: &[u8]| {
        let headers = map(&SEC_WEBSOCKET_EXTENSIONS, &[line]);
        extensions(Field::of(&headers, &SEC_WEBSOCKET_EXTENSIONS))
    };
    let offers = read(b"permessage-deflate; client_max_window_bits; a=\"1\\5\" , x;y = z").unwrap();
    assert_eq!(offers.len(), 2);
    assert_eq!(offers[0].name, "permessage-deflate");
    assert_eq!(
        offers[0].params,
        [
            ("client_max_window_bits".into(), None),
            ("a".into(), Some("15".into()))
        ]
    );
    assert_eq!(offers[1].params, [("y".into(), Some("z".into()))]);
    assert_eq!(read(b""), Ok(vec![]));
    assert_eq!(read(b" , ,"), Ok(vec![]));
    for bad in [
        &b"a;"[..],
        b";a",
        b"a;=1",
        b"a;b=",
        b"a;b=\"",
        b"a;b=\"x",
        b"a;b=\"\"",
        b"a;b=\"x y\"",
        b"a;b=\"x\\",
        b"a b",
        b"a\xff",
        b"a;b=1=2",
    ] {
        assert_eq!(read(bad), Err(Malformed), "{bad:?}");
    }
}

#[test]
fn h16_a_hundred_thousand_parameters_are_refused() {
    let line = "a".to_owned() + &";b".repeat(100_000);
    let headers = map(&SEC_WEBSOCKET_EXTENSIONS, &[line.as_bytes()]);
    assert_eq!(
        extensions(Field::of(&headers, &SEC_WEBSOCKET_EXTENSIONS)),
        Err(Malformed)
    );
}
