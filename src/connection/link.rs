//! [`Link`]: what the application and the driver of a connection share.
//!
//! The parts say what happened; here the one who has to know is woken.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::event::{Event, NotifyError};
use super::inbox::{Inbox, Item};
use super::info::Info;
use super::outbox::{Filled, Outbox, Queued, Requests};
use super::pong::Pong;
use super::signals::{ABORT, ASKED, EVENT, OUTPUT, ROOM, Signals};
use super::traffic::{self, Traffic};
use crate::close::CloseFrame;
use crate::config::Config;
use crate::error::{Error, SendError, TrySendError};
use crate::logging;
use crate::measure;
use crate::message::Message;
use crate::protocol::{Agreed, Batch, Framed, InboundTerms, Moment, Session};
use crate::shutdown::Member;
use crate::topics::{
    Attached, How, Offered, Published, Receiver, Subscribe, SubscribeError, Taken, Topics,
    TrackError,
};

/// See the module docs.
pub(crate) struct Link {
    pub(crate) info: Info,
    /// Of the layer.
    topics: Topics,
    signals: Signals,
    outbox: Outbox,
    inbox: Inbox,
    /// How the peer compresses messages, if it does.
    inbound: Option<InboundTerms>,
    /// When it was opened, in ticks of the process; before that, zero.
    opened: AtomicU32,
    /// Messages and the Close frame are ours, not those of tungstenite.
    is_ours: bool,
    /// Messages are logged at DEBUG.
    debug: bool,
}

/// The future of `send`. Small, since it lies in every connection's task: waiting is boxed.
pub(crate) struct Sending<'a> {
    link: &'a Link,
    state: State<'a>,
}

enum State<'a> {
    Now(Option<Message>),
    Later(Pin<Box<dyn Future<Output = Result<(), SendError>> + Send + 'a>>),
}

/// What comes of subscribing a topic.
pub(crate) enum Subscribing {
    Now(Result<Attached, SubscribeError>),
    Later(Pin<Box<dyn Future<Output = Result<Attached, SubscribeError>> + Send>>),
}

impl Subscribing {
    pub(crate) async fn finish(self) -> Result<Attached, SubscribeError> {
        match self {
            Self::Now(attached) => attached,
            Self::Later(attached) => attached.await,
        }
    }
}

impl Link {
    pub(crate) fn new(
        config: Arc<Config>,
        info: Info,
        agreed: Option<Agreed>,
        topics: Topics,
    ) -> Self {
        Self {
            info,
            topics,
            debug: config.debug,
            opened: AtomicU32::new(0),
            is_ours: true,
            signals: Signals::new(),
            outbox: Outbox::new(config, agreed.map(|agreed| agreed.outbound)),
            inbound: agreed.map(|agreed| agreed.inbound),
            inbox: Inbox::default(),
        }
    }

    /// For an application whose protocol is not ours.
    pub(crate) fn of_another_protocol(mut self) -> Self {
        self.is_ours = false;
        self
    }

    // ---- for the application

    /// Queues a message if there is room.
    #[inline]
    pub(crate) fn try_send(&self, message: Message) -> Result<(), TrySendError> {
        let sent = self.queue(message);
        if matches!(sent, Err(TrySendError::Full(_))) {
            measure::queue_full();
        }
        sent
    }

    #[inline]
    fn queue(&self, message: Message) -> Result<(), TrySendError> {
        // No lock is held while it is logged: whoever reads the log may send.
        let shown = logging::shows_wire(self.debug).then(|| message.clone());
        self.outbox.try_send(message)?;
        self.signals.give(OUTPUT);
        if let Some(message) = shown {
            logging::wire(
                self.debug,
                self.info.id.as_u64(),
                &format_args!("send {message:?}"),
            );
        }
        Ok(())
    }

