//! [`FnHandler`]: a function of a [`Connection`] as a handler.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{Result, WebSocketHandler};
use crate::close::CloseCode;
use crate::connection::Connection;

/// The application of [`WebSocketLayer::from_fn`](crate::WebSocketLayer::from_fn).
#[derive(Clone)]
pub struct FnHandler {
    function: Arc<Function>,
}

/// Boxed: one allocation a connection, and the type of a layer can be written down.
type Function = dyn Fn(Connection) -> Running + Send + Sync;
type Running = Pin<Box<dyn Future<Output = Result> + Send>>;

impl FnHandler {
    pub(crate) fn new<F, Fut>(function: F) -> Self
    where
        F: Fn(Connection) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result> + Send + 'static,
    {
        Self {
            function: Arc::new(move |conn| Box::pin(function(conn))),
        }
    }
}

impl WebSocketHandler for FnHandler {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        (self.function)(conn.duplicate()).await?;
        // Closed by the function or by the peer is just as good.
        let _ = conn.close(CloseCode::NORMAL_CLOSURE, "");
        Ok(())
    }
}

impl fmt::Debug for FnHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnHandler").finish_non_exhaustive()
    }
}
