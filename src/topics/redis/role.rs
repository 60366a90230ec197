//! [`Role`]: whether the server is a copy of another one, which is asked at first and again and again.
//!
//! A primary that a failover makes a replica looks sound: its connections stay open, it answers, and it
//! publishes to those who are connected to it alone. `HELLO` tells, and needs no right that a connection does
//! not need anyway; `ROLE` and `INFO` do.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, RedisResult, Value, cmd};
use tokio::time::{sleep, timeout};

use super::refusals::text;
use crate::logging::escaped;

/// What is published in that time to a server that has become a replica reaches few: as often as nodes tell
/// each other that they are there.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// What is said of a replica, to whoever reads the log.
pub(super) const REPLICA: &str = "it is a replica, which takes nothing and reaches few: name the primary, or a \
                                  proxy that follows it";

/// What a server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It takes what is written. Or it is a proxy, which does not say.
    Primary,
    Replica,
}

/// Asks for it.
pub(super) fn question() -> Cmd {
    cmd("HELLO").arg(3).to_owned()
}

/// What the answer says.
pub(super) fn answer(reply: RedisResult<Value>) -> RedisResult<Role> {
    let Value::Map(answer) = reply?.extract_error()? else {
        return Ok(Role::Primary);
    };
    let is_replica = |(name, value): &(Value, Value)| {
        let says = |value: &Value, text: &[u8]| match value {
            Value::BulkString(bytes) => bytes == text,
            Value::SimpleString(string) => string.as_bytes() == text,
            _ => false,
        };
        says(name, b"role") && (says(value, b"replica") || says(value, b"slave"))
    };
    Ok(match answer.iter().any(is_replica) {
        true => Role::Replica,
        false => Role::Primary,
    })
}

/// Asks until the server is a replica, or does not answer within `most`: says so then.
pub(super) async fn watch(mut commands: MultiplexedConnection, most: Duration) -> String {
    let mut is_said = false;
    loop {
        sleep(ASK_EVERY).await;
        let question = question();
        let reply = commands.send_packed_command(&question);
        let Ok(reply) = timeout(most, reply).await else {
            return format!("no reply within {most:?}");
        };
        match answer(reply) {
            Ok(Role::Primary) => {}
            Ok(Role::Replica) => return format!("a failover has made it a replica: {REPLICA}"),
            // Such as a right that was taken away. Everything else goes on, and says itself what does not.
            Err(error) if !is_said => {
                is_said = true;
                let error = escaped(text(&error));
                tracing::warn!("Redis does not tell whether it is a replica: {error}");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> RedisResult<Value> {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let pairs = pairs.iter().map(|(name, value)| (bulk(name), bulk(value)));
        Ok(Value::Map(pairs.collect()))
    }

    #[test]
    fn a_server_is_a_replica_if_it_says_so_in_old_words_or_new_ones() {
        for (pairs, role) in [
            (
                &[("server", "redis"), ("role", "master")][..],
                Role::Primary,
            ),
            (&[("role", "replica"), ("modules", "")], Role::Replica),
            (&[("role", "slave")], Role::Replica),
            (&[("mode", "replica")], Role::Primary),
            (&[], Role::Primary),
        ] {
            assert_eq!(answer(map(pairs)).unwrap(), role, "{pairs:?}");
        }
        let simple = |text: &str| Value::SimpleString(text.to_owned());
        let pairs = vec![(simple("role"), simple("replica"))];
        assert_eq!(answer(Ok(Value::Map(pairs))).unwrap(), Role::Replica);
        assert_eq!(answer(Ok(Value::Okay)).unwrap(), Role::Primary);
        let refused = ::redis::RedisError::from((::redis::ErrorKind::Client, "no"));
        assert!(answer(Err(refused)).is_err());
    }
}
