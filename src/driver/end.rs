//! [`note_end`]: metrics and the span of a connection hear how it ended.

use tracing::Span;

use crate::close::{CloseCause, CloseCode};
use crate::measure;

/// The connection whose span is entered has ended. To be called behind the lines that say so, in which
/// the span would otherwise say it again.
pub(super) fn note_end(code: Option<CloseCode>, cause: CloseCause) {
    measure::closed(cause);
    let span = Span::current();
    span.record("websocket.close.code", code.map(CloseCode::as_u16));
    span.record("websocket.close.cause", cause.name());
    // As with a 4xx of HTTP: what peers and networks do is no failure of the server.
    if cause == CloseCause::ApplicationFailed {
        span.record("error.type", cause.name());
        span.record("otel.status_code", "ERROR");
    }
}
