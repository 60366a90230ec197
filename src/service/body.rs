//! [`ResponseBody`].

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::driver::Confirmation;
use crate::handshake::RefusalBody;

pin_project! {
    /// The body of a response of [`WebSocketService`](super::WebSocketService): the inner
    /// service's, or a few words of our own.
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B> {
        Inner { #[pin] body: B },
        Refusal { body: RefusalBody },
        Switched { body: Switched },
    }
}

/// The empty body of a response that opens a connection.
pub(crate) enum Switched {
    /// A 101, with what observes it unless a guard does.
    Http1(Option<Confirmation>),
    /// A 200 to an extended CONNECT.
    Http2,
}

impl<B> ResponseBody<B> {
    pub(crate) fn inner(body: B) -> Self {
        Self {
            kind: Kind::Inner { body },
        }
    }

    pub(crate) fn refusal(body: RefusalBody) -> Self {
        Self {
            kind: Kind::Refusal { body },
        }
    }

    pub(crate) fn switched(body: Switched) -> Self {
        Self {
            kind: Kind::Switched { body },
        }
    }
}

/// The empty body of layers outside that answer in place of the service, such as tower-http's
/// `TimeoutLayer` and `CorsLayer`.
impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::inner(B::default())
    }
}

/// For layers outside that answer in place of the service, with a body of their own:
/// `Response::new("no".to_owned().into())`.
impl<B> From<B> for ResponseBody<B> {
    fn from(body: B) -> Self {
        Self::inner(body)
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body,
    B::Data: From<Bytes>,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.project().kind.project() {
            KindProj::Inner { body } => body.poll_frame(cx),
            KindProj::Refusal { body } => Pin::new(body)
                .poll_frame(cx)
                .map_ok(|frame| frame.map_data(B::Data::from))
                .map_err(|never| match never {}),
            KindProj::Switched { body } => {
                if let Switched::Http1(Some(confirm)) = body {
                    confirm.polled();
                }
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } => body.is_end_stream(),
            Kind::Refusal { body } => body.is_end_stream(),
            Kind::Switched { body } => match body {
                // `true` would keep hyper from polling a body that it should not even have.
                Switched::Http1(Some(confirm)) => {
                    confirm.asked();
                    false
                }
                // Under a guard nobody has to poll it, and a body that is dropped unread is
                // complete to layers that report those that are not.
                Switched::Http1(None) | Switched::Http2 => true,
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } => body.size_hint(),
            Kind::Refusal { body } => body.size_hint(),
            Kind::Switched { body } => match body {
                // Empty, but not known to be: axum writes a content-length from an exact size,
                // and a 101 must have none (RFC 9110 §8.6).
                Switched::Http1(_) => {
                    let mut hint = SizeHint::new();
                    hint.set_upper(1);
                    hint
                }
                Switched::Http2 => SizeHint::with_exact(0),
            },
        }
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Inner { .. } => "Inner",
            Kind::Refusal { .. } => "Refusal",
            Kind::Switched { .. } => "Switched",
        };
        f.debug_struct("ResponseBody")
            .field("kind", &kind)
            .finish_non_exhaustive()
    }
}
