//! A connection after the 101, as a value: bytes, requests and moments in; events, bytes
//! and deadlines out. It decides everything and touches nothing.
//!
//! It routes: frames are put together by [`Assembler`], deadlines kept by [`Deadlines`], rates by
//! [`Rates`], and how it ends is [`Closing`]'s.
//!
//! The order of calls, in a round of its driver:
//!
//! ```text
//! handle_arrival(n)                 bytes were read
//! handle_input until it is `None`   events: messages, and control frames that are dealt with
//! close, leave, finish, ping …      what the application asks for
//! poll_output until it is empty     bytes to write; then handle_written, handle_flushed, or
//!                                   handle_blocked where the socket takes no more
//! poll_timeout                      when to be woken; then handle_timeout
//! ```
//!
//! Each `handle_…` is told the time, or happens at the time of the one before. Behind any of them
//! `phase` may have changed, and `is_over` says that no more messages will come.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytes::buf::Limit;

use super::assembler::{Assembler, Received};
use super::closing::{Closing, Ending, Phase, Reply};
use super::control::{ControlQueue, ends_with_close, write_close};
use super::deadlines::{Deadlines, Due};
use super::deflate::InboundTerms;
use super::failure::Failure;
use super::frame::OpCode;
use super::rates::Rates;
use super::timers::Moment;
use super::violation::Violation;
use super::writer::{Batch, Writer};
use crate::close::{CloseCause, CloseCode, CloseEvent, CloseFrame};
use crate::config::{Config, QUIET, SCRATCH};
use crate::message::Message;

/// What the bytes of a peer amount to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// For the application.
    Message(Message),
    /// A ping or a pong, already dealt with; told for the log.
    Control(OpCode, Bytes),
    /// The same for a Close frame.
    Close(Option<CloseFrame>),
}

/// See the module docs.
#[derive(Debug)]
pub(crate) struct Session {
    config: Arc<Config>,
    assembler: Assembler,
    control: ControlQueue,
    deadlines: Deadlines,
    rates: Rates,
    closing: Closing,
}

