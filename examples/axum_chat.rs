//! cargo run --example axum_chat -- [--addr 127.0.0.1:3005]
//!
//! axum's own chat example, ported: the first message is the name, and from then on everybody gets what
//! anybody says. Two tasks and a `select!` become one loop; `chat.rs` has rooms, a page, and slow readers.
//!
//!     python3 -m websockets ws://127.0.0.1:3005/websocket

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::response::IntoResponse;
use axum::{Router, routing::any};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tower_websocket::{Close, CloseCode, Connection, Result, WebSocketOptions};

#[derive(Clone)]
struct App {
    websockets: WebSocketOptions,
    names: Arc<Mutex<HashSet<String>>>,
    said: broadcast::Sender<String>,
}

/// A name that is taken, for as long as its owner is here.
struct Name {
    app: App,
    name: String,
}

impl Name {
    fn take(app: App, name: &str) -> Result<Self, Close> {
        let mut names = app.names.lock().unwrap_or_else(PoisonError::into_inner);
        if !names.insert(name.to_owned()) {
            return Err(Close::new(CloseCode::POLICY_VIOLATION, "the name is taken"));
        }
        drop(names);
        let name = name.to_owned();
        // Fails if nobody is there to hear it.
        let _ = app.said.send(format!("{name} joined."));
        Ok(Self { app, name })
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut names = self
            .app
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        names.remove(&self.name);
        let _ = self.app.said.send(format!("{} left.", self.name));
    }
}

async fn chat(app: App, mut conn: Connection) -> Result {
    let Some(first) = conn.recv().await? else {
        return Ok(());
    };
    let name = first.as_text().unwrap_or_default().trim();
    let mut heard = app.said.subscribe();
    let me = Name::take(app, name)?;
    loop {
        tokio::select! {
            message = conn.recv() => match message? {
                Some(message) => {
                    let text = message.as_text().unwrap_or("(not a text)");
                    let _ = me.app.said.send(format!("{}: {text}", me.name));
                }
                None => return Ok(()),
            },
            // An error: it has not kept up with the others, and is closed with 1011.
            line = heard.recv() => conn.send(line?).await?,
        }
    }
}

async fn websocket(State(app): State<App>, request: Request) -> impl IntoResponse {
    let websockets = app.websockets.clone();
    websockets
        .upgrade_with(request, |conn| chat(app, conn))
        .await
}

#[tokio::main]
async fn main() -> Result<(), String> {
    tracing_subscriber::fmt().init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let addr = match &args[..] {
        [] => "127.0.0.1:3005",
        [flag, addr] if flag == "--addr" => addr,
        _ => return Err("usage: axum_chat [--addr HOST:PORT]".to_owned()),
    };
    let app = App {
        websockets: WebSocketOptions::new(),
        names: Arc::default(),
        said: broadcast::channel(100).0,
    };
    let router = Router::new()
        .route("/websocket", any(websocket))
        .with_state(app);
    let listener = TcpListener::bind(addr)
        .await
        .map_err(|e| format!("cannot listen on {addr}: {e}; choose another address with --addr"))?;
    println!(
        "listening on {}",
        listener.local_addr().map_err(|e| e.to_string())?
    );
    axum::serve(listener, router)
        .await
        .map_err(|e| e.to_string())
}
