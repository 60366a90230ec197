use std::sync::Arc;

use bytes::BufMut;

use super::input::{Cycle, Input};
use super::stream::{any_agreed, limits, stream};
use crate::close::{CloseCause, CloseCode, CloseEvent};
use crate::config::{Config, SCRATCH};
use crate::protocol::{Agreed, Batch, Event, Moment, Phase, Session, Writer};

/// Rows N9, X3 and R1: the same bytes are the same events and the same end, however they are cut;
/// what is held of an unfinished message stays within the limits and follows what arrived; a
/// violation ends it, with a Close frame that may be sent.
pub fn frames(data: &[u8]) {
    let mut input = Input::new(data);
    let config = Arc::new(limits(&mut input));
    let agreed = any_agreed(&mut input);
    let mut pieces = Cycle::new(input.short());
    let bytes = stream(&mut input, agreed);

    let whole = run(&config, agreed, &bytes, || usize::MAX);
    let cut = run(&config, agreed, &bytes, || match pieces.next() {
        n @ 0..=0xBF => 1 + usize::from(n),
        n => 1 << (n & 0x0F),
    });
    same(cut, &whole, agreed.is_some());
    if bytes.len() <= 300 {
        same(run(&config, agreed, &bytes, || 1), &whole, agreed.is_some());
    }
}

/// A compressed message may be wrong in more than one way: too long, no DEFLATE, no UTF-8. Which
/// is seen first depends on how much is inflated at a time.
fn same(mut cut: Run, whole: &Run, compressed: bool) {
    let codes = [
        CloseCode::INVALID_FRAME_PAYLOAD_DATA,
        CloseCode::MESSAGE_TOO_BIG,
    ];
    let wrong = |run: &Run| run.end.cause == CloseCause::Violation && codes.contains(&run.end.code);
    if compressed && wrong(&cut) && wrong(whole) {
        cut.end = whole.end.clone();
    }
    assert_eq!(cut, *whole);
}

/// What came of a stream.
#[derive(Debug, PartialEq)]
pub(super) struct Run {
    pub(super) events: Vec<Event>,
    pub(super) end: CloseEvent,
}

/// Does what the driver does: reads pieces, and writes at once what is to be written.
pub(super) fn run(
    config: &Arc<Config>,
    agreed: Option<Agreed>,
    bytes: &[u8],
    mut piece: impl FnMut() -> usize,
) -> Run {
    let now = Moment::START;
    let mut session = Session::new(config.clone());
    if let Some(agreed) = agreed {
        session.set_deflate(agreed.inbound);
    }
    let mut events = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() && session.wants_input() {
        // Long streams in tiny pieces take long and say no more.
        let n = piece().max(bytes.len() / 300).min(rest.len());
        let n = if let Some(mut direct) = session.direct() {
            let n = n.min(direct.remaining_mut());
            assert!(n > 0, "no room for what is to come");
            direct.put_slice(&rest[..n]);
            events.extend(session.handle_filled(n, now));
            n
        } else {
            let mut read = rest[..n].to_vec();
            let mut at = 0;
            // It takes more than one turn where much is inflated.
            while at < read.len() && session.wants_input() {
                events.extend(session.handle_input(&mut read, &mut at, now));
                session.take_work(now);
            }
            assert!(at == n || session.is_over(), "{at} of {n} taken");
            n
        };
        rest = &rest[n..];
        let arrived = bytes.len() - rest.len();
        held(&session, config, agreed.is_some(), arrived);
        write(&mut session);
    }
    if !session.is_over() {
        session.handle_end_of_input(now);
    }
    assert!(session.is_over() && !session.wants_input());
    let end = session.close_event();
    let mut more = [0x81, 0x80, 0, 0, 0, 0];
    assert_eq!(session.handle_input(&mut more, &mut 0, now), None);
    assert_eq!(session.held(), 0);

    session.finish(now);
    let written = write(&mut session);
    assert_eq!(session.phase(), Phase::Draining);
    let close = match end.cause {
        CloseCause::Violation => {
            let codes = [
                CloseCode::PROTOCOL_ERROR,
                CloseCode::INVALID_FRAME_PAYLOAD_DATA,
                CloseCode::POLICY_VIOLATION,
                CloseCode::MESSAGE_TOO_BIG,
            ];
            assert!(codes.contains(&end.code), "{end:?}");
            true
        }
        CloseCause::Peer => true,
        CloseCause::Transport => false,
        other => panic!("ended by {other:?}"),
    };
    // Behind the pongs that were still to be written.
    let code = end.code.as_u16().to_be_bytes();
    let closes = if end.code == CloseCode::NO_STATUS_RECEIVED {
        written.ends_with(&[0x88, 0])
    } else {
        written.windows(4).any(|w| w[0] == 0x88 && w[2..] == code)
    };
    assert_eq!(closes, close, "{end:?} {written:x?}");
    Run { events, end }
}

fn write(session: &mut Session) -> Vec<u8> {
    let mut written = Vec::new();
    let (mut writer, mut batch) = (Writer::default(), Batch::default());
    loop {
        session.poll_output(&mut writer, &mut batch);
        if batch.is_empty() {
            session.handle_flushed(Moment::START);
            return written;
        }
        batch.write_into(&mut written);
    }
}

/// A buffer quadruples.
fn held(session: &Session, config: &Config, compressed: bool, arrived: usize) {
    let held = session.held();
    let most = if compressed {
        2 * config.max_message + SCRATCH
    } else {
        assert!(held <= 4 * arrived + 64 + 125, "{held} for {arrived}");
        config.max_message + 125
    };
    assert!(held <= most, "{held} of {most}");
}
