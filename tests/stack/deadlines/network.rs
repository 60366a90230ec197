//! How connections end, and what a network can do to them (rows F31 to F34, N, A6 to A14).

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tower::Layer;
use tower_websocket::{
    CloseCode, CloseEvent, Connection, Message, Rejection, Result, Sender, WebSocketHandler,
    WebSocketLayer,
};

use crate::support::*;

/// Gives its `Sender` away and notes how it ended.
#[derive(Clone)]
struct Lender {
    recorder: Recorder,
    senders: tokio::sync::mpsc::UnboundedSender<Sender>,
}

impl WebSocketHandler for Lender {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        self.senders.send(conn.sender())?;
        Ok(())
    }

    async fn on_close(&mut self, _: &mut Connection, event: CloseEvent) -> Result {
        self.recorder.note(shown_close(&event));
        Ok(())
    }
}

async fn lent() -> (Client, Sender, Recorder) {
    let recorder = Recorder::default();
    let (senders, mut lent) = tokio::sync::mpsc::unbounded_channel();
    let stack = Stack::new(Lender {
        recorder: recorder.clone(),
        senders,
    });
    let client = stack.open().await;
    (client, lent.recv().await.unwrap(), recorder)
}

#[tokio::test(start_paused = true)]
async fn f31_a_peer_that_does_not_answer_our_close_is_dropped_in_time() {
    let (mut client, sender, recorder) = lent().await;
    sender.close(CloseCode::NORMAL_CLOSURE, "done").unwrap();
    let began = tokio::time::Instant::now();
    client.expect_close(Some(1000)).await;
    assert!(began.elapsed() < Duration::from_secs(11));
    assert_eq!(recorder.closed().await, ["close 1000 Application unclean"]);
}

#[tokio::test(start_paused = true)]
async fn f32_when_both_close_at_once_each_sends_one_close_frame() {
    let (mut client, sender, recorder) = lent().await;
    sender.close(CloseCode::NORMAL_CLOSURE, "").unwrap();
    client.send(&close(1001, "")).await;
    client.expect_close(Some(1000)).await;
    let log = recorder.closed().await;
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].ends_with(" clean"), "{log:?}");
}

#[tokio::test]
async fn f33_unread_input_does_not_eat_our_close_frame() {
    let recorder = Recorder::default();
    let (senders, mut lent) = tokio::sync::mpsc::unbounded_channel();
    let stack = Stack::new(Lender {
        recorder: recorder.clone(),
        senders,
    });
    let addr = tcp(stack.layer.layer(plain())).await;
    let mut client = tcp_client(addr).await;
    client.open("/ws").await;
    let sender = lent.recv().await.unwrap();
    // A large message is on its way when the server closes.
    let message = frame(0x82, &vec![1; 900_000]);
    client.send(&message[..500_000]).await;
    sender.close(CloseCode::NORMAL_CLOSURE, "").unwrap();
    client.send(&message[500_000..]).await;
    client.send(&close(1000, "")).await;
    client.expect_close(Some(1000)).await;
    assert_eq!(recorder.closed().await, ["close 1000 Application clean"]);
}

#[tokio::test(start_paused = true)]
async fn f34_what_must_not_be_sent_is_an_error_here_and_nothing_on_the_wire() {
    let layer = WebSocketLayer::from_fn("/ws", |conn: Connection| async move {
        assert!(conn.ping(&[0; 126]).is_err());
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            assert!(conn.close(CloseCode::from(code), "").is_err(), "{code}");
        }
        assert!(
            conn.close(CloseCode::NORMAL_CLOSURE, &"x".repeat(124))
                .is_err()
        );
        conn.send("still open").await?;
        conn.close(CloseCode::NORMAL_CLOSURE, &"x".repeat(123))?;
        Ok(())
    });
    let mut client = http1(layer.layer(plain()));
    client.open("/ws").await;
    client.expect(0x81, b"still open").await;
    client.expect_close(Some(1000)).await;
}

