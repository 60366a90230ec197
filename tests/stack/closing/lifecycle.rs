//! What happens to a connection when its surroundings end or block, and what its own callbacks
//! may do to it (rows A3, A10, A12, A13).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tower::Layer;
use tower_websocket::test::RawFrame;
use tower_websocket::{
    CloseCode, CloseEvent, Connection, Error, Message, Result, Sender, WebSocketHandler,
};

use super::aborted::Hanging;
use super::runtime;
use crate::support::*;

// ---- A10

/// Does everything that can be done to a connection, from one of its callbacks.
#[derive(Clone)]
struct Meddler {
    at: &'static str,
    what: &'static str,
    recorder: Recorder,
    everybody: Arc<Mutex<Vec<Sender>>>,
}

impl Meddler {
    async fn meddle(&self, callback: &'static str, conn: &Connection) -> Result {
        if callback != self.at {
            return Ok(());
        }
        match self.what {
            "close" => {
                let _ = conn.close(CloseCode::NORMAL_CLOSURE, "first");
                assert!(conn.close(CloseCode::NORMAL_CLOSURE, "second").is_err());
                assert!(
                    conn.sender()
                        .close(CloseCode::NORMAL_CLOSURE, "third")
                        .is_err()
                );
                assert!(conn.send("too late").await.is_err());
                assert!(conn.try_send("too late").unwrap_err().is_closed());
                assert!(conn.ping(b"too late").is_err());
            }
            "send" => {
                for _ in 0..300 {
                    // More than the queue holds: the peer has to read on meanwhile.
                    if conn.send(vec![0; 5_000]).await.is_err() {
                        break;
                    }
                }
            }
            "send and fail" => {
                let _ = conn.send("last words").await;
                return Err("as told".into());
            }
            // To all, oneself among them, until every queue is full.
            "broadcast" => {
                let everybody = self.everybody.lock().unwrap().clone();
                let message = Message::from(vec![0; 5_000]);
                for _ in 0..300 {
                    for sender in &everybody {
                        let _ = sender.try_send(message.clone());
                    }
                }
            }
            "close all" => {
                // The lock of the application is held, as careless ones do.
                for sender in self.everybody.lock().unwrap().iter() {
                    let _ = sender.close(CloseCode::GOING_AWAY, "all of you");
                }
            }
            _ => {}
        }
        self.recorder.note("done");
        Ok(())
    }
}

impl WebSocketHandler for Meddler {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        self.everybody.lock().unwrap().push(conn.sender());
        self.meddle("on_open", conn).await
    }
    async fn on_message(&mut self, conn: &mut Connection, _: Message) -> Result {
        self.meddle("on_message", conn).await?;
        if self.at == "on_error" {
            return Err("on purpose".into());
        }
        Ok(())
    }
    async fn on_error(&mut self, conn: &mut Connection, _: Error) -> Result {
        self.meddle("on_error", conn).await
    }
    async fn on_close(&mut self, conn: &mut Connection, _: CloseEvent) -> Result {
        self.recorder.note("close");
        self.meddle("on_close", conn).await
    }
}

