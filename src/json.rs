//! JSON in messages, with the feature `json`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::close::{Close, CloseCode};
use crate::message::Message;

#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
impl Message {
    /// A text message with `value` as JSON. Needs the feature `json`.
    ///
    /// # Errors
    ///
    /// `value` cannot be JSON, such as a map whose keys are not strings.
    ///
    /// ```
    /// use serde::Serialize;
    /// use tower_websocket::Message;
    ///
    /// #[derive(Serialize)]
    /// struct Price {
    ///     cents: u32,
    /// }
    ///
    /// let message = Message::json(&Price { cents: 250 })?;
    /// assert_eq!(message.as_text(), Some(r#"{"cents":250}"#));
    /// # Ok::<_, serde_json::Error>(())
    /// ```
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(Self::from)
    }

    /// What the JSON of a text message says. Needs the feature `json`.
    ///
    /// `T` may borrow from the message.
    ///
    /// # Errors
    ///
    /// The error is a [`Close`], so that `?` in a callback closes the connection of a peer that sends
    /// something else: with 1003 if the message is binary, with 1007 if the text is not JSON or not a
    /// `T`. The reason says what was expected and at which line and column, and does not quote the
    /// strings of the message. For a protocol that answers
    /// bad messages, match on the error and send an answer.
    ///
    /// ```
    /// use serde::Deserialize;
    /// use tower_websocket::{CloseCode, Connection, Message, Result, WebSocketHandler};
    ///
    /// #[derive(Deserialize)]
    /// struct Order {
    ///     article: String,
    ///     pieces: u32,
    /// }
    ///
    /// #[derive(Clone)]
    /// struct Shop;
    ///
    /// impl WebSocketHandler for Shop {
    ///     async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
    ///         let order: Order = message.parse_json()?;
    ///         conn.send(format!("{} of {}", order.pieces, order.article)).await?;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let refused = Message::from(r#"{"article": "tea"}"#).parse_json::<Order>().err();
    /// let refused = refused.expect("pieces are missing");
    /// assert_eq!(refused.code(), CloseCode::INVALID_FRAME_PAYLOAD_DATA);
    /// assert_eq!(refused.reason(), "JSON, line 1, column 18: missing field `pieces`");
    /// ```
    pub fn parse_json<'de, T: Deserialize<'de>>(&'de self) -> Result<T, Close> {
        let Some(text) = self.as_text() else {
            return Err(Close::new(
                CloseCode::UNSUPPORTED_DATA,
                "JSON is expected, in a text message",
            ));
        };
        serde_json::from_str(text)
            .map_err(|error| Close::new(CloseCode::INVALID_FRAME_PAYLOAD_DATA, described(&error)))
    }
}

/// The position first, so that it is not what is cut off.
fn described(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let position = format!(" at line {line} column {column}");
    let what = text.strip_suffix(&position).unwrap_or(&text);
    format!("JSON, line {line}, column {column}: {}", unquoted(what))
}

/// Without the string of the peer that serde quotes where it expected something else: it may be a
/// password, and reasons are logged.
fn unquoted(what: &str) -> Cow<'_, str> {
    let quoted = what.find(" string \"").zip(what.rfind("\", expected "));
    match quoted {
        Some((begin, end)) => format!("{} string{}", &what[..begin], &what[end + 1..]).into(),
        None => what.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn refused<'de, T: Deserialize<'de>>(message: &'de Message) -> (u16, String) {
        let close = message.parse_json::<T>().err().expect("refused");
        (close.code().as_u16(), close.reason().to_owned())
    }

    #[test]
    fn a_value_is_sent_as_text_and_read_back() {
        let value = HashMap::from([("a".to_owned(), vec![1, 2])]);
        let message = Message::json(&value).unwrap();
        assert_eq!(message.as_text(), Some(r#"{"a":[1,2]}"#));
        assert_eq!(message.parse_json::<HashMap<_, _>>().unwrap(), value);
        assert_eq!(
            message.parse_json::<HashMap<&str, Vec<u8>>>().unwrap()["a"],
            [1, 2]
        );
        assert_eq!(Message::json("text").unwrap().as_text(), Some(r#""text""#));
        assert!(Message::json(&HashMap::from([((1, 2), 3)])).is_err());
    }

    #[test]
    fn what_is_not_json_is_closed_with_1007_and_a_position() {
        let table = [
            ("", "JSON, line 1, column 0: EOF while parsing a value"),
            ("{\"a\":\n1,]", "JSON, line 2, column 3: expected"),
            (
                "[1]",
                "JSON, line 1, column 0: invalid type: sequence, expected a map",
            ),
            (
                "{\"a\": -1}",
                "JSON, line 1, column 8: invalid value: integer `-1`, expected u8",
            ),
            ("{} x", "JSON, line 1, column 4: trailing characters"),
        ];
        for (text, reason) in table {
            let (code, got) = refused::<HashMap<String, u8>>(&text.into());
            assert_eq!(code, 1007, "{text:?}");
            let same = got.starts_with(reason)
                || got.replace("key must be a string", "expected") == reason;
            assert!(same, "{text:?}: {got}");
        }
    }

    #[test]
    fn a_binary_message_is_closed_with_1003() {
        let (code, reason) = refused::<u8>(&vec![1].into());
        assert_eq!(code, 1003);
        assert_eq!(reason, "JSON is expected, in a text message");
    }

    #[test]
    fn a_reason_fits_into_a_close_frame_and_does_not_quote_strings_of_the_message() {
        let secret = "secret, expected ".repeat(1000);
        for text in [format!("\"{secret}\""), "\"secret\"".to_owned()] {
            let (code, reason) = refused::<u8>(&text.into());
            assert_eq!(code, 1007);
            assert!(
                reason.ends_with("invalid type: string, expected u8"),
                "{reason}"
            );
        }
        let text = format!("{{\"{}\": 1}}", "x".repeat(1000));
        let (_, reason) = refused::<HashMap<char, u8>>(&text.into());
        assert!(
            reason.len() <= 123 && reason.starts_with("JSON, line 1, column "),
            "{reason}"
        );
    }
}
