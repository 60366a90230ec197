//! WebSockets over HTTP/2 (RFC 8441): by a good client (`streams`), and by one that writes its HTTP/2
//! frames by hand (`raw`).

mod raw;
mod streams;

pub use self::streams::{connect, request, session};
