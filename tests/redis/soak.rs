//! Millions of messages through two nodes: none is lost, and memory stays what it was. By hand:
//! `tests/soak/redis.sh soak`.

use tokio::time::Instant;

use crate::process::{Client, Process, TIMEOUT};
use crate::server::Server;

/// Messages that are published to a topic at a time: of those with a log, each waits for the one before it.
const PLAIN: u64 = 500;
const LOGGED: u64 = 50;

/// How many times that are on their way: fewer than may wait for an engine.
const AHEAD: u64 = 4;

/// Reads the numbers of a batch.
async fn read(subscriber: &mut Client, first: u64, size: u64) {
    for n in first..first + size {
        let text = subscriber.next().await;
        let number = text.rsplit(' ').next().unwrap();
        assert_eq!(number.parse(), Ok(n), "{text}");
    }
}

#[tokio::test]
#[ignore = "by hand: tests/soak/redis.sh"]
async fn millions_of_messages_through_two_nodes_leave_nothing_behind() {
    let Some(server) = Server::own() else { return };
    let total = std::env::var("SOAK_MESSAGES");
    let total: u64 = total.map_or(1_000_000, |n| n.parse().expect("a number"));
    // A machine that is busy with something else for seconds is not what is looked for.
    let node = || Process::with(server.url(), &[(TIMEOUT, "30")]);
    let nodes = [node(), node()];
    for node in &nodes {
        node.up().await;
    }
    // By each kind of topic, each way.
    let mut ways = Vec::new();
    for (from, to) in [(0, 1), (1, 0)] {
        for (topic, size) in [("plain", PLAIN), ("brief", LOGGED)] {
            let topic = format!("{topic}{from}");
            let subscriber = nodes[to].subscriber(&[&topic]).await;
            ways.push((topic, size, nodes[from].client().await, subscriber));
        }
    }
    let each: u64 = ways.iter().map(|(_, size, ..)| size).sum();
    let batches = total.div_ceil(each);
    let begin = Instant::now();
    let mut first = None;
    for batch in 0..batches + AHEAD {
        for (topic, size, publisher, subscriber) in &mut ways {
            let size = *size;
            if batch < batches {
                let from = batch * size;
                let to = from + size;
                publisher.send(&format!("flood {topic} {from} {to}")).await;
            }
            if batch >= AHEAD {
                read(subscriber, (batch - AHEAD) * size, size).await;
            }
        }
        if batch % (batches / 20).max(1) == 0 {
            let memory = nodes.each_ref().map(|node| node.memory("VmRSS:"));
            let count = batch * each;
            println!("{:?}: {count} messages, {memory:?} KiB", begin.elapsed());
            if batch * 4 < batches {
                // Logs fill up to what they retain, and the allocator to what it keeps.
                continue;
            }
            for (first, now) in first.get_or_insert(memory).iter().zip(memory) {
                assert!(now < first + first / 8 + 8 * 1024, "{now} KiB");
            }
        }
    }
}
