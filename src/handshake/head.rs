//! [`Head`]: the fields of a request that a handshake is examined by, found in one walk over its
//! headers. A look-up hashes the name, which for a dozen names takes longer.

use http::HeaderMap;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, ORIGIN, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;

use super::field::Field;

/// See the module docs.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    pub(super) parts: &'a Parts,
    pub(super) connection: Field<'a>,
    pub(super) content_length: Field<'a>,
    pub(super) expect: Field<'a>,
    pub(super) extensions: Field<'a>,
    pub(super) host: Field<'a>,
    pub(super) key: Field<'a>,
    pub(super) origin: Field<'a>,
    pub(super) protocols: Field<'a>,
    pub(super) transfer_encoding: Field<'a>,
    pub(super) upgrade: Field<'a>,
    pub(super) version: Field<'a>,
}

impl<'a> Head<'a> {
    pub(crate) fn of(parts: &'a Parts) -> Self {
        let mut head = Self {
            parts,
            connection: Field::Absent,
            content_length: Field::Absent,
            expect: Field::Absent,
            extensions: Field::Absent,
            host: Field::Absent,
            key: Field::Absent,
            origin: Field::Absent,
            protocols: Field::Absent,
            transfer_encoding: Field::Absent,
            upgrade: Field::Absent,
            version: Field::Absent,
        };
        let headers: &HeaderMap = &parts.headers;
        for (name, line) in headers {
            let field = match *name {
                CONNECTION => &mut head.connection,
                CONTENT_LENGTH => &mut head.content_length,
                EXPECT => &mut head.expect,
                HOST => &mut head.host,
                ORIGIN => &mut head.origin,
                SEC_WEBSOCKET_EXTENSIONS => &mut head.extensions,
                SEC_WEBSOCKET_KEY => &mut head.key,
                SEC_WEBSOCKET_PROTOCOL => &mut head.protocols,
                SEC_WEBSOCKET_VERSION => &mut head.version,
                TRANSFER_ENCODING => &mut head.transfer_encoding,
                UPGRADE => &mut head.upgrade,
                _ => continue,
            };
            *field = match field {
                Field::Absent => Field::One(line),
                Field::One(_) | Field::Many(..) => Field::Many(headers, name),
            };
        }
        head
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;

    #[test]
    fn a_field_has_all_its_lines_in_their_order_wherever_they_stand() {
        let request = Request::get("/")
            .header("sec-websocket-protocol", "a")
            .header("host", "localhost")
            .header("x-other", "b")
            .header("sec-websocket-protocol", "c")
            .header("sec-websocket-protocol", "d");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let head = Head::of(&parts);
        let lines = |field: Field<'_>| {
            field
                .lines()
                .map(|l| l.to_str().unwrap())
                .collect::<String>()
        };
        assert_eq!(lines(head.protocols), "acd");
        assert_eq!(lines(head.host), "localhost");
        assert_eq!(lines(head.origin), "");
        assert_eq!(
            head.host.single(),
            Ok(Some(&HeaderValue::from_static("localhost")))
        );
        assert!(head.protocols.single().is_err());
        assert!(!head.origin.is_present() && head.protocols.is_present());
    }

    #[test]
    fn the_walk_finds_what_a_look_up_finds() {
        let names = [
            CONNECTION,
            CONTENT_LENGTH,
            EXPECT,
            HOST,
            ORIGIN,
            SEC_WEBSOCKET_EXTENSIONS,
            SEC_WEBSOCKET_KEY,
            SEC_WEBSOCKET_PROTOCOL,
            SEC_WEBSOCKET_VERSION,
            TRANSFER_ENCODING,
            UPGRADE,
        ];
        for name in &names {
            let request = Request::get("/").header(name, "it").header("x-other", "b");
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let head = Head::of(&parts);
            let found = [
                head.connection,
                head.content_length,
                head.expect,
                head.host,
                head.origin,
                head.extensions,
                head.key,
                head.protocols,
                head.version,
                head.transfer_encoding,
                head.upgrade,
            ];
            for (field, other) in found.into_iter().zip(&names) {
                let looked_up = Field::of(&parts.headers, other);
                assert_eq!(field.single(), looked_up.single(), "{other} of {name}");
                assert_eq!(field.is_present(), other == name);
            }
        }
    }
}
