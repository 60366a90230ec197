//! [`Wire`]: the socket of a connection with its session, its output and its clock.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::Sleep;

use super::input::Input;
use crate::config::{BUDGET, Config, FORCED};
use crate::connection::{ABORT, ASKED, Connection, OUTPUT, Shared};
use crate::error::Error;
use crate::jitter;
use crate::message::{CloseFrame, Message};
use crate::protocol::{Batch, Event, Initiator, Moment, Outcome, Phase, SLICES, Session};

/// Reads before a connection gives its thread to others, however fast the peer is.
const READS: u32 = 32;

/// See the module docs.
pub(crate) struct Wire<IO> {
    io: IO,
    shared: Arc<Shared>,
    config: Arc<Config>,
    session: Session,
    batch: Batch,
    input: Input,
    /// A large message that was read without going through `input`.
    direct: Option<Box<Message>>,
    sleep: Pin<Box<Sleep>>,
    /// What `sleep` is set to; later deadlines need no re-arming.
    armed: Option<Moment>,
    /// Until when the application may run after the end.
    grace: Option<Moment>,
    /// Until when a callback may take that has a timeout.
    patience: Option<Moment>,
    /// The callback has a timeout, which counts from when it is first seen to wait: the clock is
    /// not read for those that do not.
    fresh: bool,
    /// Until when `on_error` and `on_close` may, once a shutdown has come to its deadline.
    forced: Option<Moment>,
    /// Only those two are left to be called.
    limited: bool,
    started: Instant,
    now: Moment,
    /// `now` is from before a sleep. In between the clock is read only where it matters:
    /// it costs as much as unmasking a kilobyte.
    stale: bool,
    /// There may be something in the queue.
    queued: bool,
    /// Something is written and not yet flushed.
    unflushed: bool,
    /// Messages were put into the inbox.
    delivered: bool,
    /// The inbox is full.
    full: bool,
    /// The end was told to the inbox.
    told: bool,
    /// The phase that the queue knows of.
    seen: Phase,
    /// The output is shut down.
    shut: bool,
    /// The input is at its end.
    eof: bool,
    handled: u32,
    reads: u32,
}

/// What a callback that is pending has to know.
pub(crate) enum Beside {
    /// There is something for it: poll it again.
    Again,
    /// Its connection has ended, and so has its time to finish.
    Abandon,
    /// It has taken longer than it may.
    Late,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Wire<IO> {
    pub(crate) fn new(io: IO, shared: Arc<Shared>, config: Arc<Config>) -> Self {
        let started = tokio::time::Instant::now();
        shared.ask_again();
        let mut session = Session::new(config.clone());
        if let Some(agreed) = shared.agreed() {
            session.set_deflate(agreed);
        }
        if let Some(most) = config.max_lifetime {
            // Connections that opened together do not all come back together.
            let age = most.saturating_sub(jitter::up_to(most / 10));
            session.live_until(Moment::new(age));
        }
        Self {
            io,
            shared,
            session,
            config,
            batch: Batch::default(),
            input: Input::default(),
            direct: None,
            sleep: Box::pin(tokio::time::sleep_until(started)),
            armed: None,
            grace: None,
            patience: None,
            fresh: false,
            forced: None,
            limited: false,
            started: started.into_std(),
            now: Moment::START,
            stale: false,
            queued: true,
            unflushed: false,
            delivered: false,
            full: false,
            told: false,
            seen: Phase::Open,
            shut: false,
            eof: false,
            handled: 0,
            reads: 0,
        }
    }

    /// The application's view of it.
    pub(crate) fn connection(&self) -> Connection {
        Connection::new(self.shared.clone())
    }

    /// Tells whom to wake when something is asked of the connection.
    pub(crate) fn set_driver(&mut self, waker: &Waker) {
        self.shared.set_driver(waker);
    }

    /// The next message; `None` when there will be no more.
    #[inline]
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        if self.handled >= BUDGET {
            // One busy connection must not starve its thread, nor its own output.
            self.poll_write(cx);
            self.rest();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.full = false;
        if self.delivered {
            if let Some(message) = self.shared.next_delivered() {
                self.handled += 1;
                return Poll::Ready(Some(message));
            }
            self.delivered = false;
        }
        loop {
            self.take_signals();
            if let Some(message) = self.decode() {
                self.handled += 1;
                return Poll::Ready(Some(message));
            }
            if self.session.is_over() {
                return Poll::Ready(None);
            }
            ready!(self.poll_io(cx));
        }
    }

    /// Everything but the application, while one of its callbacks is pending.
    pub(crate) fn poll_beside(&mut self, cx: &mut Context<'_>) -> Poll<Beside> {
        if self.fresh {
            self.fresh = false;
            if let Some(timeout) = self.config.handler_timeout {
                self.look_at_clock();
                self.patience = Some(self.now + timeout);
            }
        }
        loop {
            self.take_signals();
            let mut again = false;
            loop {
                self.full = self.shared.is_inbox_full();
                if self.full {
                    break;
                }
                let Some(message) = self.decode() else {
                    break;
                };
                self.delivered = true;
                if let Some(waker) = self.shared.deliver(message) {
                    again |= self.tell(&waker, cx);
                }
            }
            // Behind what was decoded: a Close frame in it brings no other wake-up.
            if self.session.is_over() {
                let until = self.now + self.config.close_timeout;
                self.grace.get_or_insert(until);
            }
            if self.grace.is_some_and(|grace| grace <= self.now) {
                return Poll::Ready(Beside::Abandon);
            }
            if self.patience.is_some_and(|until| until <= self.now) {
                return Poll::Ready(Beside::Late);
            }
            again |= self.tell_end(cx);
            if again {
                return Poll::Ready(Beside::Again);
            }
            ready!(self.poll_io(cx));
        }
    }

    /// Everything but the application, until the connection is `closed`, or else done with.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>, closed: bool) -> Poll<()> {
        self.grace = None;
        loop {
            self.take_signals();
            // What still comes is looked at for a Close frame and dropped.
            while self.decode().is_some() {}
            let phase = self.session.phase();
            if phase == Phase::Dead {
                if !self.shut {
                    // Not waited for: the peer had its time.
                    let _ = Pin::new(&mut self.io).poll_shutdown(cx);
                }
                return Poll::Ready(());
            }
            if closed && phase == Phase::Draining {
                return Poll::Ready(());
            }
            ready!(self.poll_io(cx));
        }
    }

