//! [`WebSocketService`]: finds the handshakes among the requests, and opens what they ask for.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::Empty;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use tokio::runtime;
use tower::Service;
use tracing::{Instrument, Span};

use super::body::Switched;
use super::future::{Accepted, ResponseFuture};
use super::gate::{Full, Permit};
use super::guard::Ticket;
use super::layer::{Options, WebSocketLayer};
use super::mount::Place;
use crate::config::Config;
use crate::connection::{ConnectionId, Info, Kept, Shared};
use crate::driver::{Endpoint, Opened, Ours, Pending, Seat, caught, later_request};
use crate::handler::Handshake;
use crate::handshake::{self, Decision, Offer, Rejection};
use crate::jitter;
use crate::logging::{Throttle, escape, escaped, field};
use crate::protocol::negotiate;
use crate::shutdown::{Member, Tracked};

/// Middleware made by [`WebSocketLayer`].
pub struct WebSocketService<S, E> {
    inner: S,
    layer: WebSocketLayer<E>,
}

/// The inner service of [`WebSocketLayer::into_service`]: answers 404.
pub struct NotFound {
    _private: PhantomData<()>,
}

impl<S, E> WebSocketService<S, E> {
    pub(super) fn new(inner: S, layer: WebSocketLayer<E>) -> Self {
        Self { inner, layer }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S, E, ReqBody, ResBody> Service<Request<ReqBody>> for WebSocketService<S, E>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    E: Endpoint,
{
    type Response = Response<super::ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        later_request();
        let options = &self.layer.options;
        let rest = match options.mount.place(request.uri().path()) {
            Place::Under(rest) => rest,
            Place::Elsewhere => return ResponseFuture::inner(self.inner.call(request)),
            Place::Ambiguous if options.config.refuse_plain => {
                return ResponseFuture::refused(handshake::ambiguous_path());
            }
            Place::Ambiguous => {
                let (parts, body) = request.into_parts();
                hint_ambiguous(&parts);
                return ResponseFuture::inner(self.inner.call(Request::from_parts(parts, body)));
            }
        };
        let rest = request.uri().path().len() - rest.len();
        let (parts, body) = request.into_parts();
        let protocol = parts.extensions.get::<Protocol>().map(Protocol::as_str);
        match handshake::examine(&parts, protocol, &options.policy) {
            Decision::Plain if options.config.refuse_plain => {
                ResponseFuture::refused(handshake::plain_refusal(&parts))
            }
            Decision::Plain => {
                hint(&parts);
                ResponseFuture::inner(self.inner.call(Request::from_parts(parts, body)))
            }
            Decision::Refused(rejection) => ResponseFuture::refused(rejection),
            Decision::Offer(offer) => match Admission::new(options, parts, rest) {
                Ok(admission) => ResponseFuture::upgrading(Box::pin(upgrade(
                    self.layer.endpoint.clone(),
                    options.clone(),
                    offer,
                    admission,
                ))),
                Err(rejection) => ResponseFuture::refused(rejection),
            },
        }
    }
}

/// What a handshake needs of its surroundings to be accepted.
struct Admission {
    parts: Parts,
    rest: usize,
    on_upgrade: OnUpgrade,
    /// Of a guard around the stack.
    ticket: Option<Ticket>,
    runtime: runtime::Handle,
    peer: Option<SocketAddr>,
    client: Option<IpAddr>,
    permit: Option<Box<Permit>>,
}

impl Admission {
    fn new(options: &Options, mut parts: Parts, rest: usize) -> Result<Self, Rejection> {
        if options.shutdown.is_draining() {
            return Err(draining(parts.version));
        }
        let peer = options.peer.and_then(|find| find(&parts));
        let client = peer
            .zip(options.proxies.as_ref())
            .map(|(peer, proxies)| proxies.client(peer.ip(), &parts.headers));
        let address = client.or(peer.map(|peer| peer.ip()));
        let permit = options.gate.enter(address).map_err(|full| {
            let (status, text) = match full {
                Full::InAll => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "too many WebSocket connections, try again later",
                ),
                Full::OfThisClient => (
                    StatusCode::TOO_MANY_REQUESTS,
                    "too many WebSocket connections from your address",
                ),
            };
            try_later(Rejection::new(status, text))
        })?;
        let Some(on_upgrade) = parts.extensions.remove::<OnUpgrade>() else {
            static LINES: Throttle = Throttle::new();
            if let Some(missed) = LINES.pass() {
                tracing::error!(
                    missed,
                    "a WebSocket handshake came without hyper's OnUpgrade: the server is not \
                     hyper, or another layer took it"
                );
            }
            return Err(Rejection::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "this server cannot upgrade connections",
            ));
        };
        let Ok(runtime) = runtime::Handle::try_current() else {
            static LINES: Throttle = Throttle::new();
            if let Some(missed) = LINES.pass() {
                tracing::error!(missed, "a WebSocket handshake came outside a tokio runtime");
            }
            return Err(Rejection::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "this server cannot run connections",
            ));
        };
        let ticket = parts.extensions.remove::<Ticket>();
        handshake::join_cookies(&mut parts);
        Ok(Self {
            parts,
            rest,
            on_upgrade,
            ticket,
            runtime,
            peer,
            client,
            permit,
        })
    }
}

