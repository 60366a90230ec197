use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};

use super::input::Input;
use crate::close::CloseCode;
use crate::config::Config;
use crate::connection::{Info, Link};
use crate::message::Message;
use crate::protocol::{Batch, Session};
use crate::topics::{OnFull, Position, Retain, Subscribe, Topic, Topics};

/// Plain, and retained: the second has little room.
const NAMES: [&str; 3] = ["plain", "log", "log of few"];
const AGE: Duration = Duration::from_secs(60);
/// What a message counts beside its payload.
const OVERHEAD: usize = 64;

/// Rows T1, T2, T6, T7 and T8: connections subscribe, come back with positions of all kinds, lag and
/// leave while messages are published. Whatever they do:
///
/// - what a subscription gets is in order and comes once, and nothing of it is from before its beginning;
/// - with nothing lost by policy it has no hole, and ends with the last message or with the connection;
/// - what a policy loses is counted exactly, and told by the gap function exactly: not its own messages, nor
///   what its filter refuses;
/// - a position is recovered if, and only if, everything behind it is still retained;
/// - a connection is closed only where a policy or the application says so.
pub fn topics(runtime: &Runtime, data: &[u8]) {
    runtime.block_on(async { Model::new(data).run().await });
}

struct Model<'a> {
    input: Input<'a>,
    topics: Topics,
    /// They keep the logs, so that the model has no topics to forget.
    handles: [Topic; 3],
    logs: [Log; 3],
    clients: Vec<Client>,
    /// Asks where logs end.
    probe: Arc<Link>,
}

/// A topic, as its publisher knows it.
struct Log {
    most: Option<(usize, usize)>,
    /// The number of the next message; the first has 1.
    next: u64,
    /// Who has published each, or 0.
    from: Vec<u64>,
    retained: VecDeque<(Instant, usize)>,
    /// Of the messages.
    positions: Vec<Position>,
}

struct Client {
    link: Arc<Link>,
    session: Session,
    /// It may be closed.
    is_closed: bool,
    /// By topic.
    subscribed: BTreeMap<usize, Expected>,
}

/// What a subscription may get.
struct Expected {
    policy: OnFull,
    has_gap: bool,
    /// It has a filter.
    is_choosy: bool,
    greeted: bool,
    /// The first message that is its.
    begin: u64,
    /// Behind the last one that it has got; and behind that of each key.
    next: u64,
    of_key: [u64; 3],
    got: u64,
    told: u64,
}

impl Log {
    fn first(&self) -> u64 {
        self.next - self.retained.len() as u64
    }

    fn trim(&mut self) {
        let Some((messages, bytes)) = self.most else {
            return;
        };
        while let Some((at, _)) = self.retained.front() {
            let sum: usize = self.retained.iter().map(|(_, size)| size).sum();
            let is_too_much = self.retained.len() > 1 && sum > bytes;
            if at.elapsed() <= AGE && self.retained.len() <= messages && !is_too_much {
                return;
            }
            self.retained.pop_front();
        }
    }

    /// How many messages with these numbers are for this subscription of this connection.
    fn due(&self, numbers: Range<u64>, id: u64, is_choosy: bool) -> u64 {
        let is_due = |n: &u64| self.from[*n as usize - 1] != id && !(is_choosy && is_refused(*n));
        numbers.filter(is_due).count() as u64
    }
}

impl Expected {
    /// A policy that loses nothing while the connection is open.
    fn is_whole(&self) -> bool {
        matches!(self.policy, OnFull::Close | OnFull::Pause) && !self.has_gap
    }

    fn may_be_closed(&self, log: &Log) -> bool {
        match self.policy {
            OnFull::Close => true,
            // Something that it has not got was no longer there.
            _ => !self.has_gap && self.next < log.first(),
        }
    }
}

impl<'a> Model<'a> {
    fn new(data: &'a [u8]) -> Self {
        let topics = Topics::builder()
            .retain("log", Retain::messages(20).age(AGE))
            .retain("log of", Retain::messages(5).age(AGE).bytes(500))
            .stamp(|_, position, message| {
                let text = message.as_text().expect("text");
                Message::from(format!("{text} {position}"))
            })
            .build();
        let logs = [None, Some((20, 1 << 20)), Some((5, 500))].map(|most| Log {
            most,
            next: 1,
            from: Vec::new(),
            retained: VecDeque::new(),
            positions: Vec::new(),
        });
        Self {
            input: Input::new(data),
            handles: NAMES.map(|name| topics.topic(name)),
            probe: Client::new(&topics, false).link,
            topics,
            logs,
            clients: Vec::new(),
        }
    }

