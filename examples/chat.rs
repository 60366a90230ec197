//! cargo run --example chat -- [--addr 127.0.0.1:3000]
//! cargo run --features redis --example chat -- --redis redis://127.0.0.1 [--addr 127.0.0.1:3001]
//!
//! Rooms to talk in. The page is at `/`, the WebSocket at `/chat/<room>?name=<name>`, beside
//! ordinary routes and under ordinary middleware. A client sends `{"text": …, "id": …}`; everyone in
//! the room gets `{"type": "message", "position": …, "from": …, "text": …, "at": …, "id": …}`.
//! A client that was cut off comes back with `&after=<position>`, and gets what it missed.
//! All of it works behind a proxy under any prefix, and, with `--redis`, over any number of processes:
//! they have the same rooms, and a client may come back to another one.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tower_websocket::{
    Attached, Connection, Handshake, Message, Position, PresenceChange, Rejection, Result, Retain,
    Shutdown, Subscribe, Topics, TopicsBuilder, WebSocketHandler, WebSocketLayer,
};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Characters in the name of a room or a member.
const MAX_NAME: usize = 32;
/// Characters in a message.
const MAX_TEXT: usize = 4096;
/// Messages of a room, and how long they are kept, for those whose connection broke.
const KEPT: usize = 100;
const KEPT_FOR: Duration = Duration::from_secs(5 * 60);
/// How long a process may be cut off from the others before a load balancer sends nobody new.
const CUT_OFF: Duration = Duration::from_secs(10);
/// How long Ctrl-C takes at most.
const DRAIN: Duration = Duration::from_secs(5);

/// Each connection has a clone.
#[derive(Clone, Default)]
struct Chat {
    room: String,
    name: String,
    /// The last message that the client has seen.
    after: Option<Position>,
}

impl Chat {
    /// Reads what a client asks for: the path behind the mount, and the query.
    fn asked(path: &str, uri: &Uri) -> Result<Self, String> {
        let room = path.strip_prefix('/').and_then(decode);
        let room = room
            .as_deref()
            .and_then(clean)
            .filter(|room| !room.contains('/') && room != "." && room != "..")
            .ok_or("a room is /chat/<1 to 32 characters without a slash>")?;
        let query =
            Query::<BTreeMap<String, String>>::try_from_uri(uri).map_err(|e| e.body_text())?;
        let name = match query.get("name").filter(|name| !name.is_empty()) {
            Some(name) => clean(name).ok_or("a name has 1 to 32 characters")?,
            None => String::new(),
        };
        // One that cannot be read is as good as one that is too old.
        let after = query.get("after").and_then(|after| after.parse().ok());
        Ok(Self { room, name, after })
    }

    /// What is said in the room.
    fn talk(&self) -> String {
        format!("room:{}", self.room)
    }

    /// Who is in it. Joins and leaves go another way than what is said, and are not kept.
    fn people(&self) -> String {
        format!("people:{}", self.room)
    }
}

impl WebSocketHandler for Chat {
    async fn on_upgrade(&mut self, handshake: &mut Handshake) -> Result<(), Rejection> {
        *self = Self::asked(handshake.path(), &handshake.request().uri)
            .map_err(|why| Rejection::new(StatusCode::BAD_REQUEST, why))?;
        Ok(())
    }

    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        if self.name.is_empty() {
            // Each process counts its connections for itself, so their numbers are no names.
            let number = RandomState::new().hash_one(conn.id()) % 1_000_000;
            self.name = format!("guest-{number}");
        }
        conn.subscribe(&self.people())?;
        // Two pages of one name are one person, who leaves with the second.
        conn.track(&self.people(), &self.name, "")?;
        conn.track(ROOMS, &self.room, "")?;
        let people = names(conn.topics(), &self.people());
        let (room, name) = (self.room.clone(), self.name.clone());
        let welcome = move |attached: &Attached| {
            let position = attached.position().map(|position| position.to_string());
            json!({
                "type": "welcome", "room": room, "you": name, "people": people, "at": now(),
                "recovered": attached.recovered(), "unknown": attached.is_unknown(),
                "position": position,
            })
        };
        let subscribe = Subscribe::new()
            .after(self.after)
            .greeting(move |attached| welcome(attached).to_string().into());
        conn.subscribe_with(&self.talk(), subscribe).await?;
        // Behind all that was missed, if that is known.
        conn.send(json!({"type": "ready"}).to_string()).await?;
        Ok(())
    }

    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        match text_of(&message) {
            Ok((text, id)) => {
                let message = json!({
                    "type": "message", "from": self.name, "text": text, "at": now(), "id": id,
                });
                // To all, this client too: that is how it knows that the message was kept.
                conn.topics().publish(&self.talk(), message.to_string());
            }
            Err(error) => {
                let error = json!({"type": "error", "error": error});
                conn.send(error.to_string()).await?;
            }
        }
        Ok(())
    }
}

/// The topic whose presence is the rooms that somebody is in.
const ROOMS: &str = "rooms";

