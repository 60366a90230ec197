//! Retained topics: positions, replay, what cannot be recovered.

use std::collections::HashMap;
use std::time::Duration;

use tower_websocket::test::{TestClient, TestServer};
use tower_websocket::{
    Connection, Message, Position, Retain, Subscribe, Topics, TopicsBuilder, WebSocketLayer,
};

const SECOND: Duration = Duration::from_secs(1);

/// Each message carries its position in front.
fn stamped() -> TopicsBuilder {
    Topics::builder()
        .retain("room", Retain::messages(100).age(60 * SECOND))
        .stamp(|_, position, message| {
            format!("{position} {}", message.as_text().unwrap_or_default()).into()
        })
}

/// Subscribes after the position in the query, greets with how it went, and publishes what it hears.
fn server(topics: &Topics) -> TestServer {
    let layer = WebSocketLayer::from_fn("/", async |mut conn: Connection| {
        let after = conn
            .request()
            .uri
            .query()
            .and_then(|text| text.parse().ok());
        let how = Subscribe::new().after(after).greeting(|attached| {
            let position = attached.position().map(|position| position.to_string());
            let position = position.unwrap_or_default();
            format!("{} {position}", attached.recovered()).into()
        });
        conn.subscribe_with("room", how).await?;
        while let Some(message) = conn.recv().await? {
            conn.topics().publish("room", message);
        }
        Ok(())
    });
    TestServer::new(layer.topics(topics).max_queued_messages(16).into_service())
}

fn split(message: &Message) -> (String, String) {
    let (first, rest) = message.as_text().unwrap().split_once(' ').unwrap();
    (first.to_owned(), rest.to_owned())
}

/// Comes back with a position. Whether it is recovered, and where it stands.
async fn come_back(server: &TestServer, position: &str) -> (TestClient, bool, String) {
    let mut client = server
        .connect(&format!("/?{position}"))
        .await
        .expect("a 101");
    let (recovered, at) = split(&client.recv().await);
    (client, recovered == "true", at)
}

