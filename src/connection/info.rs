//! [`Info`]: the properties that are fixed when a connection opens. [`ConnectionId`] identifies
//! it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::request::StoredRequest;

/// Names a connection for as long as the process lives; in logs and as a key of maps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// What does not change about a connection.
pub(crate) struct Info {
    pub(crate) id: ConnectionId,
    pub(crate) request: StoredRequest,
    pub(crate) mount: Arc<str>,
    /// The part of the request's path behind the mount.
    pub(crate) path: Box<str>,
    pub(crate) protocol: Option<Box<str>>,
    pub(crate) peer: Option<SocketAddr>,
    /// Who is behind the peer, if that is a trusted proxy.
    pub(crate) client: Option<Box<IpAddr>>,
}

impl Info {
    /// Of a connection that came without a request.
    #[cfg(any(tower_websocket_fuzzing, test))]
    pub(crate) fn of_nobody() -> Self {
        Self {
            id: ConnectionId::next(),
            request: StoredRequest::nothing(),
            mount: "".into(),
            path: "".into(),
            protocol: None,
            peer: None,
            client: None,
        }
    }
}

impl ConnectionId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The number, for logs.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionId({})", self.0)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id)
            .field("mount", &self.mount)
            .field("path", &self.path)
            .field("protocol", &self.protocol)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
