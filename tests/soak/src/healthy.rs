//! A client that keeps the rules, and holds the server to them: every echo exactly once, in
//! order, intact and in time; pings answered; nobody disconnected; a proper end.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

use crate::arena::{Arena, add};
use crate::client::{Ask, Client, Got, PATIENCE};
use crate::random::Random;

/// How it behaves.
#[derive(Clone)]
pub struct Habit {
    pub stay: Range<u64>,
    /// Between its bursts, in milliseconds.
    pub pause: Range<u64>,
    pub burst: Range<u64>,
    pub size: Range<usize>,
    /// Some come over HTTP/2, some compress.
    pub variety: bool,
}

impl Default for Habit {
    fn default() -> Self {
        Self {
            stay: 3..30,
            pause: 500..8000,
            burst: 1..5,
            size: 10..64 * 1024,
            variety: true,
        }
    }
}

/// A message on its way, enough of it to make it again.
struct Sent {
    seq: u64,
    text: bool,
    size: usize,
    at: Instant,
}

struct Visit<'a> {
    arena: &'a Arena,
    client: Client,
    id: u64,
    outstanding: VecDeque<Sent>,
    seq: u64,
    ping: Option<([u8; 8], Instant)>,
    /// The last broadcast that was heard.
    heard: Option<u64>,
    closing: bool,
}

/// Comes and goes until the arena stops.
pub async fn live(arena: &Arena, id: u64, habit: &Habit) {
    let mut random = arena.random();
    while !arena.is_stopped() {
        match visit(arena, id, &mut random, habit).await {
            Ok(()) => add(&arena.count.visits, 1),
            Err(failure) => {
                arena.fail(format!("healthy client {id}: {failure}"));
                // What is broken once may be broken always.
                arena.rest(Duration::from_secs(1)).await;
            }
        }
        let pause = random.between(10, 1000);
        arena.rest(Duration::from_millis(pause)).await;
    }
}

async fn visit(arena: &Arena, id: u64, random: &mut Random, habit: &Habit) -> Result<(), String> {
    let http2 = habit.variety && random.percent(4);
    let ask = Ask {
        http2,
        deflate: habit.variety && !http2 && random.percent(25),
        ..Ask::default()
    };
    let what = if http2 { "over HTTP/2: " } else { "" };
    let mut visit = Visit {
        arena,
        client: arena.join(ask).await?,
        id,
        outstanding: VecDeque::new(),
        seq: 0,
        ping: None,
        heard: None,
        closing: false,
    };
    let stay = Duration::from_secs(random.between(habit.stay.start, habit.stay.end));
    let done = visit.stay(Instant::now() + stay, random, habit).await;
    done.map_err(|failure| {
        let (sent, open) = (visit.seq, visit.outstanding.len());
        format!(
            "{what}{failure} (deflate: {}, {sent} sent, {open} not echoed)",
            ask.deflate
        )
    })
}

