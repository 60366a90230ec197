//! What lives beside the callbacks of a connection: tasks, streams, round trips, its lifetime, and its
//! end by force.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tower::Layer;
use tower_websocket::{
    CloseEvent, Connection, Error, Handshake, Message, Rejection, Result, Sender, WebSocketHandler,
    WebSocketLayer,
};

use crate::support::*;

type Tasks = Arc<Mutex<Vec<JoinHandle<Option<&'static str>>>>>;

/// Starts tasks that end by themselves, with the connection, or never.
#[derive(Clone, Default)]
struct Starter {
    recorder: Recorder,
    tasks: Tasks,
}

impl WebSocketHandler for Starter {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        let sender = conn.sender();
        let mut tasks = self.tasks.lock().unwrap();
        tasks.push(conn.spawn(async move {
            sender.send("from a task").await.unwrap();
            "done"
        }));
        tasks.push(conn.spawn(async {
            sleep(Duration::from_secs(3600)).await;
            "an hour later"
        }));
        tasks.push(conn.spawn(std::future::pending()));
        Ok(())
    }
    async fn on_close(&mut self, _: &mut Connection, event: CloseEvent) -> Result {
        self.recorder.note(shown_close(&event));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_of_a_connection_ends_with_it_and_tells_whether_it_was_done() {
    let starter = Starter::default();
    let stack = Stack::new(starter.clone());
    let mut client = stack.open().await;
    client.expect(0x81, b"from a task").await;
    sleep(Duration::from_secs(1)).await;
    let mut tasks = std::mem::take(&mut *starter.tasks.lock().unwrap());
    let running: Vec<_> = tasks.iter().map(|task| !task.is_finished()).collect();
    assert_eq!(running, [false, true, true]);
    client.send(&close(1000, "")).await;
    client.expect_close(Some(1000)).await;
    for (task, result) in tasks.drain(..).zip([Some("done"), None, None]) {
        assert_eq!(within(task).await.unwrap(), result);
    }
    starter.recorder.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_split_connection_is_a_sender_and_a_stream() {
    let layer = WebSocketLayer::from_fn("/ws", |conn: Connection| async move {
        let (sender, messages) = conn.split();
        let mut messages = messages.enumerate();
        while let Some((n, message)) = messages.next().await {
            sender.send(format!("{n}: {}", shown(&message?))).await?;
        }
        Ok(())
    });
    let mut client = http1(layer.layer(plain()));
    client.open("/ws").await;
    for n in 0..3 {
        client.send(&text("x")).await;
        client.expect(0x81, format!("{n}: text x").as_bytes()).await;
    }
    client.send(&close(1000, "")).await;
    client.expect_close(Some(1000)).await;
}

/// Tells how long its pings took.
fn pinging(pings: &'static [&'static [u8]]) -> WebSocketLayer<tower_websocket::FnHandler> {
    WebSocketLayer::from_fn("/ws", move |conn: Connection| async move {
        let mut pongs = Vec::new();
        for payload in pings {
            pongs.push(conn.ping(payload)?);
            // A ping that waits to be written would be replaced.
            sleep(Duration::from_millis(100)).await;
        }
        for pong in pongs {
            let line = match pong.await {
                Some(time) => format!("{} ms", time.as_millis()),
                None => "no pong".to_owned(),
            };
            conn.send(line).await?;
        }
        Ok(())
    })
}

#[tokio::test(start_paused = true)]
async fn a_pong_tells_the_round_trip_of_its_ping_and_of_those_before_it() {
    let mut client = http1(pinging(&[b"a", b"b"]).layer(plain()));
    client.open("/ws").await;
    client.expect(0x89, b"a").await;
    client.expect(0x89, b"b").await;
    sleep(Duration::from_millis(50)).await;
    // One that nobody asked for, then the answer to the second.
    client.send(&frame(0x8A, b"x")).await;
    client.send(&frame(0x8A, b"b")).await;
    client.expect(0x81, b"150 ms").await;
    client.expect(0x81, b"50 ms").await;
    client.expect_close(Some(1000)).await;
}

#[tokio::test(start_paused = true)]
async fn a_pong_that_never_comes_is_none_at_the_end_of_the_connection() {
    let recorder = Recorder::default();
    let note = recorder.clone();
    let layer = WebSocketLayer::from_fn("/ws", move |conn: Connection| {
        let note = note.clone();
        async move {
            let pong = conn.ping(b"a")?.await;
            note.note(format!("close {pong:?}"));
            Ok(())
        }
    });
    let mut client = http1(layer.layer(plain()));
    client.open("/ws").await;
    client.expect(0x89, b"a").await;
    client.send(&close(1000, "")).await;
    client.expect_close(Some(1000)).await;
    assert_eq!(recorder.closed().await, ["close None"]);
}

/// Keeps its sender where the test finds it.
#[derive(Clone, Default)]
struct Busy {
    recorder: Recorder,
    sender: Arc<Mutex<Option<Sender>>>,
}

impl WebSocketHandler for Busy {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        *self.sender.lock().unwrap() = Some(conn.sender());
        Ok(())
    }
    async fn on_message(&mut self, conn: &mut Connection, _: Message) -> Result {
        conn.send(vec![0; 1 << 20]).await?;
        std::future::pending().await
    }
    async fn on_error(&mut self, _: &mut Connection, error: Error) -> Result {
        self.recorder.note(format!("error {error}"));
        Ok(())
    }
    async fn on_close(&mut self, _: &mut Connection, event: CloseEvent) -> Result {
        self.recorder.note(shown_close(&event));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_ends_an_idle_connection_at_once_without_a_close_frame() {
    let busy = Busy::default();
    let stack = Stack::new(busy.clone());
    let mut client = stack.open().await;
    sleep(Duration::from_millis(1)).await;
    let sender = busy.sender.lock().unwrap().take().unwrap();
    let began = Instant::now();
    sender.abort();
    assert!(sender.is_closed() && sender.try_send("late").is_err());
    assert_eq!(client.frame().await, None);
    assert!(began.elapsed() < Duration::from_millis(100));
    assert_eq!(
        busy.recorder.closed().await,
        ["close 1006 Application unclean"]
    );
    // After the end it does nothing.
    sender.abort();
    stack.is_clean().await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_ends_a_connection_whose_callback_hangs_and_whose_peer_does_not_read() {
    let busy = Busy::default();
    let stack = Stack::new(busy.clone());
    let mut client = stack.open().await;
    client.send(&text("go")).await;
    sleep(Duration::from_millis(10)).await;
    let sender = busy.sender.lock().unwrap().take().unwrap();
    let began = Instant::now();
    sender.abort();
    let log = busy.recorder.closed().await;
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_lines(
        &log,
        &[
            "error on_message was still running after the connection had ended and was dropped",
            "close 1006 Application unclean",
        ],
    );
    // What is queued is dropped: of a message of 1 MiB a part has arrived.
    client.end().await;
    stack.is_clean().await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_cuts_a_closing_handshake_short() {
    let busy = Busy::default();
    let stack = Stack::new(busy.clone());
    let mut client = stack.open().await;
    sleep(Duration::from_millis(1)).await;
    let sender = busy.sender.lock().unwrap().take().unwrap();
    sender.close(4000.into(), "bye").unwrap();
    assert_eq!(client.frame().await.unwrap().close_code(), Some(4000));
    let began = Instant::now();
    sender.abort();
    client.end().await;
    assert!(began.elapsed() < Duration::from_millis(100));
    // The first reason to end stands.
    assert_eq!(
        busy.recorder.closed().await,
        ["close 4000 Application unclean"]
    );
}

/// Lets each connection live as long as its path says, in seconds.
#[derive(Clone)]
struct Expiring(Recorder);

impl WebSocketHandler for Expiring {
    async fn on_upgrade(&mut self, handshake: &mut Handshake) -> Result<(), Rejection> {
        if let Ok(seconds) = handshake.path().trim_matches('/').parse() {
            handshake.set_max_lifetime(Duration::from_secs(seconds));
        }
        Ok(())
    }
    async fn on_close(&mut self, _: &mut Connection, event: CloseEvent) -> Result {
        self.0.note(shown_close(&event));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_shorter_of_the_layers_lifetime_and_that_of_on_upgrade_counts() {
    for (path, least, most) in [
        ("/ws/10", 10_000, 10_001),
        ("/ws/900", 90_000, 100_001),
        ("/ws", 90_000, 100_001),
        ("/ws/0", 0, 1),
    ] {
        let expiring = Expiring(Recorder::default());
        let stack = Stack::new(expiring.clone())
            .with(|layer| layer.max_lifetime(Duration::from_secs(100)).heartbeat(None));
        let mut client = stack.connect();
        let began = Instant::now();
        client.send(HANDSHAKE.replace("/ws", path).as_bytes()).await;
        assert_eq!(client.head().await.status(), 101);
        assert_eq!(client.frame().await.unwrap().close_code(), Some(1001));
        let lived = began.elapsed().as_millis();
        assert!((least..=most).contains(&lived), "{path}: {lived} ms");
        client.send(&close(1001, "")).await;
        assert_eq!(expiring.0.closed().await, ["close 1001 Lifetime clean"]);
    }
}
