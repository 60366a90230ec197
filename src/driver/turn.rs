//! [`Turn`]: the work that one connection may do before it yields to the others on its thread.

use std::pin::pin;
use std::task::Context;
use std::time::Duration;

use crate::protocol::Moment;

/// See the module docs. It counts, and does not read a clock.
#[derive(Debug)]
pub(super) struct Turn {
    /// In microseconds of the connection's age, which wraps every 71 minutes; a turn that is looked at later
    /// than that is not longer for it.
    began: u32,
    /// How many connections the thread had woken by then.
    woken: u32,
    /// What messages were inflated to, in bytes.
    inflated: u32,
    messages: u16,
    reads: u8,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Work may go on.
    Goes,
    /// It takes a look at the clock to know.
    WantsLook,
    /// Others are to run first.
    Over,
    /// The task has slept since: this turn is none any more.
    Slept,
}

/// Messages in a turn. 128 is also the budget that tokio gives a task.
const MESSAGES: u16 = 128;

/// Reads in a turn, of 64 KiB each or more: half a millisecond of the kernel's copying.
const READS: u8 = 16;

/// What messages may be inflated to in a turn, in bytes; a piece of a message may pass it. 64 KiB take
/// a tenth of a millisecond.
const INFLATED: u32 = 64 * 1024;

/// How long a turn may last. 200 µs: with ten connections that never rest, each other one waits for
/// 2 ms, or twice that; and it costs a hundredth of that to change.
const LONGEST: Duration = Duration::from_micros(200);

/// How much longer it may last for each connection that it has woken: what the kernel takes at least to send one
/// message. Those who wait for this turn wait for these as well, so they wait at most twice as long; and who sends
/// to many in the callbacks of messages that came together has them write once for all of these.
const FOR_EACH_WOKEN: Duration = Duration::from_micros(2);

/// The end of that. Timers wait too, and the shortest of a connection are of seconds; 16 messages to a thousand take
/// half of it.
const LONGEST_OF_ALL: Duration = Duration::from_millis(5);

/// The clock is looked at after the second message, for handlers that are slow, and after every
/// eighth; and after each read but the first.
const LOOK_EVERY: u16 = 8;

impl Turn {
    /// Begins anew, when the task has slept or let others run. `woken` counts the connections that the
    /// thread has woken, ever, and wraps.
    pub(super) fn begin(now: Moment, woken: u32) -> Self {
        Self {
            began: now.micros(),
            woken,
            messages: 0,
            reads: 0,
            inflated: 0,
            state: State::Goes,
        }
    }

    /// Before the first.
    pub(super) fn none() -> Self {
        Self {
            state: State::Slept,
            ..Self::begin(Moment::START, 0)
        }
    }

    /// The task is about to sleep.
    #[inline]
    pub(super) fn sleep(&mut self) {
        self.state = State::Slept;
    }

    /// Whether the task has slept, so that the next look at the clock begins a turn.
    #[inline]
    pub(super) fn has_slept(&self) -> bool {
        self.state == State::Slept
    }

    /// Whether there is nothing to look at before work goes on.
    #[inline]
    pub(super) fn goes_on(&self) -> bool {
        self.state == State::Goes
    }

    /// A message is handled.
    #[inline]
    pub(super) fn message(&mut self) {
        self.messages = self.messages.saturating_add(1);
        if self.messages % LOOK_EVERY == 0 || self.messages == 2 {
            self.want_look();
            if self.messages >= MESSAGES {
                self.end();
            }
        }
    }

    /// Something was read.
    #[inline]
    pub(super) fn read(&mut self) {
        self.reads = self.reads.saturating_add(1);
        if self.reads > 1 {
            self.want_look();
        }
    }

    /// Messages were inflated to `n` bytes.
    #[inline]
    pub(super) fn inflated(&mut self, n: usize) {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        self.inflated = self.inflated.saturating_add(n);
        if self.inflated >= INFLATED {
            self.end();
        }
    }

    #[inline]
    fn end(&mut self) {
        if !self.has_slept() {
            self.state = State::Over;
        }
    }

    #[inline]
    fn want_look(&mut self) {
        if self.state == State::Goes {
            self.state = State::WantsLook;
        }
    }

    /// Whether it takes a look at the clock to know if the turn is over.
    #[inline]
    pub(super) fn wants_look(&self) -> bool {
        self.state == State::WantsLook
    }

