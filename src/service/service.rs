//! [`WebSocketService`]: finds the handshakes among the requests.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::ext::Protocol;
use tower::Service;

use super::admission::Admission;
use super::future::ResponseFuture;
use super::hints;
use super::mount::Place;
use super::options::Options;
use super::upgrade::upgrade;
use crate::driver::{Application, later_request};
use crate::handshake::{self, Decision};

/// Middleware made by [`WebSocketLayer`](crate::WebSocketLayer).
pub struct WebSocketService<S, E> {
    inner: S,
    application: E,
    options: Arc<Options>,
}

impl<S, E> WebSocketService<S, E> {
    pub(super) fn new(inner: S, application: E, options: Arc<Options>) -> Self {
        Self {
            inner,
            application,
            options,
        }
    }

    /// A reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// A mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, E, ReqBody, ResBody> Service<Request<ReqBody>> for WebSocketService<S, E>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    E: Application,
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
        let options = &self.options;
        let rest = match options.mount.place(request.uri().path()) {
            Place::Under(rest) => rest,
            Place::Elsewhere => return ResponseFuture::inner(self.inner.call(request)),
            Place::Ambiguous if options.config.require_upgrade => {
                return ResponseFuture::refused(handshake::ambiguous_path());
            }
            Place::Ambiguous => {
                let (parts, body) = request.into_parts();
                hints::ambiguous(&parts);
                return ResponseFuture::inner(self.inner.call(Request::from_parts(parts, body)));
            }
        };
        let path = Box::from(rest);
        let (parts, body) = request.into_parts();
        let protocol = parts.extensions.get::<Protocol>().map(Protocol::as_str);
        match handshake::examine(&parts, protocol, &options.policy) {
            Decision::Plain if options.config.require_upgrade => {
                ResponseFuture::refused(handshake::plain_refusal(&parts))
            }
            Decision::Plain => {
                hints::extended_connect(&parts);
                ResponseFuture::inner(self.inner.call(Request::from_parts(parts, body)))
            }
            Decision::Refused(rejection) => ResponseFuture::refused(rejection),
            Decision::Offer(offer) => match Admission::new(options, parts) {
                Ok(admission) => ResponseFuture::upgrading(Box::pin(upgrade(
                    self.application.clone(),
                    options.clone(),
                    offer,
                    path,
                    admission,
                ))),
                Err(rejection) => ResponseFuture::refused(rejection),
            },
        }
    }
}

impl<S: Clone, E: Clone> Clone for WebSocketService<S, E> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            application: self.application.clone(),
            options: self.options.clone(),
        }
    }
}

impl<S, E> fmt::Debug for WebSocketService<S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketService")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