    /// Whether no more messages will come, the latest requests considered.
    pub(crate) fn is_over(&mut self) -> bool {
        self.take_signals();
        self.session.is_over()
    }

    /// The application is done with all that came.
    pub(crate) fn finished(&mut self) {
        self.session.finished(self.now);
    }

    /// The application failed.
    pub(crate) fn close(&mut self, frame: CloseFrame) {
        self.session.close(frame, Initiator::Application, self.now);
    }

    /// The callback that comes next has the handler timeout, if there is one.
    #[inline]
    pub(crate) fn be_patient(&mut self) {
        self.fresh = true;
    }

    /// The callback has ended, in whatever way. Its deadline would be due some day, and acted upon
    /// by nobody.
    #[inline]
    pub(crate) fn returned(&mut self) {
        (self.patience, self.fresh) = (None, false);
    }

    /// The callback that comes next has the close timeout, and no more.
    pub(crate) fn limit(&mut self) {
        self.look_at_clock();
        self.limited = true;
        let until = self.now + self.config.close_timeout;
        self.grace = Some(self.forced.map_or(until, |forced| forced.min(until)));
    }

    pub(crate) fn take_error(&mut self) -> Option<Error> {
        self.session.take_error()
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.session.outcome()
    }

    // ---- inside

    /// The next message in what has been read.
    #[inline]
    fn decode(&mut self) -> Option<Message> {
        loop {
            let event = match self.direct.take() {
                Some(message) => Event::Message(*message),
                None if self.input.at == self.input.end => return None,
                None => {
                    let Input { bytes, at, end, .. } = &mut self.input;
                    self.session.receive(&mut bytes[..*end], at, self.now)?
                }
            };
            match event {
                Event::Message(message) => {
                    self.log(|f| write!(f, "received {message:?}"));
                    return Some(message);
                }
                Event::Control(opcode, payload) => {
                    self.log(|f| write!(f, "received {opcode:?} \"{}\"", payload.escape_ascii()));
                }
            }
        }
    }

