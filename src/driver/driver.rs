//! [`Driver`]: connects the transport, the session, the link and the clock of one connection, and
//! limits its turns and how long it waits for the application.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::clock::Clock;
use super::patience::{Patience, Verdict};
use super::transport::Transport;
use super::turn::{Turn, let_others_run};
use super::upgraded::Look;
use crate::close::{CloseCause, CloseEvent, CloseFrame};
use crate::config::{Config, FORCED};
#[cfg(feature = "metrics")]
use crate::connection::Traffic;
use crate::connection::{ABORT, ASKED, Connection, EVENT, Item, Link, OUTPUT, woken_here};
use crate::error::Error;
use crate::logging::{self, MAX_TEXT, quote};
use crate::message::Message;
use crate::protocol::{Event, Failure, Moment, OpCode, Phase, Session, earlier};
use crate::{jitter, measure};

/// See the module docs.
pub(crate) struct Driver<IO> {
    transport: Transport<IO>,
    link: Arc<Link>,
    session: Session,
    clock: Clock,
    patience: Patience,
    /// When the callback began that runs, if it is timed.
    began: Option<Moment>,
    turn: Turn,
    /// A large message that was read without going through the transport's buffer.
    direct: Option<Box<Message>>,
    /// There may be something in the queue.
    queued: bool,
    /// Messages were put into the inbox.
    delivered: bool,
    /// The inbox is full.
    full: bool,
    /// The phase that the queue and the inbox know of.
    seen: Phase,
    /// What was received and is not in the metrics yet: those are shared by all threads.
    #[cfg(feature = "metrics")]
    unreported: Traffic,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Driver<IO> {
    pub(crate) fn new(io: IO, link: Arc<Link>, config: Arc<Config>) -> Self {
        // Connections that opened together do not all come back together.
        let by_layer = |most: Duration| most.saturating_sub(jitter::up_to(most / 10));
        let ages = [config.max_lifetime.map(by_layer), link.info.lifetime()];
        let mut session = Session::new(config);
        if let Some(terms) = link.inbound() {
            session.set_deflate(terms);
        }
        if let Some(age) = ages.into_iter().flatten().min() {
            session.live_until(Moment::new(age));
        }
        Self {
            transport: Transport::new(io),
            link,
            session,
            clock: Clock::new(),
            patience: Patience::default(),
            began: None,
            turn: Turn::none(),
            direct: None,
            queued: true,
            delivered: false,
            full: false,
            seen: Phase::Open,
            #[cfg(feature = "metrics")]
            unreported: Traffic::default(),
        }
    }

    /// What was found when the socket was looked at, in this poll of the task.
    pub(crate) fn begin_with(&mut self, look: Look) {
        self.transport.begin_with(look);
    }

    /// The application's view of it.
    pub(crate) fn connection(&self) -> Connection {
        Connection::new(self.link.clone())
    }

    /// Sets the waker that is woken when something is asked of the connection.
    pub(crate) fn set_driver(&mut self, waker: &Waker) {
        self.link.set_driver(waker);
    }

    /// What the next callback is for; `None` when there will be no more.
    #[inline]
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        if self.is_turn_over() {
            return self.give_way(cx);
        }
        self.full = false;
        if let Some(item) = self.next_delivered() {
            return Poll::Ready(Some(item));
        }
        loop {
            self.take_signals(cx);
            if let Some(item) = self.next_delivered() {
                return Poll::Ready(Some(item));
            }
            if let Some(message) = self.decode() {
                return Poll::Ready(Some(Item::Message(message)));
            }
            if self.session.is_over() {
                return Poll::Ready(None);
            }
            ready!(self.poll_io(cx));
        }
    }

