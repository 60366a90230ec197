//! cargo run --manifest-path examples/operator/Cargo.toml -- [--addr 127.0.0.1:3004]
//!
//! An echo that is operated: metrics for Prometheus at `/metrics`, the operator's page at `/operator`,
//! a probe for load balancers at `/ready`, and a drain at Ctrl-C. `dashboard.json` beside it is for
//! Grafana.
//!
//!     python3 -m websockets ws://127.0.0.1:3004/echo      # and, elsewhere:
//!     curl http://127.0.0.1:3004/metrics
//!     open http://operator:secret@127.0.0.1:3004/operator

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::{Router, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tokio::net::TcpListener;
use tower_websocket::{
    Connection, Message, OperatorPage, Rejection, Result, Shutdown, Topics, WebSocketHandler,
    WebSocketLayer,
};

#[derive(Clone)]
struct Echo;

impl WebSocketHandler for Echo {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        // `/echo/tea` subscribes "tea".
        let topic = conn.path().trim_matches('/');
        if !topic.is_empty() {
            conn.subscribe(topic)?;
        }
        Ok(())
    }

    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.send(message).await?;
        Ok(())
    }
}

/// `operator:secret`. A real one comes from where the application has its secrets, and over TLS.
const OPERATOR: &str = "Basic b3BlcmF0b3I6c2VjcmV0";

fn operators_only(request: &Parts) -> Result<(), Rejection> {
    match request.headers.get(header::AUTHORIZATION) {
        Some(value) if value == OPERATOR => Ok(()),
        _ => Err(Rejection::from(StatusCode::UNAUTHORIZED).with_header(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"operators\""),
        )),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().init();
    let mut addr = SocketAddr::from(([127, 0, 0, 1], 3004));
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        match (&*flag, args.next()) {
            ("--addr", Some(value)) => addr = value.parse()?,
            _ => return Err("usage: operator-example [--addr HOST:PORT]".into()),
        }
    }

    // Before the first connection. Seconds: a round trip, a callback, a connection.
    let short = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0];
    let long = [1.0, 10.0, 60.0, 600.0, 3600.0, 86400.0];
    let prometheus = PrometheusBuilder::new()
        .set_buckets(&short)?
        .set_buckets_for_metric(
            Matcher::Full("websocket.server.connection.duration".to_owned()),
            &long,
        )?
        .install_recorder()?;

    let shutdown = Shutdown::new();
    let topics = Topics::new();
    let layer = WebSocketLayer::new("/echo", Echo)
        .shutdown(&shutdown)
        .topics(&topics)
        .max_connections(50_000)
        .warn_slow_callbacks(Duration::from_millis(500));
    let app = Router::new()
        .route("/metrics", get(async move || prometheus.render()))
        .route_service("/ready", layer.readiness())
        .route_service(
            "/operator",
            OperatorPage::new(&layer.connections(), operators_only).topics(&topics),
        )
        .layer(layer);

    let listener = TcpListener::bind(addr).await?;
    println!("listening on {}", listener.local_addr()?);
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let drain = shutdown.drain_on(tokio::signal::ctrl_c(), Duration::from_secs(20));
    let drain = tokio::spawn(drain);
    axum::serve(listener, app)
        .with_graceful_shutdown(shutdown.started())
        .await?;
    println!("{:?}", shutdown.drain(Duration::from_secs(20)).await);
    drop(drain);
    Ok(())
}
