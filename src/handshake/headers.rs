//! Reading the header fields of a handshake: lists of tokens (RFC 9110 §5.6.1) and of
//! extensions (RFC 6455 §9.1).

use http::header::{COOKIE, GetAll, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Version};

/// An extension that the client offers, with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExtensionOffer {
    pub(crate) name: String,
    pub(crate) params: Vec<(String, Option<String>)>,
}

/// A header field does not follow its grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Parameters read from one request, over all extensions; a browser sends two.
const MAX_PARAMS: usize = 64;

/// Whether one of the list's elements is `token`, in any case, over all lines of the field.
pub(crate) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let is_token = |element: &[u8]| element.eq_ignore_ascii_case(token.as_bytes());
    let mut lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    // Most lines are one element.
    lines.any(|line| is_token(line) || line.split(|b| *b == b',').map(trim).any(is_token))
}

/// The field's only value; `None` if it is absent, an error if it is there twice.
pub(crate) fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Malformed> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Malformed),
    }
}

/// The tokens of a list, over all lines of the field. Empty elements are allowed and mean
/// nothing (RFC 9110 §5.6.1.2).
pub(crate) fn tokens<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Vec<&'a str>, Malformed> {
    elements(headers.get_all(name))
        .map(|element| {
            let element = std::str::from_utf8(element).map_err(|_| Malformed)?;
            is_token(element).then_some(element).ok_or(Malformed)
        })
        .collect()
}

/// The extensions that the client offers.
///
/// `extension-list = 1#(token *(";" token ["=" (token / quoted-string)]))`, in time linear in
/// the length of the field.
pub(crate) fn extensions(
    headers: &HeaderMap,
    name: &HeaderName,
) -> Result<Vec<ExtensionOffer>, Malformed> {
    let mut offers = Vec::new();
    let mut count = 0;
    for line in headers.get_all(name) {
        let mut rest = Scanner(line.as_bytes());
        loop {
            rest.skip_space();
            if rest.0.is_empty() {
                break;
            }
            if rest.take(b',') {
                continue;
            }
            let mut offer = ExtensionOffer {
                name: rest.token()?,
                params: Vec::new(),
            };
            loop {
                rest.skip_space();
                if !rest.take(b';') {
                    break;
                }
                rest.skip_space();
                let param = rest.token()?;
                rest.skip_space();
                let value = if rest.take(b'=') {
                    rest.skip_space();
                    Some(rest.value()?)
                } else {
                    None
                };
                count += 1;
                if count > MAX_PARAMS {
                    return Err(Malformed);
                }
                offer.params.push((param, value));
            }
            if !rest.0.is_empty() && !rest.take(b',') {
                return Err(Malformed);
            }
            count += 1;
            if count > MAX_PARAMS {
                return Err(Malformed);
            }
            offers.push(offer);
        }
    }
    Ok(offers)
}

/// Makes the lines of Cookie one, joined with `; `, where the request did not come over HTTP/1.1.
///
/// Over HTTP/2 and HTTP/3 a client may send every cookie in a line of its own, so that each is
/// compressed by itself; an application must get them as HTTP/1.1 has them (RFC 9113 §8.2.3,
/// RFC 9114 §4.2.1). hyper leaves that to whoever passes the request on.
pub(crate) fn join_cookies(request: &mut Parts) {
    if request.version <= Version::HTTP_11 {
        return;
    }
    let lines = request.headers.get_all(COOKIE);
    if lines.iter().nth(1).is_none() {
        return;
    }
    let sensitive = lines.iter().any(HeaderValue::is_sensitive);
    let cookies: Vec<&[u8]> = lines.iter().map(HeaderValue::as_bytes).collect();
    // Valid lines make a valid one.
    if let Ok(mut joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..])) {
        joined.set_sensitive(sensitive);
        request.headers.insert(COOKIE, joined);
    }
}

/// Whether this is a `token` of RFC 9110 §5.6.2: not empty, and nothing that separates.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_tchar)
}

fn elements<'a>(values: GetAll<'a, HeaderValue>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    values
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// Without the optional white space around it: SP and HTAB (RFC 9110 §5.6.3).
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

struct Scanner<'a>(&'a [u8]);

impl Scanner<'_> {
    fn skip_space(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn token(&mut self) -> Result<String, Malformed> {
        let len = self.0.iter().take_while(|b| is_tchar(**b)).count();
        let (token, rest) = self.0.split_at(len);
        self.0 = rest;
        match std::str::from_utf8(token) {
            Ok(token) if !token.is_empty() => Ok(token.to_owned()),
            _ => Err(Malformed),
        }
    }

    /// A token, or a quoted string that is a token once its quotes and escapes are gone
    /// (RFC 6455 §9.1).
    fn value(&mut self) -> Result<String, Malformed> {
        if !self.take(b'"') {
            return self.token();
        }
        let mut value = String::new();
        loop {
            let (&byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            let byte = match byte {
                b'"' => break,
                b'\\' => {
                    let (&escaped, rest) = self.0.split_first().ok_or(Malformed)?;
                    self.0 = rest;
                    escaped
                }
                byte => byte,
            };
            if !is_tchar(byte) {
                return Err(Malformed);
            }
            value.push(char::from(byte));
        }
        if value.is_empty() {
            return Err(Malformed);
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use http::header::{CONNECTION, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL};

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
        let has = |lines: &[&[u8]]| has_token(&map(&CONNECTION, lines), &CONNECTION, "upgrade");
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
            tokens(
                &map(&SEC_WEBSOCKET_PROTOCOL, &[line]),
                &SEC_WEBSOCKET_PROTOCOL,
            )
            .map(|list| list.join("|"))
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
            extensions(
                &map(&SEC_WEBSOCKET_EXTENSIONS, &[line]),
                &SEC_WEBSOCKET_EXTENSIONS,
            )
        };
        let offers =
            read(b"permessage-deflate; client_max_window_bits; a=\"1\\5\" , x;y = z").unwrap();
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
            extensions(&headers, &SEC_WEBSOCKET_EXTENSIONS),
            Err(Malformed)
        );
    }
}
