//! Presence: who is there, over several connections, reloads and the end.

use std::time::Duration;

use futures_util::StreamExt;
use tower_websocket::test::{TestClient, TestServer};
use tower_websocket::{
    Connection, PresenceChange, Present, Shutdown, Topics, TopicsBuilder, TrackError,
    WebSocketLayer,
};

const SECOND: Duration = Duration::from_secs(1);

/// Whose path is `/ada/phone` is "ada", with "phone" beside it; answers what `track` said of it.
fn server(topics: &Topics) -> TestServer {
    server_of(topics, &Shutdown::new())
}

fn server_of(topics: &Topics, shutdown: &Shutdown) -> TestServer {
    let layer = WebSocketLayer::from_fn("/", async |mut conn: Connection| {
        let path = conn.path().trim_start_matches('/').to_owned();
        let (name, meta) = path.split_once('/').unwrap_or((&path, ""));
        conn.subscribe("room")?;
        let tracked = conn.track("room", name, meta);
        conn.send(format!("{tracked:?}")).await?;
        while let Some(message) = conn.recv().await? {
            match message.as_text() {
                Some("leave") => drop(conn.untrack("room", name)),
                Some(meta) => conn.track("room", name, meta)?,
                None => {}
            }
        }
        Ok(())
    });
    let layer = layer.topics(topics).shutdown(shutdown).heartbeat(None);
    TestServer::new(layer.into_service())
}

fn announced() -> TopicsBuilder {
    Topics::builder().announce(|topic, change| match change {
        PresenceChange::Joined(present) => Some(format!("{topic} +{}", present.key()).into()),
        PresenceChange::Left(key) => Some(format!("{topic} -{key}").into()),
        _ => None,
    })
}

/// Behind the announcement of itself, if there is one.
async fn open(server: &TestServer, path: &str, is_new: bool) -> TestClient {
    let mut client = server.connect(path).await.expect("a 101");
    if is_new {
        let name = path.split('/').nth(1).unwrap();
        client.expect_text(&format!("room +{name}")).await;
    }
    client.expect_text("Ok(())").await;
    client
}

fn shown(topics: &Topics) -> Vec<String> {
    let shown = |present: &Present| {
        let metas: Vec<&str> = present.metas().collect();
        format!("{}: {}", present.key(), metas.join(" "))
    };
    topics.presence("room").list().iter().map(shown).collect()
}

