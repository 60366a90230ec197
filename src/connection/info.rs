//! [`Info`]: the properties that are fixed when a connection opens. [`ConnectionId`] identifies
//! it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::request::StoredRequest;

/// Names a connection for as long as the process lives; in logs and as a key of maps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// What does not change about a connection.
pub(crate) struct Info {
    pub(crate) id: ConnectionId,
    /// With the peer's address.
    pub(crate) request: StoredRequest,
    /// Of the layer.
    pub(crate) mount: Arc<String>,
    pub(crate) names: Names,
    /// Boxed: most connections have none of it.
    pub(crate) seldom: Option<Box<Seldom>>,
}

/// The part of the request's path behind the mount, and the subprotocol: behind a space, which neither
/// may have.
pub(crate) struct Names(Box<str>);

/// What few connections have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seldom {
    /// Who is behind the peer, if that is a trusted proxy.
    pub(crate) client: Option<IpAddr>,
    /// How long the application lets it live.
    pub(crate) lifetime: Option<Duration>,
}

impl Seldom {
    /// `None` if there is nothing to keep.
    pub(crate) fn new(client: Option<IpAddr>, lifetime: Option<Duration>) -> Option<Box<Self>> {
        let is_needed = client.is_some() || lifetime.is_some();
        is_needed.then(|| Box::new(Self { client, lifetime }))
    }
}

impl Names {
    pub(crate) fn new(path: Box<str>, protocol: Option<&str>) -> Self {
        Self(match protocol {
            None => path,
            Some(protocol) => [&path, " ", protocol].concat().into_boxed_str(),
        })
    }

    fn split(&self) -> (&str, Option<&str>) {
        match self.0.split_once(' ') {
            Some((path, protocol)) => (path, Some(protocol)),
            None => (&self.0, None),
        }
    }
}

impl Info {
    /// Of a connection that came without a request.
    #[cfg(any(tower_websocket_fuzzing, test))]
    pub(crate) fn of_nobody() -> Self {
        Self {
            id: ConnectionId::next(),
            request: StoredRequest::nothing(),
            mount: Arc::default(),
            names: Names::new("".into(), None),
            seldom: None,
        }
    }

    /// The part of the request's path behind the mount.
    pub(crate) fn path(&self) -> &str {
        self.names.split().0
    }

    pub(crate) fn protocol(&self) -> Option<&str> {
        self.names.split().1
    }

    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.request.peer()
    }

    /// The client's address: of the peer, or what a trusted proxy says.
    pub(crate) fn client(&self) -> Option<IpAddr> {
        let behind = self.seldom.as_ref().and_then(|seldom| seldom.client);
        behind.or_else(|| Some(self.peer()?.ip().to_canonical()))
    }

    /// How long the application lets it live.
    pub(crate) fn lifetime(&self) -> Option<Duration> {
        self.seldom.as_ref()?.lifetime
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
            .field("path", &self.path())
            .field("protocol", &self.protocol())
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn path_and_subprotocol_are_told_apart() {
        for path in ["", "/room/%20x"] {
            for protocol in [None, Some("chat.v2")] {
                let names = Names::new(path.into(), protocol);
                assert_eq!(names.split(), (path, protocol));
            }
        }
    }

    #[test]
    fn the_properties_of_a_connection_have_80_bytes() {
        assert_eq!(size_of::<Info>(), 80);
    }
}
