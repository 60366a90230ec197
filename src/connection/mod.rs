//! What the application holds of a connection, and what it shares with its driver.

mod connection;
mod queue;
mod sender;

pub(crate) use connection::Info;
pub use connection::{CloseEvent, Connection, ConnectionId};
pub(crate) use queue::{ABORT, CLOSE, LEAVE, OUTPUT, PING, Shared};
pub use sender::Sender;
