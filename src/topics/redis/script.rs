//! [`Script`]: what the server does in one step, by its digest where it knows it.

use std::sync::LazyLock;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, RedisResult, ServerErrorKind, Value, cmd};

/// See the module docs.
pub(super) struct Script {
    code: &'static str,
    digest: String,
}

pub(super) static APPEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("clock.lua"),
        include_str!("head.lua"),
        include_str!("trim.lua"),
        include_str!("append.lua"),
    ))
});

pub(super) static READ: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("clock.lua"),
        include_str!("head.lua"),
        include_str!("trim.lua"),
        include_str!("read.lua"),
    ))
});

pub(super) static RENEW: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("head.lua"), include_str!("renew.lua"))));

impl Script {
    fn new(code: &'static str) -> Self {
        let digest = ::redis::Script::new(code).get_hash().to_owned();
        Self { code, digest }
    }

    /// Runs it. `fill` adds the keys, of which there are two, and the arguments. A server that does not
    /// know the script, since it is new or was restarted, is sent it.
    pub(super) async fn run(
        &self,
        connection: &mut MultiplexedConnection,
        fill: impl Fn(&mut Cmd) + Send,
    ) -> RedisResult<Value> {
        let command = |name: &str, script: &str| {
            let mut command = cmd(name);
            command.arg(script).arg(2);
            fill(&mut command);
            command
        };
        let by_digest = command("EVALSHA", &self.digest);
        match connection.send_packed_command(&by_digest).await? {
            Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript) => {
                let whole = command("EVAL", self.code);
                connection
                    .send_packed_command(&whole)
                    .await?
                    .extract_error()
            }
            value => value.extract_error(),
        }
    }
}