    /// The clock was looked at. `woken` as in [`begin`](Self::begin).
    pub(super) fn looked(&mut self, now: Moment, woken: u32) {
        let lasts = Duration::from_micros(now.micros().wrapping_sub(self.began).into());
        if lasts >= LONGEST && lasts >= Self::longest(woken.wrapping_sub(self.woken)) {
            self.state = State::Over;
        } else if self.state == State::WantsLook {
            self.state = State::Goes;
        }
    }

    #[cold]
    fn longest(woken: u32) -> Duration {
        (LONGEST + FOR_EACH_WOKEN * woken).min(LONGEST_OF_ALL)
    }

    /// Whether others are to run first.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Whether others are to run before more is read.
    #[inline]
    pub(super) fn has_read_enough(&self) -> bool {
        self.reads >= READS
    }
}

/// Wakes the task when the others of its thread have run and the sockets have been looked at.
///
/// A task that only wakes itself is polled up to 61 times before tokio looks at its sockets.
pub(super) fn let_others_run(cx: &mut Context<'_>) {
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_has_16_bytes() {
        assert_eq!(size_of::<Turn>(), 16);
    }

    #[test]
    fn s1_a_turn_that_begins_where_its_clock_wraps_is_as_long_as_any() {
        let before = u64::from(u32::MAX);
        let turn = |now| is_over_by(Turn::begin(at(before), 0), at(now));
        assert!(!turn(before + 199));
        assert!(turn(before + 200));
    }

    fn at(micros: u64) -> Moment {
        Moment::new(Duration::from_micros(micros))
    }

    /// Whether a turn that began at 1 µs is over by then.
    fn is_over_by(mut turn: Turn, now: Moment) -> bool {
        turn.looked(now, 0);
        turn.is_over()
    }

    #[test]
    fn s1_a_turn_is_over_after_128_messages_64_kib_inflated_or_200_microseconds() {
        let mut by_messages = Turn::begin(at(1), 0);
        for _ in 0..127 {
            by_messages.message();
        }
        assert!(!by_messages.is_over());
        by_messages.message();
        assert!(by_messages.is_over());

        let mut by_work = Turn::begin(at(1), 0);
        by_work.inflated(INFLATED as usize - 1);
        assert!(!by_work.is_over());
        by_work.inflated(1);
        assert!(by_work.is_over());

        assert!(!is_over_by(Turn::begin(at(1), 0), at(200)));
        assert!(is_over_by(Turn::begin(at(1), 0), at(201)));
    }

    #[test]
    fn s1_the_clock_is_looked_at_early_and_then_at_every_eighth_message() {
        let mut turn = Turn::begin(at(0), 0);
        let mut takes_look = |act: fn(&mut Turn)| {
            act(&mut turn);
            let wanted = turn.wants_look();
            turn.looked(at(0), 0);
            wanted
        };
        let looks: Vec<u32> = (1..=24).filter(|_| takes_look(Turn::message)).collect();
        assert_eq!(looks, [2, 8, 16, 24]);
        assert!(!takes_look(Turn::read));
        assert!(takes_look(Turn::read));
        assert!(!turn.wants_look());
    }

    #[test]
    fn s1_reads_have_a_bound_of_their_own_and_a_new_turn_begins_with_nothing() {
        let mut turn = Turn::begin(at(0), 0);
        for _ in 0..READS {
            assert!(!turn.has_read_enough());
            turn.read();
        }
        assert!(turn.has_read_enough());
        let turn = Turn::begin(at(1000), 0);
        assert!(!turn.has_read_enough() && !turn.is_over() && !turn.wants_look());
    }

    #[test]
    fn s1_a_turn_that_wakes_others_lasts_2_microseconds_longer_for_each_and_5_ms_at_most() {
        let before = u32::MAX - 400;
        let is_over = |woken: u32, micros: u64| {
            let mut turn = Turn::begin(at(0), before);
            turn.looked(at(micros), before.wrapping_add(woken));
            turn.is_over()
        };
        assert!(!is_over(1000, 2199));
        assert!(is_over(1000, 2200));
        assert!(!is_over(1, 201));
        assert!(is_over(1, 202));
        assert!(!is_over(u32::MAX, 4999));
        assert!(is_over(u32::MAX, 5000));
    }
}
