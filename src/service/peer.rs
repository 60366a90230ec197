//! [`PeerFinder`]: the address that a request comes from.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Once};

use http::request::Parts;

/// See the module docs. Clones report a missing address together.
#[derive(Clone)]
pub(super) struct PeerFinder {
    /// The application's own.
    find: Option<Arc<Find>>,
    missing: Arc<Once>,
}

type Find = dyn Fn(&Parts) -> Option<SocketAddr> + Send + Sync;

impl PeerFinder {
    pub(super) fn new(find: impl Fn(&Parts) -> Option<SocketAddr> + Send + Sync + 'static) -> Self {
        Self {
            find: Some(Arc::new(find)),
            ..Self::default()
        }
    }

    pub(super) fn find(&self, parts: &Parts) -> Option<SocketAddr> {
        match &self.find {
            Some(find) => find(parts),
            None => in_extensions(parts),
        }
    }

    /// Writes once that options of the layer cannot work, and what to do. `needed_by` are their
    /// names.
    #[cold]
    pub(super) fn report_missing(&self, needed_by: &str) {
        self.missing.call_once(|| {
            let advice = if self.find.is_some() {
                "the function given to `peer_addr` found none"
            } else {
                ADVICE
            };
            tracing::error!(
                "{needed_by} cannot work, since the address of a peer is not known: {advice}. All \
                 such clients count as one"
            );
        });
    }
}

#[cfg(feature = "axum")]
const ADVICE: &str = "with axum, serve \
    `router.into_make_service_with_connect_info::<SocketAddr>()`; with hyper, insert the \
    `SocketAddr` from `accept` into the extensions of each request; or set `peer_addr` on the layer";
#[cfg(not(feature = "axum"))]
const ADVICE: &str = "with axum, turn on the feature `axum` of tower-websocket and serve \
    `router.into_make_service_with_connect_info::<SocketAddr>()`; with hyper, insert the \
    `SocketAddr` from `accept` into the extensions of each request; or set `peer_addr` on the layer";

/// Where servers leave it: hyper's by convention, axum's by
/// `into_make_service_with_connect_info`.
fn in_extensions(parts: &Parts) -> Option<SocketAddr> {
    let extensions = &parts.extensions;
    if let Some(address) = extensions.get::<SocketAddr>() {
        return Some(*address);
    }
    #[cfg(feature = "axum")]
    if let Some(axum::extract::ConnectInfo(address)) = extensions.get() {
        return Some(*address);
    }
    None
}

impl Default for PeerFinder {
    fn default() -> Self {
        Self {
            find: None,
            missing: Arc::new(Once::new()),
        }
    }
}

impl fmt::Debug for PeerFinder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerFinder").finish_non_exhaustive()
    }
}
