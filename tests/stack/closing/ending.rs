//! The end of a connection, and the application that is still at it: whoever ends it, all who act
//! on it learn that, and the peer's Close is answered soon (rows P3, P4, S3, S7).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_websocket::{Connection, Message, Result, Sender, WebSocketHandler, WebSocketLayer};

use crate::support::*;

/// How an application may go on for ever.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Sends now and then.
    Ticker,
    /// Sends as fast as it may.
    Stream,
    /// Sends if there is room, and does not look whether it worked.
    Deaf,
}

/// Goes on for ever in one of its callbacks.
#[derive(Clone)]
struct Endless {
    at: &'static str,
    way: Way,
    recorder: Recorder,
}

impl Endless {
    async fn run(&self, callback: &str, conn: &Connection) -> Result {
        if callback != self.at {
            return Ok(());
        }
        let result = go_on(conn.sender(), self.way).await;
        self.recorder.note("learned");
        result
    }
}

async fn go_on(sender: Sender, way: Way) -> Result {
    loop {
        match way {
            Way::Ticker => {
                sender.send("tick").await?;
                sleep(Duration::from_millis(20)).await;
            }
            Way::Stream => sender.send("x".repeat(1000)).await?,
            Way::Deaf => {
                let _ = sender.try_send("tick");
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

impl WebSocketHandler for Endless {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        self.recorder.note("open");
        self.run("on_open", conn).await
    }
    async fn on_message(&mut self, conn: &mut Connection, _: Message) -> Result {
        self.run("on_message", conn).await
    }
    async fn on_error(&mut self, _: &mut Connection, error: tower_websocket::Error) -> Result {
        self.recorder.note(format!("error {error}"));
        Ok(())
    }
    async fn on_close(&mut self, _: &mut Connection, event: tower_websocket::CloseEvent) -> Result {
        self.recorder.note(shown_close(&event));
        Ok(())
    }
}

/// Reads on to the Close frame: how long that took, and its code.
async fn until_close(client: &mut Client) -> (Duration, Option<u16>) {
    let began = Instant::now();
    loop {
        let frame = client.frame().await.expect("a Close frame");
        if frame.first == 0x88 {
            let code = frame.close_code();
            return (began.elapsed(), code);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p4_an_application_that_goes_on_sending_learns_that_the_peer_has_closed() {
    for at in ["on_open", "on_message"] {
        for way in [Way::Ticker, Way::Stream, Way::Deaf] {
            for messages in [1, 3] {
                let recorder = Recorder::default();
                let stack = Stack::new(Endless {
                    at,
                    way,
                    recorder: recorder.clone(),
                });
                let mut client = stack.open().await;
                for _ in 0..messages {
                    client.send(&text("go")).await;
                }
                for _ in 0..10 {
                    assert_eq!(client.frame().await.unwrap().first, 0x81);
                }
                client.send(&close(1000, "")).await;
                let (time, code) = until_close(&mut client).await;
                let case = format!("{at} {way:?} {messages}");
                assert_eq!(code, Some(1000), "{case}");
                assert!(time <= Duration::from_millis(100), "{case}: {time:?}");
                client.end().await;
                let log = recorder.closed().await;
                assert_eq!(log.last().unwrap(), "close 1000 Peer clean", "{case}");
                // That an ordinary close came is no error of those who look.
                let errors = log.iter().filter(|l| l.starts_with("error")).count();
                assert_eq!(errors, usize::from(way == Way::Deaf), "{case}: {log:?}");
                assert_eq!(log.contains(&"learned".to_owned()), way != Way::Deaf);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p4_a_peer_that_breaks_a_rule_is_answered_as_soon() {
    for way in [Way::Ticker, Way::Stream, Way::Deaf] {
        let stack = Stack::new(Endless {
            at: "on_open",
            way,
            recorder: Recorder::default(),
        });
        let mut client = stack.open().await;
        client.send(&[0x81, 0x00]).await;
        let (time, code) = until_close(&mut client).await;
        assert_eq!(code, Some(1002));
        assert!(time <= Duration::from_millis(100), "{way:?}: {time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn p4_a_drain_ends_applications_that_go_on_sending_with_a_close_frame() {
    for deadline in [1, 4, 20] {
        for way in [Way::Ticker, Way::Deaf] {
            let recorder = Recorder::default();
            let stack = Stack::new(Endless {
                at: "on_open",
                way,
                recorder: recorder.clone(),
            });
            let mut client = stack.open().await;
            let shutdown = stack.shutdown.clone();
            let drain = shutdown.drain(Duration::from_secs(deadline));
            let drain = tokio::spawn(drain);
            let (_, code) = until_close(&mut client).await;
            assert_eq!(code, Some(1001), "{deadline} {way:?}");
            client.try_send(&close(1001, "")).await;
            client.end().await;
            drop(client);
            let drained = drain.await.unwrap();
            // Who looks has half of the close timeout, who does not look all of it.
            let needed = if way == Way::Ticker { 3 } else { 6 };
            assert_eq!(
                drained.forced(),
                usize::from(deadline < needed),
                "{deadline} {way:?}"
            );
            assert_eq!(drained.remaining(), 0);
        }
    }
}

/// What arrived ahead of the Close, in the same read, is answered in full.
#[tokio::test(start_paused = true)]
async fn p4_n3_what_came_in_one_read_with_the_close_is_echoed_whole() {
    #[derive(Clone)]
    struct Slow(Duration);
    impl WebSocketHandler for Slow {
        async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
            if self.0.is_zero() {
                tokio::task::yield_now().await;
            } else {
                sleep(self.0).await;
            }
            conn.send(message).await?;
            Ok(())
        }
    }
    let pull = |mut conn: Connection| async move {
        while let Some(message) = conn.recv().await? {
            tokio::task::yield_now().await;
            conn.send(message).await?;
        }
        Ok(())
    };
    for count in [1, 3, 300] {
        let mut bytes = Vec::new();
        for i in 0..count {
            bytes.extend(text(&i.to_string()));
        }
        bytes.extend(close(1000, ""));
        let mut clients = [
            Stack::recorded().0.open().await,
            Stack::new(Slow(Duration::ZERO)).open().await,
            Stack::new(Slow(Duration::from_millis(10))).open().await,
            pulled(pull).open().await,
        ];
        for (i, client) in clients.iter_mut().enumerate() {
            client.send(&bytes).await;
            for n in 0..count {
                let frame = client.frame().await.unwrap();
                assert_eq!(
                    (frame.first, frame.payload),
                    (0x81, n.to_string().into_bytes()),
                    "{n} of {count} for {i}"
                );
            }
            client.expect_close(Some(1000)).await;
        }
    }
}

fn pulled<F, Fut>(function: F) -> Stack<tower_websocket::FnHandler>
where
    F: Fn(Connection) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result> + Send + 'static,
{
    let shutdown = tower_websocket::Shutdown::new();
    Stack {
        layer: WebSocketLayer::from_fn("/ws", function).shutdown(&shutdown),
        shutdown,
    }
}

#[tokio::test(start_paused = true)]
async fn p4_loops_that_pull_answer_a_close_at_once_with_and_without_select() {
    let select = |mut conn: Connection| async move {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                message = conn.recv() => match message? {
                    Some(message) => conn.send(message).await?,
                    None => return Ok(()),
                },
                _ = tick.tick() => conn.send("tick").await?,
            }
        }
    };
    let alternating = |mut conn: Connection| async move {
        while let Some(message) = conn.recv().await? {
            for _ in 0..1000 {
                conn.send(message.clone()).await?;
                sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    };
    for (name, stack) in [
        ("select", pulled(select)),
        ("alternating", pulled(alternating)),
    ] {
        let mut client = stack.open().await;
        client.send(&[text("a"), text("b")].concat()).await;
        for _ in 0..5 {
            client.frame().await.unwrap();
        }
        client.send(&close(1000, "")).await;
        let (time, code) = until_close(&mut client).await;
        assert_eq!(code, Some(1000), "{name}");
        assert!(time <= Duration::from_millis(100), "{name}: {time:?}");
        client.end().await;
        left(&stack.shutdown, 0).await;
    }
}

/// Half a message, the order to leave, the other half, and then silence.
#[tokio::test(start_paused = true)]
async fn p3_a_message_that_was_arriving_when_the_server_leaves_is_followed_by_a_close_at_once() {
    let whole = text("0123456789");
    for lifetime in [false, true] {
        let (stack, recorder) = Stack::recorded();
        let stack = stack.with(|layer| {
            let age = lifetime.then_some(Duration::from_secs(10));
            layer.max_lifetime(age).heartbeat(None)
        });
        let mut client = stack.open().await;
        client.send(&whole[..11]).await;
        let drain = stack.shutdown.drain(Duration::from_secs(60));
        let drain = (!lifetime).then(|| tokio::spawn(drain));
        sleep(Duration::from_secs(if lifetime { 11 } else { 1 })).await;
        client.send(&whole[11..]).await;
        let began = Instant::now();
        client.expect(0x81, b"0123456789").await;
        let frame = client.frame().await.unwrap();
        assert_eq!(
            (frame.first, &frame.payload[..2]),
            (0x88, &[0x03, 0xE9][..])
        );
        assert!(began.elapsed() < Duration::from_millis(100));
        client.send(&close(1001, "")).await;
        client.end().await;
        assert!(recorder.closed().await.last().unwrap().ends_with("clean"));
        if let Some(drain) = drain {
            assert_eq!(drain.await.unwrap().forced(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s3_an_unfinished_message_outlasts_neither_a_drain_nor_a_lifetime() {
    let (stack, recorder) = Stack::recorded();
    let stack = stack.with(|layer| layer.max_lifetime(Duration::from_secs(60)));
    let mut client = stack.open().await;
    let began = Instant::now();
    client.send(&frame(0x01, b"half")).await;
    // 1.1 kB/s of pings, and a byte of the message now and then.
    let (mut reader, mut writer) = tokio::io::split(client.io);
    let pinging = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        loop {
            let bytes = [frame(0x89, &[0; 100]).repeat(10), frame(0x00, b"x")].concat();
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    });
    let mut sink = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut sink);
    let _ = tokio::time::timeout(Duration::from_secs(200), read).await;
    assert!(
        began.elapsed() < Duration::from_secs(100),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        recorder.closed().await.last().unwrap(),
        "close 1008 Timeout unclean"
    );
    pinging.abort();
}

/// A port of `let (sender, receiver) = socket.split()`: the reader is a task of its own.
#[tokio::test(start_paused = true)]
async fn s7_a_recv_outside_of_the_callback_is_woken_by_every_end() {
    for who in [
        "returns", "fails", "peer", "drain", "abort", "reset", "panic",
    ] {
        let ended = Arc::new(Mutex::new(None));
        let told = ended.clone();
        let stack = pulled(move |mut conn: Connection| {
            let told = told.clone();
            async move {
                tokio::spawn(async move {
                    let result = loop {
                        match conn.recv().await {
                            Ok(Some(_)) => {}
                            Ok(None) => break "none",
                            Err(_) => break "error",
                        }
                    };
                    *told.lock().unwrap() = Some(result);
                });
                match who {
                    "returns" => Ok(()),
                    "fails" => Err("as told".into()),
                    "panic" => panic!("as told"),
                    _ => std::future::pending().await,
                }
            }
        });
        let mut client = stack.open().await;
        match who {
            "peer" => client.send(&close(1000, "")).await,
            "reset" => drop(client),
            "drain" | "abort" => {
                let seconds = if who == "drain" { 60 } else { 0 };
                let drain = stack.shutdown.drain(Duration::from_secs(seconds));
                drop(tokio::spawn(drain));
            }
            _ => {}
        }
        within(async {
            while ended.lock().unwrap().is_none() {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        // It held the last handle of the connection.
        left(&stack.shutdown, 0).await;
    }
}

/// Who reads in a task of its own takes what was read ahead, and then more comes.
#[tokio::test(start_paused = true)]
async fn s10_a_recv_outside_of_the_callback_makes_room_for_more() {
    let count = Arc::new(Mutex::new(0));
    let counted = count.clone();
    let stack = pulled(move |mut conn: Connection| {
        let count = counted.clone();
        async move {
            tokio::spawn(async move {
                sleep(Duration::from_secs(1)).await;
                while let Ok(Some(_)) = conn.recv().await {
                    *count.lock().unwrap() += 1;
                }
            });
            std::future::pending().await
        }
    });
    let mut client = stack.open().await;
    for _ in 0..50 {
        client.send(&frame(0x82, &[0; 1000]).repeat(100)).await;
    }
    within(async {
        while *count.lock().unwrap() < 5000 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// What a peer still sends behind its fault is thrown away: it could not read our Close otherwise.
#[tokio::test(start_paused = true)]
async fn s10_f33_what_comes_behind_a_fault_is_taken_from_the_socket() {
    let (stack, _) = Stack::recorded();
    let mut client = stack.open().await;
    client.send(&[0x81, 0x00]).await;
    let began = Instant::now();
    // Many times what the pipe holds.
    client.send(&vec![0; 1 << 20]).await;
    assert!(began.elapsed() < Duration::from_secs(1));
    client.expect_close(Some(1002)).await;
}

/// A proxy ends both directions at our FIN, so it must not come while the peer is still sending.
#[tokio::test(start_paused = true)]
async fn p8_f33_the_fin_waits_until_a_peer_that_broke_a_rule_is_silent() {
    let (stack, _) = Stack::recorded();
    let mut client = stack.open().await;
    client.send(&[0x81, 0x00]).await;
    let began = Instant::now();
    assert_eq!(client.frame().await.unwrap().first, 0x88);
    for _ in 0..8 {
        client.send(&[0; 100]).await;
        sleep(Duration::from_millis(200)).await;
    }
    client.end().await;
    let time = began.elapsed();
    assert!((1900..2500).contains(&time.as_millis()), "{time:?}");
    // One that answers with its own Close, as browsers do, or that ends its side, waits for nothing.
    let mut client = stack.open().await;
    client.send(&close(1000, "")).await;
    let began = Instant::now();
    client.expect_close(Some(1000)).await;
    assert!(began.elapsed() < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn f33_the_fin_does_not_wait_for_a_peer_whose_close_came_with_what_broke_a_rule() {
    let (stack, recorder) = Stack::recorded();
    let reads = [
        (1002, [&[0x81, 0x00][..], &close(1000, "")].concat()),
        (1007, [frame(0x81, b"\xFF"), close(1000, "")].concat()),
        // A Close frame that is itself the violation.
        (1002, close(1005, "")),
    ];
    for (code, read) in reads {
        let mut client = stack.open().await;
        client.send(&read).await;
        let began = Instant::now();
        client.expect_close(Some(code)).await;
        let time = began.elapsed();
        assert!(time < Duration::from_millis(100), "{time:?} {read:x?}");
    }
    stack.is_clean().await;
    let log = recorder.log();
    let ends = log.iter().filter(|line| line.contains("Violation"));
    assert!(ends.clone().all(|line| line.ends_with("unclean")));
    assert_eq!(ends.count(), 3, "{log:?}");
}
