//! One message to many connections: [`Topics`] and what belongs to it, and what carries
//! messages between the nodes of an application.
//!
//! An application uses what the crate exports: [`Topics`] has the overview. Who connects it
//! with something else than Redis implements [`Backplane`], and
//! [`Log`] if that can keep messages.

// Topics, Topic ─▶ registry ─▶ room ─┬─ members ─▶ receiver (a connection's link) ─▶ its queue
//   by name                          └─ log          │ full: terms, backlog
//                                        ▲           ▼
// subscriptions of a connection ─────────┴── refill, when there is room
//   └─ tracking ─▶ presence of a room
//
// `cluster` has what lies between this process and others.
//
// Locks are taken in this order: the list of a connection's subscriptions, a shard of the registry,
// the log of a topic, its chunks of members one behind the other, the queue of a connection. Nobody is
// woken and nothing of the application is dropped while one of them is held; functions of the
// application that must run there are `contained` and cannot come back.

mod backlog;
mod calls;
mod cluster;
mod log;
mod members;
mod overview;
mod position;
mod presence;
mod published;
mod receiver;
#[cfg(feature = "redis")]
mod redis;
mod registry;
mod room;
mod subscriptions;
mod terms;
mod topics;
mod tracking;

pub(crate) use backlog::{Backlog, Kept};
pub use cluster::{
    Backplane, EngineError, Link, Log, Logged, NewEntries, NewEntry, Order, Page, Pending, Status,
};
#[cfg(any(test, tower_websocket_fuzzing))]
pub(crate) use cluster::{Change, Envelope, Standing, Tail, What};
pub use log::Retain;
pub use overview::{TopicSize, TopicsOverview};
pub use position::{ParsePositionError, Position};
pub use presence::{PresenceChange, Present, TrackError};
pub use published::{AppendError, Published, SubscribeError};
pub(crate) use receiver::{How, Offered, Receiver, Taken};
#[cfg(all(feature = "redis", any(test, tower_websocket_fuzzing)))]
pub(crate) use redis::{MAX_REPLY, Replies};
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use redis::{Redis, RedisUrlError};
pub(crate) use subscriptions::Subscriptions;
pub use terms::{Attached, OnFull, Subscribe};
pub use topics::{Presence, PresenceChanges, Topic, Topics, TopicsBuilder};

#[cfg(all(test, not(shuttle)))]
mod tests;
