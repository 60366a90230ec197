//! Every limit and timeout of a connection: default, unit, reason.
//!
//! Plain numbers, set by the builder methods of
//! [`WebSocketLayer`](crate::WebSocketLayer), where each is documented for users.

use std::time::Duration;

/// The limits and timeouts of one layer, shared by all of its connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// Largest message taken from a peer, in bytes of payload.
    ///
    /// 1 MiB: what Python's `websockets` allows; enough for most applications,
    /// small enough that a thousand hostile peers fit in a gigabyte.
    pub(crate) max_message: usize,
    /// Largest single frame taken from a peer, in bytes of payload; as `max_message`.
    pub(crate) max_frame: usize,
    /// Frames one message may consist of, empty ones counted; `None`: as many as
    /// [`fragments`](Self::fragments) makes of `max_message`.
    pub(crate) max_fragments: Option<u32>,
    /// Control frames a peer may send in one second.
    ///
    /// 50: a heartbeat needs one in many seconds; suites that test pings send ten at once.
    pub(crate) max_control_rate: u32,
    /// Messages a peer may send in one second, as many at once; off by default.
    ///
    /// It is off because a chat and a game differ by a factor of a thousand.
    pub(crate) max_message_rate: Option<u32>,
    /// Bytes a peer may send in one second, whatever they are; off by default.
    pub(crate) max_byte_rate: Option<u64>,
    /// Bytes that a peer's compressed messages may become in one second; off by default.
    pub(crate) max_inflated_rate: Option<u64>,
    /// The outgoing queue is full at this many messages.
    pub(crate) queue_messages: usize,
    /// The outgoing queue is full at this many bytes of payload.
    pub(crate) queue_bytes: usize,
    /// Silence after which a ping is sent; `None` sends none.
    ///
    /// 20 s: proxies and mobile networks drop silent connections after 30 to 60 s.
    pub(crate) heartbeat: Option<Duration>,
    /// How long the peer has to answer our ping; `None` waits forever.
    pub(crate) pong_timeout: Option<Duration>,
    /// Close a connection that sent no message for this long; off by default.
    pub(crate) idle_timeout: Option<Duration>,
    /// Close a connection that is older than this, less a random tenth; off by default.
    pub(crate) max_lifetime: Option<Duration>,
    /// How long `on_message` may take; off by default.
    pub(crate) on_message_timeout: Option<Duration>,
    /// A callback that takes longer is reported in the log; off by default, since it costs two looks at
    /// the clock for each.
    pub(crate) slow_callback: Option<Duration>,
    /// How long `on_upgrade` may take. The server then has as long again to hand over the socket.
    pub(crate) upgrade_timeout: Duration,
    /// A frame, a message or a write that has begun must be done in this time,
    /// plus one second for each KiB moved (as Apache's `mod_reqtimeout`).
    pub(crate) progress_timeout: Duration,
    /// How long the closing handshake, and then the drain of the socket, may take.
    pub(crate) close_timeout: Duration,
    /// Driver events at DEBUG instead of TRACE.
    pub(crate) debug: bool,
    /// Answer 426 to requests under the mount that are not a WebSocket handshake.
    pub(crate) require_upgrade: bool,
    /// Keep the request for `conn.request()`.
    pub(crate) keep_request: bool,
    /// List the connection for operators, and count what comes and goes.
    pub(crate) track_connections: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_message: 1024 * 1024,
            max_frame: 1024 * 1024,
            max_fragments: None,
            max_control_rate: 50,
            max_message_rate: None,
            max_byte_rate: None,
            max_inflated_rate: None,
            queue_messages: 128,
            queue_bytes: 1024 * 1024,
            heartbeat: Some(Duration::from_secs(20)),
            pong_timeout: Some(Duration::from_secs(20)),
            idle_timeout: None,
            max_lifetime: None,
            on_message_timeout: None,
            slow_callback: None,
            upgrade_timeout: Duration::from_secs(10),
            progress_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
            debug: false,
            require_upgrade: false,
            keep_request: true,
            track_connections: true,
        }
    }
}

impl Config {
    /// Frames that one message may consist of.
    ///
    /// By default the limit follows `max_message`, so that raising that is enough. Honest clients
    /// cut large messages into pieces of a fixed size, of 1 KiB (libwebsockets), 4 KiB
    /// (Boost.Beast) or, in test suites, 64 bytes.
    pub(crate) fn fragments(&self) -> u32 {
        self.max_fragments.unwrap_or_else(|| {
            let fragments = (self.max_message / BYTES_PER_FRAGMENT).max(MIN_FRAGMENTS);
            u32::try_from(fragments).unwrap_or(u32::MAX)
        })
    }
}

