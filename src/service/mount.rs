//! [`Mount`]: which paths are ours.

use std::sync::Arc;

/// A path under which an application is mounted, like Rack's `map`.
///
/// `/chat` matches `/chat` and everything below it, never `/chatter`. Whole segments are
/// compared byte by byte as they stand in the request, as routers do that match raw paths
/// (axum's among them): `/%63hat` and `//chat` are not `/chat`.
///
/// Layers in front (authentication, a proxy) may have normalised the path before they judged
/// it. So that nothing which they took for outside is inside, or the other way round, a path
/// does not match whose rest means another place to someone who normalises: dot segments,
/// plain or as `%2e`, and encoded or backward slashes. What a user has to know of it stands in
/// the docs of [`WebSocketLayer`](crate::WebSocketLayer).
#[derive(Clone, Debug)]
pub(crate) struct Mount {
    path: Arc<String>,
    /// Where a router's pattern begins in it, which is a mistake.
    pattern: Option<usize>,
}

/// Where a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// Under the mount. The rest of it, Rack's `PATH_INFO`: empty, or it begins with a slash.
    Under(&'a str),
    /// Under the mount as it stands, and elsewhere to someone who normalises.
    Ambiguous,
    /// Where the mount, which is a pattern by mistake, may have been meant to match.
    Pattern,
    Elsewhere,
}

impl Mount {
    /// A leading slash is added, trailing ones are taken off; `/` and the empty path match
    /// everything.
    pub(crate) fn new(path: &str) -> Self {
        let path = path.trim_end_matches('/');
        let path = if path.is_empty() || path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        let pattern = pattern(&path);
        let path = Arc::new(path);
        Self { path, pattern }
    }

    /// Whether it has a segment that a router would take for a parameter.
    pub(crate) fn is_pattern(&self) -> bool {
        self.pattern.is_some()
    }

    /// Rack's `SCRIPT_NAME`: empty for `/`. Shared, since every connection keeps it.
    pub(crate) fn as_str(&self) -> &Arc<String> {
        &self.path
    }

    /// Where a path is, as it stands in a request.
    ///
    /// The path of an authority-form target (`CONNECT host:port`) is empty and only under
    /// `/`; `*` is under nothing.
    #[inline]
    pub(crate) fn place<'a>(&self, path: &'a str) -> Place<'a> {
        if let Some(pattern) = self.pattern {
            return if path.starts_with(&self.path[..pattern]) {
                Place::Pattern
            } else {
                Place::Elsewhere
            };
        }
        match path.strip_prefix(&**self.path) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                if is_ambiguous(rest) {
                    Place::Ambiguous
                } else {
                    Place::Under(rest)
                }
            }
            _ => Place::Elsewhere,
        }
    }
}

/// Where the first segment begins that a router would take for a parameter: `{id}`, `{*rest}`, or, as
/// axum once wrote them, `:id` and `*rest`. No client sends `{` in a path.
fn pattern(path: &str) -> Option<usize> {
    let mut at = 0;
    for segment in path.split_inclusive('/') {
        if segment.starts_with([':', '*']) || segment.contains('{') {
            return Some(at);
        }
        at += segment.len();
    }
    None
}

/// Whether someone who normalises could take this for another place than it says.
fn is_ambiguous(rest: &str) -> bool {
    let bytes = rest.as_bytes();
    bytes.contains(&b'\\')
        || bytes
            .windows(3)
            .any(|w| w.eq_ignore_ascii_case(b"%2f") || w.eq_ignore_ascii_case(b"%5c"))
        || bytes.split(|b| *b == b'/').any(is_dot_segment)
}

