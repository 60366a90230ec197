//! [`StoredRequest`]: the request of a connection, in as few bytes as it can be kept.
//!
//! A `HeaderMap` takes 104 bytes for each header beside the header itself, and its values
//! would pin the server's read buffer. Most connections are opened, looked at once if at all,
//! and then live for hours: so the head is kept as one run of bytes, and made into
//! [`Parts`] when the application asks for it. The peer's address stands behind it, in 6 bytes or 18
//! where a `SocketAddr` has 32.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, uri};
use hyper::ext::Protocol;
use once_cell::race::OnceBox;

use super::address;

/// See the module docs.
pub(crate) struct StoredRequest {
    packed: Packed,
    parts: OnceBox<Parts>,
}

struct Packed {
    extensions: Extensions,
    /// The method, the URI, then each header: [`FIELD`] bytes, its name, its value. Behind that the
    /// peer's address.
    bytes: Box<[u8]>,
    /// How long the URI is.
    uri: u32,
    /// How long the method is.
    method: u16,
    version: Version,
    /// How long the address is; zero: it is not known.
    peer: u8,
}

/// In front of a header: 1 if its value is sensitive, the length of its name in 2 bytes (http
/// allows 64 KiB) and of its value in 4.
const FIELD: usize = 7;

impl StoredRequest {
    pub(crate) fn new(mut request: Parts, peer: Option<SocketAddr>) -> Self {
        unpin_extensions(&mut request.extensions);
        let (uri, exact) = match plain_path(&request.uri) {
            Some(path) => (Cow::Borrowed(path), true),
            None => {
                let text = request.uri.to_string();
                let exact = text
                    .parse::<Uri>()
                    .is_ok_and(|parsed| parsed == request.uri);
                (Cow::Owned(text), exact)
            }
        };
        let method = request.method.as_str();
        let packed = exact.then(|| pack(method, &uri, &request.headers, peer));
        let lengths = u32::try_from(uri.len())
            .ok()
            .zip(u16::try_from(method.len()).ok());
        let Some(((bytes, peer), (uri, method))) = packed.flatten().zip(lengths) else {
            // What cannot be packed is kept as it is, in copies.
            request.uri = copy_of(&request.uri);
            for value in request.headers.values_mut() {
                let sensitive = value.is_sensitive();
                if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
                    *value = copy;
                    value.set_sensitive(sensitive);
                }
            }
            let kept = Self::nothing_but(request.version, peer);
            let _ = kept.parts.set(Box::new(request));
            return kept;
        };
        Self {
            packed: Packed {
                // Empty, its map may still be as large as it was.
                extensions: if request.extensions.is_empty() {
                    Extensions::new()
                } else {
                    request.extensions
                },
                bytes,
                uri,
                method,
                version: request.version,
                peer,
            },
            parts: OnceBox::new(),
        }
    }

    /// Of a connection that came without one.
    #[cfg(any(tower_websocket_fuzzing, test))]
    pub(crate) fn nothing() -> Self {
        Self::nothing_but(Version::HTTP_11, None)
    }

    /// For an application that does not want it.
    pub(crate) fn nothing_but(version: Version, peer: Option<SocketAddr>) -> Self {
        let mut bytes = b"GET/".to_vec();
        let peer = address::append(&mut bytes, peer);
        Self {
            packed: Packed {
                extensions: Extensions::new(),
                bytes: bytes.into_boxed_slice(),
                uri: 1,
                method: 3,
                version,
                peer,
            },
            parts: OnceBox::new(),
        }
    }

    pub(crate) fn version(&self) -> Version {
        self.parts
            .get()
            .map_or(self.packed.version, |parts| parts.version)
    }

    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        address::read(self.packed.split_peer().1)
    }

    pub(crate) fn parts(&self) -> &Parts {
        self.parts.get_or_init(|| Box::new(self.packed.unpack()))
    }
}

/// Copies what is known to be a slice of the server's read buffer, which is 8 KiB and more, as
/// large as the head of the request was; a slice keeps all of it.
///
/// `Extensions` cannot be enumerated, so this can only be done for types that have a name here.
fn unpin_extensions(extensions: &mut Extensions) {
    if let Some(protocol) = extensions.get_mut::<Protocol>() {
        *protocol = match protocol.as_str() {
            "websocket" => Protocol::from_static("websocket"),
            other => Protocol::from(other),
        };
    }
    #[cfg(feature = "axum")]
    if let Some(axum::extract::OriginalUri(uri)) = extensions.get_mut() {
        *uri = copy_of(uri);
    }
}

