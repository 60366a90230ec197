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

/// A ping that waits for its pong.
#[derive(Debug)]
pub(super) struct Waiting {
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
    /// A ping with this payload is about to be sent. Gives those that are not waited for any longer, to
    /// be dropped where no lock is held: that may wake somebody.
    pub(super) fn expect(&mut self, payload: Bytes) -> (Pong, VecDeque<Waiting>) {
        let (answer, pong) = oneshot::channel();
        let is_gone = |waiting: &Waiting| waiting.answer.is_closed();
        let (mut gone, mut waiting): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(is_gone);
        if waiting.len() >= MOST {
            gone.extend(waiting.pop_front());
        }
        waiting.push_back(Waiting {
            payload,
            asked: Instant::now(),
            answer,
        });
        self.waiting = waiting;
        (Pong { answer: Some(pong) }, gone)
    }

    /// A pong has arrived. Gives what it answers, to be [answered](Waiting::answer) where no lock is
    /// held.
    pub(super) fn arrived(&mut self, payload: &[u8]) -> VecDeque<Waiting> {
        let at = self.waiting.iter().position(|w| w.payload == payload);
        let rest = self.waiting.split_off(at.map_or(0, |at| at + 1));
        std::mem::replace(&mut self.waiting, rest)
    }
}

impl Waiting {
    /// Wakes whoever waits.
    pub(super) fn answer(self) {
        // Fails if nobody waits any longer.
        let _ = self.answer.send(self.asked.elapsed());
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

    fn answer(pongs: &mut Pongs, payload: &[u8]) {
        pongs.arrived(payload).into_iter().for_each(Waiting::answer);
    }

    #[test]
    fn a_pong_answers_its_ping_and_those_before_it() {
        let mut pongs = Pongs::default();
        let [mut a, mut b, mut c] = ["a", "b", "c"].map(|p| pongs.expect(Bytes::from(p)).0);
        answer(&mut pongs, b"x");
        assert!(state(&mut a).is_pending());
        let answered = pongs.arrived(b"b");
        assert!(
            state(&mut a).is_pending(),
            "answered by whoever holds no lock"
        );
        answered.into_iter().for_each(Waiting::answer);
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
        let mut first = pongs.expect(Bytes::new()).0;
        for _ in 0..100 {
            drop(pongs.expect(Bytes::new()));
        }
        assert_eq!(pongs.waiting.len(), 2);
        assert!(state(&mut first).is_pending());
        let all: Vec<_> = (0..MOST).map(|_| pongs.expect(Bytes::new()).0).collect();
        assert_eq!((pongs.waiting.len(), all.len()), (MOST, MOST));
        assert_eq!(state(&mut first), Poll::Ready(false));
    }
}
