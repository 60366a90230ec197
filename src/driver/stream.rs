//! [`StreamFn`]: a function of a tungstenite stream as an application.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::request::Parts;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::application::{Application, Opened, sealed};
use super::callback::{caught, log};
use super::end::note_end;
use super::io::UpgradedIo;
use super::upgraded::Look;
use crate::close::CloseCause;
use crate::error::{CallbackFailure, Error};
use crate::handler::{Handshake, Result};
use crate::handshake::Rejection;

/// The application of [`WebSocketLayer::stream`](crate::WebSocketLayer::stream).
#[derive(Clone)]
pub struct StreamFn {
    function: Arc<Function>,
}

/// The stream that [`WebSocketLayer::stream`](crate::WebSocketLayer::stream) hands out: tungstenite's
/// protocol on the connection that the server handed over.
///
/// ```
/// use futures_util::StreamExt;
/// use http::request::Parts;
/// use tower_websocket::{Result, TungsteniteStream, WebSocketLayer};
///
/// async fn count(mut socket: TungsteniteStream, request: Parts) -> Result {
///     let mut messages = 0;
///     while let Some(message) = socket.next().await {
///         messages += usize::from(message?.is_text());
///     }
///     println!("{}: {messages} texts", request.uri);
///     Ok(())
/// }
///
/// let layer = WebSocketLayer::stream("/count", count);
/// # drop(layer);
/// ```
pub type TungsteniteStream = WebSocketStream<UpgradedIo>;

/// Boxed: one allocation a connection, and the type of a layer can be written down.
type Function = dyn Fn(TungsteniteStream, Parts) -> Running + Send + Sync;
type Running = Pin<Box<dyn Future<Output = Result> + Send>>;

impl StreamFn {
    pub(crate) fn new<F, Fut>(function: F) -> Self
    where
        F: Fn(TungsteniteStream, Parts) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result> + Send + 'static,
    {
        Self {
            function: Arc::new(move |socket, request| Box::pin(function(socket, request))),
        }
    }
}

impl fmt::Debug for StreamFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamFn").finish_non_exhaustive()
    }
}

/// tungstenite's default of 128 KiB is held by every connection as long as it lives.
const READ_BUFFER: usize = 4 * 1024;

impl sealed::Sealed for StreamFn {}

impl Application for StreamFn {
    /// tungstenite's, which cannot.
    const MESSAGES: bool = false;

    async fn upgrade(&mut self, _: &mut Handshake) -> Result<(), Rejection> {
        Ok(())
    }

    async fn serve(self, opened: Opened) {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(opened.config.max_message))
            .max_frame_size(Some(opened.config.max_frame));
        let first = match opened.look {
            Look::Byte(first) => vec![first],
            Look::None | Look::Nothing => Vec::new(),
        };
        let socket =
            WebSocketStream::from_partially_read(opened.io, first, Role::Server, Some(config))
                .await;
        tracing::debug!("open");
        let request = opened.link.info.request.parts().clone();
        let running = caught(async { (self.function)(socket, request).await });
        let failure = match opened.link.unless_aborted(running).await {
            None => {
                tracing::debug!("dropped at the deadline of the shutdown");
                return note_end(None, CloseCause::Shutdown);
            }
            Some(Ok(Ok(()))) => {
                tracing::debug!("closed");
                return note_end(None, CloseCause::Application);
            }
            Some(Ok(Err(error))) => CallbackFailure::Returned(error),
            Some(Err(message)) => CallbackFailure::Panicked(message),
        };
        log(
            "error",
            &Error::of_callback("the stream's function", failure),
        );
        note_end(None, CloseCause::ApplicationFailed);
    }
}
