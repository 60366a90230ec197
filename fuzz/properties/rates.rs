use std::collections::VecDeque;
use std::time::Duration;

use super::input::Input;
use crate::config::Config;
use crate::protocol::{Moment, Rates};

/// Row F22: a peer that keeps to a rate is never refused; and in no stretch of time does more
/// pass than the burst, the rate times that stretch, and the rate times the longest of the pauses
/// that were in effect.
///
/// The peer sends into a socket, from which the server reads at once, or later, or not at all for
/// a while, which is a pause.
pub fn rates(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    // Mostly such as few messages go beyond.
    let rate = |input: &mut Input<'_>| match input.byte() {
        n @ 0..=63 => u32::from(n),
        n @ 64..=95 => 1 << (n - 64),
        96..=99 => u32::MAX,
        n => 1 + u32::from(n & 7),
    };
    let config = Config {
        max_message: input.one_of(&[1024 * 1024, 1000, 0]),
        max_control_rate: rate(&mut input),
        max_message_rate: (flags & 1 == 0).then(|| rate(&mut input)),
        max_byte_rate: (flags & 2 == 0).then(|| u64::from(rate(&mut input)) << (flags >> 4)),
        max_inflated_rate: (flags & 4 == 0).then(|| u64::from(rate(&mut input))),
        ..Config::default()
    };
    let mut rates = Rates::new(&config);
    let mut largest = config.max_message as u64;
    if flags & 8 != 0 {
        largest += 1000;
        rates.set_largest(largest as usize);
    }
    // A read beside the largest message.
    let whole = |largest: u64| largest + 64 * 1024;
    let control_rate = Some(config.max_control_rate.into());
    let message_rate = config.max_message_rate.map(u64::from);
    let mut kinds = [
        Kind::new(
            |rates, _, now, config| rates.control(now, config),
            control_rate,
            0,
        ),
        Kind::new(
            |rates, _, now, config| rates.message(now, config),
            message_rate,
            0,
        ),
        Kind::new(Rates::bytes, config.max_byte_rate, whole(largest)),
        Kind::new(
            Rates::inflated,
            config.max_inflated_rate,
            whole(config.max_message as u64),
        ),
    ];
    let mut pauses = Pauses::default();
    let mut paused = None;
    let mut now = 0;

    for _ in 0..200 {
        if input.is_empty() {
            break;
        }
        let op = input.byte();
        let kind = &mut kinds[usize::from(op & 3)];
        match op >> 2 {
            // It sends so much, as fast as it may, or as it likes.
            n @ 0..=31 => {
                let sizes = [1, 2, 100, 65_536, whole(largest), kind.burst, 1 << 20, 0];
                let n_sent = if kind.by_size {
                    sizes[usize::from(n & 7)]
                } else {
                    1
                };
                let polite = n & 16 == 0;
                let times = match n & 8 {
                    0 => 1,
                    _ if kind.by_size => 4,
                    _ => 20,
                };
                for _ in 0..times {
                    if polite {
                        now += kind.wait(n_sent, now);
                    }
                    kind.sends(n_sent, now);
                    if paused.is_none() {
                        kind.read(&mut rates, &config, usize::MAX, now, pauses.in_effect(now));
                    }
                }
            }
            // Time passes: nanoseconds to minutes, or about a second, since that is what counts.
            n @ 32..=43 => now += u64::from(input.u16()) << (3 * (n - 32)).min(21),
            44..=47 => now += 999_990_000 + u64::from(input.u16()),
            // Nobody reads, until further notice or for up to four seconds.
            48..=50 => paused = paused.or(Some(now)),
            51..=55 if paused.is_none() => {
                let since = now;
                now += u64::from(input.u16()) << 16;
                pauses.end(since, now, &mut rates);
            }
            n => {
                if let Some(since) = paused.take() {
                    pauses.end(since, now, &mut rates);
                }
                // All that is there, or a part of it.
                let most = if n < 60 {
                    usize::MAX
                } else {
                    usize::from(input.byte())
                };
                for kind in &mut kinds {
                    kind.read(&mut rates, &config, most, now, pauses.in_effect(now));
                }
            }
        }
    }
}

fn at(nanos: u64) -> Moment {
    Moment::new(Duration::from_nanos(nanos))
}

type Take = fn(&mut Rates, usize, Moment, &Config) -> bool;

/// A second, which is as many nanoseconds; and what flows in within one, in billionths.
const SECOND: u64 = 1_000_000_000;

/// What is counted, and a model of it: a bucket of tokens. All numbers of tokens are billionths,
/// so that none is rounded.
struct Kind {
    take: Take,
    by_size: bool,
    /// `None` if there is no limit.
    rate: Option<u64>,
    /// In whole tokens.
    burst: u64,
    /// What the peer may send at `filled`; it has not kept to the rate once this is negative.
    tokens: i128,
    filled: u64,
    keeps: bool,
    /// What nobody has read yet.
    sent: VecDeque<Sent>,
    /// By how much the reading was later than what a pause excuses, at the most.
    lag: u64,
    /// What has passed.
    passed: Vec<Passed>,
    refused: bool,
}

