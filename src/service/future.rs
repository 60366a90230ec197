//! [`ResponseFuture`].

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;

use super::body::{ResponseBody, Switched};
use crate::handshake::Rejection;

/// The response to a handshake that was accepted.
pub(super) type Accepted = Response<Switched>;

/// Runs `on_upgrade`.
pub(super) type Upgrading = Pin<Box<dyn Future<Output = Result<Accepted, Rejection>> + Send>>;

pin_project! {
    /// Response future of [`WebSocketService`](super::WebSocketService).
    pub struct ResponseFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<F> {
        Inner { #[pin] future: F },
        Upgrading { future: Upgrading },
        Refused { rejection: Option<Rejection> },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn inner(future: F) -> Self {
        Self {
            kind: Kind::Inner { future },
        }
    }

    pub(super) fn upgrading(future: Upgrading) -> Self {
        Self {
            kind: Kind::Upgrading { future },
        }
    }

    pub(super) fn refused(rejection: Rejection) -> Self {
        Self {
            kind: Kind::Refused {
                rejection: Some(rejection),
            },
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let refused = match self.project().kind.project() {
            KindProj::Inner { future } => {
                return future
                    .poll(cx)
                    .map_ok(|response| response.map(ResponseBody::inner));
            }
            KindProj::Upgrading { future } => match ready!(future.as_mut().poll(cx)) {
                Ok(response) => return Poll::Ready(Ok(response.map(ResponseBody::switched))),
                Err(rejection) => rejection,
            },
            KindProj::Refused { rejection } => match rejection.take() {
                Some(rejection) => rejection,
                // Polled after it was ready.
                None => return Poll::Pending,
            },
        };
        tracing::debug!(%refused, "refused a WebSocket handshake");
        Poll::Ready(Ok(refused.into_response().map(ResponseBody::refusal)))
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
