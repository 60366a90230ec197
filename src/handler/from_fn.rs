//! [`FnHandler`], [`FnOnceHandler`]: a function of a [`Connection`] as a handler.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

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
        run((self.function)(conn.duplicate()), conn).await
    }
}

/// The same for a function that serves one connection, and can be called once.
#[derive(Clone)]
pub(crate) struct FnOnceHandler {
    function: Arc<Mutex<Option<Box<FunctionOnce>>>>,
}

type FunctionOnce = dyn FnOnce(Connection) -> Running + Send;

impl FnOnceHandler {
    pub(crate) fn new<F, Fut>(function: F) -> Self
    where
        F: FnOnce(Connection) -> Fut + Send + 'static,
        Fut: Future<Output = Result> + Send + 'static,
    {
        let function: Box<FunctionOnce> = Box::new(move |conn| Box::pin(function(conn)));
        Self {
            function: Arc::new(Mutex::new(Some(function))),
        }
    }

    fn take(&self) -> Option<Box<FunctionOnce>> {
        let mut function = self.function.lock().unwrap_or_else(PoisonError::into_inner);
        function.take()
    }
}

impl WebSocketHandler for FnOnceHandler {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        let function = self.take();
        match function {
            Some(function) => run(function(conn.duplicate()), conn).await,
            None => Ok(()),
        }
    }
}

async fn run(running: Running, conn: &Connection) -> Result {
    running.await?;
    // Closed by the function or by the peer is just as good.
    let _ = conn.close(CloseCode::NORMAL_CLOSURE, "");
    Ok(())
}

impl fmt::Debug for FnHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnHandler").finish_non_exhaustive()
    }
}
