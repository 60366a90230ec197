//! [`Connections`]: the live connections of a layer.

use std::fmt;
use std::sync::Arc;

use super::connection::LiveConnection;
use crate::close::CloseCode;
use crate::connection::{ConnectionId, Link};
use crate::error::CloseError;
use crate::shutdown::{Member, SHARDS, Shutdown};

/// The live connections of a layer and of all that share its [`Shutdown`], for those who are on call:
/// how many there are, who is slow, which one it is, and close that one.
///
/// [`WebSocketLayer::connections`](crate::WebSocketLayer::connections) gives it; clones see the same.
/// The list is the one that a drain works through, in 16 shards, of which one is locked at a time and
/// only to copy it; [`count`](Self::count) takes no lock. A connection that opens or ends
/// meanwhile may or may not be seen.
///
/// ```
/// use tower_websocket::{CloseCode, WebSocketHandler, WebSocketLayer};
/// # #[derive(Clone)] struct Chat;
/// # impl WebSocketHandler for Chat {}
///
/// let layer = WebSocketLayer::new("/chat", Chat);
/// let connections = layer.connections();
///
/// // Who does not read what is sent?
/// let slow = connections.iter().filter(|one| one.queued().bytes() > 500_000);
/// for one in slow {
///     println!("{} {:?} {:?}", one.id(), one.client_ip(), one.round_trip());
/// }
/// // Everybody in one room has to come back.
/// let closed = connections.close_matching(
///     |one| one.path() == "/rooms/7",
///     CloseCode::SERVICE_RESTART,
///     "this room moves",
/// )?;
/// assert_eq!(closed, 0);
/// # Ok::<_, tower_websocket::CloseError>(())
/// ```
#[derive(Clone)]
pub struct Connections {
    shutdown: Shutdown,
}

impl Connections {
    pub(crate) fn new(shutdown: &Shutdown) -> Self {
        Self {
            shutdown: shutdown.clone(),
        }
    }

    /// How many are open, or being opened, right now; those too that are not listed because
    /// `track_connections` is off.
    pub fn count(&self) -> usize {
        self.shutdown.connections()
    }

    /// All that are open, a shard at a time: at most a sixteenth of them is copied at once, 8 bytes
    /// each. Their order says nothing.
    pub fn iter(&self) -> impl Iterator<Item = LiveConnection> + Send + use<> {
        let shutdown = self.shutdown.clone();
        (0..SHARDS).flat_map(move |shard| shutdown.members(shard).into_iter().filter_map(listed))
    }

    /// The one of that id, if it is open. A sixteenth of all connections is looked through for it: to send to
    /// connections one by one, keep a [`Sender`](crate::Sender) of each.
    pub fn get(&self, id: ConnectionId) -> Option<LiveConnection> {
        self.shutdown.member(id.as_u64()).and_then(listed)
    }

    /// The one whose id has that [number](ConnectionId::as_u64), as a log or a page shows it.
    pub fn get_by_number(&self, id: u64) -> Option<LiveConnection> {
        self.shutdown.member(id).and_then(listed)
    }

    /// Closes one, see [`LiveConnection::close`].
    ///
    /// # Errors
    ///
    /// The code must not be sent, the reason is longer than 123 bytes, or there is no open connection
    /// of that id.
    pub fn close(&self, id: ConnectionId, code: CloseCode, reason: &str) -> Result<(), CloseError> {
        let frame = CloseError::check(code, reason)?;
        let closed = self.get(id).is_some_and(|one| one.close_with(frame));
        closed.then_some(()).ok_or(CloseError::Closed)
    }

    /// Closes all that `predicate` is true for, and tells how many those were. They are closed at
    /// once; to spread the end of all connections over time, use [`Shutdown::drain`].
    ///
    /// # Errors
    ///
    /// The code must not be sent, or the reason is longer than 123 bytes; nothing is closed then.
    pub fn close_matching(
        &self,
        mut predicate: impl FnMut(&LiveConnection) -> bool,
        code: CloseCode,
        reason: &str,
    ) -> Result<usize, CloseError> {
        let frame = CloseError::check(code, reason)?;
        let matching = self.iter().filter(|one| predicate(one));
        Ok(matching.filter(|one| one.close_with(frame.clone())).count())
    }

    /// All that are open, as data. Needs the feature `json`. About 300 bytes each.
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub fn snapshot(&self) -> Vec<super::ConnectionSnapshot> {
        self.iter().map(|one| one.snapshot()).collect()
    }

    /// The [`Shutdown`] whose connections these are.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }
}

fn listed(member: Arc<dyn Member>) -> Option<LiveConnection> {
    let link = member.into_any().downcast::<Link>().ok()?;
    link.is_listed().then(|| LiveConnection::new(link))
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}
