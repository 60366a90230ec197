//! The handshake of a server, without I/O: a request in, a decision out. RFC 6455 §4.2 over
//! HTTP/1.1, RFC 8441 over HTTP/2. It does not use sockets, tasks or clocks.
//!
//! ```text
//! request ─▶ examine ─▶ Plain             the inner service's
//!              │    └─▶ Refused(Rejection) a whole response, from `refusals`
//!              └──────▶ Offer ─▶ on_upgrade ─▶ accept_response: 101, or 200 over HTTP/2
//! ```
//!
//! `head` finds the fields; `headers`, `hosts` and `origin` each read one; `proxies` finds the client's address behind
//! trusted proxies.

mod accept;
mod examine;
mod field;
mod head;
mod headers;
mod hosts;
mod offer;
mod origin;
mod proxies;
mod refusal_body;
mod refusals;
mod rejection;

pub(crate) use accept::accept_response;
pub(crate) use examine::{Decision, Policy, examine, is_handshake};
#[cfg(all(any(tower_websocket_fuzzing, test), feature = "deflate"))]
pub(crate) use field::Field;
#[cfg(feature = "json")]
pub(crate) use head::Head;
pub(crate) use headers::join_cookies;
#[cfg(all(any(tower_websocket_fuzzing, test), feature = "deflate"))]
pub(crate) use headers::{ExtensionOffer, extensions};
pub(crate) use hosts::Hosts;
pub(crate) use offer::{Offer, Transport};
pub(crate) use origin::OriginPolicy;
pub use proxies::TrustedProxies;
pub(crate) use refusal_body::RefusalBody;
pub(crate) use refusals::{PROXY, ambiguous_path, plain_refusal};
pub use rejection::Rejection;
