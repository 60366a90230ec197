//! [`Receiver`]: a connection, as topics see it.

use super::backlog::Keep;
use crate::close::CloseFrame;
use crate::protocol::Framed;

/// What gets messages of topics. Nothing here wakes anybody or calls the application: that is done
/// by [`wake`](Self::wake) and [`show`](Self::show), when no lock is held.
pub(crate) trait Receiver: Send + Sync {
    /// The number of the connection, which is not 0.
    fn id(&self) -> u64;

    /// Puts a message into the queue if there is room.
    fn offer(&self, frame: &Framed, how: How) -> Offered;

    /// Wakes the driver, if [`offer`](Self::offer) found that it has to be woken.
    fn wake(&self);

    /// Logs a message that was offered.
    fn show(&self, frame: &Framed);

    /// `false`: it was closed before.
    fn close(&self, frame: CloseFrame) -> bool;
}

/// How a message is offered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    /// It is new. If there is no room, `keep` may have it wait, or `behind` asks for a
    /// [`refill`](super::Subscriptions::refill) when there is.
    New { keep: Option<Keep>, behind: bool },
    /// It comes from a log, in a refill: some of the room is left to others.
    Refill,
    /// It is taken without room.
    Greeting,
}

#[derive(Debug)]
pub(crate) struct Offered {
    pub(crate) taken: Taken,
    /// The driver sleeps, and has to be woken.
    pub(crate) wake: bool,
    /// The wire is logged.
    pub(crate) show: bool,
}

/// What became of a message that was offered.
#[derive(Debug)]
pub(crate) enum Taken {
    Queued,
    /// It waits beside the queue. With what was dropped for it.
    Waits(Option<Framed>),
    /// There is no room.
    Full,
    /// Nothing more is sent.
    Closed,
}