    async fn run(mut self) {
        for _ in 0..300 {
            if self.input.is_empty() {
                break;
            }
            let op = self.input.byte();
            if op < 16 && self.clients.len() < 4 {
                self.clients.push(Client::new(&self.topics, op & 8 != 0));
            }
            let topic = usize::from(self.input.byte()) % NAMES.len();
            let at = usize::from(self.input.byte());
            let at = (!self.clients.is_empty()).then(|| at % self.clients.len());
            match (op, at) {
                (16..64, Some(at)) => self.subscribe(at, topic),
                (64..80, Some(at)) => self.unsubscribe(at, topic),
                (80..84, Some(at)) => {
                    let client = self.clients.swap_remove(at);
                    client.link.end();
                }
                (84..88, _) => self.close(topic),
                (88..92, _) => {
                    let half_minutes = self.input.byte() % 5;
                    sleep(AGE / 2 * u32::from(half_minutes)).await;
                }
                (92..140, Some(at)) => {
                    self.clients[at].write(&self.logs);
                }
                (140..150, Some(at)) => self.drain(at),
                (150..200, Some(at)) => self.publish(topic, Some(at)),
                _ => self.publish(topic, None),
            }
            self.look();
        }
        for at in 0..self.clients.len() {
            self.drain(at);
        }
        for client in self.clients.drain(..) {
            client.link.end();
        }
        let subscribers = NAMES.map(|name| self.topics.subscribers(name));
        assert_eq!(subscribers, [0; 3], "who has ended subscribes nothing");
        drop(self.handles);
    }

    fn publish(&mut self, topic: usize, at: Option<usize>) {
        let padding = match self.input.byte() {
            n @ 0..=200 => usize::from(n) / 8,
            n => usize::from(n),
        };
        let log = &mut self.logs[topic];
        let text = format!("{topic} {} {}", log.next, "x".repeat(padding));
        let from = at.map_or(0, |at| self.clients[at].id());
        let members = self.topics.subscribers(NAMES[topic]);
        let published = match at {
            Some(at) => self.clients[at]
                .link
                .publish(NAMES[topic], &text.clone().into()),
            None if self.input.flag() => self.handles[topic].publish(text.clone()),
            None => self.topics.publish(NAMES[topic], text.clone()),
        };
        assert!(published.delivered() + published.waiting() <= members);
        log.from.push(from);
        log.next += 1;
        if log.most.is_some() {
            let position = end(&self.probe, NAMES[topic]).expect("a log");
            let size = text.len() + 1 + position.to_string().len() + OVERHEAD;
            log.positions.push(position);
            log.retained.push_back((Instant::now(), size));
            log.trim();
        }
    }

    fn subscribe(&mut self, at: usize, topic: usize) {
        // What waits of an old one would be taken for the new one's.
        self.drain(at);
        let is_retained = self.logs[topic].most.is_some();
        let policies = [
            OnFull::Pause,
            OnFull::Close,
            OnFull::DropNewest,
            OnFull::DropOldest,
            OnFull::KeepLatest,
        ];
        let mut policy = self.input.one_of(&policies);
        let has_gap = self.input.flag();
        let is_choosy = self.input.flag();
        let after = self.position(topic);

        let (client, log) = (&mut self.clients[at], &mut self.logs[topic]);
        log.trim();
        let resumed = after.and_then(|(of, number, _)| {
            let next = number.checked_add(1)?;
            let is_here = is_retained && of == topic && (log.first()..=log.next).contains(&next);
            is_here.then_some(next)
        });
        let mut how = Subscribe::new()
            .after(after.map(|(_, _, position)| position))
            .on_full(policy)
            .key(|message| number(message.as_text().expect("text")) % 3)
            .greeting(move |_| Message::from(format!("{topic} greets")));
        if has_gap {
            how = how.gap(move |n| Message::from(format!("{topic} lost {n}")));
        }
        if is_choosy {
            how = how.filter(|message| !is_refused(number(message.as_text().expect("text"))));
        }
        let Ok(attached) = client.link.subscribe(NAMES[topic], how) else {
            assert!(client.link.is_closed(), "there is room for so few");
            return;
        };
        assert_eq!(
            attached.recovered(),
            after.is_none() || resumed.is_some(),
            "of {} after {after:?}, which has {} to {}",
            NAMES[topic],
            log.first(),
            log.next
        );
        if policy == OnFull::Pause && !is_retained {
            policy = OnFull::Close;
        }
        let begin = resumed.unwrap_or(log.next);
        let expected = Expected {
            policy,
            has_gap,
            is_choosy,
            greeted: false,
            begin,
            next: begin,
            of_key: [begin; 3],
            got: 0,
            told: 0,
        };
        client.subscribed.insert(topic, expected);
    }

