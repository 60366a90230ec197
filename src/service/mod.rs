//! The tower face: [`WebSocketLayer`] and what it is made of.

mod body;
mod future;
mod gate;
mod guard;
mod layer;
mod mount;
mod service;

pub use body::ResponseBody;
pub use future::ResponseFuture;
pub use guard::{UpgradeGuard, UpgradeGuardFuture, UpgradeGuardLayer};
pub use layer::WebSocketLayer;
#[cfg(any(fuzzing, test))]
pub(crate) use mount::{Mount, Place};
pub use service::{NotFound, WebSocketService};
