//! [`LiveConnection`]: one connection, seen from outside.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::Version;

use crate::close::{CloseCode, CloseFrame};
use crate::connection::{ConnectionId, Link, Queued, Sender, Traffic};
use crate::error::CloseError;
use crate::shutdown::Member;

/// A connection as those who run the server see it; [`Connections`](super::Connections) has all of
/// them.
///
/// It is a handle: its numbers are those of the moment when they are asked for, and it may outlive
/// its connection, whose last numbers it then shows. Its numbers cost the connection nothing but a
/// short look at the lock of its queue.
///
/// Of a connection of `WebSocketLayer::stream` the traffic is not known: its protocol is
/// tungstenite's.
#[derive(Clone)]
pub struct LiveConnection {
    link: Arc<Link>,
}

impl LiveConnection {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link }
    }

    /// Names the connection, in the log too.
    pub fn id(&self) -> ConnectionId {
        self.link.info.id
    }

    /// Where the layer is mounted; empty for a route.
    pub fn mount(&self) -> &str {
        &self.link.info.mount
    }

    /// The part of the request's path behind the mount. The client has chosen it: escape it where it
    /// is shown.
    pub fn path(&self) -> &str {
        self.link.info.path()
    }

    /// The address of the peer, if it is known.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.link.info.peer()
    }

    /// Who is behind the peer, if that is a trusted proxy; otherwise the address of the peer.
    pub fn client_ip(&self) -> Option<IpAddr> {
        let behind = self.link.info.seldom.as_ref().and_then(|info| info.client);
        behind.or(self.link.info.peer().map(|peer| peer.ip()))
    }

    /// The version of HTTP that it was opened with.
    pub fn version(&self) -> Version {
        self.link.info.request.version()
    }

    /// The subprotocol, if one was agreed.
    pub fn protocol(&self) -> Option<&str> {
        self.link.info.protocol()
    }

    /// Whether permessage-deflate was agreed.
    pub fn is_compressed(&self) -> bool {
        self.link.inbound().is_some()
    }

    /// How long it has been open, to 34 ms.
    pub fn age(&self) -> Duration {
        self.link.age()
    }

    /// How long no message came or went, to 34 ms. Heartbeats do not count.
    pub fn idle(&self) -> Duration {
        self.link.idle()
    }

    /// The messages that came.
    pub fn received(&self) -> Traffic {
        self.link.received()
    }

    /// The messages that were accepted to be sent, those in the queue included.
    pub fn sent(&self) -> Traffic {
        self.link.sent()
    }

    /// The messages and bytes that wait to be written: how far the peer is behind.
    pub fn queued(&self) -> Queued {
        self.link.queued()
    }

    /// Messages of topics that were dropped because the peer did not keep up, by the
    /// [`OnFull`](crate::OnFull) of all its subscriptions, those that have ended included. Nothing else is
    /// dropped: `send` waits, and `try_send` gives a message back.
    pub fn dropped(&self) -> u64 {
        self.link.dropped_in_all()
    }

    /// How many topics it subscribes.
    pub fn subscriptions(&self) -> usize {
        self.link.topic_names(0).0
    }

    /// The names of the topics that it subscribes, sorted; if there are more than `most`, any of them.
    /// They may have been chosen by the client: escape them where they are shown.
    pub fn topics(&self, most: usize) -> Vec<String> {
        self.link.topic_names(most).1
    }

    /// How long the peer took to answer the last heartbeat. `None` before the first answer, which
    /// comes after 20 s of silence by default.
    pub fn round_trip(&self) -> Option<Duration> {
        self.link.round_trip()
    }

    /// Whether nothing can be sent any more: it is closing, or closed.
    pub fn is_closed(&self) -> bool {
        self.link.is_closed()
    }

    /// A handle that sends to it.
    pub fn sender(&self) -> Sender {
        Sender::new(self.link.clone())
    }

    /// Closes it, as [`Connection::close`](crate::Connection::close): what is queued goes out before
    /// the Close frame. A connection of `WebSocketLayer::stream` is dropped without one.
    ///
    /// # Errors
    ///
    /// The code must not be sent, the reason is longer than 123 bytes, or the connection is closed.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), CloseError> {
        let frame = CloseError::check(code, reason)?;
        self.close_with(frame)
            .then_some(())
            .ok_or(CloseError::Closed)
    }

    /// Whether it was still open.
    pub(super) fn close_with(&self, frame: CloseFrame) -> bool {
        let was_open = self.link.close(frame);
        if was_open && !self.link.is_ours() {
            self.link.abort();
        }
        was_open
    }

    /// All of it as data. Needs the feature `json`.
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub fn snapshot(&self) -> ConnectionSnapshot {
        let queued = self.queued();
        let (subscriptions, topics) = self.link.topic_names(SHOWN_TOPICS);
        ConnectionSnapshot {
            id: self.id().as_u64(),
            mount: self.mount().to_owned(),
            path: self.path().to_owned(),
            peer: self.peer_addr(),
            client: self.client_ip(),
            http: format!("{:?}", self.version()),
            protocol: self.protocol().map(str::to_owned),
            compressed: self.is_compressed(),
            age_ms: millis(self.age()),
            idle_ms: millis(self.idle()),
            received: self.received(),
            sent: self.sent(),
            queued_messages: queued.messages(),
            queued_bytes: queued.bytes(),
            dropped: self.dropped(),
            subscriptions,
            topics,
            round_trip_us: self
                .round_trip()
                .map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        }
    }
}

/// A [`LiveConnection`] as data that serde can write. Needs the feature `json`.
#[cfg(feature = "json")]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct ConnectionSnapshot {
    /// [`ConnectionId::as_u64`].
    pub id: u64,
    /// Where the layer is mounted.
    pub mount: String,
    /// The path behind it, as the client asked for it.
    pub path: String,
    /// The address of the peer.
    pub peer: Option<SocketAddr>,
    /// Who is behind the peer.
    pub client: Option<IpAddr>,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub http: String,
    /// The subprotocol.
    pub protocol: Option<String>,
    /// permessage-deflate was agreed.
    pub compressed: bool,
    /// How long it has been open, in milliseconds.
    pub age_ms: u64,
    /// How long no message came or went, in milliseconds.
    pub idle_ms: u64,
    /// The messages that came.
    pub received: Traffic,
    /// The messages that were accepted to be sent.
    pub sent: Traffic,
    /// Messages that wait to be written.
    pub queued_messages: usize,
    /// Bytes that wait to be written.
    pub queued_bytes: usize,
    /// Messages of topics that were dropped.
    pub dropped: u64,
    /// How many topics it subscribes.
    pub subscriptions: usize,
    /// The names of at most 16 of them.
    pub topics: Vec<String>,
    /// The round trip of the last heartbeat, in microseconds.
    pub round_trip_us: Option<u64>,
}

/// A name has at most 256 bytes: 4 KiB of a snapshot.
#[cfg(feature = "json")]
const SHOWN_TOPICS: usize = 16;

#[cfg(feature = "json")]
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Debug for LiveConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveConnection")
            .field("info", &self.link.info)
            .field("age", &self.age())
            .field("received", &self.received())
            .field("sent", &self.sent())
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}
