//! [`watch`]: does what has its time, as the [`Schedule`](super::schedule::Schedule) says, and in the end
//! waits until all is sent.

use std::time::Duration;

use tokio::time::Instant;

use super::envelope::What;
use super::flush::send_all;
use super::node::{NODES, Node};
use super::scatter::scatter_all;
use crate::close::{CloseCode, CloseFrame};

/// How long the engine goes on when the `Topics` are no more, to send what waits: some round trips, or a new
/// connection.
const FAREWELL: Duration = Duration::from_secs(1);

/// Runs until the `Topics` are no more, and what they had to send is sent.
pub(super) async fn watch(node: &Node) {
    while let Some(deadline) = tick(node) {
        node.work.wait_until(deadline).await;
    }
    // Whether it was is known to nobody who could ask.
    send_all(node, Instant::now() + FAREWELL).await;
}

/// Does what is due, and tells when the next is. `None`: the `Topics` are no more.
fn tick(node: &Node) -> Option<Instant> {
    let now = Instant::now();
    let due = node.work.change(|todo| {
        if todo.is_over {
            return None;
        }
        let due = todo.schedule.due(now);
        if due.probe {
            let (_, probe) = node.parcel(node.own_channel().to_owned(), What::Probe);
            todo.queue.tell_first(probe);
            todo.call_engine();
        }
        Some(due)
    })?;
    if due.changes {
        node.tell_changes();
    }
    if due.digest {
        let digest = What::Digest {
            version: node.roster().version(),
            tails: node.tails(),
        };
        let (number, digest) = node.parcel(NODES.to_owned(), digest);
        node.work.change(|todo| {
            todo.queue.tell([digest]);
            todo.schedule.tell(number, now);
            todo.call_engine();
        });
    }
    if due.isolation {
        isolate(node);
    }
    let mut next = due.next;
    if due.silence {
        let ops = node.roster().silent(now);
        node.attend(ops);
        let silent_at = node.roster().silent_at();
        next = silent_at.map_or(next, |at| next.min(at));
    }
    Some(next)
}

/// Closes all connections: they may find a node that is not cut off.
fn isolate(node: &Node) {
    let why = "this node is cut off from the others";
    if let (Some(registry), Some(runtime)) = (node.registry(), node.tasks.runtime()) {
        tracing::warn!("{why}, its connections are closed");
        let frame = CloseFrame::known(CloseCode::SERVICE_RESTART, why);
        scatter_all(&registry, frame, &runtime);
    }
}
