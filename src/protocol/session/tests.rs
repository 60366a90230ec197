//! A session driven as the driver does it: every event, in every phase.

use bytes::BufMut;

use super::*;

/// A session with its queue, driven as the driver does: what is to be written is written.
struct Peer {
    session: Session,
    queue: Writer,
    now: Moment,
}

impl Peer {
    fn new() -> Self {
        Self {
            session: Session::new(Arc::default()),
            queue: Writer::default(),
            now: Moment::START,
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Vec<Event> {
        let (mut bytes, mut at) = (bytes.to_vec(), 0);
        self.session.handle_arrival(bytes.len(), self.now);
        let mut events = Vec::new();
        while let Some(event) = self.session.handle_input(&mut bytes, &mut at, self.now) {
            events.push(event);
        }
        events
    }

    fn written(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let mut batch = Batch::default();
            self.session.poll_output(&mut self.queue, &mut batch);
            if batch.is_empty() {
                break;
            }
            while !batch.is_empty() {
                let n = batch.write_into(&mut out);
                self.session.handle_written(n, self.now);
            }
        }
        self.session.handle_flushed(self.now);
        out
    }

    fn after(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.session.handle_timeout(self.now);
    }

    /// Code, initiator, cleanness.
    fn ended(&self) -> (u16, CloseCause, bool) {
        let event = self.session.close_event();
        (event.code.as_u16(), event.cause, event.clean)
    }
}

/// A frame of a client whose mask is zero.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    out.extend_from_slice(payload);
    out
}

fn normal() -> CloseFrame {
    CloseFrame::known(CloseCode::NORMAL_CLOSURE, "")
}

#[test]
fn a_close_of_the_peer_is_answered_behind_what_was_sent() {
    let mut peer = Peer::new();
    peer.queue.push(&Message::from("a"));
    peer.feed(&frame(0x88, &[0x03, 0xE8, b'x']));
    assert_eq!(peer.session.phase(), Phase::Finishing);
    peer.queue.push(&Message::from("b"));
    peer.session.finish(peer.now);
    assert_eq!(peer.written(), b"\x81\x01a\x81\x01b\x88\x02\x03\xE8");
    assert_eq!(peer.session.phase(), Phase::Draining);
    assert_eq!(peer.ended(), (1000, CloseCause::Peer, true));
}

#[test]
fn f25_an_empty_close_is_answered_with_an_empty_one_and_told_as_1005() {
    let mut peer = Peer::new();
    peer.feed(&frame(0x88, b""));
    peer.session.finish(peer.now);
    assert_eq!(peer.written(), b"\x88\x00");
    assert_eq!(peer.ended(), (1005, CloseCause::Peer, true));
}

#[test]
fn f29_nothing_is_delivered_after_either_close() {
    let mut peer = Peer::new();
    let mut bytes = frame(0x88, b"");
    bytes.extend(frame(0x81, b"late"));
    assert_eq!(peer.feed(&bytes).len(), 1);
    let mut peer = Peer::new();
    peer.session
        .close(normal(), CloseCause::Application, peer.now);
    assert_eq!(peer.feed(&frame(0x81, b"late")), []);
    assert_eq!(peer.written(), b"\x88\x02\x03\xE8");
    assert_eq!(peer.session.phase(), Phase::Awaiting);
    assert_eq!(peer.feed(&frame(0x81, b"late")), []);
    peer.feed(&frame(0x88, b""));
    assert_eq!(peer.session.phase(), Phase::Draining);
    assert_eq!(peer.ended(), (1000, CloseCause::Application, true));
}

#[test]
fn f31_the_answer_to_our_close_is_awaited_for_5_seconds_and_the_drain_for_5_more() {
    let mut peer = Peer::new();
    peer.session
        .close(normal(), CloseCause::Application, peer.now);
    peer.written();
    peer.after(4);
    assert_eq!(peer.session.phase(), Phase::Awaiting);
    peer.after(1);
    assert_eq!(peer.session.phase(), Phase::Dead);
    assert_eq!(peer.ended(), (1000, CloseCause::Application, false));
}

