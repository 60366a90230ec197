//! Events that the rest of the application sends to the handler of a connection.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::sleep;
use tower_websocket::{
    CloseEvent, Connection, Error, Event, Message, NotifyError, Result, Sender, WebSocketHandler,
    WebSocketLayer,
};

use crate::support::*;

#[derive(Debug, PartialEq)]
struct Tick(u32);

/// Writes down what it gets, and takes its time where it is told to.
#[derive(Clone, Default)]
struct Clerk {
    recorder: Recorder,
    sender: Arc<Mutex<Option<Sender>>>,
    running: bool,
}

impl Clerk {
    fn sender(&self) -> Sender {
        self.sender.lock().unwrap().clone().unwrap()
    }

    async fn work(&mut self, line: String) -> Result {
        assert!(!self.running, "two callbacks at a time");
        self.running = true;
        if line.contains("slow") {
            sleep(Duration::from_secs(1)).await;
        }
        self.recorder.note(line);
        self.running = false;
        Ok(())
    }
}

impl WebSocketHandler for Clerk {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        *self.sender.lock().unwrap() = Some(conn.sender());
        Ok(())
    }
    async fn on_message(&mut self, _: &mut Connection, message: Message) -> Result {
        self.work(shown(&message)).await
    }
    async fn on_event(&mut self, conn: &mut Connection, event: Event) -> Result {
        match event.downcast() {
            Ok(Tick(0)) => Err("as told".into()),
            Ok(Tick(n)) => {
                conn.send(format!("tick {n}")).await?;
                self.work(format!("tick {n}")).await
            }
            Err(event) => self.work(event.downcast::<String>().unwrap()).await,
        }
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
async fn an_event_reaches_a_handler_that_is_idle_and_one_that_is_busy_in_its_place() {
    let clerk = Clerk::default();
    let stack = Stack::new(clerk.clone());
    let mut client = stack.open().await;
    client.send(&text("first")).await;
    sleep(Duration::from_millis(1)).await;
    let sender = clerk.sender();
    sender.notify(Tick(1)).unwrap();
    client.expect(0x81, b"tick 1").await;
    // While a callback runs, the order is that of arrival.
    client.send(&text("slow")).await;
    sleep(Duration::from_millis(1)).await;
    sender.notify(Tick(2)).unwrap();
    client.send(&text("last")).await;
    sleep(Duration::from_millis(1)).await;
    sender.notify("slow event".to_owned()).unwrap();
    sender.notify(Tick(3)).unwrap();
    client.expect(0x81, b"tick 2").await;
    client.expect(0x81, b"tick 3").await;
    sleep(Duration::from_millis(1)).await;
    assert_lines(
        &clerk.recorder.log(),
        &[
            "text first",
            "tick 1",
            "text slow",
            "tick 2",
            "text last",
            "slow event",
            "tick 3",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn events_are_bounded_and_what_is_not_taken_comes_back() {
    let clerk = Clerk::default();
    let stack = Stack::new(clerk.clone());
    let mut client = stack.open().await;
    client.send(&text("slow")).await;
    sleep(Duration::from_millis(1)).await;
    let sender = clerk.sender();
    for n in 1..=1024 {
        sender.notify(Tick(n)).unwrap();
    }
    let back = sender.notify(Tick(7)).unwrap_err();
    assert_eq!(back, NotifyError::Full(Tick(7)));
    assert_eq!(back.into_event(), Tick(7));
    for n in 1..=1024 {
        client.expect(0x81, format!("tick {n}").as_bytes()).await;
    }
    // What came before the end is received, what comes behind it is given back.
    sender.notify(Tick(1)).unwrap();
    client.send(&close(1000, "")).await;
    client.expect(0x81, b"tick 1").await;
    client.expect_close(Some(1000)).await;
    assert_eq!(sender.notify(Tick(2)), Err(NotifyError::Closed(Tick(2))));
    sender.closed().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_callback_fails_or_hangs_ends_the_connection_like_any_other() {
    let clerk = Clerk::default();
    let stack = Stack::new(clerk.clone());
    let mut client = stack.open().await;
    sleep(Duration::from_millis(1)).await;
    clerk.sender().notify(Tick(0)).unwrap();
    let frame = client.frame().await.unwrap();
    assert_eq!(frame.payload[..2], 1011u16.to_be_bytes());
    client.send(&close(1011, "")).await;
    client.end().await;
    assert_lines(
        &clerk.recorder.closed().await,
        &[
            "error on_event returned an error",
            "close 1011 ApplicationFailed clean",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_pulls_selects_over_messages_and_events() {
    let senders = Arc::new(Mutex::new(Vec::new()));
    let kept = senders.clone();
    let layer = WebSocketLayer::from_fn("/ws", move |mut conn: Connection| {
        kept.lock().unwrap().push(conn.sender());
        async move {
            // Two handles of one connection: each waits for its own.
            loop {
                let sender = conn.sender();
                let line = tokio::select! {
                    message = conn.recv() => match message? {
                        Some(message) => shown(&message),
                        None => return Ok(()),
                    },
                    () = sleep(Duration::from_secs(1)) => "idle".to_owned(),
                };
                sender.send(line).await?;
                while let Ok(Some(event)) =
                    tokio::time::timeout(Duration::from_millis(1), conn.recv_event()).await
                {
                    let Tick(n) = event.downcast().unwrap();
                    sender.send(format!("tick {n}")).await?;
                }
            }
        }
    });
    let mut client = http1(tower::Layer::layer(&layer, plain()));
    client.open("/ws").await;
    sleep(Duration::from_millis(1)).await;
    let sender = senders.lock().unwrap().pop().unwrap();
    sender.notify(Tick(1)).unwrap();
    client.send(&text("a")).await;
    client.expect(0x81, b"text a").await;
    client.expect(0x81, b"tick 1").await;
    client.expect(0x81, b"idle").await;
    // It waits for events at this moment.
    sender.notify(Tick(2)).unwrap();
    client.expect(0x81, b"tick 2").await;
    client.send(&close(1000, "")).await;
    client.expect_close(Some(1000)).await;
}

#[tokio::test(start_paused = true)]
async fn closed_is_ready_when_nothing_can_be_sent_any_more_and_queued_tells_how_far_the_peer_is_behind()
 {
    let clerk = Clerk::default();
    let stack = Stack::new(clerk.clone());
    let client = stack.open().await;
    sleep(Duration::from_millis(1)).await;
    let sender = clerk.sender();
    let waiting = tokio::spawn({
        let sender = sender.clone();
        async move { sender.closed().await }
    });
    while sender.try_send(vec![0; 100_000]).is_ok() {
        sleep(Duration::from_millis(1)).await;
    }
    let queued = sender.queued();
    assert!(queued.messages() >= 10 && queued.bytes() == queued.messages() * 100_000);
    assert!(!waiting.is_finished());
    sender.ping(b"?").unwrap();
    drop(client.io);
    waiting.await.unwrap();
    assert_eq!(sender.queued().messages(), 0);
    assert!(sender.ping(b"?").is_err());
}
