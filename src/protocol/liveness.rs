//! [`Liveness`]: is the peer there, and does it move? Heartbeat, progress of what arrives and
//! of what is written, idleness.

use std::time::Duration;

use super::timers::{Moment, Progress, Timer, Timers};
use crate::config::{Config, SCRATCH};

/// See the module docs. It keeps the deadlines; what to do about them is the session's.
#[derive(Debug)]
pub(crate) struct Liveness {
    timers: Timers,
    last_received: Moment,
    /// Of either direction.
    last_message: Moment,
    /// What is being written is more than pings and pongs.
    sending: bool,
    /// The payload of the ping that waits for its pong.
    ping: Option<[u8; 4]>,
    pings: u32,
    reading: Option<Progress>,
    writing: Option<Progress>,
    /// When the socket last took bytes after it had been full.
    last_room: Option<Moment>,
    /// Since when the driver does not read, and the pong deadline that was stopped.
    paused: Option<(Moment, Option<Moment>)>,
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
    /// It has lived long enough.
    Lifetime,
    /// The time of the closing handshake, or of the drain, is over.
    Over,
}

impl Liveness {
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
            sending: false,
            ping: None,
            pings: 0,
            reading: None,
            writing: None,
            last_room: None,
            paused: None,
        }
    }

    // ---- what happens

    /// Bytes arrived, whatever they are.
    #[inline]
    pub(crate) fn arrived(&mut self, n: usize, now: Moment) {
        self.last_received = now;
        if let Some(reading) = &mut self.reading {
            reading.add(n);
        }
    }

    /// A part of a message is here, of which `n` bytes came last.
    #[inline]
    pub(crate) fn receiving(&mut self, n: usize, now: Moment, config: &Config) {
        if self.reading.is_none() {
            let mut reading = Progress::begin(now);
            reading.add(n);
            let deadline = reading.deadline(config.progress_timeout);
            self.timers.set(Timer::Receive, deadline);
            self.reading = Some(reading);
        }
    }

    /// Nothing more is under way.
    #[inline]
    pub(crate) fn received(&mut self) {
        // The timer stays: when it is due, there is nothing to be late.
        self.reading = None;
    }

    /// A message arrived.
    #[inline]
    pub(crate) fn message(&mut self, now: Moment) {
        self.last_message = now;
    }

    /// Unsolicited pongs are allowed (RFC 6455 §5.5.3); they answer nothing.
    pub(crate) fn ponged(&mut self, payload: &[u8]) {
        if self.ping.is_some_and(|ping| payload == ping) {
            self.ping = None;
            self.timers.stop(Timer::Pong);
        }
    }

    /// Messages are about to be written.
    #[inline]
    pub(crate) fn sending(&mut self) {
        self.sending = true;
    }

    /// The socket takes no more for now.
    pub(crate) fn blocked(&mut self, now: Moment, config: &Config) {
        if self.writing.is_none() {
            let writing = Progress::begin(now);
            let deadline = writing.deadline(config.progress_timeout);
            self.timers.set(Timer::Send, deadline);
            self.writing = Some(writing);
        }
    }

    /// The socket took `n` bytes.
    #[inline]
    pub(crate) fn wrote(&mut self, n: usize, now: Moment) {
        if self.sending {
            self.last_message = now;
        }
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
    pub(crate) fn flushed(&mut self) {
        self.sending = false;
        if self.writing.take().is_some() {
            self.timers.stop(Timer::Send);
        }
    }

    /// The driver stops reading: what the peer sent from here on is not its delay.
    pub(crate) fn pause(&mut self, now: Moment) {
        if self.paused.is_none() {
            self.paused = Some((now, self.timers.get(Timer::Pong)));
            self.timers.stop(Timer::Pong);
            self.timers.stop(Timer::Receive);
        }
    }

    /// The driver reads again; since when it did not.
    #[inline]
    pub(crate) fn resume(&mut self, now: Moment, config: &Config) -> Option<Moment> {
        let mut paused = None;
        if let Some((since, pong)) = self.paused.take() {
            paused = Some(since);
            let pause = now.since(since);
            if let Some(at) = pong {
                self.timers.set(Timer::Pong, at + pause);
            }
            if let Some(reading) = &mut self.reading {
                reading.excuse(pause);
                let deadline = reading.deadline(config.progress_timeout);
                self.timers.set(Timer::Receive, deadline);
            }
            self.last_received = self.last_received + pause;
        }
        paused
    }

    /// No more of what arrives is looked at.
    pub(crate) fn stop_receiving(&mut self) {
        self.reading = None;
        for timer in [
            Timer::Receive,
            Timer::Pong,
            Timer::Heartbeat,
            Timer::Idle,
            Timer::Lifetime,
        ] {
            self.timers.stop(timer);
        }
    }

    /// It shall not live longer than to `at`.
    pub(crate) fn live_until(&mut self, at: Moment) {
        self.timers.set(Timer::Lifetime, at);
    }

    /// There is an end to this at `at`.
    pub(crate) fn end_at(&mut self, at: Moment) {
        self.timers.set(Timer::Close, at);
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
                Timer::Pong => self.pong(now, in_frame, config.pong_timeout),
                Timer::Receive => {
                    let deadline = self.reading.map(|r| r.deadline(config.progress_timeout));
                    self.unless_later(timer, deadline, now, Due::NotSending)
                }
                Timer::Send => {
                    let deadline = self.writing.map(|w| w.deadline(config.progress_timeout));
                    self.unless_later(timer, deadline, now, Due::NotReading)
                }
                Timer::Idle => {
                    let deadline = config.idle_timeout.map(|idle| self.last_message + idle);
                    self.unless_later(timer, deadline, now, Due::Idle)
                }
                Timer::Lifetime => Some(Due::Lifetime),
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
        if self.paused.is_some() {
            return Some(Due::Beat);
        }
        if self.ping.is_some() {
            return None;
        }
        let payload = self.pings.to_be_bytes();
        self.pings = self.pings.wrapping_add(1);
        self.ping = Some(payload);
        self.timers.set(Timer::Pong, now + config.pong_timeout);
        Some(Due::Ping(payload))
    }

    fn pong(&mut self, now: Moment, in_frame: bool, timeout: Duration) -> Option<Due> {
        // The pong stands behind the rest of a frame, or our ping behind a queue that the
        // peer is reading; the progress rules watch those.
        let moving = self.last_room.map(|at| at + timeout);
        let later = if in_frame {
            Some(now + timeout)
        } else {
            moving
        };
        match later.filter(|at| *at > now) {
            Some(at) => {
                self.timers.set(Timer::Pong, at);
                None
            }
            None => Some(Due::NoPong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::new(Duration::from_secs(seconds))
    }

    /// Lets time pass, and tells what was due when.
    fn run(live: &mut Liveness, config: &Config, until: u64) -> Vec<(u64, Due)> {
        let mut seen = Vec::new();
        while let Some(now) = live.deadline().filter(|now| *now <= at(until)) {
            while let Some(due) = live.due(now, false, config) {
                seen.push((now.age().as_secs(), due));
                if due == Due::NoPong {
                    return seen;
                }
            }
        }
        seen
    }

    #[test]
    fn n7_a_silent_peer_is_found_after_40_seconds() {
        let config = Config::default();
        let mut live = Liveness::new(&config);
        let seen = run(&mut live, &config, 100);
        assert_eq!(seen, [(20, Due::Ping([0; 4])), (40, Due::NoPong)]);
    }

    #[test]
    fn f24_only_the_pong_with_our_payload_answers_the_ping() {
        let config = Config::default();
        let mut live = Liveness::new(&config);
        assert_eq!(live.due(at(20), false, &config), Some(Due::Ping([0; 4])));
        live.ponged(b"");
        live.ponged(b"\0\0\0\0\0");
        live.ponged(b"\0\0\0\x01");
        assert_eq!(live.due(at(40), false, &config), Some(Due::NoPong));

        let mut live = Liveness::new(&config);
        assert_eq!(live.due(at(20), false, &config), Some(Due::Ping([0; 4])));
        live.ponged(&[0; 4]);
        live.arrived(6, at(20));
        assert_eq!(
            live.due(at(40), false, &config),
            Some(Due::Ping([0, 0, 0, 1]))
        );
    }

    #[test]
    fn a_peer_that_sends_is_not_pinged() {
        let config = Config::default();
        let mut live = Liveness::new(&config);
        for second in (0..100).step_by(10) {
            live.arrived(1, at(second));
            assert_eq!(live.due(at(second), false, &config), None);
        }
    }

    #[test]
    fn f8_n6_a_stalled_frame_is_late_after_30_seconds_and_a_second_for_each_kib() {
        let config = Config::default();
        let mut live = Liveness::new(&config);
        live.arrived(4096, at(0));
        live.receiving(4096, at(0), &config);
        for second in 1..34 {
            live.arrived(1, at(second));
            assert_eq!(live.due(at(second), true, &config), None, "{second}");
        }
        assert_eq!(live.due(at(34), true, &config), Some(Due::NotSending));
    }

    #[test]
    fn a_message_that_came_in_time_is_not_late() {
        let config = Config {
            heartbeat: None,
            ..Config::default()
        };
        let mut live = Liveness::new(&config);
        live.receiving(1, at(0), &config);
        live.received();
        assert_eq!(live.due(at(30), false, &config), None);
        assert_eq!(live.deadline(), None);
    }

    #[test]
    fn n4_n5_a_reader_of_a_byte_a_second_is_late_after_30_seconds() {
        let config = Config {
            heartbeat: None,
            ..Config::default()
        };
        let mut live = Liveness::new(&config);
        live.blocked(at(0), &config);
        for second in 1..30 {
            live.wrote(1, at(second));
            live.blocked(at(second), &config);
            assert_eq!(live.due(at(second), false, &config), None);
        }
        assert_eq!(live.due(at(30), false, &config), Some(Due::NotReading));
    }

    #[test]
    fn a_slow_reader_that_keeps_up_the_pace_is_not_late() {
        let config = Config {
            heartbeat: None,
            ..Config::default()
        };
        let mut live = Liveness::new(&config);
        live.blocked(at(0), &config);
        for second in 1..1000 {
            live.wrote(1100, at(second));
            assert_eq!(live.due(at(second), false, &config), None, "{second}");
        }
    }

    #[test]
    fn a3_while_the_driver_does_not_read_no_delay_is_the_peers() {
        let config = Config::default();
        let mut live = Liveness::new(&config);
        assert_eq!(live.due(at(20), false, &config), Some(Due::Ping([0; 4])));
        live.receiving(1, at(20), &config);
        live.pause(at(30));
        let beats: Vec<_> = (2..=25).map(|i| (20 * i, Due::Beat)).collect();
        assert_eq!(run(&mut live, &config, 500), beats);
        live.resume(at(500), &config);
        // 10 of 20 s were left for the pong, 20 of 30 s for the message.
        assert_eq!(live.due(at(509), false, &config), None);
        assert_eq!(live.due(at(510), false, &config), Some(Due::NoPong));
        assert_eq!(live.due(at(520), false, &config), Some(Due::NotSending));
    }

    #[test]
    fn a_pong_behind_a_frame_or_behind_a_moving_queue_has_more_time() {
        let config = Config::default();
        let mut live = Liveness::new(&config);
        assert_eq!(live.due(at(20), true, &config), Some(Due::Ping([0; 4])));
        assert_eq!(live.due(at(40), true, &config), None);
        live.blocked(at(50), &config);
        live.wrote(1, at(55));
        assert_eq!(live.due(at(60), false, &config), None);
        assert_eq!(live.due(at(75), false, &config), Some(Due::NoPong));
    }

    #[test]
    fn idle_counts_from_the_last_message_of_either_side() {
        let config = Config {
            heartbeat: None,
            idle_timeout: Some(Duration::from_secs(10)),
            ..Config::default()
        };
        let mut live = Liveness::new(&config);
        live.message(at(5));
        assert_eq!(live.due(at(10), false, &config), None);
        live.sending();
        live.wrote(1, at(14));
        live.flushed();
        // A ping or a pong.
        live.wrote(1, at(15));
        live.flushed();
        assert_eq!(live.due(at(15), false, &config), None);
        assert_eq!(live.due(at(24), false, &config), Some(Due::Idle));
    }

    #[test]
    fn nothing_is_due_after_the_end_but_the_end() {
        let config = Config::default();
        let mut live = Liveness::new(&config);
        live.stop_receiving();
        assert_eq!(live.deadline(), None);
        live.end_at(at(5));
        assert_eq!(run(&mut live, &config, 100), [(5, Due::Over)]);
        live.end_at(at(6));
        live.clear();
        assert_eq!(live.deadline(), None);
    }
}
