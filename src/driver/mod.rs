//! The task of one connection: bytes and time in, bytes out, callbacks called. It decides
//! nothing; `protocol` does.
//!
//! ```text
//! task ─▶ upgraded (evidence, waiting)   waits for the socket that the 101 promised
//!   │
//!   ├─▶ callback ─▶ the application's handler
//!   └─▶ driver ─┬─▶ transport (read_buffer)   bytes
//!               ├─▶ clock, turn, patience     time: deadlines, others' turns, the application's
//!               └─▶ protocol::Session         what it all means
//! ```

mod application;
mod callback;
mod clock;
mod driver;
mod end;
mod evidence;
mod io;
#[cfg(all(test, shuttle))]
mod models;
mod patience;
mod read_buffer;
#[cfg(feature = "tungstenite")]
mod stream;
mod task;
mod transport;
mod turn;
mod upgrade;
mod upgraded;
mod waiting;

pub use application::Application;
pub(crate) use application::Opened;
#[cfg(feature = "test-util")]
pub(crate) use application::serve;
pub(crate) use callback::caught;
pub(crate) use clock::within;
#[cfg(any(tower_websocket_fuzzing, test))]
pub(crate) use driver::Driver;
pub(crate) use evidence::{Confirmation, Ours};
pub use io::UpgradedIo;
#[cfg(feature = "tungstenite")]
pub use stream::{StreamFn, TungsteniteStream};
#[cfg(any(tower_websocket_fuzzing, test))]
pub(crate) use task::drive;
pub(crate) use upgrade::Source;
pub use upgrade::Upgrade;
pub(crate) use upgraded::{Pending, Socket};
pub(crate) use waiting::later_request;
