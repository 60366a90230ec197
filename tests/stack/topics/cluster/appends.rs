//! Messages on their way to a log that all nodes share: they go together, and stay in order whatever the
//! engine makes of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tower_websocket::topics::{
    Backplane, EngineError, Link, Log, NewEntries, NewEntry, Page, Pending,
};
use tower_websocket::{Position, Retain};

use super::*;

/// What an engine makes of a call.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It appends so many, and gives their positions.
    Takes(usize),
    /// It appends so many, and then fails.
    Fails(usize),
}

/// An engine whose log does with each call what it is told to, and with all further ones what they ask for.
/// It refuses what contains `refused`.
struct Fickle {
    engine: Engine,
    fates: Mutex<VecDeque<Fate>>,
    /// How many entries, and how many bytes of them, each call had.
    calls: Mutex<Vec<(usize, usize)>>,
}

impl Fickle {
    fn new(engine: Engine, fates: &[Fate]) -> Arc<Self> {
        Arc::new(Self {
            engine,
            fates: Mutex::new(fates.iter().copied().collect()),
            calls: Mutex::default(),
        })
    }

    fn calls(&self) -> Vec<(usize, usize)> {
        self.calls.lock().unwrap().clone()
    }
}

impl Backplane for Fickle {
    fn run<'a>(&'a self, link: &'a mut Link) -> Pending<'a, EngineError> {
        self.engine.run(link)
    }

    fn log(&self) -> Option<&dyn Log> {
        Some(self)
    }
}

impl Log for Fickle {
    fn append<'a>(
        &'a self,
        channel: &'a str,
        new: NewEntries<'a>,
    ) -> Pending<'a, std::result::Result<Vec<Position>, EngineError>> {
        Box::pin(async move {
            let bytes = new.entries.iter().map(|entry| entry.envelope.len()).sum();
            self.calls.lock().unwrap().push((new.entries.len(), bytes));
            let is_refused = |entry: &NewEntry| entry.envelope.ends_with(b"refused");
            let accepted = new.entries.iter().take_while(|entry| !is_refused(entry));
            let accepted = accepted.count();
            if accepted == 0 {
                return Err(EngineError::refused("not that"));
            }
            let fate = self.fates.lock().unwrap().pop_front();
            let (taken, fails) = match fate.unwrap_or(Fate::Takes(usize::MAX)) {
                Fate::Takes(taken) => (taken, false),
                Fate::Fails(taken) => (taken, true),
            };
            let some = &new.entries[..taken.min(accepted)];
            let mut positions = Vec::new();
            if !some.is_empty() {
                let new = NewEntries::new(new.seen, new.retain, some);
                positions = self.engine.log().unwrap().append(channel, new).await?;
            }
            match fails {
                false => Ok(positions),
                true => Err(EngineError::new("the answer is lost")),
            }
        })
    }

    fn read<'a>(
        &'a self,
        channel: &'a str,
        after: u64,
        most: usize,
    ) -> Pending<'a, std::result::Result<Page, EngineError>> {
        self.engine.log().unwrap().read(channel, after, most)
    }

    fn renew<'a>(
        &'a self,
        channel: &'a str,
        seen: Position,
    ) -> Pending<'a, std::result::Result<(), EngineError>> {
        self.engine.log().unwrap().renew(channel, seen)
    }
}

/// A node over it, and a client that subscribes `log:1`.
async fn node(engine: &Arc<Fickle>) -> (Topics, TestClient) {
    let topics = Topics::builder()
        .retain("log:", Retain::messages(1000))
        .backplane(engine.clone())
        .build();
    let mut client = open(&server(&topics)).await;
    ask(&mut client, "sub log:1", "ok").await;
    settle().await;
    (topics, client)
}

/// Appends them at once. The number that each has got, or none.
async fn append(topics: &Topics, texts: &[String]) -> Vec<Option<u64>> {
    let appends = texts
        .iter()
        .map(|text| topics.append("log:1", text.clone()));
    let appends: Vec<_> = appends.collect();
    let mut offsets = Vec::new();
    for append in appends {
        offsets.push(append.await.ok().map(|position| position.offset()));
    }
    offsets
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn messages_that_wait_for_a_log_go_together_and_stay_in_order() {
    let engine = Fickle::new(Engine::new(1).delay(SECOND / 50), &[]);
    let (topics, mut client) = node(&engine).await;
    let texts = numbers(500);
    let offsets = append(&topics, &texts).await;
    assert!(offsets.into_iter().eq((1..=500).map(Some)));
    for text in &texts {
        client.expect_text(text).await;
    }
    let calls = engine.calls();
    assert!(calls.len() <= 10, "{calls:?}");
    assert!(calls.iter().all(|(entries, _)| *entries <= 64), "{calls:?}");
    // Large ones do not fill one call beyond measure, and have one each at worst.
    let large = vec!["x".repeat(100_000); 5];
    append(&topics, &large).await;
    let huge = vec!["x".repeat(1_000_000); 2];
    append(&topics, &huge).await;
    let entries = engine.calls().split_off(calls.len());
    let entries: Vec<_> = entries.iter().map(|(entries, _)| *entries).collect();
    assert_eq!(entries, [2, 2, 1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn t15_a_batch_of_which_the_engine_has_a_part_is_numbered_once_in_order() {
    use Fate::{Fails, Takes};
    let fates = [
        Takes(1),
        Fails(0),
        Fails(3),
        Takes(2),
        // Nothing is not an answer.
        Takes(0),
        Fails(64),
        Takes(5),
        Fails(1),
    ];
    let engine = Fickle::new(Engine::new(1), &fates);
    let (topics, mut client) = node(&engine).await;
    let texts = numbers(100);
    let offsets = append(&topics, &texts).await;
    assert!(offsets.into_iter().eq((1..=100).map(Some)));
    for text in &texts {
        client.expect_text(text).await;
    }
    client.expect_silence(SECOND).await;
    assert!(engine.fates.lock().unwrap().is_empty());
    // One at a time is enough.
    *engine.fates.lock().unwrap() = vec![Takes(1); 20].into();
    let offsets = append(&topics, &numbers(20)).await;
    assert!(offsets.into_iter().eq((101..=120).map(Some)));
}

#[tokio::test(start_paused = true)]
async fn t15_what_an_engine_refuses_takes_no_other_message_along() {
    let engine = Fickle::new(Engine::new(1), &[Fate::Fails(2)]);
    let (topics, mut client) = node(&engine).await;
    let texts = ["a", "b", "refused", "c", "refused", "refused", "d"].map(str::to_owned);
    let begin = tokio::time::Instant::now();
    let offsets = append(&topics, &texts).await;
    let expected = [Some(1), Some(2), None, Some(3), None, None, Some(4)];
    assert_eq!(offsets, expected);
    assert!(begin.elapsed() < SECOND);
    for text in ["a", "b", "c", "d"] {
        client.expect_text(text).await;
    }
    client.expect_silence(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn t15_messages_are_given_up_when_each_of_them_has_waited_for_ten_seconds() {
    let engine = Fickle::new(Engine::new(1), &[Fate::Fails(0); 1000]);
    let (topics, mut client) = node(&engine).await;
    let first = topics.append("log:1", "first");
    sleep(5 * SECOND).await;
    let second = topics.append("log:1", "second");
    let begin = tokio::time::Instant::now();
    assert!(first.await.unwrap_err().is_unreachable());
    assert!((4 * SECOND..=6 * SECOND).contains(&begin.elapsed()));
    engine.fates.lock().unwrap().clear();
    assert_eq!(second.await.unwrap().offset(), 1);
    client.expect_text("second").await;
}
