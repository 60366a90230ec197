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
    ping: Option<Ping>,
    pings: u32,
    reading: Option<Progress>,
    writing: Option<Progress>,
    /// When a peer that reads as slowly as [`SLOWEST`] has read all that the socket took.
    caught_up: Moment,
    /// Since when the driver does not read, and the pong deadline that was stopped.
    paused: Option<(Moment, Option<Moment>)>,
}

/// A ping of ours that waits for its pong.
#[derive(Clone, Copy, Debug)]
struct Ping {
    payload: [u8; 4],
    /// The socket has taken it: from here on the peer has time to answer.
    is_sent: bool,
    /// What was written behind it, in bytes.
    behind: u32,
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

/// The time in which a peer reads `bytes` that reads no faster than [`SLOWEST`].
const fn reading_time(bytes: u64) -> Duration {
    Duration::from_nanos(bytes.saturating_mul(1_000_000_000 / SLOWEST))
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
            caught_up: Moment::START,
            paused: None,
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
        match &mut self.reading {
            Some(reading) => reading.add(n, now),
            None => {
                let mut reading = Progress::begin(now);
                reading.add(n, now);
                let deadline = reading.deadline(config.progress_timeout);
                self.timers.set(Timer::Receive, deadline);
                self.reading = Some(reading);
            }
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
    pub(crate) fn ponged(&mut self, payload: &[u8], now: Moment) {
        if let Some(ping) = self.ping.filter(|ping| payload == ping.payload) {
            self.ping = None;
            self.timers.stop(Timer::Pong);
            // All that was written before the ping has been read.
            let since = now + reading_time(ping.behind.into());
            self.caught_up = self.caught_up.min(since);
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
            let writing = Progress::begin(now + self.behind(now));
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
        if let Some(ping) = &mut self.ping {
            ping.behind = ping
                .behind
                .saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        }
        let most = now + reading_time(BETWEEN);
        self.caught_up = (self.caught_up.max(now) + reading_time(n as u64)).min(most);
        let begin = now + self.behind(now);
        if let Some(writing) = &mut self.writing {
            writing.add(n, begin);
        }
    }

    /// All that was to be written is written.
    #[inline]
    pub(crate) fn flushed(&mut self, now: Moment, config: &Config) {
        self.sending = false;
        if self.writing.take().is_some() {
            self.timers.stop(Timer::Send);
        }
        if let Some(ping) = self.ping.as_mut().filter(|ping| !ping.is_sent) {
            ping.is_sent = true;
            let at = config
                .pong_timeout
                .map(|timeout| now + self.behind(now) + timeout);
            match (&mut self.paused, at) {
                (Some((_, pong)), at) => *pong = at,
                (None, Some(at)) => self.timers.set(Timer::Pong, at),
                (None, None) => {}
            }
        }
    }

    /// How long a peer that reads slowly but steadily may still be reading what was written.
    #[inline]
    pub(crate) fn behind(&self, now: Moment) -> Duration {
        let behind = self.caught_up.since(now);
        behind.saturating_sub(reading_time(ON_ITS_WAY))
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
        if self.paused.is_some() {
            return Some(Due::Beat);
        }
        if self.ping.is_some() {
            return None;
        }
        let payload = self.pings.to_be_bytes();
        self.pings = self.pings.wrapping_add(1);
        // Without a deadline no ping is waited for: the next is sent, answered or not.
        if config.pong_timeout.is_some() {
            self.ping = Some(Ping {
                payload,
                is_sent: false,
                behind: 0,
            });
        }
        Some(Due::Ping(payload))
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

    /// The first ping is due at 20 s, and the socket takes it.
    fn pinged(config: &Config) -> Liveness {
        let mut live = Liveness::new(config);
        assert_eq!(live.due(at(20), false, config), Some(Due::Ping([0; 4])));
        live.wrote(6, at(20));
        live.flushed(at(20), config);
        live
    }

    #[test]
    fn n7_a_silent_peer_is_found_after_40_seconds() {
        let config = Config::default();
        let mut live = pinged(&config);
        assert_eq!(run(&mut live, &config, 100), [(40, Due::NoPong)]);
    }

    #[test]
    fn f24_only_the_pong_with_our_payload_answers_the_ping() {
        let config = Config::default();
        let mut live = pinged(&config);
        live.ponged(b"", at(21));
        live.ponged(b"\0\0\0\0\0", at(21));
        live.ponged(b"\0\0\0\x01", at(21));
        assert_eq!(live.due(at(40), false, &config), Some(Due::NoPong));

        let mut live = pinged(&config);
        live.ponged(&[0; 4], at(20));
        live.arrived(at(20));
        assert_eq!(
            live.due(at(40), false, &config),
            Some(Due::Ping([0, 0, 0, 1]))
        );
    }

    #[test]
    fn p5_the_time_to_answer_counts_from_when_the_socket_has_taken_the_ping() {
        let config = Config::default();
        let mut live = Liveness::new(&config);
        live.blocked(at(10), &config);
        assert_eq!(live.due(at(20), false, &config), Some(Due::Ping([0; 4])));
        // The progress of what is before it is watched meanwhile.
        assert_eq!(run(&mut live, &config, 100), [(40, Due::NotReading)]);
        live.flushed(at(41), &config);
        assert_eq!(run(&mut live, &config, 100), [(61, Due::NoPong)]);
    }

    #[test]
    fn p5_a_pong_proves_that_all_before_its_ping_was_read() {
        let config = Config::default();
        let mut live = Liveness::new(&config);
        live.wrote(4_000_000, at(0));
        assert_eq!(live.due(at(20), false, &config), Some(Due::Ping([0; 4])));
        live.wrote(6, at(20));
        live.flushed(at(20), &config);
        live.wrote(1000, at(21));
        assert!(live.behind(at(22)) > Duration::from_secs(200));
        live.ponged(&[0; 4], at(22));
        assert_eq!(live.behind(at(22)), Duration::ZERO);
    }

    /// A peer that reads `rate` bytes a second, behind `between` bytes of buffers of which a third
    /// must be free before the socket takes more, is sent `message` bytes at once. What was due, by
    /// the time all of it is read; or by the end of an hour, of one that reads nothing.
    fn sent_to(rate: u64, between: u64, message: u64) -> Vec<(u64, Due)> {
        let config = Config::default();
        let mut live = Liveness::new(&config);
        let (mut unsent, mut written, mut read) = (message, 0, 0);
        let mut ping: Option<(u64, [u8; 4])> = None;
        let mut asked = None;
        let mut bad = Vec::new();
        for second in 0..3600 {
            let now = at(second);
            read = written.min(read + rate);
            if let Some((behind, payload)) = ping.filter(|(behind, _)| *behind <= read) {
                assert!(behind <= written);
                live.arrived(now);
                live.ponged(&payload, now);
                ping = None;
            }
            while let Some(due) = live.due(now, false, &config) {
                match due {
                    Due::Ping(payload) => asked = Some(payload),
                    due => bad.push((second, due)),
                }
            }
            if !bad.is_empty() || unsent == 0 && read == written && second > 0 {
                return bad;
            }
            if written - read <= between * 2 / 3 {
                let n = unsent.min(between - (written - read));
                live.wrote(n as usize, now);
                written += n;
                unsent -= n;
                if let Some(payload) = asked.take() {
                    written += 6;
                    live.wrote(6, now);
                    ping = Some((written, payload));
                }
            }
            if unsent > 0 || asked.is_some() {
                live.blocked(now, &config);
            } else {
                live.flushed(now, &config);
            }
        }
        bad
    }

    #[test]
    fn p5_who_reads_16_kb_a_second_is_never_cut_off_whatever_lies_between() {
        for between in [16 << 10, 300_000, 2_600_000, 4 << 20, 8 << 20] {
            for rate in [16_000, 20_000, 25_000, 50_000, 1_000_000] {
                for message in [
                    1_000, 1_000_000, 1_500_000, 3_000_000, 8_000_000, 30_000_000,
                ] {
                    let due = sent_to(rate, between, message);
                    assert_eq!(due, [], "{message} B at {rate} B/s through {between} B");
                }
            }
        }
    }

    #[test]
    fn p5_who_reads_nothing_is_given_up_in_a_time_that_what_the_socket_took_decides() {
        for (between, latest) in [
            (0, 30),
            (64 << 10, 30),
            (2_600_000, 189),
            (4 << 20, 289),
            (8 << 20, 551),
            // No buffer is larger than we believe.
            (64 << 20, 551),
        ] {
            let due = sent_to(0, between, 100_000_000);
            assert_eq!(due, [(latest, Due::NotReading)], "{between}");
            if between == 0 {
                continue;
            }
            // All of it is in the buffers: the ping stands behind it.
            let due = sent_to(0, between + 6, between);
            let [(at, Due::NoPong | Due::NotReading)] = due[..] else {
                panic!("{due:?}");
            };
            assert!(at <= latest + 20, "{between}: {at}");
        }
    }

    #[test]
    fn a_peer_that_sends_is_not_pinged() {
        let config = Config::default();
        let mut live = Liveness::new(&config);
        for second in (0..100).step_by(10) {
            live.arrived(at(second));
            assert_eq!(live.due(at(second), false, &config), None);
        }
    }

    #[test]
    fn f8_n6_a_stalled_frame_is_late_after_30_seconds_and_a_second_for_each_kib() {
        let config = Config::default();
        let mut live = Liveness::new(&config);
        live.arrived(at(0));
        live.receiving(4096, at(0), &config);
        for second in 1..34 {
            live.arrived(at(second));
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
        let mut live = pinged(&config);
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
    fn a_pong_behind_the_rest_of_a_frame_has_more_time() {
        let config = Config::default();
        let mut live = pinged(&config);
        assert_eq!(live.due(at(40), true, &config), None);
        assert_eq!(live.due(at(60), false, &config), Some(Due::NoPong));
    }

    #[test]
    fn s3_what_brings_a_message_no_nearer_to_its_end_buys_no_time() {
        let config = Config::default();
        let mut live = Liveness::new(&config);
        live.receiving(10, at(0), &config);
        for second in 0..30 {
            // A kilobyte of pings, or an empty fragment.
            live.arrived(at(second));
            live.receiving(0, at(second), &config);
            assert_eq!(live.due(at(second), false, &config), None);
        }
        assert_eq!(live.due(at(30), false, &config), Some(Due::NotSending));
    }

    #[test]
    fn s3_a_message_of_which_all_but_a_byte_came_at_once_is_late_within_94_seconds() {
        let config = Config {
            heartbeat: None,
            ..Config::default()
        };
        let mut live = Liveness::new(&config);
        for _ in 0..16 {
            live.receiving(65_535, at(0), &config);
        }
        let due = run(&mut live, &config, 3600);
        assert!(matches!(due[..], [(30..=94, Due::NotSending)]), "{due:?}");
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
        live.flushed(at(15), &config);
        // A ping or a pong.
        live.wrote(1, at(15));
        live.flushed(at(15), &config);
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
