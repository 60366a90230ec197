//! [`drive`]: one connection from `on_open` to `on_close`.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};

use super::callback::{Name, call, contained, log};
use super::driver::Driver;
use super::end::note_end;
use crate::close::{Close, CloseCause, CloseCode, CloseEvent, CloseFrame};
use crate::connection::{Connection, Item};
use crate::error::{CloseError, Error, PingError, SendError, TrySendError};
use crate::handler::WebSocketHandler;
use crate::logging::field;
use crate::topics::{SubscribeError, TrackError};

/// Runs a connection whose 101 has been sent, until nothing of it is left.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` keeps room for its arguments twice"
)]
pub(crate) fn drive<H, IO>(
    mut handler: H,
    mut driver: Driver<IO>,
) -> impl Future<Output = ()> + Send
where
    H: WebSocketHandler,
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    async move {
        let mut conn = driver.connection();
        poll_fn(|cx| {
            driver.set_driver(cx.waker());
            Poll::Ready(())
        })
        .await;
        tracing::debug!("open");

        driver.callback_begins();
        let mut called = call(&mut driver, Name::Open, || handler.on_open(&mut conn)).await;
        while called.is_ok() {
            let Some(item) = poll_fn(|cx| driver.poll_next(cx)).await else {
                break;
            };
            driver.be_patient();
            let (handler, conn) = (&mut handler, &mut conn);
            let name = match item {
                Item::Message(_) => Name::Message,
                Item::Event(_) => Name::Event,
            };
            // One call for both: with two, every connection would keep room for the item as well.
            let callback = move || match item {
                Item::Message(message) => OnItem::Message {
                    callback: handler.on_message(conn, message),
                },
                Item::Event(event) => OnItem::Event {
                    callback: Box::pin(handler.on_event(conn, event)),
                },
            };
            called = call(&mut driver, name, callback).await;
        }

        let ended = poll_fn(|cx| Poll::Ready(driver.is_over(cx))).await;
        if let Err(error) = called {
            let code = CloseCode::INTERNAL_ERROR;
            if let Some(frame) = asked_close(&error) {
                contained(|| drop(error));
                driver.close(frame, CloseCause::Application);
            } else if ended && is_closed(&error) {
                // After the end, it is expected that nothing can be sent any more, so it is not
                // reported.
                contained(|| drop(error));
            } else {
                // A connection that had already ended sends the code of that end.
                let error = if ended {
                    error
                } else {
                    error.closing_with(code)
                };
                Box::pin(tell(&mut driver, &mut handler, &mut conn, error)).await;
            }
            driver.close(
                CloseFrame::known(code, "internal error"),
                CloseCause::ApplicationFailed,
            );
        } else {
            driver.finish();
        }
        if let Some(error) = driver.take_error() {
            Box::pin(tell(&mut driver, &mut handler, &mut conn, error)).await;
        }

        poll_fn(|cx| driver.poll_end(cx, true)).await;
        let event = end_of(&driver);
        driver.limit();
        let callback = || handler.on_close(&mut conn, event);
        if let Err(error) = call(&mut driver, Name::Close, callback).await {
            log("on_close failed", &error);
            contained(|| drop(error));
        }
        poll_fn(|cx| driver.poll_end(cx, false)).await;
    }
}

pin_project! {
    #[project = OnItemProjection]
    enum OnItem<M, E> {
        Message { #[pin] callback: M },
        // Boxed: events are rare, and every connection keeps the room.
        Event { callback: Pin<Box<E>> },
    }
}

impl<M: Future, E: Future<Output = M::Output>> Future for OnItem<M, E> {
    type Output = M::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            OnItemProjection::Message { callback } => callback.poll(cx),
            OnItemProjection::Event { callback } => callback.as_mut().poll(cx),
        }
    }
}

/// How a connection that is closed ended; noted in the log.
fn end_of<IO>(driver: &Driver<IO>) -> CloseEvent
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let event = driver.close_event();
    tracing::debug!(
        code = event.code.as_u16(),
        reason = &*field(event.reason.as_str()),
        cause = ?event.cause,
        clean = event.clean,
        "closed"
    );
    note_end(Some(event.code), event.cause);
    event
}

/// Reports an error to `on_error` and to the log. Boxed where it is awaited: few connections come to it, and
/// each would keep room for it.
async fn tell<H, IO>(driver: &mut Driver<IO>, handler: &mut H, conn: &mut Connection, error: Error)
where
    H: WebSocketHandler,
    IO: AsyncRead + AsyncWrite + Unpin,
{
    log("error", &error);
    driver.limit();
    let called = call(driver, Name::Error, || handler.on_error(conn, error)).await;
    if let Err(error) = called {
        log("on_error failed", &error);
        contained(|| drop(error));
    }
}

/// The Close frame, if the error of a callback is not a failure but a [`Close`].
fn asked_close(error: &Error) -> Option<CloseFrame> {
    let source = std::error::Error::source(error).filter(|_| error.is_application())?;
    let mut frame = None;
    // The errors on the way to it are the application's, and may do anything.
    contained(|| frame = Close::asked_by(source));
    let CloseFrame { code, reason } = frame.as_ref()?;
    let (code, reason) = (code.as_u16(), field(reason.as_str()));
    tracing::debug!(
        code,
        reason = &*reason,
        "{error}, which closes the connection"
    );
    frame
}

/// Whether a callback failed only because its connection is closed.
fn is_closed(error: &Error) -> bool {
    let Some(source) = std::error::Error::source(error) else {
        return false;
    };
    source.is::<SendError>()
        || source
            .downcast_ref::<TrySendError>()
            .is_some_and(TrySendError::is_closed)
        || source
            .downcast_ref::<CloseError>()
            .is_some_and(CloseError::is_closed)
        || source
            .downcast_ref::<PingError>()
            .is_some_and(PingError::is_closed)
        || source
            .downcast_ref::<SubscribeError>()
            .is_some_and(SubscribeError::is_closed)
        || source
            .downcast_ref::<TrackError>()
            .is_some_and(TrackError::is_closed)
        || source
            .downcast_ref::<Error>()
            // `on_error` gets what `recv` returned, whatever the callback makes of it.
            .is_some_and(Error::is_of_connection)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::DuplexStream;

    use super::*;
    use crate::connection::{Info, Link};
    use crate::handler::Result;
    use crate::message::Message;
    use crate::topics::Topics;

    #[derive(Clone)]
    struct Echo;

    impl WebSocketHandler for Echo {
        async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
            conn.send(message).await?;
            Ok(())
        }
    }

    #[derive(Clone)]
    struct Mute;

    impl WebSocketHandler for Mute {}

    fn beside_the_driver(handler: impl WebSocketHandler) -> usize {
        let topics = Topics::new();
        let link = Link::new(Arc::default(), Info::of_nobody(), None, topics).into();
        let (io, _) = tokio::io::duplex(1);
        let driver = Driver::new(io, link, Arc::default());
        size_of_val(&drive(handler, driver)) - size_of::<Driver<DuplexStream>>()
    }

    #[tokio::test]
    async fn an_open_connection_has_room_for_its_driver_and_for_one_callback() {
        // With `metrics`, it counts what came.
        let counts = if cfg!(feature = "metrics") { 16 } else { 0 };
        let driver = size_of::<Driver<DuplexStream>>() - size_of::<DuplexStream>();
        assert!(driver <= 360 + counts, "{driver}");
        let (mute, echo) = (beside_the_driver(Mute), beside_the_driver(Echo));
        assert!(mute <= 80, "{mute}");
        assert!(echo <= 160, "{echo}");
    }
}