#[tokio::test(start_paused = true)]
async fn a10_whatever_a_callback_does_to_its_connection_it_ends_and_on_close_is_called_once() {
    for at in ["on_open", "on_message", "on_error", "on_close"] {
        for what in ["close", "send", "send and fail", "broadcast", "close all"] {
            let (everybody, recorder) = (Arc::default(), Recorder::default());
            let meddler = |at, recorder: &Recorder| Meddler {
                at,
                what,
                recorder: recorder.clone(),
                everybody: Arc::clone(&everybody),
            };
            // Others that never read, so that their queues fill.
            let others = Recorder::default();
            let audience = Stack::new(meddler("nowhere", &others));
            let mut silent = Vec::new();
            for _ in 0..5 {
                silent.push(audience.open().await);
            }
            let stack = Stack::new(meddler(at, &recorder));
            let mut client = stack.open().await;
            let began = tokio::time::Instant::now();
            client.try_send(&text("go")).await;
            if !(at == "on_error" || what == "close" && at != "on_close") {
                client.try_send(&close(1000, "")).await;
            }
            let mut seen = Vec::new();
            while let Some(frame) = client.frame().await {
                if frame.first == 0x88 {
                    client.try_send(&frame_of_close(&frame)).await;
                }
                seen.push(frame);
            }
            drop(client);
            left(&stack.shutdown, 0).await;
            assert!(began.elapsed() < Duration::from_secs(11), "{at} {what}");
            let log = recorder.log();
            let count = |line: &str| log.iter().filter(|l| *l == line).count();
            assert_eq!(count("close"), 1, "{at} {what}: {log:?}");
            let done = usize::from(what != "send and fail");
            assert_eq!(count("done"), done, "{at} {what}: {log:?}");
            // One Close frame, and it is the last.
            assert_eq!(
                seen.iter().position(|f| f.first == 0x88),
                seen.len().checked_sub(1),
                "{at} {what}"
            );
            drop(silent);
        }
    }
}

fn frame_of_close(answered: &RawFrame) -> Vec<u8> {
    frame(0x88, &answered.payload)
}

/// Each waits for room in the queues of both, and nobody reads. The sockets are served beside
/// the callbacks, so as soon as somebody reads all of it goes out.
#[tokio::test(start_paused = true)]
async fn a10_callbacks_that_send_to_each_other_with_full_queues_do_not_lock_each_other_out() {
    const ROUNDS: usize = 300;
    #[derive(Clone, Default)]
    struct Mutual(Arc<Mutex<Vec<Sender>>>);
    impl WebSocketHandler for Mutual {
        async fn on_open(&mut self, conn: &mut Connection) -> Result {
            self.0.lock().unwrap().push(conn.sender());
            Ok(())
        }
        async fn on_message(&mut self, _: &mut Connection, _: Message) -> Result {
            let all = self.0.lock().unwrap().clone();
            for _ in 0..ROUNDS {
                for sender in &all {
                    sender.send(vec![7; 5_000]).await?;
                }
            }
            Ok(())
        }
    }
    let senders = Mutual::default();
    let stack = Stack::new(senders.clone());
    let (mut one, mut two) = (stack.open().await, stack.open().await);
    one.send(&text("go")).await;
    two.send(&text("go")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for sender in senders.0.lock().unwrap().iter() {
        assert!(!sender.try_send("full").unwrap_err().is_closed());
    }
    let read = |mut client: Client| async move {
        for _ in 0..2 * ROUNDS {
            client.expect(0x82, &[7; 5_000]).await;
        }
    };
    tokio::join!(read(one), read(two));
}

// ---- A3

/// It holds its thread, not only its task. What other threads there are serve the others: a
/// blocked connection holds nothing that they need.
#[test]
fn a3_a_callback_that_blocks_its_thread_stops_no_other_connection() {
    #[derive(Clone)]
    struct Blocking {
        blocked: mpsc::Sender<()>,
        release: Arc<Mutex<mpsc::Receiver<()>>>,
        closed: Arc<AtomicUsize>,
    }
    impl WebSocketHandler for Blocking {
        async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
            if message == Message::from("block") {
                self.blocked.send(())?;
                self.release.lock().unwrap().recv()?;
            }
            conn.send(message).await?;
            Ok(())
        }
        async fn on_close(&mut self, _: &mut Connection, _: CloseEvent) -> Result {
            self.closed.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }
    let (blocked, is_blocked) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let closed = Arc::<AtomicUsize>::default();
    let stack = Stack::new(Blocking {
        blocked,
        release: Arc::new(Mutex::new(released)),
        closed: closed.clone(),
    });
    let (server, outside) = (runtime(), runtime());
    let addr = server.block_on(tcp(stack.layer.layer(plain())));
    outside.block_on(async {
        let mut client = tcp_client(addr).await;
        client.open("/ws").await;
        let mut other = tcp_client(addr).await;
        other.open("/ws").await;
        client.send(&text("block")).await;
        tokio::task::spawn_blocking(move || is_blocked.recv().unwrap())
            .await
            .unwrap();
        // tokio: if the thread that blocks was the one that waited for the sockets, another takes
        // that over when it next has something to do.
        server.spawn(async {});
        for i in 0..100 {
            let line = format!("line {i}");
            other.send(&text(&line)).await;
            other.expect(0x81, line.as_bytes()).await;
        }
        let mut newcomer = tcp_client(addr).await;
        newcomer.open("/ws").await;
        newcomer.send(&close(1000, "")).await;
        newcomer.expect_close(Some(1000)).await;
        release.send(()).unwrap();
        client.expect(0x81, b"block").await;
    });
}

// ---- A12, A13

#[tokio::test(start_paused = true)]
async fn a12_a_message_that_is_arriving_is_awaited_and_answered_before_1001_but_not_for_ever() {
    for arrives in [true, false] {
        let (stack, recorder) = Stack::recorded();
        let mut client = stack.open().await;
        let message = frame(0x82, &[7; 100_000]);
        client.send(&message[..50_000]).await;
        let shutdown = stack.shutdown.clone();
        let draining = tokio::spawn(async move { shutdown.drain(Duration::from_secs(10)).await });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!draining.is_finished());
        let (forced, log) = if arrives {
            client.send(&message[50_000..]).await;
            client.expect(0x82, &[7; 100_000]).await;
            // What comes behind it is too late.
            client.send(&[text("late"), close(1001, "")].concat()).await;
            client.expect_close(Some(1001)).await;
            let clean = "close 1001 Shutdown clean";
            (0, vec!["open", "binary 100000", clean])
        } else {
            client.end().await;
            (1, vec!["open", "close 1001 Shutdown unclean"])
        };
        drop(client);
        assert_eq!(draining.await.unwrap().forced(), forced);
        assert_lines(&recorder.closed().await, &log);
    }
}

