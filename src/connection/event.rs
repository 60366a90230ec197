//! [`Event`]: what the rest of the application tells the handler of a connection.

use std::any::Any;
use std::fmt;

/// Something that [`Sender::notify`](super::Sender::notify) sent to the handler of a connection, and
/// [`on_event`](crate::WebSocketHandler::on_event) or
/// [`Connection::recv_event`](super::Connection::recv_event) receives: any type of the application's.
///
/// ```
/// use tower_websocket::{Connection, Event, Result, WebSocketHandler};
///
/// /// The cart of this user was changed in another tab.
/// struct CartChanged {
///     items: usize,
/// }
///
/// #[derive(Clone, Default)]
/// struct Shop {
///     items: usize,
/// }
///
/// impl WebSocketHandler for Shop {
///     async fn on_event(&mut self, conn: &mut Connection, event: Event) -> Result {
///         if let Ok(CartChanged { items }) = event.downcast() {
///             self.items = items;
///             conn.send(format!("{items} items")).await?;
///         }
///         Ok(())
///     }
/// }
/// ```
pub struct Event {
    value: Box<dyn Any + Send>,
}

/// Why [`Sender::notify`](super::Sender::notify) did not take an event; here it is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "as TrySendError: a queue is full or closed, there is no third way"
)]
pub enum NotifyError<T> {
    /// As many events as there may be are waiting: the handler does not keep up.
    Full(T),
    /// The connection has ended.
    Closed(T),
}

impl<T> NotifyError<T> {
    /// The event.
    pub fn into_event(self) -> T {
        match self {
            Self::Full(event) | Self::Closed(event) => event,
        }
    }
}

impl<T> fmt::Display for NotifyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "too many events are waiting, the event was not sent",
            Self::Closed(_) => "the connection has ended, the event was not sent",
        })
    }
}

impl<T: fmt::Debug> std::error::Error for NotifyError<T> {}

impl Event {
    pub(crate) fn new<T: Any + Send>(value: T) -> Self {
        Self {
            value: Box::new(value),
        }
    }

    /// Whether it is a `T`.
    pub fn is<T: Any>(&self) -> bool {
        self.value.is::<T>()
    }

    /// The value, if it is a `T`.
    pub fn downcast_ref<T: Any>(&self) -> Option<&T> {
        self.value.downcast_ref()
    }

    /// The value, if it is a `T`.
    ///
    /// # Errors
    ///
    /// The event is something else; here it is back.
    pub fn downcast<T: Any>(self) -> Result<T, Self> {
        self.value
            .downcast()
            .map(|value| *value)
            .map_err(|value| Self { value })
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_another_type_is_given_back() {
        let event = Event::new("text");
        assert!(event.is::<&str>() && !event.is::<String>());
        let event = event.downcast::<String>().unwrap_err();
        assert_eq!(event.downcast_ref::<&str>(), Some(&"text"));
        assert_eq!(event.downcast::<&str>().unwrap(), "text");
    }
}
