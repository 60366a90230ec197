use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::record::Log;
use crate::close::{CloseCode, CloseEvent, CloseFrame};
use crate::connection::{Connection, Link};
use crate::error::{BoxError, Error, TrySendError};
use crate::handler::{Result, WebSocketHandler};
use crate::message::Message;
use crate::shutdown::Member;

/// What an application does, in order.
pub(super) type Script = VecDeque<u8>;

pub(super) fn script(bytes: &[u8]) -> Script {
    bytes.iter().copied().collect()
}

/// Does the next part of its script in every callback.
#[derive(Clone)]
pub(super) struct Application {
    script: Arc<Mutex<Script>>,
    link: Arc<Link>,
    log: Log,
}

impl Application {
    pub(super) fn new(script: Script, link: Arc<Link>, log: Log) -> Self {
        Self {
            script: Arc::new(Mutex::new(script)),
            link,
            log,
        }
    }

    async fn perform(&mut self, conn: &mut Connection) -> Result {
        let lock = || self.script.lock().unwrap_or_else(PoisonError::into_inner);
        let mut script = std::mem::take(&mut *lock());
        // What a callback that is dropped had not done yet, is not done.
        let done = perform(&mut script, conn, &self.link, &self.log, true).await;
        *lock() = script;
        done
    }
}

impl WebSocketHandler for Application {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        self.log.lock().opened += 1;
        self.perform(conn).await
    }

    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        self.log.lock().delivered.push(message);
        let _running = Running::new(&self.log);
        self.perform(conn).await
    }

    async fn on_error(&mut self, conn: &mut Connection, error: Error) -> Result {
        self.log.lock().panicked |= error.is_panic();
        self.log.lock().meddled |= !error.is_protocol();
        self.perform(conn).await
    }

    async fn on_close(&mut self, conn: &mut Connection, event: CloseEvent) -> Result {
        self.log.lock().closed.push(event);
        assert!(conn.try_send("late").is_err());
        self.perform(conn).await
    }
}

/// Takes the time of a callback, also of one that is dropped.
struct Running {
    since: Instant,
    log: Log,
}

impl Running {
    fn new(log: &Log) -> Self {
        Self {
            since: Instant::now(),
            log: log.clone(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut record = self.log.lock();
        record.longest = record.longest.max(self.since.elapsed());
    }
}

/// Sizes of messages: those on which a header, a batch or a way to be written depends.
const SIZES: [usize; 8] = [10, 125, 126, 300, 2000, 8 * 1024, 20_000, 70_000];

/// Does what the script says, up to the end of a part of it. The error is what a callback is to end
/// with.
pub(super) async fn perform(
    script: &mut Script,
    conn: &mut Connection,
    link: &Link,
    log: &Log,
    callback: bool,
) -> std::result::Result<(), BoxError> {
    while let Some(op) = script.pop_front() {
        match op {
            0..=63 => {
                let message = message(log, op);
                let since = Instant::now();
                if conn.send(message.clone()).await.is_ok() {
                    log.lock().accept(message);
                } else {
                    let waited = since.elapsed().as_secs() > 0;
                    assert!(!(waited && log.lock().is_settled()), "there was room");
                }
            }
            64..=111 => {
                let message = message(log, op);
                match conn.try_send(message.clone()) {
                    Ok(()) => log.lock().accept(message),
                    Err(TrySendError::Full(back) | TrySendError::Closed(back)) => {
                        assert_eq!(back, message);
                    }
                }
            }
            112..=143 => {
                let message = message(log, op);
                let polls = Some(u32::from(op >> 3 & 3));
                if let Some(Ok(())) = Brief::new(conn.send(message.clone()), polls).await {
                    log.lock().accept(message);
                }
            }
            144..=159 => {
                let _ =
                    conn.ping(&[b"app "[..].to_vec(), vec![op; usize::from(op)]].concat()[..100]);
            }
            160..=163 => {
                log.lock().meddled = true;
                let code = CloseCode::from(1000 + u16::from(op & 3));
                if conn.close(code, "by the script").is_ok() {
                    assert!(conn.try_send("late").is_err());
                }
            }
            164 | 165 => {
                log.lock().meddled = true;
                return Err("by the script".into());
            }
            166 | 167 => {
                log.lock().meddled = true;
                link.leave(CloseFrame::known(CloseCode::GOING_AWAY, ""));
            }
            168 => {
                log.lock().meddled = true;
                link.abort();
            }
            169..=191 => sleep(Duration::from_millis(1 << (op & 0x0F))).await,
            192..=223 if callback => {
                if let Ok(Some(message)) = conn.recv().await {
                    log.lock().delivered.push(message);
                }
            }
            192..=223 => tokio::task::yield_now().await,
            224.. => return Ok(()),
        }
    }
    Ok(())
}

/// No two are the same.
fn message(log: &Log, op: u8) -> Message {
    let mut record = log.lock();
    record.made += 1;
    let mut text = format!("{:08} ", record.made);
    text.extend(std::iter::repeat_n('x', SIZES[usize::from(op & 7)]));
    if op & 8 == 0 {
        Message::from(text)
    } else {
        Message::from(text.into_bytes())
    }
}

/// A future that is dropped after some polls. It asks for all of them itself.
pub(super) struct Brief<F> {
    future: Option<Pin<Box<F>>>,
    polls: Option<u32>,
}

impl<F> Brief<F> {
    pub(super) fn new(future: F, polls: Option<u32>) -> Self {
        Self {
            future: Some(Box::pin(future)),
            polls,
        }
    }
}

impl<F: Future> Future for Brief<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == Some(0) {
            self.future = None;
        }
        let Some(future) = &mut self.future else {
            return Poll::Ready(None);
        };
        let polled = future.as_mut().poll(cx).map(Some);
        if let (Some(polls), true) = (&mut self.polls, polled.is_pending()) {
            *polls -= 1;
            cx.waker().wake_by_ref();
        }
        polled
    }
}
