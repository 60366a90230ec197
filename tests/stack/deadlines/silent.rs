//! Clients that connect and ask for nothing. hyper-util's auto server has no deadline for them before it
//! knows which HTTP they speak, so the examples bring one.

use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::time::{Instant, sleep};
use tower::Layer;

use super::first_request;
use crate::support::*;

/// The server of `examples/echo.rs` on one end of a pipe.
fn connect(stack: &Stack<Recorder>) -> Client {
    let (client, server) = tokio::io::duplex(16 * 1024);
    let (service, first) = first_request::noticed(stack.layer.layer(plain()));
    tokio::spawn(async move {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(10));
        builder.http2().enable_connect_protocol();
        let service = TowerToHyperService::new(service);
        let serving = builder.serve_connection_with_upgrades(TokioIo::new(server), service);
        let _ = first.or_drop(serving).await;
    });
    Client::new(client)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_for_nothing_is_dropped_in_ten_seconds() {
    let (stack, _) = Stack::recorded();
    for said in [
        &b""[..],
        b"P",
        b"PRI * HTTP/2.0\r\n\r\nSM",
        b"GET / HTTP/1.1\r\nHo",
    ] {
        let mut client = connect(&stack);
        let began = Instant::now();
        client.send(said).await;
        client.end().await;
        let waited = began.elapsed().as_millis();
        assert!((10_000..10_100).contains(&waited), "{said:?}: {waited} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_has_asked_in_time_stays() {
    let (stack, _) = Stack::recorded();
    let mut client = connect(&stack);
    sleep(Duration::from_secs(9)).await;
    client.open("/ws").await;
    for _ in 0..100 {
        // Heartbeats come in between, and are answered.
        sleep(Duration::from_secs(15)).await;
        client.send(&text("still here")).await;
        let frame = client.frame().await.unwrap();
        if frame.first == 0x89 {
            client
                .send(&crate::support::frame(0x8A, &frame.payload))
                .await;
            client.expect(0x81, b"still here").await;
        } else {
            assert_eq!(frame.payload, b"still here");
        }
    }
    client.send(&close(1000, "")).await;
    client.expect_close(Some(1000)).await;
}
