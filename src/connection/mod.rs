//! What the application holds of a connection, and what it shares with the driver.
//!
//! ```text
//! Connection ─┐                         ┌─ outgoing messages ─▶ driver
//! Sender ─────┼─▶ Link ─────────────────┼─ signals ───────────▶
//!             │    └─ Info, the request └◀ messages that wait ─
//! ```

mod connection;
mod info;
mod link;
mod request;
mod sender;

pub use connection::Connection;
pub use info::ConnectionId;
pub(crate) use info::Info;
pub(crate) use link::{ABORT, ASKED, Link, OUTPUT};
pub(crate) use request::StoredRequest;
pub use sender::Sender;
