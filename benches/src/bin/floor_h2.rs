//! The least that a server on hyper's HTTP/2 can do: it unmasks and re-frames what `Upgraded` gives in the
//! buffer that it was read to, and checks nothing: `floor_h2 [--addr HOST:PORT]`. It writes 64 KiB at a
//! time, which costs least there, keeps its buffers, and like the crate reads on until nothing is there
//! before it writes.

use std::io;
use std::ops::Range;

use futures_util::FutureExt;
use http::Response;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower_websocket_benches::{Server, frames, known, run, serve_http};

/// What a write hands on, and the buffer of a connection at first.
const PIECE: usize = 64 * 1024;

/// So much is read before it is written.
const ENOUGH: usize = 16 * 1024;

fn main() -> io::Result<()> {
    run(|listener, flags| async move {
        known([], &flags)?;
        let server = Server {
            auto: true,
            ..Server::default()
        };
        serve_http(listener, server, |request| {
            let upgrade = hyper::upgrade::on(request);
            tokio::spawn(async move {
                if let Ok(upgraded) = upgrade.await {
                    let _ = echo(TokioIo::new(upgraded)).await;
                }
            });
            Ok(Response::new(Empty::<Bytes>::new()))
        })
        .await
    })
}

async fn echo(mut io: TokioIo<Upgraded>) -> io::Result<()> {
    let mut input: Vec<u8> = Vec::with_capacity(PIECE);
    while io.read_buf(&mut input).await? > 0 {
        while input.len() < ENOUGH {
            let read = io.read_buf(&mut input).now_or_never().transpose()?;
            if read.is_none_or(|n| n == 0) {
                break;
            }
        }
        let (replies, taken, missing) = reframe(&mut input);
        if !replies.is_empty() {
            let is_over = input[replies.start] == 0x88;
            for piece in input[replies].chunks(PIECE) {
                io.write_all(piece).await?;
            }
            io.flush().await?;
            if is_over {
                return io.shutdown().await;
            }
        }
        input.drain(..taken);
        input.reserve_exact(missing);
    }
    Ok(())
}

/// Turns all whole frames of the input into their echo, which is where the first of them was. Returns where
/// that is, how much of the input it was, and how much is missing of the next frame, if that is known.
fn reframe(input: &mut [u8]) -> (Range<usize>, usize, usize) {
    // What a reply to the first frame is shorter by, so that its payload stays where it is.
    let (start, mut end, mut at) = (4, 4, 0);
    let missing = loop {
        let frame = &input[at..];
        let Some((header, len)) = frames::lengths(frame) else {
            break 0;
        };
        if frame.len() < header + len {
            break header + len - frame.len();
        }
        let key: [u8; 4] = *frame[..header].last_chunk().expect("a header has a key");
        input.copy_within(at..at + header - 4, end);
        input[end + 1] &= 127;
        end += header - 4;
        if end != at + header {
            input.copy_within(at + header..at + header + len, end);
        }
        frames::unmask(&mut input[end..end + len], key);
        end += len;
        at += header + len;
    };
    (start..end, at, missing)
}
