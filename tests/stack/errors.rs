//! What an application learns of a failure: which predicate is true, and the code that went out.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tower_websocket::{
    CloseCode, CloseError, CloseEvent, Connection, Error, Message, PingError, Result,
    WebSocketHandler,
};

use crate::support::{Client, Stack, close, frame, text, within};

/// Keeps the one error of its connection, and fails in the way that a message names.
#[derive(Clone, Default)]
struct Failing {
    error: Arc<Mutex<Option<Error>>>,
    ended: Arc<tokio::sync::Notify>,
}

impl WebSocketHandler for Failing {
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        match message.as_text() {
            Some("fail") => Err("failed".into()),
            Some("panic") => panic!("panicked"),
            Some("hang") => std::future::pending().await,
            Some("close and fail") => {
                conn.close(CloseCode::from(4000), "mine")?;
                Err("failed".into())
            }
            Some("hang until it ends, then fail") => {
                while conn.recv().await?.is_some() {}
                Err("failed".into())
            }
            Some("close twice") => {
                conn.close(CloseCode::NORMAL_CLOSURE, "")?;
                conn.close(CloseCode::NORMAL_CLOSURE, "")?;
                Ok(())
            }
            Some("close and ping") => {
                conn.close(CloseCode::NORMAL_CLOSURE, "")?;
                conn.ping(b"")?;
                Ok(())
            }
            Some("close, then badly") => {
                conn.close(CloseCode::NORMAL_CLOSURE, "")?;
                conn.close(CloseCode::ABNORMAL_CLOSURE, "")?;
                Ok(())
            }
            _ => Ok(conn.send(message).await?),
        }
    }

    async fn on_error(&mut self, _: &mut Connection, error: Error) -> Result {
        let before = self.error.lock().unwrap().replace(error);
        assert!(before.is_none(), "{before:?}");
        Ok(())
    }

    async fn on_close(&mut self, _: &mut Connection, _: CloseEvent) -> Result {
        self.ended.notify_one();
        Ok(())
    }
}

/// The predicates that are true.
fn kinds(error: &Error) -> Vec<&'static str> {
    let all = [
        ("application", error.is_application()),
        ("panic", error.is_panic()),
        ("callback_timeout", error.is_callback_timeout()),
        ("protocol", error.is_protocol()),
        ("timeout", error.is_timeout()),
        ("io", error.is_io()),
    ];
    let is = all.into_iter().filter(|(_, is)| *is);
    is.map(|(name, _)| name).collect()
}

/// Sends `bytes` and goes on as `then` says: the error that the application got, and the code of
/// the Close frame that the peer got.
async fn fails(bytes: &[u8], then: Then) -> (Option<Error>, Option<u16>) {
    let handler = Failing::default();
    let stack = Stack::new(handler.clone());
    let stack = stack.with(|layer| layer.on_message_timeout(Duration::from_secs(10)));
    let mut client = stack.open().await;
    client.send(bytes).await;
    let code = match then {
        Then::Read => closed(&mut client).await,
        Then::Vanish => {
            drop(client);
            None
        }
        Then::StopReading => {
            within(handler.ended.notified()).await;
            handler.ended.notify_one();
            // The echo is larger than the pipe: it ends in the middle, so no frame is behind it.
            let mut rest = Vec::new();
            client.io.read_to_end(&mut rest).await.unwrap();
            assert!(rest.len() < bytes.len());
            None
        }
    };
    within(handler.ended.notified()).await;
    let error = handler.error.lock().unwrap().take();
    (error, code)
}

enum Then {
    Read,
    StopReading,
    Vanish,
}

/// The code of the Close frame that comes before the end of the stream.
async fn closed(client: &mut Client) -> Option<u16> {
    while let Some(frame) = client.frame().await {
        if frame.first == 0x88 {
            return frame.close_code();
        }
    }
    None
}

