//! [`Admission`]: whether there is room for a connection, and what it needs of its surroundings.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, StatusCode, Version, header};
use tokio::runtime;

use super::guard::Ticket;
use super::limit::{LimitReached, Permit};
use super::options::Options;
use crate::driver::{Source, Upgrade};
use crate::handshake::{self, Rejection};
use crate::jitter;
use crate::logging::Throttle;
use crate::measure;

/// What a handshake needs of its surroundings to be accepted.
pub(super) struct Admission {
    pub(super) parts: Parts,
    pub(super) upgrade: Source,
    /// Of a guard around the stack.
    pub(super) ticket: Option<Ticket>,
    pub(super) runtime: runtime::Handle,
    pub(super) peer: Option<SocketAddr>,
    pub(super) client: Option<IpAddr>,
    pub(super) permit: Option<Box<Permit>>,
}

impl Admission {
    /// Of a request from a server that can hand over its stream.
    pub(super) fn new(options: &Options, parts: Parts) -> Result<Self, Rejection> {
        Self::with(options, parts, |parts| {
            Source::take(&mut parts.extensions).ok_or_else(no_upgrade)
        })
    }

    /// Of a request whose handshake somebody else has answered.
    pub(super) fn accepted(
        options: &Options,
        parts: Parts,
        upgrade: Upgrade,
    ) -> Result<Self, Rejection> {
        Self::with(options, parts, |_| Ok(Source::Own(upgrade)))
    }

    fn with(
        options: &Options,
        mut parts: Parts,
        source: impl FnOnce(&mut Parts) -> Result<Source, Rejection>,
    ) -> Result<Self, Rejection> {
        if options.shutdown.is_draining() {
            return Err(draining(parts.version <= Version::HTTP_11));
        }
        let peer = options.peer.find(&parts);
        if peer.is_none() {
            let per_ip = options.limit.most_per_ip().is_some();
            match (per_ip, options.proxies.is_some()) {
                (true, true) => options
                    .peer
                    .report_missing("`max_connections_per_ip` and `trusted_proxies`"),
                (true, false) => options.peer.report_missing("`max_connections_per_ip`"),
                (false, true) => options.peer.report_missing("`trusted_proxies`"),
                (false, false) => {}
            }
        }
        let client = peer
            .zip(options.proxies.as_ref())
            .map(|(peer, proxies)| proxies.client(peer.ip(), &parts.headers));
        let address = client.or(peer.map(|peer| peer.ip()));
        let permit = options.limit.enter(address).map_err(|reached| {
            let (status, text, reason) = match reached {
                LimitReached::InAll => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "too many WebSocket connections, try again later",
                    "limit",
                ),
                LimitReached::OfThisClient => (
                    StatusCode::TOO_MANY_REQUESTS,
                    "too many WebSocket connections from your address",
                    "client_limit",
                ),
            };
            measure::refused(reason);
            try_later(Rejection::new(status, text))
        })?;
        let upgrade = source(&mut parts)?;
        let runtime = runtime::Handle::try_current().map_err(|_| no_runtime())?;
        let ticket = parts.extensions.remove::<Ticket>();
        handshake::join_cookies(&mut parts);
        Ok(Self {
            parts,
            upgrade,
            ticket,
            runtime,
            peer,
            client,
            permit,
        })
    }
}

fn no_upgrade() -> Rejection {
    static LINES: Throttle = Throttle::new();
    if let Some(missed) = LINES.pass() {
        tracing::error!(
            missed,
            "a WebSocket handshake came without an upgrade of hyper's and without a \
             `tower_websocket::Upgrade` in its extensions: the server is not hyper and \
             inserts none, or another layer took it"
        );
    }
    measure::refused("server");
    Rejection::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "this server cannot upgrade connections",
    )
}

fn no_runtime() -> Rejection {
    static LINES: Throttle = Throttle::new();
    if let Some(missed) = LINES.pass() {
        tracing::error!(missed, "a WebSocket handshake came outside a tokio runtime");
    }
    measure::refused("server");
    Rejection::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "this server cannot run connections",
    )
}

/// In 5 to 10 s, so that those who are refused together do not come back together.
fn try_later(rejection: Rejection) -> Rejection {
    let seconds = 5 + jitter::up_to(Duration::from_secs(5)).as_secs();
    rejection.with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
}

pub(super) fn draining(http1: bool) -> Rejection {
    measure::refused("draining");
    let rejection = try_later(Rejection::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "the server is going down",
    ));
    if http1 {
        rejection.with_header(header::CONNECTION, HeaderValue::from_static("close"))
    } else {
        rejection
    }
}
