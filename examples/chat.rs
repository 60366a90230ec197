//! cargo run --example chat -- [--addr 127.0.0.1:3000]
//!
//! Rooms to talk in. The page is at `/`, the WebSocket at `/chat/<room>?name=<name>`, beside
//! ordinary routes and under ordinary middleware. A client sends `{"text": …}`; everyone in
//! the room gets `{"type": "message", "from": …, "text": …, "at": …}`.
//! All of it works behind a proxy under any prefix.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{Html, Redirect};
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout, timeout_at};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tower_websocket::{
    CloseCause, CloseCode, CloseEvent, Connection, Handshake, Message, Rejection, Result, Sender,
    Shutdown, TrySendError, WebSocketHandler, WebSocketLayer,
};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Characters in the name of a room or a member.
const MAX_NAME: usize = 32;
/// Characters in a message.
const MAX_TEXT: usize = 4096;
/// How long a member whose queue is full may hold up those who talk.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long Ctrl-C takes at most.
const DRAIN: Duration = Duration::from_secs(5);

type Rooms = Arc<Mutex<BTreeMap<String, Vec<Member>>>>;

struct Member {
    name: String,
    sender: Sender,
}

/// Each connection has a clone; only the rooms are shared.
#[derive(Clone, Default)]
struct Chat {
    rooms: Rooms,
    room: String,
    name: String,
}

impl WebSocketHandler for Chat {
    async fn on_upgrade(&mut self, handshake: &mut Handshake) -> Result<(), Rejection> {
        let room = handshake.path().strip_prefix('/').and_then(decode);
        self.room = room
            .as_deref()
            .and_then(clean)
            .filter(|room| !room.contains('/') && room != "." && room != "..")
            .ok_or_else(|| refuse("a room is /chat/<1 to 32 characters without a slash>"))?;
        let uri = &handshake.request().uri;
        let query = Query::<BTreeMap<String, String>>::try_from_uri(uri)
            .map_err(|e| refuse(&e.body_text()))?;
        if let Some(name) = query.get("name").filter(|name| !name.is_empty()) {
            self.name = clean(name).ok_or_else(|| refuse("a name has 1 to 32 characters"))?;
        }
        Ok(())
    }

    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        if self.name.is_empty() {
            self.name = format!("guest-{}", conn.id());
        }
        let (room, wanted) = (&self.room, self.name.clone());
        let name = &mut self.name;
        tell(&self.rooms, room, |members| {
            // A set: a crowd that joins under one name must not cost its square.
            let taken: HashSet<&str> = names(members).into_iter().collect();
            for n in 2.. {
                if !taken.contains(&**name) {
                    break;
                }
                *name = format!("{wanted} {n}");
            }
            let sender = conn.sender();
            members.push(Member {
                name: name.clone(),
                sender,
            });
            let people = names(members);
            let welcome = json!({"type": "welcome", "room": room, "you": name, "people": people});
            // Its queue is empty; and if it is gone already, `on_close` follows.
            let _ = conn.try_send(welcome.to_string());
            Some(json!({"type": "joined", "name": name, "people": people}))
        })
        .await;
        Ok(())
    }

    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        match text_of(&message) {
            Ok(text) => {
                let message =
                    json!({"type": "message", "from": self.name, "text": text, "at": now()});
                tell(&self.rooms, &self.room, |_| Some(message)).await;
            }
            Err(error) => {
                let error = json!({"type": "error", "error": error});
                conn.send(error.to_string()).await?;
            }
        }
        Ok(())
    }

    async fn on_close(&mut self, conn: &mut Connection, event: CloseEvent) -> Result {
        // When the server goes down, nobody has left: their pages come back to the next server.
        let left = event.cause() != CloseCause::Shutdown;
        tell(&self.rooms, &self.room, |members| {
            members.retain(|member| member.sender.id() != conn.id());
            left.then(|| json!({"type": "left", "name": self.name, "people": names(members)}))
        })
        .await;
        Ok(())
    }
}

/// Lets something happen in a room and tells everyone there what it returns, in the same order to
/// all who keep up. One who lags holds up those who talk, a little; one who does not read at all is
/// closed.
async fn tell(rooms: &Rooms, room: &str, happen: impl FnOnce(&mut Vec<Member>) -> Option<Value>) {
    let mut slow = Vec::new();
    let message = {
        let mut rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let members = rooms.entry(room.to_owned()).or_default();
        let event = happen(members);
        if members.is_empty() {
            rooms.remove(room);
            return;
        }
        let Some(event) = event else { return };
        let message = Message::from(event.to_string());
        for Member { sender, .. } in &*members {
            if let Err(TrySendError::Full(_)) = sender.try_send(message.clone()) {
                slow.push(sender.clone());
            }
        }
        message
    };
    let deadline = Instant::now() + PATIENCE;
    for sender in slow {
        let sent = timeout_at(deadline, sender.send(message.clone())).await;
        if sent.is_err() {
            // Fails if it is closed by now, which is as good.
            let _ = sender.close(CloseCode::TRY_AGAIN_LATER, "you read too slowly");
        }
    }
}

