use bytes::Bytes;
use zlib_rs::{Inflate, InflateFlush, Status};

use super::input::{Cycle, Input};
use super::stream::{agreed, payload};
use crate::protocol::{Agreed, Deflate, Inbound, Outbound};

/// Rows R5 and H17, RFC 7692: whatever a client calls compressed is inflated within the limit,
/// as zlib alone would do it, or refused; and what we compress comes back.
pub fn deflate(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let bits = 9 + (flags >> 2) % 7;
    let takeover = flags & 2 != 0;
    let deflate = Deflate::new()
        .threshold(0)
        .level(input.byte() % 10)
        .memory_level(input.byte() % 10)
        .max_ratio(u32::MAX)
        .server_context_takeover(takeover)
        .client_context_takeover(takeover)
        .server_max_window_bits(bits)
        .client_max_window_bits(bits);
    let agreed = agreed(&deflate);
    let pieces = input.short();
    if flags & 1 == 0 {
        inflated(&mut input, agreed, takeover.then_some(bits), pieces);
    } else {
        round_trip(&mut input, agreed, pieces);
    }
}

/// Arbitrary bytes as messages, one after the other.
fn inflated(input: &mut Input<'_>, agreed: Agreed, bits: Option<u8>, pieces: &[u8]) {
    let max = input.one_of(&[1000, 70_000, 10, 0]);
    let (mut whole, mut cut) = (
        Inbound::new(agreed.inbound, max),
        Inbound::new(agreed.inbound, max),
    );
    let mut alone = Inflate::new(false, bits.unwrap_or(15));
    while !input.is_empty() {
        let len = input.u16();
        let message = input.take(len.into());
        let got = receive(&mut whole, message, &mut Cycle::new(&[]), max);
        let in_pieces = receive(&mut cut, message, &mut Cycle::new(pieces), max);
        match (&got, &in_pieces) {
            // Too long and no DEFLATE either: what is seen first depends on the pieces.
            (Err(_), Err(_)) => {}
            _ => assert_eq!(got, in_pieces, "{message:x?}"),
        }
        let expected = inflate(&mut alone, message, max);
        match (got, expected) {
            (Ok(got), Some(expected)) => assert_eq!(got, expected, "{message:x?}"),
            (Err(1007 | 1009), None) => return,
            // It was not looked at to its end.
            (Err(1007 | 1009), Some(large)) if large.len() > max => return,
            (Err(1009), Some(_)) if message.len() > max + max / 8 + max / 64 + 1024 => return,
            other => panic!("{other:?} of {message:x?}"),
        }
        if bits.is_none() {
            alone.reset(false);
        }
    }
}

fn round_trip(input: &mut Input<'_>, agreed: Agreed, pieces: &[u8]) {
    const MAX: usize = 1024 * 1024;
    let outbound = Outbound::new(agreed.outbound);
    let mut inbound = Inbound::new(agreed.inbound, MAX);
    let mut pieces = Cycle::new(pieces);
    while !input.is_empty() {
        let message = Bytes::from(payload(input));
        if !outbound.takes(message.len()) {
            continue;
        }
        let mut sent = None;
        let passed = outbound.compress(
            &message,
            || Ok(()),
            |compressed| {
                sent = compressed;
                Ok::<_, ()>(())
            },
        );
        assert_eq!(passed, Ok(()));
        if let Some(compressed) = sent {
            let got = receive(&mut inbound, &compressed, &mut pieces, MAX);
            assert_eq!(got.as_deref(), Ok(&message[..]));
        }
    }
}

/// What a message is, or the code that it is refused with.
fn receive(
    inbound: &mut Inbound,
    message: &[u8],
    pieces: &mut Cycle,
    max: usize,
) -> Result<Vec<u8>, u16> {
    let mut out = Vec::new();
    let mut inflater = inbound.begin();
    let mut rest = message;
    while !rest.is_empty() {
        let n = match pieces.next() {
            0 => rest.len(),
            n => rest.len().min(n.into()),
        };
        let pushed = inflater.push(&rest[..n], |piece| {
            out.extend_from_slice(piece);
            Ok(())
        });
        assert!(out.len() <= max);
        pushed.map_err(|violation| violation.code.as_u16())?;
        rest = &rest[n..];
    }
    inflater
        .finish()
        .map_err(|violation| violation.code.as_u16())?;
    inbound.end(inflater);
    Ok(out)
}

/// The same by zlib alone, in one go; no more than one byte over `max`. `None` for what is no
/// message.
fn inflate(inflate: &mut Inflate, message: &[u8], max: usize) -> Option<Vec<u8>> {
    let mut out = vec![0; max + 1];
    let mut made = 0;
    // Behind the message nothing may come of what is put there: it had ended.
    let mut ended = true;
    for part in [message, &[0, 0, 0xFF, 0xFF], &[0, 0, 0, 0xFF, 0xFF]] {
        let last = part.as_ptr() != message.as_ptr();
        if last && ended {
            break;
        }
        let before = made;
        let mut rest = part;
        while !rest.is_empty() {
            let (read, written) = (inflate.total_in(), inflate.total_out());
            let status = inflate.decompress(rest, &mut out[made..], InflateFlush::SyncFlush);
            rest = &rest[(inflate.total_in() - read) as usize..];
            made += (inflate.total_out() - written) as usize;
            let status = status.ok()?;
            match status {
                _ if made > max => return Some(out),
                Status::StreamEnd => inflate.reset(false),
                _ if rest.is_empty() => {}
                _ => return None,
            }
            ended = rest.is_empty() && status == Status::StreamEnd;
        }
        if last && made != before {
            return None;
        }
    }
    out.truncate(made);
    Some(out)
}
