//! [`NotFound`]: the inner service of a layer that has none.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use tower::Service;

/// The inner service of [`WebSocketLayer::into_service`](crate::WebSocketLayer::into_service): answers 404.
pub struct NotFound {
    _private: PhantomData<()>,
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
