//! What is left of a connection whose runtime, task or callback is dropped in its midst (rows A5,
//! A15).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tower::Layer;
use tower_websocket::{
    CloseCode, CloseEvent, Connection, Error, Message, Result, Sender, WebSocketHandler,
};

use super::runtime;
use crate::support::*;

/// Notes that it was dropped.
struct Guard(Recorder);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.note("dropped");
    }
}

/// Hangs in one of its callbacks, and gives its `Sender` away before.
#[derive(Clone)]
pub(super) struct Hanging {
    at: &'static str,
    pub(super) recorder: Recorder,
    pub(super) senders: Arc<Mutex<Vec<Sender>>>,
}

impl Hanging {
    pub(super) fn at(at: &'static str) -> Self {
        Self {
            at,
            recorder: Recorder::default(),
            senders: Arc::default(),
        }
    }

    async fn hang(&self, callback: &str) -> Result {
        if callback == self.at {
            let _guard = Guard(self.recorder.clone());
            self.recorder.note("hangs");
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

impl WebSocketHandler for Hanging {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        self.senders.lock().unwrap().push(conn.sender());
        self.hang("on_open").await
    }
    async fn on_message(&mut self, _: &mut Connection, message: Message) -> Result {
        if message == Message::from("fail") {
            return Err("as told".into());
        }
        self.hang("on_message").await
    }
    async fn on_error(&mut self, _: &mut Connection, _: Error) -> Result {
        self.recorder.note("error");
        self.hang("on_error").await
    }
    async fn on_close(&mut self, _: &mut Connection, event: CloseEvent) -> Result {
        self.recorder.note(shown_close(&event));
        self.hang("on_close").await
    }
}

/// The one exception to "`on_close` follows `on_open`": nobody is left to run it. All else holds:
/// what the callback held is dropped, the sockets are closed, who waits to send is told.
#[test]
fn a5_a15_a_runtime_that_is_dropped_frees_its_connections_and_tells_their_senders() {
    for at in ["", "on_open", "on_message", "on_error", "on_close"] {
        for in_background in [true, false] {
            let handler = Hanging::at(at);
            let (recorder, senders) = (handler.recorder.clone(), handler.senders.clone());
            let stack = Stack::new(handler);
            let (server, outside) = (runtime(), runtime());
            let addr = server.block_on(tcp(stack.layer.layer(plain())));
            outside.block_on(async {
                let mut client = tcp_client(addr).await;
                client.open("/ws").await;
                let message = if at == "on_error" { "fail" } else { "hang" };
                client.send(&text(message)).await;
                if at == "on_close" {
                    client.send(&close(1000, "")).await;
                }
                within(async {
                    while senders.lock().unwrap().is_empty()
                        || !at.is_empty() && !recorder.log().iter().any(|l| l == "hangs")
                    {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                })
                .await;
                let sender = senders.lock().unwrap().pop().unwrap();
                // The peer reads nothing, so the queue fills and one waits for room.
                let waiting = tokio::spawn({
                    let sender = sender.clone();
                    async move { while sender.send(vec![0; 100_000]).await.is_ok() {} }
                });
                within(async {
                    while sender.try_send("").is_ok() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                })
                .await;
                assert_eq!(sender.is_closed(), at == "on_close");

                if in_background {
                    server.shutdown_background();
                } else {
                    tokio::task::spawn_blocking(|| drop(server)).await.unwrap();
                }
                within(waiting).await.unwrap();
                assert!(sender.is_closed());
                assert!(sender.try_send("late").unwrap_err().is_closed());
                assert!(sender.send("late").await.is_err());
                assert!(sender.close(CloseCode::NORMAL_CLOSURE, "").is_err());
                // The descriptor is closed: the stream ends for the peer.
                client.end().await;
                left(&stack.shutdown, 0).await;
                // Nobody is left to wait for.
                for _ in 0..2 {
                    let drained = stack.shutdown.drain(Duration::from_secs(60)).await;
                    assert_eq!((drained.closed(), drained.forced()), (0, 0));
                }
            });
            let log = recorder.log();
            let count = |line: &str| log.iter().filter(|l| l.starts_with(line)).count();
            assert_eq!(count("dropped"), usize::from(!at.is_empty()), "{log:?}");
            assert_eq!(count("close"), usize::from(at == "on_close"), "{log:?}");
        }
    }
}

/// Whoever ends the connection, a callback that does not end has the close timeout, then its
/// future is dropped with all that it holds. The peer has its Close frame long before.
#[tokio::test(start_paused = true)]
async fn a5_a_callback_that_is_dropped_with_its_connection_is_followed_by_on_close_once() {
    for at in ["on_open", "on_message"] {
        for who in ["peer", "sender", "nobody", "shutdown"] {
            let handler = Hanging::at(at);
            let (recorder, senders) = (handler.recorder.clone(), handler.senders.clone());
            let stack = Stack::new(handler);
            let mut client = stack.open().await;
            client.send(&text("hang")).await;
            while !recorder.log().contains(&"hangs".to_owned()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let began = tokio::time::Instant::now();
            match who {
                "peer" => client.send(&close(1000, "")).await,
                "sender" => {
                    let sender = senders.lock().unwrap().pop().unwrap();
                    sender.close(CloseCode::NORMAL_CLOSURE, "").unwrap();
                }
                "shutdown" => {
                    let shutdown = stack.shutdown.clone();
                    tokio::spawn(async move { shutdown.drain(Duration::from_secs(60)).await });
                }
                _ => {
                    client.send(&[0x81, 0x00]).await;
                }
            }
            let frame = client.frame().await.unwrap();
            let code = match who {
                "peer" | "sender" => 1000u16,
                "shutdown" => 1001,
                _ => 1002,
            };
            assert_eq!(frame.first, 0x88, "{at} {who}");
            assert_eq!(frame.close_code(), Some(code), "{at} {who}");
            if who != "peer" {
                client.try_send(&close(code, "")).await;
            }
            client.end().await;
            drop(client);
            left(&stack.shutdown, 0).await;
            assert!(
                began.elapsed() < Duration::from_secs(6),
                "{at} {who}: {:?}",
                began.elapsed()
            );
            let log = recorder.log();
            let count = |line: &str| log.iter().filter(|l| l.starts_with(line)).count();
            assert_eq!(
                (count("dropped"), count("close")),
                (1, 1),
                "{at} {who}: {log:?}"
            );
            assert!(log.last().unwrap().starts_with(&format!("close {code} ")));
            let dropped = log.iter().position(|l| l == "dropped");
            assert!(dropped < Some(log.len() - 1), "{at} {who}: {log:?}");
        }
    }
}

/// A callback that waits for a task of its own, and that task is aborted or panics.
#[tokio::test(start_paused = true)]
async fn a5_a_callback_whose_own_task_is_aborted_or_panics_fails_like_any_other() {
    #[derive(Clone)]
    struct Delegating(Recorder);
    impl WebSocketHandler for Delegating {
        async fn on_message(&mut self, _: &mut Connection, message: Message) -> Result {
            let panics = message == Message::from("panic");
            let guard = Guard(self.0.clone());
            let task = tokio::spawn(async move {
                let _guard = guard;
                assert!(!panics, "as told");
                std::future::pending::<()>().await;
            });
            if !panics {
                task.abort();
            }
            task.await?;
            Ok(())
        }
        async fn on_error(&mut self, _: &mut Connection, error: Error) -> Result {
            assert!(error.is_application());
            self.0.note("error");
            Ok(())
        }
        async fn on_close(&mut self, _: &mut Connection, event: CloseEvent) -> Result {
            self.0.note(shown_close(&event));
            Ok(())
        }
    }
    for how in ["abort", "panic"] {
        let recorder = Recorder::default();
        let stack = Stack::new(Delegating(recorder.clone()));
        let mut client = stack.open().await;
        client.send(&text(how)).await;
        let frame = client.frame().await.unwrap();
        assert_eq!(frame.close_code(), Some(1011));
        client.send(&close(1011, "")).await;
        client.end().await;
        let log = recorder.closed().await;
        assert_lines(
            &log,
            &["dropped", "error", "close 1011 ApplicationFailed clean"],
        );
    }
}
