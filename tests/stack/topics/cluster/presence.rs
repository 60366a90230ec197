use tower_websocket::{
    Connection, Message, PresenceChange, Result, Shutdown, WebSocketHandler, WebSocketLayer,
};

use super::*;

/// Joins the topic `here` as what its client says.
#[derive(Clone)]
struct Door;

impl WebSocketHandler for Door {
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.track("here", message.as_text().unwrap_or_default(), "")?;
        conn.send("ok").await?;
        Ok(())
    }
}

async fn join(topics: &Topics, name: &str) -> TestClient {
    let layer = WebSocketLayer::new("/", Door).topics(topics);
    let server = TestServer::new(layer.into_service());
    let mut client = open(&server).await;
    client.send(name.to_owned()).await;
    client.expect_text("ok").await;
    client
}

fn list(topics: &Topics) -> Vec<String> {
    let list = topics.presence("here").list();
    list.iter()
        .map(|who| format!("{}:{}", who.key(), who.metas().count()))
        .collect()
}

/// Joins and leaves, as they come.
fn watch(topics: &Topics) -> tokio::sync::mpsc::UnboundedReceiver<String> {
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    let mut changes = topics.presence("here").changes();
    tokio::spawn(async move {
        while let Some(change) = changes.next().await {
            let shown = match change {
                PresenceChange::Joined(who) => format!("+{}", who.key()),
                PresenceChange::Left(key) => format!("-{key}"),
                other => format!("{other:?}"),
            };
            if tell.send(shown).is_err() {
                return;
            }
        }
    });
    told
}

fn all(told: &mut tokio::sync::mpsc::UnboundedReceiver<String>) -> Vec<String> {
    std::iter::from_fn(|| told.try_recv().ok()).collect()
}

#[tokio::test(start_paused = true)]
async fn who_is_present_on_one_node_is_seen_on_all_and_joins_and_leaves_once() {
    let nodes = nodes(&Engine::new(1), 3, |options| options).await;
    let mut told: Vec<_> = nodes.iter().map(|node| watch(&node.topics)).collect();
    let first = join(&nodes[0].topics, "ada").await;
    let second = join(&nodes[1].topics, "ada").await;
    let bob = join(&nodes[1].topics, "bob").await;
    settle().await;
    for (node, told) in nodes.iter().zip(&mut told) {
        assert_eq!(list(&node.topics), ["ada:2", "bob:1"]);
        assert_eq!(all(told), ["+ada", "+bob"]);
    }
    // Of two connections, one goes; the other moves to another node within the time to linger.
    drop(first);
    settle().await;
    drop(second);
    sleep(2 * SECOND).await;
    let third = join(&nodes[2].topics, "ada").await;
    drop(bob);
    sleep(7 * SECOND).await;
    for (node, told) in nodes.iter().zip(&mut told) {
        assert_eq!(list(&node.topics), ["ada:1"]);
        assert_eq!(all(told), ["-bob"]);
    }
    drop(third);
    sleep(7 * SECOND).await;
    for (node, told) in nodes.iter().zip(&mut told) {
        assert_eq!(
            (list(&node.topics).len(), all(told)),
            (0, vec!["-ada".to_owned()])
        );
    }
}

