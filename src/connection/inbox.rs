//! [`Inbox`]: what waits for the application: messages that arrived while a callback was running, and
//! events of its own.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::event::{Event, NotifyError};
use super::pong::{Pong, Pongs, Waiting};
use crate::config::{EVENTS, MESSAGE_OVERHEAD, READ_AHEAD};
use crate::error::Error;
use crate::message::Message;
use crate::sync::{Mutex, MutexGuard};

/// What the next callback is for.
#[derive(Debug)]
pub(crate) enum Item {
    Message(Message),
    Event(Event),
}

/// See the module docs. Empty, it owns no memory beside itself.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ended: bool,
    /// Boxed: most connections have nothing in it most of the time.
    contents: Option<Box<Contents>>,
}

#[derive(Debug, Default)]
struct Contents {
    /// In the order in which they came.
    items: VecDeque<Item>,
    /// Payload and overhead of the messages.
    bytes: usize,
    events: usize,
    failure: Option<Error>,
    /// Of a `recv` that waits.
    message: Option<Waker>,
    /// Of a `recv_event` that waits.
    event: Option<Waker>,
    pongs: Pongs,
    /// Somebody has waited, and will again: the box stays, so that not each message makes one.
    stays: bool,
}

impl Inbox {
    /// Puts a message behind all that waits. Gives the waker of a `recv` that waits.
    pub(crate) fn deliver(&self, message: Message) -> Option<Waker> {
        let mut state = self.lock();
        let contents = state.contents();
        contents.bytes += message.len() + MESSAGE_OVERHEAD;
        contents.items.push_back(Item::Message(message));
        contents.message.take()
    }

    /// Puts an event behind all that waits. Gives the waker of a `recv_event` that waits.
    pub(crate) fn notify<T: Any + Send>(&self, event: T) -> Result<Option<Waker>, NotifyError<T>> {
        let mut state = self.lock();
        if state.ended {
            return Err(NotifyError::Closed(event));
        }
        let contents = state.contents();
        if contents.events >= EVENTS {
            return Err(NotifyError::Full(event));
        }
        contents.events += 1;
        contents.items.push_back(Item::Event(Event::new(event)));
        Ok(contents.event.take())
    }

    /// The first of all that waits.
    pub(crate) fn pop(&self) -> Option<Item> {
        self.lock().take(|_| true)
    }

    /// The next message for a `recv`. Whether there is room again in an inbox that was full.
    pub(crate) fn poll_message(
        &self,
        cx: &Context<'_>,
    ) -> (Poll<Result<Option<Message>, Error>>, bool) {
        let mut state = self.lock();
        let was_full = state.is_full();
        if let Some(Item::Message(message)) = state.take(|item| matches!(item, Item::Message(_))) {
            return (Poll::Ready(Ok(Some(message))), was_full);
        }
        let poll = state.poll_end(cx, |contents| &mut contents.message);
        (poll.map_ok(|()| None), false)
    }

