//! [`Field`]: the lines of one header field.

use http::{HeaderMap, HeaderName, HeaderValue};

/// See the module docs. Most fields have one line, which is found without the map.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field<'a> {
    Absent,
    One(&'a HeaderValue),
    /// More than one: those that the map has under this name.
    Many(&'a HeaderMap, &'a HeaderName),
}

/// The field appears twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Twice;

impl<'a> Field<'a> {
    pub(crate) fn of(headers: &'a HeaderMap, name: &'a HeaderName) -> Self {
        let mut lines = headers.get_all(name).iter();
        match (lines.next(), lines.next()) {
            (None, _) => Self::Absent,
            (Some(one), None) => Self::One(one),
            (Some(_), Some(_)) => Self::Many(headers, name),
        }
    }

    pub(super) fn is_present(self) -> bool {
        !matches!(self, Self::Absent)
    }

    /// The only line; `None` if there is none, an error if there are more.
    pub(super) fn single(self) -> Result<Option<&'a HeaderValue>, Twice> {
        match self {
            Self::Absent => Ok(None),
            Self::One(line) => Ok(Some(line)),
            Self::Many(..) => Err(Twice),
        }
    }

    pub(super) fn lines(self) -> impl Iterator<Item = &'a HeaderValue> {
        let (one, many) = match self {
            Self::Absent => (None, None),
            Self::One(line) => (Some(line), None),
            Self::Many(headers, name) => (None, Some(headers.get_all(name))),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}