struct Sent {
    n: u64,
    at: u64,
    /// The tokens that were left to the peer, or that it did not keep to the rate.
    left: Option<i128>,
}

struct Passed {
    n: u64,
    at: u64,
    /// The longest pause in effect.
    pause: u64,
}

impl Kind {
    fn new(take: Take, rate: Option<u64>, whole: u64) -> Self {
        // A rate of 0 is taken for 1.
        let rate = rate.map(|rate| rate.max(1));
        let burst = whole.max(rate.unwrap_or(0));
        Self {
            take,
            by_size: whole > 0,
            rate,
            burst,
            tokens: i128::from(burst) * i128::from(SECOND),
            filled: 0,
            keeps: true,
            sent: VecDeque::new(),
            lag: 0,
            passed: Vec::new(),
            refused: false,
        }
    }

    /// Billionths of a token.
    fn flow(&self, nanos: u64) -> i128 {
        i128::from(self.rate.unwrap_or(0)) * i128::from(nanos)
    }

    fn fill(&mut self, now: u64) {
        let full = i128::from(self.burst) * i128::from(SECOND);
        self.tokens = (self.tokens + self.flow(now - self.filled)).min(full);
        self.filled = now;
    }

    /// How long a peer waits that keeps to the rate; as long as it can get, for what never may.
    fn wait(&mut self, n: u64, now: u64) -> u64 {
        self.fill(now);
        let missing = i128::from(n) * i128::from(SECOND) - self.tokens;
        match self.rate {
            Some(rate) if missing > 0 => {
                let nanos = (missing + i128::from(rate) - 1) / i128::from(rate);
                u64::try_from(nanos).unwrap_or(0).min(3600 * SECOND)
            }
            _ => 0,
        }
    }

    fn sends(&mut self, n: u64, now: u64) {
        self.fill(now);
        self.tokens -= i128::from(n) * i128::from(SECOND);
        self.keeps &= self.tokens >= 0;
        self.sent.push_back(Sent {
            n,
            at: now,
            left: self.keeps.then_some(self.tokens),
        });
    }

    /// The server reads up to `most` of what was sent, behind a pause of that length.
    fn read(&mut self, rates: &mut Rates, config: &Config, most: usize, now: u64, pause: u64) {
        for _ in 0..most.min(self.sent.len()) {
            let sent = self.sent.pop_front().expect("it is there");
            if self.refused {
                continue;
            }
            let passes = (self.take)(rates, sent.n as usize, at(now), config);
            if self.rate.is_none() {
                assert!(passes, "there is no limit");
                continue;
            }
            // How long it lay there beyond what is excused: that may look like haste.
            self.lag = self.lag.max((now - sent.at).saturating_sub(pause));
            if passes {
                self.pass(sent.n, now, pause);
            } else {
                let margin = sent.left.map(|left| left + self.flow(now - sent.at));
                let kept = margin.is_some_and(|margin| margin >= self.flow(self.lag));
                assert!(!kept, "refused at {now}, though it kept to the rate");
                self.refused = true;
            }
        }
    }

    /// In every stretch of time that ends now, no more has passed than may.
    fn pass(&mut self, n: u64, now: u64, pause: u64) {
        self.passed.push(Passed { n, at: now, pause });
        let mut sum = 0;
        for (i, first) in self.passed.iter().rev().take(300).enumerate() {
            sum += i128::from(first.n) * i128::from(SECOND);
            let may = i128::from(self.burst) * i128::from(SECOND)
                + self.flow(now - first.at + first.pause);
            // Times are whole nanoseconds: each that was passed may have cost a part of one less.
            let rounded = self.flow(i as u64 + 1);
            assert!(sum <= may + rounded, "since {} until {now}", first.at);
        }
    }
}

/// Those that there were: from, until.
#[derive(Default)]
struct Pauses {
    all: Vec<(u64, u64)>,
}

impl Pauses {
    fn end(&mut self, since: u64, now: u64, rates: &mut Rates) {
        rates.excuse(at(since), at(now));
        self.all.push((since, now));
    }

    /// The longest of those that have followed each other within a second, up to a second ago.
    fn in_effect(&self, now: u64) -> u64 {
        let mut next = now;
        let chain = self.all.iter().rev().take_while(|(since, until)| {
            let follows = next <= until + SECOND;
            next = *since;
            follows
        });
        chain.map(|(since, until)| until - since).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{random, random_bytes};

    #[test]
    fn s10_f22_a_rate_refuses_nobody_who_keeps_to_it_and_passes_no_more_than_it_may() {
        for _ in 0..500 {
            super::rates(&random_bytes(&mut random(), 400));
        }
    }
}
