//! [`Outbox`]: the messages of the application that wait to be written, and what else it asks of the
//! driver.

use std::pin::pin;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::traffic::Traffic;
use crate::close::CloseFrame;
use crate::config::Config;
use crate::error::{SendError, TrySendError};
use crate::measure;
use crate::message::Message;
use crate::protocol::{Batch, Outbound, OutboundTerms, Session, Writer};
use crate::sync::{Mutex, MutexGuard};

/// See the module docs. It says what happened; the [`Link`](super::Link) wakes the driver.
pub(super) struct Outbox {
    config: Arc<Config>,
    queue: Mutex<Queue>,
    /// There is room in the queue again.
    space: Notify,
    /// If messages are compressed.
    deflate: Option<Box<Outbound>>,
}

#[derive(Default)]
struct Queue {
    writer: Writer,
    /// Nothing more is accepted.
    closed: bool,
    /// Somebody found it full since there was last room.
    waited: bool,
    /// What else is asked of the driver. Boxed: most of the time it is nothing.
    requests: Option<Box<Requests>>,
    /// For those who wait until it is closed. Most connections have none.
    ended: Option<Arc<Notify>>,
    /// What was accepted since the beginning.
    sent: Traffic,
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
}

/// How much waits to be written, of what was accepted from the application. See
/// [`Sender::queued`](super::Sender::queued).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    messages: usize,
    bytes: usize,
}

/// Why the queue does not take a message.
enum Refused {
    Closed,
    Full,
}

impl Outbox {
    pub(super) fn new(config: Arc<Config>, deflate: Option<OutboundTerms>) -> Self {
        Self {
            config,
            queue: Mutex::default(),
            space: Notify::new(),
            deflate: deflate.map(|terms| Box::new(Outbound::new(terms))),
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
        queue.sent.add(message.len());
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
            if queue.closed {
                return Err(Refused::Closed);
            }
            match compressed {
                Some(compressed) => queue.writer.push_compressed(&message, &compressed),
                None => queue.writer.push(&message),
            }
            queue.sent.add(message.len());
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
        if queue.closed {
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
        if queue.closed {
            return false;
        }
        queue.requests().ping = Some(payload);
        true
    }

    /// The server goes down.
    pub(super) fn leave(&self, frame: CloseFrame) {
        self.lock().requests().leave = Some(frame);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits until nothing more is accepted.
    pub(super) async fn closed(&self) {
        let ended = {
            let mut queue = self.lock();
            if queue.closed {
                return;
            }
            queue.ended.get_or_insert_default().clone()
        };
        let mut notified = pin!(ended.notified());
        // Registered before the look, so that the end is not missed.
        notified.as_mut().enable();
        if !self.is_closed() {
            notified.await;
        }
    }

    pub(super) fn queued(&self) -> Queued {
        self.sent().1
    }

    /// What was accepted since the beginning, and what of it waits.
    pub(super) fn sent(&self) -> (Traffic, Queued) {
        let queue = self.lock();
        let load = queue.writer.load();
        let queued = Queued {
            messages: load.messages,
            bytes: load.payload(),
        };
        (queue.sent, queued)
    }

    // ---- for the driver

    /// Lets `session` fill `batch` from the queue.
    #[inline]
    pub(super) fn fill(&self, session: &mut Session, batch: &mut Batch) -> Filled {
        let mut queue = self.lock();
        // Under this lock, so that no message is accepted behind our Close frame.
        queue.closed |= !session.is_sendable();
        let before = queue.writer.load();
        session.poll_output(&mut queue.writer, batch);
        let after = queue.writer.load();
        let taken = (
            before.messages - after.messages,
            before.payload() - after.payload(),
        );
        let more = !queue.writer.is_empty();
        let room = queue.waited && !batch.is_empty();
        if room {
            queue.waited = false;
            drop(queue);
            self.space.notify_one();
        } else {
            drop(queue);
        }
        // Not under the lock: a recorder is the application's.
        if taken.0 > 0 {
            measure::sent(taken.0, taken.1);
        }
        Filled { more, room }
    }

    /// Accepts nothing more; with `discard`, what is waiting is dropped too.
    pub(super) fn end(&self, discard: bool) {
        let mut queue = self.lock();
        let discarded = discard.then(|| std::mem::take(&mut queue.writer));
        self.close_with(queue);
        // Not under the lock: see `try_send`.
        drop(discarded);
    }

    /// Nothing more will be compressed either.
    pub(super) fn forget(&self) {
        if let Some(deflate) = &self.deflate {
            deflate.end();
        }
    }

    pub(super) fn take_requests(&self) -> Option<Box<Requests>> {
        self.lock().requests.take()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().writer.is_empty()
    }

    // ---- inside

    fn close_with(&self, mut queue: MutexGuard<'_, Queue>) {
        queue.closed = true;
        let ended = queue.ended.take();
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

    fn requests(&mut self) -> &mut Requests {
        self.requests.get_or_insert_default()
    }
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
