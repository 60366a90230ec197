//! What strangers publish on the channels of nodes, and write into their keys.

use std::time::Duration;

use tokio::time::timeout;

use crate::faults::Node;
use crate::process::{PATIENCE, Process};
use crate::server::Server;

/// What a script publishes on a channel; how many have got it.
fn publish(server: &Server, channel: &str, payload: &str) -> String {
    let script = format!("return redis.call('PUBLISH', KEYS[1], {payload})");
    server.command(&["EVAL", &script, "1", channel])
}

#[tokio::test]
async fn b7_what_strangers_publish_is_ignored() {
    let Some(server) = Server::own() else { return };
    let mut nodes = [Node::new(&server).await, Node::new(&server).await];
    let changed = nodes.each_ref().map(|node| node.topics.changed());
    let first = nodes[0].topics.append("log", "first").await.unwrap();
    for node in &mut nodes {
        assert_eq!(node.next().await, "first");
    }
    let other = format!("'L{:016x}{:016x}'", !first.epoch(), 7);
    let past = format!("'L{:016x}{:016x}' .. 'x'", first.epoch(), 0);
    for payload in [
        "''",
        "'hello'",
        "'\\255\\254'",
        "'P'",
        "'Phello'",
        "'P\\1\\99' .. string.rep('\\0', 40)",
        "'P\\2\\1' .. string.rep('\\0', 40)",
        // A list of four billion.
        "'P\\1\\5' .. string.rep('\\0', 24) .. string.rep('\\255', 4)",
        "'L'",
        "'L12'",
        "'L' .. string.rep('x', 40)",
        "'L' .. string.rep('0', 32)",
        &other,
        &past,
        "'P' .. string.rep('x', 5 * 1024 * 1024)",
        "'P\\1\\2' .. string.rep('x', 5 * 1024 * 1024)",
    ] {
        for channel in ["x:t:plain", "x:t:log", "x:nodes"] {
            assert_eq!(publish(&server, channel, payload), ":2", "{payload}");
        }
    }
    nodes[0].topics.publish("plain", "still");
    for node in &mut nodes {
        assert_eq!(node.next().await, "still");
    }
    let second = nodes[1].topics.append("log", "second").await.unwrap();
    assert_eq!((second.epoch(), second.offset()), (first.epoch(), 2));
    for node in &mut nodes {
        assert_eq!(node.next().await, "second");
    }
    for changed in changed {
        let is_up = timeout(Duration::ZERO, changed).await.is_err();
        assert!(is_up, "a connection was given up");
    }
}

#[tokio::test]
async fn b7_a_payload_of_any_size_takes_no_more_memory_than_its_bound() {
    let Some(server) = Server::own() else { return };
    let node = Process::start(server.url());
    node.up().await;
    let mut subscriber = node.subscriber(&["plain"]).await;
    let mut publisher = node.client().await;
    let before = node.memory("VmHWM:");
    for (megabytes, expected) in [
        (12, "it is too large"),
        (20, "more than 16 MiB in one reply or message"),
        (64, ""),
    ] {
        let payload = format!("string.rep('x', {megabytes} * 1024 * 1024)");
        assert_eq!(
            publish(&server, "x:t:plain", &format!("'P' .. {payload}")),
            ":1"
        );
        node.logs(expected).await;
        // It may have to notice yet that it was cut off.
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            node.up().await;
            publisher.send(&format!("publish plain {megabytes}")).await;
            assert_eq!(subscriber.next().await, megabytes.to_string());
            if publish(&server, "x:t:plain", "'hello'") == ":1" {
                break;
            }
            assert!(tokio::time::Instant::now() < end);
        }
    }
    let grown = (node.memory("VmHWM:") - before) / 1024;
    println!("{before} KiB before, {grown} MiB more at most");
    // A message of at most 16 MiB, as it is collected, and the buffers of the socket.
    assert!(grown < 40, "{grown} MiB");
}

/// The key of a log is somebody else's, for a while.
#[tokio::test]
async fn b7_a_key_of_another_type_harms_nobody_but_its_topic() {
    let Some(server) = Server::own() else { return };
    let mut nodes = [Node::new(&server).await, Node::new(&server).await];
    server.command(&["SET", "x:log:t:log", "mine"]);
    let topics = nodes[0].topics.clone();
    let refused = tokio::spawn(async move { topics.append("log", "refused").await });
    for n in 0..100 {
        nodes[1].topics.publish("plain", n.to_string());
        for node in &mut nodes {
            assert_eq!(node.next().await, n.to_string());
        }
    }
    let error = timeout(PATIENCE, refused).await.expect("an end").unwrap();
    assert!(error.unwrap_err().is_unreachable());
    assert_eq!(server.command(&["GET", "x:log:t:log"]), "mine");
    server.command(&["DEL", "x:log:t:log"]);
    nodes[1].topics.append("log", "taken").await.unwrap();
    // The log that they knew is lost, so they are told to come back.
    for node in &mut nodes {
        timeout(PATIENCE, node.client.expect_close(1012))
            .await
            .expect("an end");
    }
}
