//! [`WebSocketService`]: finds the handshakes among the requests.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::Service;

use super::answer::{Answer, answer};
use super::future::ResponseFuture;
use super::hints;
use super::mount::Place;
use super::options::Options;
use crate::driver::{Application, later_request};
use crate::handshake;

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
        match options.mount.place(request.uri().path()) {
            Place::Under(_) => {}
            Place::Elsewhere if !options.is_leaf => {
                return ResponseFuture::inner(self.inner.call(request));
            }
            Place::Elsewhere | Place::Pattern => {
                let (parts, body) = request.into_parts();
                if let Some(misplaced) = hints::misplaced(&parts, &options.mount) {
                    return ResponseFuture::refused(misplaced);
                }
                return ResponseFuture::inner(self.inner.call(Request::from_parts(parts, body)));
            }
            Place::Ambiguous if options.config.require_upgrade => {
                return ResponseFuture::refused(handshake::ambiguous_path());
            }
            Place::Ambiguous => {
                let (parts, body) = request.into_parts();
                hints::ambiguous(&parts);
                return ResponseFuture::inner(self.inner.call(Request::from_parts(parts, body)));
            }
        }
        let (parts, body) = request.into_parts();
        match answer(options, || self.application.clone(), parts) {
            Answer::Plain(parts) if options.config.require_upgrade => {
                ResponseFuture::refused(handshake::plain_refusal(&parts))
            }
            Answer::Plain(parts) => {
                ResponseFuture::inner(self.inner.call(Request::from_parts(parts, body)))
            }
            Answer::Refused(rejection) => ResponseFuture::refused(rejection),
            Answer::Upgrading(upgrading) => ResponseFuture::upgrading(upgrading),
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
