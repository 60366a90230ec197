//! The task of one connection: bytes and time in, bytes out, callbacks called. It decides
//! nothing; `protocol` does.

mod clock;
mod driver;
mod endpoint;
mod input;
#[cfg(all(test, shuttle))]
mod models;
mod patience;
mod transport;
mod turn;
mod upgraded;
mod waiting;
mod wire;

pub(crate) use driver::caught;
#[cfg(any(fuzzing, test))]
pub(crate) use driver::drive;
pub(crate) use endpoint::Seat;
pub use endpoint::{Endpoint, StreamFn};
pub(crate) use upgraded::{Confirm, Opened, Ours, Pending};
pub(crate) use waiting::later_request;
#[cfg(any(fuzzing, test))]
pub(crate) use wire::Wire;
