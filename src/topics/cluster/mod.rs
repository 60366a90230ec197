//! Topics over several nodes: what an engine has to do ([`Backplane`], [`Log`]), and everything that it
//! has not.
//!
//! ```text
//!              registry, rooms                          the engine (Redis, a test's)
//!     publish, close │ ▲ deliver                    run │ ▲ receive, listening, logged
//!                    ▼ │                                ▼ │
//!  envelope ◀─────▶ node ◀──────────── hub ───────────▶ link ─▶ order
//!                    │ outbox, wanted, probe, echoes
//!                    │ roster: who is present on other nodes
//!                    └ life: the task that runs the engine again and again
//! ```

mod backplane;
mod engine;
mod life;
mod link;
mod log;
mod node;
mod order;
mod outbox;
mod status;
mod wanted;

pub use backplane::Backplane;
pub use engine::{EngineError, Pending};
pub(super) use life::start;
pub use link::Link;
pub use log::{Log, Logged, NewEntry, Page};
pub(super) use node::Node;
pub use order::Order;
pub use status::Status;
