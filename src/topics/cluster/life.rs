//! [`start`]: the task that runs the engine, again and again.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use super::engine::EngineError;
use super::link::Link;
use super::node::Node;
use crate::jitter;
use crate::logging::{Throttle, escaped};

/// Between two attempts, at first. An engine that restarts is back in about that time.
const SHORTEST: Duration = Duration::from_millis(50);

/// Between two attempts, at most. A thousand nodes then try 200 times a second.
const LONGEST: Duration = Duration::from_secs(5);

/// Starts the task unless it runs. Without a runtime the next call may have one.
pub(crate) fn start(node: &Arc<Node>) {
    if node.is_running() {
        return;
    }
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    if node.begin_running() {
        runtime.spawn(Life(node.clone()).run());
    }
}

/// The task. Dropped with its runtime, it leaves the rest to the next.
struct Life(Arc<Node>);

impl Life {
    async fn run(self) {
        let node = &self.0;
        let mut pause = SHORTEST;
        while !node.is_gone() {
            node.begin();
            let mut link = Link::new(node.clone());
            let ended = {
                let mut run = pin!(node.backplane().run(&mut link));
                let mut watch = pin!(node.watch());
                poll_fn(|cx| {
                    if let Poll::Ready(why) = watch.as_mut().poll(cx) {
                        return Poll::Ready(why);
                    }
                    run.as_mut().poll(cx).map(Some)
                })
                .await
            };
            let Some(error) = ended else {
                return;
            };
            if node.end() {
                pause = SHORTEST;
            }
            report(&error);
            sleep(pause - jitter::up_to(pause / 2)).await;
            pause = (pause * 2).min(LONGEST);
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.0.end();
        self.0.end_running();
    }
}

fn report(error: &EngineError) {
    static LINES: Throttle = Throttle::new();
    if let Some(missed) = LINES.pass() {
        let error = escaped(error);
        tracing::warn!(missed, "topics do not reach the other nodes: {error}");
    }
}
