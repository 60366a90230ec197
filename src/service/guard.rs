//! [`UpgradeGuardLayer`]: what the final response is, from where it can be seen.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use http::{Request, Response, StatusCode, Version};
use pin_project_lite::pin_project;
use tokio::sync::oneshot;
use tower::{Layer, Service};

use crate::driver::{Ours, Source};

/// Opens WebSockets only when the final response is a 101 (or, over HTTP/2, the layer's own 200),
/// whatever other layers do to responses. Add it as the outermost layer.
///
/// On an axum `Router` the last `.layer` is the outermost:
///
/// ```
/// use axum::Router;
/// use tower_http::timeout::ResponseBodyTimeoutLayer;
/// use tower_websocket::{UpgradeGuardLayer, WebSocketHandler, WebSocketLayer};
///
/// #[derive(Clone)]
/// struct Chat;
/// impl WebSocketHandler for Chat {}
///
/// let app: Router = Router::new()
///     .layer(WebSocketLayer::new("/chat", Chat))
///     .layer(ResponseBodyTimeoutLayer::new(std::time::Duration::from_secs(30)))
///     .layer(UpgradeGuardLayer::new());
/// ```
///
/// In a `tower::ServiceBuilder`, for hyper, the first is:
///
/// ```
/// # use tower_http::timeout::ResponseBodyTimeoutLayer;
/// # use tower_websocket::{UpgradeGuardLayer, WebSocketHandler, WebSocketLayer};
/// # #[derive(Clone)] struct Chat;
/// # impl WebSocketHandler for Chat {}
/// # let inner = tower::service_fn(|_: http::Request<hyper::body::Incoming>| async {
/// #     Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
/// # });
/// let service = tower::ServiceBuilder::new()
///     .layer(UpgradeGuardLayer::new())
///     .layer(ResponseBodyTimeoutLayer::new(std::time::Duration::from_secs(30)))
///     .layer(WebSocketLayer::new("/chat", Chat))
///     .service(inner);
/// # drop(service);
/// ```
///
/// # What it is for
///
/// A server hands over the socket of an HTTP/1.1 connection when HTTP ends on it, whether the
/// client got a 101 or a 403. So [`WebSocketLayer`](crate::WebSocketLayer) must know what became
/// of its response after other layers had it.
///
/// **With the guard** it knows: a connection opens if and only if the response that leaves the
/// guard is a 101 (HTTP/1.1), or a success that carries the layer's own response (HTTP/2) and the
/// server then hands over the socket. Nothing opens if the guard's future fails or is dropped.
///
/// **Without it** the layer observes the body of its response. Over HTTP/1.1:
///
/// - The server asks the body whether it ends and never reads it: the 101 was sent. It opens.
/// - The server reads the body after it wrote the head: another layer changed the status. Nothing
///   opens.
/// - Neither can be seen, because a layer wraps, reads or replaces the body: it opens, unless the
///   handshake says `Connection: close`.
/// - Nothing opens in any case if another request reaches a `WebSocketLayer` in the same task, the
///   connection's, before the upgrade completes, or if the client has ended its side of the
///   connection. Where services run in a task of their own, requests say nothing; add the guard
///   there, since that is not noticed where a layer wraps the body as well.
///
/// So these refusals open nevertheless, if the *server* ends the HTTP connection within the
/// [upgrade timeout](crate::WebSocketLayer::upgrade_timeout):
///
/// - Another layer changed the status to 204 or 304, whose bodies servers treat as they treat that
///   of a 101, and the handshake said `Connection: close`, or one of the causes below applies.
/// - Another layer replaced the response, or read its body before it changed the status, and the
///   new response says `Connection: close`, the server shuts down, or a further request ends the
///   connection that reaches no `WebSocketLayer`.
///
/// And a 101 does not open if the handshake said `Connection: close` and a layer wraps or reads
/// the body; the log then names this guard. Over HTTP/2 any success opens the connection, also one
/// that *replaces* the layer's 200; any other status does not.
///
/// # Cost
///
/// A plain request costs one lookup in its extensions, a request that can be upgraded one
/// allocation. The guard changes neither requests nor responses, and does not take the server's
/// upgrade. If there are several guards, the outermost decides.
#[derive(Clone, Copy, Debug, Default)]
pub struct UpgradeGuardLayer {
    _private: (),
}

/// Middleware made by [`UpgradeGuardLayer`].
#[derive(Clone, Copy, Debug)]
pub struct UpgradeGuard<S> {
    inner: S,
}

pin_project! {
    /// Response future of [`UpgradeGuard`].
    pub struct UpgradeGuardFuture<F> {
        #[pin]
        inner: F,
        watch: Option<Watch>,
    }
}

/// The guard's end of a [`Ticket`].
struct Watch {
    slot: Arc<Mutex<Slot>>,
    http1: bool,
}

/// In the extensions of a request: a guard will decide.
#[derive(Clone)]
pub(super) struct Ticket(Arc<Mutex<Slot>>);

enum Slot {
    /// Whom to tell. The latest, if a layer in between asks again with the same request: the
    /// response that counts is the last one.
    Open(Option<oneshot::Sender<bool>>),
    Decided,
}

impl UpgradeGuardLayer {
    /// A guard, to be added as the outermost layer.
    pub fn new() -> Self {
        Self { _private: () }
    }
}

impl<S> Layer<S> for UpgradeGuardLayer {
    type Service = UpgradeGuard<S>;

    fn layer(&self, inner: S) -> Self::Service {
        UpgradeGuard { inner }
    }
}

impl<S> UpgradeGuard<S> {
    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service, without the guard.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for UpgradeGuard<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = UpgradeGuardFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let watch = watch(&mut request);
        UpgradeGuardFuture {
            inner: self.inner.call(request),
            watch,
        }
    }
}

fn watch<B>(request: &mut Request<B>) -> Option<Watch> {
    let http1 = request.version() <= Version::HTTP_11;
    let extensions = request.extensions_mut();
    if !Source::is_in(extensions) || extensions.get::<Ticket>().is_some() {
        return None;
    }
    let slot = Arc::new(Mutex::new(Slot::Open(None)));
    extensions.insert(Ticket(slot.clone()));
    Some(Watch { slot, http1 })
}

impl Ticket {
    /// Will be `true` if the final response opens the connection, `false` if it does not, and an
    /// error if there is none.
    pub(super) fn verdict(&self) -> oneshot::Receiver<bool> {
        let (sender, receiver) = oneshot::channel();
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Slot::Open(waiting) = &mut *slot {
            *waiting = Some(sender);
        }
        receiver
    }
}

impl Watch {
    fn decide<B>(self, response: &Response<B>) {
        let opens = if self.http1 {
            response.status() == StatusCode::SWITCHING_PROTOCOLS
        } else {
            response.status().is_success() && response.extensions().get::<Ours>().is_some()
        };
        if let Some(waiting) = self.close() {
            // Nobody waits if the connection was given up.
            let _ = waiting.send(opens);
        }
    }

    fn close(&self) -> Option<oneshot::Sender<bool>> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *slot, Slot::Decided) {
            Slot::Open(waiting) => waiting,
            Slot::Decided => None,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.close());
    }
}

impl<F, B, E> Future for UpgradeGuardFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        if let (Some(watch), Ok(response)) = (this.watch.take(), &result) {
            watch.decide(response);
        }
        Poll::Ready(result)
    }
}

impl<F> fmt::Debug for UpgradeGuardFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradeGuardFuture").finish_non_exhaustive()
    }
}
