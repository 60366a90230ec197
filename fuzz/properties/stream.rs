//! What a client sends, as an input writes it: mostly frames, since a fuzzer that has to find
//! masks and lengths by chance finds little else.

use super::input::Input;
use crate::config::Config;
use crate::protocol::{Agreed, Outbound};

/// Longer streams say nothing that is new.
const MAX_STREAM: usize = 300_000;

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;

/// Limits that come into play with short streams too.
pub(super) fn limits(input: &mut Input<'_>) -> Config {
    let max_message = input.one_of(&[1024 * 1024, 1000, 70_000, 126, 10]);
    let less = input.flag();
    Config {
        max_message,
        max_frame: if less { max_message / 2 } else { max_message },
        max_fragments: input.one_of(&[None, Some(4)]),
        max_control_rate: input.one_of(&[u32::MAX, 50]),
        ..Config::default()
    }
}

/// The stream, and what messages in it are compressed with if they are.
pub(super) fn stream(input: &mut Input<'_>, agreed: Option<Agreed>) -> Vec<u8> {
    let mut out = Vec::new();
    let outbound = agreed.map(|agreed| Outbound::new(agreed.outbound));
    while !input.is_empty() && out.len() < MAX_STREAM {
        let op = input.byte();
        let key = match op >> 4 {
            0..=7 => Some([0x37, 0xFA, 0x21, 0x3D]),
            8..=11 => Some([0; 4]),
            12..=14 => Some([input.byte(), input.byte(), 0, 0xFF]),
            _ => None,
        };
        let first = match op & 0x0F {
            0 => FIN | TEXT,
            1 => FIN | BINARY,
            2 => TEXT,
            3 => BINARY,
            4 => 0,
            5 => FIN,
            6 => FIN | PING,
            7 => FIN | PONG,
            8 => FIN | CLOSE,
            9 => input.byte(),
            // No frame, or one of which nothing is sure.
            10 => {
                out.extend_from_slice(input.short());
                continue;
            }
            11 => FIN | RSV1 | TEXT,
            12 => RSV1 | BINARY,
            13 => {
                compressed(&mut out, input, outbound.as_ref());
                continue;
            }
            14 => {
                overlong(&mut out, input);
                continue;
            }
            _ => FIN | RSV1 | BINARY,
        };
        let payload = payload(input);
        header(
            &mut out,
            first,
            key.is_some(),
            payload.len() as u64,
            Length::Minimal,
        );
        masked(&mut out, key, &payload);
    }
    out
}

/// A whole message that a well-behaved client has compressed, in one frame or in two.
fn compressed(out: &mut Vec<u8>, input: &mut Input<'_>, outbound: Option<&Outbound>) {
    let cut = usize::from(input.byte());
    let payload = payload(input).into();
    let mut compressed = None;
    if let Some(outbound) = outbound {
        let passed = outbound.compress(
            &payload,
            || Ok(()),
            |message| {
                compressed = message;
                Ok::<_, ()>(())
            },
        );
        assert_eq!(passed, Ok(()));
    }
    let (rsv1, payload) = match compressed {
        Some(compressed) => (RSV1, compressed),
        None => (0, payload),
    };
    let (one, two) = payload.split_at(cut.min(payload.len()));
    let (first, last) = if cut == 0 { (FIN, two) } else { (0, one) };
    header(
        out,
        first | rsv1 | BINARY,
        true,
        last.len() as u64,
        Length::Minimal,
    );
    masked(out, Some([0; 4]), last);
    if cut != 0 {
        header(out, FIN, true, two.len() as u64, Length::Minimal);
        masked(out, Some([0; 4]), two);
    }
}

