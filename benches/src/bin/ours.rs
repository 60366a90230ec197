//! The crate as its users run it: `ours [--addr HOST:PORT] [--workers N] [--recv|--stream|--bare]
//! [--axum|--http1] [--tls] [--forget] [--deflate] [--topics [--lossy]] [--redis URL]`.
//!
//! `/echo` by callbacks, or pull style (`--recv`), or on a tungstenite stream (`--stream`);
//! `/broadcast` sends each message to all through their queues, or through a topic (`--topics`; with
//! `--lossy` readers that are too slow miss messages in place of being closed); `/rooms/N` publishes to
//! one of ten topics that it subscribes; `--redis` is between these topics and those of other nodes; behind hyper with the settings of
//! `examples/echo.rs`, or behind `axum::serve` (`--axum`), or behind the plainer server of most peers
//! (`--http1`); `--tls` is over rustls. `--forget` does not keep the requests;
//! `--deflate` compresses every message, at level 6 as all peers.
//! `--bare` is the same server without the layers, for plain requests.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::serve::ListenerExt;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{Layer, service_fn};
use tower_websocket::topics::Redis;
use tower_websocket::{
    Application, Connection, Deflate, Message, OnFull, Result, Sender, Subscribe, Topics,
    WebSocketHandler, WebSocketLayer,
};
use tower_websocket_benches::{Server, known, rooms, run, value};

/// The largest message of the workloads.
const LIMIT: usize = 64 << 20;

/// Who serves HTTP.
enum Behind {
    Axum,
    Hyper(Server),
}

#[derive(Clone)]
struct Echo;

impl WebSocketHandler for Echo {
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.send(message).await?;
        Ok(())
    }
}

/// Sends what comes to all that have ever connected.
#[derive(Clone, Default)]
struct Broadcast {
    all: Arc<Mutex<Vec<Sender>>>,
}

impl WebSocketHandler for Broadcast {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        self.all.lock().expect("no panic").push(conn.sender());
        Ok(())
    }

    async fn on_message(&mut self, _: &mut Connection, message: Message) -> Result {
        for one in &*self.all.lock().expect("no panic") {
            // One that has gone or does not read misses it.
            let _ = one.try_send(message.clone());
        }
        Ok(())
    }
}

/// The same by a topic, which all subscribe.
#[derive(Clone)]
struct Topical {
    lossy: bool,
}

impl WebSocketHandler for Topical {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        let on_full = if self.lossy {
            OnFull::DropNewest
        } else {
            OnFull::Close
        };
        let how = Subscribe::new().on_full(on_full);
        conn.subscribe_with("all", how).await?;
        Ok(())
    }

    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.topics().publish("all", message);
        Ok(())
    }
}

/// Publishes what comes to the topic that the path names, and subscribes nine more.
#[derive(Clone, Default)]
struct InRooms {
    own: String,
}

impl WebSocketHandler for InRooms {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        let own = conn.path().trim_start_matches('/').parse()?;
        for room in rooms(own) {
            conn.subscribe(&format!("room:{room}"))?;
        }
        self.own = format!("room:{own}");
        Ok(())
    }

    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.topics().publish(&self.own, message);
        Ok(())
    }
}

fn main() -> io::Result<()> {
    run(|listener, mut flags| async move {
        let mut shared = Topics::builder();
        if let Some(url) = value("--redis", &mut flags)? {
            shared = shared.backplane(Redis::new(&url).map_err(io::Error::other)?);
        }
        let shared = shared.build();
        let [
            recv,
            stream,
            bare,
            axum,
            http1,
            tls,
            forget,
            deflate,
            topics,
            lossy,
        ] = known(
            [
                "--recv",
                "--stream",
                "--bare",
                "--axum",
                "--http1",
                "--tls",
                "--forget",
                "--deflate",
                "--topics",
                "--lossy",
            ],
            &flags,
        )?;
        let server = Server {
            auto: !http1,
            tls: tls.then(tower_websocket_benches::tls),
        };
        if bare {
            let service = TowerToHyperService::new(service_fn(plain));
            return server.serve(listener, service).await;
        }
        let behind = if axum {
            Behind::Axum
        } else {
            Behind::Hyper(server)
        };
        if topics {
            let layer = WebSocketLayer::new("/broadcast", Topical { lossy }).topics(&shared);
            return serve(layer, listener, behind, forget, &shared).await;
        }
        if recv {
            let recv = |mut conn: Connection| async move {
                while let Some(message) = conn.recv().await? {
                    conn.send(message).await?;
                }
                Ok(())
            };
            return serve(
                WebSocketLayer::from_fn("/echo", recv),
                listener,
                behind,
                forget,
                &shared,
            )
            .await;
        }
        if stream {
            let stream = WebSocketLayer::stream("/echo", |mut socket, _| async move {
                while let Some(message) = socket.next().await {
                    let message = message?;
                    if message.is_text() || message.is_binary() {
                        socket.send(message).await?;
                    }
                }
                Ok(())
            });
            return serve(stream, listener, behind, forget, &shared).await;
        }
        let mut layer = WebSocketLayer::new("/echo", Echo);
        if deflate {
            layer = layer.deflate(Deflate::new().level(6).threshold(0));
        }
        serve(layer, listener, behind, forget, &shared).await
    })
}

async fn serve<E: Application>(
    layer: WebSocketLayer<E>,
    listener: TcpListener,
    behind: Behind,
    forget: bool,
    topics: &Topics,
) -> io::Result<()> {
    let layer = layer
        .max_message_size(LIMIT)
        .max_frame_size(LIMIT)
        .keep_request(!forget);
    // Further in: where `layer` is the broadcast by a topic, no request gets as far.
    let broadcast = WebSocketLayer::new("/broadcast", Broadcast::default());
    let in_rooms = WebSocketLayer::new("/rooms", InRooms::default()).topics(topics);
    match behind {
        Behind::Axum => {
            let listener = listener.tap_io(|socket| socket.set_nodelay(true).expect("TCP_NODELAY"));
            let app = Router::new().layer(in_rooms).layer(broadcast).layer(layer);
            axum::serve(listener, app).await
        }
        Behind::Hyper(server) => {
            let service = layer.layer(broadcast.layer(in_rooms.layer(service_fn(plain))));
            let service = TowerToHyperService::new(service);
            server.serve(listener, service).await
        }
    }
}

async fn plain(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("plain\n")))
}
