//! Too many peers, and peers that are too slow (rows N5, R1, R8, R9).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use tower_websocket::{
    CloseEvent, Connection, Error, Message, Result, Sender, TrySendError, WebSocketHandler,
};

use crate::support::*;

/// Has one large answer to everything, and notes the end.
#[derive(Clone)]
struct Verbose {
    answer: Message,
    recorder: Recorder,
}

impl WebSocketHandler for Verbose {
    async fn on_message(&mut self, conn: &mut Connection, _: Message) -> Result {
        conn.send(self.answer.clone()).await?;
        Ok(())
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

/// Whoever reads a byte a second is given up when 30 s are over and no KiB has bought more; who
/// reads 2 KiB a second gets the whole message, however long it takes.
#[tokio::test(start_paused = true)]
async fn n5_a_reader_of_a_byte_a_second_is_given_up_and_one_of_2_kib_a_second_is_not() {
    const MESSAGE: usize = 200_000;
    for pace in [1, 2048] {
        let recorder = Recorder::default();
        // Without heartbeats, so that nothing else can end it.
        let stack = Stack::new(Verbose {
            answer: vec![7; MESSAGE].into(),
            recorder: recorder.clone(),
        })
        .with(|layer| layer.heartbeat(None));
        let mut client = stack.open().await;
        client.send(&text("tell me")).await;
        let (began, mut left) = (Instant::now(), MESSAGE + 10);
        while recorder.log().is_empty() && left > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut buffer = vec![0; left.min(pace)];
            left -= within(client.io.read_exact(&mut buffer)).await.unwrap();
        }
        let seconds = began.elapsed().as_secs();
        if pace == 1 {
            let log = recorder.log();
            assert_lines(
                &log,
                &[
                    "error timed out: the peer does not read what is sent",
                    "close 1006 Timeout unclean",
                ],
            );
            assert!((30..=32).contains(&seconds), "{seconds} s");
            stack.is_clean().await;
        } else {
            assert_eq!((left, seconds), (0, (MESSAGE as u64 + 10).div_ceil(2048)));
            client.send(&close(1000, "")).await;
            assert_eq!(recorder.closed().await, ["close 1000 Peer clean"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn r1_one_connection_too_many_is_503_with_retry_after_and_the_rest_is_untouched() {
    let (stack, recorder) = Stack::recorded();
    let stack = stack.with(|layer| layer.max_connections(2));
    let (mut one, two) = (stack.open().await, stack.open().await);
    let mut third = stack.connect();
    // The refused connection stays usable, and is refused as often as it asks.
    for _ in 0..3 {
        third.send(HANDSHAKE.as_bytes()).await;
        let (head, body) = whole(third.response().await);
        assert_eq!(head.status(), 503, "{head:?}");
        let wait: u32 = head.header("retry-after").unwrap().parse().unwrap();
        assert!((5..=10).contains(&wait));
        assert!(body.contains("too many"), "{body}");
        third.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(third.response().await.body(), "inner GET /");
    }
    assert_eq!(recorder.log(), ["open", "open"]);
    one.send(&text("still here")).await;
    one.expect(0x81, b"still here").await;
    // One leaves, however: its place is free when nothing of it is left.
    drop(two);
    recorder.closed().await;
    third.open("/ws").await;
    third.send(&text("at last")).await;
    third.expect(0x81, b"at last").await;
}

/// A tenth of the row's size: 2,000 clients that come at once where 200 fit.
#[tokio::test(start_paused = true)]
async fn r8_of_2000_clients_at_once_200_are_admitted_and_the_others_hear_503_at_once() {
    const CLIENTS: usize = 2000;
    const PLACES: usize = 200;
    let (stack, _) = Stack::recorded();
    let stack = stack.with(|layer| layer.max_connections(PLACES));
    let began = Instant::now();
    let mut waves = Vec::new();
    for wave in 0..2 {
        let clients = (0..CLIENTS).map(|_| {
            let mut client = stack.connect();
            tokio::spawn(async move {
                client.send(HANDSHAKE.as_bytes()).await;
                let head = client.head().await;
                if head.status() == 101 {
                    return Some(client);
                }
                assert_eq!(head.status(), 503, "{head:?}");
                let seconds: u32 = head.header("retry-after").unwrap().parse().unwrap();
                assert!(seconds > 0);
                None
            })
        });
        let clients: Vec<_> = clients.collect();
        let mut admitted = Vec::new();
        for client in clients {
            admitted.extend(client.await.unwrap());
        }
        // As many as there are places: none is lost, none is given twice.
        assert_eq!(admitted.len(), PLACES, "wave {wave}");
        assert_eq!(stack.shutdown.connections(), PLACES);
        for (i, client) in admitted.iter_mut().enumerate() {
            let line = format!("{wave} {i}");
            client.send(&text(&line)).await;
            client.expect(0x81, line.as_bytes()).await;
        }
        // Half of them say goodbye, the other half just goes.
        for client in &mut admitted[..PLACES / 2] {
            client.send(&close(1000, "")).await;
            client.expect_close(Some(1000)).await;
        }
        waves.push(admitted.len());
        drop(admitted);
        left(&stack.shutdown, 0).await;
    }
    assert_eq!(waves, [PLACES; 2]);
    // Nobody waited for a timer: time is paused and moves only when all wait.
    assert!(began.elapsed() < Duration::from_secs(1));
}

/// 1 % of the members read nothing. `try_send` is not async, so it cannot wait for them; what it
/// leaves to be decided is what to do about them, here: to skip them.
#[tokio::test(start_paused = true)]
async fn r9_a_broadcast_over_200_of_which_2_never_read_reaches_the_others_in_order() {
    const MEMBERS: usize = 200;
    const MESSAGES: u32 = 1000;
    #[derive(Clone, Default)]
    struct Member(Arc<Mutex<Vec<Sender>>>);
    impl WebSocketHandler for Member {
        async fn on_open(&mut self, conn: &mut Connection) -> Result {
            self.0.lock().unwrap().push(conn.sender());
            Ok(())
        }
    }
    let members = Member::default();
    let stack = Stack::new(members.clone());
    let mut clients = Vec::new();
    for _ in 0..MEMBERS {
        clients.push(stack.open().await);
        // So that senders and clients are in the same order.
        within(async {
            while members.0.lock().unwrap().len() < clients.len() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let stalled = clients.split_off(MEMBERS - 2);
    let readers = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            for i in 0..MESSAGES {
                client.expect(0x82, &payload(i)).await;
            }
            client
        })
    });
    let readers: Vec<_> = readers.collect();

    let senders = members.0.lock().unwrap().clone();
    let began = Instant::now();
    let (mut accepted, mut full) = (vec![0; MEMBERS], vec![0; MEMBERS]);
    for i in 0..MESSAGES {
        let message = Message::from(payload(i));
        for (member, sender) in senders.iter().enumerate() {
            match sender.try_send(message.clone()) {
                Ok(()) => accepted[member] += 1,
                Err(TrySendError::Full(back)) => {
                    assert_eq!(back, message);
                    full[member] += 1;
                }
                Err(e) => panic!("member {member}: {e}"),
            }
        }
        // Others have their turn, as between the messages of a real sender.
        tokio::task::yield_now().await;
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "somebody waited");
    for member in 0..MEMBERS - 2 {
        assert_eq!((accepted[member], full[member]), (MESSAGES, 0), "{member}");
    }
    for member in MEMBERS - 2..MEMBERS {
        // The queue, one batch on its way, and what the pipe holds.
        assert!(
            (128..400).contains(&accepted[member]),
            "{}",
            accepted[member]
        );
        assert_eq!(accepted[member] + full[member], MESSAGES);
    }
    for reader in readers {
        let mut client = reader.await.unwrap();
        client.send(&close(1000, "")).await;
        client.expect_close(Some(1000)).await;
    }
    // What was accepted from the stalled is there too, without a gap, should they ever read.
    for (mut client, accepted) in stalled.into_iter().zip(&accepted[MEMBERS - 2..]) {
        for i in 0..*accepted {
            client.expect(0x82, &payload(i)).await;
        }
    }
}

fn payload(i: u32) -> Vec<u8> {
    i.to_be_bytes().repeat(250)
}
