//! What the application and the driver of a connection share: the outgoing queue, the
//! messages that wait for the application, and the signals between them.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::sync::Notify;

use super::info::Info;
use crate::close::CloseFrame;
use crate::config::{Config, MESSAGE_OVERHEAD, READ_AHEAD};
use crate::error::{Error, SendError, TrySendError};
use crate::message::Message;
use crate::protocol::{Agreed, Batch, Outbound, Session, Writer};
use crate::shutdown::Member;
use crate::sync::{AtomicU32, Mutex, MutexGuard};

/// Something was queued.
pub(crate) const OUTPUT: u32 = 1;
/// Something else is asked for, see [`Requests`].
pub(crate) const ASKED: u32 = 2;
/// The server is down.
pub(crate) const ABORT: u32 = 4;
/// The application took what was read ahead.
pub(crate) const ROOM: u32 = 8;
/// The driver sleeps: who signals must wake it.
const PARKED: u32 = 1 << 31;

/// See the module docs.
pub(crate) struct Link {
    pub(crate) info: Info,
    config: Arc<Config>,
    /// One word, so that a signal is one atomic operation and none is lost between the
    /// driver's last look and its sleep.
    signals: AtomicU32,
    driver: OnceLock<Waker>,
    queue: Mutex<Queue>,
    /// There is room in the queue again.
    space: Notify,
    inbox: Mutex<Inbox>,
    /// If messages are compressed.
    deflate: Option<Box<Outbound>>,
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

#[derive(Default)]
struct Queue {
    writer: Writer,
    /// Nothing more is accepted.
    closed: bool,
    /// Somebody found it full since there was last room.
    waited: bool,
    /// What else is asked of the driver. Boxed: most of the time it is nothing.
    asked: Option<Box<Requests>>,
}

/// What the driver is asked to do beside writing messages.
#[derive(Default)]
pub(crate) struct Requests {
    /// The application closes.
    pub(crate) close: Option<CloseFrame>,
    /// The server goes down.
    pub(crate) leave: Option<CloseFrame>,
    pub(crate) ping: Option<Bytes>,
}

/// Messages that arrived while a callback was running.
#[derive(Default)]
struct Inbox {
    messages: VecDeque<Message>,
    /// Payload and overhead of all of them.
    bytes: usize,
    ended: bool,
    failure: Option<Error>,
    receiver: Option<Waker>,
}

impl Link {
    pub(crate) fn new(config: Arc<Config>, info: Info, agreed: Option<Agreed>) -> Self {
        Self {
            info,
            config,
            signals: AtomicU32::new(0),
            driver: OnceLock::new(),
            queue: Mutex::default(),
            space: Notify::new(),
            inbox: Mutex::default(),
            deflate: agreed.map(|agreed| Box::new(Outbound::new(agreed))),
        }
    }

    // ---- for the application

    /// Queues a message if there is room.
    ///
    /// The queue is full when 128 messages or 1 MiB (the defaults) are waiting already; so
    /// every message, however large, gets its turn. What is being written, 64 KiB or one
    /// message more, does not count.
    #[inline]
    pub(crate) fn try_send(&self, message: Message) -> Result<(), TrySendError> {
        if let Some(deflate) = &self.deflate {
            if deflate.takes(message.len()) {
                return self.try_send_compressed(deflate, message);
            }
        }
        let mut queue = self.queue();
        if let Some(refused) = queue.refuses(&self.config) {
            return Err(refused.with(message));
        }
        let shown = self.shows_sent().then(|| message.clone());
        queue.writer.push(message);
        drop(queue);
        self.signal(OUTPUT);
        if let Some(message) = shown {
            self.show_sent(&message);
        }
        Ok(())
    }

    /// The same for a message that is worth compressing. The work is done by the sender and
    /// not under the lock of the queue, so the driver and its other connections never wait for it.
    fn try_send_compressed(
        &self,
        deflate: &Outbound,
        message: Message,
    ) -> Result<(), TrySendError> {
        let ready = || match self.queue().refuses(&self.config) {
            Some(refused) => Err(refused),
            None => Ok(()),
        };
        let sent = deflate.compress(message.payload(), ready, |compressed| {
            let mut queue = self.queue();
            // Full by now is all right: that is one message of each sender at most.
            if queue.closed {
                return Err(Refused::Closed);
            }
            match compressed {
                Some(compressed) => queue.writer.push_compressed(&message, compressed),
                None => queue.writer.push(message.clone()),
            }
            Ok(())
        });
        match sent {
            Ok(()) => {
                self.signal(OUTPUT);
                if self.shows_sent() {
                    self.show_sent(&message);
                }
                Ok(())
            }
            Err(refused) => Err(refused.with(message)),
        }
    }