#[tokio::test(start_paused = true)]
async fn e1_an_error_names_its_kind_and_the_code_that_went_out() {
    let hello = |bytes: &[u8]| bytes.to_vec();
    #[rustfmt::skip]
    let cases = [
        ("an error", text("fail"), Then::Read, "application", Some(1011)),
        ("a panic", text("panic"), Then::Read, "panic", Some(1011)),
        ("on_message for over 10 s", text("hang"), Then::Read, "callback_timeout", Some(1011)),
        ("no mask", hello(b"\x81\x01a"), Then::Read, "protocol", Some(1002)),
        ("no UTF-8", frame(0x81, b"\xFF"), Then::Read, "protocol", Some(1007)),
        ("no pong", Vec::new(), Then::Read, "timeout", Some(1011)),
        ("half a message", text("half")[..8].to_vec(), Then::Read, "timeout", Some(1008)),
        ("nothing is read", frame(0x82, &[0; 9_000]).repeat(2), Then::StopReading, "timeout", None),
    ];
    for (case, bytes, then, kind, code) in cases {
        let (error, sent) = fails(&bytes, then).await;
        let error = error.unwrap_or_else(|| panic!("{case}: no error"));
        assert_eq!(kinds(&error), [kind], "{case}: {error:?}");
        let named = error.close_code().map(CloseCode::as_u16);
        assert_eq!((named, sent), (code, code), "{case}: {error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn e1_a_callback_that_fails_after_the_end_sent_no_code() {
    let then_closes = |what: &str| [text(what), close(1000, "")].concat();
    #[rustfmt::skip]
    let cases = [
        // The peer's own code is echoed, ours of before stands.
        ("it fails", then_closes("hang until it ends, then fail"), Then::Read, "application", Some(1000)),
        ("it closed itself", text("close and fail"), Then::Read, "application", Some(4000)),
        ("it hangs", then_closes("hang"), Then::Read, "callback_timeout", Some(1000)),
        ("it hangs, the peer vanished", text("hang"), Then::Vanish, "callback_timeout", None),
    ];
    for (case, bytes, then, kind, on_wire) in cases {
        let (error, sent) = fails(&bytes, then).await;
        let error = error.unwrap_or_else(|| panic!("{case}: no error"));
        assert_eq!(kinds(&error), [kind], "{case}: {error:?}");
        assert_eq!((error.close_code(), sent), (None, on_wire), "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn e2_a_wrong_argument_is_an_error_of_the_application_and_a_closed_connection_is_none() {
    for what in ["close twice", "close and ping"] {
        let (error, sent) = fails(&text(what), Then::Read).await;
        assert!(error.is_none(), "{what}: {error:?}");
        assert_eq!(sent, Some(1000));
    }
    let (error, sent) = fails(&text("close, then badly"), Then::Read).await;
    let error = error.expect("the code was wrong");
    let source = std::error::Error::source(&error).unwrap();
    let source = source.downcast_ref::<CloseError>();
    let wrong = CloseError::InvalidCode(CloseCode::ABNORMAL_CLOSURE);
    assert_eq!((source, sent), (Some(&wrong), Some(1000)));
}

#[tokio::test(start_paused = true)]
async fn e2_close_and_ping_say_what_is_wrong_with_their_arguments() {
    #[derive(Clone)]
    struct Asking;

    impl WebSocketHandler for Asking {
        async fn on_open(&mut self, conn: &mut Connection) -> Result {
            let sender = conn.sender();
            for code in [0, 1004, 1005, 1006, 1015, 2999, 5000] {
                let code = CloseCode::from(code);
                let wrong = Err(CloseError::InvalidCode(code));
                assert_eq!(
                    (conn.close(code, ""), sender.close(code, "")),
                    (wrong.clone(), wrong)
                );
            }
            let (code, long) = (CloseCode::NORMAL_CLOSURE, "x".repeat(124));
            assert_eq!(conn.close(code, &long), Err(CloseError::ReasonTooLong(124)));
            assert_eq!(conn.ping(&[0; 126]).err(), Some(PingError::TooLong(126)));
            assert!(conn.ping(&[0; 125]).is_ok());
            assert_eq!(conn.close(code, &long[1..]), Ok(()));
            assert_eq!(conn.close(code, ""), Err(CloseError::Closed));
            assert_eq!(sender.close(code, ""), Err(CloseError::Closed));
            assert_eq!(conn.ping(b"").err(), Some(PingError::Closed));
            Ok(())
        }
    }

    let mut client = Stack::new(Asking).open().await;
    assert_eq!(closed(&mut client).await, Some(1000));
}