#[tokio::test(start_paused = true)]
async fn two_tabs_of_one_user_are_one_who_is_there_until_the_last_is_gone() {
    let topics = announced().build();
    let server = server(&topics);
    let mut bob = open(&server, "/bob", true).await;
    let tab = open(&server, "/ada/phone", true).await;
    bob.expect_text("room +ada").await;
    let other = open(&server, "/ada/desk", false).await;
    assert_eq!(shown(&topics), ["ada: phone desk", "bob: "]);
    drop(tab);
    bob.expect_silence(60 * SECOND).await;
    assert_eq!(shown(&topics), ["ada: desk", "bob: "]);
    drop(other);
    bob.expect_silence(4 * SECOND).await;
    assert_eq!(shown(&topics), ["ada: ", "bob: "]);
    bob.expect_text("room -ada").await;
    assert_eq!(shown(&topics), ["bob: "]);
    bob.send("here").await;
    bob.send("leave").await;
    bob.expect_text("room -bob").await;
    assert!(shown(&topics).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reload_neither_leaves_nor_joins() {
    let topics = announced().build();
    let server = server(&topics);
    let mut bob = open(&server, "/bob", true).await;
    let mut ada = open(&server, "/ada", true).await;
    bob.expect_text("room +ada").await;
    for _ in 0..20 {
        drop(ada);
        tokio::time::sleep(4 * SECOND).await;
        ada = open(&server, "/ada", false).await;
    }
    bob.expect_silence(60 * SECOND).await;
    drop(ada);
    bob.expect_silence(4 * SECOND).await;
    bob.expect_text("room -ada").await;
}

/// As a deploy does it: an old server drains while a new one takes over.
#[tokio::test(start_paused = true)]
async fn a_drain_is_no_coming_and_going_unless_it_shall_be() {
    for at_once in [false, true] {
        let topics = announced().leave_on_drain(at_once).build();
        let shutdown = Shutdown::new();
        let (old, new) = (server_of(&topics, &shutdown), server(&topics));
        let mut bob = open(&new, "/bob", true).await;
        let mut ada = open(&old, "/ada", true).await;
        bob.expect_text("room +ada").await;
        // Whoever goes without being asked lingers in any case.
        let eve = open(&old, "/eve", true).await;
        for client in [&mut bob, &mut ada] {
            client.expect_text("room +eve").await;
        }
        drop(eve);
        ada.expect_silence(4 * SECOND).await;
        for client in [&mut bob, &mut ada] {
            client.expect_text("room -eve").await;
        }

        let drain = tokio::spawn(shutdown.drain(10 * SECOND));
        ada.expect_close(1001).await;
        assert_eq!(drain.await.unwrap().forced(), 0);
        if at_once {
            bob.expect_text("room -ada").await;
        }
        let mut ada = open(&new, "/ada", at_once).await;
        if at_once {
            bob.expect_text("room +ada").await;
        }
        for client in [&mut bob, &mut ada] {
            client.expect_silence(60 * SECOND).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn joins_and_leaves_are_a_stream_of_which_a_dropped_future_takes_nothing() {
    let topics = Topics::builder().linger(Duration::ZERO).build();
    let server = server(&topics);
    let mut changes = topics.presence("room").changes();
    let nothing = tokio::time::timeout(SECOND, changes.next()).await;
    assert!(nothing.is_err());
    for name in ["ada", "bob"] {
        drop(open(&server, &format!("/{name}"), false).await);
    }
    let keys = StreamExt::map(changes, |change| match change {
        PresenceChange::Joined(present) => format!("+{}", present.key()),
        PresenceChange::Left(key) => format!("-{key}"),
        other => panic!("{other:?}"),
    });
    let keys: Vec<String> = keys.take(4).collect().await;
    assert_eq!(keys, ["+ada", "-ada", "+bob", "-bob"]);
    let of_no_topic = topics.presence(&"x".repeat(300)).changes();
    assert_eq!(of_no_topic.count().await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_application_reads_joins_and_leaves_as_they_happen() {
    let topics = Topics::builder().linger(Duration::ZERO).build();
    let server = server(&topics);
    let presence = topics.presence("room");
    let mut changes = presence.changes();
    for n in 0..3 {
        let client = open(&server, &format!("/user-{n}/tab"), false).await;
        let Some(PresenceChange::Joined(present)) = changes.next().await else {
            panic!("somebody joins");
        };
        assert_eq!(present.key(), format!("user-{n}"));
        assert_eq!(present.metas().collect::<Vec<_>>(), ["tab"]);
        drop(client);
        let left = PresenceChange::Left(format!("user-{n}"));
        assert_eq!(changes.next().await, Some(left));
    }
    // Whoever does not read learns how much was missed.
    for n in 0..200 {
        drop(open(&server, &format!("/user-{n}"), false).await);
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!(
        changes.next().await,
        Some(PresenceChange::Missed(400 - 256))
    );
    drop((presence, changes));
    assert_eq!(format!("{topics:?}"), "Topics { topics: 0, .. }");
}

#[tokio::test(start_paused = true)]
async fn t4_presence_is_bounded_in_keys_in_their_length_and_in_what_is_said_of_them() {
    let topics = Topics::builder()
        .max_present(2)
        .max_subscriptions(2)
        .build();
    let layer = WebSocketLayer::from_fn("/", async |conn: Connection| {
        let long = "x".repeat(2000);
        assert_eq!(
            conn.track("room", &long, ""),
            Err(TrackError::TooLong(2000))
        );
        assert_eq!(
            conn.track("room", "a", &*long),
            Err(TrackError::TooLong(2000))
        );
        assert_eq!(conn.track(&long, "a", ""), Err(TrackError::TooLong(2000)));
        assert_eq!(conn.track("room", "a", "1"), Ok(()));
        assert_eq!(conn.track("room", "b", ""), Ok(()));
        assert_eq!(conn.track("room", "c", ""), Err(TrackError::TooMany(2)));
        assert_eq!(conn.track("room", "a", "2"), Ok(()));
        assert!(!conn.untrack("room", "c") && conn.untrack("room", "b"));
        assert_eq!(conn.track("other", "a", ""), Ok(()));
        assert!(conn.untrack("other", "a"));
        assert_eq!(conn.track("room", "c", ""), Err(TrackError::Full(2)));
        conn.sender().close(1000.into(), "")?;
        assert_eq!(conn.track("room", "a", ""), Err(TrackError::Closed));
        Ok(())
    });
    let server = TestServer::new(layer.topics(&topics).into_service());
    let mut client = server.connect("/").await.expect("a 101");
    client.expect_close(1000).await;
    tokio::time::sleep(60 * SECOND).await;
    assert!(shown(&topics).is_empty());
    assert_eq!(format!("{topics:?}"), "Topics { topics: 0, .. }");
}

#[tokio::test(start_paused = true)]
async fn t10_an_announcement_that_panics_is_none() {
    let topics = Topics::builder()
        .announce(|_, _| panic!("in announce"))
        .build();
    let server = server(&topics);
    let ada = open(&server, "/ada", false).await;
    assert_eq!(shown(&topics), ["ada: "]);
    drop(ada);
    tokio::time::sleep(60 * SECOND).await;
    assert!(shown(&topics).is_empty());
}
