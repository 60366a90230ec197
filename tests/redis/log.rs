//! The log that the engine keeps, by the trait alone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tower_websocket::topics::{
    Backplane, EngineError, Log, Logged, NewEntries, NewEntry, Page, Position, Redis, Retain,
    Topics,
};

use crate::server::Server;

/// An engine, and the node that keeps it connected.
struct Engine {
    redis: Arc<Redis>,
    _topics: Topics,
}

impl Engine {
    async fn new(server: &Server, prefix: &str) -> Self {
        let redis = Redis::new(server.url()).unwrap().prefix(prefix);
        Self::of(redis.timeout(Duration::from_secs(2))).await
    }

    async fn of(redis: Redis) -> Self {
        let redis = Arc::new(redis);
        let topics = Topics::builder().backplane(redis.clone()).build();
        let _ = topics.status();
        let engine = Self {
            redis,
            _topics: topics,
        };
        engine.until_connected().await;
        engine
    }

    async fn until_connected(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.log().read("connected", 0, 1).await.is_err() {
            assert!(Instant::now() < end, "no connection");
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn log(&self) -> &dyn Log {
        self.redis.log().unwrap()
    }

    async fn append(
        &self,
        id: u128,
        seen: Option<Position>,
        retain: Retain,
        envelope: &str,
    ) -> Result<Position, EngineError> {
        let positions = self.append_all(&[(id, envelope)], seen, retain).await?;
        Ok(positions[0])
    }

    async fn append_all(
        &self,
        entries: &[(u128, &str)],
        seen: Option<Position>,
        retain: Retain,
    ) -> Result<Vec<Position>, EngineError> {
        let entry = |(id, envelope): &(u128, &str)| {
            NewEntry::new(*id, Bytes::copy_from_slice(envelope.as_bytes()))
        };
        let entries: Vec<_> = entries.iter().map(entry).collect();
        let new = NewEntries::new(seen, retain, &entries);
        let positions = self.log().append("t:room", new).await?;
        assert_eq!(positions.len(), entries.len());
        Ok(positions)
    }

    async fn read(&self, after: u64) -> Page {
        self.log().read("t:room", after, 100).await.unwrap()
    }
}

fn many() -> Retain {
    Retain::messages(100)
}

fn shown(page: &Page) -> String {
    let entries = page.entries.iter().map(
        |Logged {
             offset, envelope, ..
         }| { format!(" {offset}:{}", String::from_utf8_lossy(envelope)) },
    );
    format!(
        "{}-{}{}",
        page.first,
        page.last,
        entries.collect::<String>()
    )
}

#[tokio::test]
async fn an_entry_is_numbered_once_however_often_it_is_appended() {
    let Some(server) = Server::any() else { return };
    let engine = Engine::new(&server, &server.prefix()).await;
    let empty = engine.read(0).await;
    assert_eq!(shown(&empty), "1-0");
    assert_eq!(engine.read(0).await, empty);
    let first = engine.append(7, None, many(), "a").await.unwrap();
    assert_eq!(first, Position::new(empty.epoch, 1));
    let second = engine.append(u128::MAX, Some(first), many(), "b").await;
    assert_eq!(second.unwrap(), Position::new(empty.epoch, 2));
    for _ in 0..3 {
        assert_eq!(engine.append(7, None, many(), "a").await.unwrap(), first);
    }
    let page = engine.read(0).await;
    assert_eq!((page.epoch, &*shown(&page)), (empty.epoch, "1-2 1:a 2:b"));
    assert_eq!(shown(&engine.read(1).await), "1-2 2:b");
    assert_eq!(shown(&engine.read(2).await), "1-2");
    assert_eq!(shown(&engine.read(99).await), "1-2");
    let one = engine.log().read("t:room", 0, 1).await.unwrap();
    assert_eq!(shown(&one), "1-2 1:a");
    // Other channels have logs of their own.
    let other = engine.log().read("t:other", 0, 10).await.unwrap();
    assert!(other.epoch != empty.epoch && shown(&other) == "1-0");
}

#[tokio::test]
async fn entries_that_are_appended_together_are_numbered_in_order_and_those_that_are_known_are_not()
{
    let Some(server) = Server::any() else { return };
    let engine = Engine::new(&server, &server.prefix()).await;
    let offsets = |positions: Vec<Position>| -> Vec<u64> {
        positions.iter().map(|position| position.offset()).collect()
    };
    let some = [(1, "a"), (2, "b")];
    let first = engine.append_all(&some, None, many()).await.unwrap();
    // The answer was lost, more have come, and another node was faster.
    engine.append(9, None, many(), "other").await.unwrap();
    let more = [(1, "a"), (2, "b"), (3, "c"), (4, "d")];
    let again = engine.append_all(&more, None, many()).await.unwrap();
    assert_eq!(again[..2], first);
    assert_eq!(offsets(again), [1, 2, 4, 5]);
    let mixed = [(5, "e"), (2, "b"), (6, "f")];
    let mixed = engine.append_all(&mixed, None, many()).await.unwrap();
    assert_eq!(offsets(mixed), [6, 2, 7]);
    let page = engine.read(0).await;
    assert_eq!(shown(&page), "1-7 1:a 2:b 3:other 4:c 5:d 6:e 7:f");
    // More than are retained, and as many as there ever are.
    let all: Vec<(u128, &str)> = (100..164).map(|id| (id, "x")).collect();
    let few = Retain::messages(3);
    let last = engine.append_all(&all, None, few).await.unwrap();
    assert!(offsets(last).into_iter().eq(8..=71));
    assert_eq!(shown(&engine.read(0).await), "69-71 69:x 70:x 71:x");
    // A log that has lost what was seen begins anew with the first of them.
    let seen = Position::new(page.epoch, 72);
    let renewed = engine.append_all(&[(200, "y"), (201, "z")], Some(seen), many());
    let renewed = renewed.await.unwrap();
    assert!(
        renewed
            .iter()
            .all(|position| position.epoch() != page.epoch)
    );
    assert_eq!(shown(&engine.read(0).await), "1-2 1:y 2:z");
}

#[tokio::test]
async fn the_oldest_go_by_number_by_size_and_by_age() {
    let Some(server) = Server::any() else { return };
    let engine = Engine::new(&server, &server.prefix()).await;
    for n in 1..=5 {
        let retain = Retain::messages(3);
        engine
            .append(n, None, retain, &format!("m{n}"))
            .await
            .unwrap();
    }
    assert_eq!(shown(&engine.read(0).await), "3-5 3:m3 4:m4 5:m5");
    assert_eq!(shown(&engine.read(3).await), "3-5 4:m4 5:m5");
    // The latest is kept, whatever its size.
    let small = Retain::messages(3).bytes(200);
    engine
        .append(6, None, small, &"x".repeat(500))
        .await
        .unwrap();
    assert_eq!(engine.read(0).await.first, 6);
    for n in 7..=9 {
        engine.append(n, None, small, "y").await.unwrap();
    }
    assert_eq!(shown(&engine.read(0).await), "7-9 7:y 8:y 9:y");
    let short = Retain::messages(100).age(Duration::from_millis(300));
    engine.append(10, None, short, "z").await.unwrap();
    assert_eq!(engine.read(0).await.last, 10);
    sleep(Duration::from_millis(400)).await;
    let page = engine.read(0).await;
    assert_eq!(shown(&page), "11-10");
    // Its numbers go on.
    let next = engine.append(11, None, short, "q").await.unwrap();
    assert_eq!(next, Position::new(page.epoch, 11));
    assert_eq!(shown(&engine.read(0).await), "11-11 11:q");
}

#[tokio::test]
async fn a_page_is_bounded_and_has_one_entry_whatever_its_size() {
    let Some(server) = Server::any() else { return };
    let engine = Engine::new(&server, &server.prefix()).await;
    let retain = many().bytes(64 << 20);
    let large = "x".repeat(700_000);
    for n in 1..=40 {
        let envelope = if n <= 4 { &large } else { "y" };
        engine.append(n, None, retain, envelope).await.unwrap();
    }
    engine
        .append(99, None, retain, &"z".repeat(4 << 20))
        .await
        .unwrap();
    let (mut after, mut pages) = (0, 0);
    while after < 41 {
        let page = engine.read(after).await;
        let size: usize = page.entries.iter().map(|entry| entry.envelope.len()).sum();
        assert!(size <= 1 << 20 || page.entries.len() == 1, "{size}");
        for entry in &page.entries {
            after += 1;
            assert_eq!(entry.offset, after);
        }
        pages += 1;
        assert!(!page.entries.is_empty() && pages < 10);
    }
}

#[tokio::test]
async fn b5_t16_a_log_that_is_lost_or_shorter_than_what_a_node_has_seen_begins_a_new_epoch() {
    let Some(server) = Server::own() else { return };
    let engine = Engine::new(&server, "x:").await;
    for n in 1..=5 {
        engine.append(n, None, many(), "a").await.unwrap();
    }
    let old = engine.read(0).await.epoch;
    let five = Position::new(old, 5);
    // It is as long as what was seen.
    let six = engine.append(6, Some(five), many(), "a").await.unwrap();
    assert_eq!(six, Position::new(old, 6));
    engine.log().renew("t:room", six).await.unwrap();
    assert_eq!(engine.read(0).await.epoch, old);

    let longer = Position::new(old, 7);
    let renewed = engine.append(7, Some(longer), many(), "b").await.unwrap();
    assert!(renewed.epoch() != old && renewed.offset() == 1);
    assert_eq!(shown(&engine.read(0).await), "1-1 1:b");
    // Who has seen the old epoch only does not end the new one.
    let second = engine.append(8, Some(longer), many(), "c").await.unwrap();
    assert_eq!(second, Position::new(renewed.epoch(), 2));
    engine.log().renew("t:room", longer).await.unwrap();
    assert_eq!(engine.read(0).await.last, 2);
    let third = Position::new(renewed.epoch(), 3);
    engine.log().renew("t:room", third).await.unwrap();
    let page = engine.read(0).await;
    assert!(page.epoch != renewed.epoch() && shown(&page) == "1-0");

    server.command(&["FLUSHALL"]);
    let empty = engine.read(0).await;
    assert!(empty.epoch != page.epoch && shown(&empty) == "1-0");
    // Who sees it first makes it.
    assert_eq!(engine.read(0).await.epoch, empty.epoch);
}

#[tokio::test]
async fn b5_t16_a_server_that_comes_back_older_is_found_out_by_who_has_seen_more() {
    let Some(mut server) = Server::own() else {
        return;
    };
    let engine = Engine::new(&server, "x:").await;
    for n in 1..=3 {
        engine.append(n, None, many(), "a").await.unwrap();
    }
    assert_eq!(server.command(&["SAVE"]), "+OK");
    let seen = engine.append(4, None, many(), "b").await.unwrap();
    server.kill();
    assert!(engine.append(5, None, many(), "c").await.is_err());
    server.start();
    engine.until_connected().await;
    // It has three, and goes on with who does not know better.
    let page = engine.read(0).await;
    assert_eq!((page.epoch, page.last), (seen.epoch(), 3));
    let again = engine.append(5, Some(seen), many(), "c").await.unwrap();
    assert!(again.epoch() != seen.epoch());
    assert_eq!(shown(&engine.read(0).await), "1-1 1:c");
}

#[tokio::test]
async fn b1_what_was_acknowledged_is_there_after_a_restart_of_a_server_that_keeps_it() {
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(mut server) = Server::with(&options) else {
        return;
    };
    let engine = Engine::new(&server, "x:").await;
    let last = engine.append(1, None, many(), "a").await.unwrap();
    server.kill();
    server.start();
    engine.until_connected().await;
    // By its id too.
    let again = engine.append(1, Some(last), many(), "a").await.unwrap();
    assert_eq!(again, last);
    assert_eq!(shown(&engine.read(0).await), "1-1 1:a");
}

#[tokio::test]
async fn b4_a_full_server_refuses_and_changes_nothing() {
    let Some(server) = Server::own() else { return };
    let engine = Engine::new(&server, "x:").await;
    let one = engine.append(1, None, many(), "a").await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = engine.append(2, Some(one), many(), "b").await.unwrap_err();
    assert!(error.to_string().contains("OOM"), "{error}");
    // All of several, or none.
    let several = [(2, "b"), (3, "c")];
    let refused = engine.append_all(&several, Some(one), many()).await;
    assert!(refused.is_err());
    // Nor is a log emptied that could then not be made anew.
    let more = Position::new(one.epoch(), 9);
    assert!(engine.append(2, Some(more), many(), "b").await.is_err());
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(shown(&engine.read(0).await), "1-1 1:a");
    let two = engine.append(2, Some(one), many(), "b").await.unwrap();
    assert_eq!(two, Position::new(one.epoch(), 2));
}

#[tokio::test]
async fn scripts_are_sent_again_to_a_server_that_has_forgotten_them() {
    let Some(server) = Server::own() else { return };
    let engine = Engine::new(&server, "x:").await;
    engine.append(1, None, many(), "a").await.unwrap();
    assert_eq!(server.command(&["SCRIPT", "FLUSH"]), "+OK");
    engine.append(2, None, many(), "b").await.unwrap();
    assert_eq!(engine.read(0).await.last, 2);
}

#[tokio::test]
async fn what_the_server_refuses_is_told_in_its_words_and_without_the_password() {
    let Some(server) = Server::own() else { return };
    let engine = Engine::new(&server, "x:").await;
    server.command(&["SET", "x:log:t:room", "not a log"]);
    let error = engine.append(1, None, many(), "a").await.unwrap_err();
    assert!(error.to_string().contains("WRONGTYPE"), "{error}");
    assert!(!error.to_string().contains("script"), "{error}");
    server.command(&["DEL", "x:log:t:room"]);
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let error = engine.append(1, None, many(), "a").await.unwrap_err();
    assert!(error.to_string().contains("READONLY"), "{error}");
    let shown = format!("{error}");
    assert!(shown.starts_with("redis://127.0.0.1:"), "{shown}");
}

#[tokio::test]
async fn many_appends_at_once_are_numbered_without_holes() {
    let Some(server) = Server::any() else { return };
    let prefix = server.prefix();
    let engines = [
        Arc::new(Engine::new(&server, &prefix).await),
        Arc::new(Engine::new(&server, &prefix).await),
    ];
    let tasks: Vec<_> = (0..500_u128)
        .map(|n| {
            let engine = engines[n as usize % 2].clone();
            let retain = Retain::messages(1000);
            tokio::spawn(async move { engine.append(n, None, retain, &n.to_string()).await })
        })
        .collect();
    let mut offsets = Vec::new();
    for task in tasks {
        offsets.push(task.await.unwrap().unwrap().offset());
    }
    offsets.sort_unstable();
    assert!(offsets.into_iter().eq(1..=500));
    let page = engines[0].log().read("t:room", 0, 1000).await.unwrap();
    assert!(page.entries.iter().map(|entry| entry.offset).eq(1..=500));
}

#[tokio::test]
async fn b2_a_server_that_hangs_is_given_up_after_the_timeout() {
    let Some(mut server) = Server::own() else {
        return;
    };
    let redis = Redis::new(server.url()).unwrap().prefix("x:");
    let engine = Engine::of(redis.timeout(Duration::from_millis(300))).await;
    engine.append(1, None, many(), "a").await.unwrap();
    server.signal("-STOP");
    let error = engine.append(2, None, many(), "b").await.unwrap_err();
    assert!(
        error.to_string().contains("no reply within 300ms"),
        "{error}"
    );
    // The connection is gone, so the next one knows at once, or tries a new one that hangs as well.
    sleep(Duration::from_millis(50)).await;
    let error = engine.append(2, None, many(), "b").await.unwrap_err();
    assert!(error.to_string().contains("not connected"), "{error}");
    server.signal("-CONT");
    engine.until_connected().await;
    let position = engine.append(2, None, many(), "b").await.unwrap();
    assert_eq!(position.offset(), 2);
    assert_eq!(shown(&engine.read(0).await), "1-2 1:a 2:b");
}

#[tokio::test]
async fn b7_where_a_stranger_has_written_into_a_log_it_goes_on_or_begins_anew() {
    let Some(server) = Server::own() else { return };
    let engine = Engine::new(&server, "x:").await;
    let (head, entries) = ("x:log:t:room", "x:log:t:room:entries");
    let mut id = 0;
    let mut append = async |text: &str| {
        id += 1;
        engine.append(id, None, many(), text).await
    };
    let one = append("a").await.unwrap();
    // Between two numbers: it has the one of before.
    server.command(&["XADD", entries, "1-5", "x", "y"]);
    assert_eq!(append("b").await.unwrap(), Position::new(one.epoch(), 2));
    let page = engine.read(0).await;
    assert_eq!(page.entries.last().unwrap().offset, 2);
    // Larger than any envelope, and larger than a reply may be.
    let large = "return redis.call('XADD', KEYS[1], '2-1', 'x', string.rep('x', 20 * 1024 * 1024))";
    server.command(&["EVAL", large, "1", entries]);
    let page = engine.read(0).await;
    assert!(page.entries.last().unwrap().envelope.is_empty());
    // It goes as old ones go, and is not counted twice.
    for n in 3..=4 {
        let retain = Retain::messages(1);
        let entry = engine.append(n * 100, None, retain, "c").await.unwrap();
        assert_eq!(entry, Position::new(one.epoch(), n as u64));
    }
    assert_eq!(shown(&engine.read(0).await), "4-4 4:c");

    let mut epoch = one.epoch();
    for (what, words) in [
        // With a number of today's date, ahead of which nothing can be appended.
        ("an entry", &["XADD", entries, "*", "x", "y"][..]),
        ("the next entry", &["XADD", entries, "2-0", "x", "y"]),
        ("entries of another type", &["SET", entries, "x"]),
        ("an epoch", &["HSET", head, "epoch", "x"]),
        (
            "an epoch with signs",
            &["HSET", head, "epoch", "+00000000000000a"],
        ),
        ("an offset", &["HSET", head, "last", "x"]),
        ("no number", &["HSET", head, "last", "nan"]),
        ("a number without end", &["HSET", head, "last", "1e300"]),
        ("bytes", &["HSET", head, "bytes", "x"]),
        ("an age", &["HSET", head, "age", "1e18"]),
        ("a head without all of it", &["HDEL", head, "most"]),
    ] {
        let reply = server.command(words);
        assert!(!reply.starts_with('-'), "{what}: {reply}");
        // Whoever is first.
        if what.contains("an") {
            let _ = engine.log().read("t:room", 0, 10).await;
            let seen = Position::new(epoch, 1);
            let _ = engine.log().renew("t:room", seen).await;
        }
        let first = append("d").await;
        let first = first.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(first.epoch() != epoch && first.offset() == 1, "{what}");
        epoch = first.epoch();
        assert_eq!(shown(&engine.read(0).await), "1-1 1:d", "{what}");
    }
    // That of somebody else, which is not ours to remove.
    server.command(&["SET", head, "x"]);
    let error = append("e").await.unwrap_err();
    assert!(error.to_string().contains("WRONGTYPE"), "{error}");
    assert!(engine.log().read("t:room", 0, 10).await.is_err());
    assert_eq!(server.command(&["GET", head]), "x");
    server.command(&["DEL", head]);
    assert_eq!(append("e").await.unwrap().offset(), 1);
}
