//! What those who run a server see and do: [`Connections`], the live connections of a layer.
//!
//! ```text
//! layer.connections() ─▶ connections ─┬─▶ shutdown     the list, a shard at a time
//!                                     └─▶ connection   one of them: its link, looked at from outside
//! ```
//!
//! Nothing here holds a connection up: what is looked at was noted by its driver anyway.

mod connection;
mod connections;

#[cfg(feature = "json")]
pub use connection::ConnectionSnapshot;
pub use connection::LiveConnection;
pub use connections::Connections;
