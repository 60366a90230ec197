//! [`upgrade`]: asks the application, answers, and starts the task of the connection.

use std::borrow::Cow;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use tracing::{Instrument, Span};

use super::admission::{Admission, draining};
use super::body::Switched;
use super::future::Accepted;
use super::limit::Permit;
use super::options::Options;
use crate::config::Config;
use crate::connection::{ConnectionId, Info, Link, Seldom, StoredRequest};
use crate::driver::{Application, Opened, Ours, Pending, Socket, caught, within};
use crate::handler::Handshake;
use crate::handshake::{self, Offer, Rejection, Transport};
use crate::logging::{Throttle, escaped, field};
use crate::protocol::negotiate;
use crate::shutdown::{Member, Tracked};

/// Asks the application, answers, and starts the connection's task.
///
/// The future keeps the handshake and no arguments beside it: an `async fn` would be half as large
/// again.
pub(super) fn upgrade<E: Application>(
    mut application: E,
    options: Arc<Options>,
    offer: Offer,
    path: Box<str>,
    admission: Admission,
) -> impl Future<Output = Result<Accepted, Rejection>> + Send {
    let Admission {
        parts,
        on_upgrade,
        ticket,
        runtime,
        peer,
        client,
        permit,
    } = admission;
    // As the request came, whatever the application does to it: outer layers have seen it so.
    let version = parts.version;
    let accepts_encodings = parts.headers.contains_key(header::ACCEPT_ENCODING);
    let mut handshake = Handshake {
        request: parts,
        mount: options.mount.as_str().clone(),
        path,
        offer,
        response_headers: HeaderMap::new(),
        peer,
        client,
        lifetime: None,
    };
    async move {
        let deadline = options.config.upgrade_timeout;
        let asked = caught(async {
            if let Some(on_upgrade) = &options.on_upgrade {
                on_upgrade(&mut handshake).await?;
            }
            application.upgrade(&mut handshake).await
        });
        match within(deadline, pin!(asked)).await {
            Ok(Ok(answer)) => answer?,
            Ok(Err(message)) => {
                // As for the callbacks: ten in 10 s stand out.
                static LINES: Throttle = Throttle::with_burst(10);
                let message = escaped(message);
                if let Some(missed) = LINES.pass() {
                    tracing::error!(missed, "on_upgrade panicked: {message}");
                } else {
                    tracing::debug!("on_upgrade panicked: {message}");
                }
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
            mut request,
            mount,
            path,
            offer,
            response_headers,
            peer,
            client,
            lifetime,
        } = handshake;
        let is_http1 = offer.is_http1();
        let deflate = options.deflate.as_ref().filter(|_| E::MESSAGES);
        let offers = offer.extensions.iter();
        let offers = offers.map(|offer| (&*offer.name, &offer.params[..]));
        let (agreed, extensions) = deflate
            .and_then(|deflate| negotiate(offers, deflate))
            .unzip();
        let mut response = handshake::accept_response(&offer, response_headers, extensions);
        let head = Ours::new();
        let (pending, body) = match (ticket, &offer.transport) {
            (Some(ticket), Transport::Http1 { .. }) => (
                Pending::guarded(on_upgrade, ticket.verdict(), true),
                Switched::Http1(None),
            ),
            (Some(ticket), Transport::Http2) => (
                Pending::guarded(on_upgrade, ticket.verdict(), false),
                Switched::Http2,
            ),
            (None, Transport::Http1 { close, .. }) => {
                let (pending, confirm) = Pending::http1(on_upgrade, *close, &head);
                if accepts_encodings {
                    // Compression layers pass on such a body as it is. Where they wrap it, nothing
                    // confirms a 101 to a client that says `Connection: close`.
                    response.headers_mut().insert(
                        header::CONTENT_ENCODING,
                        HeaderValue::from_static("identity"),
                    );
                }
                (pending, Switched::Http1(Some(confirm)))
            }
            (None, Transport::Http2) => (Pending::http2(on_upgrade), Switched::Http2),
        };
        if request.extensions.is_empty() {
            // Of the server's upgrade, which was in it: there is room already.
            std::mem::swap(response.extensions_mut(), &mut request.extensions);
        }
        response.extensions_mut().insert(head);

        let id = ConnectionId::next();
        let whole_path = if path.is_empty() {
            Cow::Borrowed(&*mount)
        } else {
            Cow::Owned([&*mount, &*path].concat())
        };
        let span = tracing::info_span!(
            "websocket",
            id = id.as_u64(),
            mount = &**options.mount.as_str(),
            path = &*field(&whole_path),
            peer = peer.map(tracing::field::display),
            http = ?version,
            client = client.map(tracing::field::display),
            protocol = offer.selected.as_deref().map(field).as_deref(),
        );
        let info = Info {
            id,
            path,
            request: if options.config.keep_request {
                StoredRequest::new(request)
            } else {
                StoredRequest::nothing()
            },
            mount,
            protocol: offer.selected.map(String::into_boxed_str),
            peer,
            seldom: Seldom::new(client, lifetime),
        };
        let config = options.config.clone();
        let link = Arc::new(Link::new(
            config.clone(),
            info,
            agreed,
            options.topics.clone(),
        ));
        // Before the task exists, so that a drain at this moment finds it.
        let member: Arc<dyn Member> = link.clone();
        let tracked = options
            .shutdown
            .track(Arc::downgrade(&member))
            .ok_or_else(|| draining(is_http1))?;
        let running = run(
            application,
            pending,
            link,
            config,
            Guards { tracked, permit },
        );
        // A span that nobody reads would be entered twice for every message.
        if span.is_disabled() {
            runtime.spawn(running);
        } else {
            span.follows_from(Span::current());
            runtime.spawn(running.instrument(span));
        }
        Ok(response.map(|()| body))
    }
}

/// Held as long as the connection lives.
struct Guards {
    tracked: Tracked,
    #[expect(dead_code, reason = "dropping it is what counts")]
    permit: Option<Box<Permit>>,
}

#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` keeps room for its arguments twice"
)]
fn run<E: Application>(
    application: E,
    pending: Pending,
    link: Arc<Link>,
    config: Arc<Config>,
    held: Guards,
) -> impl Future<Output = ()> + Send {
    async move {
        let opening = pending.open(config.upgrade_timeout);
        let Some(Some(Socket { io, first })) = link.unless_aborted(opening).await else {
            return;
        };
        held.tracked.opened();
        let serving = application.serve(Opened {
            link,
            config,
            io,
            first,
        });
        serving.await;
        drop(held);
    }
}