    /// Queues a message as soon as there is room.
    #[inline]
    pub(crate) fn send(&self, message: Message) -> Sending<'_> {
        Sending {
            link: self,
            state: State::Now(Some(message)),
        }
    }

    /// Closes the connection. `false`: it was closed before.
    pub(crate) fn close(&self, frame: CloseFrame) -> bool {
        let closed = self.outbox.close(frame);
        if closed {
            self.signals.give(ASKED);
        }
        closed
    }

    /// Has a ping sent. `None`: the connection is closed.
    pub(crate) fn ping(&self, payload: Bytes) -> Option<Pong> {
        // Before it is sent, so that the answer finds it.
        let pong = self.inbox.expect_pong(payload.clone());
        let accepted = self.outbox.ping(payload);
        accepted.then(|| {
            self.signals.give(ASKED);
            pong
        })
    }

    /// Ends the connection in the name of the application, without a word to the peer.
    pub(crate) fn give_up(&self) {
        self.outbox.give_up();
        self.signals.give(ASKED);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.outbox.is_closed()
    }

    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + '_ {
        self.outbox.closed()
    }

    pub(crate) fn queued(&self) -> Queued {
        self.outbox.queued()
    }

    /// Has `on_event` or `recv_event` receive something.
    pub(crate) fn notify<T: Any + Send>(&self, event: T) -> Result<(), NotifyError<T>> {
        let waker = self.inbox.notify(event)?;
        self.signals.give(EVENT);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    pub(crate) fn poll_message(&self, cx: &Context<'_>) -> Poll<Result<Option<Message>, Error>> {
        let (poll, made_room) = self.inbox.poll_message(cx);
        if made_room {
            // The driver has stopped reading for want of room.
            self.signals.give(ROOM);
        }
        poll
    }

    pub(crate) fn poll_event(&self, cx: &Context<'_>) -> Poll<Option<Event>> {
        self.inbox.poll_event(cx)
    }

    pub(crate) fn subscribe(
        self: &Arc<Self>,
        topic: &str,
        how: Subscribe,
    ) -> Result<Attached, SubscribeError> {
        let subscriptions = self.outbox.subscriptions();
        let receiver: Arc<dyn Receiver> = self.clone();
        subscriptions.ok_or(SubscribeError::Closed)?.subscribe(
            self.topics.registry(),
            &receiver,
            topic,
            how,
        )
    }

    /// The same, as soon as the log of the topic is here if it lies elsewhere.
    pub(crate) fn subscribe_with(self: &Arc<Self>, topic: &str, how: Subscribe) -> Subscribing {
        let Some(waiting) = self.topics.registry().waiting(topic) else {
            return Subscribing::Now(self.subscribe(topic, how));
        };
        let (link, topic) = (self.clone(), topic.to_owned());
        Subscribing::Later(Box::pin(async move {
            let is_read = waiting.wait(how.position()).await;
            link.subscribe(&topic, how.read(is_read))
        }))
    }

    /// Whether the topic was subscribed.
    pub(crate) fn unsubscribe(&self, topic: &str) -> bool {
        let subscriptions = self.outbox.subscribed();
        subscriptions
            .is_some_and(|subscriptions| subscriptions.unsubscribe(self.topics.registry(), topic))
    }

    pub(crate) fn track(&self, topic: &str, key: &str, meta: String) -> Result<(), TrackError> {
        let subscriptions = self.outbox.subscriptions();
        let subscriptions = subscriptions.ok_or(TrackError::Closed)?;
        subscriptions.track(
            self.topics.registry(),
            self.info.id.as_u64(),
            topic,
            key,
            meta,
        )
    }

    /// Whether the connection was tracked.
    pub(crate) fn untrack(&self, topic: &str, key: &str) -> bool {
        let subscriptions = self.outbox.subscribed();
        subscriptions.is_some_and(|all| {
            all.untrack(self.topics.registry(), self.info.id.as_u64(), topic, key)
        })
    }

    /// How many messages of a topic were dropped for this connection.
    pub(crate) fn dropped(&self, topic: &str) -> u64 {
        let subscriptions = self.outbox.subscribed();
        subscriptions.map_or(0, |subscriptions| {
            subscriptions.dropped(self.topics.registry(), topic)
        })
    }

    /// How many messages of all topics were dropped for this connection.
    pub(crate) fn dropped_in_all(&self) -> u64 {
        let subscriptions = self.outbox.subscribed();
        subscriptions.map_or(0, |subscriptions| subscriptions.dropped_in_all())
    }

    /// How many topics it subscribes, and the names of at most `most` of them.
    pub(crate) fn topic_names(&self, most: usize) -> (usize, Vec<String>) {
        let subscriptions = self.outbox.subscribed();
        subscriptions.map_or_else(Default::default, |subscriptions| subscriptions.names(most))
    }

    /// To all who subscribe the topic but this connection.
    pub(crate) fn publish(&self, topic: &str, message: &Message) -> Published {
        let id = self.info.id.as_u64();
        self.topics.publish_from(topic, message, id)
    }

    pub(crate) fn topics(&self) -> &Topics {
        &self.topics
    }

    // ---- for those who look from outside

    /// Whether it is listed. If not, nothing of the following is known.
    pub(crate) fn is_listed(&self) -> bool {
        self.outbox.counters().is_some()
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.is_ours
    }

    pub(crate) fn age(&self) -> Duration {
        traffic::since(self.opened.load(Ordering::Relaxed))
    }

    /// How long no message came or went.
    pub(crate) fn idle(&self) -> Duration {
        let last = self.outbox.counters().map_or(0, |all| all.last());
        traffic::since(self.opened.load(Ordering::Relaxed).saturating_add(last))
    }

    pub(crate) fn received(&self) -> Traffic {
        let counters = self.outbox.counters();
        counters.map(|all| all.received()).unwrap_or_default()
    }

    /// What was accepted to be sent.
    pub(crate) fn sent(&self) -> Traffic {
        let counters = self.outbox.counters();
        counters.map(|all| all.sent()).unwrap_or_default()
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.outbox.counters()?.round_trip()
    }

    // ---- for the driver

    /// The connection begins now.
    pub(crate) fn open(&self) {
        self.opened.store(traffic::present(), Ordering::Relaxed);
    }

    /// A message came.
    #[inline]
    pub(crate) fn came(&self, bytes: usize) {
        if let Some(counters) = self.outbox.counters() {
            counters.came(bytes);
        }
    }

    /// The driver rests. With when a message came or went last.
    #[inline]
    pub(crate) fn rests(&self, last: Moment) {
        if let Some(counters) = self.outbox.counters() {
            counters.rests(last);
        }
    }

    /// A heartbeat was answered.
    pub(crate) fn answered(&self, micros: u32) {
        if let Some(counters) = self.outbox.counters() {
            counters.answered(micros);
        }
    }

    /// Tells whom to wake.
    pub(crate) fn set_driver(&self, waker: &Waker) {
        self.signals.set_driver(waker);
    }

    #[inline]
    pub(crate) fn take_signals(&self) -> u32 {
        self.signals.take()
    }

    #[inline]
    pub(crate) fn park(&self) -> bool {
        self.signals.park()
    }

    #[inline]
    pub(crate) fn fill(&self, session: &mut Session, batch: &mut Batch) -> Filled {
        let mut filled = self.outbox.fill(session, batch);
        if filled.lags {
            self.refill();
            filled.more = true;
        }
        filled
    }

    /// There is room for what topics have: first what waits, then what logs have, then others.
    #[cold]
    fn refill(&self) {
        loop {
            while let Some(frame) = self.outbox.next_waiting() {
                if matches!(self.outbox.pass(&frame), Taken::Queued) {
                    measure::delivered(1);
                    self.show(&frame);
                }
            }
            if !self.outbox.is_behind() {
                break;
            }
            if let Some(subscriptions) = self.outbox.subscribed() {
                subscriptions.refill();
            }
        }
        self.outbox.leave_room();
    }

    /// Logs a message of a topic.
    fn show(&self, frame: &Framed) {
        if logging::shows_wire(self.debug) {
            let id = self.info.id.as_u64();
            logging::wire(self.debug, id, &format_args!("send {:?}", frame.message()));
        }
    }

    /// Accepts nothing more to send; with `discard`, what is waiting is dropped too.
    pub(crate) fn end_output(&self, discard: bool) {
        self.outbox.end(discard);
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Whether what waits is to be written before more is read.
    #[inline]
    pub(crate) fn has_much_output(&self) -> bool {
        self.outbox.is_urgent()
    }

    pub(crate) fn take_requests(&self) -> Option<Box<Requests>> {
        self.outbox.take_requests()
    }

    /// Puts a message where the application finds it. Gives the waker of a `recv` that waits.
    pub(crate) fn deliver(&self, message: Message) -> Option<Waker> {
        self.inbox.deliver(message)
    }

    /// A pong has arrived.
    pub(crate) fn ponged(&self, payload: &[u8]) {
        self.inbox.ponged(payload);
    }

    /// Whether reading ahead has to stop.
    pub(crate) fn is_inbox_full(&self) -> bool {
        self.inbox.is_full()
    }

    /// How much waits for the application.
    pub(crate) fn inbox_len(&self) -> usize {
        self.inbox.len()
    }

    /// What the next callback is for, if it is here already.
    pub(crate) fn next_item(&self) -> Option<Item> {
        self.inbox.pop()
    }

    /// Nothing will follow what waits for the application; with `discard`, that is dropped too.
    pub(crate) fn end_input(&self, failure: Option<Error>, discard: bool) -> [Option<Waker>; 2] {
        self.inbox.end(failure, discard)
    }

    /// The driver is gone: who waits learns it, and nothing is kept for those who hold a `Sender`.
    pub(crate) fn end(&self) {
        self.outbox.end(true);
        self.outbox.forget();
        if let Some(subscriptions) = self.outbox.subscribed() {
            subscriptions.end(
                self.topics.registry(),
                self.info.id.as_u64(),
                self.outbox.is_drained(),
            );
        }
        for waker in self.inbox.end(None, true).into_iter().flatten() {
            waker.wake();
        }
    }

    /// What `future` gives, unless the server is down before. In place of the driver: what else is
    /// asked meanwhile stays for that.
    pub(crate) async fn unless_aborted<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.set_driver(cx.waker());
            if self.signals.is_aborted() || !self.signals.park_unless(ABORT) {
                return Poll::Ready(None);
            }
            future.as_mut().poll(cx).map(Some)
        })
        .await
    }

    /// How the peer compresses messages, if it does.
    pub(crate) fn inbound(&self) -> Option<InboundTerms> {
        self.inbound
    }
}