#[tokio::test(start_paused = true)]
async fn a13_at_a_shutdown_all_that_was_accepted_goes_out_before_1001() {
    let handler = Hanging::at("");
    let (recorder, senders) = (handler.recorder.clone(), handler.senders.clone());
    let stack = Stack::new(handler);
    let mut clients = Vec::new();
    let mut accepted = Vec::new();
    for size in [10, 5_000, 60_000] {
        clients.push(stack.open().await);
        while senders.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let sender = senders.lock().unwrap().pop().unwrap();
        // Nobody reads, so in the end it is full and stays so.
        let (mut sent, mut full) = (0u8, 0);
        while full < 2 {
            if sender.try_send(vec![sent; size]).is_ok() {
                accepted.push((clients.len() - 1, vec![sent; size]));
                (sent, full) = (sent.wrapping_add(1), 0);
            } else {
                tokio::time::sleep(Duration::from_millis(1)).await;
                full += 1;
            }
        }
    }
    assert!(accepted.len() > 200, "{}", accepted.len());
    let shutdown = stack.shutdown.clone();
    let draining = tokio::spawn(async move { shutdown.drain(Duration::from_secs(20)).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (i, payload) in accepted {
        clients[i].expect(0x82, &payload).await;
    }
    for client in &mut clients {
        // Our Close is answered, and the answer waited for.
        let frame = client.frame().await.unwrap();
        assert_eq!((frame.first, &frame.payload[..2]), (0x88, &[3, 233][..]));
        assert!(!draining.is_finished());
        client.send(&close(1001, "")).await;
        client.end().await;
    }
    drop(clients);
    let drained = draining.await.unwrap();
    assert_eq!((drained.closed(), drained.forced()), (3, 0));
    assert_lines(&recorder.log(), &["close 1001 Shutdown clean"; 3]);
}
