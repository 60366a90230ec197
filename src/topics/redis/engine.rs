//! [`Redis`]: the engine.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hasher};
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, Pipeline, Value};
use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use super::address::{Address, RedisUrlError};
use super::connection::{Connection, Message};
use super::flights::{Flight, Flights};
use super::payload::{Payload, number};
use super::refusals::text;
use super::role;
use super::script::{APPEND, READ, RENEW, Script};
use crate::logging::Throttle;
use crate::topics::cluster::MAX_ENVELOPE;
use crate::topics::{
    Backplane, EngineError, Link, Log, Logged, NewEntries, Order, Page, Pending, Position,
};

/// Commands for logs that wait for their replies at the same time. The others wait for one of these.
const MAX_COMMANDS: usize = 64;

/// The most bytes of a page of a log; one entry may be larger.
const MAX_PAGE: usize = 1024 * 1024;

/// Redis refuses a longer expiry than it can count, and nobody comes back after that time.
const MAX_AGE: Duration = Duration::from_secs(365 * 24 * 3600);

/// Connects the nodes of an application by a Redis or Valkey server, for
/// [`TopicsBuilder::backplane`](crate::TopicsBuilder::backplane).
///
/// ```
/// # fn main() -> Result<(), tower_websocket::topics::RedisUrlError> {
/// use tower_websocket::Topics;
/// use tower_websocket::topics::Redis;
///
/// let redis = Redis::new("redis://:password@redis.internal:6379")?;
/// # async { // The node begins to connect, which needs a runtime.
/// let topics = Topics::builder().backplane(redis).build();
/// # drop(topics);
/// # };
/// # Ok(())
/// # }
/// ```
///
/// Messages travel by Redis's Pub/Sub, and a node listens only to topics that one of its connections
/// subscribes. Messages of [retained](crate::TopicsBuilder::retain) topics are numbered and kept on the
/// server, by scripts that do each step as one; every node then delivers them in that order.
///
/// # What the server needs
///
/// Redis 6.2 or later, or Valkey: a single server, or the primary behind a name or a proxy that follows it.
/// The name is looked up for each attempt to connect. Whether the server is a replica is asked at first and every
/// 2 s; the connection to one is given up. Redis Cluster is not supported.
///
/// - **Memory.** The logs of retained topics, each until an hour after its last message is too old, and
///   the ids of the messages of the last minute. With `maxmemory`, use the policy `noeviction`: appending to
///   a retained topic then fails while the memory is full, which is told. A policy that evicts a log makes
///   those who come back start anew.
/// - **Persistence** is as you configure it. A server that comes back with less than what the nodes have
///   seen of a log begins it anew, so nobody is told that nothing was missed when something was.
/// - **Rights**, if there are ACLs: `+@connection +subscribe +unsubscribe +publish +eval +evalsha +hget
///   +hset +hmget +exists +del +xadd +xrange +xtrim +pexpire +time`, for the keys `~tower-websocket:*` and
///   the channels `&tower-websocket:*`, or what the [prefix](Self::prefix) is.
///
/// Whoever can publish to these channels can send anything to the clients: the server must be one that
/// you trust.
///
/// # Bounds
///
/// One connection carries everything. What comes is delivered where it is read, 64 KiB at a time, so what
/// a node cannot take in time waits at the server, whose `client-output-buffer-limit pubsub` (32 MiB by
/// default) ends the connection in the worst case; the node then begins anew and reads its logs on. A
/// reply or message of more than 16 MiB ends the connection too. At most 64 commands for logs, and of messages
/// eight batches or about 1 MiB, are waiting for the server's reply at a time.
pub struct Redis {
    address: Address,
    prefix: String,
    timeout: Duration,
    line: Mutex<Option<Line>>,
}

/// The connection as the logs use it, while there is one.
#[derive(Clone)]
struct Line {
    commands: MultiplexedConnection,
    /// Of [`MAX_COMMANDS`].
    slots: Arc<Semaphore>,
    ending: Arc<Ending>,
}

/// That the connection is to be given up, as a command has found out, and why.
#[derive(Default)]
struct Ending {
    why: OnceLock<String>,
    notify: Notify,
}

impl Ending {
    /// The first reason stands.
    fn begin(&self, why: &EngineError) {
        let _ = self.why.set(why.to_string());
        self.notify.notify_one();
    }

