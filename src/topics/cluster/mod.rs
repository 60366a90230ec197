//! Topics over several nodes: what an engine has to do ([`Backplane`], [`Log`]), and everything that it
//! has not.
//!
//! ```text
//!   registry, rooms                                     the engine (Redis, a test's)
//!     │ publish, close, want   ▲ deliver, attend    run, log │ ▲ receive, listening, logged
//!     ▼                        │                             ▼ │
//!   node ── outbox, wanted, probe, echoes, roster ◀── hub ── link ─▶ order
//!     ▲  └─ envelope: all of it as bytes
//!     ├─ life: the task that runs the engine again and again
//!     ├─ appends: messages of retained topics on their way to the log
//!     └─ reader: logs that are read ─▶ shelf: one retained topic
//! ```

mod appends;
mod attend;
mod backplane;
mod echoes;
mod engine;
mod envelope;
mod life;
mod link;
mod log;
mod node;
mod order;
mod outbox;
mod probe;
mod reader;
mod roster;
mod scatter;
mod shelf;
mod status;
mod waiting;
mod wanted;

pub(super) use appends::{Load, append};
pub use backplane::Backplane;
pub use engine::{EngineError, Pending};
#[cfg(any(test, tower_websocket_fuzzing))]
pub(crate) use envelope::{Change, Envelope, Tail, What};
pub(super) use life::start;
pub use link::Link;
pub use log::{Log, Logged, NewEntry, Page};
pub(super) use node::Node;
pub use order::Order;
pub(super) use outbox::Limits;
pub(super) use probe::Times;
pub(super) use shelf::Shelf;
pub use status::Status;
pub(crate) use waiting::Waiting;
