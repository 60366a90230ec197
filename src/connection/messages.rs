//! [`Messages`]: what arrives, as a [`Stream`].

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::link::Link;
use crate::error::Error;
use crate::message::Message;

/// The messages of a connection as a [`Stream`], for libraries that want one; made by
/// [`Connection::split`](super::Connection::split). It ends when the connection does.
pub struct Messages {
    link: Arc<Link>,
}

impl Messages {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link }
    }
}

impl Stream for Messages {
    /// As of [`Connection::recv`](super::Connection::recv): an error comes once, behind the messages.
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.link.poll_message(cx).map(Result::transpose)
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Messages").field(&self.link.info).finish()
    }
}
