//! actix-ws on actix-web with one worker: `actix [--addr HOST:PORT]`.
//!
//! As its documentation shows it, with a limit that lets the workloads pass. There is nothing to
//! tune: the session is a channel to the connection, which flushes when that is empty.

use std::io;
use std::net::TcpListener;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use actix_ws::AggregatedMessage;
use tower_websocket_benches::{flags, known};

/// The largest frame and message of the workloads.
const LIMIT: usize = 64 << 20;

fn main() -> io::Result<()> {
    let (addr, flags) = flags();
    let [] = known([], &flags)?;
    actix_web::rt::System::new().block_on(async {
        let listener = TcpListener::bind(addr)?;
        println!("listening on {}", listener.local_addr()?);
        HttpServer::new(|| App::new().route("/echo", web::get().to(accept)))
            .workers(1)
            // Its own limit, for the sake of memory; 10,000 are one of the workloads.
            .max_connections(1 << 20)
            .listen(listener)?
            .run()
            .await
    })
}

async fn accept(request: HttpRequest, body: web::Payload) -> actix_web::Result<HttpResponse> {
    let (response, mut session, messages) = actix_ws::handle(&request, body)?;
    let mut messages = messages
        .max_frame_size(LIMIT)
        .aggregate_continuations()
        .max_continuation_size(LIMIT);
    actix_web::rt::spawn(async move {
        while let Some(Ok(message)) = messages.recv().await {
            let sent = match message {
                AggregatedMessage::Text(text) => session.text(text).await,
                AggregatedMessage::Binary(bytes) => session.binary(bytes).await,
                AggregatedMessage::Ping(bytes) => session.pong(&bytes).await,
                AggregatedMessage::Pong(_) => Ok(()),
                AggregatedMessage::Close(reason) => {
                    let _ = session.close(reason).await;
                    return;
                }
            };
            if sent.is_err() {
                return;
            }
        }
    });
    Ok(response)
}
