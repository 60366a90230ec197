//! cargo run --example threads -- [--addr 127.0.0.1:3006] [--threads 4]
//!
//! One single-threaded runtime for each core, in place of one `multi_thread` runtime for all: a connection
//! stays on the thread that accepted it, so no task is stolen and none is woken across cores but by a
//! message that crosses them. What connections share, here a topic and a shutdown, is shared as ever.
//! It pays where connections are many and alike; one callback that takes long holds up those of its
//! thread, whom `multi_thread` would move elsewhere.
//!
//! Every thread listens on the same port (`SO_REUSEPORT`), and Linux deals new connections out by a hash
//! of their addresses. FreeBSD does so by `SO_REUSEPORT_LB`; macOS gives them all to one thread.
//!
//!     python3 -m websockets ws://127.0.0.1:3006/room     # and once more, elsewhere

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use axum::serve::ListenerExt;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime;
use tokio::sync::watch;
use tower_websocket::{
    Connection, Message, Result, Shutdown, Topics, WebSocketHandler, WebSocketLayer,
};

/// How long Ctrl-C takes at most.
const DRAIN: Duration = Duration::from_secs(5);

/// Whoever is in the room hears what is said, on whichever thread.
#[derive(Clone)]
struct Room;

impl WebSocketHandler for Room {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        conn.subscribe("room")?;
        Ok(())
    }

    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.topics().publish("room", message);
        Ok(())
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(addr)?;
    socket.listen(1024)
}

/// What each thread runs.
async fn serve(
    listener: TcpListener,
    app: Router,
    shutdown: Shutdown,
    mut drained: watch::Receiver<()>,
) -> io::Result<()> {
    let listener = listener.tap_io(|socket| {
        let _ = socket.set_nodelay(true);
    });
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app)
        .with_graceful_shutdown(shutdown.started())
        .await?;
    // The connections of this thread would end with its runtime. An error says that there is no sender more.
    let _ = drained.changed().await;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().init();
    let mut addr = SocketAddr::from(([127, 0, 0, 1], 3006));
    let mut threads = thread::available_parallelism()?.get();
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        match (&*flag, args.next()) {
            ("--addr", Some(value)) => addr = value.parse()?,
            ("--threads", Some(value)) => threads = value.parse()?,
            _ => return Err("usage: threads [--addr HOST:PORT] [--threads N]".into()),
        }
    }

    let (shutdown, topics) = (Shutdown::new(), Topics::new());
    let layer = WebSocketLayer::new("/room", Room)
        .topics(&topics)
        .shutdown(&shutdown);
    let app = Router::new()
        .route("/", get(|| async { "talk at /room\n" }))
        .layer(layer);

    let (draining, drained) = watch::channel(());
    let mut serving = Vec::new();
    for _ in 0..threads.max(1) {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = runtime.block_on(async { listen(addr) })?;
        // If the port was 0, the others listen on the one that the first has got.
        addr = listener.local_addr()?;
        let serve = serve(listener, app.clone(), shutdown.clone(), drained.clone());
        let thread = thread::Builder::new().name("websockets".to_owned());
        serving.push(thread.spawn(move || runtime.block_on(serve))?);
    }
    println!("listening on {addr}, {} threads", serving.len());

    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::signal::ctrl_c().await?;
        println!("{:?}", shutdown.drain(DRAIN).await);
        io::Result::Ok(())
    })?;
    drop(draining);
    for thread in serving {
        thread.join().map_err(|_| "a thread has panicked")??;
    }
    Ok(())
}
