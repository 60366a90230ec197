//! cargo run --example axum -- [--addr 127.0.0.1:3001]
//!
//! WebSockets behind the login of an axum application. The tokens are `ada-token` and
//! `ben-token`, in a header or, since browsers cannot add one to a WebSocket, in the query:
//!
//!     curl -H 'Authorization: Bearer ada-token' http://127.0.0.1:3001/whoami
//!     python3 -m websockets 'ws://127.0.0.1:3001/echo?token=ada-token'
//!     python3 -m websockets 'ws://127.0.0.1:3001/rooms/7?token=ben-token'

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::{Extension, FromRequestParts, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tower_websocket::{
    CloseEvent, Connection, Handshake, Message, Rejection, Result, WebSocketHandler, WebSocketLayer,
};

/// The state of the application, for routes and WebSockets alike.
#[derive(Default)]
struct App {
    users: HashMap<&'static str, &'static str>,
    online: AtomicUsize,
}

/// Who sends the request; found out by `authenticate`.
#[derive(Clone, Default)]
struct User(&'static str);

#[derive(Clone, Default)]
struct Echo {
    app: Arc<App>,
    user: User,
    room: Option<u32>,
}

impl WebSocketHandler for Echo {
    async fn on_upgrade(&mut self, handshake: &mut Handshake) -> Result<(), Rejection> {
        // What `authenticate` left there; without it this handler is mounted in the open.
        let user = handshake.request().extensions.get::<User>().cloned();
        self.user = user.ok_or(StatusCode::UNAUTHORIZED)?;
        // Extractors of axum work here too. The one for a path fails where there is no `{id}`.
        let room = Path::<u32>::from_request_parts(handshake.request_mut(), &()).await;
        self.room = match room {
            Ok(Path(id)) => Some(id),
            Err(_) if handshake.mount() == "/echo" => None,
            Err(e) => return Err(Rejection::new(e.status(), e.body_text())),
        };
        Ok(())
    }

    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        let online = self.app.online.fetch_add(1, Ordering::Relaxed) + 1;
        let peer = conn.peer_addr().ok_or("no ConnectInfo in the request")?;
        let room = self
            .room
            .map_or_else(String::new, |id| format!(" in room {id}"));
        conn.send(format!(
            "hello {} at {peer}{room}, {online} online",
            self.user.0
        ))
        .await?;
        Ok(())
    }

    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.send(message).await?;
        Ok(())
    }

    async fn on_close(&mut self, _: &mut Connection, _: CloseEvent) -> Result {
        self.app.online.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Lets nobody pass without a token, whether to a route or to a WebSocket.
async fn authenticate(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
    mut request: Request,
    next: Next,
) -> Result<Response, (StatusCode, &'static str)> {
    let bearer = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let token = bearer.or(query.get("token").map(String::as_str));
    let user = token.and_then(|token| app.users.get(token));
    let user = user.ok_or((
        StatusCode::UNAUTHORIZED,
        "send a token: ada-token or ben-token\n",
    ))?;
    request.extensions_mut().insert(User(user));
    Ok(next.run(request).await)
}

async fn whoami(Extension(user): Extension<User>, State(app): State<Arc<App>>) -> String {
    format!(
        "{}, {} online\n",
        user.0,
        app.online.load(Ordering::Relaxed)
    )
}

#[tokio::main]
async fn main() -> Result<(), String> {
    tracing_subscriber::fmt().init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let addr = match &args[..] {
        [] => "127.0.0.1:3001",
        [flag, addr] if flag == "--addr" => addr,
        _ => return Err("usage: axum [--addr HOST:PORT]".to_owned()),
    };

    let app = Arc::new(App {
        users: HashMap::from([("ada-token", "Ada"), ("ben-token", "Ben")]),
        ..App::default()
    });
    let echo = Echo {
        app: app.clone(),
        ..Echo::default()
    };
    // A layer serves a path beside all routes; a service is a route itself.
    let layer = WebSocketLayer::new("/echo", echo.clone());
    let rooms = WebSocketLayer::new("/", echo).into_service();
    let router = Router::new()
        .route("/whoami", get(whoami))
        .route_service("/rooms/{id}", rooms)
        .layer(layer)
        // Added last, so it comes first.
        .layer(middleware::from_fn_with_state(app.clone(), authenticate))
        .with_state(app);

    let listener = TcpListener::bind(addr)
        .await
        .map_err(|e| format!("cannot listen on {addr}: {e}; choose another address with --addr"))?;
    println!(
        "listening on {}",
        listener.local_addr().map_err(|e| e.to_string())?
    );
    axum::serve(
        listener,
        // Where `peer_addr` comes from.
        router.into_make_service_with_connect_info::<SocketAddr>(),
    )
    .await
    .map_err(|e| e.to_string())
}
