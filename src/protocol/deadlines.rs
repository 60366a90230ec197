//! [`Deadlines`]: is the peer there, and does it move? Heartbeat, progress of what arrives and
//! of what is written, idleness.

use std::time::Duration;

use super::timers::{Moment, Progress, Timer, Timers};
use crate::config::{Config, SCRATCH};

/// See the module docs. It keeps the deadlines; what to do about them is the session's.
#[derive(Debug)]
pub(crate) struct Deadlines {
    timers: Timers,
    last_received: Moment,
    /// Of either direction.
    last_message: Moment,
    /// When a peer that reads as slowly as [`SLOWEST`] has read all that the socket took.
    caught_up: Moment,
    /// Boxed: most of the time there is nothing to wait for.
    waits: Option<Box<Waits>>,
    pings: u32,
    /// When a ping was sent, in microseconds of the connection's age; once it is answered, how long
    /// the answer took. It wraps, as no ping waits for an hour.
    round_trip: u32,
    /// What was written behind the ping that waits for its pong, in bytes.
    behind_ping: u32,
    ping: Ping,
    /// What is being written is more than pings and pongs.
    sending: bool,
}

/// Whether a ping of ours waits for its pong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ping {
    /// None does.
    Answered,
    /// It is about to be written.
    Queued,
    /// The socket has taken it: from here on the peer has time to answer.
    Sent,
}

/// What takes longer than one look at the clock.
#[derive(Debug, Default)]
struct Waits {
    /// A message that is arriving.
    reading: Option<Progress>,
    /// What the socket does not take at once.
    writing: Option<Progress>,
    /// Since when the driver does not read, and the pong deadline that was stopped.
    paused: Option<(Moment, Option<Moment>)>,
}

/// What a peer has to read, in bytes a second, so as not to be taken for one that does not.
///
/// What the socket took is not what the peer read: the kernel buffers up to 4 MiB, and so does
/// every relay in between. Linux says that there is room again when a third of its buffer is free,
/// which a peer on a link of 16 kB/s sees to in a minute and a half.
const SLOWEST: u64 = 16_000;

/// What may lie between the application and the peer, in bytes: two kernels' buffers. Beyond it no
/// more time is given, which makes 9 minutes the longest.
const BETWEEN: u64 = 8 * 1024 * 1024;

/// What is on its way anyway and earns no time.
const ON_ITS_WAY: u64 = SCRATCH as u64;

/// The time in which a peer reads `bytes` that reads no faster than [`SLOWEST`], in nanoseconds.
#[inline]
const fn reading_time(bytes: u64) -> u64 {
    bytes.saturating_mul(1_000_000_000 / SLOWEST)
}

/// A deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// It was silent: ping it.
    Ping([u8; 4]),
    /// Nobody reads what it sends, so a ping would wait for nothing: write to it, and if it is
    /// gone its network will say so.
    Beat,
    /// It did not answer the ping.
    NoPong,
    /// The message that it sends does not arrive in time.
    NotSending,
    /// It does not read what is written.
    NotReading,
    /// No message came or went.
    Idle,
    /// It has lived long enough; or, where it leaves already, the message that is arriving is not
    /// waited for any longer.
    Leave,
    /// The time of the closing handshake, or of the drain, is over.
    Over,
}

impl Deadlines {
    /// Of a connection that opens now.
    pub(crate) fn new(config: &Config) -> Self {
        let mut timers = Timers::default();
        if let Some(silence) = config.heartbeat {
            timers.set(Timer::Heartbeat, Moment::START + silence);
        }
        if let Some(idle) = config.idle_timeout {
            timers.set(Timer::Idle, Moment::START + idle);
        }
        Self {
            timers,
            last_received: Moment::START,
            last_message: Moment::START,
            caught_up: Moment::START,
            waits: None,
            pings: 0,
            round_trip: 0,
            behind_ping: 0,
            ping: Ping::Answered,
            sending: false,
        }
    }

    // ---- what happens

    /// Bytes arrived, whatever they are.
    #[inline]
    pub(crate) fn arrived(&mut self, now: Moment) {
        self.last_received = now;
    }

    /// A part of a message is here. `n` bytes of payload came last: pings, headers and empty
    /// fragments do not bring it nearer to its end.
    #[inline]
    pub(crate) fn receiving(&mut self, n: usize, now: Moment, config: &Config) {
        match &mut self.waits.get_or_insert_default().reading {
            Some(reading) => reading.add(n, now),
            none => {
                let mut reading = Progress::begin(now);
                reading.add(n, now);
                let deadline = reading.deadline(config.progress_timeout);
                self.timers.set(Timer::Receive, deadline);
                *none = Some(reading);
            }
        }
    }

    /// Nothing more is under way.
    #[inline]
    pub(crate) fn received(&mut self) {
        // The timer stays: when it is due, there is nothing to be late.
        if let Some(waits) = &mut self.waits {
            waits.reading = None;
            self.let_go();
        }
    }