/// A message of the largest size may come in pieces of this many bytes.
const BYTES_PER_FRAGMENT: usize = 64;

/// Any message may come in this many pieces, because a stream in the client may flush at any time.
const MIN_FRAGMENTS: usize = 2048;

/// Messages decoded ahead of the application while one of its callbacks runs,
/// in bytes of payload and [`MESSAGE_OVERHEAD`]; then reading stops.
///
/// 64 KiB: as much as one read can bring.
pub(crate) const READ_AHEAD: usize = 64 * 1024;

/// How many bytes a queued message counts in addition to its payload.
pub(crate) const MESSAGE_OVERHEAD: usize = 64;

/// The most events of the application that may wait for its handler: as many as empty messages may
/// be read ahead.
pub(crate) const EVENTS: usize = READ_AHEAD / MESSAGE_OVERHEAD;

/// The read buffer of a thread, and the size of a batch of output. In measurements, reads of more
/// than 64 KiB gained nothing, and 64 KiB fit into a core's L2 cache.
pub(crate) const SCRATCH: usize = 64 * 1024;

/// Payloads from this size on are written by reference, smaller ones are copied
/// into one buffer with their neighbours.
pub(crate) const BY_REFERENCE: usize = 8 * 1024;

/// Pongs that wait for a blocked socket, in bytes on the wire; with no room for one more, reading
/// stops. As many again may be in the batch that is being written: 4 KiB together.
pub(crate) const CONTROL_QUEUE: usize = 2 * 1024;

/// Silence of a peer that has not sent its Close frame, after which our FIN follows our Close.
///
/// Proxies end both directions at the FIN of either, so a FIN at once would reset a peer that is
/// still sending, and some clients then never read our Close frame. 500 ms: a few round trips of a
/// mobile network. The peer's answer to our Close ends the wait, so a well-behaved client never
/// notices it.
pub(crate) const QUIET: Duration = Duration::from_millis(500);

/// How long a shutdown waits, beyond its deadline, for the connections that it drops there.
/// `on_error` and `on_close` of such a connection have half of it together: 1 s is short beside
/// any deadline, and long for what such a callback should do.
pub(crate) const FORCED: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// A table that no test reads becomes wrong.
    #[test]
    fn the_readme_states_the_defaults() {
        let c = Config::default();
        let size = |bytes: usize| format!("{} MiB", bytes / (1024 * 1024));
        let lines = [
            format!("| message and frame | {} |", size(c.max_message)),
            format!(
                "| fragments of a message | one for each {BYTES_PER_FRAGMENT} bytes of the largest \
                 message (16,384), at least {},{:03} |",
                MIN_FRAGMENTS / 1000,
                MIN_FRAGMENTS % 1000
            ),
            format!(
                "| control frames from a peer | {} a second |",
                c.max_control_rate
            ),
            format!(
                "| outgoing queue | {} messages or {} |",
                c.queue_messages,
                size(c.queue_bytes)
            ),
            format!(
                "| heartbeat | ping after {} s of silence, {} s to answer |",
                c.heartbeat.unwrap_or_default().as_secs(),
                c.pong_timeout.unwrap_or_default().as_secs()
            ),
            format!(
                "| `on_upgrade`, upgrade | {} s |",
                c.upgrade_timeout.as_secs()
            ),
            format!(
                "| progress of a message or a write | {} s, plus 1 s for each KiB |",
                c.progress_timeout.as_secs()
            ),
            format!("| close timeout | {} s |", c.close_timeout.as_secs()),
        ];
        let readme = include_str!("../README.md");
        for line in &lines {
            assert!(readme.contains(line), "{line}");
        }
        assert_eq!(c.fragments(), 16_384);
        assert_eq!(c.max_frame, c.max_message);
        let none = [
            c.max_message_rate.is_none(),
            c.max_byte_rate.is_none(),
            c.max_inflated_rate.is_none(),
        ];
        assert_eq!(none, [true; 3]);
        let none = [c.idle_timeout, c.max_lifetime, c.on_message_timeout];
        assert_eq!(none, [None; 3]);
    }
}