    /// Why it has begun.
    async fn begun(&self) -> EngineError {
        self.notify.notified().await;
        EngineError::new(self.why.get().cloned().unwrap_or_default())
    }
}

impl Redis {
    /// The server at `redis://user:password@host:port/database`, where all but the host may be missing;
    /// the port is 6379 then, and the database 0. Special characters of a password are percent-encoded.
    ///
    /// `rediss://` is over TLS, with the feature `redis-rustls`: the server's certificate must be for that
    /// host, and by an authority that the system trusts, or one in the file that the environment
    /// variable `SSL_CERT_FILE` names. `unix:///path?db=0&user=…&pass=…` is a Unix socket.
    ///
    /// It does not connect yet, so a server that is down does not keep an application from starting.
    ///
    /// # Errors
    ///
    /// The URL cannot be used. The error says why, without quoting it.
    pub fn new(url: &str) -> Result<Self, RedisUrlError> {
        Ok(Self {
            address: Address::parse(url)?,
            prefix: "tower-websocket:".to_owned(),
            timeout: Duration::from_secs(5),
            line: Mutex::default(),
        })
    }

    /// What the names of all keys and channels begin with. Default `tower-websocket:`.
    ///
    /// Applications that share a server need different ones: the channels of Pub/Sub are the same in all
    /// databases of a server.
    #[must_use = "it returns the engine"]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long connecting may take, with the name's lookup, TLS and the password; and how long a command
    /// waits for its reply. A connection on which one waits longer is given up. Default 5 s, at least 1 ms.
    #[must_use = "it returns the engine"]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.max(Duration::from_millis(1));
        self
    }

    fn error(&self, what: impl fmt::Display) -> EngineError {
        EngineError::new(format!("{}: {what}", self.address))
    }

    fn silence(&self) -> EngineError {
        self.error(format_args!("no reply within {:?}", self.timeout))
    }

    fn line(&self) -> std::sync::MutexGuard<'_, Option<Line>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry(&self, link: &mut Link) -> EngineError {
        let opened = Connection::open(&self.address, self.timeout).await;
        let mut connection = match opened {
            Ok(connection) => connection,
            Err(why) => return self.error(why),
        };
        let line = Line {
            commands: connection.commands(),
            slots: Arc::new(Semaphore::new(MAX_COMMANDS)),
            ending: Arc::default(),
        };
        let _hung_up = HangUp::after(&line.ending, &self.line);
        *self.line() = Some(line.clone());
        let mut ending = pin!(line.ending.begun());
        let mut role = pin!(role::watch(connection.commands(), self.timeout));
        let mut flights = Flights::new();
        loop {
            let (came, next) = {
                let mut orders = pin!(link.next());
                poll_fn(|cx| {
                    let came = connection.poll(cx);
                    let mut next = flights.poll(cx).map(Next::Sent);
                    if next.is_pending() && flights.has_room() {
                        next = orders.as_mut().poll(cx).map(Next::Orders);
                    }
                    if next.is_pending() {
                        next = ending.as_mut().poll(cx).map(Next::End);
                    }
                    if next.is_pending() {
                        let end = |why| Next::End(self.error(why));
                        next = role.as_mut().poll(cx).map(end);
                    }
                    match (came, next) {
                        (Poll::Pending, Poll::Pending) => Poll::Pending,
                        (came, next) => Poll::Ready((ready(came), ready(next))),
                    }
                })
                .await
            };
            match came {
                None => {}
                Some(Ok(messages)) => self.deliver(link, messages),
                Some(Err(why)) => return self.error(why),
            }
            match next {
                None => {}
                Some(Next::Orders(orders)) => {
                    flights.push(self.send(line.commands.clone(), orders));
                }
                Some(Next::Sent(Ok(channels))) => {
                    for channel in channels {
                        link.listening(&channel);
                    }
                }
                Some(Next::Sent(Err(why))) => return self.error(connection.ending(why)),
                Some(Next::End(why)) => return why,
            }
        }
    }

    /// A batch of orders. Gives the channels that are listened to when all are carried out.
    fn send(&self, commands: MultiplexedConnection, orders: Vec<Order>) -> Flight<'_, Sent> {
        let mut batch = Pipeline::with_capacity(orders.len());
        let (mut channels, mut bytes, mut is_last) = (Vec::new(), 0, false);
        for order in orders {
            match order {
                // One command a channel: the client library takes each confirmation for the reply to a
                // command.
                Order::Listen(channel) => {
                    batch.cmd("SUBSCRIBE").arg(self.name(&channel));
                    channels.push(channel);
                    is_last = true;
                }
                // Nor is the channel asked for again before all that was asked before is confirmed.
                Order::Leave(channel) => {
                    batch.cmd("UNSUBSCRIBE").arg(self.name(&channel));
                    is_last = true;
                }
                Order::Send { channel, envelope } => {
                    let payload = Payload::plain(&envelope);
                    bytes += payload.len();
                    batch.cmd("PUBLISH").arg(self.name(&channel)).arg(payload);
                }
            }
        }
        Flight {
            replies: Box::pin(async move {
                self.replies(commands, batch).await?;
                Ok(channels)
            }),
            bytes,
            is_last,
            ended: None,
        }
    }

    /// Sends a batch of commands, and waits until all are carried out.
    async fn replies(
        &self,
        mut commands: MultiplexedConnection,
        batch: Pipeline,
    ) -> Result<(), String> {
        let count = batch.len();
        let replies = commands.send_packed_commands(&batch, 0, count);
        match timeout(self.timeout, replies).await {
            Ok(Ok(replies)) => {
                for reply in replies {
                    reply.extract_error().map_err(|error| text(&error))?;
                }
                Ok(())
            }
            Ok(Err(error)) => Err(text(&error)),
            Err(_) => Err(format!("no reply within {:?}", self.timeout)),
        }
    }

    fn deliver(&self, link: &Link, messages: Vec<Message>) {
        for (channel, payload) in messages {
            let channel = std::str::from_utf8(&channel).ok();
            let channel = channel.and_then(|name| name.strip_prefix(&self.prefix));
            match (channel, Payload::parse(&payload)) {
                (Some(channel), Some(Payload::Plain(envelope))) => link.receive(channel, envelope),
                (Some(channel), Some(Payload::Logged(position, envelope))) => {
                    link.logged(channel, position, envelope);
                }
                _ => {
                    static LINES: Throttle = Throttle::new();
                    if let Some(missed) = LINES.pass() {
                        tracing::warn!(
                            missed,
                            "Redis has delivered a message that no node has sent: does another application \
                             use the prefix?"
                        );
                    }
                }
            }
        }
    }

    /// Of a channel at the server.
    fn name(&self, channel: &str) -> String {
        format!("{}{channel}", self.prefix)
    }

    /// Runs a script on the log of a channel.
    async fn ask(
        &self,
        script: &Script,
        channel: &str,
        arguments: impl Fn(&mut Cmd) + Send + Sync,
    ) -> Result<Value, EngineError> {
        let line = self.line().clone();
        let Some(mut line) = line else {
            return Err(self.error("not connected"));
        };
        let head = format!("{}log:{channel}", self.prefix);
        let entries = format!("{head}:entries");
        let reply = timeout(self.timeout, async {
            let _slot = line.slots.acquire().await;
            let fill = |command: &mut Cmd| {
                command.arg(&head).arg(&entries);
                arguments(command);
            };
            script.run(&mut line.commands, fill).await
        });
        match reply.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let what = text(&error);
                let error = self.error(&what);
                // It has become a replica, so there is another primary. Redis 6 has the word in a sentence.
                if what.contains("READONLY") {
                    line.ending.begin(&error);
                }
                Err(error)
            }
            Err(_) => {
                let silence = self.silence();
                line.ending.begin(&silence);
                Err(silence)
            }
        }
    }

    /// A reply that a script does not give.
    fn unknown(&self) -> EngineError {
        self.error("a reply that is not one of our scripts'")
    }
}

