//! Arrangements that compile and look right. Which of them open is axum's doing; the guide's page on
//! axum has a row for each, with what to write instead. What does open is tried beside it.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{any, get};
use tower_websocket::WebSocketLayer;

use super::{Where, ask, expect_where, serve};
use crate::support::{tcp_client, whole};

fn ws(mount: &str) -> WebSocketLayer<Where> {
    WebSocketLayer::new(mount, Where)
}

async fn page() -> &'static str {
    "page"
}

/// The status of a handshake at `path`.
async fn status(app: Router, path: &str) -> u16 {
    ask(serve(app).await, path).await.0
}

/// The status and the text that a developer sees.
async fn refusal(app: Router, path: &str) -> (u16, String) {
    let mut client = tcp_client(serve(app).await).await;
    client.send(super::handshake(path).as_bytes()).await;
    let (head, text) = whole(client.response().await);
    (head.status().as_u16(), text)
}

#[tokio::test]
async fn a_fallback_that_is_set_behind_the_layer_is_not_wrapped() {
    let fallback = || async { StatusCode::IM_A_TEAPOT };
    let app = Router::new().route("/", get(page));
    let wrong = app.clone().layer(ws("/ws")).fallback(fallback);
    assert_eq!(status(wrong, "/ws").await, 418);
    let right = app.fallback(fallback).layer(ws("/ws"));
    expect_where(serve(right).await, "/ws", "/ws||/ws").await;
}

#[tokio::test]
async fn what_is_merged_into_a_layered_router_is_not_wrapped() {
    let routes = Router::new().route("/", get(page));
    let wrong = Router::new().layer(ws("/ws")).merge(routes.clone());
    assert_eq!(status(wrong, "/ws").await, 404);
    let right = Router::new().merge(routes).layer(ws("/ws"));
    expect_where(serve(right).await, "/ws", "/ws||/ws").await;
}

#[tokio::test]
async fn of_two_layered_routers_that_are_merged_one_loses_its_layer() {
    let (a, b) = (Router::new().layer(ws("/a")), Router::new().layer(ws("/b")));
    let addr = serve(a.merge(b)).await;
    let opened = [ask(addr, "/a").await.0, ask(addr, "/b").await.0];
    assert!(opened.contains(&404), "{opened:?}");
    let right = Router::new().layer(ws("/a")).layer(ws("/b"));
    let addr = serve(right).await;
    expect_where(addr, "/a", "/a||/a").await;
    expect_where(addr, "/b", "/b||/b").await;
}

#[tokio::test]
async fn a_route_layer_is_asked_only_for_routes() {
    let wrong = Router::new().route("/", get(page)).route_layer(ws("/ws"));
    assert_eq!(status(wrong, "/ws").await, 404);
    let right = Router::new().route("/", get(page)).layer(ws("/ws"));
    expect_where(serve(right).await, "/ws", "/ws||/ws").await;
}

#[tokio::test]
async fn a_nested_router_is_asked_only_for_routes_of_its_own() {
    let routes = Router::new().route("/", get(page));
    let wrong = Router::new().nest("/api", routes.clone().layer(ws("/ws")));
    assert_eq!(status(wrong, "/api/ws").await, 404);
    let leaf = ws("/").into_service();
    let right = Router::new().nest("/api", routes.route_service("/ws", leaf));
    expect_where(serve(right).await, "/api/ws", "|/ws|/api/ws").await;
}

#[tokio::test]
async fn a_leaf_that_gets_a_handshake_outside_its_mount_says_so() {
    let leaf = |mount: &str| Router::new().route_service("/ws", ws(mount).into_service());
    let (status, text) = refusal(Router::new().nest("/api", leaf("/api/ws")), "/api/ws").await;
    assert_eq!(status, 404);
    for part in ["\"/ws\"", "\"/api/ws\"", "mounted at \"/\"", "`nest`"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    for mount in ["/", "/ws"] {
        let addr = serve(Router::new().nest("/api", leaf(mount))).await;
        assert_eq!(ask(addr, "/api/ws").await.0, 101, "{mount}");
    }
}

#[tokio::test]
async fn a_mount_that_is_a_pattern_says_what_to_write() {
    let pattern = "/rooms/{id}";
    let layered = Router::new().route("/", get(page)).layer(ws(pattern));
    let leaf = Router::new().route_service(pattern, ws(pattern).into_service());
    for wrong in [layered, leaf] {
        let (status, text) = refusal(wrong, "/rooms/7").await;
        assert_eq!(status, 500);
        for part in [
            "\"/rooms/{id}\"",
            "WebSocketOptions",
            "into_service()",
            "any(handler)",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }
    let right = Router::new().route_service(pattern, ws("/").into_service());
    expect_where(serve(right).await, "/rooms/7", "|/rooms/7|/rooms/7").await;
}

#[tokio::test]
async fn a_pattern_takes_no_request_from_the_inner_service_that_is_not_a_handshake() {
    let app = Router::new()
        .route("/rooms/{id}", get(page))
        .layer(ws("/rooms/{id}"));
    let mut client = tcp_client(serve(app).await).await;
    client
        .send(b"GET /rooms/7 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(client.response().await.body(), "page");
}

#[tokio::test]
async fn a_route_that_is_added_behind_the_layer_is_not_wrapped() {
    let wrong = Router::new().layer(ws("/ws")).route("/ws", any(page));
    assert_eq!(status(wrong, "/ws").await, 200);
    let right = Router::new().route("/ws", any(page)).layer(ws("/ws"));
    expect_where(serve(right).await, "/ws", "/ws||/ws").await;
}
