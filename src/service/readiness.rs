//! [`Readiness`]: tells a load balancer whether to send new clients here.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Empty;
use tower::Service;

use super::body::ResponseBody;
use super::limit::ConnectionLimit;
use crate::handshake::RefusalBody;
use crate::shutdown::Shutdown;

/// A service for the readiness probe of a load balancer:
/// [`WebSocketLayer::readiness`](crate::WebSocketLayer::readiness) makes it. It answers every request,
/// without asking who sends it: 200 with `ready`, or 503 with `draining` when a
/// [`Shutdown`] has begun, or with `nearly full` when 95 % of
/// [`max_connections`](crate::WebSocketLayer::max_connections) are taken, so that a balancer turns to others
/// before clients are refused.
///
/// ```
/// # use axum::Router;
/// # use tower_websocket::{Shutdown, WebSocketHandler, WebSocketLayer};
/// # #[derive(Clone)] struct Chat;
/// # impl WebSocketHandler for Chat {}
/// let shutdown = Shutdown::new();
/// let layer = WebSocketLayer::new("/chat", Chat).shutdown(&shutdown).max_connections(50_000);
/// let app = Router::<()>::new()
///     .route_service("/ready", layer.readiness())
///     .layer(layer);
/// # drop(app);
/// ```
#[derive(Clone)]
pub struct Readiness {
    shutdown: Shutdown,
    limit: ConnectionLimit,
}

/// A 20th of the limit is for those who come until a balancer, which asks every few seconds, knows.
const SPARE: usize = 20;

impl Readiness {
    pub(super) fn new(shutdown: &Shutdown, limit: &ConnectionLimit) -> Self {
        Self {
            shutdown: shutdown.clone(),
            limit: limit.clone(),
        }
    }

    /// Whether new clients are welcome.
    pub fn is_ready(&self) -> bool {
        self.obstacle().is_none()
    }

    fn obstacle(&self) -> Option<&'static str> {
        if self.shutdown.is_draining() {
            return Some("draining\n");
        }
        let most = self.limit.most()?;
        (self.limit.open() >= most - most / SPARE).then_some("nearly full\n")
    }
}

impl<B> Service<Request<B>> for Readiness {
    type Response = Response<ResponseBody<Empty<Bytes>>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let (status, text) = match self.obstacle() {
            None => (StatusCode::OK, "ready\n"),
            Some(obstacle) => (StatusCode::SERVICE_UNAVAILABLE, obstacle),
        };
        let body = RefusalBody::text(Bytes::from_static(text.as_bytes()));
        let mut response = Response::new(ResponseBody::refusal(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        ready(Ok(response))
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness")
            .field("is_ready", &self.is_ready())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_ready_until_19_of_20_places_are_taken_or_it_drains() {
        for (most, taken, expected) in [
            (Some(100), 94, true),
            (Some(100), 95, false),
            (Some(20), 18, true),
            (Some(20), 19, false),
            (Some(1), 0, true),
            (Some(1), 1, false),
            (Some(0), 0, false),
            (None, 1000, true),
        ] {
            let limit = ConnectionLimit::new(most, None);
            let held: Vec<_> = (0..taken).map(|_| limit.enter(None).unwrap()).collect();
            let ready = Readiness::new(&Shutdown::new(), &limit);
            assert_eq!(ready.is_ready(), expected, "{taken} of {most:?}");
            drop(held);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_drains_is_not_ready() {
        let shutdown = Shutdown::new();
        let mut ready = Readiness::new(&shutdown, &ConnectionLimit::default());
        assert_eq!(ready.call(Request::new(())).await.unwrap().status(), 200);
        shutdown.drain(std::time::Duration::ZERO).await;
        assert_eq!(ready.call(Request::new(())).await.unwrap().status(), 503);
    }
}
