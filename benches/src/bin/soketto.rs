//! soketto: `soketto [--addr HOST:PORT] [--batched]`.
//!
//! Without flags as its documentation shows it with hyper. `--batched` flushes by hand, once no
//! more messages are there to answer.

use std::io;
use std::pin::pin;

use futures_util::io::{BufReader, BufWriter};
use futures_util::{FutureExt, StreamExt};
use http_body_util::Empty;
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use soketto::Data;
use soketto::connection::Error;
use soketto::handshake::http::Server;
use tokio_util::compat::TokioAsyncReadCompatExt;
use tower_websocket_benches::{Fault, known, run, serve_http};

fn main() -> io::Result<()> {
    run(|listener, flags| async move {
        let [batched] = known(["--batched"], &flags)?;
        serve_http(listener, Default::default(), move |request| {
            let mut server = Server::new();
            let response = server.receive_request(&request)?;
            tokio::spawn(serve(server, request, batched));
            Ok(response.map(|()| Empty::<Bytes>::new()))
        })
        .await
    })
}

async fn serve(server: Server, request: Request<Incoming>, batched: bool) -> Result<(), Fault> {
    let socket = TokioIo::new(hyper::upgrade::on(request).await?);
    let socket = BufReader::new(BufWriter::new(socket.compat()));
    let (mut sender, mut receiver) = server.into_builder(socket).finish();
    if !batched {
        let mut message = Vec::new();
        loop {
            message.clear();
            match receiver.receive_data(&mut message).await {
                Ok(Data::Binary(_)) => sender.send_binary_mut(&mut message).await?,
                Ok(Data::Text(_)) => sender.send_text(std::str::from_utf8(&message)?).await?,
                Err(Error::Closed) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            sender.flush().await?;
        }
    }
    let messages = futures_util::stream::unfold(receiver, |mut receiver| async {
        let mut message = Vec::new();
        let data = receiver.receive_data(&mut message).await.ok()?;
        Some(((data, message), receiver))
    });
    let mut messages = pin!(messages);
    while let Some(first) = messages.next().await {
        let mut next = Some(first);
        while let Some((data, mut message)) = next {
            match data {
                Data::Binary(_) => sender.send_binary_mut(&mut message).await?,
                Data::Text(_) => sender.send_text(std::str::from_utf8(&message)?).await?,
            }
            next = messages.next().now_or_never().flatten();
        }
        sender.flush().await?;
    }
    Ok(())
}