    /// One round of the socket and the clock. Ready: something has changed.
    fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.stale {
            self.stale = false;
            self.look_at_clock();
        }
        let before = self.session.phase();
        self.poll_write(cx);
        if self.session.phase() == Phase::Draining {
            self.poll_drain(cx);
        } else if self.session.wants_input() && self.is_hungry() {
            self.session.resume(self.now);
            if self.reads < READS {
                if self.poll_read(cx).is_ready() {
                    self.reads += 1;
                    return Poll::Ready(());
                }
            } else {
                cx.waker().wake_by_ref();
            }
        } else if before == Phase::Open {
            self.session.pause(self.now);
        }
        if self.session.phase() != before || self.poll_clock(cx) || !self.shared.park() {
            return Poll::Ready(());
        }
        self.rest();
        Poll::Pending
    }

    /// Whether all that has been read was taken, and there is room for more.
    fn is_hungry(&self) -> bool {
        !self.full && self.direct.is_none() && self.input.is_empty()
    }

    /// Writes all there is, as far as the socket takes it.
    #[inline]
    fn poll_write(&mut self, cx: &mut Context<'_>) {
        if self.session.phase() == Phase::Dead {
            // The output may be shut down by now; what the socket has not taken is dropped.
            self.batch = Batch::default();
            return;
        }
        loop {
            if self.batch.is_empty() {
                if self.queued || self.session.has_output() {
                    self.queued = self.shared.fill(&mut self.session, &mut self.batch);
                }
                if self.batch.is_empty() {
                    break;
                }
            }
            let io = Pin::new(&mut self.io);
            let written = if let Some(single) = self.batch.single() {
                io.poll_write(cx, single)
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let n = self.batch.slices(&mut slices);
                if io.is_write_vectored() {
                    io.poll_write_vectored(cx, &slices[..n])
                } else {
                    io.poll_write(cx, &slices[0])
                }
            };
            match written {
                Poll::Ready(Ok(0)) => return self.failed(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => {
                    self.batch.advance(n);
                    self.session.wrote(n, self.now);
                    self.unflushed = true;
                }
                Poll::Ready(Err(e)) => return self.failed(e),
                Poll::Pending => return self.blocked(),
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.io).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(e)) => return self.failed(e),
                Poll::Pending => return self.blocked(),
            }
        }
        self.session.flushed(self.now);
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let read = if let Some(mut rest) = self.session.direct() {
            let n = ready!(pin!(self.io.read_buf(&mut rest)).poll(cx));
            if let Ok(n @ 1..) = n {
                self.arrived(n);
                if let Some(Event::Message(message)) = self.session.filled(n, self.now) {
                    self.direct = Some(Box::new(message));
                }
                return Poll::Ready(());
            }
            n
        } else {
            ready!(self.input.poll_fill(&mut self.io, cx))
        };
        match read {
            Ok(0) => self.ended(),
            Ok(n) => self.arrived(n),
            // rustls says so when a peer ends TCP without its close_notify: no more than a FIN.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => self.ended(),
            Err(e) => self.failed(e),
        }
        Poll::Ready(())
    }

    #[inline]
    fn arrived(&mut self, n: usize) {
        // A rate needs the time of each read: the callbacks between two may have taken long.
        if self.session.is_metered() {
            self.look_at_clock();
        }
        self.session.arrived(n, self.now);
    }

    /// Shuts the output down and throws away what still arrives: an unread byte would turn
    /// our FIN into a RST, and that would eat our Close frame (RFC 6455 §7.1.1).
    fn poll_drain(&mut self, cx: &mut Context<'_>) {
        if !self.shut {
            match Pin::new(&mut self.io).poll_shutdown(cx) {
                Poll::Ready(Ok(())) => self.shut = true,
                Poll::Ready(Err(_)) => return self.session.abort(),
                Poll::Pending => {}
            }
        }
        while !self.eof {
            if self.reads >= READS {
                cx.waker().wake_by_ref();
                return;
            }
            self.reads += 1;
            match self.input.poll_fill(&mut self.io, cx) {
                Poll::Ready(Ok(n @ 1..)) => self.input.skip(n),
                Poll::Ready(_) => self.eof = true,
                Poll::Pending => return,
            }
        }
        if self.shut {
            self.session.abort();
        }
    }

    /// Acts on what is due, or sees to it that the task is woken when it is. Tells whether
    /// something was due.
    #[inline]
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> bool {
        if self.armed.is_some_and(|armed| armed <= self.now) {
            self.armed = None;
        }
        let deadlines = [self.session.deadline(), self.grace, self.patience];
        let Some(next) = deadlines.into_iter().flatten().min() else {
            return false;
        };
        if next <= self.now {
            self.session.expire(self.now);
            return true;
        }
        if self.armed.is_none_or(|armed| next < armed) {
            self.sleep
                .as_mut()
                .reset((self.started + next.age()).into());
            self.armed = Some(next);
            // Outside tokio's budget: with none left the waker would not be kept.
            let sleep = tokio::task::unconstrained(self.sleep.as_mut());
            if pin!(sleep).poll(cx).is_ready() {
                self.armed = None;
                self.look_at_clock();
                return true;
            }
        }
        false
    }

    #[inline]
    fn look_at_clock(&mut self) {
        let age = tokio::time::Instant::now().into_std() - self.started;
        self.now = Moment::new(age);
    }

    /// The task is about to sleep: nothing of the thread's is kept.
    fn rest(&mut self) {
        self.input.rest();
        self.stale = true;
        self.handled = 0;
        self.reads = 0;
    }

    #[inline]
    fn take_signals(&mut self) {
        let signals = self.shared.take_signals();
        if signals != 0 {
            self.queued |= signals & OUTPUT != 0;
            if signals & !OUTPUT != 0 {
                self.act_on(signals);
            }
        }
        let phase = self.session.phase();
        if phase != self.seen {
            self.seen = phase;
            if !self.session.is_sendable() {
                let discard = matches!(phase, Phase::Draining | Phase::Dead);
                self.shared.close_queue(discard);
            }
        }
    }

    #[cold]
    fn act_on(&mut self, signals: u32) {
        self.look_at_clock();
        if signals & ASKED != 0 {
            let asked = self.shared.take_asked().unwrap_or_default();
            if let Some(payload) = asked.ping {
                self.session.ping(&payload);
            }
            if let Some(frame) = asked.close {
                self.log(|f| write!(f, "close {} \"{}\"", frame.code, frame.reason));
                self.close(frame);
            }
            if let Some(frame) = asked.leave {
                self.session.leave(frame, Initiator::Shutdown);
            }
        }
        if signals & ABORT != 0 {
            self.session.abort();
            let forced = *self.forced.get_or_insert(self.now + FORCED / 2);
            // Another callback had until the deadline of the shutdown.
            let until = if self.limited { forced } else { self.now };
            self.grace = Some(self.grace.map_or(until, |grace| grace.min(until)));
        }
    }

    /// Tells the application's `recv` about the end, once. Whether it waits for it.
    fn tell_end(&mut self, cx: &Context<'_>) -> bool {
        if !self.session.is_over() || self.told {
            return false;
        }
        self.told = true;
        let discard = !self.session.is_sendable();
        let failure = self.session.error().map(Error::again);
        let waker = self.shared.end_inbox(failure, discard);
        waker.is_some_and(|waker| self.tell(&waker, cx))
    }

    /// Whether the one to tell is the callback of this very task; others are woken.
    fn tell(&self, waker: &Waker, cx: &Context<'_>) -> bool {
        if !waker.will_wake(cx.waker()) {
            waker.wake_by_ref();
        }
        true
    }

    /// The time to write counts from now.
    #[cold]
    fn blocked(&mut self) {
        self.look_at_clock();
        self.session.blocked(self.now);
    }

    fn ended(&mut self) {
        self.eof = true;
        self.session.end_of_input(self.now);
    }

    fn failed(&mut self, error: io::Error) {
        self.batch = Batch::default();
        self.session.failed(error);
    }

    fn log(&self, what: impl Fn(&mut std::fmt::Formatter<'_>) -> std::fmt::Result) {
        let id = self.shared.info.id;
        if self.config.debug {
            tracing::debug!(target: "tower_websocket::wire", connection = %id, "{}", Line(what));
        } else {
            tracing::trace!(target: "tower_websocket::wire", connection = %id, "{}", Line(what));
        }
    }
}

impl<IO> Drop for Wire<IO> {
    fn drop(&mut self) {
        self.shared.close_queue(true);
    }
}

/// A line of the log, made only if somebody reads it.
struct Line<F>(F);

impl<F: Fn(&mut std::fmt::Formatter<'_>) -> std::fmt::Result> std::fmt::Display for Line<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (self.0)(f)
    }
}