impl Visit<'_> {
    async fn stay(
        &mut self,
        until: Instant,
        random: &mut Random,
        habit: &Habit,
    ) -> Result<(), String> {
        let pause = |random: &mut Random| {
            Duration::from_millis(random.between(habit.pause.start, habit.pause.end))
        };
        let mut speak = Instant::now() + pause(random);
        while Instant::now() < until && !self.arena.is_stopped() {
            self.listen(
                speak
                    .min(until)
                    .min(Instant::now() + Duration::from_secs(1)),
            )
            .await?;
            if Instant::now() >= speak {
                speak = Instant::now() + pause(random);
                self.speak(random, habit);
            }
        }
        // Some leave with all said, some with echoes still to come.
        if random.percent(50) {
            while !self.outstanding.is_empty() {
                self.listen(Instant::now() + Duration::from_secs(1)).await?;
            }
        }
        self.client.close(1000);
        self.closing = true;
        let deadline = Instant::now() + PATIENCE;
        while !self.listen(deadline).await? {
            if Instant::now() >= deadline {
                return Err("the closing handshake takes too long".into());
            }
        }
        Ok(())
    }

    fn speak(&mut self, random: &mut Random, habit: &Habit) {
        for _ in 0..random.between(habit.burst.start, habit.burst.end) {
            if self.outstanding.len() >= 16 {
                break;
            }
            let sent = Sent {
                seq: self.seq,
                text: random.percent(70),
                size: random.size(habit.size.start, habit.size.end),
                at: Instant::now(),
            };
            let payload = self.payload(&sent);
            self.client.message(sent.text, &payload);
            self.outstanding.push_back(sent);
            self.seq += 1;
        }
        if self.ping.is_none() && random.percent(20) {
            let payload = random.next().to_be_bytes();
            self.client.frame(0x89, &payload);
            self.ping = Some((payload, Instant::now()));
        }
    }

    /// `"<client> <seq> …"`, the same every time.
    fn payload(&self, sent: &Sent) -> Vec<u8> {
        const WORDS: [&str; 8] = [
            "chat ",
            "tower ",
            "naïve ",
            "пульс ",
            "波 ",
            "frame ",
            "of ",
            "🦀 ",
        ];
        let mut out = format!("{} {} ", self.id, sent.seq).into_bytes();
        let mut random = Random::new(self.id, sent.seq);
        if !sent.text {
            let rest = sent.size.saturating_sub(out.len());
            out.extend(random.bytes(rest));
            return out;
        }
        while out.len() < sent.size {
            let word = WORDS[random.next() as usize % WORDS.len()];
            out.extend(word.as_bytes());
        }
        out
    }

    /// Deals with what arrives until `deadline`. `true`: all is over, as it should be.
    async fn listen(&mut self, deadline: Instant) -> Result<bool, String> {
        while let Some(got) = self.client.next(deadline).await? {
            match got {
                Got::Text(text) if text.starts_with(b"room ") => self.broadcast(&text)?,
                Got::Text(payload) => self.echo(true, &payload)?,
                Got::Binary(payload) => self.echo(false, &payload)?,
                Got::Ping(payload) => {
                    add(&self.arena.count.pings, 1);
                    if !self.closing {
                        self.client.frame(0x8A, &payload);
                    }
                }
                Got::Pong(payload) => match self.ping.take() {
                    Some((ping, _)) if payload == ping => add(&self.arena.count.pongs, 1),
                    ping => return Err(format!("pong {payload:?} to ping {ping:?}")),
                },
                Got::Close(Some(1000)) if self.closing => return self.end().await,
                Got::Close(code) => {
                    return Err(format!("Close {code:?}, closing: {}", self.closing));
                }
                Got::End { reset } => {
                    let closing = self.closing;
                    return Err(format!("ended; reset: {reset}, closing: {closing}"));
                }
            }
        }
        if self
            .outstanding
            .front()
            .is_some_and(|sent| sent.at.elapsed() > PATIENCE)
        {
            return Err(format!("no echo within {PATIENCE:?}"));
        }
        if self.ping.is_some_and(|(_, at)| at.elapsed() > PATIENCE) {
            return Err(format!("no pong within {PATIENCE:?}"));
        }
        Ok(false)
    }

    fn echo(&mut self, text: bool, payload: &[u8]) -> Result<(), String> {
        let begin = || String::from_utf8_lossy(&payload[..payload.len().min(40)]).into_owned();
        let Some(sent) = self.outstanding.pop_front() else {
            return Err(format!("an echo too many: {:?}", begin()));
        };
        if text != sent.text || payload != self.payload(&sent) {
            let (seq, size, got) = (sent.seq, sent.size, payload.len());
            let begin = begin();
            return Err(format!(
                "not message {seq} of {size} bytes: {begin:?}, {got} bytes"
            ));
        }
        add(&self.arena.count.echoes, 1);
        add(&self.arena.count.bytes, payload.len() as u64);
        self.arena.latency(sent.at.elapsed());
        Ok(())
    }

    fn broadcast(&mut self, text: &[u8]) -> Result<(), String> {
        let n = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.split(' ').nth(1)?.parse().ok());
        if n.is_none() || n <= self.heard {
            return Err(format!("broadcast {n:?} after {:?}", self.heard));
        }
        self.heard = n;
        add(&self.arena.count.broadcasts, 1);
        Ok(())
    }

    /// Behind the Close frames there is an orderly end and nothing else.
    async fn end(&mut self) -> Result<bool, String> {
        if !self.outstanding.is_empty() {
            return Err("Close in place of the echoes".into());
        }
        match self.client.next(Instant::now() + PATIENCE).await? {
            Some(Got::End { reset: false }) => Ok(true),
            Some(Got::End { reset: true }) => Err("reset after the Close frames".into()),
            Some(_) => Err("something behind the Close frame".into()),
            None => Err("no end after the Close frames".into()),
        }
    }
}