    /// The next event for a `recv_event`; `None` behind the last one.
    pub(crate) fn poll_event(&self, cx: &Context<'_>) -> Poll<Option<Event>> {
        let mut state = self.lock();
        if let Some(Item::Event(event)) = state.take(|item| matches!(item, Item::Event(_))) {
            return Poll::Ready(Some(event));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.wait(cx, |contents| &mut contents.event);
        Poll::Pending
    }

    /// The answer to a ping that is about to be sent.
    pub(crate) fn expect_pong(&self, payload: Bytes) -> Pong {
        let mut state = self.lock();
        if state.ended {
            return Pong::never();
        }
        let contents = state.contents();
        contents.stays = true;
        let (pong, gone) = contents.pongs.expect(payload);
        // Those who waited are woken with no lock held.
        drop(state);
        drop(gone);
        pong
    }

    /// A pong has arrived.
    pub(crate) fn ponged(&self, payload: &[u8]) {
        let answered = match &mut self.lock().contents {
            Some(contents) => contents.pongs.arrived(payload),
            None => return,
        };
        answered.into_iter().for_each(Waiting::answer);
    }

    /// Whether reading ahead has to stop.
    pub(crate) fn is_full(&self) -> bool {
        self.lock().is_full()
    }

    /// How much waits for the application.
    pub(crate) fn len(&self) -> usize {
        let state = self.lock();
        state.contents.as_ref().map_or(0, |all| all.items.len())
    }

    /// Nothing will follow what is there; with `discard`, that is dropped too. Gives the wakers of
    /// those who wait.
    pub(crate) fn end(&self, failure: Option<Error>, discard: bool) -> [Option<Waker>; 2] {
        let mut state = self.lock();
        if !state.ended {
            state.ended = true;
            if failure.is_some() {
                state.contents().failure = failure;
            }
        }
        let Some(mut contents) = state.contents.take() else {
            return [None, None];
        };
        let pongs = std::mem::take(&mut contents.pongs);
        let wakers = [contents.message.take(), contents.event.take()];
        let discarded = if discard {
            (contents.bytes, contents.events) = (0, 0);
            std::mem::take(&mut contents.items)
        } else {
            VecDeque::new()
        };
        contents.stays = false;
        state.contents = Some(contents).filter(|contents| !contents.is_empty());
        drop(state);
        // Events are the application's: dropping one may do anything, so no lock is held.
        drop((discarded, pongs));
        wakers
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    #[inline]
    fn contents(&mut self) -> &mut Contents {
        self.contents.get_or_insert_default()
    }

    fn is_full(&self) -> bool {
        let contents = self.contents.as_ref();
        contents.is_some_and(|contents| contents.bytes >= READ_AHEAD)
    }

    /// Takes the first item of a kind.
    fn take(&mut self, is_wanted: impl Fn(&Item) -> bool) -> Option<Item> {
        let contents = self.contents.as_mut()?;
        let at = contents.items.iter().position(is_wanted)?;
        let item = contents.items.remove(at)?;
        match &item {
            Item::Message(message) => contents.bytes -= message.len() + MESSAGE_OVERHEAD,
            Item::Event(_) => contents.events -= 1,
        }
        if contents.items.is_empty() {
            // Nothing is held while a connection is quiet.
            contents.items = VecDeque::new();
            if contents.is_empty() {
                self.contents = None;
            }
        }
        Some(item)
    }

    /// The failure once, then the end.
    fn poll_end(
        &mut self,
        cx: &Context<'_>,
        slot: impl FnOnce(&mut Contents) -> &mut Option<Waker>,
    ) -> Poll<Result<(), Error>> {
        let contents = self.contents.as_mut();
        if let Some(failure) = contents.and_then(|contents| contents.failure.take()) {
            return Poll::Ready(Err(failure));
        }
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        self.wait(cx, slot);
        Poll::Pending
    }

    fn wait(&mut self, cx: &Context<'_>, slot: impl FnOnce(&mut Contents) -> &mut Option<Waker>) {
        let contents = self.contents();
        contents.stays = true;
        match slot(contents) {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }
}

impl Contents {
    /// Whether nothing is worth the box.
    fn is_empty(&self) -> bool {
        !self.stays && self.items.is_empty() && self.failure.is_none()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;
    use crate::protocol::Failure;

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    /// The text of the next message.
    fn message(inbox: &Inbox) -> Poll<Option<String>> {
        let (poll, _) = inbox.poll_message(&cx());
        poll.map(|received| {
            let message = received.expect("no failure")?;
            message.as_text().map(str::to_owned)
        })
    }

    /// The number that the next event is.
    fn event(inbox: &Inbox) -> Poll<Option<u32>> {
        let poll = inbox.poll_event(&cx());
        poll.map(|event| event?.downcast().ok())
    }

    #[test]
    fn callbacks_get_messages_and_events_in_the_order_in_which_they_came() {
        let inbox = Inbox::default();
        inbox.deliver("a".into());
        inbox.notify(1_u32).unwrap();
        inbox.deliver("b".into());
        assert_eq!(inbox.len(), 3);
        let mut kinds = Vec::new();
        while let Some(item) = inbox.pop() {
            kinds.push(match item {
                Item::Message(message) => message.as_text().unwrap().to_owned(),
                Item::Event(event) => event.downcast::<u32>().unwrap().to_string(),
            });
        }
        assert_eq!(kinds, ["a", "1", "b"]);
        assert!(inbox.lock().contents.is_none());
    }

    #[test]
    fn those_who_pull_get_each_kind_in_its_order_and_the_end_behind_it() {
        let inbox = Inbox::default();
        assert!(message(&inbox).is_pending() && event(&inbox).is_pending());
        inbox.notify(1_u32).unwrap();
        assert!(inbox.deliver("a".into()).is_some());
        inbox.notify(2_u32).unwrap();
        assert_eq!(message(&inbox), Poll::Ready(Some("a".to_owned())));
        assert_eq!(event(&inbox), Poll::Ready(Some(1)));
        assert!(message(&inbox).is_pending());
        let [message_waits, event_waits] = inbox.end(None, false);
        assert!(message_waits.is_some() && event_waits.is_none());
        assert_eq!(event(&inbox), Poll::Ready(Some(2)));
        assert_eq!(
            (message(&inbox), event(&inbox)),
            (Poll::Ready(None), Poll::Ready(None))
        );
    }

    #[test]
    fn an_application_that_pulls_keeps_the_room_for_it_until_the_end() {
        let inbox = Inbox::default();
        assert_eq!(size_of::<Inbox>(), 24);
        assert!(message(&inbox).is_pending());
        inbox.deliver("a".into());
        assert_eq!(message(&inbox), Poll::Ready(Some("a".to_owned())));
        let capacity = |inbox: &Inbox| Some(inbox.lock().contents.as_ref()?.items.capacity());
        assert_eq!(capacity(&inbox), Some(0));
        inbox.end(None, false);
        assert_eq!(capacity(&inbox), None);
    }

    /// Looks into the inbox when it is woken.
    struct Curious(Arc<Inbox>);

    impl Wake for Curious {
        fn wake(self: Arc<Self>) {
            self.0.len();
        }
    }

    #[test]
    fn s9_no_lock_is_held_while_those_who_wait_for_a_pong_are_woken() {
        let inbox = Arc::<Inbox>::default();
        let waker = Waker::from(Arc::new(Curious(inbox.clone())));
        let cx = &mut Context::from_waker(&waker);
        let mut answered = inbox.expect_pong("a".into());
        assert!(Pin::new(&mut answered).poll(cx).is_pending());
        inbox.ponged(b"a");
        assert!(Pin::new(&mut answered).poll(cx).is_ready());
        // One too many takes the place of the first.
        let mut pongs: Vec<_> = (0..17)
            .map(|_| {
                let mut pong = inbox.expect_pong("b".into());
                let is_pending = Pin::new(&mut pong).poll(cx).is_pending();
                (pong, is_pending)
            })
            .collect();
        assert!(pongs.iter().all(|(_, is_pending)| *is_pending));
        assert_eq!(Pin::new(&mut pongs[0].0).poll(cx), Poll::Ready(None));
        inbox.end(None, true);
        assert_eq!(Pin::new(&mut pongs[16].0).poll(cx), Poll::Ready(None));
    }

    #[test]
    fn reading_ahead_stops_at_64_kib_and_events_have_places_of_their_own() {
        let inbox = Inbox::default();
        for _ in 0..READ_AHEAD / (936 + MESSAGE_OVERHEAD) + 1 {
            assert!(!inbox.is_full());
            inbox.deliver(vec![0; 936].into());
        }
        assert!(inbox.is_full());
        for i in 0..EVENTS {
            assert!(inbox.notify(i).is_ok());
        }
        assert_eq!(inbox.notify(7_u8).unwrap_err(), NotifyError::Full(7));
        let (_, made_room) = inbox.poll_message(&cx());
        assert!(made_room && !inbox.is_full());
        let (_, made_room) = inbox.poll_message(&cx());
        assert!(!made_room);
    }

    #[test]
    fn what_went_wrong_is_told_once_behind_the_messages_and_nothing_enters_any_more() {
        let inbox = Inbox::default();
        inbox.deliver("a".into());
        let failure = Failure::Io(std::io::ErrorKind::BrokenPipe.into()).into();
        inbox.end(Some(failure), false);
        // The driver ends it once more when it is gone.
        inbox.end(None, false);
        assert_eq!(message(&inbox), Poll::Ready(Some("a".to_owned())));
        assert!(matches!(inbox.poll_message(&cx()).0, Poll::Ready(Err(_))));
        assert_eq!(message(&inbox), Poll::Ready(None));
        assert_eq!(inbox.notify(1_u32).unwrap_err(), NotifyError::Closed(1));
    }

    #[test]
    fn s9_what_nobody_will_take_is_not_kept() {
        let inbox = Inbox::default();
        inbox.deliver(vec![0; 1000].into());
        inbox.notify(1_u32).unwrap();
        inbox.end(None, true);
        assert!(inbox.lock().contents.is_none());
    }
}