#[tokio::test(start_paused = true)]
async fn t14_a_node_that_comes_later_or_was_cut_off_learns_who_is_there() {
    let engine = Engine::new(1);
    let nodes = nodes(&engine, 2, |options| options).await;
    let _ada = join(&nodes[0].topics, "ada").await;
    settle().await;
    let late = Node::new(&engine, |options| options);
    reach(&late).await;
    sleep(3 * SECOND).await;
    assert_eq!(list(&late.topics), ["ada:1"]);

    nodes[1].port.cut();
    settle().await;
    let _bob = join(&nodes[0].topics, "bob").await;
    let _eve = join(&nodes[1].topics, "eve").await;
    // For as long as it hears nobody, nobody is gone for it; for the others, it is.
    sleep(20 * SECOND).await;
    assert_eq!(list(&nodes[1].topics), ["ada:1", "eve:1"]);
    assert_eq!(list(&late.topics), ["ada:1", "bob:1"]);
    nodes[1].port.mend();
    reach(&nodes[1]).await;
    sleep(3 * SECOND).await;
    for node in nodes.iter().chain([&late]) {
        assert_eq!(list(&node.topics), ["ada:1", "bob:1", "eve:1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn t14_a_node_that_dies_takes_its_members_along_within_ten_seconds() {
    let engine = Engine::new(1);
    let nodes = nodes(&engine, 2, |options| options).await;
    let _ada = join(&nodes[0].topics, "ada").await;
    let _too = join(&nodes[1].topics, "ada").await;
    let _bob = join(&nodes[1].topics, "bob").await;
    sleep(5 * SECOND).await;
    let mut told = watch(&nodes[0].topics);
    assert_eq!(list(&nodes[0].topics), ["ada:2", "bob:1"]);
    nodes[1].port.cut();
    sleep(7 * SECOND).await;
    assert_eq!(list(&nodes[0].topics), ["ada:2", "bob:1"]);
    sleep(3 * SECOND).await;
    assert_eq!(list(&nodes[0].topics), ["ada:1"]);
    settle().await;
    assert_eq!(all(&mut told), ["-bob"]);
}

#[tokio::test(start_paused = true)]
async fn joins_and_leaves_are_announced_once_on_each_node() {
    let options = |options: TopicsBuilder| {
        options.announce(|_, change| match change {
            PresenceChange::Joined(who) => Some(format!("+{}", who.key()).into()),
            PresenceChange::Left(key) => Some(format!("-{key}").into()),
            _ => None,
        })
    };
    let nodes = nodes(&Engine::new(1), 2, options).await;
    let mut clients = [
        nodes[0].subscriber("here").await,
        nodes[1].subscriber("here").await,
    ];
    settle().await;
    let ada = join(&nodes[0].topics, "ada").await;
    let too = join(&nodes[1].topics, "ada").await;
    for client in &mut clients {
        client.expect_text("+ada").await;
    }
    drop((ada, too));
    for client in &mut clients {
        client.expect_text("-ada").await;
        client.expect_silence(10 * SECOND).await;
    }
}

/// As on one node: who is drained lingers, or leaves at once, also where others see it.
#[tokio::test(start_paused = true)]
async fn who_is_drained_leaves_on_all_nodes_as_it_does_on_its_own() {
    for at_once in [false, true] {
        let options = |options: TopicsBuilder| options.leave_on_drain(at_once);
        let mut nodes = nodes(&Engine::new(1), 2, options).await;
        let mut told = watch(&nodes[1].topics);
        let shutdown = Shutdown::new();
        let old = nodes.remove(0);
        let layer = WebSocketLayer::new("/", Door).topics(&old.topics);
        let server = TestServer::new(layer.shutdown(&shutdown).into_service());
        let mut client = open(&server).await;
        client.send("ada").await;
        client.expect_text("ok").await;
        settle().await;
        assert_eq!(all(&mut told), ["+ada"]);
        let drain = tokio::spawn(shutdown.drain(10 * SECOND));
        client.expect_close(1001).await;
        assert_eq!(drain.await.unwrap().forced(), 0);
        // Before the next digest, and before the changes of a tenth of a second are told.
        drop((client, server, old));
        settle().await;
        let left: &[&str] = if at_once { &["-ada"] } else { &[] };
        assert_eq!(all(&mut told), left);
        sleep(6 * SECOND).await;
        let left: &[&str] = if at_once { &[] } else { &["-ada"] };
        assert_eq!(all(&mut told), left);
    }
}

#[tokio::test(start_paused = true)]
async fn t14_with_losses_doubles_and_delays_all_nodes_agree_in_the_end() {
    for seed in 0..5 {
        let engine = Engine::new(seed).delay(SECOND / 10).reorder(true);
        let engine = engine.double(0.2).lose(0.1);
        let nodes = nodes(&engine, 3, |options| options).await;
        let mut clients = Vec::new();
        for n in 0..40 {
            let node = &nodes[n % 3];
            clients.push(join(&node.topics, &format!("user {}", n % 10)).await);
            if n % 4 == 3 {
                drop(clients.remove(n % clients.len()));
            }
            if n % 16 == 5 {
                nodes[n / 16].port.shake();
            }
            sleep(SECOND / 10).await;
        }
        let engine = engine.lose(0.0);
        sleep(15 * SECOND).await;
        let expected = list(&nodes[0].topics);
        assert!(!expected.is_empty());
        let connections: usize = expected
            .iter()
            .map(|who| who.rsplit_once(':').unwrap().1.parse::<usize>().unwrap())
            .sum();
        assert_eq!(connections, clients.len(), "seed {seed}");
        for node in &nodes[1..] {
            assert_eq!(list(&node.topics), expected, "seed {seed}");
        }
        drop(engine);
    }
}