impl Session {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self {
            deadlines: Deadlines::new(&config),
            rates: Rates::new(&config),
            config,
            assembler: Assembler::default(),
            control: ControlQueue::default(),
            closing: Closing::new(),
        }
    }

    /// Messages may be compressed.
    pub(crate) fn set_deflate(&mut self, terms: InboundTerms) {
        self.assembler.set_deflate(terms, &self.config);
        self.rates.set_largest(self.assembler.largest(&self.config));
    }

    /// The connection is to end gracefully at `at`.
    pub(crate) fn live_until(&mut self, at: Moment) {
        self.deadlines.leave_at(at);
    }

    // ---- bytes in

    /// Bytes arrived from the peer, whatever they are.
    #[inline]
    pub(crate) fn handle_arrival(&mut self, n: usize, now: Moment) {
        self.deadlines.arrived(now);
        if !self.rates.bytes(n, now, &self.config) {
            self.too_fast("more bytes in a second than this server takes", now);
        }
    }

    /// Takes from `input` at `at`, and returns the first event in it. `None`: all that has a
    /// meaning is taken, or the connection [is over](Self::is_over) with what came before, or it
    /// [was enough work](Self::take_work) for now.
    ///
    /// After a violation `at` stands before the frame that broke the rule: pass what is left to
    /// [`handle_discarded`](Self::handle_discarded).
    #[inline]
    pub(crate) fn handle_input(
        &mut self,
        input: &mut [u8],
        at: &mut usize,
        now: Moment,
    ) -> Option<Event> {
        while *at < input.len() && self.closing.is_readable() {
            let before = *at;
            let taken = self.assembler.take(input, at, &self.config);
            let none = matches!(taken, Ok(None));
            if taken.is_err() {
                // It may be a Close frame itself.
                *at = before;
            }
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
    /// Call [`handle_filled`](Self::handle_filled) with what came.
    #[inline]
    pub(crate) fn direct(&mut self) -> Option<Limit<&mut Vec<u8>>> {
        self.assembler.direct(SCRATCH, &self.config)
    }

    /// `n` bytes were read into what [`direct`](Self::direct) gave.
    pub(crate) fn handle_filled(&mut self, n: usize, now: Moment) -> Option<Event> {
        let taken = self.assembler.filled(n);
        self.interpret(taken, now)
    }

    /// The peer ended its side of the transport.
    pub(crate) fn handle_end_of_input(&mut self, now: Moment) {
        let ending = Ending::abnormal("", CloseCause::Transport);
        self.change(now, |closing| closing.peer_failed(ending));
    }

    /// The transport failed.
    pub(crate) fn handle_failure(&mut self, error: io::Error) {
        let ending = Ending::abnormal("", CloseCause::Transport).with_failure(Failure::Io(error));
        self.change(Moment::START, |closing| closing.fail(ending));
    }

    // ---- bytes out

    /// Fills an empty `batch` with what is to be written next: pings and pongs, then about
    /// 64 KiB of messages; behind the last message, our Close.
    #[inline]
    pub(crate) fn poll_output(&mut self, writer: &mut Writer, batch: &mut Batch) {
        if !self.closing.is_writable() {
            return;
        }
        if !self.control.is_empty() {
            batch.set_control(self.control.take());
        }
        if !writer.is_empty() {
            writer.take(batch);
            self.deadlines.sending();
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
    pub(crate) fn handle_blocked(&mut self, now: Moment) {
        self.deadlines.blocked(now, &self.config);
    }

    /// The socket took `n` bytes.
    #[inline]
    pub(crate) fn handle_written(&mut self, n: usize, now: Moment) {
        self.deadlines.wrote(n, now);
    }

    /// All that was to be written is written.
    #[inline]
    pub(crate) fn handle_flushed(&mut self, now: Moment) {
        self.deadlines.flushed(now, &self.config);
        if self.closing.phase() == Phase::Closing {
            self.change(now, Closing::written);
        }
    }

    /// Input that is thrown away: the rest of the read that broke a rule, then what the peer still
    /// sends.
    pub(crate) fn handle_discarded(&mut self, bytes: &[u8], now: Moment) {
        if !self.deadlines.awaits_quiet() {
            return;
        }
        if ends_with_close(bytes) {
            // It has read ours, and sends no more.
            self.deadlines.stop_receiving();
        } else {
            self.deadlines.await_quiet(now + QUIET);
        }
    }

    /// Whether the output may end in [`Phase::Draining`] although the input has not: the peer's
    /// Close frame is here, or the peer is silent.
    pub(crate) fn may_end_output(&self) -> bool {
        !self.deadlines.awaits_quiet()
    }

    // ---- requests

    /// The application, or something in its name, closes.
    pub(crate) fn close(&mut self, frame: CloseFrame, cause: CloseCause, now: Moment) {
        let ending = Ending::ours(frame, cause);
        self.change(now, |closing| closing.close(ending));
    }

    /// The server goes down: finish the message that is arriving, let the application
    /// finish with what it has, then close.
    pub(crate) fn leave(&mut self, frame: CloseFrame, cause: CloseCause, now: Moment) {
        if self.closing.phase() == Phase::Open {
            self.deadlines.leave_at(now + self.config.progress_timeout);
            let ending = Ending::ours(frame, cause);
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
        self.close(frame, CloseCause::Shutdown, now);
        let last_words = self.take_close();
        self.change(now, Closing::die);
        last_words
    }

    /// The application gives the peer up: nothing more is said or heard.
    pub(crate) fn give_up(&mut self, now: Moment) {
        let ending = Ending::abnormal("", CloseCause::Application);
        self.change(now, |closing| closing.fail(ending));
    }

    /// The output is shut down, and the input at its end.
    pub(crate) fn handle_drained(&mut self, now: Moment) {
        self.change(now, Closing::die);
    }

    /// Queues a ping of the application; it may have at most 125 bytes.
    pub(crate) fn ping(&mut self, payload: &[u8]) {
        if self.is_sendable() && !self.control.is_full() {
            self.control.ping(payload);
        }
    }

    // ---- time

    /// The driver stops reading: what the peer sent from here on is not its delay.
    pub(crate) fn pause(&mut self, now: Moment) {
        if self.closing.is_open() {
            self.deadlines.pause(now);
        }
    }

    /// The driver reads again.
    #[inline]
    pub(crate) fn resume(&mut self, now: Moment) {
        if let Some(since) = self.deadlines.resume(now, &self.config) {
            self.rates.excuse(since, now);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[inline]
    pub(crate) fn poll_timeout(&self) -> Option<Moment> {
        self.deadlines.deadline()
    }

    /// Acts on every deadline that has passed.
    pub(crate) fn handle_timeout(&mut self, now: Moment) {
        let in_frame = self.assembler.in_frame();
        while let Some(due) = self.deadlines.due(now, in_frame, &self.config) {
            match due {
                Due::Ping(payload) => self.control.ping(&payload),
                // "A unidirectional heartbeat", RFC 6455 §5.5.3: no answer is expected.
                Due::Beat => self.control.pong(b""),
                // 1006 is what the application is told; it never stands on the wire (§7.4.1).
                Due::NoPong => self.timed_out(
                    CloseCode::ABNORMAL_CLOSURE,
                    CloseCode::INTERNAL_ERROR,
                    "no pong came back",
                    now,
                ),
                Due::NotSending => {
                    let code = CloseCode::POLICY_VIOLATION;
                    self.timed_out(code, code, "a message did not arrive in time", now);
                }
                Due::NotReading => {
                    let what = "the peer does not read what is sent";
                    let close_code = None;
                    let failure = Failure::Timeout { what, close_code };
                    let ending = Ending::abnormal(what, CloseCause::Timeout).with_failure(failure);
                    self.change(now, |closing| closing.fail(ending));
                }
                Due::Idle => {
                    let frame = CloseFrame::known(CloseCode::GOING_AWAY, "idle for too long");
                    self.close(frame, CloseCause::Idle, now);
                }
                Due::Leave if self.closing.phase() == Phase::Leaving => {
                    self.change(now, Closing::leave_now);
                }
                Due::Leave => {
                    let reason = "this connection has lived as long as it may";
                    let frame = CloseFrame::known(CloseCode::GOING_AWAY, reason);
                    self.leave(frame, CloseCause::Lifetime, now);
                }
                Due::Over => self.change(now, Closing::die),
            }
        }
    }

    // ---- what is

    #[inline]
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

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
        self.closing.is_readable() && !self.control.is_full()
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

    /// Whether [`poll_output`](Self::poll_output) has something beside the messages of the queue.
    #[inline]
    pub(crate) fn has_output(&self) -> bool {
        !self.control.is_empty() || self.closing.has_close()
    }

    /// When a message came or went last.
    #[inline]
    pub(crate) fn last_message(&self) -> Moment {
        self.deadlines.last_message()
    }

    /// How long the answer to a heartbeat took that has come since the last call, in microseconds.
    /// Zero: none has.
    pub(crate) fn take_round_trip(&mut self) -> u32 {
        self.deadlines.take_round_trip()
    }

    /// Bytes of memory that are held for what is arriving.
    #[cfg(any(tower_websocket_fuzzing, test))]
    pub(crate) fn held(&self) -> usize {
        self.assembler.held()
    }

    /// What went wrong, if it has not been taken yet.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.closing.failure()
    }

    /// Takes what went wrong, for `on_error`.
    pub(crate) fn take_failure(&mut self) -> Option<Failure> {
        self.closing.take_failure()
    }

    /// How it ended; to ask when it is closed.
    pub(crate) fn close_event(&self) -> CloseEvent {
        self.closing.event()
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
                self.deadlines.received();
                self.deadlines.message(now);
                if !self.rates.message(now, &self.config) {
                    self.too_fast("more messages in a second than this server takes", now);
                    return None;
                }
                if self.closing.phase() == Phase::Open {
                    return Some(Event::Message(message));
                }
                // Whatever comes after our decision to close is not delivered (row F29).
                let is_open = self.closing.is_open();
                self.leave_between_messages(now);
                // At once: an event that is kept is copied, and most events are messages.
                return is_open.then_some(Event::Message(message));
            }
            Ok(None) => {
                if !self.assembler.is_idle() {
                    let progress = self.assembler.take_progress();
                    self.deadlines.receiving(progress, now, &self.config);
                }
                None
            }
            Ok(Some(control)) => {
                if self.assembler.is_idle() {
                    self.deadlines.received();
                }
                self.control(control, now)
            }
            Err(violation) => {
                self.violated(violation, now);
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
            self.violated(Violation::new(CloseCode::POLICY_VIOLATION, reason), now);
            return None;
        }
        match received {
            Received::Ping(payload) => {
                if self.closing.is_writable() {
                    self.control.pong(&payload);
                }
                Some(Event::Control(OpCode::Ping, payload))
            }
            Received::Pong(payload) => {
                self.deadlines.ponged(&payload, now);
                Some(Event::Control(OpCode::Pong, payload))
            }
            Received::Close(frame) => {
                let ending = Ending::answered(frame.clone());
                self.change(now, |closing| closing.peer_closed(ending));
                Some(Event::Close(frame))
            }
            Received::Message(_) => None,
        }
    }

    #[cold]
    fn too_fast(&mut self, reason: &'static str, now: Moment) {
        // What comes behind our own Close frame is thrown away as it is.
        if self.closing.is_open() {
            self.violated(Violation::new(CloseCode::POLICY_VIOLATION, reason), now);
        }
    }

    #[cold]
    fn violated(&mut self, violation: Violation, now: Moment) {
        let frame = CloseFrame::known(violation.code, violation.reason.as_ref());
        let failure = Failure::Violation(violation);
        let ending = Ending::fault(frame, CloseCause::Violation, failure);
        self.change(now, |closing| closing.peer_failed(ending));
    }

    #[cold]
    fn timed_out(&mut self, code: CloseCode, on_wire: CloseCode, what: &'static str, now: Moment) {
        let close_code = Some(on_wire);
        let failure = Failure::Timeout { what, close_code };
        let frame = CloseFrame::known(on_wire, what);
        let mut ending = Ending::fault(frame, CloseCause::Timeout, failure);
        ending.event.code = code;
        self.change(now, |closing| closing.peer_failed(ending));
    }

    /// Takes a step towards the end, and lets go of what has no meaning behind it.
    #[cold]
    fn change(&mut self, now: Moment, step: impl FnOnce(&mut Closing)) {
        let before = self.closing.phase();
        step(&mut self.closing);
        self.changed(now, before);
    }

    /// The rest of it, which is compiled once and not for each step.
    fn changed(&mut self, now: Moment, before: Phase) {
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
            Phase::Finishing => self.deadlines.stop_receiving(),
            Phase::Closing => {
                self.deadlines.stop_receiving();
                // Who broke the rules gets no more of our time to read what was queued.
                if self.closing.is_by_fault() {
                    self.deadlines.end_at(now + patience);
                }
            }
            // Our Close lies behind all that was written.
            Phase::Awaiting => self
                .deadlines
                .end_at(now + self.deadlines.behind(now) + patience),
            Phase::Draining => {
                let behind = self.deadlines.behind(now);
                self.control.take();
                self.deadlines.clear();
                let by_fault = self.closing.is_by_fault();
                let patience = if by_fault {
                    patience
                } else {
                    behind + patience
                };
                self.deadlines.end_at(now + patience);
                if !self.closing.has_peer_closed() {
                    self.deadlines.await_quiet(now + QUIET);
                }
            }
            Phase::Dead => {
                self.control.take();
                self.deadlines.clear();
            }
        }
    }
}

/// How long the application may go on sending when the peer has closed. 50 ms: enough for an
/// answer that is being made, and little beside the 5 to 10 s for which clients wait.
const FAREWELL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
