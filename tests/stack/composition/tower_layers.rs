//! Every layer of tower, and its other middleware that takes a service.

use http_body_util::Empty;
use tower::buffer::BufferLayer;
use tower::filter::{AsyncFilterLayer, FilterLayer};
use tower::hedge::Hedge;
use tower::limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer, RateLimitLayer};
use tower::load_shed::LoadShedLayer;
use tower::retry::RetryLayer;
use tower::spawn_ready::SpawnReadyLayer;
use tower::steer::Steer;
use tower::timeout::TimeoutLayer;
use tower::util::{
    AndThenLayer, BoxCloneService, BoxCloneServiceLayer, BoxCloneSyncService,
    BoxCloneSyncServiceLayer, BoxService, MapErrLayer, MapFutureLayer, MapRequestLayer,
    MapResponseLayer, MapResultLayer, ThenLayer, option_layer,
};
use tower_http::map_request_body::MapRequestBodyLayer;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn same<T>(value: T) -> T {
    value
}

fn pass<T>(value: T) -> Result<T, BoxError> {
    Ok(value)
}

async fn pass_later<T, E>(value: T) -> Result<T, E> {
    Ok(value)
}

async fn result_later<T>(result: T) -> T {
    result
}

/// So that a policy can clone the request.
fn empty<B>(_: B) -> Empty<Bytes> {
    Empty::new()
}

/// Clones every request, and repeats those that fail.
#[derive(Clone)]
struct Again;

impl<R, T, E> tower::retry::Policy<Request<R>, T, E> for Again
where
    R: Clone,
{
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Request<R>, result: &mut Result<T, E>) -> Option<Ready<()>> {
        result.is_err().then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<R>) -> Option<Request<R>> {
        Some(request.clone())
    }
}

impl<R> tower::hedge::Policy<Request<R>> for Again
where
    R: Clone,
{
    fn clone_request(&self, request: &Request<R>) -> Option<Request<R>> {
        Some(request.clone())
    }

    fn can_retry(&self, _: &Request<R>) -> bool {
        true
    }
}

/// tower has a service of this kind, and no layer.
#[derive(Clone)]
struct HedgeLayer;

impl<S> Layer<S> for HedgeLayer
where
    S: Service<Request<Empty<Bytes>>> + Clone,
    S::Error: Into<BoxError>,
{
    type Service = Hedge<S, Again>;

    fn layer(&self, inner: S) -> Self::Service {
        Hedge::new(inner, Again, 1, 0.5, MINUTE)
    }
}

/// Those that are not `Clone`, as a server needs them, stand behind a buffer.
macro_rules! table {
    ($($stack:tt)*) => { each_layer! { $($stack)*:
        AndThenLayer::new(pass_later::<_, BoxError>);
        AsyncFilterLayer::new(pass_later::<_, BoxError>);
        BoxCloneSyncService::layer();
        BoxCloneSyncServiceLayer::new(ConcurrencyLimitLayer::new(1));
        BufferLayer::new(8);
        (BufferLayer::new(8), BoxService::layer());
        ConcurrencyLimitLayer::new(1);
        FilterLayer::new(pass);
        GlobalConcurrencyLimitLayer::new(1);
        LoadShedLayer::new();
        MapErrLayer::new(same);
        MapFutureLayer::new(same);
        MapRequestLayer::new(same);
        MapResponseLayer::new(same);
        MapResultLayer::new(same);
        option_layer(Some(ConcurrencyLimitLayer::new(1)));
        (BufferLayer::new(8), RateLimitLayer::new(100, MINUTE));
        (MapRequestBodyLayer::new(empty), RetryLayer::new(Again));
        (BufferLayer::new(8), SpawnReadyLayer::new());
        ThenLayer::new(result_later);
        TimeoutLayer::new(MINUTE);
    } };
}

#[tokio::test(start_paused = true)]
async fn every_layer_of_tower_fits_around_the_layer_and_inside_it() {
    check_each(table!(hyper)).await;
    check_each(each_layer! { hyper:
        (MapRequestBodyLayer::new(empty), BufferLayer::new(8), HedgeLayer);
        // axum asks for `Sync`.
        BoxCloneService::layer();
        BoxCloneServiceLayer::new(ConcurrencyLimitLayer::new(1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn every_layer_of_tower_fits_into_the_router_of_axum_beside_the_layer() {
    check_each(table!(axum, errors_handled)).await;
}

#[tokio::test(start_paused = true)]
async fn steer_takes_the_layer_among_other_services() {
    let services = [erase(websocket().layer(Plain)), erase(Plain)];
    let service = Steer::new(services, |request: &Request<Incoming>, _: &[_]| {
        usize::from(request.uri().path() != "/ws")
    });
    let what = "Steer";
    let service = erase(service);
    let effect = WORKS;
    Case {
        what,
        service,
        effect,
    }
    .check()
    .await;
}
