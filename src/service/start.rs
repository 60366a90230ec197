//! [`start`]: the task of a connection whose handshake is answered, by us or by somebody else.

use std::borrow::Cow;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Version;
use http::request::Parts;
use pin_project_lite::pin_project;
use tokio::runtime;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::admission::{Admission, draining};
use super::limit::Permit;
use super::options::Options;
use crate::config::Config;
use crate::connection::{ConnectionId, Info, Link, Names, Seldom, StoredRequest};
use crate::driver::{Application, Opened, Pending, Socket, Upgrade};
use crate::handshake::Rejection;
use crate::logging::field;
use crate::measure;
use crate::protocol::Agreed;
use crate::shutdown::{Member, Tracked};
use crate::spawn::spawn;

/// What is known of a connection whose handshake is answered.
pub(super) struct Started {
    pub(super) request: Parts,
    /// As the request came, whatever the application did to it.
    pub(super) version: Version,
    pub(super) path: Box<str>,
    pub(super) protocol: Option<String>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) client: Option<IpAddr>,
    pub(super) lifetime: Option<Duration>,
    /// Compression.
    pub(super) agreed: Option<Agreed>,
    pub(super) pending: Pending,
    pub(super) permit: Option<Box<Permit>>,
}

/// Starts the connection's task. Fails if the server began to go down meanwhile.
pub(super) fn start<E: Application>(
    application: E,
    options: &Options,
    runtime: &runtime::Handle,
    started: Started,
) -> Result<(), Rejection> {
    let Started {
        request,
        version,
        path,
        protocol,
        peer,
        client,
        lifetime,
        agreed,
        pending,
        permit,
    } = started;
    let mount = options.mount.as_str().clone();
    let id = ConnectionId::next();
    let whole_path = if path.is_empty() {
        Cow::Borrowed(mount.as_str())
    } else {
        Cow::Owned([mount.as_str(), &path].concat())
    };
    // Names of OpenTelemetry where it has them. An address that says nothing new is left out.
    let who = client.or(peer.map(|peer| peer.ip().to_canonical()));
    let is_client = |peer: &SocketAddr| who == Some(peer.ip().to_canonical());
    let (direct, proxy) = (peer.filter(is_client), peer.filter(|peer| !is_client(peer)));
    let span = tracing::info_span!(
        "websocket",
        id = id.as_u64(),
        mount = options.mount.as_str().as_str(),
        url.path = &*field(&whole_path),
        client.address = who.map(tracing::field::display),
        client.port = direct.map(|peer| peer.port()),
        network.peer.address = proxy.map(|peer| tracing::field::display(peer.ip())),
        network.peer.port = proxy.map(|peer| peer.port()),
        http = ?version,
        protocol = protocol.as_deref().map(field).as_deref(),
        websocket.close.code = Empty,
        websocket.close.cause = Empty,
        error.type = Empty,
        otel.status_code = Empty,
    );
    let info = Info {
        id,
        request: if options.config.keep_request {
            StoredRequest::new(request, peer)
        } else {
            StoredRequest::nothing_but(version, peer)
        },
        mount,
        names: Names::new(path, protocol.as_deref()),
        seldom: Seldom::new(client, lifetime),
    };
    let config = options.config.clone();
    let mut link = Link::new(config.clone(), info, agreed, options.topics.clone());
    if !E::MESSAGES {
        link = link.of_another_protocol();
    }
    let link = Arc::new(link);
    // Before the task exists, so that a drain at this moment finds it.
    let member: Arc<dyn Member> = link.clone();
    let tracked = options
        .shutdown
        .track(id.as_u64(), Arc::downgrade(&member))
        .ok_or_else(|| draining(version <= Version::HTTP_11))?;
    let held = Guards { tracked, permit };
    let running = Running::Opening(Box::pin(open(application, pending, link, config, held)));
    // A span that nobody reads would be entered twice for every message.
    if span.is_disabled() {
        spawn(runtime, format_args!("websocket {id}"), running);
    } else {
        span.follows_from(Span::current());
        let running = running.instrument(span);
        spawn(runtime, format_args!("websocket {id}"), running);
    }
    Ok(())
}

/// Serves a stream whose handshake somebody else has answered.
pub(super) fn accept<E: Application>(
    application: E,
    options: &Options,
    path: Box<str>,
    protocol: Option<&str>,
    parts: Parts,
    io: Upgrade,
) -> Result<(), Rejection> {
    let admission = Admission::accepted(options, parts, io)?;
    let Admission {
        parts,
        upgrade,
        ticket: _,
        runtime,
        peer,
        client,
        permit,
    } = admission;
    let version = parts.version;
    let started = Started {
        request: parts,
        version,
        path,
        protocol: protocol.map(str::to_owned),
        peer,
        client,
        lifetime: None,
        agreed: None,
        pending: Pending::of_server(upgrade, version <= Version::HTTP_11),
        permit,
    };
    start(application, options, &runtime, started)
}

/// Held as long as the connection lives: it counts, for limits and for a drain.
struct Guards {
    tracked: Tracked,
    #[expect(dead_code, reason = "dropping it is what counts")]
    permit: Option<Box<Permit>>,
}

/// The task of a connection: two boxes, of which one is there at a time. tokio moves the future of a
/// task six times before it runs, and rounds what it keeps of it up to whole 128 bytes. So this is
/// small, and is written by hand because an `async` block would need 8 bytes more than there are.
enum Running<O, S> {
    Opening(Pin<Box<O>>),
    Serving(Pin<Box<S>>),
}

impl<O, S> Future for Running<O, S>
where
    O: Future<Output = Option<Pin<Box<S>>>>,
    S: Future<Output = ()>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut *self {
                Self::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Some(serving) => *self = Self::Serving(serving),
                    None => return Poll::Ready(()),
                },
                Self::Serving(serving) => return serving.as_mut().poll(cx),
            }
        }
    }
}

/// Waits for the socket. `None`: nothing opens.
async fn open<E: Application>(
    application: E,
    pending: Pending,
    link: Arc<Link>,
    config: Arc<Config>,
    held: Guards,
) -> Option<Pin<Box<impl Future<Output = ()> + Send>>> {
    let opening = pin!(pending.open(config.upgrade_timeout));
    let Socket { io, look } = link.unless_aborted(opening).await??;
    // Before it is listed.
    link.open();
    held.tracked.opened();
    let opened = Opened {
        link,
        config,
        io,
        look,
    };
    Some(Box::pin(Serving {
        connection: application.serve(opened),
        open: measure::Open::new(),
        held,
    }))
}

pin_project! {
    /// An open connection. Written by hand, since an `async` block would keep room for it twice.
    struct Serving<F> {
        #[pin]
        connection: F,
        // Dropped behind the connection, in this order.
        open: measure::Open,
        held: Guards,
    }
}

impl<F: Future<Output = ()>> Future for Serving<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().connection.poll(cx)
    }
}
