//! [`flush`]: waits until what a node has to send and to append is sent and appended.

use tokio::time::Instant;

use super::load::Load;
use super::node::Node;
use super::until::until;

/// Waits for both, at most until the deadline. Whether nothing was lost.
pub(crate) async fn flush(node: &Node, appends: &Load, deadline: Instant) -> bool {
    let lost = node.messages_lost();
    appends.wait_until_idle(deadline).await
        && send_all(node, deadline).await
        && node.messages_lost() == lost
}

/// Waits until all that waits has been sent, at most until the deadline. Whether it was.
///
/// A word to itself behind the rest shows it: what comes back has passed the engine, and so has what was
/// ahead of it.
pub(super) async fn send_all(node: &Node, deadline: Instant) -> bool {
    node.tell_changes();
    let broken = node.work.change(|todo| {
        let is_needed = todo.schedule.is_up() || todo.queue.messages() > 0;
        is_needed.then(|| {
            node.send_last(todo);
            todo.broken
        })
    });
    let Some(broken) = broken else {
        return true;
    };
    let mut is_lost = false;
    let is_over = until(&node.work.heard, deadline, || {
        let todo = node.work.todo();
        // What a connection has taken that broke is lost.
        is_lost = todo.broken != broken;
        is_lost || todo.last.is_none()
    });
    is_over.await && !is_lost
}