    /// Keeps no box with nothing in it.
    fn let_go(&mut self) {
        let is_empty = |waits: &mut Box<Waits>| {
            waits.reading.is_none() && waits.writing.is_none() && waits.paused.is_none()
        };
        self.waits.take_if(is_empty);
    }

    /// A message arrived.
    #[inline]
    pub(crate) fn message(&mut self, now: Moment) {
        self.last_message = now;
    }

    /// When one arrived or was written last.
    #[inline]
    pub(crate) fn last_message(&self) -> Moment {
        self.last_message
    }

    /// Unsolicited pongs are allowed (RFC 6455 §5.5.3); they answer nothing.
    pub(crate) fn ponged(&mut self, payload: &[u8], now: Moment) {
        // The number of the last one.
        let expected = self.pings.wrapping_sub(1).to_be_bytes();
        if self.ping != Ping::Answered && payload == expected {
            self.ping = Ping::Answered;
            self.round_trip = now.micros().wrapping_sub(self.round_trip);
            self.timers.stop(Timer::Pong);
            // All that was written before the ping has been read.
            let since = now.plus_nanos(reading_time(self.behind_ping.into()));
            self.caught_up = self.caught_up.min(since);
        }
    }

    /// How long the answer to a ping took that has come since the last call, in microseconds. Zero:
    /// none has.
    pub(crate) fn take_round_trip(&mut self) -> u32 {
        if self.ping != Ping::Answered {
            return 0;
        }
        std::mem::take(&mut self.round_trip)
    }

    /// Messages are about to be written.
    #[inline]
    pub(crate) fn sending(&mut self) {
        self.sending = true;
    }

    /// The socket takes no more for now.
    pub(crate) fn blocked(&mut self, now: Moment, config: &Config) {
        let begin = now + self.behind(now);
        let waits = self.waits.get_or_insert_default();
        if waits.writing.is_none() {
            let writing = Progress::begin(begin);
            let deadline = writing.deadline(config.progress_timeout);
            self.timers.set(Timer::Send, deadline);
            waits.writing = Some(writing);
        }
    }

    /// The socket took `n` bytes.
    #[inline]
    pub(crate) fn wrote(&mut self, n: usize, now: Moment) {
        if self.sending {
            self.last_message = now;
        }
        if self.ping != Ping::Answered {
            let n = u32::try_from(n).unwrap_or(u32::MAX);
            self.behind_ping = self.behind_ping.saturating_add(n);
        }
        let most = now.plus_nanos(reading_time(BETWEEN));
        let caught_up = self.caught_up.max(now).plus_nanos(reading_time(n as u64));
        self.caught_up = caught_up.min(most);
        if self.waits.is_some() {
            self.moved(n, now);
        }
    }

    #[cold]
    fn moved(&mut self, n: usize, now: Moment) {
        let begin = now + self.behind(now);
        let waits = self.waits.as_mut();
        if let Some(writing) = waits.and_then(|waits| waits.writing.as_mut()) {
            writing.add(n, begin);
        }
    }

    /// All that was to be written is written.
    #[inline]
    pub(crate) fn flushed(&mut self, now: Moment, config: &Config) {
        self.sending = false;
        if let Some(waits) = &mut self.waits {
            if waits.writing.take().is_some() {
                self.timers.stop(Timer::Send);
                self.let_go();
            }
        }
        if self.ping == Ping::Queued {
            self.ping_sent(now, config);
        }
    }

    /// The time to answer counts from here.
    #[cold]
    fn ping_sent(&mut self, now: Moment, config: &Config) {
        self.ping = Ping::Sent;
        self.round_trip = now.micros();
        let behind = self.behind(now);
        let at = config.pong_timeout.map(|timeout| now + behind + timeout);
        let waits = self.waits.as_mut();
        match (waits.and_then(|waits| waits.paused.as_mut()), at) {
            (Some(paused), at) => paused.1 = at,
            (None, Some(at)) => self.timers.set(Timer::Pong, at),
            (None, None) => {}
        }
    }

    /// How long a peer that reads slowly but steadily may still be reading what was written.
    #[inline]
    pub(crate) fn behind(&self, now: Moment) -> Duration {
        let behind = self.caught_up.since(now);
        behind.saturating_sub(Duration::from_nanos(reading_time(ON_ITS_WAY)))
    }

    /// The driver stops reading: what the peer sent from here on is not its delay.
    pub(crate) fn pause(&mut self, now: Moment) {
        let waits = self.waits.get_or_insert_default();
        if waits.paused.is_none() {
            waits.paused = Some((now, self.timers.get(Timer::Pong)));
            self.timers.stop(Timer::Pong);
            self.timers.stop(Timer::Receive);
        }
    }

