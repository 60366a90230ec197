use super::input::Input;
use crate::service::{Mount, Place};

/// Row H27: what [`Mount::place`] takes apart is the path, in whole segments; and it takes
/// every path that is under the mount, except those that are another one to somebody who
/// normalises. A mount that a router would take for a pattern is under nothing.
pub fn mount(data: &[u8]) {
    let mut input = Input::new(data);
    let mount = String::from_utf8_lossy(input.short());
    let rest = String::from_utf8_lossy(input.rest());
    let mount = Mount::new(&mount);
    let name = &**mount.as_str();
    assert!(name.is_empty() || name.starts_with('/') && !name.ends_with('/'));

    let is_parameter = |segment: &str| segment.starts_with([':', '*']) || segment.contains('{');
    let pattern = name.split('/').position(is_parameter);
    assert_eq!(mount.is_pattern(), pattern.is_some(), "{name:?}");
    let literal: String = name
        .split_inclusive('/')
        .take(pattern.unwrap_or_default())
        .collect();

    // Half of the paths begin with the mount.
    for path in [rest.to_string(), format!("{name}{rest}")] {
        let under = path
            .strip_prefix(name)
            .filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let expected = match under {
            _ if pattern.is_some() && path.starts_with(&literal) => Place::Pattern,
            _ if pattern.is_some() => Place::Elsewhere,
            Some(rest) if means_another(rest) => Place::Ambiguous,
            Some(rest) => Place::Under(rest),
            None => Place::Elsewhere,
        };
        assert_eq!(mount.place(&path), expected, "{name:?} {path:?}");
    }
}

/// Whether a segment, decoded, is not one segment, or is one that goes somewhere.
fn means_another(rest: &str) -> bool {
    rest.split('/').any(|segment| {
        let whole = decoded(segment);
        let name = segment.split(';').next().unwrap_or_default();
        whole.contains(&b'/')
            || whole.contains(&b'\\')
            || matches!(&decoded(name)[..], b"." | b"..")
    })
}

/// Percent-decoded, once.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        let ahead = bytes.clone().next().zip(bytes.clone().nth(1));
        let digits = ahead
            .and_then(|(a, b)| Some((char::from(a).to_digit(16)?, char::from(b).to_digit(16)?)));
        match digits {
            Some((high, low)) if byte == b'%' => {
                decoded.push((high * 16 + low) as u8);
                bytes.nth(1);
            }
            _ => decoded.push(byte),
        }
    }
    decoded
}
