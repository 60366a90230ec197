use super::input::Input;
use crate::topics::{MAX_REPLY, Replies};

/// Row B7: the end of a reply is followed as the client library finds it, in whatever pieces it comes; what
/// is over has nothing that the library still waits for, so that it never collects more than is counted.
pub fn replies(data: &[u8]) {
    let mut input = Input::new(data);
    let size = usize::from(input.byte()).max(1);
    let bytes = input.rest();

    let mut replies = Replies::default();
    let mut begin = 0;
    let mut result = Ok(());
    for (at, byte) in bytes.iter().enumerate() {
        result = replies.follow(&[*byte]);
        if result.is_err() {
            break;
        }
        if replies.is_at_rest() {
            let reply = &bytes[begin..=at];
            assert!(!is_incomplete(reply), "{reply:?}");
            assert!(redis::parse_redis_value(&reply[..reply.len() - 1]).is_err());
            begin = at + 1;
        }
    }
    // What is not over, the library has not read, either.
    if result.is_ok() {
        let rest = &bytes[begin..];
        let read = redis::parse_redis_value(rest);
        assert!(rest.is_empty() || read.is_err(), "{rest:?} is {read:?}");
    }
    let whole = (result, format!("{replies:?}"));

    let mut pieces = Replies::default();
    let result = bytes
        .chunks(size)
        .try_for_each(|piece| pieces.follow(piece));
    assert_eq!(result, whole.0);
    if result.is_ok() {
        assert_eq!(format!("{pieces:?}"), whole.1);
    }
    // An input is far smaller than a reply may be, so only what is announced is too large.
    assert!((bytes.len() as u64) < MAX_REPLY);
}

/// Whether the library waits for more.
fn is_incomplete(bytes: &[u8]) -> bool {
    redis::parse_redis_value(bytes).is_err_and(|error| error.is_io_error())
}
