//! What the application holds of a connection, and what it shares with the driver.
//!
//! ```text
//! Connection ─┐          ┌─ outbox   messages to send ─────────▶ driver
//! Sender ─────┴─▶ link ──┼─ signals  wake it, and say why ─────▶
//!                        ├◀ inbox    messages, events, pongs ───
//!                        ├─ info     the request, addresses, names
//!                        └─ traffic  what came and went, for those who look ◀──
//! ```
//!
//! `subscribing` has what both handles do with topics.

mod address;
mod connection;
mod event;
mod inbox;
mod info;
mod link;
mod messages;
mod outbox;
mod pong;
mod request;
mod sender;
mod signals;
mod subscribing;
mod traffic;

pub use connection::Connection;
pub use event::{Event, NotifyError};
pub(crate) use inbox::Item;
pub use info::ConnectionId;
pub(crate) use info::{Info, Names, Seldom};
pub(crate) use link::Link;
pub use messages::Messages;
pub use outbox::Queued;
pub use pong::Pong;
pub(crate) use request::StoredRequest;
pub use sender::Sender;
#[cfg(all(test, shuttle))]
pub(crate) use signals::Signals;
pub(crate) use signals::{ABORT, ASKED, EVENT, OUTPUT, woken_here};
pub use traffic::Traffic;
