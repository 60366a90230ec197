//! [`Readiness`]: tells a load balancer whether to send new clients here.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Empty;
use tokio::time::Instant;
use tower::Service;

use super::body::ResponseBody;
use super::limit::ConnectionLimit;
use crate::handshake::RefusalBody;
use crate::shutdown::Shutdown;
use crate::topics::{Status, Topics};

/// A service for the readiness probe of a load balancer:
/// [`WebSocketLayer::readiness`](crate::WebSocketLayer::readiness) makes it. It answers every request,
/// without asking who sends it: 200 with `ready`, or 503 with `draining` when a
/// [`Shutdown`] has begun, or with `nearly full` when 95 % of
/// [`max_connections`](crate::WebSocketLayer::max_connections) are taken, so that a balancer turns to others
/// before clients are refused. With [`topics`](Self::topics) it also answers 503 with
/// `cut off from the other nodes` or `retained topics do not work`.
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
    /// How long they may be degraded.
    topics: Option<(Topics, Duration)>,
}

/// A 20th of the limit is for those who come until a balancer, which asks every few seconds, knows.
const SPARE: usize = 20;

impl Readiness {
    pub(super) fn new(shutdown: &Shutdown, limit: &ConnectionLimit) -> Self {
        Self {
            shutdown: shutdown.clone(),
            limit: limit.clone(),
            topics: None,
        }
    }

    /// Answers 503 with `cut off from the other nodes` while the [status](Topics::status) of `topics` has
    /// been [`Degraded`](Status::Degraded) for `limit` or longer, or with `retained topics do not work` if the other
    /// nodes are reached, and only the log is the reason. Without a
    /// [backplane](crate::TopicsBuilder::backplane) it never is. Default: topics are not looked at.
    ///
    /// It is not the default because the reason is rarely one node. When the engine itself is down, all
    /// nodes are cut off at the same time, and are all unready once `limit` is over: those who are connected
    /// stay, and nobody new is let in, though each node could still serve its own clients. Use it where a
    /// node alone is of no use to its clients, and elsewhere watch
    /// the gauge `websocket.server.backplane.up`.
    ///
    /// Let `limit` be longer than a restart or failover of the engine takes: 30 s is more than most need. A
    /// connection that is broken counts from that moment; one that is open and dead is found within 20 s, and
    /// counts from then. A process counts from its start, so it is ready until it has failed to connect for
    /// `limit`.
    ///
    /// It belongs into a readiness probe. In a liveness probe it would restart every node when the engine is
    /// down, and a restart mends nothing.
    ///
    /// ```
    /// use std::time::Duration;
    /// # use axum::Router;
    /// # use tower_websocket::{Topics, WebSocketHandler, WebSocketLayer};
    /// # #[derive(Clone)] struct Chat;
    /// # impl WebSocketHandler for Chat {}
    /// # let topics = Topics::new();
    /// let layer = WebSocketLayer::new("/chat", Chat).topics(&topics);
    /// let ready = layer.readiness().topics(&topics, Duration::from_secs(30));
    /// let app = Router::<()>::new().route_service("/ready", ready).layer(layer);
    /// # drop(app);
    /// ```
    #[must_use = "it returns the service"]
    pub fn topics(mut self, topics: &Topics, limit: Duration) -> Self {
        self.topics = Some((topics.clone(), limit));
        self
    }

    /// Whether new clients are welcome.
    pub fn is_ready(&self) -> bool {
        self.obstacle().is_none()
    }

    fn obstacle(&self) -> Option<&'static str> {
        if self.shutdown.is_draining() {
            return Some("draining\n");
        }
        if let Some(obstacle) = self.trouble_of_topics() {
            return Some(obstacle);
        }
        let most = self.limit.most()?;
        (self.limit.open() >= most - most / SPARE).then_some("nearly full\n")
    }

    fn trouble_of_topics(&self) -> Option<&'static str> {
        let (topics, limit) = self.topics.as_ref()?;
        let Status::Degraded { since, cut_off, .. } = topics.status() else {
            return None;
        };
        let trouble = match cut_off {
            true => "cut off from the other nodes\n",
            false => "retained topics do not work\n",
        };
        (Instant::from_std(since).elapsed() >= *limit).then_some(trouble)
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
    use http_body_util::BodyExt;

    use super::*;
    use crate::test::Engine;
    use crate::topics::Retain;

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
        shutdown.drain(Duration::ZERO).await;
        assert_eq!(ready.call(Request::new(())).await.unwrap().status(), 503);
    }

    fn readiness(topics: &Topics, limit: u64) -> Readiness {
        Readiness::new(&Shutdown::new(), &ConnectionLimit::default())
            .topics(topics, Duration::from_secs(limit))
    }

    async fn pass(seconds: f64) {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn t13_a_node_that_is_cut_off_is_ready_until_the_limit_and_again_when_it_is_back() {
        let engine = Engine::new(1);
        let topics = Topics::builder().backplane(engine.clone()).build();
        let mut ready = readiness(&topics, 30);
        let without = Readiness::new(&Shutdown::new(), &ConnectionLimit::default());
        pass(60.0).await;
        assert!(ready.is_ready());

        engine.cut();
        pass(1.0).await;
        assert!(topics.status().is_degraded() && ready.is_ready());
        pass(28.0).await;
        assert!(ready.is_ready());
        pass(2.0).await;
        let response = ready.call(Request::new(())).await.unwrap();
        assert_eq!(response.status(), 503);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&body[..], b"cut off from the other nodes\n");
        assert!(without.is_ready(), "it is asked for");

        engine.mend();
        pass(6.0).await;
        assert!(ready.is_ready());
        // The next time is counted from its own beginning.
        engine.cut();
        pass(29.0).await;
        assert!(ready.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn t13_a_node_that_never_reached_the_others_is_unready_once_the_limit_is_over() {
        let engine = Engine::new(1);
        engine.cut();
        let topics = Topics::builder().backplane(engine).build();
        pass(29.0).await;
        assert!(readiness(&topics, 30).is_ready());
        pass(1.0).await;
        assert!(!readiness(&topics, 30).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn b10_a_node_whose_log_takes_nothing_is_unready_once_the_limit_is_over() {
        let topics = Topics::builder().retain("room:", Retain::messages(1));
        let engine = Engine::new(1);
        engine.fill(true);
        let topics = topics.backplane(engine).build();
        let mut ready = readiness(&topics, 30);
        pass(29.0).await;
        assert!(topics.status().is_degraded() && ready.is_ready());
        pass(2.0).await;
        let response = ready.call(Request::new(())).await.unwrap();
        assert_eq!(response.status(), 503);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&body[..], b"retained topics do not work\n");
    }

    #[tokio::test(start_paused = true)]
    async fn one_process_alone_is_not_cut_off() {
        let ready = readiness(&Topics::new(), 0);
        pass(3600.0).await;
        assert!(ready.is_ready());
    }
}
