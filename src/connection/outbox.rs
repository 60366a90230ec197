//! [`Outbox`]: the messages of the application that wait to be written, and what else it asks of the
//! driver.

use std::pin::pin;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use once_cell::race::OnceBox;
use tokio::sync::Notify;

use super::traffic::Counters;
use crate::close::CloseFrame;
use crate::config::Config;
use crate::error::{SendError, TrySendError};
#[cfg(feature = "metrics")]
use crate::measure;
use crate::message::Message;
use crate::protocol::{Batch, Framed, Load, Outbound, OutboundTerms, Session, Writer};
use crate::sync::{Mutex, MutexGuard};
use crate::topics::{Backlog, How, Kept, Subscriptions, Taken};

/// What is written before more is read, in bytes: as much as one DATA frame of HTTP/2 or one TLS record
/// holds, so a longer wait would join nothing.
const URGENT: usize = 16 * 1024;

/// See the module docs. It says what happened; the [`Link`](super::Link) wakes the driver.
pub(super) struct Outbox {
    config: Arc<Config>,
    queue: Mutex<Queue>,
    /// There is room in the queue again.
    space: Notify,
    /// If messages are compressed.
    deflate: Option<Box<Outbound>>,
    /// If somebody may look. They are here since what is sent is counted under the lock of the queue.
    counters: Option<Box<Counters>>,
    /// Made under the lock of the queue.
    subscriptions: OnceBox<Subscriptions>,
}

#[derive(Default)]
struct Queue {
    writer: Writer,
    /// Why nothing is accepted, whatever room there is: it is closed, or others wait for room.
    barred: Option<Refused>,
    /// Somebody found it full since there was last room.
    waited: bool,
    /// When there is room, the subscriptions have more.
    behind: bool,
    /// A drain has asked it to leave.
    is_drained: bool,
    /// Boxed: most connections have none of it.
    rare: Option<Box<Rare>>,
}

/// What few connections have, or for a short time.
#[derive(Default)]
struct Rare {
    /// What else is asked of the driver.
    requests: Option<Box<Requests>>,
    /// For those who wait until the queue is closed.
    ended: Option<Arc<Notify>>,
    /// Messages of topics that wait for room. While there are some, nobody passes them. Boxed: few have
    /// a policy that keeps any.
    backlog: Option<Box<Backlog>>,
}

/// What the driver is asked to do beside writing messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    /// The application closes.
    pub(crate) close: Option<CloseFrame>,
    /// The server goes down.
    pub(crate) leave: Option<CloseFrame>,
    /// The application gives the peer up.
    pub(crate) give_up: bool,
    pub(crate) ping: Option<Bytes>,
}

/// What became of the queue when a batch was filled from it.
pub(crate) struct Filled {
    /// There is more in it.
    pub(crate) more: bool,
    /// It was full, somebody has waited, and now there is room.
    pub(crate) room: bool,
    /// Topics had no room: [`Outbox::next_waiting`] and [`Outbox::is_behind`] come first.
    pub(super) lags: bool,
}

/// How much waits to be written, of what was accepted from the application. See
/// [`Sender::queued`](super::Sender::queued).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    messages: usize,
    bytes: usize,
}

/// Why the queue does not take a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refused {
    Closed,
    Full,
}

impl Outbox {
    pub(super) fn new(config: Arc<Config>, deflate: Option<OutboundTerms>) -> Self {
        Self {
            counters: config.track_connections.then(Box::default),
            config,
            queue: Mutex::default(),
            space: Notify::new(),
            deflate: deflate.map(|terms| Box::new(Outbound::new(terms))),
            subscriptions: OnceBox::new(),
        }
    }

    // ---- for the application

    /// Queues a message if there is room.
    ///
    /// The queue is full when 128 messages or 1 MiB (the defaults) are waiting already; so
    /// every message, however large, gets its turn. What is being written, 64 KiB or one
    /// message more, does not count.
    #[inline]
    pub(super) fn try_send(&self, message: Message) -> Result<(), TrySendError> {
        if let Some(deflate) = &self.deflate {
            if deflate.takes(message.len()) {
                return self.try_send_compressed(deflate, message);
            }
        }
        let mut queue = self.lock();
        if let Some(refused) = queue.refuses(&self.config) {
            return Err(refused.with(message));
        }
        queue.writer.push(&message);
        self.count(&queue, message.len());
        // What a payload does when it is dropped is the application's, and may be anything.
        drop(queue);
        drop(message);
        Ok(())
    }

