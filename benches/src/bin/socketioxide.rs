//! socketioxide: `socketioxide [--addr HOST:PORT] [--redis URL]`, behind axum, by WebSocket alone.
//!
//! What comes as the event `m` is emitted to a room, which the socket is in too: `all`, or with `room=N` in
//! the query one of ten that it joins. `--redis` has the adapter of socketioxide-redis between it and other
//! nodes. A client speaks Socket.IO, so a message is ten bytes longer, is JSON, and is parsed and written as such.

use std::io;

use axum::Router;
use axum::serve::ListenerExt;
use socketioxide::adapter::Adapter;
use socketioxide::extract::{Data, SocketRef};
use socketioxide::layer::SocketIoLayer;
use socketioxide::{SocketIo, TransportType};
use socketioxide_redis::{RedisAdapter, RedisAdapterCtr};
use tokio::net::TcpListener;
use tower_websocket_benches::{known, rooms, run, value};

fn main() -> io::Result<()> {
    run(|listener, mut flags| async move {
        let redis = value("--redis", &mut flags)?;
        let [] = known([], &flags)?;
        let builder = SocketIo::builder().transports([TransportType::Websocket]);
        let Some(url) = redis else {
            let (layer, io) = builder.build_layer();
            io.ns("/", joined);
            return serve(listener, layer).await;
        };
        // Its messages are pushed by RESP3.
        let client = redis::Client::open(format!("{url}?protocol=resp3"));
        let adapter = RedisAdapterCtr::new_with_redis(&client.map_err(io::Error::other)?).await;
        let adapter = adapter.map_err(io::Error::other)?;
        let (layer, io) = builder
            .with_adapter::<RedisAdapter<_>>(adapter)
            .build_layer();
        io.ns("/", joined).await.map_err(io::Error::other)?;
        serve(listener, layer).await
    })
}

async fn serve<A: Adapter>(listener: TcpListener, layer: SocketIoLayer<A>) -> io::Result<()> {
    let listener = listener.tap_io(|socket| socket.set_nodelay(true).expect("TCP_NODELAY"));
    axum::serve(listener, Router::new().layer(layer)).await
}

async fn joined<A: Adapter>(socket: SocketRef<A>) {
    let query = socket.req_parts().uri.query().unwrap_or_default();
    let room = query.split('&').find_map(|pair| pair.strip_prefix("room="));
    let own = match room.and_then(|room| room.parse().ok()) {
        None => "all".to_owned(),
        Some(own) => {
            for room in rooms(own) {
                socket.join(format!("room:{room}"));
            }
            format!("room:{own}")
        }
    };
    socket.join(own.clone());
    let tell = async move |io: SocketIo<A>, Data::<String>(text)| {
        // One whose buffer is full misses it.
        let _ = io.to(own.clone()).emit("m", &text).await;
    };
    socket.on("m", tell);
}