impl Backplane for Redis {
    fn run<'a>(&'a self, link: &'a mut Link) -> Pending<'a, EngineError> {
        Box::pin(self.carry(link))
    }

    fn log(&self) -> Option<&dyn Log> {
        Some(self)
    }
}

impl Log for Redis {
    fn append<'a>(
        &'a self,
        channel: &'a str,
        new: NewEntries<'a>,
    ) -> Pending<'a, Result<Vec<Position>, EngineError>> {
        Box::pin(async move {
            let (epoch, offset) = seen(new.seen);
            let fresh = fresh_epoch();
            let age = new.retain.max_age().min(MAX_AGE).as_millis();
            let arguments = |command: &mut Cmd| {
                command
                    .arg(self.name(channel))
                    .arg(&epoch)
                    .arg(offset)
                    .arg(&fresh)
                    .arg(new.retain.max_messages())
                    // An expiry of nothing is none.
                    .arg(age.max(1) as u64)
                    .arg(new.retain.max_bytes());
                for entry in new.entries {
                    command.arg(&entry.id.to_be_bytes()[..]);
                    command.arg(&entry.envelope[..]);
                }
            };
            let Value::Array(parts) = self.ask(&APPEND, channel, arguments).await? else {
                return Err(self.unknown());
            };
            let positions = parts.chunks(2).map(|pair| match pair {
                [epoch, offset] => self.position(epoch, offset),
                _ => Err(self.unknown()),
            });
            positions.collect()
        })
    }

    fn read<'a>(
        &'a self,
        channel: &'a str,
        after: u64,
        most: usize,
    ) -> Pending<'a, Result<Page, EngineError>> {
        Box::pin(async move {
            let fresh = fresh_epoch();
            let arguments = |command: &mut Cmd| {
                command.arg(after).arg(most).arg(&fresh);
                command.arg(MAX_PAGE).arg(MAX_ENVELOPE);
            };
            let Value::Array(parts) = self.ask(&READ, channel, arguments).await? else {
                return Err(self.unknown());
            };
            let [epoch, first, last, Value::Array(entries)] = &parts[..] else {
                return Err(self.unknown());
            };
            let last = self.position(epoch, last)?;
            let first = offset(first).ok_or_else(|| self.unknown())?;
            let entries = entries.chunks_exact(2).map(|pair| match pair {
                [number, Value::BulkString(envelope)] => {
                    let envelope = Bytes::copy_from_slice(envelope);
                    Some(Logged::new(offset(number)?, envelope))
                }
                _ => None,
            });
            let entries = entries.collect::<Option<_>>();
            let entries = entries.ok_or_else(|| self.unknown())?;
            Ok(Page::new(last.epoch(), first, last.offset(), entries))
        })
    }

    fn renew<'a>(
        &'a self,
        channel: &'a str,
        seen_last: Position,
    ) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let (epoch, offset) = seen(Some(seen_last));
            let fresh = fresh_epoch();
            let arguments = |command: &mut Cmd| {
                command.arg(&epoch).arg(offset).arg(&fresh);
            };
            self.ask(&RENEW, channel, arguments).await.map(|_| ())
        })
    }
}

