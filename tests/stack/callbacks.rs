//! The contract of the handler: each callback returns, fails, panics, or never ends.

use std::time::Duration;

use tower_websocket::{
    CloseCode, CloseEvent, Connection, Error, Message, Result, WebSocketHandler,
};

use crate::support::*;

#[derive(Clone, Copy, PartialEq)]
enum How {
    Fails,
    Panics,
    Hangs,
}

#[derive(Clone)]
struct Faulty {
    callback: &'static str,
    how: How,
    recorder: Recorder,
}

impl Faulty {
    async fn run(&self, callback: &str) -> Result {
        if callback == self.callback {
            match self.how {
                How::Fails => return Err("it failed".into()),
                How::Panics => panic!("it panicked"),
                How::Hangs => std::future::pending().await,
            }
        }
        Ok(())
    }
}

impl WebSocketHandler for Faulty {
    async fn on_open(&mut self, _: &mut Connection) -> Result {
        self.recorder.note("open");
        self.run("on_open").await
    }
    async fn on_message(&mut self, _: &mut Connection, _: Message) -> Result {
        self.recorder.note("message");
        self.run("on_message").await
    }
    async fn on_close(&mut self, _: &mut Connection, event: CloseEvent) -> Result {
        self.recorder.note(shown_close(&event));
        self.run("on_close").await
    }
    async fn on_error(&mut self, _: &mut Connection, _: Error) -> Result {
        self.recorder.note("error");
        self.run("on_error").await
    }
}

fn stack(callback: &'static str, how: How) -> (Stack<Faulty>, Recorder) {
    let recorder = Recorder::default();
    let handler = Faulty {
        callback,
        how,
        recorder: recorder.clone(),
    };
    (Stack::new(handler), recorder)
}