async fn hear(client: &mut TestClient, text: &str) -> String {
    let (position, heard) = split(&client.recv().await);
    assert_eq!(heard, text);
    position
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_gets_what_was_missed_in_order_once() {
    let topics = stamped().build();
    let server = server(&topics);
    let (mut client, recovered, start) = come_back(&server, "").await;
    assert!(recovered);
    topics.publish("room", "one");
    let one = hear(&mut client, "one").await;
    topics.publish("room", "two");
    let two = hear(&mut client, "two").await;
    drop(client);
    tokio::time::sleep(SECOND).await;
    assert_eq!(topics.subscribers("room"), 0);
    let three = topics.append("room", "three").await.unwrap();

    for (after, missed) in [
        (&start, &["one", "two", "three"][..]),
        (&one, &["two", "three"]),
        (&two, &["three"]),
        (&three.to_string(), &[]),
    ] {
        let (mut client, recovered, at) = come_back(&server, after).await;
        assert!(recovered && at == **after);
        for text in missed {
            hear(&mut client, text).await;
        }
        client.expect_silence(SECOND).await;
    }
    // Without a position: from now on.
    let (mut client, recovered, at) = come_back(&server, "").await;
    assert!(recovered && at == three.to_string());
    client.send("four").await;
    hear(&mut client, "four").await;
}

#[tokio::test(start_paused = true)]
async fn t8_positions_that_are_old_forged_of_the_future_or_of_another_log_recover_nothing() {
    let topics = stamped().build();
    let server = server(&topics);
    let first = topics
        .append("room", "message 0")
        .await
        .unwrap()
        .to_string();
    for n in 1..=101 {
        topics.publish("room", format!("message {n}"));
    }
    let end = topics.append("room", "the last").await.unwrap().to_string();
    let epoch = end.split_once('-').unwrap().0.to_owned();
    let other = Topics::builder()
        .retain("room", Retain::messages(9))
        .build();
    let other = other.append("room", "x").await.unwrap().to_string();
    let forged = [
        first.clone(),
        other,
        format!("{epoch}-ffff"),
        format!("{epoch}-ffffffffffffffff"),
        format!("{epoch}-0"),
        format!("{}-1", "f".repeat(16)),
    ];
    let mut end = end;
    for position in forged {
        let (mut client, recovered, at) = come_back(&server, &position).await;
        assert!(!recovered && at == end, "{position}");
        // It goes on from now.
        end = topics.append("room", "now").await.unwrap().to_string();
        assert_eq!(hear(&mut client, "now").await, end);
    }
    // What is no position is as none.
    let (_, recovered, _) = come_back(&server, "nonsense").await;
    assert!(recovered);
}

#[tokio::test(start_paused = true)]
async fn t8_a_position_shown_to_a_plain_topic_recovers_nothing() {
    let topics = stamped().build();
    let position: Position = topics.append("room", "x").await.unwrap();
    let plain = Topics::new();
    let (mut client, recovered, at) = come_back(&server(&plain), &position.to_string()).await;
    assert!(!recovered && at.is_empty());
    plain.publish("room", "as always");
    client.expect_text("as always").await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_nobody_uses_is_kept_as_long_as_its_messages_and_then_begins_anew() {
    let topics = stamped().build();
    let server = server(&topics);
    let one = topics.append("room", "one").await.unwrap().to_string();
    let two = topics.append("room", "two").await.unwrap().to_string();
    tokio::time::sleep(59 * SECOND).await;
    let (mut client, recovered, _) = come_back(&server, &one).await;
    assert!(recovered);
    hear(&mut client, "two").await;
    drop(client);
    tokio::time::sleep(2 * SECOND).await;
    // The messages are gone, the log is not: nothing is missing behind the last.
    let (client, recovered, _) = come_back(&server, &two).await;
    assert!(recovered);
    drop(client);
    let (client, recovered, _) = come_back(&server, &one).await;
    assert!(!recovered);
    drop(client);
    tokio::time::sleep(62 * SECOND).await;
    // Others are made, and the topic itself is gone, with its epoch.
    for n in 0..1000 {
        topics.publish(&format!("room {n}"), "x");
    }
    let (_, recovered, _) = come_back(&server, &two).await;
    assert!(!recovered);
}

/// Subscribers come and go with their positions while messages are published without a pause.
async fn storm() {
    let topics = stamped().retain("room", Retain::messages(100_000)).build();
    let server = server(&topics);
    const MESSAGES: usize = 3000;
    let publisher = {
        let topics = topics.clone();
        tokio::spawn(async move {
            for n in 0..MESSAGES {
                topics.publish("room", n.to_string());
                if n % 3 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            topics.publish("room", "end");
        })
    };
    let start = come_back(&server, "").await.2;
    let mut clients = Vec::new();
    for life in 1..20 {
        let (server, mut position) = (server.clone(), start.clone());
        clients.push(tokio::spawn(async move {
            let mut heard = Vec::new();
            loop {
                let (mut client, recovered, at) = come_back(&server, &position).await;
                assert!(recovered && at == position);
                for _ in 0..life * 37 {
                    let (at, text) = split(&client.recv().await);
                    position = at;
                    if text == "end" {
                        return heard;
                    }
                    heard.push(text.parse::<usize>().unwrap());
                }
            }
        }));
    }
    publisher.await.unwrap();
    for client in clients {
        let heard = client.await.unwrap();
        let first = heard.first().copied().unwrap_or(MESSAGES);
        assert_eq!(heard, (first..MESSAGES).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn t2_in_a_storm_of_messages_who_comes_and_goes_misses_none_and_gets_none_twice() {
    storm().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn t2_the_same_on_several_threads() {
    storm().await;
}

#[tokio::test(start_paused = true)]
async fn a_publisher_does_not_get_its_own_message_and_misses_none_of_the_others() {
    let topics = stamped().build();
    let layer = WebSocketLayer::from_fn("/", async |mut conn: Connection| {
        conn.subscribe("room")?;
        conn.send("- ready").await?;
        while let Some(message) = conn.recv().await? {
            conn.publish("room", message);
        }
        Ok(())
    });
    let server = TestServer::new(layer.topics(&topics).into_service());
    let mut clients = HashMap::new();
    for name in ["ada", "bob"] {
        let mut client = server.connect("/").await.expect("a 101");
        hear(&mut client, "ready").await;
        clients.insert(name, client);
    }
    for n in 0..10 {
        for (from, to) in [("ada", "bob"), ("bob", "ada")] {
            let text = format!("{n} of {from}");
            clients.get_mut(from).unwrap().send(text.clone()).await;
            hear(clients.get_mut(to).unwrap(), &text).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn t10_functions_that_panic_or_use_topics_themselves_harm_nobody() {
    let own: std::sync::Arc<std::sync::OnceLock<Topics>> = std::sync::Arc::default();
    let inside = own.clone();
    let topics = Topics::builder()
        .retain("room", Retain::messages(100))
        .stamp(move |_, _, message| match message.as_text() {
            Some("- panic") => panic!("in stamp"),
            Some("- again") => {
                inside.get().unwrap().publish("room", "from within");
                "never".into()
            }
            _ => message.clone(),
        })
        .build();
    own.set(topics.clone()).unwrap();
    let layer = WebSocketLayer::from_fn("/", async |mut conn: Connection| {
        let how = Subscribe::new().greeting(|_| panic!("in greeting"));
        conn.subscribe_with("room", how).await?;
        conn.send("- ready").await?;
        while conn.recv().await?.is_some() {}
        Ok(())
    });
    let server = TestServer::new(layer.topics(&topics).into_service());
    let mut client = server.connect("/").await.expect("a 101");
    hear(&mut client, "ready").await;
    for text in ["panic", "again", "fine"] {
        assert_eq!(topics.publish("room", format!("- {text}")).delivered(), 1);
        hear(&mut client, text).await;
    }
}
