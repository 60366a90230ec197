#![doc = include_str!("../README.md")]

mod close;
mod config;
mod connection;
mod driver;
mod error;
mod handler;
mod handshake;
mod jitter;
mod logging;
mod message;
#[cfg(any(tower_websocket_fuzzing, test))]
#[doc(hidden)]
#[path = "../fuzz/properties/mod.rs"]
pub mod properties;
mod protocol;
mod service;
mod shutdown;
mod sync;

pub use close::{CloseCause, CloseCode, CloseEvent};
pub use connection::{Connection, ConnectionId, Event, NotifyError, Queued, Sender};
pub use error::{BoxError, CloseError, Error, PingError, SendError, TrySendError};
pub use handler::{Handshake, Result, WebSocketHandler};
pub use handshake::{Rejection, TrustedProxies};
pub use message::{Message, Utf8Bytes};
#[cfg(feature = "deflate")]
pub use protocol::Deflate;
pub use service::{
    ResponseBody, ResponseFuture, UpgradeGuard, UpgradeGuardLayer, WebSocketLayer, WebSocketService,
};
pub use shutdown::{Drain, Drained, Shutdown};

#[doc = include_str!("../SECURITY.md")]
pub mod security {}

/// Types that stand in signatures and are seldom named.
pub mod types {
    pub use crate::driver::{Application, StreamFn};
    pub use crate::handler::FnHandler;
    pub use crate::service::{NotFound, UpgradeGuardFuture};
}