fn is_dot_segment(segment: &[u8]) -> bool {
    let mut rest = segment;
    let mut dots = 0;
    loop {
        rest = match rest {
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            // Some servers take parameters off a segment before they normalise: `..;x`.
            [] | [b';', ..] => return matches!(dots, 1 | 2),
            _ => return false,
        };
        dots += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h27_a_mount_matches_whole_segments_of_the_raw_path() {
        for (mount, path, rest) in [
            ("/chat", "/chat", Some("")),
            ("/chat", "/chat/", Some("/")),
            ("/chat", "/chat/a/b", Some("/a/b")),
            ("/chat", "/chat//a", Some("//a")),
            ("/chat", "/chatter", None),
            ("/chat", "/cha", None),
            ("/chat", "/", None),
            ("/chat", "", None),
            ("/chat", "*", None),
            ("/chat", "/Chat", None),
            ("/chat", "//chat", None),
            ("/chat", "/./chat", None),
            ("/chat", "/x/../chat", None),
            ("/chat", "/%63hat", None),
            ("/chat", "/chat%2fa", None),
            ("/a/b", "/a/b/c", Some("/c")),
            ("/a/b", "/a/bc", None),
            ("/a/b", "/a%2fb", None),
            ("/", "/", Some("/")),
            ("/", "/chat", Some("/chat")),
            ("/", "//chat", Some("//chat")),
            ("/", "", Some("")),
            ("/", "*", None),
        ] {
            let place = rest.map_or(Place::Elsewhere, Place::Under);
            assert_eq!(Mount::new(mount).place(path), place, "{mount} {path}");
        }
    }

    #[test]
    fn h27_a_rest_that_could_be_read_as_another_path_is_not_matched() {
        for rest in [
            "/..",
            "/.",
            "/../admin",
            "/a/../../admin",
            "/a/./b",
            "/%2e%2e/admin",
            "/%2E./admin",
            "/.%2e",
            "/%2e",
            "/..;/admin",
            "/.;x=1/a",
            "/a%2fb",
            "/..%2Fadmin",
            "/..%5cadmin",
            "/%5C",
            "/..\\admin",
            "/a\\b",
        ] {
            for mount in ["/chat", "/"] {
                let mount = Mount::new(mount);
                let path = format!("{}{rest}", mount.as_str());
                assert_eq!(mount.place(&path), Place::Ambiguous, "{path}");
            }
        }
    }

    #[test]
    fn h27_dots_and_percents_in_names_are_just_names() {
        for rest in [
            "/...",
            "/.well",
            "/a.b",
            "/a..",
            "/..a",
            "/%2ea",
            "/%",
            "/%2",
            "/%20",
            "/é",
            "/a;b",
            "/;",
            "/%252e%252e",
        ] {
            let path = format!("/chat{rest}");
            let place = Mount::new("/chat").place(&path);
            assert_eq!(place, Place::Under(rest), "{path}");
        }
    }

    #[test]
    fn a_mount_that_is_a_pattern_is_known_by_its_first_parameter() {
        for (mount, path, place) in [
            ("/rooms/{id}", "/rooms/7", Place::Pattern),
            ("/rooms/{id}", "/rooms/", Place::Pattern),
            ("/rooms/{id}", "/rooms/{id}", Place::Pattern),
            ("/rooms/{id}", "/rooms", Place::Elsewhere),
            ("/rooms/{id}", "/roomsy/7", Place::Elsewhere),
            ("/rooms/:id/x", "/rooms/7/x", Place::Pattern),
            ("/*rest", "/a", Place::Pattern),
            ("a/{*rest}", "/a/b", Place::Pattern),
            ("/v{n}/ws", "/v1/ws", Place::Pattern),
        ] {
            let mount = Mount::new(mount);
            assert!(mount.is_pattern(), "{mount:?}");
            assert_eq!(mount.place(path), place, "{mount:?} {path}");
        }
        for literal in ["/", "/a:b", "/a*", "/urn;a=b", "/%7Bid%7D", "/a/b"] {
            assert!(!Mount::new(literal).is_pattern(), "{literal}");
        }
    }

    #[test]
    fn h27_a_mount_is_written_with_or_without_slashes() {
        for (path, name) in [
            ("/chat", "/chat"),
            ("chat", "/chat"),
            ("/chat/", "/chat"),
            ("/chat//", "/chat"),
            ("a/b/", "/a/b"),
            ("/", ""),
            ("", ""),
            ("//", ""),
        ] {
            assert_eq!(&**Mount::new(path).as_str(), name, "{path:?}");
        }
    }
}
