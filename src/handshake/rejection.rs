//! [`Rejection`]: the answer to a handshake that is refused.

use std::error::Error;
use std::fmt;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::Body;

use super::refusal_body::RefusalBody;
use crate::logging::{MAX_TEXT, escape};

/// A response in place of the one that opens a WebSocket; what
/// [`on_upgrade`](crate::WebSocketHandler::on_upgrade) returns to refuse a handshake.
///
/// Browsers show neither status nor text to the page, only that the connection failed; both are for
/// developers, logs and other clients. To give a page a reason, accept the handshake and close with
/// a code.
///
/// A status of 1xx or 2xx would look as if the handshake were accepted, so it becomes 403.
///
/// ```
/// use http::{HeaderValue, Response, StatusCode, header};
/// use tower_websocket::Rejection;
///
/// // A status and a text,
/// let refused = Rejection::new(StatusCode::UNAUTHORIZED, "log in first")
///     .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
/// assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
/// assert_eq!(refused.to_string(), "401 Unauthorized: log in first");
///
/// // a status alone,
/// let refused = Rejection::from(StatusCode::NOT_FOUND);
/// assert_eq!(refused.to_string(), "404 Not Found");
///
/// // or any response, such as one that axum's `IntoResponse` makes.
/// let refused = Rejection::from(Response::new(r#"{"error":"not you"}"#.to_owned()));
/// assert_eq!(refused.status(), StatusCode::FORBIDDEN); // 200 would look like an acceptance
/// ```
///
/// The response may have any body. One that fails half-way ends there, without an error for the
/// client: it was refused, and misses the end of an explanation.
// Boxed: a `Result` of every `on_upgrade` carries it.
pub struct Rejection(Box<Response<RefusalBody>>);

impl Rejection {
    /// A response with a short text. A newline is added if the text does not end in one.
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        let mut text = text.into();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let mut response = Response::new(RefusalBody::text(Bytes::from(text)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        // A cache may know nothing of upgrades and keep a 404 for the next ordinary GET.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Self::of(response)
    }

    fn of(mut response: Response<RefusalBody>) -> Self {
        *response.status_mut() = refusing(response.status());
        Self(Box::new(response))
    }

    /// Adds a header. A `content-type` or `cache-control` replaces the one that [`new`](Self::new)
    /// set. The layer writes the length of the body.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        let headers = self.0.headers_mut();
        if matches!(name, CONTENT_TYPE | CACHE_CONTROL) {
            headers.insert(name, value);
        } else {
            headers.append(name, value);
        }
        self
    }

    /// The status that is sent.
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    pub(crate) fn into_response(self) -> Response<RefusalBody> {
        let mut response = *self.0;
        let length = response.body().len();
        let headers = response.headers_mut();
        headers.remove(TRANSFER_ENCODING);
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        response
    }
}

/// The text is the standard name of the status.
impl From<StatusCode> for Rejection {
    fn from(status: StatusCode) -> Self {
        let status = refusing(status);
        Self::new(status, status.canonical_reason().unwrap_or_default())
    }
}

impl<B> From<Response<B>> for Rejection
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    fn from(response: Response<B>) -> Self {
        Self::of(response.map(RefusalBody::new))
    }
}

/// Replaces a status that would not refuse: a 2xx over HTTP/2 opens the connection, and hyper
/// cannot send a 1xx.
fn refusing(status: StatusCode) -> StatusCode {
    if status.is_informational() || status.is_success() {
        StatusCode::FORBIDDEN
    } else {
        status
    }
}

/// The status and the beginning of the text, on one line.
impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status())?;
        let text = self.0.body().known().trim_ascii();
        let name = self.status().canonical_reason().unwrap_or_default();
        if !text.is_empty() && text != name.as_bytes() {
            write!(f, ": {}", escape(text, MAX_TEXT))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection")
            .field("status", &self.status())
            .field("headers", self.0.headers())
            .field(
                "text",
                &format_args!("{}", escape(self.0.body().known(), MAX_TEXT)),
            )
            .finish()
    }
}

impl Error for Rejection {}

#[cfg(test)]
mod tests {
    use http::header::{RETRY_AFTER, SET_COOKIE};
    use http_body_util::Full;

    use super::*;

    #[test]
    fn a_refusal_is_a_complete_plain_text_response() {
        let response = Rejection::new(StatusCode::NOT_FOUND, "no such room")
            .with_header(RETRY_AFTER, HeaderValue::from_static("5"))
            .into_response();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(
            response.headers()[CONTENT_TYPE],
            "text/plain; charset=utf-8"
        );
        assert_eq!(response.headers()[CONTENT_LENGTH], "13");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[RETRY_AFTER], "5");
        assert_eq!(response.body().known(), b"no such room\n");
    }

    #[test]
    fn a_status_that_accepts_becomes_403() {
        for status in [100, 101, 103, 200, 204, 299] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Rejection::new(status, "").status(), StatusCode::FORBIDDEN);
            assert_eq!(Rejection::from(status).status(), StatusCode::FORBIDDEN);
            let response = Response::builder()
                .status(status)
                .body(String::new())
                .unwrap();
            assert_eq!(Rejection::from(response).status(), StatusCode::FORBIDDEN);
        }
        for status in [302, 400, 404, 503, 599, 999] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Rejection::from(status).status(), status);
        }
    }

    #[test]
    fn a_response_of_the_application_is_sent_as_it_is_with_its_true_length() {
        let response = Response::builder()
            .status(302)
            .header("location", "/login")
            .header(CONTENT_LENGTH, "7")
            .header(TRANSFER_ENCODING, "chunked")
            .body(Full::from(&b"\x00\xff"[..]))
            .unwrap();
        let response = Rejection::from(response).into_response();
        assert_eq!(response.headers().len(), 2, "{response:?}");
        assert_eq!(response.headers()["location"], "/login");
        assert_eq!(response.headers()[CONTENT_LENGTH], "2");
        assert_eq!(response.body().known(), b"\x00\xff");
    }

    #[test]
    fn headers_add_up_except_the_type_of_the_text() {
        let response = Rejection::from(StatusCode::FORBIDDEN)
            .with_header(SET_COOKIE, HeaderValue::from_static("a=1"))
            .with_header(SET_COOKIE, HeaderValue::from_static("b=2"))
            .with_header(CONTENT_TYPE, HeaderValue::from_static("text/html"))
            .into_response();
        assert_eq!(response.headers().get_all(SET_COOKIE).iter().count(), 2);
        assert_eq!(response.headers().get_all(CONTENT_TYPE).iter().count(), 1);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/html");
    }

    #[test]
    fn r12_a_refusal_is_logged_on_one_short_line() {
        let refused = Rejection::new(StatusCode::FORBIDDEN, "a\r\nb\x1b[1m §\n");
        assert_eq!(refused.to_string(), "403 Forbidden: a\\r\\nb\\x1b[1m §");
        let refused = Rejection::new(StatusCode::FORBIDDEN, "x".repeat(1000));
        assert!(refused.to_string().len() < 450);
        assert!(format!("{refused:?}").len() < 600);
    }
}
