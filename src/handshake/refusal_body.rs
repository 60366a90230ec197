//! [`RefusalBody`]: the body of a [`Rejection`](super::Rejection), made from any other body.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

type BoxError = Box<dyn Error + Send + Sync>;

/// See the module docs. Most bodies are there at once, and become one piece of text.
#[derive(Debug)]
pub(crate) struct RefusalBody {
    text: Bytes,
    /// What was not there at once. The lock is never taken: it makes the body `Sync`, as an error
    /// has to be.
    rest: Option<Mutex<UnsyncBoxBody<Bytes, BoxError>>>,
}

/// What is collected of a body at most before it is sent: a page with an explanation is smaller.
const MOST: usize = 64 * 1024;

impl RefusalBody {
    pub(crate) fn text(text: Bytes) -> Self {
        Self { text, rest: None }
    }

    /// Takes what is there of `body`; the rest will follow when it is sent.
    pub(super) fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut body = UnsyncBoxBody::new(body.map_err(Into::into));
        let mut text = BytesMut::new();
        // Nobody waits: who sends the rest polls it anew.
        let cx = &mut Context::from_waker(Waker::noop());
        while text.len() < MOST {
            match Pin::new(&mut body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        text.extend_from_slice(&data);
                    }
                }
                Poll::Ready(_) => return Self::text(text.freeze()),
                Poll::Pending => break,
            }
        }
        Self {
            text: text.freeze(),
            rest: Some(Mutex::new(body)),
        }
    }

    /// What is known of it.
    pub(crate) fn known(&self) -> &[u8] {
        &self.text
    }

    /// Its length, if all of it is known.
    pub(crate) fn len(&self) -> Option<usize> {
        self.rest.is_none().then_some(self.text.len())
    }
}

impl Body for RefusalBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            return Poll::Ready(Some(Ok(Frame::data(text))));
        }
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        let rest = rest.get_mut().unwrap_or_else(PoisonError::into_inner);
        Pin::new(rest).poll_frame(cx).map(|frame| match frame {
            Some(Ok(frame)) => Some(Ok(frame)),
            // An error cannot be passed on: the inner service's body has another. A client that was
            // refused misses the end of an explanation.
            Some(Err(_)) | None => {
                self.rest = None;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_empty() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.len() {
            Some(len) => SizeHint::with_exact(len as u64),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;

    use super::*;

    /// A body of these steps; `None` is a pending one.
    struct Steps(VecDeque<Option<Result<&'static [u8], io::Error>>>);

    impl Body for Steps {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            match self.0.pop_front() {
                None => Poll::Ready(None),
                Some(None) => Poll::Pending,
                Some(Some(step)) => {
                    Poll::Ready(Some(step.map(|data| Frame::data(Bytes::from_static(data)))))
                }
            }
        }
    }

    fn steps<const N: usize>(steps: [Option<Result<&'static [u8], io::Error>>; N]) -> RefusalBody {
        RefusalBody::new(Steps(steps.into()))
    }

    /// Its pieces; a pending one is `..`.
    fn sent(mut body: RefusalBody) -> String {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut all = String::new();
        loop {
            match Pin::new(&mut body).poll_frame(cx) {
                Poll::Pending => all.push_str(".."),
                Poll::Ready(None) => return all,
                Poll::Ready(Some(Ok(frame))) => {
                    let data = frame.into_data().unwrap();
                    all.push_str(std::str::from_utf8(&data).unwrap());
                }
            }
        }
    }

    #[test]
    fn what_is_there_at_once_is_text_of_a_known_length() {
        let body = steps([Some(Ok(b"a")), Some(Ok(b"b"))]);
        assert_eq!((body.len(), body.known()), (Some(2), &b"ab"[..]));
        assert_eq!(body.size_hint().exact(), Some(2));
        assert_eq!(sent(body), "ab");
        assert!(steps([]).is_end_stream());
    }

    #[test]
    fn what_comes_later_is_passed_on() {
        let body = steps([Some(Ok(b"a")), None, None, Some(Ok(b"b"))]);
        assert_eq!((body.len(), body.known()), (None, &b"a"[..]));
        assert_eq!(
            (body.size_hint().exact(), body.is_end_stream()),
            (None, false)
        );
        assert_eq!(sent(body), "a..b");
    }

    #[test]
    fn a_body_that_fails_ends_where_it_failed() {
        let error = || Some(Err(io::Error::other("gone")));
        assert_eq!(sent(steps([Some(Ok(b"a")), error(), Some(Ok(b"b"))])), "a");
        assert_eq!(
            sent(steps([None, Some(Ok(b"a")), error(), Some(Ok(b"b"))])),
            "a"
        );
    }

    #[test]
    fn a_body_without_end_is_not_collected() {
        const PIECE: &[u8] = &[b'x'; 1024];
        let body = steps([const { Some(Ok(PIECE)) }; 100]);
        assert_eq!((body.len(), body.known().len()), (None, MOST));
        assert_eq!(sent(body).len(), 100 * 1024);
    }
}
