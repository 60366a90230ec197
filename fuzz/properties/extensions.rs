use http::header::SEC_WEBSOCKET_EXTENSIONS;
use http::{HeaderMap, HeaderValue};

use super::input::Input;
use crate::handshake::{ExtensionOffer, Field, extensions as read};
use crate::protocol::{Agreed, Deflate, negotiate};

/// What nobody writes by chance.
const WORDS: [&str; 12] = [
    "permessage-deflate",
    "server_no_context_takeover",
    "client_no_context_takeover",
    "server_max_window_bits",
    "client_max_window_bits",
    "; ",
    "=",
    "8",
    "12",
    "15",
    "\"10\"",
    ", ",
];

/// Rows H16 and H17: Sec-WebSocket-Extensions is read by its grammar, and what is read is what
/// stood there; what is answered was offered, and the answer, offered, is answered with itself.
pub fn extensions(data: &[u8]) {
    let mut input = Input::new(data);
    let bits = input.byte();
    let mut headers = HeaderMap::new();
    let words = input.rest().iter().map(|byte| match byte {
        0x80..0xC0 => WORDS[usize::from(byte & 0x3F) % WORDS.len()].as_bytes(),
        byte => std::slice::from_ref(byte),
    });
    for line in words.collect::<Vec<_>>().concat().split(|b| *b == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(SEC_WEBSOCKET_EXTENSIONS, value);
        }
    }
    let Ok(offers) = read(Field::of(&headers, &SEC_WEBSOCKET_EXTENSIONS)) else {
        return;
    };
    assert!(offers.iter().map(|o| 1 + o.params.len()).sum::<usize>() <= 64);
    let names = offers.iter().map(|o| &o.name);
    let params = offers.iter().flat_map(|o| &o.params);
    let values = params.clone().filter_map(|(_, value)| value.as_ref());
    for token in names.chain(params.map(|(name, _)| name)).chain(values) {
        assert!(!token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()));
        assert!(!token.contains([',', ';', '=', '"', '\\', ' ']), "{token}");
    }

    // Once more, as it is usually written.
    let text = offers.iter().map(written).collect::<Vec<_>>().join(", ");
    assert_eq!(parsed(&text), offers, "{text}");

    for takeover in 0..4 {
        let deflate = Deflate::new()
            .server_context_takeover(takeover & 1 != 0)
            .client_context_takeover(takeover & 2 != 0)
            .server_max_window_bits(bits & 0x0F)
            .client_max_window_bits(bits >> 4);
        answered(&offers, &deflate);
    }
}

fn answered(offers: &[ExtensionOffer], deflate: &Deflate) {
    let Some((agreed, answer)) = agree(offers, deflate) else {
        return;
    };
    let answers = parsed(&answer);
    let [answered] = &answers[..] else {
        panic!("not one extension: {answer}");
    };
    assert_eq!(answered.name, "permessage-deflate");
    assert!(
        offers.iter().any(|offer| answers_to(offer, answered)),
        "{answer} to {offers:?}"
    );
    assert_eq!(agree(&answers, deflate), Some((agreed, answer)));
}

fn agree(offers: &[ExtensionOffer], deflate: &Deflate) -> Option<(Agreed, String)> {
    let offers = offers.iter().map(|o| (&*o.name, &o.params[..]));
    negotiate(offers, deflate)
}

fn written(offer: &ExtensionOffer) -> String {
    let mut text = offer.name.clone();
    for (name, value) in &offer.params {
        text += &match value {
            Some(value) => format!("; {name}=\"{value}\""),
            None => format!("; {name}"),
        };
    }
    text
}

fn parsed(text: &str) -> Vec<ExtensionOffer> {
    let value = HeaderValue::from_str(text).expect("tokens make a header");
    let headers = HeaderMap::from_iter([(SEC_WEBSOCKET_EXTENSIONS, value)]);
    read(Field::of(&headers, &SEC_WEBSOCKET_EXTENSIONS)).expect("what was written can be read")
}

/// Whether a client that offered this must take that answer (RFC 7692 §7.1).
fn answers_to(offer: &ExtensionOffer, answer: &ExtensionOffer) -> bool {
    let find = |params: &ExtensionOffer, name: &str| {
        let mut all = params.params.iter().filter(|(n, _)| n == name);
        let found = all.next().map(|(_, value)| value.clone());
        assert!(all.next().is_none() || *params != *answer, "{name} twice");
        found
    };
    let number = |value: Option<String>| value.and_then(|v| v.parse::<u8>().ok());
    let offered = |name| find(offer, name);
    let answered = |name| find(answer, name);
    let known = answer.params.iter().all(|(name, value)| match &**name {
        "server_no_context_takeover" | "client_no_context_takeover" => value.is_none(),
        "server_max_window_bits" | "client_max_window_bits" => {
            number(value.clone()).is_some_and(|bits| (8..=15).contains(&bits))
        }
        _ => false,
    });
    let takeover = offered("server_no_context_takeover").is_none()
        || answered("server_no_context_takeover").is_some();
    let server = match (
        offered("server_max_window_bits"),
        answered("server_max_window_bits"),
    ) {
        (Some(most), Some(bits)) => number(bits) <= number(most),
        (Some(_), None) => false,
        (None, _) => true,
    };
    let client = match (
        offered("client_max_window_bits"),
        answered("client_max_window_bits"),
    ) {
        (Some(Some(most)), Some(bits)) => number(bits) <= number(Some(most)),
        (Some(None), Some(_)) | (_, None) => true,
        (None, Some(_)) => false,
    };
    offer.name == answer.name && known && takeover && server && client
}
