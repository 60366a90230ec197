//! The handshake of a server, without I/O: a request in, a decision out. RFC 6455 §4.2 over
//! HTTP/1.1, RFC 8441 over HTTP/2. Knows no socket, no task, no clock.

mod client;
mod handshake;
mod headers;
mod hosts;
mod origin;
mod rejection;

pub use client::TrustedProxies;
pub(crate) use handshake::{
    Decision, Offer, Policy, accept_response, ambiguous_path, examine, is_handshake, plain_refusal,
};
pub(crate) use headers::join_cookies;
#[cfg(all(any(fuzzing, test), feature = "deflate"))]
pub(crate) use headers::{ExtensionOffer, extensions};
pub(crate) use hosts::Hosts;
pub(crate) use origin::OriginPolicy;
pub use rejection::Rejection;
