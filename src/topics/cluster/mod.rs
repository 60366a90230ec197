//! Topics over several nodes: what an engine has to do ([`Backplane`], [`Log`]), and everything that it
//! has not.
//!
//! ```text
//!   registry, rooms                                     the engine (Redis, a test's)
//!     │ publish, close, want   ▲ deliver, attend    run, log │ ▲ receive, listening, logged
//!     ▼ cluster                │                             ▼ │
//!   node ◀──── arrivals ──────────── hub ── link ─▶ order
//!     ├─ envelope: what nodes say to each other, as bytes
//!     ├─ work ─┬─ queue: what waits for the engine: wanted (channels), the nodes' own business, outbox
//!     │        └─ schedule: what is due by the clock; probe: is the connection dead
//!     ├─ echoes: what comes twice; roster: who is present where ─▶ attend; leader
//!     ├─ tails, heights: how far logs go; reads: which are to be read
//!     ▲
//!     ├─ life: the task that runs the engine again and again, and beside it watch: does what is due
//!     │  trial: does the log work; health: since when it does not     flush: waits until all is sent
//!     ├─ appends: messages of retained topics on their way to the log, which wait in a lane each; load: in all
//!     │  until: waits for what another task brings about
//!     └─ reader: reads logs ─▶ shelf: one retained topic; reading: is it read
//! ```

mod appends;
mod arrivals;
mod attend;
mod backplane;
mod cluster;
mod echoes;
mod engine;
mod envelope;
mod flush;
mod health;
mod heights;
mod lane;
mod leader;
mod life;
mod link;
mod load;
mod log;
mod node;
mod order;
mod outbox;
mod probe;
mod queue;
mod reader;
mod reading;
mod reads;
mod roster;
mod scatter;
mod schedule;
mod shelf;
mod status;
mod tails;
mod tasks;
mod trial;
mod until;
mod waiting;
mod wanted;
mod watch;
mod work;

pub use backplane::Backplane;
pub(super) use cluster::{Cluster, Connect, connect};
pub use engine::{EngineError, Pending};
#[cfg(feature = "redis")]
pub(super) use envelope::MAX_ENVELOPE;
#[cfg(any(test, tower_websocket_fuzzing))]
pub(crate) use envelope::{Change, Envelope, Standing, Tail, What};
pub use link::Link;
pub(super) use load::Load;
pub use log::{Log, Logged, NewEntries, NewEntry, Page};
pub use order::Order;
pub(super) use outbox::Limits;
pub(super) use probe::Times;
pub(super) use shelf::Shelf;
pub use status::Status;
pub(crate) use waiting::Waiting;
