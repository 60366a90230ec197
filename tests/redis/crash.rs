//! Nodes in processes of their own that are killed while messages are on their way.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tower_websocket::Position;

use crate::process::{Client, PATIENCE, Process};
use crate::server::Server;

const LOGS: [&str; 3] = ["log0", "log1", "log2"];

/// Appends that wait for their acknowledgement at the same time.
const IN_FLIGHT: usize = 100;

async fn processes<const N: usize>(server: &Server) -> [Process; N] {
    let processes = [(); N].map(|()| Process::start(server.url()));
    for process in &processes {
        process.up().await;
    }
    processes
}

/// Appends through one node for as long as that lives.
struct Publisher {
    count: Arc<AtomicUsize>,
    task: JoinHandle<Vec<String>>,
}

impl Publisher {
    /// Texts are the name and a number.
    async fn start(node: &Process, name: &'static str) -> Self {
        let mut client = node.client().await;
        let count = Arc::<AtomicUsize>::default();
        let counted = count.clone();
        let task = tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for n in 0.. {
                let topic = LOGS[n % LOGS.len()];
                if !client.try_send(&format!("append {topic} {name}{n}")).await {
                    break;
                }
                if n < IN_FLIGHT {
                    continue;
                }
                let Some(reply) = client.try_next().await else {
                    break;
                };
                let text = reply.strip_prefix("ok ").expect("an acknowledgement");
                acknowledged.push(text.to_owned());
                counted.fetch_add(1, Ordering::Relaxed);
            }
            acknowledged
        });
        Self { count, task }
    }

    /// Waits until so many more are acknowledged.
    async fn acknowledged(&self, more: usize) {
        let (end, count) = (
            Instant::now() + PATIENCE,
            self.count.load(Ordering::Relaxed),
        );
        while self.count.load(Ordering::Relaxed) < count + more {
            assert!(Instant::now() < end, "nothing is acknowledged");
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Those that were acknowledged before the node died.
    async fn end(self) -> Vec<String> {
        timeout(PATIENCE, self.task).await.expect("an end").unwrap()
    }
}

/// Reads until each log has come to its end: the texts of each, which come in the order of their positions,
/// without a hole.
async fn read_all(client: &mut Client) -> Vec<Vec<String>> {
    let mut logs = vec![(None::<Position>, false, Vec::new()); LOGS.len()];
    while logs.iter().any(|(_, is_over, _)| !is_over) {
        let text = client.next().await;
        let (position, rest) = text[1..].split_once(' ').unwrap();
        let (topic, text) = rest.split_once(' ').unwrap();
        let position: Position = position.parse().unwrap();
        let (before, is_over, texts) =
            &mut logs[LOGS.iter().position(|log| *log == topic).unwrap()];
        if let Some(before) = before.replace(position) {
            let next = Position::new(before.epoch(), before.offset() + 1);
            assert_eq!(position, next, "{topic} behind {texts:?}");
        }
        match text {
            "end" => *is_over = true,
            text => texts.push(text.to_owned()),
        }
    }
    logs.into_iter().map(|(_, _, texts)| texts).collect()
}

/// Ends each log through a node that lives.
async fn end_logs(node: &Process) {
    let mut client = node.client().await;
    for topic in LOGS {
        assert_eq!(client.ask(&format!("append {topic} end")).await, "ok end");
    }
}

/// Of each publisher, whose texts begin with its name: in its order, none twice, and all that were
/// acknowledged.
fn check(logs: &[Vec<String>], name: &str, acknowledged: &[String]) {
    let mut all = HashSet::new();
    for texts in logs {
        let numbers = texts.iter().filter_map(|text| text.strip_prefix(name));
        let numbers: Vec<u32> = numbers.map(|n| n.parse().unwrap()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        all.extend(texts);
    }
    let missing = acknowledged.iter().filter(|text| !all.contains(text));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&String>::new());
}

/// Waits until all of these nodes see those who are present.
async fn present(nodes: &[&Process], expected: &str, within: Duration) {
    let end = Instant::now() + within;
    for node in nodes {
        let mut client = node.client().await;
        loop {
            let list = client.ask("present").await;
            if list == expected {
                break;
            }
            assert!(Instant::now() < end, "{list} in place of {expected}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn b6_a_node_that_is_killed_while_it_publishes_loses_nothing_acknowledged() {
    let Some(server) = Server::own() else { return };
    let [mut first, second, third] = processes(&server).await;
    let mut subscribers = [
        second.subscriber(&LOGS).await,
        third.subscriber(&LOGS).await,
    ];
    let mut ada = first.client().await;
    assert_eq!(ada.ask("track ada").await, "tracked");
    let mut bob = second.client().await;
    assert_eq!(bob.ask("track bob").await, "tracked");
    present(&[&second, &third], "present ada:1 bob:1", PATIENCE).await;

    let publisher = Publisher::start(&first, "a").await;
    publisher.acknowledged(300).await;
    first.kill();
    let killed = Instant::now();
    let acknowledged = publisher.end().await;
    end_logs(&third).await;
    let mut got = Vec::new();
    for subscriber in &mut subscribers {
        got.push(read_all(subscriber).await);
    }
    assert_eq!(got[0], got[1]);
    check(&got[0], "a", &acknowledged);
    // What is promised, and some seconds for a machine that is busy.
    let within = Duration::from_secs(13).saturating_sub(killed.elapsed());
    present(&[&second, &third], "present bob:1", within).await;
    for subscriber in &mut subscribers {
        let more = subscriber.all(Duration::from_millis(100)).await;
        assert_eq!(more, Vec::<String>::new());
    }
}

#[tokio::test]
async fn b6_of_two_nodes_that_are_killed_at_once_nothing_acknowledged_is_lost() {
    let Some(server) = Server::own() else { return };
    let [mut first, mut second, third] = processes(&server).await;
    let mut subscriber = third.subscriber(&LOGS).await;
    let publishers = [
        Publisher::start(&first, "a").await,
        Publisher::start(&second, "b").await,
    ];
    for publisher in &publishers {
        publisher.acknowledged(150).await;
    }
    first.kill();
    second.kill();
    end_logs(&third).await;
    let got = read_all(&mut subscriber).await;
    for (publisher, name) in publishers.into_iter().zip(["a", "b"]) {
        check(&got, name, &publisher.end().await);
    }
}

#[tokio::test]
async fn b6_a_node_that_was_killed_and_starts_again_is_another_one_and_its_clients_miss_nothing() {
    let Some(server) = Server::own() else { return };
    let [mut first, second] = processes(&server).await;
    let mut ada = first.client().await;
    assert_eq!(ada.ask("track ada").await, "tracked");
    let mut subscriber = first.subscriber(&["log0"]).await;
    let publisher = Publisher::start(&second, "b").await;
    let mut texts = Vec::new();
    let mut take = |text: String| {
        let (position, text) = text[1..].split_once(' ').unwrap();
        texts.push(text.strip_prefix("log0 ").unwrap().to_owned());
        position.to_owned()
    };
    let mut last = String::new();
    for _ in 0..50 {
        last = take(subscriber.next().await);
    }
    first.kill();
    while let Some(text) = subscriber.try_next().await {
        last = take(text);
    }
    publisher.acknowledged(100).await;

    let again = Process::start(server.url());
    again.up().await;
    let mut ada = again.client().await;
    assert_eq!(ada.ask("track ada").await, "tracked");
    let mut subscriber = again.client().await;
    let reply = subscriber.ask(&format!("sub log0 {last}")).await;
    assert_eq!(reply, "ready true");
    // While it came back, and from then on.
    publisher.acknowledged(100).await;
    drop(second);
    let acknowledged = publisher.end().await;
    end_logs(&again).await;
    loop {
        let text = subscriber.next().await;
        if text.ends_with(" end") {
            break;
        }
        take(text);
    }
    let numbers = texts.iter().map(|text| text[1..].parse::<usize>().unwrap());
    assert!(numbers.clone().all(|n| n % LOGS.len() == 0));
    assert!(numbers.is_sorted_by(|a, b| a < b), "{texts:?}");
    let all: HashSet<_> = texts.iter().collect();
    let missing = acknowledged.iter().filter(|text| {
        text[1..].parse::<usize>().unwrap() % LOGS.len() == 0 && !all.contains(text)
    });
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&String>::new());
    // It was there all the time, by one connection in the end.
    let third = Process::start(server.url());
    third.up().await;
    present(&[&again, &third], "present ada:1", Duration::from_secs(15)).await;
}