    /// Queues a message as soon as there is room.
    #[inline]
    pub(crate) fn send(&self, message: Message) -> Sending<'_> {
        Sending {
            link: self,
            state: State::Now(Some(message)),
        }
    }

    async fn send_later(&self, mut message: Message) -> Result<(), SendError> {
        loop {
            let mut space = pin!(self.space.notified());
            // Registered before the look, so that no room is missed.
            space.as_mut().enable();
            match self.try_send(message) {
                Ok(()) => {
                    // One was woken for what may be room for many.
                    self.space.notify_one();
                    return Ok(());
                }
                Err(TrySendError::Closed(message)) => return Err(SendError(message)),
                Err(TrySendError::Full(back)) => message = back,
            }
            space.await;
        }
    }

    /// Closes the queue; the driver sends `frame` behind what is in it. `false`: it was
    /// closed before.
    pub(crate) fn close(&self, frame: CloseFrame) -> bool {
        let mut queue = self.queue();
        if queue.closed {
            return false;
        }
        queue.closed = true;
        queue.asked().close = Some(frame);
        drop(queue);
        self.signal(ASKED);
        self.space.notify_waiters();
        true
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.queue().closed
    }

    /// Has a ping sent; one that still waits is replaced.
    pub(crate) fn ping(&self, payload: Bytes) -> bool {
        let mut queue = self.queue();
        if queue.closed {
            return false;
        }
        queue.asked().ping = Some(payload);
        drop(queue);
        self.signal(ASKED);
        true
    }

