//! cargo run --example app -- [--addr 127.0.0.1:3004]
//!
//! A whole application on axum: a REST interface, a login that sets a cookie, JSON messages over a
//! WebSocket in a route, prices that a background task pushes, an operator who throws users out, and a
//! graceful end on Ctrl-C.
//!
//!     curl -c jar -X POST '127.0.0.1:3004/login?name=ada'
//!     curl -b jar 127.0.0.1:3004/orders
//!     curl -X DELETE 127.0.0.1:3004/users/ada
//!
//! A client sends `{"order": {"article": "tea", "pieces": 2}}` to `ws://127.0.0.1:3004/ws/tea` and gets
//! `{"accepted": 1}`, and every second `{"article": "tea", "cents": 250}`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{any, delete, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tower_websocket::{
    Close, CloseEvent, Connection, ConnectionId, Message, Result, Sender, Shutdown,
    WebSocketHandler, WebSocketOptions,
};

/// A user was thrown out: of the codes that are free for applications.
const THROWN_OUT: u16 = 4003;

/// The state of the application, for routes and WebSockets alike.
#[derive(Clone, Default)]
struct App {
    websockets: WebSocketOptions,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    sessions: Mutex<HashMap<String, String>>,
    orders: Mutex<Vec<Order>>,
    online: Mutex<HashMap<ConnectionId, Online>>,
    next: AtomicU64,
}

struct Online {
    user: String,
    article: String,
    sender: Sender,
}

#[derive(Clone, Deserialize, Serialize)]
struct Order {
    article: String,
    pieces: u32,
}

/// What a client sends.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Command {
    Order(Order),
}

/// Who sends the request; the cookie says so.
#[derive(Clone)]
struct User(String);

impl FromRequestParts<App> for User {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Self::Rejection> {
        let cookies = parts
            .headers
            .get(header::COOKIE)
            .and_then(|c| c.to_str().ok());
        let mut cookies = cookies.unwrap_or_default().split("; ");
        let session = cookies.find_map(|cookie| cookie.strip_prefix("session="));
        let user = session.and_then(|session| lock(&app.shared.sessions).get(session).cloned());
        user.map(Self).ok_or((
            StatusCode::UNAUTHORIZED,
            "log in first: POST /login?name=…\n",
        ))
    }
}

/// One connection: made by the route, so that it has all it needs from the beginning.
#[derive(Clone)]
struct Shop {
    shared: Arc<Shared>,
    user: User,
    article: String,
}

impl WebSocketHandler for Shop {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        let online = Online {
            user: self.user.0.clone(),
            article: self.article.clone(),
            sender: conn.sender(),
        };
        lock(&self.shared.online).insert(conn.id(), online);
        Ok(())
    }

    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        // What is not a command closes the connection, with a reason that says why.
        let Command::Order(order) = message.parse_json()?;
        if order.pieces == 0 {
            return Err(Close::new(4000, "an order has at least one piece").into());
        }
        lock(&self.shared.orders).push(order);
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed) + 1;
        conn.send(Message::json(&serde_json::json!({"accepted": number}))?)
            .await?;
        Ok(())
    }

    async fn on_close(&mut self, conn: &mut Connection, _: CloseEvent) -> Result {
        lock(&self.shared.online).remove(&conn.id());
        Ok(())
    }
}

async fn open(
    State(app): State<App>,
    user: User,
    Path(article): Path<String>,
    request: Request,
) -> impl IntoResponse {
    let shared = app.shared;
    let shop = Shop {
        shared,
        user,
        article,
    };
    app.websockets.upgrade(request, shop).await
}

#[derive(Deserialize)]
struct Login {
    name: String,
}

async fn login(State(app): State<App>, Query(Login { name }): Query<Login>) -> impl IntoResponse {
    // An example: real sessions are random, and real users have a password.
    let session = format!(
        "session-{}",
        app.shared.next.fetch_add(1, Ordering::Relaxed)
    );
    let cookie = format!("session={session}; HttpOnly; SameSite=Strict");
    lock(&app.shared.sessions).insert(session, name);
    ([(header::SET_COOKIE, cookie)], "welcome\n")
}

async fn orders(State(app): State<App>, _: User, _: HeaderMap) -> Json<Vec<Order>> {
    Json(lock(&app.shared.orders).clone())
}

/// Throws a user out, in every tab.
async fn throw_out(State(app): State<App>, Path(name): Path<String>) -> String {
    lock(&app.shared.sessions).retain(|_, user| *user != name);
    let mut closed = 0;
    for online in lock(&app.shared.online).values() {
        if online.user == name {
            // Fails if it is closed by now, which is as good.
            closed += u32::from(online.sender.close(THROWN_OUT.into(), "thrown out").is_ok());
        }
    }
    format!("{closed} connections closed\n")
}

/// Pushes a price a second to whoever looks at the article.
async fn push(shared: Arc<Shared>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    for cents in (200..300).cycle() {
        second.tick().await;
        for online in lock(&shared.online).values() {
            let price = serde_json::json!({"article": online.article, "cents": cents});
            // Who does not keep up misses a price, and gets a later one.
            let _ = online.sender.try_send(price.to_string());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[tokio::main]
async fn main() -> Result<(), String> {
    tracing_subscriber::fmt().init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let addr = match &args[..] {
        [] => "127.0.0.1:3004",
        [flag, addr] if flag == "--addr" => addr,
        _ => return Err("usage: app [--addr HOST:PORT]".to_owned()),
    };

    let shutdown = Shutdown::new();
    let app = App {
        websockets: WebSocketOptions::new()
            .max_message_size(4096)
            .shutdown(&shutdown),
        ..App::default()
    };
    tokio::spawn(push(app.shared.clone()));
    let router = Router::new()
        .route("/login", post(login))
        .route("/orders", get(orders))
        .route("/users/{name}", delete(throw_out))
        // `any`: over HTTP/2 a WebSocket is opened with CONNECT.
        .route("/ws/{article}", any(open))
        .with_state(app);

    let listener = TcpListener::bind(addr)
        .await
        .map_err(|e| format!("cannot listen on {addr}: {e}; choose another address with --addr"))?;
    println!(
        "listening on {}",
        listener.local_addr().map_err(|e| e.to_string())?
    );
    let drain = shutdown.drain_on(tokio::signal::ctrl_c(), Duration::from_secs(10));
    let drain = tokio::spawn(drain);
    let server = axum::serve(listener, router).with_graceful_shutdown(shutdown.started());
    server.await.map_err(|e| e.to_string())?;
    println!("{:?}", drain.await.map_err(|e| e.to_string())?);
    Ok(())
}
