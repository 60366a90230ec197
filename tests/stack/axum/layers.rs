//! The layer in axum's routers and among tower-http's layers (rows A16, R1, X1).

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tower_websocket::{Connection, Result, Shutdown, WebSocketHandler, WebSocketLayer};

use super::{Where, ask, expect_where, serve};
use crate::support::*;

#[tokio::test]
async fn it_works_around_routes_and_whole_routers() {
    let layer = WebSocketLayer::new("/chat", Where);
    let routed = Router::new()
        .route("/", get(|| async { "index" }))
        .layer(layer.clone());
    let addr = serve(routed.clone()).await;
    expect_where(addr, "/chat/a?q=1", "/chat|/a|/chat/a?q=1").await;
    let mut client = tcp_client(addr).await;
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.body(), "index");
    assert_eq!(ask(addr, "/chatter").await.0, 404);

    // A route layer sees only what has a route.
    let by_route = Router::new()
        .route("/chat", get(|| async { "page" }))
        .route_layer(layer.clone());
    let addr = serve(by_route).await;
    expect_where(addr, "/chat", "/chat||/chat").await;
    assert_eq!(ask(addr, "/chat/a").await.0, 404);

    // Around the whole router, its fallback included.
    let around = ServiceBuilder::new()
        .layer(layer)
        .service(Router::new().fallback(|| async { StatusCode::IM_A_TEAPOT }));
    let addr = serve(Router::new().fallback_service(around)).await;
    expect_where(addr, "/chat", "/chat||/chat").await;
    assert_eq!(ask(addr, "/other").await.0, 418);
}

#[tokio::test]
async fn under_nest_the_mount_is_relative_and_the_original_uri_stays_visible() {
    let layer = WebSocketLayer::new("/chat", Where);
    // A nested router is asked only for what it has a route for; a nested service for all.
    let routes = Router::new()
        .route("/chat/{*rest}", get(|| async { "page" }))
        .layer(layer.clone());
    let leaf = Router::new().route_service("/chat", layer.clone().into_service());
    let app = Router::new()
        .nest("/api", routes)
        .nest("/leaf", leaf)
        .nest_service("/all", Router::new().layer(layer));
    let addr = serve(app).await;
    expect_where(addr, "/api/chat/a", "/chat|/a|/api/chat/a").await;
    expect_where(addr, "/leaf/chat", "/chat||/leaf/chat").await;
    expect_where(addr, "/all/chat/a", "/chat|/a|/all/chat/a").await;
    assert_eq!(ask(addr, "/chat").await.0, 404);
}