/// The text in a message, or what is wrong with it.
fn text_of(message: &Message) -> Result<String, String> {
    let message = message.as_text().ok_or("only text messages, please")?;
    let value: Value =
        serde_json::from_str(message).map_err(|e| format!("this is no JSON: {e}"))?;
    let text = value.get("text").and_then(Value::as_str);
    let text = text.ok_or(r#"a message is {"text": "…"}"#)?;
    match text.chars().count() {
        _ if text.trim().is_empty() => Err("there is no text in it".to_owned()),
        n if n > MAX_TEXT => Err(format!("it has {n} characters, {MAX_TEXT} is the most")),
        _ => Ok(text.to_owned()),
    }
}

/// The name of a room or a member, if it is a good one.
fn clean(name: &str) -> Option<String> {
    let name = name.trim();
    let good = (1..=MAX_NAME).contains(&name.chars().count()) && !name.contains(char::is_control);
    good.then(|| name.to_owned())
}

/// The text of a percent-encoded part of a path.
fn decode(path: &str) -> Option<String> {
    let mut encoded = path.chars();
    let mut decoded = Vec::new();
    while let Some(c) = encoded.next() {
        match c {
            '%' => {
                let (high, low) = (encoded.next()?.to_digit(16)?, encoded.next()?.to_digit(16)?);
                decoded.push(u8::try_from(high * 16 + low).ok()?);
            }
            _ => decoded.push(u8::try_from(c).ok()?),
        }
    }
    String::from_utf8(decoded).ok()
}

fn refuse(why: &str) -> Rejection {
    Rejection::new(StatusCode::BAD_REQUEST, why)
}

fn names(members: &[Member]) -> Vec<&str> {
    members.iter().map(|member| &*member.name).collect()
}

/// Milliseconds since 1970, as JavaScript counts.
fn now() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

async fn list(State(rooms): State<Rooms>) -> Json<Value> {
    let rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
    let rooms = rooms
        .iter()
        .map(|(room, members)| json!({"room": room, "people": members.len()}));
    Json(rooms.collect())
}

/// The host of a request, as it arrives here. A page whose WebSocket was refused compares it with
/// its own: if a proxy sends another one, the origin of every browser is a foreign one.
async fn host(uri: Uri, headers: HeaderMap) -> String {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let authority = uri.authority().map(|authority| authority.as_str());
    authority.or(host).unwrap_or_default().to_owned()
}

/// The page, the rooms and what is around them; `wss.rs` serves it, too.
pub(crate) fn app(shutdown: &Shutdown) -> Router {
    let chat = Chat::default();
    Router::new()
        .route("/", get(|| async { Html(include_str!("chat.html")) }))
        .route("/rooms", get(list))
        .route("/host", get(host))
        .route("/healthz", get(|| async { "ok\n" }))
        // What is no WebSocket handshake passes the layer: here a browser that follows a link.
        // The answer is a relative path, because a proxy may have the chat under a prefix.
        .route(
            "/chat/{room}",
            get(|uri: Uri| async move {
                Redirect::temporary(&uri.path().replacen("/chat/", "../#", 1))
            }),
        )
        .with_state(chat.rooms.clone())
        .layer(
            WebSocketLayer::new("/chat", chat)
                .max_message_size(64 * 1024)
                .max_connections(10_000)
                .shutdown(shutdown),
        )
        .layer(
            ServiceBuilder::new()
                .layer(TraceLayer::new_for_http())
                .layer(CatchPanicLayer::new())
                .layer(TimeoutLayer::with_status_code(
                    StatusCode::REQUEST_TIMEOUT,
                    Duration::from_secs(15),
                ))
                .layer(CompressionLayer::new()),
        )
}

#[tokio::main]
async fn main() -> Result<(), String> {
    // Such as RUST_LOG=info,tower_websocket=debug, which says why handshakes are refused.
    let log = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
    let log: Targets = log.parse().map_err(|e| format!("RUST_LOG: {e}"))?;
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_filter(log))
        .init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let addr = match &args[..] {
        [] => "127.0.0.1:3000",
        [flag, addr] if flag == "--addr" => addr,
        _ => return Err("usage: chat [--addr HOST:PORT]".to_owned()),
    };

    let shutdown = Shutdown::new();
    let app = app(&shutdown).into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind(addr)
        .await
        .map_err(|e| format!("cannot listen on {addr}: {e}; choose another address with --addr"))?;
    let addr = listener.local_addr().map_err(|e| e.to_string())?;
    println!("listening on {addr}\nchat: open http://{addr}/ in a browser");

    let listener = listener.tap_io(|socket| {
        let _ = socket.set_nodelay(true);
    });
    let server = axum::serve(listener, app).with_graceful_shutdown(interrupted());
    let server = tokio::spawn(server.into_future());
    interrupted().await;
    // The server waits for requests, `drain` for WebSockets.
    let (drained, _) = tokio::join!(shutdown.drain(DRAIN), timeout(DRAIN, server));
    println!(
        "closed {} WebSockets, dropped {}",
        drained.closed(),
        drained.forced()
    );
    Ok(())
}

async fn interrupted() {
    if let Err(e) = tokio::signal::ctrl_c().await {
        eprintln!("Ctrl-C cannot be caught ({e}), so it will not end this in good order");
        std::future::pending::<()>().await;
    }
}
