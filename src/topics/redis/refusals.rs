//! What the server's refusals say, in its words where they are its.

use ::redis::RedisError;

/// Why the server does not let us in.
pub(super) fn refusal(error: &RedisError, ending: Option<String>, is_tls: bool) -> String {
    match error.code() {
        // It speaks of HELLO at length.
        Some("NOAUTH") => "NOAUTH: the server wants a password, and the URL has none".to_owned(),
        Some(_) => text(error),
        None => {
            let why = ending.unwrap_or_else(|| error.to_string());
            match is_tls {
                true => format!("{why}; is it a Redis server?"),
                false => format!(
                    "{why}; is it a Redis server without TLS? The URL of one with TLS begins with rediss://"
                ),
            }
        }
    }
}

/// What an error says, in the server's words where they are its.
pub(super) fn text(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => {
            // Behind it stands in which line of which script.
            let detail = detail.split(" script: ").next().unwrap_or_default();
            format!("{code} {detail}")
        }
        _ => error.to_string(),
    }
}
