//! [`read_logs`]: reads the logs of topics for which something is missing, a few at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::engine::EngineError;
use super::node::{Node, channel};
use super::shelf::{Asked, Next, Shelf};
use crate::jitter;
use crate::logging::{Throttle, escaped};
use crate::spawn::spawn;
use crate::topics::room::Room;

/// Logs that are read at the same time: a node that comes back does not run the engine over.
const AT_ONCE: usize = 8;

/// Entries of a page.
const PAGE: usize = 256;

/// An engine that does not answer within this time has an error.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two attempts, at most.
const PAUSE: Duration = Duration::from_millis(500);

/// Reads until the `Topics` are no more.
pub(super) async fn read_logs(node: Arc<Node>) {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    while let Ok(permit) = permits.clone().acquire_owned().await {
        let Some(room) = node.reads.next().await else {
            return;
        };
        let node = node.clone();
        let reading = async move {
            read(&node, &room).await;
            drop(permit);
        };
        spawn(&Handle::current(), format_args!("log of a topic"), reading);
    }
}

async fn read(node: &Arc<Node>, room: &Arc<Room>) {
    if !room.shelf().is_some_and(Shelf::begin_read) {
        return;
    }
    // A task that is dropped has ended, too.
    let mut ending = Ending(node, room, false);
    let result = read_on(node, room).await;
    ending.2 = result.is_ok();
    if let Err(error) = result {
        node.doubted.notify_one();
        static LINES: Throttle = Throttle::new();
        if let Some(missed) = LINES.pass() {
            let error = escaped(error);
            tracing::warn!(missed, "the log of a topic cannot be read: {error}");
        }
        sleep(PAUSE - jitter::up_to(PAUSE / 2)).await;
    }
    drop(ending);
}

struct Ending<'a>(&'a Arc<Node>, &'a Arc<Room>, bool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let Self(node, room, succeeded) = *self;
        if room.shelf().is_some_and(|shelf| shelf.end_read(succeeded)) {
            node.reads.push(room);
        }
    }
}

/// Reads to the end.
async fn read_on(node: &Arc<Node>, room: &Arc<Room>) -> Result<(), EngineError> {
    let (Some(log), Some(shelf)) = (node.backplane().log(), room.shelf()) else {
        return Ok(());
    };
    let channel = channel(&room.name);
    let late = |_| EngineError::new("the log does not answer");
    let mut was_renewed = false;
    while shelf.is_wanted() {
        let asked @ Asked { after, .. } = shelf.ask(room);
        let page = timeout(PATIENCE, log.read(&channel, after, PAGE));
        let page = page.await.map_err(late)??;
        let Some(registry) = node.registry() else {
            return Ok(());
        };
        let stamp = registry.rules.stamp.as_deref();
        match shelf.found(room, node.id(), stamp, asked, page) {
            Next::Done => break,
            Next::More => {}
            Next::Renew(_) if was_renewed => {
                return Err(EngineError::new(
                    "the log has lost entries and keeps its epoch",
                ));
            }
            Next::Renew(seen) => {
                was_renewed = true;
                let renewed = timeout(PATIENCE, log.renew(&channel, seen));
                renewed.await.map_err(late)??;
            }
            Next::Broken => return Err(EngineError::new("the log contradicts itself")),
        }
    }
    Ok(())
}
