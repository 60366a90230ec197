//! [`Options`]: what the setters have set, and where a layer is mounted.

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
use crate::topics::Topics;

/// See the module docs.
#[derive(Clone)]
pub(super) struct Options {
    pub(super) mount: Mount,
    /// There is no inner service: who asks for another path has been routed here by mistake.
    pub(super) is_leaf: bool,
    pub(super) policy: Policy,
    pub(super) config: Arc<Config>,
    pub(super) shutdown: Shutdown,
    pub(super) topics: Topics,
    pub(super) limit: ConnectionLimit,
    /// Compress messages with clients that offer it; off by default: it costs memory and time.
    pub(super) deflate: Option<Deflate>,
    pub(super) peer: PeerFinder,
    pub(super) proxies: Option<TrustedProxies>,
    /// Decides about handshakes before the application does.
    pub(super) on_upgrade: Option<UpgradeCheck>,
}

impl Options {
    /// The defaults.
    pub(super) fn new(mount: Mount) -> Self {
        Self {
            mount,
            is_leaf: false,
            policy: Policy::default(),
            config: Arc::default(),
            shutdown: Shutdown::new(),
            topics: Topics::new(),
            limit: ConnectionLimit::default(),
            deflate: None,
            peer: PeerFinder::default(),
            proxies: None,
            on_upgrade: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("mount", self.mount.as_str())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
