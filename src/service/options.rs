//! [`Options`]: what the builder methods of a layer have set.

use std::fmt;
use std::sync::Arc;

use super::limit::ConnectionLimit;
use super::mount::Mount;
use super::peer::PeerFinder;
use crate::config::Config;
use crate::handler::UpgradeCheck;
use crate::handshake::{Policy, TrustedProxies};
use crate::protocol::Deflate;
use crate::shutdown::Shutdown;

/// What the options of a layer amount to.
#[derive(Clone)]
pub(super) struct Options {
    pub(super) mount: Mount,
    pub(super) policy: Policy,
    pub(super) config: Arc<Config>,
    pub(super) shutdown: Shutdown,
    pub(super) limit: ConnectionLimit,
    /// Compress messages with clients that offer it; off by default: it costs memory and time.
    pub(super) deflate: Option<Deflate>,
    pub(super) peer: PeerFinder,
    pub(super) proxies: Option<TrustedProxies>,
    /// Decides about handshakes before the application does.
    pub(super) on_upgrade: Option<UpgradeCheck>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("mount", self.mount.as_str())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
