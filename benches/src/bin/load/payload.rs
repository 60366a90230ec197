//! What a connection sends, and what it must get.

use tower_websocket_benches::REQUEST;

/// Connections with payloads of their own, so that one that gets another's reply is found.
pub(crate) const PAYLOADS: usize = 64;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Text,
    Binary,
    /// Text of two to four bytes a character.
    Utf8,
}

pub(crate) struct Payload {
    /// As many masked frames as are in flight, all the same.
    pub(crate) burst: Vec<u8>,
    /// The length of one.
    pub(crate) frame: usize,
    pub(crate) reply: Vec<u8>,
    pub(crate) reply_header: usize,
    /// A reply is compared with what must come, not only counted by its length.
    pub(crate) compared: bool,
}

impl Payload {
    pub(crate) fn new(kind: Kind, size: usize, in_flight: usize, seed: usize) -> Self {
        let mut payload: Vec<u8> = match kind {
            Kind::Text => (0..size)
                .map(|i| b'!' + ((i * 7 + seed) % 94) as u8)
                .collect(),
            Kind::Binary => (0..size).map(|i| (i * 7 + seed) as u8).collect(),
            Kind::Utf8 => {
                let words = ["Grüße ", "привет ", "こんにちは", "你好", "🦀🌍"];
                let endless = (seed..).flat_map(|i| words[i % words.len()].chars());
                let mut text = String::with_capacity(size);
                for char in endless {
                    if text.len() + char.len_utf8() > size {
                        break;
                    }
                    text.push(char);
                }
                text.into()
            }
        };
        payload.resize(size, b' ');

        let opcode = if kind == Kind::Binary { 0x82 } else { 0x81 };
        let header = |mask: u8| match size {
            0..126 => vec![opcode, mask | size as u8],
            126..65536 => [&[opcode, mask | 126], &(size as u16).to_be_bytes()[..]].concat(),
            _ => [&[opcode, mask | 127], &(size as u64).to_be_bytes()[..]].concat(),
        };
        let key = [0x37, 0xFA, 0x21, 0x3D];
        let masked = payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key);
        let mut frame = header(0x80);
        frame.extend_from_slice(&key);
        frame.extend(masked);
        let mut reply = header(0);
        let reply_header = reply.len();
        reply.append(&mut payload);
        Self {
            frame: frame.len(),
            burst: frame.repeat(in_flight),
            reply,
            reply_header,
            compared: true,
        }
    }

    /// Plain requests, and responses as long as `response`.
    pub(crate) fn http(response: Vec<u8>) -> Self {
        let request = plain_request("keep-alive").into_bytes();
        Self {
            frame: request.len(),
            burst: request,
            reply_header: 0,
            reply: response,
            compared: false,
        }
    }
}

/// A request that is none of a WebSocket's, with as many headers as [`REQUEST`].
pub(crate) fn plain_request(connection: &str) -> String {
    let (_, host) = REQUEST.split_once("\r\n").expect("a request line");
    let (host, _) = host.split_once("\r\n").expect("a header");
    format!(
        "GET / HTTP/1.1\r\n{host}\r\nConnection: {connection}\r\nAccept: */*\r\n\
         User-Agent: plain/1.0\r\nAccept-Language: en\r\n\r\n"
    )
}
