//! [`Reads`]: topics whose logs are to be read, in the order in which that was found out.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, PoisonError};
use std::task::{Poll, Waker};

use super::shelf::Shelf;
use crate::sync::{Mutex, MutexGuard};
use crate::topics::room::Room;

/// See the module docs. A topic is in it once, so there are no more than topics.
#[derive(Default)]
pub(super) struct Reads {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rooms: VecDeque<Arc<Room>>,
    /// Who waits for the next.
    reader: Option<Waker>,
    is_closed: bool,
}

impl Reads {
    /// A log is to be read, unless it waits for that already.
    pub(super) fn push(&self, room: &Arc<Room>) {
        let reader = {
            let mut state = self.state();
            if state.is_closed || !room.shelf().is_some_and(Shelf::queue_read) {
                return;
            }
            state.rooms.push_back(room.clone());
            state.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The next topic. `None`: it is closed.
    pub(super) async fn next(&self) -> Option<Arc<Room>> {
        poll_fn(|cx| {
            let mut state = self.state();
            if state.is_closed {
                return Poll::Ready(None);
            }
            if let Some(room) = state.rooms.pop_front() {
                return Poll::Ready(Some(room));
            }
            state.reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Nothing is to be read any more.
    pub(super) fn close(&self) {
        let (rooms, reader) = {
            let mut state = self.state();
            state.is_closed = true;
            (std::mem::take(&mut state.rooms), state.reader.take())
        };
        drop(rooms);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
