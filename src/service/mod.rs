//! The tower face: [`WebSocketLayer`] and what it is made of.
//!
//! ```text
//! request ─▶ service ─▶ mount ─▶ answer ─▶ admission (limit) ─▶ upgrade ─▶ start ─▶ the driver's task
//!               └─ all others ─▶ inner service
//!            options, in a route ─▶ answer ─▶ …
//! ```
//!
//! `setters` has the options of both, once.
//!
//! `readiness` and `operator_page` are services beside it, for load balancers and those on call.
//!
//! `body` and `future` are the response's; `guard` is the layer around everything that sees what
//! became of it.

mod admission;
mod answer;
mod body;
mod future;
mod guard;
mod hints;
mod layer;
mod limit;
mod mount;
mod not_found;
#[cfg(feature = "json")]
mod operator_page;
mod options;
mod peer;
mod readiness;
mod service;
mod setters;
mod start;
mod upgrade;
mod websocket_options;

pub use body::ResponseBody;
pub use future::ResponseFuture;
pub use guard::{UpgradeGuard, UpgradeGuardFuture, UpgradeGuardLayer};
pub use layer::WebSocketLayer;
#[cfg(any(tower_websocket_fuzzing, test))]
pub(crate) use mount::{Mount, Place};
pub use not_found::NotFound;
#[cfg(feature = "json")]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
pub use operator_page::OperatorPage;
pub use readiness::Readiness;
pub use service::WebSocketService;
pub use websocket_options::WebSocketOptions;