pub(crate) fn topics() -> TopicsBuilder {
    Topics::builder()
        .retain("room:", Retain::messages(KEPT).age(KEPT_FOR))
        // The first member of the object that a message is.
        .stamp(|_, position, message| match message.as_text() {
            Some(text) if text.starts_with('{') => {
                Message::from(format!("{{\"position\":\"{position}\",{}", &text[1..]))
            }
            _ => message.clone(),
        })
        .announce(|topic, change| {
            let event = match change {
                _ if topic == ROOMS => return None,
                PresenceChange::Joined(who) => json!({"type": "joined", "name": who.key()}),
                PresenceChange::Left(name) => json!({"type": "left", "name": name}),
                _ => return None,
            };
            Some(event.to_string().into())
        })
}

/// Shares the topics with all processes that are given the same Redis.
#[cfg(feature = "redis")]
fn shared(topics: TopicsBuilder, url: &str) -> Result<TopicsBuilder, String> {
    let redis = tower_websocket::topics::Redis::new(url).map_err(|e| format!("--redis: {e}"))?;
    Ok(topics.backplane(redis))
}

#[cfg(not(feature = "redis"))]
fn shared(_: TopicsBuilder, _: &str) -> Result<TopicsBuilder, String> {
    let command = "cargo run --features redis --example chat -- --redis URL";
    Err(format!("this chat was built without Redis; use: {command}"))
}

/// The text in a message and the client's name for it, or what is wrong with it.
fn text_of(message: &Message) -> Result<(String, Option<String>), String> {
    let message = message.as_text().ok_or("only text messages, please")?;
    let value: Value =
        serde_json::from_str(message).map_err(|e| format!("this is no JSON: {e}"))?;
    let text = value.get("text").and_then(Value::as_str);
    let text = text.ok_or(r#"a message is {"text": "…"}"#)?;
    match text.chars().count() {
        _ if text.trim().is_empty() => Err("there is no text in it".to_owned()),
        n if n > MAX_TEXT => Err(format!("it has {n} characters, {MAX_TEXT} is the most")),
        _ => {
            let id = value.get("id").and_then(Value::as_str);
            let id = id.filter(|id| id.len() <= 2 * MAX_NAME);
            Ok((text.to_owned(), id.map(str::to_owned)))
        }
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

/// Who is there; who left a moment ago, and may come back, is still there.
fn names(topics: &Topics, people: &str) -> Vec<String> {
    let present = topics.presence(people).list();
    present.iter().map(|who| who.key().to_owned()).collect()
}

/// Milliseconds since 1970, as JavaScript counts.
fn now() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

async fn list(State(topics): State<Topics>) -> Json<Value> {
    let rooms = topics.presence(ROOMS).list();
    let open = rooms.iter().filter(|room| room.metas().next().is_some());
    let rooms = open.map(|room| {
        let people = names(&topics, &format!("people:{}", room.key()));
        json!({"room": room.key(), "people": people.len()})
    });
    Json(rooms.collect())
}

/// What is no WebSocket handshake passes the layer. A browser that follows a link is led to the page; a
/// page whose WebSocket was refused asks why, since its browser does not tell it.
async fn visit(uri: Uri, headers: HeaderMap) -> Response {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::ACCEPT) != Some("text/plain") {
        // A relative path, because a proxy may have the chat under a prefix.
        return Redirect::temporary(&uri.path().replacen("/chat/", "../#", 1)).into_response();
    }
    let path = uri.path().strip_prefix("/chat").unwrap_or_default();
    match Chat::asked(path, &uri) {
        Err(why) => (StatusCode::BAD_REQUEST, why).into_response(),
        // The host as it arrives here. If a proxy sends another one than the page has, the origin of
        // every browser is a foreign one.
        Ok(_) => {
            let authority = uri.authority().map(|authority| authority.as_str());
            let host = authority.or(text(header::HOST)).unwrap_or_default();
            host.to_owned().into_response()
        }
    }
}

/// The page, the rooms and what is around them; `wss.rs` serves it, too.
pub(crate) fn app(shutdown: &Shutdown, topics: Topics) -> Router {
    let chat = WebSocketLayer::new("/chat", Chat::default())
        .topics(&topics)
        .max_message_size(64 * 1024)
        // Who comes back is sent all that is kept at once; logs leave half of a queue to others.
        .max_queued_messages(4 * KEPT)
        .max_connections(10_000)
        .shutdown(shutdown);
    Router::new()
        .route("/", get(|| async { Html(include_str!("chat.html")) }))
        .route("/rooms", get(list))
        .route("/healthz", get(|| async { "ok\n" }))
        .route_service("/readyz", chat.readiness().topics(&topics, CUT_OFF))
        .route("/chat/{room}", get(visit))
        .with_state(topics)
        .layer(chat)
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
    let (mut addr, mut topics) = ("127.0.0.1:3000".to_owned(), topics());
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        match (&*flag, args.next()) {
            ("--addr", Some(value)) => addr = value,
            ("--redis", Some(url)) => topics = shared(topics, &url)?,
            _ => return Err("usage: chat [--addr HOST:PORT] [--redis URL]".to_owned()),
        }
    }

    let shutdown = Shutdown::new();
    let app = app(&shutdown, topics.build()).into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind(&addr)
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
