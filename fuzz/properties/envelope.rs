use bytes::Bytes;

use super::input::Input;
use crate::close::{CloseCode, CloseFrame};
use crate::message::{Message, Utf8Bytes};
use crate::topics::{Change, Envelope, Standing, Tail, What};

/// Row T12: bytes of anybody are no envelope, or one that stays the same from then on and holds no more than they
/// do. What a node sends is read as it was sent; the size that it reckons with is the one that it has.
pub fn envelope(data: &[u8]) {
    let mut input = Input::new(data);
    if input.flag() {
        check(&Bytes::copy_from_slice(input.rest()));
        return;
    }
    let made = make(&mut input);
    let bytes = made.encode();
    assert_eq!(Envelope::decode(&bytes).as_ref(), Some(&made));
    if let What::Changes { changes, .. } = &made.what {
        let load: usize = changes.iter().map(Change::load).sum();
        assert_eq!(bytes.len(), 18 + 8 + 4 + load);
    }
    // It is changed on its way, or something follows, as in a later version.
    let mut changed = bytes.to_vec();
    let at = usize::from(input.u16()) % changed.len();
    match input.byte() {
        0..=99 => changed[at] = input.byte(),
        100..=149 => changed.truncate(at),
        150..=199 => changed.extend_from_slice(input.rest()),
        _ => {
            let inserted = input.short();
            changed.splice(at..at, inserted.iter().copied());
        }
    }
    check(&changed.into());
}

fn check(bytes: &Bytes) {
    let Some(envelope) = Envelope::decode(bytes) else {
        return;
    };
    let again = envelope.encode();
    assert!(again.len() <= bytes.len());
    assert_eq!(Envelope::decode(&again).as_ref(), Some(&envelope));
    // What is said is bounded by what has come, not by what it announces.
    let texts = |change: &Change| {
        let meta = match &change.how {
            Standing::Here(meta) => meta.len(),
            Standing::Left | Standing::Gone => 0,
        };
        assert!(change.topic.len() <= 256 && change.key.len() <= 256 && meta <= 1024);
    };
    match &envelope.what {
        What::Message { message, .. } => assert!(message.len() <= bytes.len()),
        What::Changes { changes, .. }
        | What::Whole {
            present: changes, ..
        } => {
            assert!(changes.len() <= bytes.len() / 17);
            changes.iter().for_each(texts);
        }
        What::Digest { tails, .. } => {
            assert!(tails.len() <= bytes.len() / 20);
            assert!(tails.iter().all(|tail| tail.topic.len() <= 256));
        }
        What::Close(_) | What::Probe | What::Ask => {}
    }
}

fn make(input: &mut Input<'_>) -> Envelope {
    let what = match input.byte() % 8 {
        0 => What::Message {
            from: number(input),
            message: text(input, 255).into(),
        },
        1 => What::Message {
            from: number(input),
            message: Message::from(input.short().to_vec()),
        },
        2 => {
            let code = CloseCode::from(input.u16());
            match CloseFrame::new(code, Utf8Bytes::from(text(input, 123))) {
                Some(frame) => What::Close(frame),
                None => What::Probe,
            }
        }
        3 => What::Ask,
        4 => What::Changes {
            since: number(input),
            changes: changes(input),
        },
        5 => What::Digest {
            version: number(input),
            tails: (0..input.byte() % 8)
                .map(|_| Tail {
                    topic: text(input, 255).into(),
                    epoch: number(input),
                    offset: number(input),
                })
                .collect(),
        },
        6 => What::Probe,
        _ => What::Whole {
            version: number(input),
            part: input.u16().into(),
            parts: input.u16().into(),
            present: changes(input),
        },
    };
    Envelope {
        node: number(input),
        number: number(input),
        what,
    }
}

fn changes(input: &mut Input<'_>) -> Vec<Change> {
    let count = input.byte() % 8;
    let change = |_| Change {
        topic: text(input, 255).into(),
        connection: number(input),
        key: text(input, 255).into(),
        how: match input.byte() % 4 {
            0 => Standing::Left,
            1 => Standing::Gone,
            _ => Standing::Here(text(input, 255).into()),
        },
    };
    (0..count).map(change).collect()
}

fn text(input: &mut Input<'_>, most: usize) -> String {
    let mut text = String::from_utf8_lossy(input.short()).into_owned();
    // What is no UTF-8 has grown.
    while text.len() > most {
        text.pop();
    }
    text
}

/// Small, or of any size.
fn number(input: &mut Input<'_>) -> u64 {
    let (shift, number) = (input.byte() % 64, input.u16());
    u64::from(number) << shift
}
