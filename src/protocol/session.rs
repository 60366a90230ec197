//! A connection after the 101, as a value: bytes, requests and instants in; events, bytes
//! and deadlines out. It decides everything and touches nothing.
//!
//! The end of a connection goes through [`Phase`]: inbound is over and the application may
//! finish (`Finishing`), what it sent goes out and a Close frame behind it (`Closing`), the
//! peer's Close is awaited where we were first (`Awaiting`), the output is shut down and
//! what still arrives is thrown away, so that no RST eats our Close frame (`Draining`).

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytes::buf::Limit;

use super::assembler::{Assembler, Limits, Received, Violation};
use super::frame::OpCode;
use super::timers::{Progress, Timer, Timers};
use super::writer::{Batch, Writer, write_close, write_control};
use crate::config::{CONTROL_LANE, Config, SCRATCH};
use crate::error::{Error, Kind};
use crate::message::{CloseCode, CloseFrame, CloseReason, Message};

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Initiator {
    /// The peer sent the first Close frame.
    Peer,
    /// The application called `close`, returned an error, or panicked.
    Application,
    /// [`Shutdown`](crate::Shutdown) drained the server.
    Shutdown,
    /// A deadline passed: heartbeat, progress, idle.
    Timeout,
    /// The peer broke the protocol or a limit.
    Protocol,
    /// The transport ended or failed without a Close frame.
    Transport,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) code: CloseCode,
    pub(crate) reason: CloseReason,
    pub(crate) initiator: Initiator,
    /// Both Close frames were exchanged.
    pub(crate) clean: bool,
}

/// What the bytes of a peer amount to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// For the application.
    Message(Message),
    /// Already dealt with; told for the log.
    Control(OpCode, Bytes),
}

/// Where a connection stands; see the module docs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// Nothing more will be delivered; the application finishes and may still send.
    Finishing,
    /// The queue is closed, what is in it is written, then our Close.
    Closing,
    /// Our Close is written, the peer's has not arrived.
    Awaiting,
    /// All is said; the output is shut down, the input thrown away.
    Draining,
    /// Nothing more to do.
    Dead,
}

/// See the module docs.
#[derive(Debug)]
pub(crate) struct Session {
    config: Arc<Config>,
    assembler: Assembler,
    phase: Phase,
    /// Pings and pongs that wait to be written: the control lane.
    lane: Vec<u8>,
    /// Where the last frame in the lane begins, if it is a pong.
    last_pong: Option<usize>,
    timers: Timers,
    last_received: Instant,
    last_message: Instant,
    /// The payload of the ping that waits for its pong.
    ping: Option<[u8; 4]>,
    pings: u32,
    control_since: Instant,
    control_count: u32,
    reading: Option<Progress>,
    writing: Option<Progress>,
    /// When the socket last took bytes after it had been full.
    last_room: Option<Instant>,
    /// Since when the driver does not read, and the pong deadline that was stopped.
    paused: Option<(Instant, Option<Instant>)>,
    /// The Close frame to send; `None` inside for an empty one. Taken when it is written.
    close: Option<Option<CloseFrame>>,
    /// Our Close has been handed to the driver.
    close_taken: bool,
    /// We were first: wait for the peer's Close.
    await_peer: bool,
    peer_closed: bool,
    /// The input has ended, or has lost its meaning.
    input_over: bool,
    /// Leave with this at the end of the message that is arriving.
    leaving: Option<CloseFrame>,
    outcome: Option<Box<Outcome>>,
    clean: bool,
    error: Option<Error>,
}

impl Session {
    pub(crate) fn new(config: Arc<Config>, now: Instant) -> Self {
        let limits = Limits {
            max_message: config.max_message,
            max_frame: config.max_frame,
            max_fragments: config.max_fragments,
        };
        let mut timers = Timers::default();
        if let Some(silence) = config.heartbeat {
            timers.set(Timer::Heartbeat, now + silence);
        }
        if let Some(idle) = config.idle_timeout {
            timers.set(Timer::Idle, now + idle);
        }
        Self {
            config,
            assembler: Assembler::new(limits),
            phase: Phase::Open,
            lane: Vec::new(),
            last_pong: None,
            timers,
            last_received: now,
            last_message: now,
            ping: None,
            pings: 0,
            control_since: now,
            control_count: 0,
            reading: None,
            writing: None,
            last_room: None,
            paused: None,
            close: None,
            close_taken: false,
            await_peer: false,
            peer_closed: false,
            input_over: false,
            leaving: None,
            outcome: None,
            clean: false,
            error: None,
        }
    }

