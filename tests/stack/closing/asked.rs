//! An error that asks for an end is not a failure: `Close`.

use std::fmt;

use serde::Deserialize;
use tower::Layer;
use tower_websocket::{
    Close, CloseCode, CloseEvent, Connection, Error, Event, Message, Result, WebSocketHandler,
    WebSocketLayer,
};

use crate::support::*;

/// An application's own error, as one that is made with `thiserror`.
#[derive(Debug)]
enum AppError {
    Close(Close),
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an error of the application")
    }
}

impl std::error::Error for AppError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let Self::Close(close) = self;
        Some(close)
    }
}

#[derive(Deserialize)]
struct Order {
    pieces: u32,
}

/// Does what the message says.
#[derive(Clone, Default)]
struct Leaver(Recorder);

impl WebSocketHandler for Leaver {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        if conn.path() == "/full" {
            return Err(Close::new(CloseCode::TRY_AGAIN_LATER, "full").into());
        }
        Ok(())
    }
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.send("queued before").await?;
        match message.as_text() {
            Some("close") => Err(Close::new(4001, "as told").into()),
            Some("wrapped") => Err(AppError::Close(Close::new(4002, "")).into()),
            Some("wrong") => Err(Close::new(1006, "not a code to send").into()),
            Some("event") => {
                conn.sender().notify(()).map_err(|_| "full")?;
                Ok(())
            }
            Some("peer") => {
                // The peer closes meanwhile; its code stands.
                conn.closed().await;
                Err(Close::new(4003, "too late").into())
            }
            _ => {
                let order: Order = message.parse_json()?;
                conn.send(Message::json(&[order.pieces])?).await?;
                Ok(())
            }
        }
    }
    async fn on_event(&mut self, _: &mut Connection, _: Event) -> Result {
        Err(Close::new(4004, "by an event").into())
    }
    async fn on_error(&mut self, _: &mut Connection, error: Error) -> Result {
        self.0.note(format!("error {error}"));
        Ok(())
    }
    async fn on_close(&mut self, _: &mut Connection, event: CloseEvent) -> Result {
        self.0.note(shown_close(&event));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_callback_closes_with_a_code_of_its_own_by_the_error_that_it_returns() {
    for (message, code, reason) in [
        (text("close"), 4001, "as told"),
        (text("wrapped"), 4002, ""),
        (text("event"), 4004, "by an event"),
        (
            text("{}"),
            1007,
            "JSON, line 1, column 2: missing field `pieces`",
        ),
        (
            frame(0x82, b"{}"),
            1003,
            "JSON is expected, in a text message",
        ),
    ] {
        let leaver = Leaver::default();
        let stack = Stack::new(leaver.clone());
        let mut client = stack.open().await;
        client.send(&message).await;
        client.expect(0x81, b"queued before").await;
        let frame = client.frame().await.unwrap();
        assert_eq!(frame.close_code(), Some(code));
        assert_eq!(String::from_utf8_lossy(&frame.payload[2..]), reason);
        client.send(&close(code, "")).await;
        assert_eq!(client.frame().await, None);
        let line = format!("close {code} Application clean");
        assert_lines(&leaver.0.closed().await, &[&line]);
        stack.is_clean().await;
    }
}

#[tokio::test(start_paused = true)]
async fn on_open_and_a_function_that_pulls_close_in_the_same_way() {
    let leaver = Leaver::default();
    let stack = Stack::new(leaver.clone());
    let mut client = stack.connect();
    client.open("/ws/full").await;
    assert_eq!(client.frame().await.unwrap().close_code(), Some(1013));
    client.send(&close(1013, "")).await;
    assert_eq!(leaver.0.closed().await, ["close 1013 Application clean"]);

    let layer = WebSocketLayer::from_fn("/ws", |mut conn: Connection| async move {
        let message = conn.recv().await?.ok_or(Close::new(4000, "nothing said"))?;
        let order: Order = message.parse_json()?;
        Err(Close::new(4000, format!("{} pieces", order.pieces)).into())
    });
    let mut client = http1(layer.layer(plain()));
    client.open("/ws").await;
    client.send(&text(r#"{"pieces": 3}"#)).await;
    let frame = client.frame().await.unwrap();
    assert_eq!(
        (frame.close_code(), &frame.payload[2..]),
        (Some(4000), &b"3 pieces"[..])
    );
}

#[tokio::test(start_paused = true)]
async fn a_code_that_must_not_be_sent_is_a_failure_like_any_other() {
    let leaver = Leaver::default();
    let stack = Stack::new(leaver.clone());
    let mut client = stack.open().await;
    client.send(&text("wrong")).await;
    client.expect(0x81, b"queued before").await;
    assert_eq!(client.frame().await.unwrap().close_code(), Some(1011));
    client.send(&close(1011, "")).await;
    assert_lines(
        &leaver.0.closed().await,
        &[
            "error on_message returned an error",
            "close 1011 ApplicationFailed clean",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn when_the_peer_was_first_its_code_stands() {
    let leaver = Leaver::default();
    let stack = Stack::new(leaver.clone());
    let mut client = stack.open().await;
    client.send(&text("peer")).await;
    client.expect(0x81, b"queued before").await;
    client.send(&close(1000, "bye")).await;
    client.expect_close(Some(1000)).await;
    assert_lines(&leaver.0.closed().await, &["close 1000 Peer clean"]);
}