impl Redis {
    fn position(&self, epoch: &Value, last: &Value) -> Result<Position, EngineError> {
        let epoch = match epoch {
            Value::BulkString(digits) => number(digits),
            _ => None,
        };
        let position = epoch.zip(offset(last));
        position
            .map(|(epoch, offset)| Position::new(epoch, offset))
            .ok_or_else(|| self.unknown())
    }
}

fn offset(value: &Value) -> Option<u64> {
    match value {
        Value::Int(offset) => u64::try_from(*offset).ok(),
        _ => None,
    }
}

/// As scripts compare it.
fn seen(position: Option<Position>) -> (String, u64) {
    position.map_or((String::new(), 0), |position| {
        (format!("{:016x}", position.epoch()), position.offset())
    })
}

/// One that no log has had. The keys that std draws for its hash maps are random enough.
fn fresh_epoch() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// The channels that are now listened to.
type Sent = Result<Vec<String>, String>;

enum Next {
    Orders(Vec<Order>),
    Sent(Sent),
    End(EngineError),
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Takes the line from the logs when the connection ends.
struct HangUp<'a> {
    ending: Arc<Ending>,
    line: &'a Mutex<Option<Line>>,
}

impl<'a> HangUp<'a> {
    fn after(ending: &Arc<Ending>, line: &'a Mutex<Option<Line>>) -> Self {
        Self {
            ending: ending.clone(),
            line,
        }
    }
}

impl Drop for HangUp<'_> {
    fn drop(&mut self) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        // Not that of another connection.
        line.take_if(|line| Arc::ptr_eq(&line.ending, &self.ending));
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("address", &format_args!("{}", self.address))
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .field("is_connected", &self.line().is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_shown_nowhere() {
        let redis = Redis::new("redis://user:hush@localhost/1").unwrap();
        let text = format!("{redis:?} {} {:?}", redis.silence(), redis.unknown());
        assert!(!text.contains("hush") && !text.contains("user"), "{text}");
        assert!(text.contains("redis://localhost:6379"), "{text}");
    }
}
