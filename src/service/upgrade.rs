//! [`upgrade`]: asks the application and answers.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::admission::Admission;
use super::body::Switched;
use super::future::Accepted;
use super::options::Options;
use super::start::{Started, start};
use crate::driver::{Application, Ours, Pending, Source, caught, within};
use crate::handler::Handshake;
use crate::handshake::{self, Offer, Rejection, Transport};
use crate::logging::{Throttle, escaped, slow};
use crate::measure;
use crate::protocol::negotiate;

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
        upgrade,
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
        let threshold = options.config.slow_callback;
        let began = measure::times_callbacks(threshold).then(tokio::time::Instant::now);
        let answer = within(deadline, pin!(asked)).await;
        if let Some(began) = began {
            let took = began.elapsed();
            measure::callback("on_upgrade", took);
            slow("on_upgrade", took, threshold);
        }
        match answer {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(rejection))) => {
                measure::refused("application");
                return Err(rejection);
            }
            Ok(Err(message)) => {
                // As for the callbacks: ten in 10 s stand out.
                static LINES: Throttle = Throttle::with_burst(10);
                let message = escaped(message);
                if let Some(missed) = LINES.pass() {
                    tracing::error!(missed, "on_upgrade panicked: {message}");
                } else {
                    tracing::debug!("on_upgrade panicked: {message}");
                }
                measure::refused("panic");
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
                measure::refused("timeout");
                return Err(Rejection::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the application took too long to decide",
                ));
            }
        }

        let Handshake {
            mut request,
            mount: _,
            path,
            offer,
            response_headers,
            peer,
            client,
            lifetime,
        } = handshake;
        let Offer {
            transport,
            offered: _,
            selected,
            extensions,
        } = offer;
        let is_http1 = transport.is_http1();
        let close = matches!(transport, Transport::Http1 { close: true, .. });
        let deflate = options.deflate.as_ref().filter(|_| E::MESSAGES);
        let offers = extensions.iter();
        let offers = offers.map(|offer| (&*offer.name, &offer.params[..]));
        let (agreed, extensions) = deflate
            .and_then(|deflate| negotiate(offers, deflate))
            .unzip();
        let mut response = handshake::accept_response(
            transport,
            selected.as_deref(),
            response_headers,
            extensions,
        );
        let head = Ours::new();
        let body = if is_http1 {
            Switched::Http1(None)
        } else {
            Switched::Http2
        };
        let (pending, body) = match (ticket, upgrade, is_http1) {
            (Some(ticket), upgrade, _) => {
                let pending = Pending::guarded(upgrade, ticket.verdict(), is_http1);
                (pending, body)
            }
            (None, Source::Hyper(upgrade), true) => {
                let (pending, confirm) = Pending::http1(upgrade, close, &head);
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
            (None, upgrade, _) => (Pending::of_server(upgrade, is_http1), body),
        };
        if request.extensions.is_empty() {
            // Of the server's upgrade, which was in it: there is room already.
            std::mem::swap(response.extensions_mut(), &mut request.extensions);
        }
        response.extensions_mut().insert(head);

        let started = Started {
            request,
            version,
            path,
            protocol: selected,
            peer,
            client,
            lifetime,
            agreed,
            pending,
            permit,
        };
        start(application, &options, &runtime, started)?;
        Ok(response.map(|()| body))
    }
}