#[tokio::test]
async fn n1_a_reset_is_1006_once() {
    let (stack, recorder) = Stack::recorded();
    let addr = tcp(stack.layer.clone().layer(plain())).await;
    for part in [0, 500] {
        let mut client = tcp_client(addr).await;
        client.open("/ws").await;
        client.send(&text("hello")).await;
        client.expect(0x81, b"hello").await;
        client.send(&frame(0x82, &[0; 1000])[..part]).await;
        client.io.set_zero_linger().unwrap();
        drop(client);
        left(&stack.shutdown, 0).await;
    }
    let log = recorder.log();
    let closed = log.iter().filter(|l| *l == "close 1006 Transport unclean");
    assert_eq!(closed.count(), 2, "{log:?}");
    let failed = log.iter().filter(|l| l.starts_with("error"));
    assert_eq!(failed.count(), 2, "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn n2_the_end_without_a_close_frame_is_1006() {
    let (stack, recorder) = Stack::recorded();
    drop(stack.open().await);
    assert_eq!(
        recorder.closed().await,
        ["open", "close 1006 Transport unclean"]
    );
    stack.is_clean().await;
}

#[tokio::test]
async fn n3_after_a_half_close_the_replies_still_go_out() {
    let (stack, recorder) = Stack::recorded();
    let addr = tcp(stack.layer.layer(plain())).await;
    let mut client = tcp_client(addr).await;
    client.open("/ws").await;
    let question = vec![7; 300_000];
    client.send(&frame(0x82, &question)).await;
    client.send(&frame(0x82, b"last")).await;
    client.io.shutdown().await.unwrap();
    client.expect(0x82, &question).await;
    client.expect(0x82, b"last").await;
    assert_eq!(client.frame().await, None);
    assert_eq!(
        recorder.closed().await.last().unwrap(),
        "close 1006 Transport unclean"
    );
}

#[tokio::test(start_paused = true)]
async fn n4_n8_a_peer_that_does_not_read_is_given_up_and_its_senders_are_told() {
    let (client, sender, recorder) = lent().await;
    let began = tokio::time::Instant::now();
    let mut sent = 0;
    while sender.send(vec![0; 1000]).await.is_ok() {
        sent += 1;
        assert!(sent < 500, "the queue has no end");
    }
    assert!(began.elapsed() < Duration::from_secs(60));
    assert!(sender.is_closed());
    assert_eq!(recorder.closed().await, ["close 1006 Timeout unclean"]);
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn n7_n12_a_silent_peer_is_pinged_after_20_s_and_given_up_after_40() {
    let (mut client, sender, recorder) = lent().await;
    let began = tokio::time::Instant::now();
    let ping = client.frame().await.unwrap();
    assert_eq!(ping.first, 0x89);
    assert_eq!(began.elapsed().as_secs(), 20);
    // An answer keeps it for another round.
    client.send(&frame(0x8A, &ping.payload)).await;
    assert_eq!(client.frame().await.unwrap().first, 0x89);
    assert_eq!(client.frame().await.unwrap().first, 0x88);
    assert!((59..=61).contains(&began.elapsed().as_secs()));
    let log = recorder.closed().await;
    assert_eq!(log, ["close 1006 Timeout unclean"]);
    assert!(sender.try_send("late").unwrap_err().is_closed());
}

#[tokio::test(start_paused = true)]
async fn a4_h22_on_upgrade_refuses_before_the_101_and_plain_http_goes_on() {
    #[derive(Clone)]
    struct Members;
    impl WebSocketHandler for Members {
        async fn on_upgrade(
            &mut self,
            handshake: &mut tower_websocket::Handshake,
        ) -> std::result::Result<(), Rejection> {
            if handshake.path() == "/public" {
                return Ok(());
            }
            Err(Rejection::new(
                http::StatusCode::UNAUTHORIZED,
                "log in first",
            ))
        }
    }
    let stack = Stack::new(Members);
    let mut client = stack.connect();
    client.send(HANDSHAKE.as_bytes()).await;
    let (head, body) = whole(client.response().await);
    assert_eq!(head.status(), 401);
    assert!(body.contains("log in first"));
    // H22: what follows a refusal is plain HTTP.
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.body(), "inner GET /");
    let mut client = stack.connect();
    client
        .send(HANDSHAKE.replace("/ws", "/ws/public").as_bytes())
        .await;
    assert_eq!(client.head().await.status(), 101);
}

#[tokio::test(start_paused = true)]
async fn a6_a_sender_outlives_its_connection_and_says_so() {
    let (mut client, sender, recorder) = lent().await;
    client.send(&close(1000, "")).await;
    client.expect_close(Some(1000)).await;
    drop(client);
    recorder.closed().await;
    assert!(sender.is_closed());
    let error = sender.send("late").await.unwrap_err();
    assert_eq!(error.into_message(), Message::from("late"));
    assert!(
        sender
            .close(CloseCode::NORMAL_CLOSURE, "")
            .unwrap_err()
            .is_closed()
    );
}

#[tokio::test(start_paused = true)]
async fn a7_of_many_tasks_each_keeps_its_order_and_nothing_is_lost() {
    let (mut client, sender, _) = lent().await;
    for task in 0..1000u32 {
        let sender = sender.clone();
        tokio::spawn(async move {
            for i in 0..10u32 {
                sender.send(format!("{task} {i}")).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
    }
    let mut next = vec![0u32; 1000];
    for _ in 0..10_000 {
        let text = String::from_utf8(client.frame().await.unwrap().payload).unwrap();
        let (task, i) = text.split_once(' ').unwrap();
        let expected = &mut next[task.parse::<usize>().unwrap()];
        assert_eq!(i.parse::<u32>().unwrap(), *expected);
        *expected += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn a8_what_was_accepted_comes_before_the_close_frame() {
    let (mut client, sender, _) = lent().await;
    let closer = sender.clone();
    let sending = tokio::spawn(send_numbers(sender, tokio::task::yield_now));
    let received = numbers(&mut client, |received| {
        if received == 500 {
            closer.close(CloseCode::NORMAL_CLOSURE, "").unwrap();
        }
    })
    .await;
    assert_eq!(received, sending.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a9_a_send_that_is_cancelled_sends_nothing_or_all() {
    let (mut client, sender, _) = lent().await;
    // Nobody reads: the queue fills, and sends that wait are cancelled.
    let mut accepted = Vec::new();
    for i in 0..400u32 {
        let send = sender.send(vec![i as u8; 1000]);
        if let Ok(sent) = tokio::time::timeout(Duration::from_millis(1), send).await {
            sent.unwrap();
            accepted.push(i as u8);
        }
    }
    assert!((100..300).contains(&accepted.len()), "{}", accepted.len());
    for i in accepted {
        client.expect(0x82, &[i; 1000]).await;
    }
    sender.send("end").await.unwrap();
    client.expect(0x81, b"end").await;
}

#[tokio::test(start_paused = true)]
async fn a14_who_does_not_leave_is_dropped_at_the_deadline_and_on_close_is_called() {
    #[derive(Clone)]
    struct Stuck(Recorder);
    impl WebSocketHandler for Stuck {
        async fn on_open(&mut self, conn: &mut Connection) -> Result {
            let _ = conn.send("open").await;
            std::future::pending().await
        }
        async fn on_close(&mut self, _: &mut Connection, event: CloseEvent) -> Result {
            self.0.note(shown_close(&event));
            Ok(())
        }
    }
    let recorder = Recorder::default();
    let stack = Stack::new(Stuck(recorder.clone()));
    let mut client = stack.open().await;
    client.expect(0x81, b"open").await;
    let drained = stack.shutdown.drain(Duration::from_secs(2)).await;
    assert_eq!(drained.forced(), 1);
    let log = recorder.closed().await;
    assert_eq!(log, ["close 1001 Shutdown unclean"]);
}