    /// What a client shows: of which topic, which message, and the position.
    fn position(&mut self, topic: usize) -> Option<(usize, u64, Position)> {
        match self.input.byte() {
            0..=79 => None,
            // One that somebody has seen, here or elsewhere.
            n @ 80..=219 => {
                let of = if n < 200 {
                    topic
                } else {
                    usize::from(n) % NAMES.len()
                };
                let back = usize::from(self.input.byte()) % 32;
                let positions = &self.logs[of].positions;
                let at = positions.len().checked_sub(back + 1)?;
                Some((of, at as u64 + 1, positions[at]))
            }
            // One that is made up.
            _ => {
                let offset = match self.input.byte() {
                    0..=99 => u64::from(self.input.byte()),
                    100..=149 => u64::MAX,
                    n => u64::MAX - u64::from(n),
                };
                let end = end(&self.probe, NAMES[topic]).map(|end| end.to_string());
                let epoch = end.as_deref().and_then(|end| end.split('-').next());
                let text = format!("{}-{offset:x}", epoch.unwrap_or("0123456789abcdef"));
                Some((topic, offset, text.parse().expect("a position")))
            }
        }
    }

    fn unsubscribe(&mut self, at: usize, topic: usize) {
        let client = &mut self.clients[at];
        let was = client.subscribed.remove(&topic).is_some();
        assert_eq!(client.link.unsubscribe(NAMES[topic]), was);
    }

    fn close(&mut self, topic: usize) {
        let is_open =
            |client: &&Client| client.subscribed.contains_key(&topic) && !client.link.is_closed();
        let open = self.clients.iter().filter(is_open).count();
        let closed = self
            .topics
            .close(NAMES[topic], CloseCode::NORMAL_CLOSURE, "");
        assert_eq!(closed, Ok(open));
        for client in &mut self.clients {
            client.is_closed |= client.subscribed.contains_key(&topic);
        }
    }

    /// What always holds.
    fn look(&mut self) {
        for (topic, name) in NAMES.into_iter().enumerate() {
            let subscribes = |client: &&Client| client.subscribed.contains_key(&topic);
            let count = self.clients.iter().filter(subscribes).count();
            assert_eq!(
                self.topics.subscribers(name),
                count,
                "subscribers of {name}"
            );
        }
        for client in &mut self.clients {
            if client.link.is_closed() && !client.is_closed {
                let mut all = client.subscribed.iter();
                let may_be = all.any(|(topic, e)| e.may_be_closed(&self.logs[*topic]));
                assert!(may_be, "closed, though no policy says so");
                client.is_closed = true;
            }
        }
    }

    /// The client reads until there is no more, and then has everything.
    fn drain(&mut self, at: usize) {
        let client = &mut self.clients[at];
        while client.write(&self.logs) {}
        if client.link.is_closed() {
            return;
        }
        let id = client.id();
        for (topic, expected) in &client.subscribed {
            let (log, name) = (&self.logs[*topic], NAMES[*topic]);
            assert!(expected.greeted, "a greeting of {name}");
            let all = expected.begin..log.next;
            let due = log.due(all, id, expected.is_choosy);
            let dropped = client.link.dropped(name);
            assert_eq!(expected.got + dropped, due, "of {name}");
            assert!(
                dropped == 0 || !expected.is_whole(),
                "{name} has lost {dropped}"
            );
            assert!(
                !expected.has_gap || expected.told == dropped,
                "told of {name}"
            );
        }
    }
}

