use http::header::SEC_WEBSOCKET_EXTENSIONS;
use http::{HeaderMap, HeaderValue};

use super::*;
use crate::handshake::{Field, extensions};

fn agreed(offer: &str, deflate: Deflate) -> Option<(Agreed, String)> {
    let mut headers = HeaderMap::new();
    headers.insert(
        SEC_WEBSOCKET_EXTENSIONS,
        HeaderValue::from_str(offer).unwrap(),
    );
    let offers = extensions(Field::of(&headers, &SEC_WEBSOCKET_EXTENSIONS)).unwrap();
    let offers = offers.iter().map(|offer| (&*offer.name, &offer.params[..]));
    negotiate(offers, &deflate)
}

fn answer(offer: &str, deflate: Deflate) -> Option<String> {
    agreed(offer, deflate).map(|(_, answer)| answer)
}

#[test]
fn each_direction_has_its_own_terms() {
    let deflate = Deflate::new()
        .server_context_takeover(true)
        .client_context_takeover(true)
        .max_ratio(7);
    let offer = "permessage-deflate; server_no_context_takeover; \
                 server_max_window_bits=10; client_max_window_bits=12";
    let (Agreed { inbound, outbound }, _) = agreed(offer, deflate).unwrap();
    assert_eq!((inbound.takeover, inbound.bits), (true, 12));
    assert_eq!(inbound.max_ratio, 7);
    assert_eq!((outbound.takeover, outbound.bits), (false, 10));
    assert_eq!(outbound.level, deflate.level);
}

#[test]
fn h17_offers_are_answered_with_what_was_agreed_and_bad_ones_declined() {
    const BOTH: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let default = Deflate::new();
    let takeover = default
        .server_context_takeover(true)
        .client_context_takeover(true);
    let small = takeover
        .server_max_window_bits(11)
        .client_max_window_bits(10);
    let with = |params: &str| Some(format!("{BOTH}{params}"));
    let plain = |params: &str| Some(format!("permessage-deflate{params}"));
    let table = [
        // What a browser offers.
        (
            "permessage-deflate; client_max_window_bits",
            default,
            with(""),
        ),
        ("permessage-deflate", default, with("")),
        ("permessage-deflate", takeover, plain("")),
        (
            "permessage-deflate; client_max_window_bits",
            takeover,
            plain(""),
        ),
        (
            "permessage-deflate; server_no_context_takeover",
            takeover,
            plain("; server_no_context_takeover"),
        ),
        (
            "permessage-deflate; client_no_context_takeover",
            takeover,
            plain("; client_no_context_takeover"),
        ),
        // Windows.
        (
            "permessage-deflate; server_max_window_bits=10",
            default,
            with("; server_max_window_bits=10"),
        ),
        (
            "permessage-deflate; server_max_window_bits=\"10\"",
            default,
            with("; server_max_window_bits=10"),
        ),
        (
            "permessage-deflate; server_max_window_bits=15",
            default,
            with("; server_max_window_bits=15"),
        ),
        (
            "permessage-deflate; server_max_window_bits=8",
            default,
            None,
        ),
        (
            "permessage-deflate; client_max_window_bits=8",
            default,
            with("; client_max_window_bits=8"),
        ),
        (
            "permessage-deflate; client_max_window_bits=12",
            takeover,
            plain("; client_max_window_bits=12"),
        ),
        (
            "permessage-deflate; client_max_window_bits",
            small,
            plain("; server_max_window_bits=11; client_max_window_bits=10"),
        ),
        // It cannot be told to keep a small window, so it must keep none.
        (
            "permessage-deflate",
            small,
            plain("; client_no_context_takeover; server_max_window_bits=11"),
        ),
        (
            "permessage-deflate; server_max_window_bits=14",
            small,
            plain("; client_no_context_takeover; server_max_window_bits=11"),
        ),
        // Bad, unknown, twice: declined, and the next offer is looked at.
        ("permessage-deflate; server_max_window_bits", default, None),
        (
            "permessage-deflate; server_max_window_bits=7",
            default,
            None,
        ),
        (
            "permessage-deflate; server_max_window_bits=16",
            default,
            None,
        ),
        (
            "permessage-deflate; server_max_window_bits=010",
            default,
            None,
        ),
        (
            "permessage-deflate; server_max_window_bits=ten",
            default,
            None,
        ),
        (
            "permessage-deflate; client_max_window_bits=7",
            default,
            None,
        ),
        (
            "permessage-deflate; client_max_window_bits=16",
            default,
            None,
        ),
        (
            "permessage-deflate; server_no_context_takeover=1",
            default,
            None,
        ),
        ("permessage-deflate; unknown", default, None),
        ("permessage-deflate; unknown=1", default, None),
        (
            "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
            default,
            None,
        ),
        (
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            default,
            None,
        ),
        (
            "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
            default,
            None,
        ),
        ("x-webkit-deflate-frame", default, None),
        ("permessage-bzip2, permessage-deflate", default, with("")),
        (
            "permessage-deflate; unknown, permessage-deflate; server_max_window_bits=9, \
             permessage-deflate",
            default,
            with("; server_max_window_bits=9"),
        ),
    ];
    for (offer, deflate, expected) in table {
        assert_eq!(answer(offer, deflate), expected, "{offer}");
    }
}