/// Asks the application, answers, and starts the connection's task.
async fn upgrade<E: Endpoint>(
    mut endpoint: E,
    options: Arc<Options>,
    offer: Offer,
    admission: Admission,
) -> Result<Accepted, Rejection> {
    let Admission {
        parts,
        rest,
        on_upgrade,
        ticket,
        runtime,
        peer,
        client,
        permit,
    } = admission;
    let mut handshake = Handshake {
        request: parts,
        mount: options.mount.as_str().clone(),
        rest,
        offer,
        headers: HeaderMap::new(),
    };
    let deadline = options.config.upgrade_timeout;
    let asked = caught(endpoint.upgrade(&mut handshake));
    match tokio::time::timeout(deadline, asked).await {
        Ok(Ok(answer)) => answer?,
        Ok(Err(message)) => {
            tracing::error!("on_upgrade panicked: {}", escaped(message));
            return Err(StatusCode::INTERNAL_SERVER_ERROR.into());
        }
        Err(_) => {
            static LINES: Throttle = Throttle::new();
            if let Some(missed) = LINES.pass() {
                tracing::warn!(
                    missed,
                    "on_upgrade took longer than {deadline:?}; the handshake was refused"
                );
            }
            return Err(Rejection::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the application took too long to decide",
            ));
        }
    }

    let Handshake {
        request,
        offer,
        headers,
        ..
    } = handshake;
    let http1 = request.version <= Version::HTTP_11;
    let deflate = options.deflate.as_ref().filter(|_| E::MESSAGES);
    let offers = offer.extensions.iter();
    let offers = offers.map(|offer| (&*offer.name, &offer.params[..]));
    let (agreed, extensions) = deflate
        .and_then(|deflate| negotiate(offers, deflate))
        .unzip();
    let mut response = handshake::accept_response(&offer, headers, extensions);
    let head = Ours::new();
    let (pending, body) = match ticket {
        Some(ticket) if http1 => (
            Pending::guarded(on_upgrade, ticket.verdict(), true),
            Switched::Http1(None),
        ),
        Some(ticket) => (
            Pending::guarded(on_upgrade, ticket.verdict(), false),
            Switched::Http2,
        ),
        None if http1 => {
            let (pending, confirm) = Pending::http1(on_upgrade, offer.close, &head);
            if request.headers.contains_key(header::ACCEPT_ENCODING) {
                // Compression layers pass on such a body as it is. Where they wrap it, nothing
                // confirms a 101 to a client that says `Connection: close`.
                response.headers_mut().insert(
                    header::CONTENT_ENCODING,
                    HeaderValue::from_static("identity"),
                );
            }
            (pending, Switched::Http1(Some(confirm)))
        }
        None => (Pending::http2(on_upgrade), Switched::Http2),
    };
    response.extensions_mut().insert(head);

    let id = ConnectionId::next();
    let span = tracing::info_span!(
        "websocket",
        id = id.as_u64(),
        mount = &**options.mount.as_str(),
        path = &*field(request.uri.path()),
        peer = peer.map(tracing::field::display),
        http = ?request.version,
        client = client.map(tracing::field::display),
        protocol = offer.selected.as_deref().map(field).as_deref(),
    );
    span.follows_from(Span::current());
    let version = request.version;
    let info = Info {
        id,
        rest: request.uri.path().get(rest..).unwrap_or_default().into(),
        request: if options.config.keep_request {
            Kept::new(request)
        } else {
            Kept::nothing()
        },
        mount: options.mount.as_str().clone(),
        protocol: offer.selected.map(String::into_boxed_str),
        peer,
        client: client.map(Box::new),
    };
    let config = options.config.clone();
    let shared = Arc::new(Shared::new(config.clone(), info, agreed));
    // Before the task exists, so that a drain at this moment finds it.
    let member: Arc<dyn Member> = shared.clone();
    let tracked = options
        .shutdown
        .track(Arc::downgrade(&member))
        .ok_or_else(|| draining(version))?;
    let running = run(endpoint, pending, shared, config, Held { tracked, permit });
    // A span that nobody reads would be entered twice for every message.
    if span.is_disabled() {
        runtime.spawn(running);
    } else {
        runtime.spawn(running.instrument(span));
    }
    Ok(response.map(|()| body))
}