    /// Everything but the application, while one of its callbacks is pending. `Ok`: there is
    /// something for it, so poll it again. `Err`: it is not waited for any longer.
    pub(super) fn poll_beside(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Verdict>> {
        if !self.patience.is_counting() {
            let now = self.look();
            self.patience.waits(now, self.session.config());
        }
        loop {
            let mut again = self.take_signals(cx);
            again |= self.read_ahead(cx);
            // Behind what was decoded: a Close frame in it brings no other wake-up.
            if self.session.is_over() {
                again |= self.see_phase(cx);
                self.see_end();
            }
            match self.patience.verdict(self.clock.now()) {
                Some(verdict @ (Verdict::Abandon | Verdict::Late)) => {
                    return Poll::Ready(Err(verdict));
                }
                Some(Verdict::Farewell) => {
                    self.finish();
                    again |= self.see_phase(cx);
                }
                None => {}
            }
            if again {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_io(cx));
        }
    }

    /// Everything but the application, until the connection is `closed`, or else done with.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>, closed: bool) -> Poll<()> {
        self.patience.clear();
        loop {
            self.take_signals(cx);
            // What still comes is looked at for a Close frame and dropped.
            if self.decode().is_some() {
                continue;
            }
            let phase = self.session.phase();
            if phase == Phase::Dead {
                // Not waited for: the peer had its time.
                let _ = self.transport.poll_shutdown(cx);
                return Poll::Ready(());
            }
            if closed && phase == Phase::Draining {
                return Poll::Ready(());
            }
            ready!(self.poll_io(cx));
        }
    }