#[test]
fn f32_when_both_close_at_once_ours_goes_out_once_and_ours_is_told() {
    let mut peer = Peer::new();
    peer.session
        .close(normal(), CloseCause::Application, peer.now);
    peer.feed(&frame(0x88, &[0x03, 0xE9]));
    assert_eq!(peer.written(), b"\x88\x02\x03\xE8");
    assert_eq!(peer.session.phase(), Phase::Draining);
    assert_eq!(peer.ended(), (1000, CloseCause::Application, true));
    assert_eq!(peer.written(), b"");
}

#[test]
fn a_violation_is_told_as_an_error_and_on_the_wire_with_its_code() {
    let mut peer = Peer::new();
    peer.feed(b"\x81\x01a");
    assert!(peer.session.is_over() && peer.session.is_sendable());
    let failure = peer.session.take_failure();
    assert!(matches!(failure, Some(Failure::Violation(_))));
    assert!(peer.session.take_failure().is_none());
    peer.session.finish(peer.now);
    assert_eq!(peer.written()[2..4], 1002u16.to_be_bytes());
    assert_eq!(peer.ended(), (1002, CloseCause::Violation, false));
}

#[test]
fn who_broke_the_rules_and_does_not_read_has_the_close_timeout_only() {
    let mut peer = Peer::new();
    peer.feed(b"\x81\x01a");
    peer.session.finish(peer.now);
    peer.session.handle_blocked(peer.now);
    peer.after(5);
    assert_eq!(peer.session.phase(), Phase::Dead);
}

#[test]
fn pings_are_answered_in_every_phase_before_our_close() {
    let mut peer = Peer::new();
    peer.feed(&frame(0x89, b"1"));
    assert_eq!(peer.written(), b"\x8A\x011");
    peer.session
        .close(normal(), CloseCause::Application, peer.now);
    peer.feed(&frame(0x89, b"2"));
    assert_eq!(peer.written(), b"\x8A\x012\x88\x02\x03\xE8");
    peer.feed(&frame(0x89, b"3"));
    assert_eq!(peer.written(), b"");
}

#[test]
fn f22_the_51st_control_frame_of_a_second_is_a_violation() {
    let mut peer = Peer::new();
    for _ in 0..50 {
        assert_eq!(peer.feed(&frame(0x8A, b"")).len(), 1);
    }
    assert_eq!(peer.feed(&frame(0x8A, b"")), []);
    assert_eq!(peer.ended(), (1008, CloseCause::Violation, false));
}

fn limited(change: impl FnOnce(&mut Config)) -> Peer {
    let mut config = Config::default();
    change(&mut config);
    Peer {
        session: Session::new(Arc::new(config)),
        ..Peer::new()
    }
}

#[test]
fn more_messages_in_a_second_than_the_limit_end_with_1008_and_are_not_delivered() {
    let mut peer = limited(|config| config.max_message_rate = Some(5));
    for _ in 0..5 {
        assert_eq!(peer.feed(&frame(0x81, b"a")).len(), 1);
    }
    peer.after(1);
    let six = frame(0x81, b"a").repeat(6);
    assert_eq!(peer.feed(&six).len(), 5);
    assert_eq!(peer.ended(), (1008, CloseCause::Violation, false));
}

#[test]
fn more_bytes_in_a_second_than_the_limit_end_with_1008_whatever_they_are() {
    let change = |config: &mut Config| {
        config.max_message = 100;
        config.max_byte_rate = Some(1000);
    };
    let mut peer = limited(change);
    // The bucket holds a message and a read of 64 KiB.
    let mut fed = 0;
    while !peer.session.is_over() {
        fed += 56;
        peer.feed(&frame(0x82, &[0; 50]));
        assert!(fed < 70_000);
    }
    assert!(fed > SCRATCH);
    assert_eq!(peer.ended(), (1008, CloseCause::Violation, false));
    let mut peer = limited(change);
    for _ in 0..500 {
        peer.feed(&frame(0x82, &[0; 90]).repeat(9));
        peer.after(1);
    }
    assert_eq!(peer.session.phase(), Phase::Open);
}

