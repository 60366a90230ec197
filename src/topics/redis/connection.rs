//! [`Connection`]: commands and their replies on one socket, and the messages that come between them.

use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, PushInfo, PushKind, Value};
use bytes::Bytes;
use tokio::time::timeout;

use super::address::Address;
use super::refusals::{refusal, text};
use super::role::{self, Role};
use super::socket::{Meter, Socket};

/// A message: its channel, and its payload.
pub(super) type Message = (Bytes, Bytes);

/// See the module docs.
pub(super) struct Connection {
    commands: MultiplexedConnection,
    /// Moves the bytes. Whoever has the connection runs it: there is no other task.
    driver: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    meter: Arc<Meter>,
    /// What one turn of the driver has read.
    came: Arc<Mutex<Vec<Message>>>,
}

impl Connection {
    /// Connects, and tells the server who we are, within `most`.
    pub(super) async fn open(address: &Address, most: Duration) -> Result<Self, String> {
        let open = async {
            let io = address
                .open(most)
                .await
                .map_err(|error| error.to_string())?;
            let meter = Arc::<Meter>::default();
            let socket = Socket::new(io, meter.clone());
            let came = Arc::<Mutex<Vec<Message>>>::default();
            let to = came.clone();
            let config = AsyncConnectionConfig::new()
                // Whoever sends a command has a limit of its own.
                .set_response_timeout(None)
                .set_push_sender(move |push| {
                    if let Some(message) = message(push) {
                        to.lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(message);
                    }
                    Ok::<(), ()>(())
                });
            let login = address.login();
            let (commands, driver) = meter
                .turns(MultiplexedConnection::new_with_config(
                    login, socket, config,
                ))
                .await
                .map_err(|error| refusal(&error, meter.ending(), address.is_tls()))?;
            let mut connection = Self {
                commands,
                driver: Some(Box::pin(driver)),
                meter,
                came,
            };
            if connection.role().await? == Role::Replica {
                return Err(role::REPLICA.to_owned());
            }
            Ok(connection)
        };
        let opened = timeout(most, open).await;
        opened.unwrap_or_else(|_| {
            let hint = if address.is_tls() { " by TLS" } else { "" };
            Err(format!("it does not answer{hint} within {most:?}"))
        })
    }

    /// What the server says of itself. The first `HELLO` was the client library's, which keeps the answer to
    /// itself.
    async fn role(&mut self) -> Result<Role, String> {
        let mut commands = self.commands();
        let question = role::question();
        let mut reply = std::pin::pin!(commands.send_packed_command(&question));
        let reply = poll_fn(|cx| {
            // Nothing is listened to, so nothing comes but its end.
            if let Poll::Ready(Err(why)) = self.poll(cx) {
                return Poll::Ready(Err(why));
            }
            reply.as_mut().poll(cx).map(Ok)
        });
        role::answer(reply.await?).map_err(|error| text(&error))
    }

    /// What takes commands. They are carried out only while [`poll`](Self::poll) is called.
    pub(super) fn commands(&self) -> MultiplexedConnection {
        self.commands.clone()
    }

    /// Moves bytes both ways. Ready with the messages that have come, at least one, or with the reason why
    /// no more will come.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<Message>, String>> {
        if let Some(driver) = &mut self.driver {
            if self.meter.turn(driver.as_mut(), cx).is_ready() {
                self.driver = None;
            }
        }
        let came = std::mem::take(&mut *self.came.lock().unwrap_or_else(PoisonError::into_inner));
        if !came.is_empty() {
            Poll::Ready(Ok(came))
        } else if self.driver.is_none() {
            Poll::Ready(Err(self.ending("the connection has ended")))
        } else {
            Poll::Pending
        }
    }

    /// Why the connection has ended, if that is known better than by what a command got to see.
    pub(super) fn ending(&self, otherwise: impl Display) -> String {
        let ending = self.meter.ending();
        ending.unwrap_or_else(|| otherwise.to_string())
    }
}

fn message(push: PushInfo) -> Option<Message> {
    if push.kind != PushKind::Message {
        return None;
    }
    match <[Value; 2]>::try_from(push.data) {
        Ok([Value::BulkString(channel), Value::BulkString(payload)]) => {
            Some((channel.into(), payload.into()))
        }
        _ => None,
    }
}
