//! sockudo-ws: `sockudo [--addr HOST:PORT] [--batched] [--deflate]`.
//!
//! Without flags as its documentation shows it with axum. `--batched` flushes by hand, once no
//! more messages are there to answer. `--deflate` compresses every message at level 6 and keeps no
//! context.
//!
//! `/broadcast` and `/rooms/N` publish by its `PubSub` what comes, to a topic that all subscribe, or to one of
//! ten. As its example shows it, a task waits for what comes and for what is published, and sends one message at
//! a time; with `--batched` it sends all that are waiting, and flushes behind them.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, StatusCode, header};
use axum::routing::any;
use axum::serve::ListenerExt;
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use sockudo_ws::deflate::{DeflateConfig, negotiate_server_deflate};
use sockudo_ws::handshake::generate_accept_key;
use sockudo_ws::pubsub::PubSub;
use sockudo_ws::{CompressedWebSocketStream, Config, Message, WebSocketStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tower_websocket_benches::{echo, echo_batched, known, rooms, run};

fn main() -> io::Result<()> {
    run(|listener, flags| async move {
        let [batched, deflate] = known(["--batched", "--deflate"], &flags)?;
        let topics = Arc::new(PubSub::new());
        let accept = move |request: Request| {
            let topics = topics.clone();
            async move { accept(request, topics, batched, deflate) }
        };
        let listener = listener.tap_io(|socket| socket.set_nodelay(true).expect("TCP_NODELAY"));
        axum::serve(listener, Router::new().route("/{*path}", any(accept))).await
    })
}

fn accept(request: Request, topics: Arc<PubSub>, batched: bool, deflate: bool) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let header = |name| {
        let value = request.headers().get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let mut response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header(
            header::SEC_WEBSOCKET_ACCEPT,
            generate_accept_key(header(header::SEC_WEBSOCKET_KEY)),
        );
    let policy = DeflateConfig {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        compression_threshold: 0,
        ..DeflateConfig::default()
    };
    let agreed = deflate
        .then(|| negotiate_server_deflate(header(header::SEC_WEBSOCKET_EXTENSIONS), &policy))
        .flatten();
    if let Some(agreed) = &agreed {
        response = response.header(
            header::SEC_WEBSOCKET_EXTENSIONS,
            agreed.to_response_header(),
        );
    }
    tokio::spawn(async move {
        let Ok(socket) = hyper::upgrade::on(request).await else {
            return;
        };
        let (socket, config) = (TokioIo::new(socket), Config::default());
        if let Some(agreed) = agreed {
            let socket = CompressedWebSocketStream::server(socket, config, agreed.config);
            return echo(socket, is_data).await;
        }
        let socket = WebSocketStream::server(socket, config);
        if path != "/echo" {
            let own = path.strip_prefix("/rooms/");
            let own = own.and_then(|room| room.parse().ok());
            subscriber(socket, topics, own, batched).await;
        } else if batched {
            echo_batched(socket, is_data).await;
        } else {
            echo(socket, is_data).await;
        }
    });
    response.body(Body::empty()).expect("a response")
}

/// A member of its own room and of nine others, or of the one in which all are.
async fn subscriber<S>(
    socket: WebSocketStream<S>,
    topics: Arc<PubSub>,
    room: Option<usize>,
    batched: bool,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (published, mut publications) = mpsc::unbounded_channel();
    let id = topics.create_subscriber(published);
    let own = room.map_or("all".to_owned(), |room| format!("room:{room}"));
    match room {
        None => _ = topics.subscribe(id, &own),
        Some(room) => {
            for room in rooms(room) {
                topics.subscribe(id, &format!("room:{room}"));
            }
        }
    }
    // Its own halves cannot be flushed by hand.
    let (mut sink, mut stream) = StreamExt::split(socket);
    loop {
        tokio::select! {
            message = stream.next() => match message {
                Some(Ok(message)) if is_data(&message) => _ = topics.publish(&own, message),
                Some(Ok(_)) => {}
                _ => break,
            },
            Some(message) = publications.recv() => {
                let mut sent = sink.feed(message).await;
                while batched && sent.is_ok() && let Ok(message) = publications.try_recv() {
                    sent = sink.feed(message).await;
                }
                if sent.is_err() || sink.flush().await.is_err() {
                    break;
                }
            }
        }
    }
    topics.remove_subscriber(id);
}

fn is_data(message: &Message) -> bool {
    matches!(message, Message::Text(_) | Message::Binary(_))
}
