//! [`start`]: the task that runs the engine, again and again.

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use super::engine::EngineError;
use super::link::Link;
use super::node::Node;
use super::reader::read_logs;
use super::trial::try_log;
use super::watch::watch;
use crate::jitter;
use crate::logging::{Throttle, escaped};
use crate::spawn::spawn;

/// Between two attempts, at first. An engine that restarts is back in about that time.
const SHORTEST: Duration = Duration::from_millis(50);

/// Between two attempts, at most. A thousand nodes then try 200 times a second.
const LONGEST: Duration = Duration::from_secs(5);

/// Starts the task unless it runs. Without a runtime the next call may have one.
pub(crate) fn start(node: &Arc<Node>) {
    if node.tasks.is_running() {
        return;
    }
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    if node.tasks.begin(&runtime) {
        spawn(
            &runtime,
            format_args!("backplane"),
            Life(node.clone()).run(),
        );
        let reader = read_logs(node.clone());
        spawn(&runtime, format_args!("logs of the backplane"), reader);
    }
}

/// The task. Dropped with its runtime, it leaves the rest to the next.
struct Life(Arc<Node>);

impl Life {
    async fn run(self) {
        let mut watch = pin!(watch(&self.0));
        let mut trial = pin!(async {
            try_log(&self.0).await;
            pending::<()>().await;
        });
        let mut engine = pin!(run_engine(&self.0));
        poll_fn(|cx| {
            // First, since it finds out that the engine is dead.
            let ended = watch.as_mut().poll(cx);
            if ended.is_pending() {
                // Ahead of the engine, for whose being up it waits.
                let _ = trial.as_mut().poll(cx);
                let _ = engine.as_mut().poll(cx);
            }
            ended
        })
        .await;
    }
}

/// Runs the engine again and again.
async fn run_engine(node: &Arc<Node>) {
    let mut pause = SHORTEST;
    loop {
        node.begin();
        let mut link = Link::new(node.clone());
        let error = {
            let mut run = node.backplane().run(&mut link);
            poll_fn(|cx| {
                if node.is_dead() {
                    let error = "nothing comes back, the connection is dead";
                    return Poll::Ready(EngineError::new(error));
                }
                run.as_mut().poll(cx)
            })
            .await
        };
        let why = escaped(&error).to_string();
        report(&why);
        if node.end(why) {
            pause = SHORTEST;
        }
        sleep(pause - jitter::up_to(pause / 2)).await;
        pause = (pause * 2).min(LONGEST);
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.0.end("its runtime has ended".to_owned());
        self.0.tasks.end();
    }
}

fn report(error: &str) {
    static LINES: Throttle = Throttle::new();
    if let Some(missed) = LINES.pass() {
        tracing::warn!(missed, "topics do not reach the other nodes: {error}");
    }
}
