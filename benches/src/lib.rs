//! What the servers have in common: the flags, the runtime, the line that says where.

use std::future::Future;
use std::io;

use tokio::net::TcpListener;

/// The frame every server is run in: one thread, and a listener on `--addr`.
///
/// `serve` gets the listener and the flags that are not `--addr`.
///
/// # Panics
///
/// If there is no runtime or no such address.
pub fn run<F>(serve: impl FnOnce(TcpListener, Vec<String>) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>>,
{
    let (addr, flags) = flags();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(addr).await?;
        println!("listening on {}", listener.local_addr()?);
        serve(listener, flags).await
    })
}

/// The value of `--addr`, and all other arguments.
pub fn flags() -> (String, Vec<String>) {
    let mut addr = "127.0.0.1:0".to_owned();
    let mut flags = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--addr" {
            addr = args.next().unwrap_or(addr);
        } else {
            flags.push(arg);
        }
    }
    (addr, flags)
}

/// What a server says to a flag it does not know.
pub fn unknown(flag: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("unknown flag {flag}"))
}

/// The request of a plain client; `{host}` is to be replaced.
pub const REQUEST: &str = "GET /echo HTTP/1.1\r\n\
    Host: {host}\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n";

/// What a browser adds to it.
pub const BROWSER: &str = "Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Origin: http://{host}\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en-US;q=0.9,en;q=0.8\r\n\
    Cookie: session=5f2c1f7b8d9e4a3f8c6b7a5d4e3f2a1b; theme=dark; consent=2026-01-01\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
    Sec-Fetch-Dest: websocket\r\n\
    Sec-Fetch-Mode: websocket\r\n";

/// The header that proves an answer to [`REQUEST`] (RFC 6455 §1.3).
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The whole answer, as the floor gives it.
pub const RESPONSE: &str = "HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
