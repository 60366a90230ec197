use std::error::Error as _;
use std::io;

use super::*;
use crate::protocol::Violation;

/// Every kind of error: how it is made, its predicate, its code, its text, its source.
#[test]
fn e1_each_kind_answers_to_one_predicate_and_names_the_code_that_is_sent() {
    let code = CloseCode::INTERNAL_ERROR;
    let of = |failure| Error::of_callback("on_open", failure);
    let violation = Violation::new(CloseCode::PROTOCOL_ERROR, "a frame without a mask");
    let timeout = |what, close_code| Error::from(Failure::Timeout { what, close_code });
    let secret = || CallbackFailure::Returned("db password wrong".into());
    let late = "on_open took longer than the layer's `on_message_timeout` and was dropped";
    let abandoned = "on_open was still running after the connection had ended and was dropped";
    #[rustfmt::skip]
    let table = [
        (of(secret()).closing_with(code), "application", Some(1011), "on_open returned an error", Some("db password wrong")),
        (of(secret()), "application", None, "on_open returned an error", Some("db password wrong")),
        (of(CallbackFailure::Panicked("a\nb".into())).closing_with(code), "panic", Some(1011), "on_open panicked: a\\nb", None),
        (of(CallbackFailure::Late).closing_with(code), "callback_timeout", Some(1011), late, None),
        (of(CallbackFailure::Abandoned), "callback_timeout", None, abandoned, None),
        (Failure::Violation(violation).into(), "protocol", Some(1002), "closed with 1002: a frame without a mask", None),
        (timeout("no pong came back", Some(code)), "timeout", Some(1011), "timed out: no pong came back", None),
        (timeout("nothing is read", None), "timeout", None, "timed out: nothing is read", None),
        (Failure::Io(io::Error::other("reset")).into(), "io", None, "the transport failed", Some("reset")),
    ];
    for (error, predicate, code, text, source) in table {
        let predicates = [
            ("application", error.is_application()),
            ("panic", error.is_panic()),
            ("callback_timeout", error.is_callback_timeout()),
            ("protocol", error.is_protocol()),
            ("timeout", error.is_timeout()),
            ("io", error.is_io()),
        ];
        for (name, answer) in predicates {
            assert_eq!(answer, name == predicate, "{error:?} is {name}");
        }
        assert_eq!(error.close_code().map(CloseCode::as_u16), code, "{error:?}");
        assert_eq!(error.to_string(), text);
        assert_eq!(error.source().map(ToString::to_string).as_deref(), source);
        let of_callback = ["application", "panic", "callback_timeout"].contains(&predicate);
        assert_eq!(error.is_of_connection(), !of_callback, "{error:?}");
    }
}

#[test]
fn a_copy_of_a_failure_says_the_same() {
    let failures = [
        Failure::Violation(Violation::too_big()),
        Failure::Timeout {
            what: "x",
            close_code: Some(CloseCode::POLICY_VIOLATION),
        },
        Failure::Io(io::Error::new(io::ErrorKind::BrokenPipe, "gone")),
    ];
    for failure in failures {
        let copy = Error::from(failure.duplicate());
        let failure = Error::from(failure);
        assert_eq!(copy.close_code(), failure.close_code());
        assert_eq!(copy.to_string(), failure.to_string());
        let text = |error: &Error| error.source().map(ToString::to_string);
        assert_eq!(text(&copy), text(&failure));
    }
}

#[test]
fn e2_an_argument_that_was_wrong_is_told_from_a_connection_that_is_closed() {
    #[rustfmt::skip]
    let close = [
        (CloseError::InvalidCode(CloseCode::ABNORMAL_CLOSURE), false, "code 1006 must not stand in a Close frame (RFC 6455 §7.4)"),
        (CloseError::ReasonTooLong(124), false, "the reason of a Close frame has at most 123 bytes (RFC 6455 §5.5), this one has 124"),
        (CloseError::Closed, true, "the connection is closed"),
    ];
    for (error, is_closed, text) in close {
        assert_eq!((error.is_closed(), &*error.to_string()), (is_closed, text));
    }
    let too_long = "a ping carries at most 125 bytes (RFC 6455 §5.5), this one has 126";
    let ping = [
        (PingError::TooLong(126), false, too_long),
        (PingError::Closed, true, "the connection is closed"),
    ];
    for (error, is_closed, text) in ping {
        assert_eq!((error.is_closed(), &*error.to_string()), (is_closed, text));
    }
}

#[test]
fn a_failed_send_gives_the_message_back() {
    let message = Message::from("a");
    assert_eq!(SendError(message.clone()).into_message(), message);
    assert_eq!(TrySendError::Full(message.clone()).into_message(), message);
    assert!(TrySendError::Full(message.clone()).is_full());
    assert!(TrySendError::Closed(message).is_closed());
}