#[test]
fn a3_what_waited_while_nobody_read_is_not_too_fast() {
    let mut peer = limited(|config| config.max_message_rate = Some(5));
    peer.session.pause(peer.now);
    peer.after(10);
    peer.session.resume(peer.now);
    assert_eq!(peer.feed(&frame(0x81, b"a").repeat(50)).len(), 50);
    assert_eq!(peer.feed(&frame(0x81, b"a").repeat(6)).len(), 5);
    assert_eq!(peer.ended().0, 1008);
}

#[test]
fn a3_a_peer_that_is_not_read_gets_pongs_in_place_of_pings() {
    let mut peer = Peer::new();
    peer.session.pause(peer.now);
    peer.after(20);
    assert_eq!(peer.written(), b"\x8A\x00");
    peer.after(1000);
    assert_eq!(peer.session.phase(), Phase::Open);
}

#[test]
fn a_lifetime_ends_behind_the_message_that_is_arriving_and_all_that_was_sent() {
    let mut peer = Peer::new();
    peer.session
        .live_until(Moment::new(Duration::from_secs(10)));
    peer.feed(&frame(0x01, b"a"));
    peer.after(10);
    assert_eq!(peer.session.phase(), Phase::Leaving);
    let whole = peer.feed(&frame(0x80, b"b"));
    assert_eq!(whole, [Event::Message(Message::from("ab"))]);
    peer.queue.push(&Message::from("c"));
    peer.session.finish(peer.now);
    // A peer that reads slowly has done no wrong: it has the usual time.
    peer.session.handle_blocked(peer.now);
    peer.after(10);
    let written = peer.written();
    assert!(written.starts_with(b"\x81\x01c\x88") && written[5..7] == [0x03, 0xE9]);
    assert_eq!(peer.session.phase(), Phase::Awaiting);
    peer.feed(&frame(0x88, b"\x03\xE9"));
    assert_eq!(peer.ended(), (1001, CloseCause::Lifetime, true));
}

#[test]
fn a12_a_leaving_server_takes_the_message_that_is_arriving() {
    let mut peer = Peer::new();
    peer.feed(&frame(0x01, b"a"));
    peer.session.leave(
        CloseFrame::known(CloseCode::GOING_AWAY, ""),
        CloseCause::Shutdown,
        peer.now,
    );
    assert_eq!(peer.session.phase(), Phase::Leaving);
    let mut rest = frame(0x80, b"b");
    rest.extend(frame(0x81, b"one more"));
    assert_eq!(peer.feed(&rest), [Event::Message(Message::from("ab"))]);
    assert_eq!(peer.session.phase(), Phase::Finishing);
    peer.session.finish(peer.now);
    assert_eq!(peer.written(), b"\x88\x02\x03\xE9");
    assert_eq!(peer.session.phase(), Phase::Awaiting);
    assert_eq!(peer.ended().1, CloseCause::Shutdown);
}

#[test]
fn s10_a_peer_that_ended_only_its_output_may_be_answered_for_half_of_the_close_timeout() {
    let half = Config::default().close_timeout / 2;
    let mut peer = Peer::new();
    peer.session.handle_end_of_input(peer.now);
    assert_eq!(peer.session.farewell(), half);

    let mut peer = Peer::new();
    peer.feed(&frame(0x88, b"\x03\xE8"));
    assert_eq!(peer.session.farewell(), FAREWELL);
}