/// A header whose length is longer than what follows, or takes more bytes than it needs.
fn overlong(out: &mut Vec<u8>, input: &mut Input<'_>) {
    let first = input.one_of(&[FIN | BINARY, FIN | TEXT, BINARY, FIN, FIN | PING]);
    let (len, encoded) = match input.byte() {
        0..=127 => (u64::from(input.u16()), Length::Two),
        n @ 128..=191 => (
            (u64::from(n & 0x3F) << 16) | u64::from(input.u16()),
            Length::Eight,
        ),
        n => (u64::from(n) << 56 | u64::from(input.u16()), Length::Eight),
    };
    header(out, first, true, len, encoded);
    masked(out, Some([0; 4]), input.short());
}

/// As it stands in the input, or made longer than the input is.
pub(super) fn payload(input: &mut Input<'_>) -> Vec<u8> {
    match input.byte() {
        n @ 0..=0xDF => input.take(n.into()).to_vec(),
        n @ 0xE0..=0xEF => {
            let characters = ['a', 'ü', '世', '🦀'].into_iter().cycle();
            let len = usize::from(input.u16() >> if n < 0xED { 4 } else { 0 });
            let text: String = characters.skip(usize::from(n & 3)).take(len / 2).collect();
            text.into_bytes()
        }
        n => {
            let len = usize::from(input.u16());
            let byte = input.byte();
            // Seldom as large as a read: it takes its time.
            match n {
                0xF0..=0xF7 => vec![byte; len >> 4],
                0xF8 | 0xF9 => noise(byte).take(len >> 4).collect(),
                0xFA..=0xFD => vec![byte; len],
                _ => vec![byte; len * 2],
            }
        }
    }
}

/// Bytes that no compressor makes less of.
fn noise(seed: u8) -> impl Iterator<Item = u8> {
    let first = u32::from(seed) | 1;
    std::iter::successors(Some(first), |n| {
        Some(n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223))
    })
    .map(|n| (n >> 24) as u8)
}

enum Length {
    Minimal,
    Two,
    Eight,
}

fn header(out: &mut Vec<u8>, first: u8, masked: bool, len: u64, encoded: Length) {
    let mask = if masked { 0x80 } else { 0 };
    out.push(first);
    match (encoded, len) {
        (Length::Minimal, 0..=125) => out.push(mask | len as u8),
        (Length::Two, _) | (Length::Minimal, 126..=0xFFFF) => {
            out.push(mask | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(mask | 127);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
}

fn masked(out: &mut Vec<u8>, key: Option<[u8; 4]>, payload: &[u8]) {
    let Some(key) = key else {
        return out.extend_from_slice(payload);
    };
    out.extend_from_slice(&key);
    // Eight bytes at a time: this is most of what is done for a long payload.
    let [a, b, c, d] = key;
    let eight = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut rest = payload;
    while let Some((chunk, after)) = rest.split_first_chunk() {
        out.extend_from_slice(&(u64::from_ne_bytes(*chunk) ^ eight).to_ne_bytes());
        rest = after;
    }
    out.extend(
        rest.iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
}

/// What client and server agree on, the same in both directions: so that either side of it can
/// be played by our own code.
#[cfg(feature = "deflate")]
pub(super) fn agreed(deflate: &crate::protocol::Deflate) -> Agreed {
    let params = [("client_max_window_bits".to_owned(), None)];
    let offers = std::iter::once(("permessage-deflate", &params[..]));
    let (agreed, _) = crate::protocol::negotiate(offers, deflate).expect("it is what is offered");
    agreed
}

/// Compression in half of the cases, in any of its forms.
#[cfg(feature = "deflate")]
pub(super) fn any_agreed(input: &mut Input<'_>) -> Option<Agreed> {
    let flags = input.byte();
    let bits = 9 + (flags >> 2) % 7;
    let deflate = crate::protocol::Deflate::new()
        .threshold(0)
        .server_context_takeover(flags & 2 != 0)
        .client_context_takeover(flags & 2 != 0)
        .server_max_window_bits(bits)
        .client_max_window_bits(bits);
    (flags & 1 != 0).then(|| agreed(&deflate))
}

#[cfg(not(feature = "deflate"))]
pub(super) fn any_agreed(_: &mut Input<'_>) -> Option<Agreed> {
    None
}
