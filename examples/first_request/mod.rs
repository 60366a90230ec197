//! A deadline for the first request of a connection, for servers on hyper-util's `auto` builder.
//!
//! hyper's `header_read_timeout` begins when it is known which HTTP a client speaks. Until then the
//! auto server waits as long as the client likes: one that opens a connection and says nothing, or
//! `PRI` and nothing more, would keep a socket and a task for ever. So the server is dropped unless a
//! request reaches the service in time.

use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tower::util::MapRequest;

/// As long as for a head: a client that connects has something to ask.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first request, which has come or not.
pub(crate) struct FirstRequest(Arc<Notify>);

/// `service`, and when its first request comes.
pub(crate) fn noticed<S, R>(service: S) -> (MapRequest<S, impl Fn(R) -> R + Clone>, FirstRequest) {
    let asked = Arc::new(Notify::new());
    let first = FirstRequest(asked.clone());
    let noticing = move |request| {
        asked.notify_one();
        request
    };
    (MapRequest::new(service, noticing), first)
}

impl FirstRequest {
    /// What `serving` gives; `None` if it was dropped, since no request came in 10 s.
    pub(crate) async fn or_drop<T>(self, serving: impl Future<Output = T>) -> Option<T> {
        let silence = async {
            if tokio::time::timeout(PATIENCE, self.0.notified())
                .await
                .is_ok()
            {
                pending::<()>().await;
            }
        };
        tokio::select! {
            served = serving => Some(served),
            () = silence => None,
        }
    }
}
