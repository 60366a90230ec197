//! Every layer of tower-http but `FollowRedirect`, which follows what a server answers, and would bring
//! 25 crates along.

use http::{HeaderName, HeaderValue};
use tower_http::add_extension::AddExtensionLayer;
use tower_http::auth::{AddAuthorizationLayer, AsyncRequireAuthorizationLayer};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::csrf::CsrfLayer;
use tower_http::decompression::{DecompressionLayer, RequestDecompressionLayer};
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::map_request_body::MapRequestBodyLayer;
use tower_http::map_response_body::MapResponseBodyLayer;
use tower_http::metrics::InFlightRequestsLayer;
use tower_http::normalize_path::NormalizePathLayer;
use tower_http::on_early_drop::{EarlyDropsAsFailures, OnEarlyDropLayer};
use tower_http::propagate_header::PropagateHeaderLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::sensitive_headers::{
    SetSensitiveHeadersLayer, SetSensitiveRequestHeadersLayer, SetSensitiveResponseHeadersLayer,
};
use tower_http::set_header::request::SetMultipleRequestHeadersLayer;
use tower_http::set_header::response::SetMultipleResponseHeadersLayer;
use tower_http::set_header::{SetRequestHeaderLayer, SetResponseHeaderLayer};
use tower_http::set_status::SetStatusLayer;
use tower_http::timeout::{
    RequestBodyDeadlineLayer, RequestBodyTimeoutLayer, ResponseBodyDeadlineLayer,
    ResponseBodyTimeoutLayer, TimeoutLayer,
};
use tower_http::trace::{DefaultOnFailure, TraceLayer};
use tower_http::validate_request::ValidateRequestHeaderLayer;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const NAME: HeaderName = HeaderName::from_static("x-key");
const VALUE: HeaderValue = HeaderValue::from_static("known");

fn same<T>(value: T) -> T {
    value
}

fn no_objection<A, B>(_: &mut Request<A>) -> Result<(), Response<B>> {
    Ok(())
}

async fn allow<A, B>(request: Request<A>) -> Result<Request<A>, Response<B>> {
    Ok(request)
}

const REFUSED: Effect = Effect {
    websocket: [403, 403],
    plain: 403,
};

const PLAIN_REFUSED: Effect = Effect {
    plain: 403,
    ..WORKS
};

macro_rules! table {
    ($($stack:tt)*) => { each_layer! { $($stack)*:
        AddAuthorizationLayer::basic("ada", "secret");
        AddExtensionLayer::new(7_u8);
        AsyncRequireAuthorizationLayer::new(allow);
        CatchPanicLayer::new();
        CompressionLayer::new();
        CorsLayer::permissive();
        CsrfLayer::new();
        DecompressionLayer::new();
        InFlightRequestsLayer::pair().0;
        MapRequestBodyLayer::new(same);
        MapResponseBodyLayer::new(same);
        NormalizePathLayer::append_trailing_slash();
        NormalizePathLayer::trim_trailing_slash();
        OnEarlyDropLayer::new(EarlyDropsAsFailures::new(DefaultOnFailure::new()));
        PropagateHeaderLayer::new(NAME);
        PropagateRequestIdLayer::x_request_id();
        RequestBodyDeadlineLayer::new(MINUTE);
        RequestBodyLimitLayer::new(1024);
        RequestBodyTimeoutLayer::new(MINUTE);
        RequestDecompressionLayer::new();
        ResponseBodyDeadlineLayer::new(MINUTE);
        ResponseBodyTimeoutLayer::new(MINUTE);
        SetMultipleRequestHeadersLayer::overriding(vec![(NAME, VALUE).into()]);
        SetMultipleResponseHeadersLayer::overriding(vec![(NAME, VALUE).into()]);
        SetRequestHeaderLayer::overriding(NAME, VALUE);
        SetRequestIdLayer::x_request_id(MakeRequestUuid);
        SetResponseHeaderLayer::overriding(NAME, VALUE);
        SetSensitiveHeadersLayer::new([NAME]);
        SetSensitiveRequestHeadersLayer::new([NAME]);
        SetSensitiveResponseHeadersLayer::new([NAME]);
        // A WebSocket needs the status that this one replaces.
        SetStatusLayer::new(StatusCode::FORBIDDEN), outside: REFUSED, inside: PLAIN_REFUSED;
        TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, MINUTE);
        TraceLayer::new_for_grpc();
        TraceLayer::new_for_http();
        ValidateRequestHeaderLayer::accept("text/plain");
        ValidateRequestHeaderLayer::custom(no_objection);
        ValidateRequestHeaderLayer::has_header_value("x-key", "known").unwrap();
    } };
}

#[tokio::test(start_paused = true)]
async fn every_layer_of_tower_http_fits_around_the_layer_and_inside_it() {
    check_each(table!(hyper)).await;
}

#[tokio::test(start_paused = true)]
async fn every_layer_of_tower_http_fits_into_the_router_of_axum_beside_the_layer() {
    check_each(table!(axum)).await;
}
