//! A connection after the 101, as a value: bytes, requests and moments in; events, bytes
//! and deadlines out. It decides everything and touches nothing.
//!
//! It routes: frames are put together by [`Assembler`], deadlines kept by [`Liveness`], rates by
//! [`Rates`], and how it ends is [`Closing`]'s.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytes::buf::Limit;

use super::assembler::{Assembler, Limits, Received, Violation};
use super::closing::{Closing, Phase};
use super::deflate::Agreed;
use super::ending::{Ending, Initiator, Outcome, Reply};
use super::frame::OpCode;
use super::lane::Lane;
use super::liveness::{Due, Liveness};
use super::rates::Rates;
use super::timers::Moment;
use super::writer::{Batch, Writer, write_close};
use crate::config::{Config, QUIET, SCRATCH};
use crate::error::{Error, Kind};
use crate::message::{CloseCode, CloseFrame, Message};

/// What the bytes of a peer amount to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// For the application.
    Message(Message),
    /// Already dealt with; told for the log.
    Control(OpCode, Bytes),
}

/// See the module docs.
#[derive(Debug)]
pub(crate) struct Session {
    config: Arc<Config>,
    assembler: Assembler,
    lane: Lane,
    live: Liveness,
    rates: Rates,
    closing: Closing,
}