    // ---- bytes in

    /// Bytes arrived from the peer, whatever they are.
    #[inline]
    pub(crate) fn arrived(&mut self, n: usize, now: Instant) {
        self.last_received = now;
        if let Some(reading) = &mut self.reading {
            reading.add(n);
        }
    }

    /// Takes from `input` at `at`, and returns the first event in it. `None`: all that has a
    /// meaning is taken, or the connection [is over](Self::is_over) with what came before.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        input: &mut [u8],
        at: &mut usize,
        now: Instant,
    ) -> Option<Event> {
        while *at < input.len() {
            if self.stop_reading() {
                return None;
            }
            let before = *at;
            let taken = self.assembler.take(input, at);
            let event = self.interpret(taken, *at - before, now);
            if event.is_some() {
                return event;
            }
        }
        self.stop_reading();
        None
    }

    /// The rest of a large payload may be read from the socket straight to where it stays.
    /// Call [`filled`](Self::filled) with what came.
    #[inline]
    pub(crate) fn direct(&mut self) -> Option<Limit<&mut Vec<u8>>> {
        self.assembler.direct(SCRATCH)
    }

    /// `n` bytes were read into what [`direct`](Self::direct) gave.
    pub(crate) fn filled(&mut self, n: usize, now: Instant) -> Option<Event> {
        let taken = self.assembler.filled(n);
        let event = self.interpret(taken, n, now);
        self.stop_reading();
        event
    }

    /// The peer ended its side of the transport.
    pub(crate) fn end_of_input(&mut self, now: Instant) {
        match self.phase {
            Phase::Open => {
                self.settle(CloseCode::ABNORMAL, "", Initiator::Transport);
                self.close = None;
                self.finish();
            }
            Phase::Awaiting => self.drain(now),
            _ => {}
        }
        self.input_over = true;
    }

    /// The transport failed.
    pub(crate) fn failed(&mut self, error: io::Error) {
        if self.phase == Phase::Open {
            self.settle(CloseCode::ABNORMAL, "", Initiator::Transport);
            self.error.get_or_insert(Error::new(Kind::Io(error)));
        }
        self.die();
    }

    // ---- bytes out

    /// Fills an empty `batch` with what is to be written next: pings and pongs, then about
    /// 64 KiB of messages; behind the last message, our Close.
    #[inline]
    pub(crate) fn fill(&mut self, writer: &mut Writer, batch: &mut Batch) {
        if self.close_taken || matches!(self.phase, Phase::Draining | Phase::Dead) {
            return;
        }
        if !self.lane.is_empty() {
            self.last_pong = None;
            batch.set_control(std::mem::take(&mut self.lane));
        }
        writer.take(batch);
        if self.phase == Phase::Closing && batch.is_empty() {
            if let Some(frame) = self.close.take() {
                let mut bytes = Vec::new();
                write_close(&mut bytes, frame.as_ref());
                batch.set_control(bytes);
            }
            self.close_taken = true;
        }
    }

    /// The socket takes no more for now.
    pub(crate) fn blocked(&mut self, now: Instant) {
        if self.writing.is_none() {
            let writing = Progress::begin(now);
            self.timers
                .set(Timer::Send, writing.deadline(self.config.progress_timeout));
            self.writing = Some(writing);
        }
    }

    /// The socket took `n` bytes.
    #[inline]
    pub(crate) fn wrote(&mut self, n: usize, now: Instant) {
        self.last_message = now;
        if let Some(writing) = &mut self.writing {
            self.last_room = Some(now);
            writing.add(n);
            // Time earned long ago must not pay for a stall of today.
            if writing.moved() >= SCRATCH {
                *writing = Progress::begin(now);
            }
        }
    }

    /// All that was to be written is written.
    #[inline]
    pub(crate) fn flushed(&mut self, now: Instant) {
        if self.writing.take().is_some() {
            self.timers.stop(Timer::Send);
        }
        if self.phase == Phase::Closing && self.close_taken {
            if self.await_peer && !self.peer_closed && !self.input_over {
                self.phase = Phase::Awaiting;
                self.timers
                    .set(Timer::Close, now + self.config.close_timeout);
            } else {
                self.drain(now);
            }
        }
    }

    // ---- requests

    /// The application, or something in its name, closes.
    pub(crate) fn close(&mut self, frame: CloseFrame, initiator: Initiator, now: Instant) {
        match self.phase {
            Phase::Open => {
                self.settle_with(&frame, initiator);
                self.close = Some(Some(frame));
                self.await_peer = true;
                self.begin_closing(now);
            }
            // What was decided stands; only the time for the application is over.
            Phase::Finishing => self.begin_closing(now),
            _ => {}
        }
    }

    /// The server goes down: finish the message that is arriving, let the application
    /// finish with what it has, then close.
    pub(crate) fn leave(&mut self, frame: CloseFrame) {
        if self.phase == Phase::Open {
            self.leaving = Some(frame);
            self.stop_reading();
        }
    }

    /// The application has finished after the end of the input.
    pub(crate) fn finished(&mut self, now: Instant) {
        if self.phase == Phase::Finishing {
            self.begin_closing(now);
        }
    }

    /// The connection ends now, whatever is pending.
    pub(crate) fn abort(&mut self) {
        if self.phase == Phase::Open {
            self.settle(CloseCode::GOING_AWAY, "", Initiator::Shutdown);
        }
        self.die();
    }

    /// Queues a ping of the application; it may have at most 125 bytes.
    pub(crate) fn ping(&mut self, payload: &[u8]) {
        if matches!(self.phase, Phase::Open | Phase::Finishing) && self.lane.len() < CONTROL_LANE {
            self.last_pong = None;
            write_control(&mut self.lane, OpCode::Ping, payload);
        }
    }

    // ---- time

    /// The driver stops reading: what the peer sent from here on is not its delay.
    pub(crate) fn pause(&mut self, now: Instant) {
        if self.paused.is_none() {
            self.paused = Some((now, self.timers.get(Timer::Pong)));
            self.timers.stop(Timer::Pong);
            self.timers.stop(Timer::Receive);
        }
    }

    /// The driver reads again.
    pub(crate) fn resume(&mut self, now: Instant) {
        if let Some((since, pong)) = self.paused.take() {
            let pause = now.saturating_duration_since(since);
            if let Some(at) = pong {
                self.timers.set(Timer::Pong, at + pause);
            }
            if let Some(reading) = &mut self.reading {
                reading.excuse(pause);
                self.timers.set(
                    Timer::Receive,
                    reading.deadline(self.config.progress_timeout),
                );
            }
            self.last_received += pause;
        }
    }

    /// When to call [`expire`](Self::expire).
    #[inline]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Acts on every deadline that has passed.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(timer) = self.timers.expired(now) {
            match timer {
                Timer::Heartbeat => self.heartbeat(now),
                Timer::Pong => self.pong_missing(now),
                Timer::Receive => self.receive_stalled(now),
                Timer::Send => self.send_stalled(now),
                Timer::Idle => self.idle(now),
                Timer::Close | Timer::Drain => self.die(),
            }
        }
    }

    // ---- what is

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether no more messages will come.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.phase != Phase::Open
    }

    /// Whether what is sent still goes out.
    #[inline]
    pub(crate) fn is_sendable(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Finishing)
    }

    /// Whether bytes of the peer have a meaning, and room for the answers.
    #[inline]
    pub(crate) fn wants_input(&self) -> bool {
        !self.input_over
            && self.lane.len() < CONTROL_LANE
            && matches!(self.phase, Phase::Open | Phase::Closing | Phase::Awaiting)
    }

    /// Whether [`fill`](Self::fill) has something beside the messages of the queue.
    #[inline]
    pub(crate) fn has_output(&self) -> bool {
        !self.lane.is_empty() || self.phase == Phase::Closing && !self.close_taken
    }

    /// What went wrong, if `on_error` has not been told yet.
    pub(crate) fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// What `on_error` is to be told.
    pub(crate) fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }

    /// How it ended; to ask when it is closed.
    pub(crate) fn outcome(&self) -> Outcome {
        match &self.outcome {
            Some(outcome) => Outcome {
                clean: self.clean,
                ..Outcome::clone(outcome)
            },
            None => Outcome {
                code: CloseCode::ABNORMAL,
                reason: CloseReason::EMPTY,
                initiator: Initiator::Transport,
                clean: false,
            },
        }
    }

    // ---- inside

    #[inline]
    fn interpret(
        &mut self,
        taken: Result<Option<Received>, Violation>,
        n: usize,
        now: Instant,
    ) -> Option<Event> {
        match taken {
            Ok(Some(Received::Message(message))) => {
                self.reading = None;
                self.last_message = now;
                if self.phase == Phase::Open {
                    return Some(Event::Message(message));
                }
                // Whatever comes after our decision to close is not delivered (row F29).
                None
            }
            Ok(None) => {
                if self.reading.is_none() && !self.assembler.is_idle() {
                    let mut reading = Progress::begin(now);
                    reading.add(n);
                    self.timers.set(
                        Timer::Receive,
                        reading.deadline(self.config.progress_timeout),
                    );
                    self.reading = Some(reading);
                }
                None
            }
            Ok(Some(control)) => {
                if self.assembler.is_idle() {
                    self.reading = None;
                }
                self.control(control, now)
            }
            Err(violation) => {
                self.violated(violation.code, violation.reason, now);
                None
            }
        }
    }

    fn control(&mut self, received: Received, now: Instant) -> Option<Event> {
        if now.saturating_duration_since(self.control_since) >= Duration::from_secs(1) {
            self.control_since = now;
            self.control_count = 0;
        }
        self.control_count += 1;
        if self.control_count > self.config.max_control_rate {
            self.violated(
                CloseCode::POLICY,
                "more pings and pongs in a second than this server takes".into(),
                now,
            );
            return None;
        }
        match received {
            Received::Ping(payload) => {
                if !self.close_taken {
                    self.pong(&payload);
                }
                Some(Event::Control(OpCode::Ping, payload))
            }
            Received::Pong(payload) => {
                // RFC 6455 §5.5.3: unsolicited pongs are allowed; they answer nothing.
                if self.ping.is_some_and(|ping| payload == ping[..]) {
                    self.ping = None;
                    self.timers.stop(Timer::Pong);
                }
                Some(Event::Control(OpCode::Pong, payload))
            }
            Received::Close(frame) => {
                let payload = frame.as_ref().map_or_else(Bytes::new, |frame| {
                    Bytes::from(format!("{} {}", frame.code, frame.reason))
                });
                self.peer_closes(frame, now);
                Some(Event::Control(OpCode::Close, payload))
            }
            Received::Message(_) => None,
        }
    }

    fn pong(&mut self, payload: &[u8]) {
        let mut frame = Vec::with_capacity(2 + payload.len());
        write_control(&mut frame, OpCode::Pong, payload);
        // Equal pings need one answer (RFC 6455 §5.5.3).
        if self.last_pong.is_some_and(|at| self.lane[at..] == frame) {
            return;
        }
        self.last_pong = Some(self.lane.len());
        self.lane.append(&mut frame);
    }

    fn peer_closes(&mut self, frame: Option<CloseFrame>, now: Instant) {
        self.peer_closed = true;
        self.input_over = true;
        self.stop_receiving();
        match self.phase {
            Phase::Open => {
                match &frame {
                    Some(frame) => self.settle_with(frame, Initiator::Peer),
                    None => self.settle(CloseCode::NO_STATUS, "", Initiator::Peer),
                }
                // "the endpoint typically echos the status code it received" (§5.5.1);
                // the reason was ours to read, not to repeat.
                self.close = Some(frame.map(|frame| CloseFrame::known(frame.code, "")));
                self.finish();
            }
            Phase::Awaiting => self.drain(now),
            _ => {}
        }
    }

    #[cold]
    fn violated(&mut self, code: CloseCode, reason: Cow<'static, str>, now: Instant) {
        self.input_over = true;
        self.stop_receiving();
        match self.phase {
            Phase::Open => {
                self.settle(code, &reason, Initiator::Protocol);
                self.close = Some(Some(CloseFrame::known(code, reason.as_ref())));
                self.error = Some(Error::new(Kind::Violation { code, reason }));
                self.finish();
            }
            Phase::Awaiting => self.drain(now),
            _ => {}
        }
    }

    #[cold]
    fn timed_out(&mut self, code: CloseCode, what: &'static str, on_wire: CloseCode, now: Instant) {
        self.input_over = true;
        self.stop_receiving();
        if self.phase == Phase::Open {
            self.settle(code, what, Initiator::Timeout);
            self.close = Some(Some(CloseFrame::known(on_wire, what)));
            self.error = Some(Error::new(Kind::Timeout(what.into())));
            self.finish();
        } else if self.phase == Phase::Awaiting {
            self.drain(now);
        }
    }

    fn heartbeat(&mut self, now: Instant) {
        let Some(silence) = self.config.heartbeat else {
            return;
        };
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        let due = self.last_received + silence;
        if due > now {
            self.timers.set(Timer::Heartbeat, due);
            return;
        }
        self.timers.set(Timer::Heartbeat, now + silence);
        if self.paused.is_none() && self.ping.is_none() {
            let payload = self.pings.to_be_bytes();
            self.pings = self.pings.wrapping_add(1);
            self.ping = Some(payload);
            self.last_pong = None;
            write_control(&mut self.lane, OpCode::Ping, &payload);
            self.timers.set(Timer::Pong, now + self.config.pong_timeout);
        }
    }

    fn pong_missing(&mut self, now: Instant) {
        // The pong stands behind the rest of a frame, or our ping behind a queue that the
        // peer is reading; the progress rules watch those.
        let moving = self.last_room.map(|at| at + self.config.pong_timeout);
        if self.assembler.in_frame() {
            self.timers.set(Timer::Pong, now + self.config.pong_timeout);
        } else if let Some(at) = moving.filter(|at| *at > now) {
            self.timers.set(Timer::Pong, at);
        } else {
            self.timed_out(
                CloseCode::ABNORMAL,
                "no pong came back",
                CloseCode::INTERNAL,
                now,
            );
        }
    }

    fn receive_stalled(&mut self, now: Instant) {
        let Some(reading) = &self.reading else {
            return;
        };
        let deadline = reading.deadline(self.config.progress_timeout);
        if deadline > now {
            self.timers.set(Timer::Receive, deadline);
        } else {
            let code = CloseCode::POLICY;
            self.timed_out(code, "a message did not arrive in time", code, now);
        }
    }

    fn send_stalled(&mut self, now: Instant) {
        let Some(writing) = &self.writing else {
            return;
        };
        let deadline = writing.deadline(self.config.progress_timeout);
        if deadline > now {
            self.timers.set(Timer::Send, deadline);
            return;
        }
        if self.phase == Phase::Open {
            let what = "the peer does not read what is sent";
            self.settle(CloseCode::ABNORMAL, what, Initiator::Timeout);
            self.error = Some(Error::new(Kind::Timeout(what.into())));
        }
        self.die();
    }

    fn idle(&mut self, now: Instant) {
        let Some(idle) = self.config.idle_timeout else {
            return;
        };
        let due = self.last_message + idle;
        if due > now {
            self.timers.set(Timer::Idle, due);
        } else {
            let frame = CloseFrame::known(CloseCode::GOING_AWAY, "idle for too long");
            self.close(frame, Initiator::Timeout, now);
        }
    }

    /// Whether reading ends here; starts to leave at the end of a message.
    #[inline]
    fn stop_reading(&mut self) -> bool {
        if self.leaving.is_some() && self.phase == Phase::Open && self.assembler.is_idle() {
            if let Some(frame) = self.leaving.take() {
                self.settle_with(&frame, Initiator::Shutdown);
                self.close = Some(Some(frame));
                self.await_peer = true;
                self.finish();
            }
        }
        self.input_over || !matches!(self.phase, Phase::Open | Phase::Closing | Phase::Awaiting)
    }

    fn stop_receiving(&mut self) {
        self.assembler.clear();
        self.reading = None;
        for timer in [Timer::Receive, Timer::Pong, Timer::Heartbeat, Timer::Idle] {
            self.timers.stop(timer);
        }
    }

    fn finish(&mut self) {
        self.phase = Phase::Finishing;
        for timer in [Timer::Receive, Timer::Pong, Timer::Heartbeat, Timer::Idle] {
            self.timers.stop(timer);
        }
    }

    fn begin_closing(&mut self, now: Instant) {
        self.phase = Phase::Closing;
        for timer in [Timer::Pong, Timer::Heartbeat, Timer::Idle, Timer::Receive] {
            self.timers.stop(timer);
        }
        // Who broke the rules gets no more of our time to read what was queued.
        let initiator = self.outcome.as_ref().map(|outcome| outcome.initiator);
        if matches!(initiator, Some(Initiator::Protocol | Initiator::Timeout)) {
            self.timers
                .set(Timer::Close, now + self.config.close_timeout);
        }
    }

    fn drain(&mut self, now: Instant) {
        self.phase = Phase::Draining;
        self.clean = self.peer_closed && self.close_taken;
        self.assembler.clear();
        self.lane = Vec::new();
        self.timers = Timers::default();
        self.timers
            .set(Timer::Drain, now + self.config.close_timeout);
    }

    fn die(&mut self) {
        self.phase = Phase::Dead;
        self.input_over = true;
        self.assembler.clear();
        self.lane = Vec::new();
        self.timers = Timers::default();
    }

    fn settle(&mut self, code: CloseCode, reason: &str, initiator: Initiator) {
        self.settle_with(&CloseFrame::known(code, reason), initiator);
    }

    fn settle_with(&mut self, frame: &CloseFrame, initiator: Initiator) {
        self.outcome.get_or_insert_with(|| {
            Box::new(Outcome {
                code: frame.code,
                reason: frame.reason.clone(),
                initiator,
                clean: false,
            })
        });
    }
}
