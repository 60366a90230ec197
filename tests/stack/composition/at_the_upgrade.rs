//! What layers see of a WebSocket: the response that opens it, and nothing of the connection. The
//! page `guide::layers` says so.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, HeaderValue,
};
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower::util::option_layer;
use tower_http::cors::CorsLayer;
use tower_http::map_response_body::MapResponseBodyLayer;
use tower_http::metrics::InFlightRequestsLayer;
use tower_http::on_early_drop::{OnBodyDropFn, OnEarlyDropLayer};
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tower_http::validate_request::ValidateRequestHeaderLayer;
use tower_websocket::{Handshake, Rejection};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Takes five seconds to accept.
#[derive(Clone)]
struct Slow(Recorder);

impl WebSocketHandler for Slow {
    async fn on_upgrade(&mut self, _: &mut Handshake) -> Result<(), Rejection> {
        tokio::time::sleep(5 * SECOND).await;
        Ok(())
    }

    async fn on_open(&mut self, _: &mut tower_websocket::Connection) -> tower_websocket::Result {
        self.0.note("open");
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Count(std::sync::Arc<AtomicUsize>);

impl Count {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn cors_answers_the_preflight_and_the_websocket_opens_beside_it() {
    for service in [
        erase(CorsLayer::permissive().layer(websocket().layer(Plain))),
        erase(websocket().layer(CorsLayer::permissive().layer(Plain))),
        erase(router().layer(websocket()).layer(CorsLayer::permissive())),
        // As one layer, as by a `ServiceBuilder`, so that axum's own body is not in between.
        erase(router().layer((CorsLayer::permissive(), websocket()))),
    ] {
        for version in Version::BOTH {
            let mut peer = Peer::connect(version, service.clone()).await;
            let mut preflight = peer.request(Method::OPTIONS, "/plain");
            let get = HeaderValue::from_static("GET");
            preflight
                .headers_mut()
                .insert(ACCESS_CONTROL_REQUEST_METHOD, get);
            let response = peer.send(preflight).await;
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
            drop(response);
            let mut socket = peer.open().await.unwrap();
            echoes(&mut socket, "hello").await;
        }
    }
}

/// `From` makes the body of a layer that has words of its own for those that it refuses.
#[tokio::test(start_paused = true)]
async fn a_layer_outside_refuses_a_handshake_with_a_body_of_its_own() {
    fn check<A, B: From<Full<Bytes>>>(request: &mut Request<A>) -> Result<(), Response<B>> {
        match request.headers().get(AUTHORIZATION) {
            Some(_) => Ok(()),
            None => Err(Response::new(Full::from("log in first").into())),
        }
    }
    let layer = ValidateRequestHeaderLayer::custom(check);
    let service = erase(layer.layer(websocket().layer(Plain)));
    for version in Version::BOTH {
        let mut peer = Peer::connect(version, service.clone()).await;
        let response = peer.send(peer.request(Method::GET, "/ws")).await;
        let body = within(response.into_body().collect()).await.unwrap();
        assert_eq!(body.to_bytes(), "log in first");
        let mut handshake = peer.handshake();
        let token = HeaderValue::from_static("Bearer ada");
        handshake.headers_mut().insert(AUTHORIZATION, token);
        let response = peer.send(handshake).await;
        assert_eq!(response.status(), version.success());
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_outside_ends_a_slow_handshake_and_nothing_opens() {
    let recorder = Recorder::default();
    let timeout = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, SECOND);
    let service = erase(timeout.layer(quiet(Slow(recorder.clone())).layer(Plain)));
    for version in Version::BOTH {
        let mut peer = Peer::connect(version, service.clone()).await;
        assert_eq!(peer.plain().await, 200);
        let response = peer.open().await.expect_err("a timeout");
        assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
        drop(peer);
        tokio::time::sleep(60 * SECOND).await;
        assert_eq!(recorder.log(), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_permit_of_towers_concurrency_limit_is_free_once_the_websocket_is_open() {
    let limited = erase(GlobalConcurrencyLimitLayer::new(1).layer(websocket().layer(Plain)));
    let ours = erase(websocket().max_connections(1).layer(Plain));
    for version in Version::BOTH {
        let mut open = Vec::new();
        for _ in 0..3 {
            let mut peer = Peer::connect(version, limited.clone()).await;
            assert_eq!(peer.plain().await, 200);
            open.push((peer.open().await.unwrap(), peer));
        }
        let mut peers = [
            Peer::connect(version, ours.clone()).await,
            Peer::connect(version, ours.clone()).await,
        ];
        for peer in &mut peers {
            assert_eq!(peer.plain().await, 200);
        }
        let mut socket = peers[0].open().await.unwrap();
        let refused = peers[1].open().await.expect_err("a refusal");
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        socket.send(&frame(0x88, &[])).await;
        socket.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn load_is_shed_while_handshakes_are_under_way_and_not_for_open_websockets() {
    let recorder = Recorder::default();
    let router = router().layer(quiet(Slow(recorder))).layer((
        HandleErrorLayer::new(failed),
        LoadShedLayer::new(),
        // axum may layer a route anew for each request: one semaphore for all of them.
        GlobalConcurrencyLimitLayer::new(1),
    ));
    let service = erase(router);
    for version in Version::BOTH {
        let mut first = Peer::connect(version, service.clone()).await;
        assert_eq!(first.plain().await, 200);
        let mut second = Peer::connect(version, service.clone()).await;
        let (opened, plain) = tokio::join!(first.open(), async {
            tokio::time::sleep(SECOND).await;
            second.plain().await
        });
        assert_eq!(plain, 503);
        let _open = opened.unwrap();
        assert_eq!(second.plain().await, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_websocket_is_a_request_in_flight_until_it_is_open() {
    let (layer, counter) = InFlightRequestsLayer::pair();
    let service = erase(layer.layer(quiet(Slow(Recorder::default())).layer(Plain)));
    for version in Version::BOTH {
        let mut peer = Peer::connect(version, service.clone()).await;
        assert_eq!(peer.plain().await, 200);
        let (opened, during) = tokio::join!(peer.open(), async {
            tokio::time::sleep(SECOND).await;
            counter.get()
        });
        let _open = opened.unwrap();
        assert_eq!((during, counter.get()), (1, 0), "{version:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn trace_sees_the_response_that_opens_a_websocket_and_no_failure() {
    let (responses, failures) = (Count::default(), Count::default());
    let layer = TraceLayer::new_for_http()
        .on_response({
            let responses = responses.clone();
            move |_: &Response<_>, _: Duration, _: &tracing::Span| responses.add()
        })
        .on_failure({
            let failures = failures.clone();
            move |_, _: Duration, _: &tracing::Span| failures.add()
        });
    let service = erase(layer.layer(websocket().layer(Plain)));
    for (version, expected) in Version::BOTH.into_iter().zip([2, 4]) {
        let mut peer = Peer::connect(version, service.clone()).await;
        assert_eq!(peer.plain().await, 200);
        let mut socket = peer.open().await.unwrap();
        echoes(&mut socket, "hello").await;
        assert_eq!((responses.get(), failures.get()), (expected, 0));
    }
}

/// Over HTTP/1.1 and without a guard, our body of a 101 has an end that only the server can see.
#[tokio::test(start_paused = true)]
async fn under_the_guard_a_101_is_no_body_that_was_dropped_early() {
    let dropped = Count::default();
    let hook = {
        let dropped = dropped.clone();
        OnBodyDropFn::new(move |_: &Request<Incoming>| {
            let dropped = dropped.clone();
            move |_: &http::response::Parts| move || dropped.add()
        })
    };
    let layer = OnEarlyDropLayer::builder().on_body_drop(hook);
    let bare = erase(layer.layer(websocket().layer(Plain)));
    let guarded = erase(UpgradeGuardLayer::new().layer(bare.clone()));
    let inside = erase(websocket().layer(layer.layer(Plain)));
    for (service, version, expected) in [
        (&guarded, Version::Http1, 0),
        (&guarded, Version::Http2, 0),
        (&inside, Version::Http1, 0),
        (&bare, Version::Http2, 0),
        (&bare, Version::Http1, 1),
    ] {
        let mut peer = Peer::connect(version, service.clone()).await;
        assert_eq!(peer.plain().await, 200);
        let mut socket = peer.open().await.unwrap();
        echoes(&mut socket, "hello").await;
        assert_eq!(dropped.get(), expected, "{version:?}");
    }
}

/// Both sides of an option answer with the same body, so the layer's is put into one that the
/// inner service has.
#[tokio::test(start_paused = true)]
async fn the_layer_can_be_optional() {
    for on in [true, false] {
        let boxed = MapResponseBodyLayer::new(axum::body::Body::new);
        let layer = option_layer(on.then(|| (boxed, websocket())));
        let service = erase(router().layer(layer));
        if on {
            let what = "optional";
            let effect = WORKS;
            Case {
                what,
                service,
                effect,
            }
            .check()
            .await;
        } else {
            let mut peer = Peer::connect(Version::Http1, service).await;
            let response = peer.open().await.expect_err("the inner service's response");
            assert_eq!(response.status(), StatusCode::OK);
        }
    }
}