impl Future for Sending<'_> {
    type Output = Result<(), SendError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let link = self.link;
        if let State::Now(message) = &mut self.state {
            let Some(message) = message.take() else {
                // Polled after it was ready.
                return Poll::Pending;
            };
            match link.queue(message) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(TrySendError::Closed(message)) => return Poll::Ready(Err(SendError(message))),
                Err(TrySendError::Full(message)) => {
                    measure::queue_full();
                    let later = link
                        .outbox
                        .send_later(message, |message| link.queue(message));
                    self.state = State::Later(Box::pin(later));
                }
            }
        }
        match &mut self.state {
            State::Later(later) => later.as_mut().poll(cx),
            State::Now(_) => Poll::Pending,
        }
    }
}

impl Receiver for Link {
    fn id(&self) -> u64 {
        self.info.id.as_u64()
    }

    fn offer(&self, frame: &Framed, how: How) -> Offered {
        let taken = self.outbox.offer(frame, how);
        let is_queued = matches!(taken, Taken::Queued);
        Offered {
            taken,
            wake: is_queued && self.signals.set(OUTPUT),
            show: is_queued && logging::shows_wire(self.debug),
        }
    }

    fn wake(&self) {
        self.signals.wake();
    }

    fn show(&self, frame: &Framed) {
        Self::show(self, frame);
    }

    fn close(&self, frame: CloseFrame) -> bool {
        Self::close(self, frame)
    }
}

impl Member for Link {
    fn key(&self) -> u64 {
        self.info.id.as_u64()
    }

    fn leave(&self, frame: CloseFrame) {
        self.outbox.leave(frame);
        self.signals.give(ASKED);
    }

    fn abort(&self) {
        self.signals.give(ABORT);
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}
