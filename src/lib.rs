// The README's links are relative to the repository. Of two definitions of a link the first one
// counts (CommonMark §4.7), so here they lead to where the documentation has the same.
//! [ARCHITECTURE.md]: https://docs.rs/crate/tower-websocket/latest/source/ARCHITECTURE.md
//! [CONTRIBUTING.md]: https://docs.rs/crate/tower-websocket/latest/source/CONTRIBUTING.md
//! [SECURITY.md]: guide::security
//! [axum]: guide::axum
//! [layers]: guide::layers
//! [migrating]: guide::migrating
//! [operating]: guide::operating
//! [testing]: guide::testing
//! [topics]: guide::topics
//! [table of faults]: https://docs.rs/crate/tower-websocket/latest/source/tests/repository/faults.md
#![cfg_attr(doc, doc = include_str!("guide/picture.txt"))]
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod close;
mod config;
mod connection;
mod driver;
mod error;
pub mod guide;
mod handler;
mod handshake;
mod jitter;
#[cfg(feature = "json")]
mod json;
mod logging;
mod measure;
mod message;
mod operator;
#[cfg(any(tower_websocket_fuzzing, test))]
#[doc(hidden)]
#[path = "../fuzz/properties/mod.rs"]
pub mod properties;
mod protocol;
mod service;
mod shutdown;
mod spawn;
mod sync;
#[cfg(feature = "test-util")]
pub mod test;
pub mod topics;

pub use close::{Close, CloseCause, CloseCode, CloseEvent};
pub use connection::{
    Connection, ConnectionId, Event, Messages, NotifyError, Pong, Queued, Sender, Traffic,
};
pub use driver::{Application, Upgrade, UpgradedIo};
#[cfg(feature = "tungstenite")]
pub use driver::{StreamFn, TungsteniteStream};
pub use error::{BoxError, CloseError, Error, PingError, SendError, TrySendError};
pub use handler::{FnHandler, Handshake, Result, UpgradeFn, WebSocketHandler, upgrade_fn};
pub use handshake::{Rejection, TrustedProxies};
pub use message::{Message, Utf8Bytes};
#[cfg(feature = "json")]
pub use operator::ConnectionSnapshot;
pub use operator::{Connections, LiveConnection};
#[cfg(feature = "deflate")]
pub use protocol::Deflate;
#[cfg(feature = "json")]
pub use service::OperatorPage;
pub use service::{
    NotFound, Readiness, ResponseBody, ResponseFuture, UpgradeGuard, UpgradeGuardFuture,
    UpgradeGuardLayer, WebSocketLayer, WebSocketOptions, WebSocketService,
};
pub use shutdown::{Drain, Drained, Shutdown};
/// The crate that [`WebSocketLayer::stream`] hands out a stream of.
#[cfg(feature = "tungstenite")]
#[doc(no_inline)]
pub use tokio_tungstenite;
#[doc(inline)]
pub use topics::{
    AppendError, Attached, OnFull, ParsePositionError, Position, Presence, PresenceChange,
    PresenceChanges, Present, Published, Retain, Status, Subscribe, SubscribeError, Topic,
    TopicSize, Topics, TopicsBuilder, TopicsOverview, TrackError,
};
