//! WebSockets over HTTP/2 (RFC 8441), each a stream, over one connection or several.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{RecvStream, SendStream, ext::Protocol};
use hdrhistogram::Histogram;
use http::{Method, Request, Version};
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::{sleep, timeout};

use crate::connection::PATIENCE;
use crate::payload::{PAYLOADS, Payload};
use crate::{Measured, Options, Result};

/// The client gives windows that no reply has to wait for.
const WINDOW: u32 = 64 << 20;

/// What all streams have in common.
struct Shared {
    count: Cell<u64>,
    stopped: Cell<bool>,
    latency: RefCell<Histogram<u64>>,
}

/// Messages on streams that stay.
pub(crate) fn steady(options: &Options) -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(LocalSet::new().run_until(run(options)))
}

async fn run(options: &Options) -> Result {
    let mut connections = Vec::new();
    for _ in 0..options.http2 {
        connections.push(connect(options).await?);
    }
    let shared = Rc::new(Shared {
        count: Cell::new(0),
        stopped: Cell::new(false),
        latency: RefCell::new(Histogram::new_with_max(60_000_000_000, 3)?),
    });
    let mut streams = Vec::new();
    for i in 0..options.connections {
        let connection = &mut connections[i % options.http2];
        let payload = options.payload(options.in_flight, i % PAYLOADS);
        let (send, receive) = open(connection, options).await?;
        let echo = echo(payload, options.apart, send, receive, shared.clone());
        streams.push(spawn_local(echo));
    }

    sleep(options.warm_up).await;
    shared.latency.borrow_mut().reset();
    let count = shared.count.get();
    let measured = Measured::start(options)?;
    let start = Instant::now();
    while start.elapsed() < options.time && shared.count.get() - count < options.messages {
        match options.messages {
            u64::MAX => sleep(options.time.saturating_sub(start.elapsed())).await,
            _ => yield_now().await,
        }
    }
    let messages = shared.count.get() - count;
    measured.print(messages, &shared.latency.borrow(), 0)?;
    shared.stopped.set(true);
    for stream in streams {
        timeout(PATIENCE, stream).await???;
    }
    Ok(())
}

async fn connect(options: &Options) -> Result<SendRequest<Bytes>> {
    let socket = TcpStream::connect(&options.addr).await?;
    socket.set_nodelay(true)?;
    let (client, connection) = Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(socket)
        .await?;
    spawn_local(connection);
    let begun = Instant::now();
    while !client.is_extended_connect_protocol_enabled() {
        if begun.elapsed() > PATIENCE {
            return Err("the server has no extended CONNECT".into());
        }
        yield_now().await;
    }
    Ok(client)
}

async fn open(
    connection: &mut SendRequest<Bytes>,
    options: &Options,
) -> Result<(SendStream<Bytes>, RecvStream)> {
    let request = Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .uri(format!("http://{}{}", options.addr, options.path))
        .header("sec-websocket-version", "13")
        .extension(Protocol::from_static("websocket"))
        .body(())?;
    let mut ready = connection.clone().ready().await?;
    let (response, send) = ready.send_request(request, false)?;
    let response = response.await?;
    if response.status() != 200 {
        return Err(format!("refused: {}", response.status()).into());
    }
    Ok((send, response.into_body()))
}

/// Answers each reply with a new message until that is over, and compares every byte of the replies.
async fn echo(
    payload: Payload,
    apart: bool,
    mut send: SendStream<Bytes>,
    mut receive: RecvStream,
    shared: Rc<Shared>,
) -> Result {
    let Payload { frame, reply, .. } = &payload;
    let burst = Bytes::from(payload.burst.clone());
    let (mut due, mut got) = (payload.in_flight(), 0);
    let mut sent = VecDeque::from([(Instant::now(), due)]);
    let mut give = |messages: u64| {
        let (writes, each) = if apart { (messages, 1) } else { (1, messages) };
        let bytes = frame * each as usize;
        (0..writes).try_for_each(|_| send.send_data(burst.slice(..bytes), false))
    };
    give(due)?;
    while due > 0 {
        let data = receive.data().await.ok_or("the server closed a stream")??;
        receive.flow_control().release_capacity(data.len())?;
        let (mut input, mut replies) = (&data[..], 0);
        while !input.is_empty() {
            let (these, rest) = input.split_at(input.len().min(reply.len() - got));
            if these != &reply[got..][..these.len()] {
                return Err("a reply differs from what was sent".into());
            }
            (got, input) = (got + these.len(), rest);
            if got == reply.len() {
                (got, replies) = (0, replies + 1);
            }
        }
        if replies == 0 {
            continue;
        }
        shared.count.set(shared.count.get() + replies);
        let mut missing = replies;
        while let Some((at, n)) = sent.front_mut() {
            let (took, these) = (at.elapsed().as_nanos() as u64, missing.min(*n));
            let mut latency = shared.latency.borrow_mut();
            latency.saturating_record_n(took, these);
            (missing, *n) = (missing - these, *n - these);
            if *n > 0 {
                break;
            }
            sent.pop_front();
        }
        if shared.stopped.get() {
            due -= replies;
        } else {
            sent.push_back((Instant::now(), replies));
            give(replies)?;
        }
    }
    Ok(())
}
