//! A user that has not all the rights that the guide lists.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::process::{Client, PATIENCE, Process};
use crate::server::Server;

/// Those of the guide, for the prefix of the tests' nodes.
const RIGHTS: &str = "on >pass resetkeys ~x:* resetchannels &x:* -@all +@connection +subscribe +unsubscribe \
                      +publish +eval +evalsha +hget +hset +hmget +exists +del +xadd +xrange +xtrim +pexpire +time";

fn allow(server: &Server, rights: &str) {
    let words = format!("ACL SETUSER meek {rights}");
    let words: Vec<_> = words.split_whitespace().collect();
    assert_eq!(server.command(&words), "+OK");
}

/// Waits until the status of a node begins with this.
async fn status(client: &mut Client, expected: &str) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let status = client.ask("status").await;
        if status.starts_with(expected) {
            return status;
        }
        assert!(Instant::now() < end, "{status}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn b10_a_user_without_a_right_that_logs_need_is_degraded_with_the_reason_and_plain_topics_go_on()
 {
    let Some(server) = Server::own() else { return };
    let url = server.url().replace("redis://", "redis://meek:pass@");
    allow(&server, RIGHTS);
    allow(&server, "-eval -evalsha");
    let nodes = [Process::start(&url), Process::start(&url)];
    for node in &nodes {
        let status = status(&mut node.client().await, "degraded log").await;
        assert!(status.contains("NOPERM"), "{status}");
        node.logs("retained topics do not work").await;
    }
    let mut subscriber = nodes[1].subscriber(&["plain"]).await;
    let mut client = nodes[0].client().await;
    // Nothing of a node is closed or held up, and nothing waits.
    sleep(Duration::from_millis(500)).await;
    client.send("publish plain hello").await;
    assert_eq!(subscriber.next().await, "hello");
    assert_eq!(client.ask("append log x").await, "failed x");
    status(&mut client, "degraded log").await;

    allow(&server, "+eval +evalsha");
    for node in &nodes {
        node.up().await;
    }
    assert_eq!(client.ask("append log y").await, "ok y");

    // Of a script's commands, at any time: who publishes finds out.
    for right in ["xadd", "hset"] {
        allow(&server, &format!("-{right}"));
        client.send("publish log lost").await;
        let status = status(&mut client, "degraded").await;
        assert!(
            status.contains("can't run this command"),
            "{right}: {status}"
        );
        allow(&server, &format!("+{right}"));
        nodes[0].up().await;
    }
    for node in &nodes {
        let log = node.log();
        assert!(!log.contains("pass"), "{log}");
        let lines = log.lines().filter(|line| line.contains("do not work"));
        assert!(lines.count() <= 3, "{log}");
    }
}

#[tokio::test]
async fn b10_a_user_with_the_rights_of_the_guide_needs_no_others() {
    let Some(server) = Server::own() else { return };
    let url = server.url().replace("redis://", "redis://meek:pass@");
    allow(&server, RIGHTS);
    let node = Process::start(&url);
    node.up().await;
    let mut client = node.client().await;
    // More than is retained, so that the oldest are trimmed.
    client.send("flood brief 0 1200").await;
    assert_eq!(client.ask("append brief end").await, "ok end");
    let mut late = node.client().await;
    late.send("sub brief 0000000000000000-5").await;
    assert_eq!(late.next().await, "ready false");
    status(&mut client, "up").await;
    assert!(!node.log().contains("NOPERM"), "{}", node.log());
}
