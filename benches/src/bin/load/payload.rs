//! What a connection sends, and what it must get.

use flate2::{Compress, Compression, FlushCompress};
use tower_websocket_benches::REQUEST;
use tower_websocket_benches::codec::{frame, header};

/// Of what we compress; the servers are told the same.
const LEVEL: u32 = 6;

/// Connections with payloads of their own, so that one that gets another's reply is found.
pub(crate) const PAYLOADS: usize = 64;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Text,
    Binary,
    /// Text of two to four bytes a character.
    Utf8,
    /// Text that can be compressed.
    Json,
    /// Text as Socket.IO has it: the event `m`, in a frame ten bytes longer than the text.
    SocketIo,
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
    /// The message is sent compressed, and `reply` is what a reply must inflate to.
    pub(crate) deflated: bool,
}

impl Payload {
    pub(crate) fn new(kind: Kind, size: usize, in_flight: usize, seed: usize) -> Self {
        let mut payload: Vec<u8> = match kind {
            Kind::Text | Kind::SocketIo => (0..size)
                .map(|i| b'!' + ((i * 7 + seed) % 94) as u8)
                .collect(),
            Kind::Binary => (0..size).map(|i| (i * 7 + seed) as u8).collect(),
            Kind::Json => json(size, seed),
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
        if kind == Kind::SocketIo {
            for byte in &mut payload {
                // Nothing that JSON escapes.
                if let b'"' | b'\\' = byte {
                    *byte = b' ';
                }
            }
            payload = [b"42[\"m\",\"", &*payload, b"\"]"].concat();
        }
        let size = payload.len();

        let first = if kind == Kind::Binary { 0x82 } else { 0x81 };
        let mut reply = header(first, false, size);
        let reply_header = reply.len();
        reply.extend_from_slice(&payload);
        Self {
            reply,
            reply_header,
            ..Self::sending(first, &payload, in_flight)
        }
    }

    /// Messages of a burst.
    pub(crate) fn in_flight(&self) -> u64 {
        (self.burst.len() / self.frame) as u64
    }

    /// The same, sent compressed.
    pub(crate) fn deflated(self, in_flight: usize) -> Self {
        let message = &self.reply[self.reply_header..];
        let mut compress = Compress::new(Compression::new(LEVEL), false);
        let mut compressed = Vec::with_capacity(message.len() + message.len() / 8 + 64);
        compress
            .compress_vec(message, &mut compressed, FlushCompress::Sync)
            .expect("room for it");
        compressed.truncate(compressed.len() - 4); // RFC 7692 §7.2.1
        Self {
            reply: message.to_vec(),
            reply_header: 0,
            deflated: true,
            ..Self::sending(self.reply[0] | 0x40, &compressed, in_flight)
        }
    }

    fn sending(first: u8, payload: &[u8], in_flight: usize) -> Self {
        let frame = frame(first, payload);
        Self {
            frame: frame.len(),
            burst: frame.repeat(in_flight),
            reply: Vec::new(),
            reply_header: 0,
            compared: true,
            deflated: false,
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
            deflated: false,
        }
    }
}

/// What applications send: records with the same names and other values.
fn json(size: usize, seed: usize) -> Vec<u8> {
    let mut state = seed as u64 + 1;
    let mut random = move |below: u64| {
        // A linear congruential generator, with Knuth's factors.
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    let names = [
        "Ada", "Grace", "Edsger", "Barbara", "Alan", "Tony", "Niklaus", "Radia",
    ];
    let mut text = "[".to_owned();
    while text.len() < size {
        let (id, name) = (random(1_000_000), names[random(8) as usize]);
        let (price, active) = (random(100_000) as f64 / 100.0, random(2) == 0);
        text += &format!(
            "{{\"id\":{id},\"name\":\"{name}\",\"price\":{price},\"active\":{active},\
             \"updated\":\"2026-01-{:02}T{:02}:{:02}:00Z\"}},",
            1 + random(28),
            random(24),
            random(60)
        );
    }
    text.truncate(size);
    text.into()
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
