//! What the application holds of a connection, and what it shares with its driver.

mod connection;
mod queue;
mod request;
mod sender;

pub(crate) use connection::Info;
pub use connection::{CloseEvent, Connection, ConnectionId};
pub(crate) use queue::{ABORT, ASKED, OUTPUT, Shared};
pub(crate) use request::Kept;
pub use sender::Sender;
