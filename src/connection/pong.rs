//! [`Pong`]: the answer to a ping of the application. [`Pongs`] are those that are waited for.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The pong that answers a [`ping`](super::Connection::ping): a future of the time from the call to the
/// answer, `None` if the connection ends before.
///
/// It may be dropped: the ping is sent all the same. A pong answers every ping before it too, since a
/// peer may leave out all but the latest (RFC 6455 §5.5.3). At most 16 are waited for; an older one then
/// gives `None`.
///
/// ```
/// use tower_websocket::{Connection, WebSocketLayer};
///
/// let layer = WebSocketLayer::from_fn("/rtt", |conn: Connection| async move {
///     if let Some(time) = conn.ping(b"")?.await {
///         conn.send(format!("{} ms", time.as_millis())).await?;
///     }
///     Ok(())
/// });
/// # drop(layer);
/// ```
pub struct Pong {
    answer: Option<oneshot::Receiver<Duration>>,
}

/// See the module docs.
#[derive(Debug, Default)]
pub(super) struct Pongs {
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    payload: Bytes,
    asked: Instant,
    answer: oneshot::Sender<Duration>,
}

/// More pings than anybody has under way to one peer.
const MOST: usize = 16;

impl Pong {
    /// Of a connection from which nothing comes any more.
    pub(super) fn never() -> Self {
        Self { answer: None }
    }
}

impl Pongs {
    /// A ping with this payload is about to be sent.
    pub(super) fn expect(&mut self, payload: Bytes) -> Pong {
        let (answer, pong) = oneshot::channel();
        // Who does not wait any longer makes room for others.
        self.waiting.retain(|waiting| !waiting.answer.is_closed());
        if self.waiting.len() >= MOST {
            self.waiting.pop_front();
        }
        self.waiting.push_back(Waiting {
            payload,
            asked: Instant::now(),
            answer,
        });
        Pong { answer: Some(pong) }
    }

    /// A pong has arrived.
    pub(super) fn arrived(&mut self, payload: &[u8]) {
        let Some(at) = self.waiting.iter().position(|w| w.payload == payload) else {
            return;
        };
        for waiting in self.waiting.drain(..=at) {
            // Fails if nobody waits any longer.
            let _ = waiting.answer.send(waiting.asked.elapsed());
        }
    }
}

impl Future for Pong {
    type Output = Option<Duration>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.answer {
            Some(answer) => Pin::new(answer).poll(cx).map(Result::ok),
            None => Poll::Ready(None),
        }
    }
}

impl fmt::Debug for Pong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pong").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::task::Waker;

    use super::*;

    fn state(pong: &mut Pong) -> Poll<bool> {
        let cx = &mut Context::from_waker(Waker::noop());
        Pin::new(pong).poll(cx).map(|time| time.is_some())
    }

    #[test]
    fn a_pong_answers_its_ping_and_those_before_it() {
        let mut pongs = Pongs::default();
        let [mut a, mut b, mut c] = ["a", "b", "c"].map(|p| pongs.expect(Bytes::from(p)));
        pongs.arrived(b"x");
        assert!(state(&mut a).is_pending());
        pongs.arrived(b"b");
        assert_eq!(
            (state(&mut a), state(&mut b)),
            (Poll::Ready(true), Poll::Ready(true))
        );
        assert!(state(&mut c).is_pending());
        drop(pongs);
        assert_eq!(state(&mut c), Poll::Ready(false));
        assert_eq!(state(&mut Pong::never()), Poll::Ready(false));
    }

    #[test]
    fn at_most_16_pongs_are_waited_for_and_none_of_those_that_were_dropped() {
        let mut pongs = Pongs::default();
        let mut first = pongs.expect(Bytes::new());
        for _ in 0..100 {
            drop(pongs.expect(Bytes::new()));
        }
        assert_eq!(pongs.waiting.len(), 2);
        assert!(state(&mut first).is_pending());
        let all: Vec<_> = (0..MOST).map(|_| pongs.expect(Bytes::new())).collect();
        assert_eq!((pongs.waiting.len(), all.len()), (MOST, MOST));
        assert_eq!(state(&mut first), Poll::Ready(false));
    }
}