/// The bare case: nothing comes behind the message.
#[test]
fn p3_a_leaving_server_closes_as_soon_as_the_message_that_was_arriving_is_whole() {
    let message = frame(0x81, b"0123456789");
    for lifetime in [false, true] {
        for cut in 1..message.len() {
            let mut peer = Peer::new();
            peer.session
                .live_until(Moment::new(Duration::from_secs(10)));
            peer.feed(&message[..cut]);
            if lifetime {
                peer.after(10);
            } else {
                peer.session.leave(normal(), CloseCause::Shutdown, peer.now);
            }
            assert_eq!(peer.session.phase(), Phase::Leaving, "{cut}");
            assert_eq!(peer.feed(&message[cut..]).len(), 1);
            assert_eq!(peer.session.phase(), Phase::Finishing, "{cut}");
        }
    }
}

#[test]
fn p3_a_leaving_server_closes_as_soon_as_a_large_message_is_whole() {
    let mut peer = Peer::new();
    let mut head = vec![0x82, 0xFF, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0];
    head.push(7);
    peer.feed(&head);
    peer.session.leave(normal(), CloseCause::Shutdown, peer.now);
    let mut rest = 128 * 1024 - 1;
    let mut events = Vec::new();
    while let Some(mut space) = peer.session.direct() {
        let n = rest.min(space.remaining_mut());
        space.put_bytes(7, n);
        rest -= n;
        events.extend(peer.session.handle_filled(n, peer.now));
    }
    events.extend(peer.feed(&vec![7; rest]));
    assert!(matches!(&events[..], [Event::Message(m)] if m.len() == 128 * 1024));
    assert_eq!(peer.session.phase(), Phase::Finishing);
}

#[test]
fn s3_a_leaving_server_waits_half_a_minute_for_the_message_that_is_arriving() {
    let mut peer = Peer::new();
    peer.feed(&frame(0x02, b"1"));
    peer.session.leave(normal(), CloseCause::Shutdown, peer.now);
    for _ in 0..29 {
        peer.after(1);
        peer.feed(&frame(0x00, &[0; 120]).repeat(20));
        assert_eq!(peer.session.phase(), Phase::Leaving);
    }
    peer.after(1);
    assert_eq!(peer.session.phase(), Phase::Finishing);
    peer.session.finish(peer.now);
    peer.written();
    assert_eq!(peer.session.phase(), Phase::Awaiting);
    // What goes on arriving is still understood, and not delivered.
    let mut rest = frame(0x80, b"2");
    rest.extend(frame(0x88, b"\x03\xE8"));
    assert_eq!(peer.feed(&rest).len(), 1);
    assert_eq!(peer.ended(), (1000, CloseCause::Shutdown, true));
}

#[test]
fn s3_pings_do_not_keep_an_unfinished_message_alive() {
    let mut peer = Peer::new();
    peer.feed(&frame(0x02, b"1"));
    for second in 1..=30 {
        assert_eq!(peer.session.phase(), Phase::Open, "{second}");
        peer.after(1);
        peer.feed(&frame(0x89, &[0; 120]).repeat(20));
        peer.written();
    }
    assert_eq!(peer.ended(), (1008, CloseCause::Timeout, false));
}

#[test]
fn p5_a_peer_that_is_still_reading_has_longer_to_answer_our_close() {
    let mut peer = Peer::new();
    peer.queue.push(&Message::from(vec![0; 1_600_000]));
    peer.session
        .close(normal(), CloseCause::Application, peer.now);
    peer.written();
    assert_eq!(peer.session.phase(), Phase::Awaiting);
    // 100 s of reading at 16 kB/s, less what is on its way anyway.
    peer.after(95);
    assert_eq!(peer.session.phase(), Phase::Awaiting);
    peer.after(10);
    assert_eq!(peer.session.phase(), Phase::Dead);
}

