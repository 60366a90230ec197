//! Both directions at once: what is compressed comes back. The tests of the other files use the
//! functions on top.

use bytes::Bytes;
use rand::RngExt;
use zlib_rs::DeflateFlush;

use super::compress::PRIMING;
use super::pool::{BLOCK, Settings};
use super::*;
use crate::properties::tests::{random, random_bytes};
use crate::protocol::violation::Violation;

pub(super) const MIB: usize = 1024 * 1024;

pub(super) fn agreed(deflate: &Deflate) -> Agreed {
    let params = [("client_max_window_bits".to_owned(), None)];
    let offer = ("permessage-deflate", &params[..]);
    let agreed = negotiate(std::iter::once(offer), deflate);
    agreed.expect("the offer is good").0
}

pub(super) fn send(outbound: &Outbound, message: &Bytes) -> Option<Bytes> {
    let mut sent = None;
    let passed = outbound.compress(
        message,
        || Ok::<_, ()>(()),
        |compressed| {
            sent = compressed;
            Ok(())
        },
    );
    assert_eq!(passed, Ok(()));
    sent
}

/// Inflates a message that arrives in `pieces`.
pub(super) fn receive<'a>(
    inbound: &mut Inbound,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, Violation> {
    let mut out = Vec::new();
    let mut inflater = inbound.begin();
    for piece in pieces {
        inflater.push(piece, |bytes| {
            assert!(bytes.len() <= BLOCK);
            out.extend_from_slice(bytes);
            Ok(())
        })?;
    }
    inflater.finish()?;
    inbound.end(inflater);
    Ok(out)
}

pub(super) fn inbound(max_message: usize) -> Box<Inbound> {
    Inbound::new(agreed(&Deflate::new()).inbound, max_message)
}

pub(super) fn code(result: Result<Vec<u8>, Violation>) -> u16 {
    result.expect_err("it is refused").code.as_u16()
}

pub(super) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    });
    next.take(len).collect()
}

#[test]
fn what_does_not_get_smaller_goes_plain_and_the_next_message_still_inflates() {
    let noise: Vec<u8> = (0..5000_u32)
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes())
        .collect();
    let text = Bytes::from("again and again and again and again");
    for takeover in [false, true] {
        let deflate = Deflate::new()
            .server_context_takeover(takeover)
            .client_context_takeover(takeover);
        let outbound = Outbound::new(agreed(&deflate).outbound);
        let mut inbound = Inbound::new(agreed(&deflate).inbound, MIB);
        for _ in 0..3 {
            let compressed = send(&outbound, &text).unwrap();
            assert_eq!(receive(&mut inbound, [&compressed[..]]).unwrap(), text);
            assert_eq!(send(&outbound, &noise.clone().into()), None);
        }
    }
}

/// zlib-rs 0.6 grows it by 5.2 % at 9 bits, zlib's own bound is an eighth.
#[test]
fn p8_noise_within_the_limit_may_be_compressed_with_the_smallest_window() {
    const LEN: usize = 256 * 1024;
    let noise = noise(LEN);
    for (level, memory_level) in [(1, 1), (1, 9), (6, 1), (6, 8), (9, 9)] {
        for bits in [9, 15] {
            let mut compressor = Settings {
                level,
                memory_level,
                bits,
            }
            .compressor();
            let mut out = vec![0; 2 * LEN];
            compressor
                .compress(&noise, &mut out, DeflateFlush::SyncFlush)
                .unwrap();
            let made = compressor.total_out() as usize - TAIL.len();
            let mut inbound = inbound(LEN);
            assert!(
                made <= inbound.room(LEN),
                "{level} {memory_level} {bits}: {made}"
            );
            let got = receive(&mut inbound, [&out[..made]]);
            assert!(got.unwrap() == noise, "{level} {memory_level} {bits}");
        }
    }
}

#[test]
fn r6_a_quiet_connection_without_takeover_holds_no_codec() {
    let mut inbound = inbound(MIB);
    let outbound = Outbound::new(agreed(&Deflate::new()).outbound);
    let compressed = send(&outbound, &"abc".repeat(100).into()).unwrap();
    receive(&mut inbound, [&compressed[..]]).unwrap();
    assert!(inbound.context.is_none());
    assert!(outbound.context.lock().unwrap().is_none());
}

#[test]
fn any_messages_in_any_fragments_with_any_parameters_come_back() {
    for _ in 0..256 {
        let mut random = random();
        let (bits, takeover) = (random.random_range(9..=15), random.random());
        let deflate = Deflate::new()
            .level(random.random_range(1..=9))
            .memory_level(random.random_range(1..=9))
            .threshold(0)
            .max_ratio(u32::MAX)
            .server_max_window_bits(bits)
            .client_max_window_bits(bits)
            .server_context_takeover(takeover)
            .client_context_takeover(takeover);
        let piece = random.random_range(1..3000);
        let outbound = Outbound::new(agreed(&deflate).outbound);
        let mut inbound = Inbound::new(agreed(&deflate).inbound, MIB);
        for _ in 0..random.random_range(1..6) {
            // Noise, or what compresses well.
            let message = if random.random() {
                random_bytes(&mut random, 2000)
            } else {
                let len = random.random_range(0..=5000);
                (0..len).map(|_| random.random_range(b'a'..=b'c')).collect()
            };
            if let Some(compressed) = send(&outbound, &message.clone().into()) {
                let most = message.len() + if takeover { PRIMING / 8 + 8 } else { 0 };
                assert!(compressed.len() < most);
                let got = receive(&mut inbound, compressed.chunks(piece));
                assert_eq!(got.unwrap(), message);
            }
        }
    }
}