impl Session {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        let limits = Limits {
            max_message: config.max_message,
            max_frame: config.max_frame,
            max_fragments: config.fragments(),
        };
        Self {
            live: Liveness::new(&config),
            rates: Rates::new(&config),
            config,
            assembler: Assembler::new(limits),
            lane: Lane::new(),
            closing: Closing::new(),
        }
    }

    /// Messages may be compressed.
    pub(crate) fn set_deflate(&mut self, agreed: Agreed) {
        self.assembler.set_deflate(agreed);
        self.rates.set_largest(self.assembler.largest());
    }

    /// The connection is to end gracefully at `at`.
    pub(crate) fn live_until(&mut self, at: Moment) {
        self.live.leave_at(at);
    }

    // ---- bytes in

    /// Bytes arrived from the peer, whatever they are.
    #[inline]
    pub(crate) fn arrived(&mut self, n: usize, now: Moment) {
        self.live.arrived(now);
        if !self.rates.bytes(n, now, &self.config) {
            self.too_fast("more bytes in a second than this server takes", now);
        }
    }

    /// Takes from `input` at `at`, and returns the first event in it. `None`: all that has a
    /// meaning is taken, or the connection [is over](Self::is_over) with what came before, or it
    /// [was enough work](Self::take_work) for now.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        input: &mut [u8],
        at: &mut usize,
        now: Moment,
    ) -> Option<Event> {
        while *at < input.len() && self.closing.is_readable() {
            let taken = self.assembler.take(input, at);
            let none = matches!(taken, Ok(None));
            let event = self.interpret(taken, now);
            if event.is_some() || none {
                return event;
            }
        }
        None
    }

    /// How much was inflated since the last call, in bytes.
    #[inline]
    pub(crate) fn take_work(&mut self, now: Moment) -> usize {
        let work = self.assembler.take_work();
        if work > 0 && !self.rates.inflated(work, now, &self.config) {
            self.too_fast(
                "more bytes inflated in a second than this server takes",
                now,
            );
        }
        work
    }

    /// The rest of a large payload may be read from the socket straight to where it stays.
    /// Call [`filled`](Self::filled) with what came.
    #[inline]
    pub(crate) fn direct(&mut self) -> Option<Limit<&mut Vec<u8>>> {
        self.assembler.direct(SCRATCH)
    }

    /// `n` bytes were read into what [`direct`](Self::direct) gave.
    pub(crate) fn filled(&mut self, n: usize, now: Moment) -> Option<Event> {
        let taken = self.assembler.filled(n);
        self.interpret(taken, now)
    }

    /// The peer ended its side of the transport.
    pub(crate) fn end_of_input(&mut self, now: Moment) {
        let ending = Ending::abnormal("", Initiator::Transport);
        self.change(now, |closing| closing.peer_failed(ending));
    }

    /// The transport failed.
    pub(crate) fn failed(&mut self, error: io::Error) {
        let error = Error::new(Kind::Io(error));
        let ending = Ending::abnormal("", Initiator::Transport).with_error(error);
        self.change(Moment::START, |closing| closing.fail(ending));
    }

    // ---- bytes out

    /// Fills an empty `batch` with what is to be written next: pings and pongs, then about
    /// 64 KiB of messages; behind the last message, our Close.
    #[inline]
    pub(crate) fn fill(&mut self, writer: &mut Writer, batch: &mut Batch) {
        if !self.closing.is_writable() {
            return;
        }
        if !self.lane.is_empty() {
            batch.set_control(self.lane.take());
        }
        writer.take(batch);
        if batch.has_messages() {
            self.live.sending();
        }
        if batch.is_empty() {
            if let Some(close) = self.take_close() {
                batch.set_control(close);
            }
        }
    }

    /// Our Close frame, if it is its turn.
    fn take_close(&mut self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.closing.take_close()? {
            Reply::Nothing => {}
            Reply::Empty => write_close(&mut bytes, None),
            Reply::Frame(frame) => write_close(&mut bytes, Some(&frame)),
        }
        Some(bytes)
    }

    /// The socket takes no more for now.
    pub(crate) fn blocked(&mut self, now: Moment) {
        self.live.blocked(now, &self.config);
    }

    /// The socket took `n` bytes.
    #[inline]
    pub(crate) fn wrote(&mut self, n: usize, now: Moment) {
        self.live.wrote(n, now);
    }

    /// All that was to be written is written.
    #[inline]
    pub(crate) fn flushed(&mut self, now: Moment) {
        self.live.flushed(now, &self.config);
        if self.closing.phase() == Phase::Closing {
            self.change(now, Closing::written);
        }
    }

    /// The peer still sends while the input is thrown away.
    pub(crate) fn discarded(&mut self, now: Moment) {
        if self.live.awaits_quiet() {
            self.live.await_quiet(now + QUIET);
        }
    }

    /// Whether the output may end in [`Phase::Draining`] although the input has not: the peer's
    /// Close frame is here, or the peer is silent.
    pub(crate) fn may_end_output(&self) -> bool {
        !self.live.awaits_quiet()
    }

    // ---- requests

    /// The application, or something in its name, closes.
    pub(crate) fn close(&mut self, frame: CloseFrame, initiator: Initiator, now: Moment) {
        let ending = Ending::ours(frame, initiator);
        self.change(now, |closing| closing.close(ending));
    }

    /// The server goes down: finish the message that is arriving, let the application
    /// finish with what it has, then close.
    pub(crate) fn leave(&mut self, frame: CloseFrame, initiator: Initiator, now: Moment) {
        if self.closing.phase() == Phase::Open {
            self.live.leave_at(now + self.config.progress_timeout);
            let ending = Ending::ours(frame, initiator);
            self.change(now, |closing| closing.leave(ending));
            self.leave_between_messages(now);
        }
    }

    /// The application is done with all that came, or is not waited for any longer.
    pub(crate) fn finish(&mut self, now: Moment) {
        self.change(now, Closing::finish);
    }

    /// The connection ends now, whatever is pending. Gives a Close frame to try to write, which is
    /// not waited for.
    pub(crate) fn abort(&mut self, now: Moment) -> Option<Vec<u8>> {
        let frame = CloseFrame::known(CloseCode::GOING_AWAY, "");
        self.close(frame, Initiator::Shutdown, now);
        let last_words = self.take_close();
        self.change(now, Closing::die);
        last_words
    }

    /// The output is shut down, and the input at its end.
    pub(crate) fn drained(&mut self, now: Moment) {
        self.change(now, Closing::die);
    }

    /// Queues a ping of the application; it may have at most 125 bytes.
    pub(crate) fn ping(&mut self, payload: &[u8]) {
        if self.is_sendable() && !self.lane.is_full() {
            self.lane.ping(payload);
        }
    }

    // ---- time

    /// The driver stops reading: what the peer sent from here on is not its delay.
    pub(crate) fn pause(&mut self, now: Moment) {
        if self.closing.is_open() {
            self.live.pause(now);
        }
    }

    /// The driver reads again.
    #[inline]
    pub(crate) fn resume(&mut self, now: Moment) {
        if let Some(since) = self.live.resume(now, &self.config) {
            self.rates.excuse(since, now);
        }
    }

    /// When to call [`expire`](Self::expire).
    #[inline]
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.live.deadline()
    }

    /// Acts on every deadline that has passed.
    pub(crate) fn expire(&mut self, now: Moment) {
        let in_frame = self.assembler.in_frame();
        while let Some(due) = self.live.due(now, in_frame, &self.config) {
            match due {
                Due::Ping(payload) => self.lane.ping(&payload),
                // "A unidirectional heartbeat", RFC 6455 §5.5.3: no answer is expected.
                Due::Beat => self.lane.pong(b""),
                // 1006 is what the application is told; it never stands on the wire (§7.4.1).
                Due::NoPong => self.timed_out(
                    CloseCode::ABNORMAL,
                    CloseCode::INTERNAL,
                    "no pong came back",
                    now,
                ),
                Due::NotSending => {
                    let code = CloseCode::POLICY;
                    self.timed_out(code, code, "a message did not arrive in time", now);
                }
                Due::NotReading => {
                    let what = "the peer does not read what is sent";
                    let error = Error::new(Kind::Timeout(what.into()));
                    let ending = Ending::abnormal(what, Initiator::Timeout).with_error(error);
                    self.change(now, |closing| closing.fail(ending));
                }
                Due::Idle => {
                    let frame = CloseFrame::known(CloseCode::GOING_AWAY, "idle for too long");
                    self.close(frame, Initiator::Timeout, now);
                }
                Due::Leave if self.closing.phase() == Phase::Leaving => {
                    self.change(now, Closing::leave_now);
                }
                Due::Leave => {
                    let reason = "this connection has lived as long as it may";
                    let frame = CloseFrame::known(CloseCode::GOING_AWAY, reason);
                    self.leave(frame, Initiator::Timeout, now);
                }
                Due::Over => self.change(now, Closing::die),
            }
        }
    }

    // ---- what is

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        self.closing.phase()
    }

    /// Whether no more messages will come.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        !self.closing.is_open()
    }

    /// Whether what is sent still goes out.
    #[inline]
    pub(crate) fn is_sendable(&self) -> bool {
        self.closing.is_sendable()
    }

    /// Whether bytes of the peer have a meaning, and room for the answers.
    #[inline]
    pub(crate) fn wants_input(&self) -> bool {
        self.closing.is_readable() && !self.lane.is_full()
    }

    /// How long the application may go on sending after the end that was decided.
    ///
    /// The answer to a peer's Close must not wait for it (RFC 6455 §5.5.1: "as soon as
    /// practical"), nor may the end of a peer that broke a rule. Whoever ended only its own output,
    /// or is told to leave, may be answered in full.
    pub(crate) fn farewell(&self) -> Duration {
        if self.closing.is_by_peer() {
            FAREWELL
        } else {
            self.config.close_timeout / 2
        }
    }

    /// Whether the peer may send only so much in a second.
    #[inline]
    pub(crate) fn is_metered(&self) -> bool {
        self.rates.is_metered()
    }

    /// Whether [`fill`](Self::fill) has something beside the messages of the queue.
    #[inline]
    pub(crate) fn has_output(&self) -> bool {
        !self.lane.is_empty() || self.closing.has_close()
    }

    /// Bytes of memory that are held for what is arriving.
    #[cfg(any(fuzzing, test))]
    pub(crate) fn held(&self) -> usize {
        self.assembler.held()
    }

    /// What went wrong, if `on_error` has not been told yet.
    pub(crate) fn error(&self) -> Option<&Error> {
        self.closing.error()
    }

    /// What `on_error` is to be told.
    pub(crate) fn take_error(&mut self) -> Option<Error> {
        self.closing.take_error()
    }

    /// How it ended; to ask when it is closed.
    pub(crate) fn outcome(&self) -> Outcome {
        self.closing.outcome()
    }

    // ---- inside

    #[inline]
    fn interpret(
        &mut self,
        taken: Result<Option<Received>, Violation>,
        now: Moment,
    ) -> Option<Event> {
        let event = match taken {
            Ok(Some(Received::Message(message))) => {
                self.live.received();
                self.live.message(now);
                if !self.rates.message(now, &self.config) {
                    self.too_fast("more messages in a second than this server takes", now);
                    return None;
                }
                // Whatever comes after our decision to close is not delivered (row F29).
                self.closing.is_open().then_some(Event::Message(message))
            }
            Ok(None) => {
                if !self.assembler.is_idle() {
                    let progress = self.assembler.take_progress();
                    self.live.receiving(progress, now, &self.config);
                }
                None
            }
            Ok(Some(control)) => {
                if self.assembler.is_idle() {
                    self.live.received();
                }
                self.control(control, now)
            }
            Err(violation) => {
                self.violated(violation.code, violation.reason, now);
                None
            }
        };
        self.leave_between_messages(now);
        event
    }

    /// A server that leaves takes the message that is arriving, and no other.
    #[inline]
    fn leave_between_messages(&mut self, now: Moment) {
        if self.closing.phase() == Phase::Leaving && self.assembler.is_idle() {
            self.change(now, Closing::leave_now);
        }
    }

    fn control(&mut self, received: Received, now: Moment) -> Option<Event> {
        if !self.rates.control(now, &self.config) {
            let reason = "more pings and pongs in a second than this server takes";
            self.violated(CloseCode::POLICY, reason.into(), now);
            return None;
        }
        match received {
            Received::Ping(payload) => {
                if self.closing.is_writable() {
                    self.lane.pong(&payload);
                }
                Some(Event::Control(OpCode::Ping, payload))
            }
            Received::Pong(payload) => {
                self.live.ponged(&payload, now);
                Some(Event::Control(OpCode::Pong, payload))
            }
            Received::Close(frame) => {
                let payload = frame.as_ref().map_or_else(Bytes::new, |frame| {
                    Bytes::from(format!("{} {}", frame.code, frame.reason))
                });
                let ending = Ending::answered(frame);
                self.change(now, |closing| closing.peer_closed(ending));
                Some(Event::Control(OpCode::Close, payload))
            }
            Received::Message(_) => None,
        }
    }

    #[cold]
    fn too_fast(&mut self, reason: &'static str, now: Moment) {
        // What comes behind our own Close frame is thrown away as it is.
        if self.closing.is_open() {
            self.violated(CloseCode::POLICY, reason.into(), now);
        }
    }

    #[cold]
    fn violated(&mut self, code: CloseCode, reason: Cow<'static, str>, now: Moment) {
        let frame = CloseFrame::known(code, reason.as_ref());
        let error = Error::new(Kind::Violation { code, reason });
        let ending = Ending::fault(frame, Initiator::Protocol, error);
        self.change(now, |closing| closing.peer_failed(ending));
    }

    #[cold]
    fn timed_out(&mut self, code: CloseCode, on_wire: CloseCode, what: &'static str, now: Moment) {
        let error = Error::new(Kind::Timeout(what.into()));
        let frame = CloseFrame::known(on_wire, what);
        let mut ending = Ending::fault(frame, Initiator::Timeout, error);
        ending.outcome.code = code;
        self.change(now, |closing| closing.peer_failed(ending));
    }

    /// Takes a step towards the end, and lets go of what has no meaning behind it.
    fn change(&mut self, now: Moment, step: impl FnOnce(&mut Closing)) {
        let before = self.closing.phase();
        step(&mut self.closing);
        if self.closing.is_input_over() {
            self.assembler.clear();
        }
        let phase = self.closing.phase();
        if phase == before {
            return;
        }
        let patience = self.config.close_timeout;
        match phase {
            Phase::Open | Phase::Leaving => {}
            Phase::Finishing => self.live.stop_receiving(),
            Phase::Closing => {
                self.live.stop_receiving();
                // Who broke the rules gets no more of our time to read what was queued.
                if self.closing.is_by_fault() {
                    self.live.end_at(now + patience);
                }
            }
            // Our Close lies behind all that was written.
            Phase::Awaiting => self.live.end_at(now + self.live.behind(now) + patience),
            Phase::Draining => {
                let behind = self.live.behind(now);
                self.lane.take();
                self.live.clear();
                let by_fault = self.closing.is_by_fault();
                let patience = if by_fault {
                    patience
                } else {
                    behind + patience
                };
                self.live.end_at(now + patience);
                if !self.closing.has_peer_closed() {
                    self.live.await_quiet(now + QUIET);
                }
            }
            Phase::Dead => {
                self.lane.take();
                self.live.clear();
            }
        }
    }
}