#[test]
fn p8_f33_the_output_ends_when_a_peer_that_broke_the_rules_is_silent_or_has_closed() {
    let mut peer = Peer::new();
    peer.feed(b"\x81\x01a");
    peer.session.finish(peer.now);
    peer.written();
    assert_eq!(peer.session.phase(), Phase::Draining);
    for _ in 0..4 {
        assert!(!peer.session.may_end_output());
        peer.now = peer.now + QUIET / 2;
        peer.session.handle_timeout(peer.now);
        peer.session.handle_discarded(b"and more", peer.now);
    }
    peer.now = peer.now + QUIET;
    peer.session.handle_timeout(peer.now);
    assert!(peer.session.may_end_output());
    assert_eq!(peer.session.phase(), Phase::Draining);
    let mut peer = Peer::new();
    peer.feed(&frame(0x88, b""));
    peer.session.finish(peer.now);
    peer.written();
    assert!(peer.session.may_end_output());
    // At once when its answer to our Close frame is seen in what is thrown away.
    let mut peer = Peer::new();
    peer.feed(b"\x81\x01a");
    peer.session.finish(peer.now);
    peer.written();
    let answer = frame(0x88, b"\x03\xE8");
    peer.session
        .handle_discarded(&[b"rest", &answer[..]].concat(), peer.now);
    assert!(peer.session.may_end_output());
    assert_eq!(peer.session.phase(), Phase::Draining);
}

/// RFC 6455 §5.5.1: the peer sends nothing behind its Close frame, so there is no silence to await.
#[test]
fn f33_a_close_frame_in_the_same_read_as_a_violation_ends_the_output_at_once() {
    let close = frame(0x88, b"\x03\xE8");
    let reads = [
        (1002, [b"\x81\x01a", &close[..]].concat()),
        (1007, [frame(0x81, b"\xFF"), close].concat()),
        // The frame that breaks a rule is itself a Close frame: 1005 must not be sent.
        (1002, frame(0x88, b"\x03\xED")),
    ];
    for (code, mut read) in reads {
        let mut peer = Peer::new();
        let mut at = 0;
        assert_eq!(
            peer.session.handle_input(&mut read, &mut at, peer.now),
            None
        );
        peer.session.finish(peer.now);
        peer.written();
        assert_eq!(peer.session.phase(), Phase::Draining);
        peer.session.handle_discarded(&read[at..], peer.now);
        assert!(peer.session.may_end_output(), "{read:x?}");
        assert_eq!(peer.ended(), (code, CloseCause::Violation, false));
    }
}

#[test]
fn n2_the_end_of_input_leaves_time_to_send_and_has_no_close_frame() {
    let mut peer = Peer::new();
    peer.queue.push(&Message::from("a"));
    peer.session.handle_end_of_input(peer.now);
    assert_eq!(peer.session.phase(), Phase::Finishing);
    peer.session.finish(peer.now);
    assert_eq!(peer.written(), b"\x81\x01a");
    assert_eq!(peer.session.phase(), Phase::Draining);
    assert_eq!(peer.ended(), (1006, CloseCause::Transport, false));
    assert!(peer.session.failure().is_none());
}

#[test]
fn n2_what_was_unfinished_at_the_end_of_input_is_not_kept() {
    let mut peer = Peer::new();
    peer.feed(&frame(0x02, &[0; 100])[..50]);
    assert!(peer.session.held() >= 44);
    peer.session.handle_end_of_input(peer.now);
    assert_eq!(peer.session.phase(), Phase::Finishing);
    assert_eq!(peer.session.held(), 0);
}

#[test]
fn n1_a_transport_that_fails_ends_at_once_with_an_error() {
    let mut peer = Peer::new();
    peer.session
        .handle_failure(io::ErrorKind::ConnectionReset.into());
    assert_eq!(peer.session.phase(), Phase::Dead);
    let failure = peer.session.take_failure();
    assert!(matches!(failure, Some(Failure::Io(_))));
    assert_eq!(peer.ended(), (1006, CloseCause::Transport, false));
    // Once it is over, a reset is no news.
    let mut peer = Peer::new();
    peer.feed(&frame(0x88, b""));
    peer.session
        .handle_failure(io::ErrorKind::ConnectionReset.into());
    assert!(peer.session.take_failure().is_none());
}

