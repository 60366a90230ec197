//! [`Flights`]: batches of commands that wait for the server's replies.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Batches that wait at the same time: a message does not wait until the server has replied to those before
/// it, and of what comes in a round trip several batches are made.
const MAX_BATCHES: usize = 8;

/// The same in bytes of messages; the last batch may go beyond.
const MAX_BYTES: usize = 1024 * 1024;

/// See the module docs. They end in the order in which they began.
pub(super) struct Flights<'a, T> {
    flights: VecDeque<Flight<'a, T>>,
    bytes: usize,
}

/// A batch, which begins with its first poll.
pub(super) struct Flight<'a, T> {
    pub(super) replies: Pin<Box<dyn Future<Output = T> + Send + 'a>>,
    pub(super) bytes: usize,
    /// Nothing may follow until it has ended.
    pub(super) is_last: bool,
    /// It has ended, and those before it have not.
    pub(super) ended: Option<T>,
}

impl<'a, T> Flights<'a, T> {
    pub(super) fn new() -> Self {
        Self {
            flights: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Whether another batch may follow.
    pub(super) fn has_room(&self) -> bool {
        let is_open = self.flights.back().is_none_or(|flight| !flight.is_last);
        is_open && self.flights.len() < MAX_BATCHES && self.bytes < MAX_BYTES
    }

    /// One more batch, behind the others. Whoever adds it polls.
    pub(super) fn push(&mut self, flight: Flight<'a, T>) {
        self.bytes += flight.bytes;
        self.flights.push_back(flight);
    }

    /// What came of the first batch.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        for flight in &mut self.flights {
            if flight.ended.is_none() {
                if let Poll::Ready(ended) = flight.replies.as_mut().poll(cx) {
                    flight.ended = Some(ended);
                }
            }
        }
        let first = self.flights.front_mut();
        let Some(ended) = first.and_then(|flight| flight.ended.take()) else {
            return Poll::Pending;
        };
        if let Some(first) = self.flights.pop_front() {
            self.bytes -= first.bytes;
        }
        Poll::Ready(ended)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::oneshot;

    use super::*;

    type Reply = oneshot::Sender<u32>;

    fn flight(bytes: usize, is_last: bool) -> (Reply, Flight<'static, u32>) {
        let (reply, replies) = oneshot::channel();
        let replies = Box::pin(async { replies.await.unwrap() });
        let flight = Flight {
            replies,
            bytes,
            is_last,
            ended: None,
        };
        (reply, flight)
    }

    fn push(flights: &mut Flights<'static, u32>, bytes: usize, is_last: bool) -> Reply {
        let (reply, flight) = flight(bytes, is_last);
        flights.push(flight);
        reply
    }

    #[tokio::test]
    async fn batches_end_in_the_order_in_which_they_began() {
        let mut flights = Flights::new();
        let first = push(&mut flights, 1, false);
        let second = push(&mut flights, 1, false);
        second.send(2).unwrap();
        let early = poll_fn(|cx| Poll::Ready(flights.poll(cx))).await;
        assert!(early.is_pending());
        first.send(1).unwrap();
        assert_eq!(poll_fn(|cx| flights.poll(cx)).await, 1);
        assert_eq!(poll_fn(|cx| flights.poll(cx)).await, 2);
        let none = poll_fn(|cx| Poll::Ready(flights.poll(cx))).await;
        assert!(none.is_pending() && flights.bytes == 0);
    }

    #[tokio::test]
    async fn batches_are_bounded_by_number_and_by_size_and_some_are_alone_behind_the_others() {
        let mut flights = Flights::new();
        let mut replies: VecDeque<_> = (0..MAX_BATCHES)
            .map(|_| {
                assert!(flights.has_room());
                push(&mut flights, 1, false)
            })
            .collect();
        assert!(!flights.has_room());
        replies.pop_front().unwrap().send(0).unwrap();
        poll_fn(|cx| flights.poll(cx)).await;
        assert!(flights.has_room());
        let large = push(&mut flights, MAX_BYTES, false);
        assert!(!flights.has_room());
        for reply in replies.into_iter().chain([large]) {
            reply.send(0).unwrap();
            poll_fn(|cx| flights.poll(cx)).await;
        }
        let last = push(&mut flights, 1, true);
        assert!(!flights.has_room());
        last.send(0).unwrap();
        poll_fn(|cx| flights.poll(cx)).await;
        assert!(flights.has_room());
    }
}
