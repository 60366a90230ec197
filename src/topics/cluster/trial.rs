//! [`try_log`]: finds out whether the log takes what is appended, and says so: a right that is missing, or a
//! memory that is full, concerns all topics, where an entry that is refused concerns one.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::engine::EngineError;
use super::envelope::{Envelope, What};
use super::log::{Log, NewEntries, NewEntry};
use super::node::Node;
use crate::logging::{Throttle, escaped};
use crate::topics::Retain;

/// The channel whose log is tried. Nobody listens to it, and it is no topic's.
const CHANNEL: &str = "trial";

/// A log that does not answer within this time has an error.
const PATIENCE: Duration = Duration::from_secs(10);

/// While it fails, it is tried again after this time, so that it is known soon that it works again.
const AGAIN: Duration = Duration::from_secs(2);

/// Between two trials, however many appends and reads fail.
const LEAST: Duration = Duration::from_secs(1);

/// Tries the log when the node comes up, so that what is wrong is said at the start and not when somebody
/// publishes; whenever an append or a read has failed; and, when it does not work, until it does.
pub(super) async fn try_log(node: &Node) {
    let retains = node.registry().is_some_and(|registry| registry.retains());
    let Some(log) = node.backplane().log().filter(|_| retains) else {
        return;
    };
    loop {
        let doubted = node.doubted.notified();
        if node.is_log_faulty() {
            let _ = timeout(AGAIN, doubted).await;
        } else {
            doubted.await;
        }
        // Otherwise it is tried when it is.
        if node.is_connected() {
            let trial = timeout(PATIENCE, try_once(node, log)).await;
            let late = |_| Err(EngineError::new("the log does not answer"));
            match trial.unwrap_or_else(late) {
                Ok(()) => works(node),
                // What broke with the connection says nothing of the log.
                Err(error) if node.is_connected() => fails(node, &error),
                Err(_) => {}
            }
        }
        sleep(LEAST).await;
    }
}

/// Appends an entry, and reads it.
async fn try_once(node: &Node, log: &dyn Log) -> Result<(), EngineError> {
    let envelope = Envelope {
        node: node.id(),
        number: 0,
        what: What::Probe,
    };
    let entries = [NewEntry::of(envelope.encode())];
    let retain = Retain::messages(1).age(Duration::from_secs(60));
    log.append(CHANNEL, NewEntries::new(None, retain, &entries))
        .await?;
    log.read(CHANNEL, 0, 1).await.map(drop)
}

fn fails(node: &Node, error: &EngineError) {
    let why = escaped(error).to_string();
    static LINES: Throttle = Throttle::new();
    if let Some(missed) = LINES.pass() {
        tracing::warn!(missed, "retained topics do not work: {why}");
    }
    node.fail_log(why);
}

fn works(node: &Node) {
    if node.mend_log() {
        tracing::info!("retained topics work again");
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;
    use crate::topics::{Backplane, Link, Order, Page, Pending, Position, Retain, Status, Topics};

    /// Carries everything, and keeps nothing while that is not allowed.
    #[derive(Default)]
    struct Meek {
        may_append: AtomicBool,
        appends: AtomicUsize,
    }

    impl Meek {
        fn allow(&self, yes: bool) {
            self.may_append.store(yes, Ordering::Relaxed);
        }

        fn appends(&self) -> usize {
            self.appends.load(Ordering::Relaxed)
        }
    }

    impl Backplane for Meek {
        fn run<'a>(&'a self, link: &'a mut Link) -> Pending<'a, EngineError> {
            Box::pin(async move {
                loop {
                    for order in link.next().await {
                        match order {
                            Order::Listen(channel) => link.listening(&channel),
                            Order::Send { channel, envelope } => link.receive(&channel, envelope),
                            Order::Leave(_) => {}
                        }
                    }
                }
            })
        }

        fn log(&self) -> Option<&dyn Log> {
            Some(self)
        }
    }

    impl Log for Meek {
        fn append<'a>(
            &'a self,
            channel: &'a str,
            _: NewEntries<'a>,
        ) -> Pending<'a, Result<Vec<Position>, EngineError>> {
            self.appends.fetch_add(1, Ordering::Relaxed);
            // There is one topic of which something else is wrong.
            let fails = channel == "t:odd" || !self.may_append.load(Ordering::Relaxed);
            let result = match fails {
                true => Err(EngineError::new("NOPERM")),
                false => Ok(vec![Position::new(1, 1)]),
            };
            Box::pin(ready(result))
        }

        fn read<'a>(
            &'a self,
            _: &'a str,
            _: u64,
            _: usize,
        ) -> Pending<'a, Result<Page, EngineError>> {
            Box::pin(ready(Ok(Page::new(1, 1, 0, Vec::new()))))
        }

        fn renew<'a>(&'a self, _: &'a str, _: Position) -> Pending<'a, Result<(), EngineError>> {
            unreachable!("nothing is lost");
        }
    }

    async fn pass(seconds: u64) {
        sleep(Duration::from_secs(seconds)).await;
    }

    fn topics(engine: &Arc<Meek>) -> Topics {
        let topics = Topics::builder().retain("", Retain::messages(1));
        topics.backplane(engine.clone()).build()
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_takes_nothing_is_said_from_the_start_until_it_does() {
        let engine = Arc::<Meek>::default();
        let topics = topics(&engine);
        pass(1).await;
        match topics.status() {
            Status::Degraded {
                cut_off,
                reason,
                since,
                ..
            } => {
                assert!(!cut_off && reason == "NOPERM", "{reason}");
                assert!(since.elapsed() < Duration::from_secs(2));
            }
            status => panic!("{status:?}"),
        }
        let changed = topics.changed();
        engine.allow(true);
        changed.await;
        assert_eq!(topics.status(), Status::Up);
        // And then it is left alone.
        let appends = engine.appends();
        pass(3600).await;
        assert_eq!(engine.appends(), appends);
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_takes_nothing_any_more_is_said_when_somebody_publishes() {
        let engine = Arc::<Meek>::default();
        engine.allow(true);
        let topics = topics(&engine);
        pass(5).await;
        assert_eq!(topics.status(), Status::Up);
        engine.allow(false);
        let changed = topics.changed();
        topics.publish("room", "x");
        changed.await;
        assert!(topics.status().is_degraded());
        engine.allow(true);
        pass(4).await;
        assert_eq!(topics.status(), Status::Up);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wrong_with_one_topic_is_not_said_of_all() {
        let engine = Arc::<Meek>::default();
        engine.allow(true);
        let topics = topics(&engine);
        pass(5).await;
        let changed = topics.changed();
        let before = engine.appends();
        assert!(topics.append("odd", "x").await.is_err());
        assert!(timeout(Duration::from_secs(5), changed).await.is_err());
        // The trials are few beside the attempts.
        assert!(engine.appends() - before > 20);
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_is_retained_nothing_is_tried() {
        let engine = Arc::<Meek>::default();
        let topics = Topics::builder().backplane(engine.clone()).build();
        pass(60).await;
        assert_eq!(topics.status(), Status::Up);
        assert_eq!(engine.appends(), 0);
    }
}
