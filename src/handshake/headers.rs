//! Reading the header fields of a handshake: lists of tokens (RFC 9110 §5.6.1) and of
//! extensions (RFC 6455 §9.1).

use http::header::COOKIE;
use http::request::Parts;
use http::{HeaderValue, Version};

use super::field::Field;

/// An extension that the client offers, with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExtensionOffer {
    pub(crate) name: String,
    pub(crate) params: Vec<(String, Option<String>)>,
}

/// A header field does not follow its grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The most extensions and parameters that are read from one request; a browser sends two.
const MAX_PARAMS: usize = 64;

/// Whether the list, over all lines of the field, has the element `token`, ignoring case.
pub(crate) fn has_token(field: Field<'_>, token: &str) -> bool {
    let is_token = |element: &[u8]| element.eq_ignore_ascii_case(token.as_bytes());
    // Most fields are one line, and most lines one element.
    let has = |line: &HeaderValue| {
        let line = line.as_bytes();
        is_token(line) || line.split(|b| *b == b',').map(trim).any(is_token)
    };
    match field {
        Field::One(line) => has(line),
        other => other.lines().any(has),
    }
}

/// The tokens of a list, over all lines of the field. Empty elements are ignored (RFC 9110
/// §5.6.1.2).
pub(crate) fn tokens(field: Field<'_>) -> Result<Vec<&str>, Malformed> {
    elements(field)
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
pub(crate) fn extensions(field: Field<'_>) -> Result<Vec<ExtensionOffer>, Malformed> {
    let mut offers = Vec::new();
    let mut count = 0;
    for line in field.lines() {
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

/// Joins the lines of Cookie with `; ` if the request did not come over HTTP/1.1.
///
/// Over HTTP/2 and HTTP/3 a client may send every cookie in a line of its own, so that each is
/// compressed by itself; an application must receive them in one line, as over HTTP/1.1 (RFC 9113
/// §8.2.3, RFC 9114 §4.2.1). hyper leaves that to the code that passes the request on.
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
    // Valid lines are still valid when joined.
    if let Ok(mut joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..])) {
        joined.set_sensitive(sensitive);
        request.headers.insert(COOKIE, joined);
    }
}

/// Whether this is a `token` of RFC 9110 §5.6.2: not empty, and without separators.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_tchar)
}

fn elements(field: Field<'_>) -> impl Iterator<Item = &[u8]> {
    field
        .lines()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// Strips optional white space: SP and HTAB (RFC 9110 §5.6.3).
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
mod tests;