#[test]
fn n7_a_silent_peer_gets_1011_and_the_application_is_told_1006() {
    let mut peer = Peer::new();
    peer.after(20);
    assert_eq!(peer.written(), b"\x89\x04\0\0\0\0");
    peer.after(20);
    let failure = peer.session.take_failure().unwrap();
    assert!(matches!(failure, Failure::Timeout { .. }));
    assert_eq!(failure.close_code(), Some(CloseCode::INTERNAL_ERROR));
    peer.session.finish(peer.now);
    assert_eq!(peer.written()[2..4], 1011u16.to_be_bytes());
    assert_eq!(peer.ended(), (1006, CloseCause::Timeout, false));
}

#[test]
fn an_abort_ends_every_phase_and_keeps_what_was_decided() {
    let mut peer = Peer::new();
    assert!(peer.session.abort(peer.now).is_some());
    assert_eq!(peer.session.phase(), Phase::Dead);
    assert_eq!(peer.ended(), (1001, CloseCause::Shutdown, false));
    assert_eq!(peer.session.poll_timeout(), None);
    let mut peer = Peer::new();
    peer.feed(&frame(0x88, b""));
    assert_eq!(peer.session.abort(peer.now).unwrap(), b"\x88\0");
    assert_eq!(peer.ended(), (1005, CloseCause::Peer, false));
}

#[test]
fn n9_the_same_bytes_in_any_pieces_are_the_same_events() {
    let mut bytes = Vec::new();
    for frame in [
        frame(0x81, "grüße 🦀".as_bytes()),
        frame(0x01, "g\u{FC}".as_bytes()),
        frame(0x89, b"between"),
        frame(0x00, b""),
        frame(0x80, "🦀".as_bytes()),
        frame(0x82, &[0xFF; 100]),
        frame(0x88, &[0x03, 0xE8]),
    ] {
        bytes.extend(frame);
    }
    let whole = Peer::new().feed(&bytes);
    assert_eq!(whole.len(), 5);
    for size in 1..bytes.len() {
        let mut peer = Peer::new();
        let pieces = bytes.chunks(size).flat_map(|piece| peer.feed(piece));
        assert_eq!(pieces.collect::<Vec<_>>(), whole, "by {size}");
    }
}

/// A session in each phase; what has ended was ended by our own close.
fn in_phase(phase: Phase) -> Peer {
    let mut peer = Peer::new();
    match phase {
        Phase::Open => {}
        Phase::Leaving => {
            peer.feed(&frame(0x01, b"half"));
            peer.session.leave(normal(), CloseCause::Shutdown, peer.now);
        }
        Phase::Finishing => {
            peer.session.leave(normal(), CloseCause::Shutdown, peer.now);
        }
        _ => peer
            .session
            .close(normal(), CloseCause::Application, peer.now),
    }
    if matches!(phase, Phase::Awaiting | Phase::Draining | Phase::Dead) {
        assert_eq!(peer.written(), b"\x88\x02\x03\xE8");
    }
    if matches!(phase, Phase::Draining | Phase::Dead) {
        peer.feed(&frame(0x88, b"\x03\xE8"));
    }
    if phase == Phase::Dead {
        peer.after(5);
    }
    assert_eq!(peer.session.phase(), phase);
    peer
}