    /// Whether no more messages will come, the latest requests considered.
    ///
    /// `Sender::close` in another thread closes the queue first and signals then. A callback that
    /// finds the queue closed in between must not seem to have failed before.
    pub(crate) fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.take_requests();
        self.take_signals(cx);
        self.session.is_over()
    }

    /// The application is done with all that came.
    pub(crate) fn finish(&mut self) {
        let now = self.time();
        self.session.finish(now);
    }

    /// Closes in the name of the application.
    pub(crate) fn close(&mut self, frame: CloseFrame, cause: CloseCause) {
        let now = self.time();
        self.session.close(frame, cause, now);
    }

    /// The callback that comes next has the timeout of `on_message`, if there is one.
    #[inline]
    pub(crate) fn be_patient(&mut self) {
        self.callback_begins();
        self.patience.begin(self.session.config());
    }

    /// A callback begins: notes when, if anybody wants to know how long it takes.
    #[inline]
    pub(crate) fn callback_begins(&mut self) {
        if measure::times_callbacks(self.session.config().slow_callback) {
            self.began = Some(self.clock.peek());
        }
    }

    /// The callback has ended, in whatever way.
    #[inline]
    pub(super) fn callback_ended(&mut self, name: &'static str) {
        self.patience.returned();
        if let Some(began) = self.began.take() {
            let took = self.clock.peek().since(began);
            measure::callback(name, took);
            // It may run for as long as the connection.
            if name != "on_open" {
                logging::slow(name, took, self.session.config().slow_callback);
            }
        }
    }

    /// The callback that comes next has the close timeout, and no more.
    pub(crate) fn limit(&mut self) {
        self.callback_begins();
        self.patience.begin_last();
    }

    pub(crate) fn take_error(&mut self) -> Option<Error> {
        self.session.take_failure().map(Error::from)
    }

    pub(crate) fn close_event(&self) -> CloseEvent {
        self.session.close_event()
    }

    // ---- the application

    /// What was put where the next callbacks find it.
    #[inline]
    fn next_delivered(&mut self) -> Option<Item> {
        if !self.delivered {
            return None;
        }
        let item = self.link.next_item();
        if item.is_some() {
            self.turn.message();
        } else {
            self.delivered = false;
        }
        item
    }

    /// Puts what arrives while a callback runs where `recv` and the next callbacks find it.
    /// Whether the callback waits for it.
    fn read_ahead(&mut self, cx: &mut Context<'_>) -> bool {
        let mut again = false;
        loop {
            let turn_over = self.is_turn_over();
            self.full = self.link.is_inbox_full();
            if self.full || turn_over {
                return again;
            }
            let Some(message) = self.decode() else {
                return again;
            };
            self.delivered = true;
            if let Some(waker) = self.link.deliver(message) {
                wake_other(&waker, cx);
                again = true;
            }
            // The callback handles these before more is decoded, and before the clock is read.
            if again && self.turn.wants_look() {
                return true;
            }
        }
    }

    /// Starts the farewell when the end is first seen, and notes which messages the application has
    /// taken since.
    fn see_end(&mut self) {
        let (now, waiting) = (self.clock.now(), self.link.inbox_len());
        if self.patience.knows_end() {
            self.patience.waiting(waiting, now);
        } else {
            let farewell = self.session.farewell();
            let close_timeout = self.session.config().close_timeout;
            self.patience.ended(farewell, close_timeout, waiting, now);
        }
    }

    /// Tells the queue and the inbox how the connection stands, if that has changed. Whether the
    /// callback waits for it.
    #[inline]
    fn see_phase(&mut self, cx: &mut Context<'_>) -> bool {
        let phase = self.session.phase();
        if phase == self.seen {
            return false;
        }
        self.phase_changed(phase, cx)
    }

    #[cold]
    fn phase_changed(&mut self, phase: Phase, cx: &mut Context<'_>) -> bool {
        let before = std::mem::replace(&mut self.seen, phase);
        let was_open = matches!(before, Phase::Open | Phase::Leaving);
        let is_sendable = self.session.is_sendable();
        let discards = |phase| matches!(phase, Phase::Draining | Phase::Dead);
        if !is_sendable && !discards(before) {
            self.link.end_output(discards(phase));
        }
        if !was_open || !self.session.is_over() {
            return false;
        }
        let failure = self
            .session
            .failure()
            .map(Failure::duplicate)
            .map(Error::from);
        let mut again = false;
        for waker in self
            .link
            .end_input(failure, !is_sendable)
            .into_iter()
            .flatten()
        {
            wake_other(&waker, cx);
            again = true;
        }
        again
    }

    /// Acts on what is asked of the connection. Whether the callback waits for what came of it.
    #[inline]
    fn take_signals(&mut self, cx: &mut Context<'_>) -> bool {
        let signals = self.link.take_signals();
        if signals != 0 {
            self.queued |= signals & OUTPUT != 0;
            self.delivered |= signals & EVENT != 0;
            if signals & !(OUTPUT | EVENT) != 0 {
                self.act_on(signals, cx);
            }
        }
        self.see_phase(cx)
    }

    #[cold]
    fn act_on(&mut self, signals: u32, cx: &mut Context<'_>) {
        let now = self.look();
        if signals & ASKED != 0 {
            self.take_requests();
        }
        if signals & ABORT != 0 {
            self.link.end_output(false);
            // Our Close must not overtake what was accepted.
            self.poll_write(cx);
            let nothing_before = self.transport.batch.is_empty() && !self.link.has_output();
            let close = self.session.abort(now).filter(|close| !close.is_empty());
            if let Some(close) = close.filter(|_| nothing_before) {
                self.transport.try_write(&close, cx);
            }
            self.patience.force(FORCED / 2, now);
        }
    }

    fn take_requests(&mut self) {
        let Some(requests) = self.link.take_requests() else {
            return;
        };
        if let Some(payload) = requests.ping {
            self.session.ping(&payload);
        }
        if let Some(frame) = requests.close {
            self.log(|f| {
                let reason = quote(frame.reason.as_str().as_bytes(), MAX_TEXT);
                write!(f, "close {} {reason}", frame.code)
            });
            self.close(frame, CloseCause::Application);
        }
        if requests.give_up {
            let now = self.look();
            self.session.give_up(now);
            self.patience.force(FORCED / 2, now);
        }
        if let Some(frame) = requests.leave {
            let now = self.look();
            self.session.leave(frame, CloseCause::Shutdown, now);
        }
    }

    // ---- bytes

    /// The next message in what has been read.
    #[inline]
    fn decode(&mut self) -> Option<Message> {
        let now = self.clock.now();
        loop {
            let event = if let Some((input, at)) = self.transport.read_buffer.unread() {
                let event = self.session.handle_input(input, at, now);
                let work = self.session.take_work(now);
                if work > 0 {
                    self.turn.inflated(work);
                }
                event?
            } else {
                Event::Message(*self.direct.take()?)
            };
            match event {
                Event::Message(message) => {
                    self.turn.message();
                    self.link.came(message.len());
                    #[cfg(feature = "metrics")]
                    self.unreported.add(message.len());
                    self.log(|f| write!(f, "received {message:?}"));
                    return Some(message);
                }
                Event::Control(opcode, payload) => {
                    if opcode == OpCode::Pong {
                        self.link.ponged(&payload);
                        self.note_round_trip();
                    }
                    self.log(|f| write!(f, "received {opcode:?} {}", quote(&payload, MAX_TEXT)));
                }
                Event::Close(frame) => self.log(|f| {
                    let text = frame.as_ref().map(|f| format!("{} {}", f.code, f.reason));
                    let text = text.unwrap_or_default();
                    write!(f, "received Close {}", quote(text.as_bytes(), MAX_TEXT))
                }),
            }
        }
    }

    /// A pong came: of a heartbeat, perhaps.
    #[cold]
    fn note_round_trip(&mut self) {
        let micros = self.session.take_round_trip();
        if micros > 0 {
            self.link.answered(micros);
            measure::round_trip(micros);
        }
    }

    /// One round of the socket and the clock. Ready: something has changed.
    fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_turn_over() {
            return self.give_way(cx);
        }
        let now = self.clock.now();
        let before = self.session.phase();
        let writes = self.queued || self.session.has_output() || self.transport.is_writing();
        let writes_later = writes && self.output_may_wait();
        if writes && !writes_later {
            self.poll_write(cx);
        }
        if self.session.phase() == Phase::Draining {
            self.poll_drain(cx);
        } else if self.session.wants_input() && self.is_hungry() {
            self.session.resume(now);
            if self.turn.has_read_enough() {
                let_others_run(cx);
            } else if self.poll_read(cx).is_ready() {
                self.turn.read();
                return Poll::Ready(());
            }
        } else {
            self.session.pause(now);
        }
        if writes_later {
            self.poll_write(cx);
        }
        if self.session.phase() != before || self.poll_clock(cx) || !self.link.park() {
            return Poll::Ready(());
        }
        self.rest();
        Poll::Pending
    }

    /// Whether more is read before what waits is written, so that one write answers all that is here.
    /// A socket gives that in one read; where it [comes in pieces](Transport::comes_in_pieces), many
    /// clients make one of each message. The turn bounds how long it waits.
    #[inline]
    fn output_may_wait(&self) -> bool {
        // Only messages, and few: neither control frames, nor what the transport did not take.
        self.transport.comes_in_pieces()
            && self.session.phase() == Phase::Open
            && !self.session.has_output()
            && !self.transport.is_writing()
            && !self.turn.has_read_enough()
            && self.is_hungry()
            && !self.link.has_much_output()
    }

    /// Whether all that has been read was taken, and there is room for more.
    fn is_hungry(&self) -> bool {
        !self.full && self.direct.is_none() && self.transport.read_buffer.is_empty()
    }

    /// Writes all there is, as far as the socket takes it.
    #[inline]
    fn poll_write(&mut self, cx: &mut Context<'_>) {
        let now = self.clock.now();
        if self.session.phase() == Phase::Dead {
            // The output may be shut down by now; what the socket has not taken is dropped.
            return self.transport.give_up();
        }
        while !self.transport.batch.is_empty() || self.fill(now) {
            match self.transport.poll_write(cx) {
                Poll::Ready(Ok(n)) => self.session.handle_written(n, now),
                Poll::Ready(Err(e)) => return self.failed(e),
                Poll::Pending => return self.blocked(),
            }
        }
        match self.transport.poll_flush(cx) {
            Poll::Ready(Ok(())) => self.session.handle_flushed(now),
            Poll::Ready(Err(e)) => self.failed(e),
            Poll::Pending => self.blocked(),
        }
    }

    /// Fills the batch, which is empty. Whether there is something in it now.
    #[inline]
    fn fill(&mut self, now: Moment) -> bool {
        if !self.queued && !self.session.has_output() {
            return false;
        }
        let batch = &mut self.transport.batch;
        let filled = self.link.fill(&mut self.session, batch);
        self.queued = filled.more;
        if filled.room {
            self.patience.room(now);
        }
        !self.transport.batch.is_empty()
    }

    #[inline]
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let direct = self.session.direct();
        let is_direct = direct.is_some();
        let read = match direct {
            Some(mut rest) => ready!(self.transport.poll_read_to(&mut rest, cx)),
            None => ready!(self.transport.poll_read(cx)),
        };
        match read {
            Ok(n @ 1..) => {
                self.arrived(n);
                if is_direct {
                    self.filled(n);
                }
            }
            ended => self.input_ended(ended),
        }
        Poll::Ready(())
    }

    /// `n` bytes were read straight to where they stay.
    fn filled(&mut self, n: usize) {
        let event = self.session.handle_filled(n, self.clock.now());
        if let Some(Event::Message(message)) = event {
            self.direct = Some(Box::new(message));
        }
    }

    #[inline]
    fn arrived(&mut self, n: usize) {
        // A rate needs the time of each read: the callbacks between two may have taken long.
        if self.session.is_metered() {
            self.look();
        }
        self.session.handle_arrival(n, self.clock.now());
    }

    #[cold]
    fn input_ended(&mut self, read: io::Result<usize>) {
        match read {
            Ok(_) => self.session.handle_end_of_input(self.clock.now()),
            Err(e) => self.failed(e),
        }
    }

    /// Throws away what still arrives, and shuts the output down once the peer has closed, has ended
    /// its side or is silent: an unread byte would turn our FIN into a RST, and that would eat our
    /// Close frame (RFC 6455 §7.1.1). A proxy turns a FIN into a RST for a peer that still sends.
    fn poll_drain(&mut self, cx: &mut Context<'_>) {
        let now = self.clock.now();
        while !self.transport.is_eof() {
            if self.turn.has_read_enough() {
                let_others_run(cx);
                break;
            }
            let Poll::Ready(bytes) = self.transport.poll_discard(cx) else {
                break;
            };
            self.session.handle_discarded(bytes, now);
            self.turn.read();
        }
        if self.transport.is_eof() || self.session.may_end_output() {
            match self.transport.poll_shutdown(cx) {
                Poll::Ready(Ok(())) if self.transport.is_eof() => self.session.handle_drained(now),
                Poll::Ready(Err(_)) => self.session.handle_drained(now),
                _ => {}
            }
        }
    }

    /// The time to write counts from now.
    #[cold]
    fn blocked(&mut self) {
        let now = self.look();
        self.session.handle_blocked(now);
    }

    fn failed(&mut self, error: io::Error) {
        self.transport.give_up();
        self.session.handle_failure(error);
    }

    // ---- time

    /// Acts on what is due, or arranges that the task is woken when something is. Returns whether
    /// something was due.
    #[inline]
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(next) = earlier(self.session.poll_timeout(), self.patience.deadline()) else {
            return false;
        };
        let is_due = self.clock.poll(next, cx);
        if is_due {
            self.session.handle_timeout(self.clock.now());
        }
        is_due
    }

    /// Looks what time it is. The first look behind a sleep begins a turn.
    #[inline]
    fn look(&mut self) -> Moment {
        let now = self.clock.look();
        if self.turn.has_slept() {
            self.turn = Turn::begin(now, woken_here());
        } else {
            self.turn.looked(now, woken_here());
        }
        now
    }

    /// The time of this turn.
    #[inline]
    fn time(&mut self) -> Moment {
        if self.turn.has_slept() {
            return self.look();
        }
        self.clock.now()
    }

    /// Whether others are to run now. A connection that is never idle would keep them from it, and
    /// its own output and deadlines too.
    #[inline]
    fn is_turn_over(&mut self) -> bool {
        if self.turn.goes_on() {
            return false;
        }
        if !self.turn.is_over() {
            self.look();
        }
        self.turn.is_over()
    }

    /// Writes what there is, acts on what is due, and lets others run.
    #[cold]
    fn give_way<T>(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        let now = self.look();
        self.poll_write(cx);
        self.session.handle_timeout(now);
        self.rest();
        let_others_run(cx);
        Poll::Pending
    }

    /// The task is about to sleep: nothing of the thread's is kept.
    #[inline]
    fn rest(&mut self) {
        #[cfg(feature = "metrics")]
        self.report();
        self.link.rests(self.session.last_message());
        self.transport.rest();
        self.turn.sleep();
    }

    fn log(&self, what: impl Fn(&mut fmt::Formatter<'_>) -> fmt::Result) {
        if logging::shows_wire(self.session.config().debug) {
            logging::wire(
                self.session.config().debug,
                self.link.info.id.as_u64(),
                &Line(what),
            );
        }
    }
}

impl<IO> Driver<IO> {
    #[cfg(feature = "metrics")]
    fn report(&mut self) {
        let Traffic { messages, bytes } = std::mem::take(&mut self.unreported);
        if messages > 0 {
            measure::received(messages, bytes);
        }
    }
}

impl<IO> Drop for Driver<IO> {
    fn drop(&mut self) {
        #[cfg(feature = "metrics")]
        self.report();
        self.link.rests(self.session.last_message());
        self.link.end();
    }
}

/// A line of the log, formatted only if a subscriber wants it.
struct Line<F>(F);

impl<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result> fmt::Display for Line<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0)(f)
    }
}

/// Wakes the task that waits, unless it is this one, whose callback is polled again anyway.
fn wake_other(waker: &Waker, cx: &Context<'_>) {
    if !waker.will_wake(cx.waker()) {
        waker.wake_by_ref();
    }
}
