//! WebSockets inside routes, with path parameters, state and extractors.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use serde::Deserialize;
use tower_websocket::{
    Connection, Handshake, Message, Rejection, Result, Shutdown, WebSocketHandler, WebSocketLayer,
    WebSocketOptions,
};

use super::{Where, ask, handshake, serve};
use crate::http2::{connect, request, session};
use crate::support::*;

#[derive(Clone)]
struct App {
    websockets: WebSocketOptions,
    greeting: &'static str,
}

struct User(String);

impl FromRequestParts<App> for User {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Self::Rejection> {
        let user = parts.headers.get("x-user").and_then(|v| v.to_str().ok());
        let user = user.ok_or((StatusCode::UNAUTHORIZED, "log in first"))?;
        Ok(Self(user.to_owned()))
    }
}

/// Made with what the route found: no field is empty for a while.
#[derive(Clone)]
struct Room {
    line: String,
}

impl WebSocketHandler for Room {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        let line = format!("{}|{}|{}", self.line, conn.mount(), conn.path());
        conn.send(line).await?;
        Ok(())
    }
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.send(message).await?;
        Ok(())
    }
}

async fn room(
    State(app): State<App>,
    Path(id): Path<u32>,
    user: User,
    request: Request,
) -> Response {
    let line = format!("{} {} in room {id}", app.greeting, user.0);
    let opened = app.websockets.upgrade(request, Room { line }).await;
    opened.into_response()
}

fn router(websockets: WebSocketOptions) -> Router {
    let app = App {
        websockets,
        greeting: "hello",
    };
    let routes = Router::new().route("/rooms/{id}", any(room));
    Router::new()
        .nest("/api", routes.clone())
        .merge(routes)
        .with_state(app)
}

/// The status of a handshake of `user`, and the client.
async fn enter(app: Router, path: &str, user: &str) -> Client<tokio::net::TcpStream> {
    let mut client = tcp_client(serve(app).await).await;
    let user = format!("\r\nX-User: {user}\r\n\r\n");
    let head = handshake(path).replace("\r\n\r\n", &user);
    client.send(head.as_bytes()).await;
    client
}

#[tokio::test]
async fn a_route_opens_with_what_its_extractors_found() {
    for (path, prefix) in [("/rooms/7", ""), ("/rooms/7?x=1", ""), ("/rooms/7", "/api")] {
        let app = router(WebSocketOptions::new());
        let mut client = enter(app, &format!("{prefix}{path}"), "ada").await;
        assert_eq!(client.head().await.status(), 101);
        client.expect(0x81, b"hello ada in room 7||/rooms/7").await;
        client.send(&text("again")).await;
        client.expect(0x81, b"again").await;
        client.send(&close(1000, "")).await;
        client.expect_close(Some(1000)).await;
    }
}

#[tokio::test]
async fn a_route_opens_over_http2_too() {
    let sender = session(router(WebSocketOptions::new())).await;
    let mut ask = connect("/rooms/7");
    ask.headers_mut().insert("x-user", "ben".parse().unwrap());
    let (status, mut socket) = request(&sender, ask).await;
    assert_eq!(status, StatusCode::OK);
    let frame = socket.frame().await.unwrap();
    assert_eq!(frame.payload, b"hello ben in room 7||/rooms/7");
}

#[tokio::test]
async fn what_the_extractors_or_the_options_refuse_never_opens() {
    let app = router(WebSocketOptions::new());
    let addr = serve(app.clone()).await;
    // The extractors run first.
    assert_eq!(ask(addr, "/rooms/seven").await.0, 400);
    assert_eq!(ask(addr, "/rooms/7").await.0, 401);
    // Then the checks of the layer.
    let mut client = tcp_client(addr).await;
    let plain = b"GET /rooms/7 HTTP/1.1\r\nHost: a\r\nX-User: ada\r\n\r\n";
    client.send(plain).await;
    let (head, text) = whole(client.response().await);
    assert_eq!(
        (head.status().as_u16(), head.header("upgrade")),
        (426, Some("websocket"))
    );
    assert!(text.contains("This is a WebSocket"), "{text}");
    let foreign = "ada\r\nOrigin: https://evil.example";
    let mut client = enter(app, "/rooms/7", foreign).await;
    assert_eq!(client.response().await.status(), 403);
}

#[tokio::test]
async fn clones_of_options_and_layers_that_got_them_share_limits_and_shutdown() {
    let shutdown = Shutdown::new();
    let options = WebSocketOptions::new()
        .max_connections(2)
        .shutdown(&shutdown);
    let layer = WebSocketLayer::new("/chat", Where).options(&options);
    let app = router(options.clone()).layer(layer);
    let addr = serve(app.clone()).await;
    let mut first = enter(app.clone(), "/rooms/1", "ada").await;
    assert_eq!(first.head().await.status(), 101);
    let (status, mut second) = ask(addr, "/chat/x").await;
    assert_eq!(status, 101);
    second.expect(0x81, b"/chat|/x|/chat/x").await;
    let mut third = enter(app, "/rooms/1", "ada").await;
    assert_eq!(third.response().await.status(), 503);
    // A limit that is set anew is another one.
    let own = router(options.max_connections(1));
    assert_eq!(
        enter(own, "/rooms/1", "ada").await.head().await.status(),
        101
    );

    assert_eq!(shutdown.connections(), 3);
    let drain = tokio::spawn(shutdown.drain(Duration::from_secs(10)));
    first.expect(0x81, b"hello ada in room 1||/rooms/1").await;
    first.frame().await.unwrap();
    first.send(&close(1001, "")).await;
    second.frame().await.unwrap();
    second.send(&close(1001, "")).await;
    assert_eq!(drain.await.unwrap().closed(), 3);
}