/// The same URI in bytes of its own, part by part: not every URI can be parsed from its text.
fn copy_of(uri: &Uri) -> Uri {
    let copy = || {
        let mut parts = uri::Parts::default();
        if let Some(scheme) = uri.scheme() {
            parts.scheme = Some(scheme.as_str().parse().ok()?);
        }
        if let Some(authority) = uri.authority() {
            parts.authority = Some(authority.as_str().parse().ok()?);
        }
        if let Some(path) = uri.path_and_query() {
            parts.path_and_query = Some(path.as_str().parse().ok()?);
        }
        Uri::from_parts(parts).ok()
    };
    copy().unwrap_or_else(|| uri.clone())
}

/// The text of a URI that is a path with or without a query, as most requests have it. Parsed anew it
/// is the same, unless it is too long.
fn plain_path(uri: &Uri) -> Option<&str> {
    let is_alone = uri.scheme().is_none() && uri.authority().is_none();
    let path = uri.path_and_query().filter(|_| is_alone)?.as_str();
    (path.starts_with('/') && path.len() < usize::from(u16::MAX)).then_some(path)
}

/// With how long the address is.
fn pack(
    method: &str,
    uri: &str,
    headers: &HeaderMap,
    peer: Option<SocketAddr>,
) -> Option<(Box<[u8]>, u8)> {
    let size = headers
        .iter()
        .map(|(name, value)| FIELD + name.as_str().len() + value.len());
    let size = method.len() + uri.len() + size.sum::<usize>() + address::len(peer);
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(method.as_bytes());
    bytes.extend_from_slice(uri.as_bytes());
    for (name, value) in headers {
        let (name, sensitive) = (name.as_str().as_bytes(), value.is_sensitive());
        let [n0, n1] = u16::try_from(name.len()).ok()?.to_be_bytes();
        let [v0, v1, v2, v3] = u32::try_from(value.len()).ok()?.to_be_bytes();
        let field: [u8; FIELD] = [sensitive.into(), n0, n1, v0, v1, v2, v3];
        bytes.extend_from_slice(&field);
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(value.as_bytes());
    }
    let peer = address::append(&mut bytes, peer);
    Some((bytes.into_boxed_slice(), peer))
}

impl Packed {
    /// The request, and the address.
    fn split_peer(&self) -> (&[u8], &[u8]) {
        split(&self.bytes, self.bytes.len() - usize::from(self.peer))
    }

    fn unpack(&self) -> Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        let (method, rest) = split(self.split_peer().0, self.method.into());
        let (uri, fields) = split(rest, self.uri as usize);
        parts.method = Method::from_bytes(method).unwrap_or_default();
        parts.uri = Uri::try_from(uri).unwrap_or_default();
        parts.version = self.version;
        parts.extensions = self.extensions.clone();
        let mut fields = Bytes::copy_from_slice(fields);
        while let Some((name, value)) = next_field(&mut fields) {
            parts.headers.append(name, value);
        }
        parts
    }
}

fn split(bytes: &[u8], at: usize) -> (&[u8], &[u8]) {
    bytes.split_at_checked(at).unwrap_or_default()
}

/// `None` at the end.
fn next_field(fields: &mut Bytes) -> Option<(HeaderName, HeaderValue)> {
    let [sensitive, n0, n1, v0, v1, v2, v3] = *fields.first_chunk::<FIELD>()?;
    let name_end = FIELD + usize::from(u16::from_be_bytes([n0, n1]));
    let end = name_end + u32::from_be_bytes([v0, v1, v2, v3]) as usize;
    let name = HeaderName::from_bytes(fields.get(FIELD..name_end)?).ok()?;
    let value = fields.get(name_end..end)?;
    let mut value = HeaderValue::from_maybe_shared(fields.slice_ref(value)).ok()?;
    value.set_sensitive(sensitive == 1);
    *fields = fields.slice(end..);
    Some((name, value))
}

