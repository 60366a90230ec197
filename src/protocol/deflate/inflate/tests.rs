use rand::RngExt;

use super::super::tests::{MIB, agreed, code, inbound, receive, send};
use super::super::{Deflate, Outbound};
use super::*;
use crate::properties::tests::{random, random_bytes};

#[test]
fn the_examples_of_rfc_7692_are_inflated() {
    // §7.2.3.1: one block; two fragments; §7.2.3.3: no compression; §7.2.3.4: a final block;
    // §7.2.3.5: two blocks.
    let whole: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let examples: [&[&[u8]]; 5] = [
        &[whole],
        &[&whole[..3], &whole[3..]],
        &[&[
            0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
        ]],
        &[&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]],
        &[&[
            0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
        ]],
    ];
    for pieces in examples {
        let got = receive(&mut inbound(MIB), pieces.iter().copied());
        assert_eq!(got.unwrap(), b"Hello", "{pieces:x?}");
    }
    // §7.2.3.2: the second message refers to the first.
    let deflate = Deflate::new().client_context_takeover(true);
    let mut inbound = Inbound::new(agreed(&deflate).inbound, MIB);
    assert_eq!(receive(&mut inbound, [whole]).unwrap(), b"Hello");
    let again: &[u8] = &[0xf2, 0x00, 0x11, 0x00, 0x00];
    assert_eq!(receive(&mut inbound, [again]).unwrap(), b"Hello");
    // Without takeover there is nothing to refer to.
    assert_eq!(code(receive(&mut self::inbound(MIB), [again])), 1007);
    // An empty message.
    assert_eq!(receive(&mut inbound, [&[0][..]]).unwrap(), b"");
}

#[test]
fn r5_a_bomb_is_refused_while_it_grows() {
    let zeros = vec![0; 16 * MIB];
    let deflate = Deflate::new().level(9).max_compressed(usize::MAX);
    let bomb = send(&Outbound::new(agreed(&deflate).outbound), &zeros.into()).unwrap();
    assert!(bomb.len() < 20_000, "{}", bomb.len());
    let mut held = 0;
    let mut inflater = inbound(MIB).begin();
    let result = inflater.push(&bomb, |bytes| {
        held += bytes.len();
        Ok(())
    });
    assert_eq!(result.unwrap_err().code.as_u16(), 1009);
    assert!(held <= MIB, "{held}");
    // In fragments.
    let result = receive(&mut inbound(MIB), bomb.chunks(7));
    assert_eq!(code(result), 1009);
    // As large as may be, it is no bomb.
    let page = send(
        &Outbound::new(agreed(&deflate).outbound),
        &vec![0; MIB].into(),
    )
    .unwrap();
    assert_eq!(receive(&mut inbound(MIB), [&page[..]]).unwrap(), [0; MIB]);
    // A limit on messages that is no help: the ratio is.
    let result = receive(&mut inbound(usize::MAX / 2), [&bomb[..]]);
    assert_eq!(code(result), 1009);
    // With what was before.
    let takeover = Deflate::new().client_context_takeover(true);
    let mut inbound = Inbound::new(agreed(&takeover).inbound, MIB);
    assert_eq!(
        receive(
            &mut inbound,
            [&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..]]
        )
        .unwrap(),
        b"Hello"
    );
    assert_eq!(code(receive(&mut inbound, [&bomb[..]])), 1009);
}

#[test]
fn r5_blocks_of_nothing_end_at_the_limit_too() {
    let mut inflater = inbound(1000).begin();
    let result = (0..10_000).try_for_each(|_| inflater.push(&NOTHING, |_| Ok(())).map(drop));
    assert_eq!(result.unwrap_err().code.as_u16(), 1009);
    // Final blocks, each a stream of its own.
    let mut inflater = inbound(1000).begin();
    let result = (0..10_000).try_for_each(|_| inflater.push(&[0x03, 0x00], |_| Ok(())).map(drop));
    assert_eq!(result.unwrap_err().code.as_u16(), 1009);
}

#[test]
fn r5_a_stream_that_is_cut_or_bad_is_1007() {
    // A stored block that says 5 and has 2; a bad length; a bad kind of block.
    for bad in [
        &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65][..],
        &[0x00, 0x05, 0x00, 0x00, 0x00],
        &[0x06],
    ] {
        assert_eq!(code(receive(&mut inbound(MIB), [bad])), 1007, "{bad:x?}");
    }
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(20);
    let whole = send(
        &Outbound::new(agreed(&Deflate::new()).outbound),
        &text.clone().into(),
    )
    .unwrap();
    for cut in 1..whole.len() {
        if let Ok(got) = receive(&mut inbound(MIB), [&whole[..cut]]) {
            // Only where nothing was lost, or a block had ended.
            assert!(text.as_bytes().starts_with(&got), "{cut}");
        }
    }
}

#[test]
fn p8_what_deflate_raw_sync_makes_is_a_message_and_so_is_nothing() {
    for takeover in [false, true] {
        let deflate = Deflate::new().client_context_takeover(takeover);
        let mut inbound = Inbound::new(agreed(&deflate).inbound, MIB);
        let hello: &[u8] = &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        for _ in 0..2 {
            assert_eq!(receive(&mut inbound, [hello]).unwrap(), b"Hello");
            assert_eq!(receive(&mut inbound, hello.chunks(1)).unwrap(), b"Hello");
            // Of an empty message; and of one for which zlib had nothing more to flush.
            assert_eq!(receive(&mut inbound, [&[0x03, 0x00][..]]).unwrap(), b"");
            assert_eq!(receive(&mut inbound, []).unwrap(), b"");
            // Two streams in one message.
            let two = [hello, hello].concat();
            assert_eq!(receive(&mut inbound, [&two[..]]).unwrap(), b"HelloHello");
        }
    }
}

#[test]
fn any_bytes_are_inflated_within_the_limit_or_refused() {
    for _ in 0..256 {
        let mut random = random();
        let input = random_bytes(&mut random, 4000);
        let piece = random.random_range(1..4000);
        let deflate = Deflate::new().client_context_takeover(random.random());
        let mut inbound = Inbound::new(agreed(&deflate).inbound, 10_000);
        for _ in 0..2 {
            match receive(&mut inbound, input.chunks(piece)) {
                Ok(got) => assert!(got.len() <= 10_000),
                Err(violation) => {
                    assert!([1007, 1009].contains(&violation.code.as_u16()));
                    break;
                }
            }
        }
    }
}