/// How long the application may go on sending when the peer has closed. 50 ms: enough for an
/// answer that is being made, and little beside the 5 to 10 s for which clients wait.
const FAREWELL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
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
            self.session.arrived(bytes.len(), self.now);
            let mut events = Vec::new();
            while let Some(event) = self.session.receive(&mut bytes, &mut at, self.now) {
                events.push(event);
            }
            events
        }

        fn written(&mut self) -> Vec<u8> {
            let mut out = Vec::new();
            loop {
                let mut batch = Batch::default();
                self.session.fill(&mut self.queue, &mut batch);
                if batch.is_empty() {
                    break;
                }
                while !batch.is_empty() {
                    let mut slices = [io::IoSlice::new(&[]); super::super::SLICES];
                    let n = batch.slices(&mut slices);
                    let before = out.len();
                    slices[..n].iter().for_each(|s| out.extend_from_slice(s));
                    let n = out.len() - before;
                    batch.advance(n);
                    self.session.wrote(n, self.now);
                }
            }
            self.session.flushed(self.now);
            out
        }

        fn after(&mut self, seconds: u64) {
            self.now = self.now + Duration::from_secs(seconds);
            self.session.expire(self.now);
        }

        /// Code, initiator, cleanness.
        fn ended(&self) -> (u16, Initiator, bool) {
            let outcome = self.session.outcome();
            (outcome.code.as_u16(), outcome.initiator, outcome.clean)
        }
    }

    /// A frame of a client whose mask is zero.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        out.extend_from_slice(payload);
        out
    }

    fn normal() -> CloseFrame {
        CloseFrame::known(CloseCode::NORMAL, "")
    }

    #[test]
    fn a_close_of_the_peer_is_answered_behind_what_was_sent() {
        let mut peer = Peer::new();
        peer.queue.push(Message::from("a"));
        peer.feed(&frame(0x88, &[0x03, 0xE8, b'x']));
        assert_eq!(peer.session.phase(), Phase::Finishing);
        peer.queue.push(Message::from("b"));
        peer.session.finish(peer.now);
        assert_eq!(peer.written(), b"\x81\x01a\x81\x01b\x88\x02\x03\xE8");
        assert_eq!(peer.session.phase(), Phase::Draining);
        assert_eq!(peer.ended(), (1000, Initiator::Peer, true));
    }

    #[test]
    fn f25_an_empty_close_is_answered_with_an_empty_one_and_told_as_1005() {
        let mut peer = Peer::new();
        peer.feed(&frame(0x88, b""));
        peer.session.finish(peer.now);
        assert_eq!(peer.written(), b"\x88\x00");
        assert_eq!(peer.ended(), (1005, Initiator::Peer, true));
    }

    #[test]
    fn f29_nothing_is_delivered_after_either_close() {
        let mut peer = Peer::new();
        let mut bytes = frame(0x88, b"");
        bytes.extend(frame(0x81, b"late"));
        assert_eq!(peer.feed(&bytes).len(), 1);
        let mut peer = Peer::new();
        peer.session
            .close(normal(), Initiator::Application, peer.now);
        assert_eq!(peer.feed(&frame(0x81, b"late")), []);
        assert_eq!(peer.written(), b"\x88\x02\x03\xE8");
        assert_eq!(peer.session.phase(), Phase::Awaiting);
        assert_eq!(peer.feed(&frame(0x81, b"late")), []);
        peer.feed(&frame(0x88, b""));
        assert_eq!(peer.session.phase(), Phase::Draining);
        assert_eq!(peer.ended(), (1000, Initiator::Application, true));
    }

    #[test]
    fn f31_the_answer_to_our_close_is_awaited_for_5_seconds_and_the_drain_for_5_more() {
        let mut peer = Peer::new();
        peer.session
            .close(normal(), Initiator::Application, peer.now);
        peer.written();
        peer.after(4);
        assert_eq!(peer.session.phase(), Phase::Awaiting);
        peer.after(1);
        assert_eq!(peer.session.phase(), Phase::Dead);
        assert_eq!(peer.ended(), (1000, Initiator::Application, false));
    }

    #[test]
    fn f32_when_both_close_at_once_ours_goes_out_once_and_ours_is_told() {
        let mut peer = Peer::new();
        peer.session
            .close(normal(), Initiator::Application, peer.now);
        peer.feed(&frame(0x88, &[0x03, 0xE9]));
        assert_eq!(peer.written(), b"\x88\x02\x03\xE8");
        assert_eq!(peer.session.phase(), Phase::Draining);
        assert_eq!(peer.ended(), (1000, Initiator::Application, true));
        assert_eq!(peer.written(), b"");
    }

    #[test]
    fn a_violation_is_told_as_an_error_and_on_the_wire_with_its_code() {
        let mut peer = Peer::new();
        peer.feed(b"\x81\x01a");
        assert!(peer.session.is_over() && peer.session.is_sendable());
        assert!(peer.session.take_error().unwrap().is_protocol());
        assert!(peer.session.take_error().is_none());
        peer.session.finish(peer.now);
        assert_eq!(peer.written()[2..4], 1002u16.to_be_bytes());
        assert_eq!(peer.ended(), (1002, Initiator::Protocol, false));
    }

    #[test]
    fn who_broke_the_rules_and_does_not_read_has_the_close_timeout_only() {
        let mut peer = Peer::new();
        peer.feed(b"\x81\x01a");
        peer.session.finish(peer.now);
        peer.session.blocked(peer.now);
        peer.after(5);
        assert_eq!(peer.session.phase(), Phase::Dead);
    }

    #[test]
    fn pings_are_answered_in_every_phase_before_our_close() {
        let mut peer = Peer::new();
        peer.feed(&frame(0x89, b"1"));
        assert_eq!(peer.written(), b"\x8A\x011");
        peer.session
            .close(normal(), Initiator::Application, peer.now);
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
        assert_eq!(peer.ended(), (1008, Initiator::Protocol, false));
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
        assert_eq!(peer.ended(), (1008, Initiator::Protocol, false));
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
        assert_eq!(peer.ended(), (1008, Initiator::Protocol, false));
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
        peer.queue.push(Message::from("c"));
        peer.session.finish(peer.now);
        // A peer that reads slowly has done no wrong: it has the usual time.
        peer.session.blocked(peer.now);
        peer.after(10);
        let written = peer.written();
        assert!(written.starts_with(b"\x81\x01c\x88") && written[5..7] == [0x03, 0xE9]);
        assert_eq!(peer.session.phase(), Phase::Awaiting);
        peer.feed(&frame(0x88, b"\x03\xE9"));
        assert_eq!(peer.ended(), (1001, Initiator::Timeout, true));
    }

    #[test]
    fn a12_a_leaving_server_takes_the_message_that_is_arriving() {
        let mut peer = Peer::new();
        peer.feed(&frame(0x01, b"a"));
        peer.session.leave(
            CloseFrame::known(CloseCode::GOING_AWAY, ""),
            Initiator::Shutdown,
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
        assert_eq!(peer.ended().1, Initiator::Shutdown);
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
                    peer.session.leave(normal(), Initiator::Shutdown, peer.now);
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
        peer.session.leave(normal(), Initiator::Shutdown, peer.now);
        let mut rest = 128 * 1024 - 1;
        let mut events = Vec::new();
        while let Some(mut space) = peer.session.direct() {
            let n = rest.min(space.remaining_mut());
            space.put_bytes(7, n);
            rest -= n;
            events.extend(peer.session.filled(n, peer.now));
        }
        events.extend(peer.feed(&vec![7; rest]));
        assert!(matches!(&events[..], [Event::Message(m)] if m.len() == 128 * 1024));
        assert_eq!(peer.session.phase(), Phase::Finishing);
    }

    #[test]
    fn s3_a_leaving_server_waits_half_a_minute_for_the_message_that_is_arriving() {
        let mut peer = Peer::new();
        peer.feed(&frame(0x02, b"1"));
        peer.session.leave(normal(), Initiator::Shutdown, peer.now);
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
        assert_eq!(peer.ended(), (1000, Initiator::Shutdown, true));
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
        assert_eq!(peer.ended(), (1008, Initiator::Timeout, false));
    }

    #[test]
    fn p5_a_peer_that_is_still_reading_has_longer_to_answer_our_close() {
        let mut peer = Peer::new();
        peer.queue.push(Message::from(vec![0; 1_600_000]));
        peer.session
            .close(normal(), Initiator::Application, peer.now);
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
            peer.session.expire(peer.now);
            peer.session.discarded(peer.now);
        }
        peer.now = peer.now + QUIET;
        peer.session.expire(peer.now);
        assert!(peer.session.may_end_output());
        assert_eq!(peer.session.phase(), Phase::Draining);
        let mut peer = Peer::new();
        peer.feed(&frame(0x88, b""));
        peer.session.finish(peer.now);
        peer.written();
        assert!(peer.session.may_end_output());
    }

    #[test]
    fn n2_the_end_of_input_leaves_time_to_send_and_has_no_close_frame() {
        let mut peer = Peer::new();
        peer.queue.push(Message::from("a"));
        peer.session.end_of_input(peer.now);
        assert_eq!(peer.session.phase(), Phase::Finishing);
        peer.session.finish(peer.now);
        assert_eq!(peer.written(), b"\x81\x01a");
        assert_eq!(peer.session.phase(), Phase::Draining);
        assert_eq!(peer.ended(), (1006, Initiator::Transport, false));
        assert!(peer.session.error().is_none());
    }

    #[test]
    fn n2_what_was_unfinished_at_the_end_of_input_is_not_kept() {
        let mut peer = Peer::new();
        peer.feed(&frame(0x02, &[0; 100])[..50]);
        assert!(peer.session.held() >= 44);
        peer.session.end_of_input(peer.now);
        assert_eq!(peer.session.phase(), Phase::Finishing);
        assert_eq!(peer.session.held(), 0);
    }

    #[test]
    fn n1_a_transport_that_fails_ends_at_once_with_an_error() {
        let mut peer = Peer::new();
        peer.session.failed(io::ErrorKind::ConnectionReset.into());
        assert_eq!(peer.session.phase(), Phase::Dead);
        assert!(peer.session.take_error().unwrap().is_io());
        assert_eq!(peer.ended(), (1006, Initiator::Transport, false));
        // Once it is over, a reset is no news.
        let mut peer = Peer::new();
        peer.feed(&frame(0x88, b""));
        peer.session.failed(io::ErrorKind::ConnectionReset.into());
        assert!(peer.session.take_error().is_none());
    }

    #[test]
    fn n7_a_silent_peer_gets_1011_and_the_application_is_told_1006() {
        let mut peer = Peer::new();
        peer.after(20);
        assert_eq!(peer.written(), b"\x89\x04\0\0\0\0");
        peer.after(20);
        assert!(peer.session.take_error().unwrap().is_timeout());
        peer.session.finish(peer.now);
        assert_eq!(peer.written()[2..4], 1011u16.to_be_bytes());
        assert_eq!(peer.ended(), (1006, Initiator::Timeout, false));
    }

    #[test]
    fn an_abort_ends_every_phase_and_keeps_what_was_decided() {
        let mut peer = Peer::new();
        assert!(peer.session.abort(peer.now).is_some());
        assert_eq!(peer.session.phase(), Phase::Dead);
        assert_eq!(peer.ended(), (1001, Initiator::Shutdown, false));
        assert_eq!(peer.session.deadline(), None);
        let mut peer = Peer::new();
        peer.feed(&frame(0x88, b""));
        assert_eq!(peer.session.abort(peer.now).unwrap(), b"\x88\0");
        assert_eq!(peer.ended(), (1005, Initiator::Peer, false));
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
                peer.session.leave(normal(), Initiator::Shutdown, peer.now);
            }
            Phase::Finishing => {
                peer.session.leave(normal(), Initiator::Shutdown, peer.now);
            }
            _ => peer
                .session
                .close(normal(), Initiator::Application, peer.now),
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
                |peer| peer.session.end_of_input(peer.now),
                [
                    Finishing, Finishing, Finishing, Closing, Draining, Draining, Dead,
                ],
            ),
            (
                "the transport fails",
                |peer| peer.session.failed(io::ErrorKind::BrokenPipe.into()),
                [Dead; 7],
            ),
            (
                "the application closes",
                |peer| {
                    let frame = CloseFrame::known(CloseCode::POLICY, "");
                    peer.session.close(frame, Initiator::Application, peer.now);
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
                    let frame = CloseFrame::known(CloseCode::RESTART, "");
                    peer.session.leave(frame, Initiator::Shutdown, peer.now);
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
                    peer.session.blocked(peer.now);
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
}