    /// The same for a message that is worth compressing. The work is done by the sender and
    /// not under the lock of the queue, so the driver and its other connections never wait for it.
    fn try_send_compressed(
        &self,
        deflate: &Outbound,
        message: Message,
    ) -> Result<(), TrySendError> {
        let ready = || match self.lock().refuses(&self.config) {
            Some(refused) => Err(refused),
            None => Ok(()),
        };
        let sent = deflate.compress(message.payload(), ready, |compressed| {
            let mut queue = self.lock();
            // Full by now is all right: that is one message of each sender at most.
            if queue.is_closed() {
                return Err(Refused::Closed);
            }
            match compressed {
                Some(compressed) => queue.writer.push_compressed(&message, &compressed),
                None => queue.writer.push(&message),
            }
            self.count(&queue, message.len());
            Ok(())
        });
        sent.map_err(|refused: Refused| refused.with(message))
    }

    /// Waits for room, and queues a message with `send`, which may find none.
    pub(super) async fn send_later(
        &self,
        mut message: Message,
        send: impl Fn(Message) -> Result<(), TrySendError>,
    ) -> Result<(), SendError> {
        loop {
            let mut space = pin!(self.space.notified());
            // Registered before the look, so that no room is missed.
            space.as_mut().enable();
            match send(message) {
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
    pub(super) fn close(&self, frame: CloseFrame) -> bool {
        let mut queue = self.lock();
        if queue.is_closed() {
            return false;
        }
        queue.requests().close = Some(frame);
        self.close_with(queue);
        true
    }

    /// Accepts nothing more, and has the driver end the connection.
    pub(super) fn give_up(&self) {
        let mut queue = self.lock();
        queue.requests().give_up = true;
        self.close_with(queue);
    }

    /// Has a ping sent; one that still waits is replaced. `false`: it is closed.
    pub(super) fn ping(&self, payload: Bytes) -> bool {
        let mut queue = self.lock();
        if queue.is_closed() {
            return false;
        }
        queue.requests().ping = Some(payload);
        true
    }

    /// The server goes down.
    pub(super) fn leave(&self, frame: CloseFrame) {
        let mut queue = self.lock();
        queue.is_drained = true;
        queue.requests().leave = Some(frame);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed()
    }

    /// Waits until nothing more is accepted.
    pub(super) async fn closed(&self) {
        let ended = {
            let mut queue = self.lock();
            if queue.is_closed() {
                return;
            }
            queue.rare().ended.get_or_insert_default().clone()
        };
        let mut notified = pin!(ended.notified());
        // Registered before the look, so that the end is not missed.
        notified.as_mut().enable();
        if !self.is_closed() {
            notified.await;
        }
    }

    pub(super) fn queued(&self) -> Queued {
        let load = self.lock().writer.load();
        Queued {
            messages: load.messages,
            bytes: load.payload(),
        }
    }

    #[inline]
    pub(super) fn counters(&self) -> Option<&Counters> {
        self.counters.as_deref()
    }

    /// A message was accepted. The queue is locked.
    #[inline]
    fn count(&self, _: &Queue, bytes: usize) {
        if let Some(counters) = &self.counters {
            counters.accepted(bytes);
        }
    }

    // ---- for the driver

    /// Lets `session` fill `batch` from the queue.
    #[inline]
    pub(super) fn fill(&self, session: &mut Session, batch: &mut Batch) -> Filled {
        let mut queue = self.lock();
        // Under this lock, so that no message is accepted behind our Close frame.
        if !session.is_sendable() {
            queue.barred = Some(Refused::Closed);
        }
        #[cfg(feature = "metrics")]
        let before = queue.writer.load();
        session.poll_output(&mut queue.writer, batch);
        #[cfg(feature = "metrics")]
        let after = queue.writer.load();
        let more = !queue.writer.is_empty();
        let room = queue.waited && !batch.is_empty();
        let mut lags = false;
        if room {
            queue.waited = false;
            lags = queue.behind || queue.has_backlog();
            drop(queue);
            if !lags {
                self.space.notify_one();
            }
        } else {
            drop(queue);
        }
        // Not under the lock: a recorder is the application's.
        #[cfg(feature = "metrics")]
        if before != after {
            measure::sent(
                before.messages - after.messages,
                before.payload() - after.payload(),
            );
        }
        Filled { more, room, lags }
    }

    /// Accepts nothing more; with `discard`, what is waiting is dropped too.
    pub(super) fn end(&self, discard: bool) {
        let mut queue = self.lock();
        let waiting = queue.rare.as_mut();
        let waiting = waiting.and_then(|rare| rare.backlog.take());
        let discarded = discard.then(|| std::mem::take(&mut queue.writer));
        self.close_with(queue);
        // Not under the lock: see `try_send`.
        drop((discarded, waiting));
    }

    /// Nothing more will be compressed either.
    pub(super) fn forget(&self) {
        if let Some(deflate) = &self.deflate {
            deflate.end();
        }
    }

    pub(super) fn take_requests(&self) -> Option<Box<Requests>> {
        let mut queue = self.lock();
        let rare = queue.rare.as_mut()?;
        let requests = rare.requests.take();
        if rare.ended.is_none() && rare.backlog.is_none() {
            queue.rare = None;
        }
        requests
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().writer.is_empty()
    }

    /// Whether what waits is not to wait for more: it is much, or somebody waits for room, or the queue is
    /// closed.
    #[inline]
    pub(super) fn is_urgent(&self) -> bool {
        let queue = self.lock();
        queue.waited || queue.barred.is_some() || queue.writer.load().bytes >= URGENT
    }

    // ---- for topics

    /// What the connection subscribes; made at the first call. `None`: it is closed.
    pub(super) fn subscriptions(&self) -> Option<&Subscriptions> {
        // Under the lock, so that whoever closes the queue and looks then misses none.
        let queue = self.lock();
        (!queue.is_closed()).then(|| self.subscriptions.get_or_init(Box::default))
    }

    /// The same if there is something.
    pub(super) fn subscribed(&self) -> Option<&Subscriptions> {
        self.subscriptions.get()
    }

    /// Puts a message into the queue, or does with it what `how` says.
    pub(super) fn offer(&self, frame: &Framed, how: How) -> Taken {
        if let Some(deflate) = &self.deflate {
            if deflate.takes(frame.payload().len()) {
                return self.offer_compressed(deflate, frame, how);
            }
        }
        self.offer_as_it_is(frame, how)
    }

    fn offer_as_it_is(&self, frame: &Framed, how: How) -> Taken {
        let mut queue = self.lock();
        let taken = queue.offer(frame, how, &self.config);
        if matches!(taken, Taken::Queued) {
            self.count(&queue, frame.payload().len());
        }
        taken
    }

    fn offer_compressed(&self, deflate: &Outbound, frame: &Framed, how: How) -> Taken {
        let ready = || match self.lock().has_no_room(how, &self.config) {
            Some(refused) => Err(refused),
            None => Ok(()),
        };
        let sent = deflate.compress(frame.payload(), ready, |compressed| {
            let mut queue = self.lock();
            if queue.is_closed() {
                return Err(Refused::Closed);
            }
            match compressed {
                Some(compressed) => queue.writer.push_framed_compressed(frame, &compressed),
                None => queue.writer.push_framed(frame),
            }
            self.count(&queue, frame.payload().len());
            Ok(())
        });
        match sent {
            Ok(()) => Taken::Queued,
            // There may be room by now.
            Err(_) => self.offer_as_it_is(frame, how),
        }
    }

    /// The next message that waits, if there is room for it. For the driver, which puts it into the
    /// queue by [`pass`](Self::pass); nobody passes it meanwhile.
    pub(super) fn next_waiting(&self) -> Option<Framed> {
        let mut queue = self.lock();
        let Queue {
            writer,
            barred,
            waited,
            rare,
            ..
        } = &mut *queue;
        if *barred != Some(Refused::Full) {
            return None;
        }
        let waiting = rare.as_mut().and_then(|rare| rare.backlog.as_mut());
        let Some(backlog) = waiting.filter(|backlog| !backlog.is_empty()) else {
            *barred = None;
            return None;
        };
        if is_full(writer.load(), &self.config) {
            *waited = true;
            return None;
        }
        backlog.pop()
    }

    /// Puts what [`next_waiting`](Self::next_waiting) gave into the queue.
    pub(super) fn pass(&self, frame: &Framed) -> Taken {
        self.offer(frame, How::Greeting)
    }

    /// Whether the subscriptions have more, and there is room for it.
    pub(super) fn is_behind(&self) -> bool {
        let mut queue = self.lock();
        if !queue.behind {
            return false;
        }
        if queue.has_no_room(How::Refill, &self.config).is_some() {
            queue.waited = true;
            return false;
        }
        queue.behind = false;
        true
    }

    /// Lets others have the room that is left.
    pub(super) fn leave_room(&self) {
        if !self.lock().has_waiting() {
            self.space.notify_one();
        }
    }

    /// Whether a drain has asked the connection to leave.
    pub(super) fn is_drained(&self) -> bool {
        self.lock().is_drained
    }

    // ---- inside

    fn close_with(&self, mut queue: MutexGuard<'_, Queue>) {
        queue.barred = Some(Refused::Closed);
        let ended = queue.rare.as_mut().and_then(|rare| rare.ended.take());
        drop(queue);
        self.space.notify_waiters();
        if let Some(ended) = ended {
            ended.notify_waiters();
        }
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Whether there is room for one more message.
    #[inline]
    fn refuses(&mut self, config: &Config) -> Option<Refused> {
        if self.barred.is_some() {
            return self.barred;
        }
        let full = is_full(self.writer.load(), config);
        if full {
            self.waited = true;
        }
        full.then_some(Refused::Full)
    }

    fn is_closed(&self) -> bool {
        self.barred == Some(Refused::Closed)
    }

    /// Whether messages of topics wait for room.
    fn has_waiting(&self) -> bool {
        self.barred == Some(Refused::Full)
    }

    fn has_backlog(&self) -> bool {
        let backlog = self.rare.as_ref().and_then(|rare| rare.backlog.as_ref());
        backlog.is_some_and(|backlog| !backlog.is_empty())
    }

    /// Whether there is room for a message of a topic.
    fn has_no_room(&mut self, how: How, config: &Config) -> Option<Refused> {
        match how {
            How::New { .. } => self.refuses(config),
            How::Refill => {
                let Load { messages, bytes } = self.writer.load();
                // Half of it is for others: a log may have more for a long time.
                let twice = Load {
                    messages: messages.saturating_mul(2),
                    bytes: bytes.saturating_mul(2),
                };
                if self.barred.is_some() {
                    return self.barred;
                }
                (messages > 0 && is_full(twice, config)).then_some(Refused::Full)
            }
            How::Greeting => self.barred.filter(|_| self.is_closed()),
        }
    }

    fn offer(&mut self, frame: &Framed, how: How, config: &Config) -> Taken {
        match self.has_no_room(how, config) {
            None => {
                self.writer.push_framed(frame);
                return Taken::Queued;
            }
            Some(Refused::Closed) => return Taken::Closed,
            Some(Refused::Full) => {}
        }
        let (keep, behind) = match how {
            How::New { keep, behind } => (keep, behind),
            How::Refill => (None, true),
            How::Greeting => (None, false),
        };
        if behind {
            self.waited = true;
            self.behind = true;
        }
        let Some(keep) = keep else {
            return Taken::Full;
        };
        let most = Load {
            messages: config.queue_messages,
            bytes: config.queue_bytes,
        };
        let Kept {
            dropped,
            is_refused,
        } = self
            .rare()
            .backlog
            .get_or_insert_default()
            .push(keep, frame, most);
        if is_refused {
            return Taken::Full;
        }
        self.waited = true;
        self.barred = Some(Refused::Full);
        Taken::Waits(dropped)
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn requests(&mut self) -> &mut Requests {
        self.rare().requests.get_or_insert_default()
    }
}

#[inline]
fn is_full(load: Load, config: &Config) -> bool {
    load.messages >= config.queue_messages || load.bytes >= config.queue_bytes
}

impl Queued {
    /// Messages.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Bytes of payload, as they will be written: compressed where that was agreed.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Refused {
    fn with(self, message: Message) -> TrySendError {
        match self {
            Self::Closed => TrySendError::Closed(message),
            Self::Full => TrySendError::Full(message),
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests;