#[tokio::test]
async fn a_leaf_serves_a_route_with_parameters() {
    let leaf = WebSocketLayer::new("/", Where).into_service();
    let addr = serve(Router::new().route_service("/rooms/{id}", leaf)).await;
    expect_where(addr, "/rooms/7", "|/rooms/7|/rooms/7").await;
    let mut client = tcp_client(addr).await;
    client
        .send(b"GET /rooms/7 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let (head, _) = whole(client.response().await);
    assert_eq!(
        (head.status().as_u16(), head.header("upgrade")),
        (426, Some("websocket"))
    );
}

#[tokio::test]
async fn of_several_layers_the_outermost_that_matches_wins() {
    #[derive(Clone)]
    struct Named(&'static str);
    impl WebSocketHandler for Named {
        async fn on_open(&mut self, conn: &mut Connection) -> Result {
            conn.send(self.0).await?;
            Ok(())
        }
    }
    // The last layer of a Router is the outermost.
    let app = Router::new()
        .layer(WebSocketLayer::new("/a", Named("first")))
        .layer(WebSocketLayer::new("/b", Named("b")))
        .layer(WebSocketLayer::new("/a", Named("last")));
    let addr = serve(app).await;
    expect_where(addr, "/a", "last").await;
    expect_where(addr, "/b", "b").await;
    // The first layer of a ServiceBuilder is.
    let layers = ServiceBuilder::new()
        .layer(WebSocketLayer::new("/a", Named("first")))
        .layer(WebSocketLayer::new("/a", Named("last")));
    let addr = serve(Router::new().layer(layers)).await;
    expect_where(addr, "/a", "first").await;
}

#[tokio::test]
async fn a16_h27_an_auth_layer_in_front_runs_first_whatever_the_path_looks_like() {
    let auth = from_fn(|request: Request, next: Next| async move {
        if request.headers().contains_key("authorization") {
            return next.run(request).await;
        }
        StatusCode::UNAUTHORIZED.into_response()
    });
    let app = Router::new()
        .layer(WebSocketLayer::new("/chat", Where))
        .layer(auth);
    let addr = serve(app).await;
    for path in [
        "/chat",
        "//chat",
        "/x/../chat",
        "/%63hat",
        "/chat%2fa",
        "http://a/chat",
    ] {
        assert_eq!(ask(addr, path).await.0, 401, "{path}");
    }
}

#[tokio::test]
async fn the_peers_address_and_what_layers_found_out_reach_the_handler() {
    #[derive(Clone)]
    struct User(&'static str);
    let layer = WebSocketLayer::from_fn("/chat", |conn: Connection| async move {
        let user = conn.request().extensions.get::<User>().map(|u| u.0);
        let ip = conn.peer_addr().map(|a| a.ip().to_string());
        conn.send(format!("{user:?} {ip:?}")).await?;
        Ok(())
    });
    let know = from_fn(|mut request: Request, next: Next| async move {
        request.extensions_mut().insert(User("ann"));
        next.run(request).await
    });
    let addr = serve(Router::new().layer(layer).layer(know)).await;
    expect_where(addr, "/chat", "Some(\"ann\") Some(\"127.0.0.1\")").await;
}

#[tokio::test]
async fn a16_under_and_over_other_layers_the_upgrade_works_and_the_socket_outlives_them() {
    for over in [true, false] {
        let (shutdown, recorder) = (Shutdown::new(), Recorder::default());
        let layer = WebSocketLayer::new("/ws", recorder.clone())
            .shutdown(&shutdown)
            .max_connections(1);
        let others = || {
            ServiceBuilder::new()
                .layer(TraceLayer::new_for_http())
                .layer(CatchPanicLayer::new())
                .layer(TimeoutLayer::with_status_code(
                    StatusCode::REQUEST_TIMEOUT,
                    Duration::from_millis(50),
                ))
                .layer(CompressionLayer::new())
                .layer(RequestBodyLimitLayer::new(10))
        };
        let app = Router::new().route("/", get(|| async { "index" }));
        let app = if over {
            app.layer(others()).layer(layer)
        } else {
            app.layer(layer).layer(others())
        };
        let addr = serve(app).await;
        let mut client = tcp_client(addr).await;
        let browser = HANDSHAKE.replace("\r\n\r\n", "\r\nAccept-Encoding: gzip, br\r\n\r\n");
        client.send(browser.as_bytes()).await;
        let head = client.head().await;
        assert_eq!(head.status(), 101, "{head:?}");
        assert_eq!(head.header("content-length"), None);
        assert_eq!(head.header("transfer-encoding"), None);
        // Longer than the timeout of responses; no race, since nothing must happen.
        tokio::time::sleep(Duration::from_millis(120)).await;
        client.send(&text("still open")).await;
        client.expect(0x81, b"still open").await;
        // R1: its permit is held as long as the socket lives, on every route.
        assert_eq!(ask(addr, "/ws").await.0, 503);
        client.send(&close(1000, "")).await;
        client.expect_close(Some(1000)).await;
        drop(client);
        left(&shutdown, 0).await;
        assert_eq!(ask(addr, "/ws").await.0, 101, "the permit is free again");
    }
}

/// What an outer middleware may do to our response (row X1), with what a client may do then.
#[tokio::test]
async fn x1_a_response_that_was_changed_or_replaced_opens_nothing() {
    async fn changed(request: Request, next: Next) -> Response {
        let mut response = next.run(request).await;
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
    }
    async fn replaced(request: Request, next: Next) -> Response {
        drop(next.run(request).await);
        (StatusCode::FORBIDDEN, "no").into_response()
    }
    async fn kept_for_later(request: Request, next: Next) -> Response {
        let response = next.run(request).await;
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(response);
        });
        StatusCode::FORBIDDEN.into_response()
    }
    let second = "GET /other HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for i in 0..6 {
        let (shutdown, recorder) = (Shutdown::new(), Recorder::default());
        let app =
            Router::new().layer(WebSocketLayer::new("/ws", recorder.clone()).shutdown(&shutdown));
        let app = match i % 3 {
            0 => app.layer(from_fn(changed)),
            1 => app.layer(from_fn(replaced)),
            _ => app.layer(from_fn(kept_for_later)),
        };
        // A compression layer looks at every body that passes.
        let app = app.layer(CompressionLayer::new());
        let addr = serve(app).await;
        let mut client = tcp_client(addr).await;
        let pipelined = i >= 3;
        let mut bytes = HANDSHAKE.to_owned();
        if pipelined {
            bytes.push_str(second);
        }
        client.send(bytes.as_bytes()).await;
        assert_eq!(client.head().await.status(), 403);
        if !pipelined {
            client.try_send(second.as_bytes()).await;
        }
        client.try_send(&text("let me in")).await;
        client.end().await;
        left(&shutdown, 0).await;
        assert!(recorder.log().is_empty(), "{i}: {:?}", recorder.log());
    }
}

#[tokio::test]
async fn a18_without_hypers_upgrade_the_answer_is_500() {
    use tower::ServiceExt;
    let app = Router::new().layer(WebSocketLayer::new("/ws", Where));
    let request = Request::get("/ws")
        .header("host", "localhost")
        .header("upgrade", "websocket")
        .header("connection", "upgrade")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(axum::body::Body::empty())
        .unwrap();
    let response = app.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
}
