//! Plain topics: who gets what, from where, until when.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use futures_util::FutureExt;
use tower::ServiceExt;
use tower_websocket::test::{TestConnection, TestServer};
use tower_websocket::{
    CloseCode, CloseEvent, Connection, Message, Result, Sender, Shutdown, SubscribeError, Topics,
    WebSocketHandler, WebSocketLayer,
};

use super::{Obedient, ask, open, published, server};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_message_reaches_all_who_subscribe_its_topic_and_not_its_publisher() {
    let topics = Topics::new();
    let server = server(&topics);
    let (mut a, mut b, mut c) = (
        open(&server).await,
        open(&server).await,
        open(&server).await,
    );
    ask(&mut a, "sub room", "ok").await;
    ask(&mut b, "sub room", "ok").await;
    ask(&mut c, "sub other", "ok").await;
    // Twice is once.
    ask(&mut b, "sub room", "ok").await;
    assert_eq!(topics.subscribers("room"), 2);

    ask(&mut a, "pub room one", &published(1)).await;
    b.expect_text("one").await;
    // Who does not subscribe may publish.
    ask(&mut c, "pub room two", &published(2)).await;
    a.expect_text("two").await;
    b.expect_text("two").await;
    a.send("all room three").await;
    a.expect_text("three").await;
    a.expect_text(&published(2)).await;
    b.expect_text("three").await;

    ask(&mut b, "unsub room", "true").await;
    ask(&mut b, "unsub room", "false").await;
    assert_eq!(topics.publish("room", "four").delivered(), 1);
    assert_eq!(topics.publish("nobody", "five").delivered(), 0);
    b.expect_silence(SECOND).await;
    c.expect_silence(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn messages_of_all_kinds_and_sizes_arrive_as_they_were_published() {
    let topics = Topics::new();
    let server = server(&topics);
    let mut client = open(&server).await;
    ask(&mut client, "sub room", "ok").await;
    for size in [0, 1, 125, 126, 8191, 8192, 65_535, 65_536, 100_000] {
        topics.publish("room", "x".repeat(size));
        client.expect_text(&"x".repeat(size)).await;
        topics.publish("room", vec![7; size]);
        client.expect_binary(&vec![7; size]).await;
    }
}

/// Subscribes from a function, and publishes from a `Sender`, an HTTP route and another layer.
#[tokio::test(start_paused = true)]
async fn topics_reach_from_everywhere_to_every_style_but_streams() {
    let topics = Topics::new();
    let pulled = WebSocketLayer::from_fn("/pull", async |mut conn: Connection| {
        conn.sender().subscribe("room")?;
        conn.send("ready").await?;
        while conn.recv().await?.is_some() {}
        Ok(())
    });
    let router: axum::Router = axum::Router::new()
        .route(
            "/say",
            post(|State(topics): State<Topics>, text: String| async move {
                topics.publish("room", text).delivered().to_string()
            }),
        )
        .with_state(topics.clone())
        .layer(pulled.topics(&topics))
        .layer(WebSocketLayer::new("/chat", Obedient).topics(&topics));
    let server = TestServer::new(router.clone());
    let mut pull = server.connect("/pull").await.expect("a 101");
    pull.expect_text("ready").await;
    let mut chat = server.connect("/chat").await.expect("a 101");
    ask(&mut chat, "pub room from-a-layer", &published(1)).await;
    pull.expect_text("from-a-layer").await;

    let request = http::Request::post("/say").body("from-a-route".to_owned());
    let response = router.oneshot(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    pull.expect_text("from-a-route").await;

    // Without a server, too.
    let alone = TestConnection::open_in(Obedient, http::Request::new(()), &topics);
    assert_eq!(
        alone.sender().publish("room", "from a sender").delivered(),
        1
    );
    pull.expect_text("from a sender").await;
}

#[tokio::test(start_paused = true)]
async fn a_layer_has_topics_of_its_own_unless_it_is_given_some() {
    let (one, other) = (
        WebSocketLayer::new("/", Obedient),
        WebSocketLayer::new("/", Obedient),
    );
    let clone = TestServer::new(one.clone().into_service());
    let (one, other) = (
        TestServer::new(one.into_service()),
        TestServer::new(other.into_service()),
    );
    let mut a = open(&one).await;
    ask(&mut a, "sub room", "ok").await;
    ask(&mut open(&other).await, "pub room x", &published(0)).await;
    ask(&mut open(&clone).await, "pub room y", &published(1)).await;
    a.expect_text("y").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_and_what_is_published_go_out_in_the_order_in_which_they_were_accepted() {
    let topics = Topics::new();
    let ordered = topics.clone();
    let layer = WebSocketLayer::from_fn("/", move |conn: Connection| {
        let topics = ordered.clone();
        async move {
            conn.subscribe("room")?;
            let topic = topics.topic("room");
            for n in 0..200 {
                match n % 3 {
                    0 => conn.send(n.to_string()).await?,
                    1 => drop(topics.publish("room", n.to_string())),
                    _ => drop(topic.clone().publish(n.to_string())),
                }
                if n % 50 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            Ok(())
        }
    });
    let server = TestServer::new(layer.topics(&topics).into_service());
    let mut client = open(&server).await;
    for n in 0..200 {
        client.expect_text(&n.to_string()).await;
    }
    client.expect_close(1000).await;
}

#[tokio::test(start_paused = true)]
async fn every_connection_of_a_topic_is_closed_by_it() {
    let topics = Topics::new();
    let server = server(&topics);
    let (mut a, mut b, mut c) = (
        open(&server).await,
        open(&server).await,
        open(&server).await,
    );
    ask(&mut a, "sub user:42", "ok").await;
    ask(&mut b, "sub user:42", "ok").await;
    ask(&mut c, "sub user:43", "ok").await;
    let closed = topics.close("user:42", CloseCode::POLICY_VIOLATION, "logged out");
    assert_eq!(closed, Ok(2));
    assert_eq!(a.expect_close(1008).await, "logged out");
    assert_eq!(b.expect_close(1008).await, "logged out");
    ask(&mut c, "pub user:42 x", &published(0)).await;
    assert_eq!(
        topics.close("user:42", CloseCode::NORMAL_CLOSURE, ""),
        Ok(0)
    );
    let wrong = topics.close("user:43", CloseCode::NO_STATUS_RECEIVED, "");
    assert!(wrong.is_err());
}

/// Whether topics or subscribers are left.
fn is_nothing_left(topics: &Topics) -> bool {
    format!("{topics:?}") == "Topics { topics: 0, .. }"
}

#[tokio::test(start_paused = true)]
async fn subscriptions_end_with_their_connection_however_it_ends() {
    #[derive(Clone)]
    struct Ends;
    impl WebSocketHandler for Ends {
        async fn on_open(&mut self, conn: &mut Connection) -> Result {
            for n in 0..10 {
                conn.subscribe(&format!("topic {n}"))?;
            }
            Ok(())
        }
        async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
            match message.as_text() {
                Some("panic") => panic!("as told"),
                Some("fail") => Err("as told".into()),
                Some("abort") => {
                    conn.sender().abort();
                    Ok(())
                }
                Some("close") => Ok(conn.close(CloseCode::NORMAL_CLOSURE, "")?),
                _ => std::future::pending().await,
            }
        }
    }
    for how in [
        "panic", "fail", "abort", "close", "hang", "vanish", "drain", "force",
    ] {
        let (topics, shutdown) = (Topics::new(), Shutdown::new());
        let layer = WebSocketLayer::new("/", Ends)
            .topics(&topics)
            .shutdown(&shutdown);
        let server = TestServer::new(layer.into_service());
        let mut client = open(&server).await;
        client
            .send("hang".repeat(usize::from(how == "force")))
            .await;
        tokio::time::sleep(SECOND).await;
        assert_eq!(topics.subscribers("topic 9"), 1);
        match how {
            "drain" => drop(shutdown.drain(SECOND).await),
            "force" => drop(shutdown.drain(Duration::ZERO).await),
            "vanish" => drop(client),
            _ => {
                client.send(how).await;
                tokio::time::sleep(SECOND).await;
                drop(client);
            }
        }
        tokio::time::sleep(60 * SECOND).await;
        assert!(is_nothing_left(&topics), "{how}: {topics:?}");
    }
}

/// What `on_close` and a `Sender` may do with topics at the end.
#[derive(Clone)]
struct AtTheEnd(Arc<Mutex<Vec<String>>>, Arc<Mutex<Option<Sender>>>);

impl WebSocketHandler for AtTheEnd {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        conn.subscribe("room")?;
        *self.1.lock().unwrap() = Some(conn.sender());
        Ok(())
    }
    async fn on_close(&mut self, conn: &mut Connection, _: CloseEvent) -> Result {
        let mut notes = self.0.lock().unwrap();
        notes.push(format!("{:?}", conn.subscribe("late")));
        notes.push(format!("{:?}", conn.publish("room", "somebody left")));
        notes.push(conn.unsubscribe("room").to_string());
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn t5_on_close_may_publish_and_nobody_subscribes_any_more() {
    let (topics, notes, last) = (Topics::new(), Arc::default(), Arc::default());
    let layer = WebSocketLayer::new("/", AtTheEnd(Arc::clone(&notes), Arc::clone(&last)));
    let server = TestServer::new(layer.topics(&topics).into_service());
    let mut stays = open(&server).await;
    let mut leaves = open(&server).await;
    tokio::time::sleep(SECOND).await;
    leaves.close(1000, "").await;
    leaves.expect_close(1000).await;
    stays.expect_text("somebody left").await;
    tokio::time::sleep(SECOND).await;
    let expected = ["Err(Closed)".to_owned(), published(1), "true".to_owned()];
    assert_eq!(*notes.lock().unwrap(), expected);
    // A `Sender` that is kept.
    let sender = last.lock().unwrap().take().unwrap();
    assert_eq!(sender.subscribe("late"), Err(SubscribeError::Closed));
    assert_eq!(sender.publish("room", "still").delivered(), 1);
    stays.expect_text("still").await;
    assert_eq!(topics.subscribers("late") + topics.subscribers("room"), 1);
}

/// `?` on a closed connection is not an error of the application.
#[tokio::test(start_paused = true)]
async fn subscribing_at_the_end_is_not_reported_as_a_failure() {
    #[derive(Clone)]
    struct Late(Arc<Mutex<u32>>);
    impl WebSocketHandler for Late {
        async fn on_message(&mut self, conn: &mut Connection, _: Message) -> Result {
            conn.closed().await;
            conn.subscribe("room")?;
            Ok(())
        }
        async fn on_error(&mut self, _: &mut Connection, _: tower_websocket::Error) -> Result {
            *self.0.lock().unwrap() += 1;
            Ok(())
        }
    }
    let errors = Arc::default();
    let layer = WebSocketLayer::new("/", Late(Arc::clone(&errors)));
    let server = TestServer::new(layer.into_service());
    let mut client = open(&server).await;
    client.send("x").await;
    client.close(1000, "").await;
    client.expect_close(1000).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(*errors.lock().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn r10_t4_a_peer_subscribes_as_many_topics_as_it_may_and_leaves_nothing_behind() {
    let topics = Topics::new();
    let server = server(&topics);
    let mut client = open(&server).await;
    for n in 0..10_000 {
        let answer = if n < 128 {
            "ok"
        } else {
            "the connection has 128 subscriptions already"
        };
        ask(&mut client, &format!("sub topic:{n}"), answer).await;
    }
    assert_eq!(format!("{topics:?}"), "Topics { topics: 128, .. }");
    // What it has, it may subscribe again.
    ask(&mut client, "sub topic:7", "ok").await;
    ask(&mut client, "unsub topic:7", "true").await;
    ask(&mut client, "sub another", "ok").await;
    drop(client);
    tokio::time::sleep(60 * SECOND).await;
    assert!(is_nothing_left(&topics), "{topics:?}");

    let few = Topics::builder().max_subscriptions(1).build();
    let server = super::server(&few);
    let mut client = open(&server).await;
    ask(&mut client, "sub a", "ok").await;
    ask(
        &mut client,
        "sub b",
        "the connection has 1 subscriptions already",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn r10_t3_of_many_subscriptions_that_come_and_go_nothing_stays() {
    let topics = Topics::new();
    let server = server(&topics);
    let mut client = open(&server).await;
    ask(&mut client, "sub stays", "ok").await;
    // A million times in `src/topics/tests.rs`, without a socket.
    for n in 0..5000 {
        ask(&mut client, &format!("sub {n}"), "ok").await;
        ask(&mut client, &format!("unsub {n}"), "true").await;
    }
    assert_eq!(format!("{topics:?}"), "Topics { topics: 1, .. }");
    ask(&mut client, "unsub stays", "true").await;
    assert!(is_nothing_left(&topics), "{topics:?}");
}

#[tokio::test(start_paused = true)]
async fn t9_a_name_of_a_megabyte_is_refused_wherever_it_is_used() {
    let topics = Topics::builder()
        .retain("x", tower_websocket::Retain::messages(1))
        .build();
    let layer = WebSocketLayer::new("/", Obedient).topics(&topics);
    let server = TestServer::new(layer.max_message_size(4 << 20).into_service());
    let mut client = open(&server).await;
    let (name, longest) = ("x".repeat(1 << 20), "x".repeat(256));
    let refused = "the name of a topic has 1048576 bytes, at most 256 are allowed";
    ask(&mut client, &format!("sub {name}"), refused).await;
    ask(&mut client, &format!("unsub {name}"), "false").await;
    ask(&mut client, &format!("pub {name} text"), &published(0)).await;
    assert!(topics.append(&name, "x").await.is_err());
    assert!(topics.topic(&name).append("x").await.is_err());
    assert_eq!(topics.topic(&name).publish("x").delivered(), 0);
    assert_eq!(topics.close(&name, CloseCode::NORMAL_CLOSURE, ""), Ok(0));
    assert!(is_nothing_left(&topics));
    ask(&mut client, &format!("sub {longest}"), "ok").await;
}

#[tokio::test(start_paused = true)]
async fn a_handle_publishes_to_whoever_subscribes_while_it_is_held() {
    let topics = Topics::new();
    let server = server(&topics);
    let handle = topics.topic("room");
    for round in 0..3 {
        let mut client = open(&server).await;
        assert_eq!(handle.publish("nobody hears it").delivered(), 0);
        ask(&mut client, "sub room", "ok").await;
        assert_eq!(handle.subscribers(), 1);
        let clone = handle.clone();
        assert_eq!(clone.publish(format!("round {round}")).delivered(), 1);
        client.expect_text(&format!("round {round}")).await;
        ask(&mut client, "unsub room", "true").await;
    }
    drop(handle);
    assert!(is_nothing_left(&topics), "{topics:?}");
}

/// Topics go on until the last connection is asked to leave.
#[tokio::test(start_paused = true)]
async fn topics_go_on_while_a_shutdown_drains() {
    let (topics, shutdown) = (Topics::new(), Shutdown::new());
    let layer = WebSocketLayer::new("/", Obedient)
        .topics(&topics)
        .shutdown(&shutdown);
    let server = TestServer::new(layer.into_service());
    let mut client = open(&server).await;
    ask(&mut client, "sub room", "ok").await;
    let drain = shutdown.drain(60 * SECOND).spread(10 * SECOND);
    let draining = tokio::spawn(drain);
    tokio::task::yield_now().await;
    topics.publish("room", "the server goes down");
    client.expect_text("the server goes down").await;
    client.expect_close(1001).await;
    draining.await.unwrap();
    assert!(is_nothing_left(&topics));
}

#[derive(Clone)]
struct Silent;

impl WebSocketHandler for Silent {}

/// Publishes what comes, behind 0.12 ms of work, and notes how much waits for a subscriber by then.
#[derive(Clone)]
struct Busy {
    subscriber: Sender,
    waiting: Arc<Mutex<Vec<usize>>>,
}

impl WebSocketHandler for Busy {
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        // Time goes on, and nobody else runs.
        let _ = tokio::time::advance(Duration::from_micros(120)).now_or_never();
        let waiting = self.subscriber.queued().messages();
        self.waiting.lock().unwrap().push(waiting);
        conn.publish("room", message);
        Ok(())
    }
}

/// How much waits for one of so many subscribers at each of 16 publishes from 16 callbacks.
async fn waiting_in_a_burst(subscribers: usize) -> Vec<usize> {
    let topics = Topics::new();
    let open = |_| TestConnection::open_in(Silent, http::Request::new(()), &topics);
    let mut subscribers: Vec<_> = (0..subscribers).map(open).collect();
    for subscriber in &subscribers {
        subscriber.sender().subscribe("room").unwrap();
    }
    let waiting = Arc::<Mutex<Vec<usize>>>::default();
    let busy = Busy {
        subscriber: subscribers[0].sender(),
        waiting: waiting.clone(),
    };
    let mut publisher = TestConnection::open_in(busy, http::Request::new(()), &topics);
    tokio::time::sleep(SECOND).await;
    for n in 0..16 {
        publisher.message(n.to_string()).await;
    }
    for n in 0..16 {
        subscribers[0].client().expect_text(&n.to_string()).await;
    }
    waiting.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn s1_who_publishes_to_many_in_callbacks_that_follow_each_other_has_each_write_once_for_all()
{
    let many = waiting_in_a_burst(1000).await;
    assert_eq!(many, (0..16).collect::<Vec<_>>());
    let few = waiting_in_a_burst(10).await;
    assert!(few.iter().all(|waiting| *waiting < 8), "{few:?}");
    assert!(few[4..].contains(&0), "{few:?}");
}