#[tokio::test(start_paused = true)]
async fn a1_an_error_or_a_panic_closes_with_1011_and_on_close_is_called_once() {
    for how in [How::Fails, How::Panics] {
        for callback in ["on_open", "on_message"] {
            let (stack, recorder) = stack(callback, how);
            let mut client = stack.open().await;
            client.try_send(&text("a")).await;
            let frame = client.frame().await.unwrap();
            assert_eq!(frame.close_code(), Some(1011));
            client.try_send(&close(1011, "")).await;
            client.end().await;
            drop(client);
            left(&stack.shutdown, 0).await;
            let log = recorder.log();
            assert_eq!(log[log.len() - 2], "error");
            assert_eq!(log[log.len() - 1], "close 1011 ApplicationFailed clean");
            assert_eq!(log.iter().filter(|l| l.starts_with("close")).count(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a2_a_fault_in_on_close_or_on_error_is_contained() {
    for how in [How::Fails, How::Panics, How::Hangs] {
        for callback in ["on_close", "on_error"] {
            let (stack, recorder) = stack(callback, how);
            let mut client = stack.open().await;
            client.send(&[0x83]).await;
            client.expect_close(Some(1002)).await;
            drop(client);
            left(&stack.shutdown, 0).await;
            assert_lines(
                &recorder.log(),
                &["open", "error", "close 1002 Violation unclean"],
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a3_a_callback_that_never_ends_does_not_stop_pongs_and_is_dropped_after_the_end() {
    for callback in ["on_open", "on_message"] {
        let (stack, recorder) = stack(callback, How::Hangs);
        let mut client = stack.open().await;
        client
            .send(&[text("a"), frame(0x89, b"alive?")].concat())
            .await;
        client.expect(0x8A, b"alive?").await;
        client.send(&close(1000, "")).await;
        client.end().await;
        drop(client);
        left(&stack.shutdown, 0).await;
        let closes = recorder
            .log()
            .iter()
            .filter(|l| l.starts_with("close 1000"))
            .count();
        assert_eq!(closes, 1, "{:?}", recorder.log());
    }
}

#[tokio::test(start_paused = true)]
async fn a3_a_callback_has_the_on_message_timeout_where_there_is_one() {
    let (stack, recorder) = stack("on_message", How::Hangs);
    let stack = stack.with(|layer| layer.on_message_timeout(Duration::from_secs(7)));
    let mut client = stack.open().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let began = tokio::time::Instant::now();
    client.send(&text("a")).await;
    let frame = client.frame().await.unwrap();
    assert_eq!(frame.close_code(), Some(1011));
    assert_eq!(began.elapsed().as_secs(), 7);
    client.try_send(&close(1011, "")).await;
    client.end().await;
    drop(client);
    left(&stack.shutdown, 0).await;
    let log = recorder.log();
    assert_lines(
        &log,
        &[
            "open",
            "message",
            "error",
            "close 1011 ApplicationFailed clean",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a3_the_on_message_timeout_counts_for_each_message_anew_and_not_in_between() {
    #[derive(Clone)]
    struct Slow;
    impl WebSocketHandler for Slow {
        async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
            tokio::time::sleep(Duration::from_secs(5)).await;
            conn.send(message).await?;
            Ok(())
        }
    }
    let stack = Stack::new(Slow);
    let timeout = Duration::from_secs(7);
    let stack = stack.with(|layer| layer.on_message_timeout(timeout).heartbeat(None));
    let mut client = stack.open().await;
    for pause in [0, 1, 15] {
        client.send(&text("a").repeat(3)).await;
        for _ in 0..3 {
            client.expect(0x81, b"a").await;
        }
        tokio::time::sleep(Duration::from_secs(pause)).await;
    }
    client.send(&close(1000, "")).await;
    client.expect_close(Some(1000)).await;
}

/// A `send` that fails since the connection was closed ends the callback, and nobody is told.
#[tokio::test(start_paused = true)]
async fn a3_the_on_message_timeout_is_void_when_a_callback_fails_for_the_end() {
    #[derive(Clone)]
    struct Sends;
    impl WebSocketHandler for Sends {
        async fn on_message(&mut self, conn: &mut Connection, _: Message) -> Result {
            let sender = conn.sender();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                sender.close(CloseCode::NORMAL_CLOSURE, "")
            });
            loop {
                conn.send(vec![0; 10_000]).await?;
            }
        }
    }
    let stack = Stack::new(Sends);
    let timeout = Duration::from_secs(2);
    let stack = stack.with(|layer| layer.on_message_timeout(timeout).heartbeat(None));
    let mut client = stack.open().await;
    client.send(&text("a")).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let close = loop {
        let received = client.frame().await.unwrap();
        if received.first == 0x88 {
            break received;
        }
    };
    assert_eq!(close.payload, 1000u16.to_be_bytes());
    tokio::time::sleep(Duration::from_secs(3)).await;
    client.send(&frame(0x88, &close.payload)).await;
    assert_eq!(client.frame().await, None);
    left(&stack.shutdown, 0).await;
}

/// Nobody reads then, so its end is not seen, and no pong would be. But it can be written to.
#[tokio::test(start_paused = true)]
async fn a3_a_peer_that_leaves_while_a_callback_hangs_with_all_it_may_have_read_ahead_is_found() {
    let (stack, recorder) = stack("on_message", How::Hangs);
    let mut client = stack.open().await;
    // One for the callback, 70,000 bytes read ahead, and one that waits in the pipe.
    for _ in 0..9 {
        client.send(&frame(0x82, &[0; 10_000])).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // It is there, and is not held to answer what is behind its own messages.
    let heartbeats = async {
        loop {
            assert_eq!(client.frame().await.unwrap().first, 0x8A);
        }
    };
    let hour = Duration::from_secs(3600);
    assert!(tokio::time::timeout(hour, heartbeats).await.is_err());
    assert_eq!(recorder.log(), ["open", "message"]);
    drop(client);
    let began = tokio::time::Instant::now();
    left(&stack.shutdown, 0).await;
    assert!(began.elapsed().as_secs() <= 25, "{:?}", began.elapsed());
    let log = recorder.log();
    assert_eq!(log.last().unwrap(), "close 1006 Transport unclean");
}

/// Every callback times every way to leave it.
#[tokio::test(start_paused = true)]
async fn a1_a2_a3_whatever_a_callback_does_on_close_is_called_once_and_the_peer_is_told() {
    #[derive(Clone)]
    struct Table {
        at: &'static str,
        how: &'static str,
        recorder: Recorder,
    }
    impl Table {
        async fn act(&self, callback: &'static str) -> Result {
            self.recorder.note(callback);
            match self.how {
                _ if self.at != callback => Ok(()),
                "err" => Err("broken".into()),
                "panic" => panic!("as the table says"),
                "never" => std::future::pending().await,
                _ => Ok(()),
            }
        }
    }
    impl WebSocketHandler for Table {
        async fn on_open(&mut self, _: &mut Connection) -> Result {
            self.act("on_open").await
        }
        async fn on_message(&mut self, _: &mut Connection, _: Message) -> Result {
            self.act("on_message").await?;
            // on_error is reached through an error.
            if self.at == "on_error" {
                return Err("on purpose".into());
            }
            Ok(())
        }
        async fn on_error(&mut self, _: &mut Connection, _: Error) -> Result {
            self.act("on_error").await
        }
        async fn on_close(&mut self, _: &mut Connection, _: CloseEvent) -> Result {
            self.act("on_close").await
        }
    }
    for at in ["on_open", "on_message", "on_error", "on_close"] {
        for how in ["ok", "err", "panic", "never"] {
            let recorder = Recorder::default();
            let stack = Stack::new(Table {
                at,
                how,
                recorder: recorder.clone(),
            });
            let mut client = stack.open().await;
            client.try_send(&text("a message")).await;
            let failed = at == "on_error" || at != "on_close" && matches!(how, "err" | "panic");
            if !failed {
                client.try_send(&close(1000, "")).await;
            }
            let expected = if failed { 1011 } else { 1000 };
            let frame = client.frame().await.expect("a Close frame");
            let code = frame.close_code().unwrap();
            assert_eq!((frame.first, code), (0x88, expected), "{at} {how}");
            client.end().await;
            drop(client);
            left(&stack.shutdown, 0).await;
            let log = recorder.log();
            let count = |name: &str| log.iter().filter(|line| *line == name).count();
            assert_eq!(
                (count("on_open"), count("on_close")),
                (1, 1),
                "{at} {how} {log:?}"
            );
        }
    }
}

/// Panics when it is shown, or when it is dropped.
#[derive(Debug)]
struct Hostile {
    shown: bool,
    dropped: bool,
}

impl std::fmt::Display for Hostile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        assert!(!self.shown, "shown");
        f.write_str("an error")
    }
}

impl std::error::Error for Hostile {}

impl Drop for Hostile {
    fn drop(&mut self) {
        if self.dropped && !std::thread::panicking() {
            // What it panics with panics too.
            std::panic::panic_any(Self {
                shown: false,
                dropped: true,
            });
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s9_what_the_application_fails_with_may_itself_panic() {
    #[derive(Clone)]
    struct Failing {
        at: &'static str,
        panics: bool,
        shown: bool,
        recorder: Recorder,
    }
    impl Failing {
        fn fail(&self, callback: &str) -> Result {
            if callback != self.at {
                return Ok(());
            }
            let hostile = Hostile {
                shown: self.shown,
                dropped: !self.shown,
            };
            if self.panics {
                std::panic::panic_any(hostile);
            }
            Err(hostile.into())
        }
    }
    impl WebSocketHandler for Failing {
        async fn on_open(&mut self, _: &mut Connection) -> Result {
            self.fail("on_open")
        }
        async fn on_message(&mut self, _: &mut Connection, _: Message) -> Result {
            if self.at == "on_error" {
                return Err("as told".into());
            }
            self.fail("on_message")
        }
        async fn on_error(&mut self, _: &mut Connection, _: Error) -> Result {
            self.fail("on_error")
        }
        async fn on_close(&mut self, _: &mut Connection, event: CloseEvent) -> Result {
            self.recorder.note(shown_close(&event));
            self.fail("on_close")
        }
    }
    // Whoever reads the log shows what is in it.
    let subscriber = tracing_subscriber::fmt().with_writer(std::io::sink);
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    for at in ["on_open", "on_message", "on_error", "on_close"] {
        for panics in [false, true] {
            for shown in [false, true] {
                let recorder = Recorder::default();
                let stack = Stack::new(Failing {
                    at,
                    panics,
                    shown,
                    recorder: recorder.clone(),
                });
                let mut client = stack.open().await;
                client.try_send(&text("a")).await;
                client.try_send(&close(1000, "")).await;
                client.end().await;
                drop(client);
                left(&stack.shutdown, 0).await;
                let case = format!("{at} {panics} {shown}: {:?}", recorder.log());
                assert_eq!(recorder.log().len(), 1, "{case}");
                // The task went on to its end: it has not unwound.
                let drained = stack.shutdown.drain(Duration::from_secs(1)).await;
                assert_eq!(drained.forced(), 0, "{case}");
            }
        }
    }
}