/// Every phase times everything that can happen: where it leads, and that it leads nowhere
/// else. What was decided first stands, and at most one Close frame is written.
#[test]
fn every_event_in_every_phase_leads_where_the_table_says() {
    use Phase::*;
    type Act = fn(&mut Peer);
    let all = [Open, Leaving, Finishing, Closing, Awaiting, Draining, Dead];
    let table: [(&str, Act, [Phase; 7]); 14] = [
        (
            "the peer closes",
            |peer| drop(peer.feed(&frame(0x88, b"\x03\xE9"))),
            [
                Finishing, Finishing, Finishing, Closing, Draining, Draining, Dead,
            ],
        ),
        (
            "the peer breaks the protocol",
            |peer| drop(peer.feed(&frame(0x83, b""))),
            [
                Finishing, Finishing, Finishing, Closing, Draining, Draining, Dead,
            ],
        ),
        (
            "the peer sends a message",
            |peer| drop(peer.feed(&frame(0x81, b"a"))),
            // In the middle of another one, where it leaves.
            [
                Open, Finishing, Finishing, Closing, Awaiting, Draining, Dead,
            ],
        ),
        (
            "the input ends",
            |peer| peer.session.handle_end_of_input(peer.now),
            [
                Finishing, Finishing, Finishing, Closing, Draining, Draining, Dead,
            ],
        ),
        (
            "the transport fails",
            |peer| {
                peer.session
                    .handle_failure(io::ErrorKind::BrokenPipe.into());
            },
            [Dead; 7],
        ),
        (
            "the application closes",
            |peer| {
                let frame = CloseFrame::known(CloseCode::POLICY_VIOLATION, "");
                peer.session.close(frame, CloseCause::Application, peer.now);
            },
            [Closing, Closing, Closing, Closing, Awaiting, Draining, Dead],
        ),
        (
            "the application has finished",
            |peer| peer.session.finish(peer.now),
            [Open, Leaving, Closing, Closing, Awaiting, Draining, Dead],
        ),
        (
            "the server goes down",
            |peer| {
                let frame = CloseFrame::known(CloseCode::SERVICE_RESTART, "");
                peer.session.leave(frame, CloseCause::Shutdown, peer.now);
            },
            [
                Finishing, Leaving, Finishing, Closing, Awaiting, Draining, Dead,
            ],
        ),
        (
            "the server is down",
            |peer| drop(peer.session.abort(peer.now)),
            [Dead; 7],
        ),
        (
            "all is written",
            |peer| drop(peer.written()),
            [Open, Leaving, Finishing, Awaiting, Awaiting, Draining, Dead],
        ),
        (
            "the message that was arriving is whole",
            |peer| drop(peer.feed(&frame(0x80, b""))),
            [
                Finishing, Finishing, Finishing, Closing, Draining, Draining, Dead,
            ],
        ),
        (
            "half a minute passes",
            |peer| peer.after(30),
            [Open, Finishing, Finishing, Closing, Dead, Dead, Dead],
        ),
        (
            "five seconds pass",
            |peer| peer.after(5),
            [Open, Leaving, Finishing, Closing, Dead, Dead, Dead],
        ),
        (
            "the socket takes nothing for half a minute",
            |peer| {
                peer.session.handle_blocked(peer.now);
                peer.after(30);
            },
            [Dead; 7],
        ),
    ];
    for (what, act, expected) in table {
        for (from, to) in all.into_iter().zip(expected) {
            let mut peer = in_phase(from);
            let before = peer.ended();
            act(&mut peer);
            assert_eq!(peer.session.phase(), to, "{what} in {from:?}");
            if !matches!(from, Open | Leaving) {
                let (code, initiator, _) = peer.ended();
                assert_eq!(
                    (code, initiator),
                    (before.0, before.1),
                    "{what} in {from:?}"
                );
            }
            // From there it goes on to its end, and says Close once at the most.
            let mut written = peer.written();
            peer.session.finish(peer.now);
            written.extend(peer.written());
            for _ in 0..4 {
                peer.after(60);
                peer.session.finish(peer.now);
                written.extend(peer.written());
            }
            let closes = written.windows(2).filter(|w| w[0] == 0x88).count();
            let more = match from {
                Awaiting | Draining | Dead => 0,
                _ => 1,
            };
            assert!(closes <= more, "{what} in {from:?}: {written:x?}");
            if from != Open || to != Open {
                assert_eq!(peer.session.phase(), Dead, "{what} in {from:?}");
            }
        }
    }
}