impl fmt::Debug for StoredRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredRequest").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Parts {
        let mut cookie = HeaderValue::from_static("id=1");
        cookie.set_sensitive(true);
        let mut request = Request::get("https://example.com:8443/chat/%7Eroom?q=1")
            .method("M-SEARCH")
            .version(Version::HTTP_2)
            .header("Host", "example.com")
            .header("X-My-Own", HeaderValue::from_bytes(b"caf\xE9").unwrap())
            .header("cookie", cookie)
            .header("Cookie", "b=2")
            .header("empty", "")
            .body(())
            .unwrap();
        request.extensions_mut().insert("what a layer found out");
        request.into_parts().0
    }

    #[test]
    fn what_is_kept_is_what_came() {
        let kept = StoredRequest::new(request(), None);
        let (came, kept) = (request(), kept.parts());
        assert_eq!(kept.method, came.method);
        assert_eq!(kept.uri, came.uri);
        assert_eq!(kept.version, came.version);
        assert_eq!(kept.headers, came.headers);
        let cookies: Vec<_> = kept.headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["id=1", "b=2"]);
        assert!(cookies[0].is_sensitive() && !cookies[1].is_sensitive());
        assert_eq!(
            kept.extensions.get::<&str>(),
            Some(&"what a layer found out")
        );
    }

    #[test]
    fn every_form_of_a_target_is_kept() {
        for uri in [
            "/",
            "//a",
            "/?",
            "/a?b?c",
            "/%7E/\u{e9}?\u{e9}",
            "/a#b",
            "*",
            "example.com:80",
            "http://a/b?c#d",
        ] {
            let mut request = request();
            request.uri = uri.parse().unwrap();
            let came = request.uri.clone();
            assert_eq!(StoredRequest::new(request, None).parts().uri, came, "{uri}");
        }
    }

    #[test]
    fn s6_a_copy_of_a_uri_is_equal_and_shares_no_byte() {
        let odd = Uri::builder().scheme("http").authority("a:1");
        let odd = odd.path_and_query("*").build().unwrap();
        assert_ne!(odd.to_string().parse::<Uri>().ok(), Some(odd.clone()));
        let parsed = [
            "/",
            "//a",
            "/a%7E?q=1",
            "/?",
            "*",
            "a:80",
            "http://a",
            "x-y://A@b:1/c?d",
        ];
        let parsed = parsed.into_iter().map(|uri| uri.parse().unwrap());
        for uri in parsed.chain([odd]) {
            let copy = copy_of(&uri);
            assert_eq!(copy, uri);
            assert_eq!(copy.to_string(), uri.to_string());
            let path = |uri: &Uri| uri.path_and_query().map(|path| path.as_str().as_ptr());
            assert!(path(&copy).is_none() || path(&copy) != path(&uri) || uri.path().len() <= 1);
            // What cannot be packed is kept all the same.
            let mut request = request();
            request.uri = uri.clone();
            let kept = StoredRequest::new(request, None);
            assert_eq!(kept.parts().uri, uri);
            assert_eq!(kept.parts().headers.get_all("cookie").iter().count(), 2);
            assert!(kept.parts().headers["cookie"].is_sensitive());
        }
    }

    #[test]
    fn the_address_of_the_peer_stands_behind_the_request_whether_that_is_kept_or_not() {
        let odd = Uri::builder().scheme("http").authority("a:1");
        let mut cannot_be_packed = request();
        cannot_be_packed.uri = odd.path_and_query("*").build().unwrap();
        let peer = Some("[fe80::1%7]:443".parse().unwrap());
        for kept in [
            StoredRequest::new(request(), peer),
            StoredRequest::new(cannot_be_packed, peer),
            StoredRequest::nothing_but(Version::HTTP_2, peer),
        ] {
            assert_eq!(kept.peer(), peer);
            assert_eq!(kept.version(), Version::HTTP_2);
        }
        let kept = StoredRequest::new(request(), peer);
        assert_eq!(kept.parts().headers, request().headers);
        assert_eq!(StoredRequest::nothing().peer(), None);
        assert_eq!(size_of::<StoredRequest>(), 40);
    }

    #[test]
    fn nothing_is_an_empty_request() {
        let nothing = StoredRequest::nothing();
        assert_eq!(nothing.parts().uri, "/");
        assert!(nothing.parts().headers.is_empty());
    }
}