    pub(crate) fn poll_receive(&self, cx: &Context<'_>) -> Poll<Result<Option<Message>, Error>> {
        let mut inbox = self.inbox();
        let was_full = inbox.bytes >= READ_AHEAD;
        if let Some(message) = inbox.pop() {
            drop(inbox);
            if was_full {
                // The driver has stopped reading for want of room.
                self.signal(ROOM);
            }
            return Poll::Ready(Ok(Some(message)));
        }
        if let Some(failure) = inbox.failure.take() {
            return Poll::Ready(Err(failure));
        }
        if inbox.ended {
            return Poll::Ready(Ok(None));
        }
        match &mut inbox.receiver {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    // ---- for the driver

    /// Tells whom to wake.
    pub(crate) fn set_driver(&self, waker: &Waker) {
        self.driver.get_or_init(|| waker.clone());
    }

    /// Takes the signals that were given since the last time.
    #[inline]
    pub(crate) fn take_signals(&self) -> u32 {
        if self.signals.load(Ordering::Acquire) == 0 {
            return 0;
        }
        self.signals.swap(0, Ordering::AcqRel) & !PARKED
    }

    /// Whether the driver may sleep: there is no signal, and the next one will wake it.
    #[inline]
    pub(crate) fn park(&self) -> bool {
        match self
            .signals
            .compare_exchange(0, PARKED, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) | Err(PARKED) => true,
            Err(_) => false,
        }
    }

    /// Lets `session` fill `batch` from the queue.
    #[inline]
    pub(crate) fn fill(&self, session: &mut Session, batch: &mut Batch) -> Filled {
        let mut queue = self.queue();
        // Under this lock, so that no message is accepted behind our Close frame.
        queue.closed |= !session.is_sendable();
        session.fill(&mut queue.writer, batch);
        let more = !queue.writer.is_empty();
        let room = queue.waited && !batch.is_empty();
        if room {
            queue.waited = false;
            drop(queue);
            self.space.notify_one();
        }
        Filled { more, room }
    }

    /// Accepts nothing more; with `discard`, what is waiting is dropped too.
    pub(crate) fn close_queue(&self, discard: bool) {
        let mut queue = self.queue();
        queue.closed = true;
        if discard {
            queue.writer.clear();
        }
        drop(queue);
        self.space.notify_waiters();
    }

    pub(crate) fn take_asked(&self) -> Option<Box<Requests>> {
        self.queue().asked.take()
    }

    /// Puts a message where the application finds it. Gives the waker of a `recv` that waits.
    pub(crate) fn deliver(&self, message: Message) -> Option<Waker> {
        let mut inbox = self.inbox();
        inbox.bytes += message.len() + MESSAGE_OVERHEAD;
        inbox.messages.push_back(message);
        inbox.receiver.take()
    }

    /// Whether reading ahead has to stop.
    pub(crate) fn is_inbox_full(&self) -> bool {
        self.inbox().bytes >= READ_AHEAD
    }

    /// Messages that wait for the application.
    pub(crate) fn inbox_len(&self) -> usize {
        self.inbox().messages.len()
    }

    pub(crate) fn is_queue_empty(&self) -> bool {
        self.queue().writer.is_empty()
    }

    pub(crate) fn next_delivered(&self) -> Option<Message> {
        self.inbox().pop()
    }

    /// No message will follow those that are there; with `discard`, those are dropped too.
    pub(crate) fn end_inbox(&self, failure: Option<Error>, discard: bool) -> Option<Waker> {
        let mut inbox = self.inbox();
        if !inbox.ended {
            inbox.ended = true;
            inbox.failure = failure;
        }
        if discard {
            inbox.messages = VecDeque::new();
            inbox.bytes = 0;
        }
        inbox.receiver.take()
    }

    /// The driver is gone: who waits is told, and nothing is kept for those who hold a `Sender`.
    pub(crate) fn end(&self) {
        self.close_queue(true);
        if let Some(waker) = self.end_inbox(None, true) {
            waker.wake();
        }
        if let Some(deflate) = &self.deflate {
            deflate.end();
        }
    }

    /// What `future` gives, unless the server is down before; in place of the driver, and deaf to
    /// every other signal.
    pub(crate) async fn unless_aborted<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.set_driver(cx.waker());
            loop {
                if self.take_signals() & ABORT != 0 {
                    return Poll::Ready(None);
                }
                if self.park() {
                    return future.as_mut().poll(cx).map(Some);
                }
            }
        })
        .await
    }

    /// Gives the signal for what was asked before the driver was there:
    /// [`unless_aborted`](Self::unless_aborted), that stood in for it, has taken the first one.
    pub(crate) fn ask_again(&self) {
        if self.queue().asked.is_some() {
            self.signal(ASKED);
        }
    }

    /// What messages are compressed with.
    pub(crate) fn agreed(&self) -> Option<Agreed> {
        self.deflate.as_ref().map(|deflate| deflate.agreed())
    }

    // ---- inside

    /// Whether somebody reads what is sent.
    #[inline]
    fn shows_sent(&self) -> bool {
        if self.config.debug {
            tracing::enabled!(target: "tower_websocket::wire", tracing::Level::DEBUG)
        } else {
            tracing::enabled!(target: "tower_websocket::wire", tracing::Level::TRACE)
        }
    }

    /// Not to be called under a lock: whoever reads it may send.
    #[cold]
    fn show_sent(&self, message: &Message) {
        if self.config.debug {
            tracing::debug!(target: "tower_websocket::wire", connection = %self.info.id, "send {message:?}");
        } else {
            tracing::trace!(target: "tower_websocket::wire", connection = %self.info.id, "send {message:?}");
        }
    }

    #[inline]
    fn signal(&self, signal: u32) {
        // If another signal was there already, its giver has woken the driver.
        if self.signals.fetch_or(signal, Ordering::AcqRel) == PARKED {
            if let Some(driver) = self.driver.get() {
                driver.wake_by_ref();
            }
        }
    }

    #[inline]
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
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
            match link.try_send(message) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(TrySendError::Closed(message)) => return Poll::Ready(Err(SendError(message))),
                Err(TrySendError::Full(message)) => {
                    self.state = State::Later(Box::pin(link.send_later(message)));
                }
            }
        }
        match &mut self.state {
            State::Later(later) => later.as_mut().poll(cx),
            State::Now(_) => Poll::Pending,
        }
    }
}

impl Member for Link {
    fn leave(&self, frame: CloseFrame) {
        self.queue().asked().leave = Some(frame);
        self.signal(ASKED);
    }

    fn abort(&self) {
        self.signal(ABORT);
    }
}

/// What became of the queue when a batch was filled from it.
pub(crate) struct Filled {
    /// There is more in it.
    pub(crate) more: bool,
    /// It was full, somebody has waited, and now there is room.
    pub(crate) room: bool,
}

/// Why the queue does not take a message.
enum Refused {
    Closed,
    Full,
}

impl Refused {
    fn with(self, message: Message) -> TrySendError {
        match self {
            Self::Closed => TrySendError::Closed(message),
            Self::Full => TrySendError::Full(message),
        }
    }
}

impl Queue {
    /// Whether there is room for one more message.
    #[inline]
    fn refuses(&mut self, config: &Config) -> Option<Refused> {
        if self.closed {
            return Some(Refused::Closed);
        }
        let load = self.writer.load();
        let full = load.messages >= config.queue_messages || load.bytes >= config.queue_bytes;
        if full {
            self.waited = true;
        }
        full.then_some(Refused::Full)
    }

    fn asked(&mut self) -> &mut Requests {
        self.asked.get_or_insert_default()
    }
}

impl Inbox {
    fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len() + MESSAGE_OVERHEAD;
        if self.messages.is_empty() {
            // Nothing is held while a connection is quiet.
            self.messages = VecDeque::new();
        }
        Some(message)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}