#[tokio::test]
async fn a_function_that_serves_one_connection_owns_what_the_route_found() {
    /// Cannot be cloned.
    struct Ticket(String);

    async fn hello(
        State(websockets): State<WebSocketOptions>,
        headers: HeaderMap,
        request: Request,
    ) -> impl IntoResponse {
        let ticket = Ticket(format!("{} headers", headers.len()));
        websockets
            .upgrade_with(request, async move |mut conn: Connection| {
                let message = conn.recv().await?.ok_or("left without a word")?;
                let Ticket(line) = ticket;
                conn.send(format!("{line}, {}", shown(&message))).await?;
                if message.is_binary() {
                    return Err("no binary".into());
                }
                Ok(())
            })
            .await
    }

    let app = Router::new()
        .route("/hello", any(hello))
        .with_state(WebSocketOptions::new());
    let addr = serve(app).await;
    for (message, answer, code) in [
        (text("hi"), "5 headers, text hi", 1000),
        (frame(0x82, b"hi"), "5 headers, binary 2", 1011),
    ] {
        let (status, mut client) = ask(addr, "/hello").await;
        assert_eq!(status, 101);
        client.send(&message).await;
        client.expect(0x81, answer.as_bytes()).await;
        assert_eq!(client.frame().await.unwrap().close_code(), Some(code));
    }
}

#[derive(Deserialize)]
struct Login {
    name: String,
}

/// Extracts in `on_upgrade`, where a layer asks it.
#[derive(Clone)]
struct Extracting(Recorder);

impl WebSocketHandler for Extracting {
    async fn on_upgrade(&mut self, handshake: &mut Handshake) -> Result<(), Rejection> {
        let Path(id): Path<u32> = handshake.extract(&()).await?;
        let Query(Login { name }) = handshake.extract(&()).await?;
        if name == "json" {
            let refusal = (StatusCode::FORBIDDEN, Json(["not", "you"])).into_response();
            return Err(refusal.into());
        }
        if name == "stream" {
            let pieces = futures_util::stream::unfold(0, async |n| {
                // Not there at once.
                tokio::time::sleep(Duration::from_millis(1)).await;
                (n < 3).then(|| (Ok::<_, std::io::Error>(format!("piece {n};")), n + 1))
            });
            return Err(Response::new(Body::from_stream(pieces)).into());
        }
        self.0.note(format!("{name} in room {id}"));
        Ok(())
    }
    async fn on_open(&mut self, _: &mut Connection) -> Result {
        self.0.note("open");
        Ok(())
    }
}

#[tokio::test]
async fn extractors_in_on_upgrade_refuse_with_the_response_that_axum_would_send() {
    let recorder = Recorder::default();
    let leaf = WebSocketLayer::new("/", Extracting(recorder.clone())).into_service();
    let addr = serve(Router::new().route_service("/rooms/{id}", leaf)).await;
    for (path, status, part) in [
        ("/rooms/seven?name=ada", 400, "Cannot parse"),
        ("/rooms/7", 400, "missing field `name`"),
        ("/rooms/7?name=json", 403, r#"["not","you"]"#),
    ] {
        let mut client = tcp_client(addr).await;
        client.send(handshake(path).as_bytes()).await;
        let (head, text) = whole(client.response().await);
        assert_eq!(head.status(), status, "{path}: {text}");
        assert!(text.contains(part), "{path}: {text}");
    }
    // A body that comes piece by piece, with a status that would look like an acceptance.
    let mut client = tcp_client(addr).await;
    client
        .send(handshake("/rooms/7?name=stream").as_bytes())
        .await;
    let head = client.head().await;
    assert_eq!(head.status(), 403);
    assert_eq!(head.header("content-length"), None);
    assert_eq!(head.header("transfer-encoding"), Some("chunked"));
    for n in 0..3 {
        let chunk = format!("8\r\npiece {n};\r\n");
        client.expect_bytes(chunk.as_bytes()).await;
    }
    client.expect_bytes(b"0\r\n\r\n").await;
    assert_eq!(recorder.log(), [""; 0]);

    let (status, mut client) = ask(addr, "/rooms/7?name=ada").await;
    assert_eq!(status, 101);
    client.send(&close(1000, "")).await;
    client.expect_close(Some(1000)).await;
    assert_lines(&recorder.log(), &["ada in room 7", "open"]);
}
