//! [`Application`]: the sealed trait of what a layer can mount.

use std::future::Future;
use std::sync::Arc;

#[cfg(feature = "test-util")]
use tokio::io::{AsyncRead, AsyncWrite};

use super::driver::Driver;
use super::io::UpgradedIo;
use super::task::drive;
use super::upgraded::Look;
use crate::config::Config;
use crate::connection::Link;
use crate::handler::{Handshake, Result, WebSocketHandler};
use crate::handshake::Rejection;

/// An application that a layer can mount: any [`WebSocketHandler`], or the function of
/// [`WebSocketLayer::stream`](crate::WebSocketLayer::stream). Sealed.
pub trait Application: Clone + Send + Sync + 'static + sealed::Sealed {
    /// Whether the messages are ours, so that they may be compressed.
    #[doc(hidden)]
    const MESSAGES: bool;

    #[doc(hidden)]
    fn upgrade(
        &mut self,
        handshake: &mut Handshake,
    ) -> impl Future<Output = Result<(), Rejection>> + Send;

    #[doc(hidden)]
    fn serve(self, opened: Opened) -> impl Future<Output = ()> + Send;
}

/// A connection that is open, for its application to serve.
#[doc(hidden)]
#[derive(Debug)]
pub struct Opened {
    pub(crate) link: Arc<Link>,
    pub(crate) config: Arc<Config>,
    pub(crate) io: UpgradedIo,
    pub(crate) look: Look,
}

pub(super) mod sealed {
    pub trait Sealed {}
    impl<H: super::WebSocketHandler> Sealed for H {}
}

/// Runs a handler on a stream that carries WebSocket frames already.
#[cfg(feature = "test-util")]
pub(crate) fn serve<H, IO>(
    handler: H,
    link: Arc<Link>,
    config: Arc<Config>,
    io: IO,
) -> impl Future<Output = ()> + Send
where
    H: WebSocketHandler,
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    link.open();
    drive(handler, Driver::new(io, link, config))
}

impl<H: WebSocketHandler> Application for H {
    const MESSAGES: bool = true;

    async fn upgrade(&mut self, handshake: &mut Handshake) -> Result<(), Rejection> {
        self.on_upgrade(handshake).await
    }

    fn serve(self, opened: Opened) -> impl Future<Output = ()> + Send {
        let mut driver = Driver::new(opened.io, opened.link, opened.config);
        driver.begin_with(opened.look);
        drive(self, driver)
    }
}