impl Client {
    fn new(topics: &Topics, is_small: bool) -> Self {
        let config = Arc::new(Config {
            queue_messages: 4,
            queue_bytes: if is_small { 400 } else { 4000 },
            ..Config::default()
        });
        let info = Info::of_nobody();
        Self {
            link: Arc::new(Link::new(config.clone(), info, None, topics.clone())),
            session: Session::new(config),
            is_closed: false,
            subscribed: BTreeMap::new(),
        }
    }

    fn id(&self) -> u64 {
        self.link.info.id.as_u64()
    }

    /// Writes one batch of what is queued, and reads it. Whether there was something.
    fn write(&mut self, logs: &[Log; 3]) -> bool {
        let mut batch = Batch::default();
        self.link.fill(&mut self.session, &mut batch);
        let mut bytes = Vec::new();
        while !batch.is_empty() {
            batch.write_into(&mut bytes);
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (len, tail) = match rest {
                [0x81, 126, high, low, tail @ ..] => (u16::from_be_bytes([*high, *low]), tail),
                [0x81, len, tail @ ..] => (u16::from(*len), tail),
                _ => panic!("not a frame of text: {rest:?}"),
            };
            let (text, tail) = tail.split_at(usize::from(len));
            self.take(std::str::from_utf8(text).expect("UTF-8"), logs);
            rest = tail;
        }
        !bytes.is_empty()
    }

    fn take(&mut self, text: &str, logs: &[Log; 3]) {
        let mut words = text.split(' ');
        let mut word = || words.next().expect("a word");
        let topic: usize = word().parse().expect("a topic");
        let (id, log) = (self.id(), &logs[topic]);
        // What was queued for one that is no more.
        let Some(expected) = self.subscribed.get_mut(&topic) else {
            return;
        };
        let n = match word() {
            "greets" => {
                assert!(!expected.greeted, "two greetings");
                expected.greeted = true;
                return;
            }
            "lost" => {
                assert!(expected.has_gap, "it has no gap function");
                expected.told += word().parse::<u64>().expect("a number");
                return;
            }
            n => n.parse::<u64>().expect("a number"),
        };
        assert!(expected.greeted, "{n} is ahead of the greeting");
        assert!(
            (expected.begin..log.next).contains(&n),
            "{n} is none of its messages"
        );
        let is_due = log.due(n..n + 1, id, expected.is_choosy) == 1;
        assert!(is_due, "{n} is its own, or refused");
        if let Some(position) = log.positions.get(n as usize - 1) {
            assert!(text.ends_with(&format!(" {position}")), "{text}");
        }
        let next = match expected.policy {
            OnFull::KeepLatest => &mut expected.of_key[n as usize % 3],
            _ => &mut expected.next,
        };
        assert!(*next <= n, "{n} is not in order, or comes twice");
        if expected.is_whole() {
            assert_eq!(
                log.due(expected.next..n, id, expected.is_choosy),
                0,
                "there is a hole ahead of {n}"
            );
        }
        expected.of_key[n as usize % 3] = n + 1;
        expected.next = expected.next.max(n + 1);
        expected.got += 1;
    }
}

/// Of a message.
fn number(text: &str) -> u64 {
    let number = text.split(' ').nth(1);
    number.and_then(|n| n.parse().ok()).expect("a number")
}

/// What filters refuse: three of eight, and some in a row.
fn is_refused(n: u64) -> bool {
    matches!(n % 8, 0 | 4 | 5)
}

/// Where the log of a topic ends.
fn end(probe: &Arc<Link>, name: &str) -> Option<Position> {
    let attached = probe.subscribe(name, Subscribe::new());
    assert!(probe.unsubscribe(name));
    attached.expect("it is open").position()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{paused, random, random_bytes};

    #[test]
    fn t1_t2_t6_t7_t8_topics_keep_their_promises_whatever_is_done_with_them() {
        let runtime = paused();
        for _ in 0..500 {
            super::topics(&runtime, &random_bytes(&mut random(), 1200));
        }
    }
}