/// Held as long as the connection lives.
struct Held {
    tracked: Tracked,
    #[expect(dead_code, reason = "dropping it is what counts")]
    permit: Option<Box<Permit>>,
}

#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` keeps room for its arguments twice"
)]
fn run<E: Endpoint>(
    endpoint: E,
    pending: Pending,
    shared: Arc<Shared>,
    config: Arc<Config>,
    held: Held,
) -> impl Future<Output = ()> + Send {
    async move {
        let opening = pending.open(config.upgrade_timeout);
        let Some(Some(Opened { io, first })) = shared.unless_aborted(opening).await else {
            return;
        };
        held.tracked.opened();
        let serving = endpoint.serve(
            Seat {
                shared,
                config,
                first,
            },
            io,
        );
        serving.await;
        drop(held);
    }
}

/// One line for whoever forgot `enable_connect_protocol()` and wonders why nothing opens.
fn hint(parts: &Parts) {
    if parts.version == Version::HTTP_2
        && parts.headers.contains_key(header::SEC_WEBSOCKET_VERSION)
        && parts.extensions.get::<Protocol>().is_none()
    {
        static LINES: Throttle = Throttle::new();
        if let Some(missed) = LINES.pass() {
            tracing::warn!(
                missed,
                "an HTTP/2 request with WebSocket headers is no extended CONNECT (RFC 8441): \
                 call `enable_connect_protocol()` on the server's HTTP/2 builder, and have \
                 proxies in front speak it or HTTP/1.1"
            );
        }
    }
}

/// One line for whoever put an identifier with `%2F` into a path and wonders who answers.
#[cold]
fn hint_ambiguous(parts: &Parts) {
    let protocol = parts.extensions.get::<Protocol>().map(Protocol::as_str);
    if !handshake::is_handshake(parts, protocol) {
        return;
    }
    static LINES: Throttle = Throttle::new();
    if let Some(missed) = LINES.pass() {
        let path = escape(parts.uri.path().as_bytes(), 200);
        tracing::warn!(
            missed,
            "a WebSocket handshake went to the inner service, since servers read its path in \
             different ways (%2F, %5C, a backslash, a segment . or ..): \"{path}\""
        );
    }
}

/// In 5 to 10 s, so that those who are refused together do not come back together.
fn try_later(rejection: Rejection) -> Rejection {
    let seconds = 5 + jitter::up_to(Duration::from_secs(5)).as_secs();
    rejection.with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
}

fn draining(version: Version) -> Rejection {
    let rejection = try_later(Rejection::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "the server is going down",
    ));
    if version <= Version::HTTP_11 {
        rejection.with_header(header::CONNECTION, HeaderValue::from_static("close"))
    } else {
        rejection
    }
}

impl<S: Clone, E: Clone> Clone for WebSocketService<S, E> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
        }
    }
}

impl<S, E> fmt::Debug for WebSocketService<S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketService")
            .field("layer", &self.layer)
            .finish_non_exhaustive()
    }
}

impl NotFound {
    pub(super) fn new() -> Self {
        Self {
            _private: PhantomData,
        }
    }
}

impl<B> Service<Request<B>> for NotFound {
    type Response = Response<Empty<bytes::Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let mut response = Response::new(Empty::new());
        *response.status_mut() = StatusCode::NOT_FOUND;
        ready(Ok(response))
    }
}

impl Clone for NotFound {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl fmt::Debug for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NotFound")
    }
}