    /// The driver reads again; since when it did not.
    #[inline]
    pub(crate) fn resume(&mut self, now: Moment, config: &Config) -> Option<Moment> {
        let waits = self.waits.as_mut()?;
        let (since, pong) = waits.paused.take()?;
        let pause = now.since(since);
        if let Some(at) = pong {
            self.timers.set(Timer::Pong, at + pause);
        }
        if let Some(reading) = &mut waits.reading {
            reading.excuse(pause);
            let deadline = reading.deadline(config.progress_timeout);
            self.timers.set(Timer::Receive, deadline);
        }
        self.last_received = self.last_received + pause;
        self.let_go();
        Some(since)
    }

    /// No more of what arrives is looked at.
    pub(crate) fn stop_receiving(&mut self) {
        self.received();
        for timer in [
            Timer::Receive,
            Timer::Pong,
            Timer::Heartbeat,
            Timer::Idle,
            Timer::Leave,
        ] {
            self.timers.stop(timer);
        }
    }

    /// It is to leave at `at`; or, where it leaves already, the message that is arriving may take
    /// until then.
    pub(crate) fn leave_at(&mut self, at: Moment) {
        self.timers.set(Timer::Leave, at);
    }

    /// There is an end to this at `at`.
    pub(crate) fn end_at(&mut self, at: Moment) {
        self.timers.set(Timer::Close, at);
    }

    /// Waits for silence until `at`; what arrives moves it. Nothing is received any more, so this
    /// has the timer of a message that is arriving, which without one means nothing when it fires.
    pub(crate) fn await_quiet(&mut self, at: Moment) {
        self.timers.set(Timer::Receive, at);
    }

    /// Whether silence is still awaited.
    pub(crate) fn awaits_quiet(&self) -> bool {
        self.timers.get(Timer::Receive).is_some()
    }

    /// Nothing is waited for any more.
    pub(crate) fn clear(&mut self) {
        self.timers = Timers::default();
    }

    // ---- time

    #[inline]
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.timers.next()
    }

    /// The next deadline that has passed and means something. `in_frame`: a frame has begun
    /// to arrive and has not ended.
    pub(crate) fn due(&mut self, now: Moment, in_frame: bool, config: &Config) -> Option<Due> {
        while let Some(timer) = self.timers.expired(now) {
            let due = match timer {
                Timer::Heartbeat => self.heartbeat(now, config),
                // The pong stands behind the rest of a frame, which the progress rule watches.
                Timer::Pong if in_frame => {
                    let at = config.pong_timeout.map(|timeout| now + timeout);
                    self.unless_later(timer, at, now, Due::NoPong)
                }
                Timer::Pong => Some(Due::NoPong),
                Timer::Receive => {
                    let waits = self.waits.as_ref();
                    let reading = waits.and_then(|waits| waits.reading.as_ref());
                    let deadline = reading.map(|r| r.deadline(config.progress_timeout));
                    self.unless_later(timer, deadline, now, Due::NotSending)
                }
                Timer::Send => {
                    let waits = self.waits.as_ref();
                    let writing = waits.and_then(|waits| waits.writing.as_ref());
                    let deadline = writing.map(|w| w.deadline(config.progress_timeout));
                    self.unless_later(timer, deadline, now, Due::NotReading)
                }
                Timer::Idle => {
                    let deadline = config.idle_timeout.map(|idle| self.last_message + idle);
                    self.unless_later(timer, deadline, now, Due::Idle)
                }
                Timer::Leave => Some(Due::Leave),
                Timer::Close => Some(Due::Over),
            };
            if due.is_some() {
                return due;
            }
        }
        None
    }

    /// Timers are re-armed late: a message moves its deadline in memory, and the timer finds
    /// out when it fires.
    fn unless_later(
        &mut self,
        timer: Timer,
        deadline: Option<Moment>,
        now: Moment,
        due: Due,
    ) -> Option<Due> {
        let deadline = deadline?;
        if deadline <= now {
            return Some(due);
        }
        self.timers.set(timer, deadline);
        None
    }

    fn heartbeat(&mut self, now: Moment, config: &Config) -> Option<Due> {
        let silence = config.heartbeat?;
        let silent_at = self.last_received + silence;
        if silent_at > now {
            self.timers.set(Timer::Heartbeat, silent_at);
            return None;
        }
        self.timers.set(Timer::Heartbeat, now + silence);
        if self.waits.as_ref().is_some_and(|w| w.paused.is_some()) {
            return Some(Due::Beat);
        }
        if self.ping != Ping::Answered {
            return None;
        }
        let payload = self.pings.to_be_bytes();
        self.pings = self.pings.wrapping_add(1);
        // Without a deadline no ping is waited for: the next is sent, answered or not.
        if config.pong_timeout.is_some() {
            (self.ping, self.behind_ping) = (Ping::Queued, 0);
        }
        Some(Due::Ping(payload))
    }
}

#[cfg(test)]
mod tests;
