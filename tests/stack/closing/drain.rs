//! How a server goes down: every message that was accepted arrives, every peer is told, and
//! nothing is left (rows A11 to A15, R8).

use std::time::Duration;

use tokio::time::Instant;
use tower::{Layer, Service};
use tower_websocket::{
    CloseEvent, Connection, Handshake, Message, Rejection, Result, Sender, Shutdown,
    WebSocketHandler, WebSocketLayer,
};

use crate::support::*;

/// Queues messages before anything is read, and counts the ends.
#[derive(Clone)]
struct Talker {
    messages: usize,
    recorder: Recorder,
    senders: tokio::sync::mpsc::UnboundedSender<Sender>,
}

impl WebSocketHandler for Talker {
    async fn on_open(&mut self, conn: &mut Connection) -> Result {
        for i in 0..self.messages {
            conn.try_send(format!("{} of {}, queued", i, self.messages))?;
        }
        self.senders.send(conn.sender())?;
        Ok(())
    }
    async fn on_close(&mut self, _: &mut Connection, event: CloseEvent) -> Result {
        self.recorder.note(shown_close(&event));
        Ok(())
    }
}

struct Server {
    layer: WebSocketLayer<Talker>,
    shutdown: Shutdown,
    recorder: Recorder,
    senders: tokio::sync::mpsc::UnboundedReceiver<Sender>,
}

fn server(messages: usize) -> Server {
    let (senders, received) = tokio::sync::mpsc::unbounded_channel();
    let (recorder, shutdown) = (Recorder::default(), Shutdown::new());
    let handler = Talker {
        messages,
        recorder: recorder.clone(),
        senders,
    };
    Server {
        layer: WebSocketLayer::new("/ws", handler).shutdown(&shutdown),
        shutdown,
        recorder,
        senders: received,
    }
}

/// Over a pipe so small that the queue of the connection is what holds the messages.
async fn open(layer: &WebSocketLayer<Talker>) -> Client {
    let (client, server) = tokio::io::duplex(256);
    tokio::spawn(serve_http1(server, layer.layer(plain())));
    let mut client = Client::new(client);
    client.open("/ws").await;
    client
}

/// Reads all messages and the Close frame behind them; its code, and when it came.
async fn read_all(mut client: Client, messages: usize) -> (u16, Instant) {
    for i in 0..messages {
        let expected = format!("{i} of {messages}, queued");
        client.expect(0x81, expected.as_bytes()).await;
    }
    let close = client.frame().await.expect("a Close frame");
    let at = Instant::now();
    assert_eq!(close.first, 0x88);
    client.send(&frame(0x88, &close.payload[..2])).await;
    assert_eq!(client.frame().await, None);
    (close.close_code().unwrap(), at)
}

/// The size is that of the goal. Pipes in memory, since 10,000 sockets with both their ends
/// are more descriptors than a process has; `tests/soak` counts those.
#[tokio::test(start_paused = true)]
async fn a13_r8_ten_thousand_connections_with_a_hundred_queued_messages_each_lose_none() {
    const CONNECTIONS: usize = 10_000;
    const MESSAGES: usize = 100;
    const DEAF: usize = 100;
    let metrics = tokio::runtime::Handle::current().metrics();
    let tasks = metrics.num_alive_tasks();
    let server = server(MESSAGES);
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        clients.push(open(&server.layer).await);
    }
    // They never read, and never answer.
    let deaf = clients.split_off(CONNECTIONS - DEAF);
    let shutdown = server.shutdown.clone();
    let began = Instant::now();
    let (deadline, window) = (Duration::from_secs(25), Duration::from_secs(10));
    let draining = tokio::spawn(async move {
        let drained = shutdown.drain(deadline).spread(window).await;
        (drained, began.elapsed())
    });
    let reading: Vec<_> = clients
        .into_iter()
        .map(|client| tokio::spawn(read_all(client, MESSAGES)))
        .collect();
    let mut seconds = [0; 10];
    for read in reading {
        let (code, at) = read.await.unwrap();
        assert_eq!(code, 1001);
        seconds[(at - began).as_secs().min(9) as usize] += 1;
    }
    assert!(
        seconds.iter().all(|n| (900..1100).contains(n)),
        "{seconds:?}"
    );
    let (drained, took) = within(draining).await.unwrap();
    assert_eq!(
        (drained.closed(), drained.forced(), drained.remaining()),
        (9_900, 100, 0)
    );
    assert!(took <= deadline + Duration::from_secs(1), "{took:?}");
    let log = server.recorder.log();
    assert_eq!(log.len(), CONNECTIONS);
    let count = |line: &str| log.iter().filter(|l| *l == line).count();
    assert_eq!(count("close 1001 Shutdown clean"), CONNECTIONS - DEAF);
    assert_eq!(count("close 1001 Shutdown unclean"), DEAF);
    drop((deaf, server));
    // What hyper had spawned ends with the pipes.
    within(async {
        while metrics.num_alive_tasks() > tasks {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// A layer outside holds its 101 back, so it is tracked and not open.
#[tokio::test(start_paused = true)]
async fn s9_a_drain_counts_as_many_connections_as_there_are_calls_of_on_close() {
    let (stack, recorder) = Stack::recorded();
    let inner = stack.layer.layer(plain());
    let held_back = tower::service_fn(move |request| {
        let response = inner.clone().call(request);
        async move {
            let response = response.await;
            tokio::time::sleep(Duration::from_secs(3600)).await;
            response
        }
    });
    let mut limbo = http1(held_back);
    limbo.send(HANDSHAKE.as_bytes()).await;
    let mut client = stack.open().await;
    while stack.shutdown.connections() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let drain = stack.shutdown.drain(Duration::from_secs(2));
    let drain = tokio::spawn(drain);
    assert_eq!(client.frame().await.unwrap().first, 0x88);
    client.send(&close(1001, "")).await;
    drop(client);
    let drained = drain.await.unwrap();
    let got = (drained.closed(), drained.forced(), drained.unopened());
    assert_eq!(got, (1, 0, 1));
    assert_lines(&recorder.log(), &["open", "close 1001 Shutdown clean"]);
}

#[tokio::test(start_paused = true)]
async fn a13_a_restart_is_told_as_1012() {
    let server = server(3);
    let client = open(&server.layer).await;
    let reading = tokio::spawn(read_all(client, 3));
    let drained = server.shutdown.drain(Duration::from_secs(10)).restarting();
    assert_eq!(drained.await.closed(), 1);
    assert_eq!(reading.await.unwrap().0, 1012);
    assert_eq!(server.recorder.log(), ["close 1012 Shutdown clean"]);
}

#[tokio::test(start_paused = true)]
async fn a8_a13_what_a_sender_was_told_ok_for_arrives_even_while_the_server_goes_down() {
    let mut server = server(0);
    let mut client = open(&server.layer).await;
    let sender = server.senders.recv().await.unwrap();
    let sending = tokio::spawn(send_numbers(sender, async || {}));
    let shutdown = server.shutdown.clone();
    let mut draining = None;
    let received = numbers(&mut client, |received| {
        if received == 1000 {
            let drain = shutdown.drain(Duration::from_secs(10));
            draining = Some(tokio::spawn(drain));
        }
    })
    .await;
    client.send(&close(1001, "")).await;
    assert_eq!(received, sending.await.unwrap());
    assert_eq!(draining.unwrap().await.unwrap().forced(), 0);
}

#[tokio::test(start_paused = true)]
async fn a14_at_the_deadline_callbacks_are_dropped_and_on_close_has_half_a_second() {
    #[derive(Clone)]
    struct Slow(Recorder);
    impl WebSocketHandler for Slow {
        async fn on_message(&mut self, _: &mut Connection, _: Message) -> Result {
            self.0.note("message");
            std::future::pending().await
        }
        async fn on_close(&mut self, _: &mut Connection, event: CloseEvent) -> Result {
            self.0.note(shown_close(&event));
            tokio::time::sleep(Duration::from_millis(400)).await;
            self.0.note("saved");
            std::future::pending().await
        }
    }
    let recorder = Recorder::default();
    let stack = Stack::new(Slow(recorder.clone()));
    let mut client = stack.open().await;
    client.send(&text("a")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    let drained = stack.shutdown.drain(Duration::from_secs(2)).await;
    assert_eq!((drained.forced(), drained.remaining()), (1, 0));
    let took = began.elapsed();
    assert!((2.4..=2.6).contains(&took.as_secs_f64()), "{took:?}");
    let log = recorder.log();
    assert_eq!(log, ["message", "close 1001 Shutdown unclean", "saved"]);
}

#[tokio::test(start_paused = true)]
async fn a14_a_connection_whose_response_was_not_sent_yet_does_not_outlive_the_drain() {
    // An outer layer that sits on the 101 for a minute.
    let (stack, recorder) = Stack::recorded();
    let slow = tower::layer::layer_fn(|inner| {
        tower::util::AndThen::new(inner, |response| async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok::<_, std::convert::Infallible>(response)
        })
    });
    let stack = stack.with(|layer| layer.upgrade_timeout(Duration::from_secs(90)));
    let mut client = http1(slow.layer(stack.layer.layer(plain())));
    client.send(HANDSHAKE.as_bytes()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stack.shutdown.connections(), 1);
    let drained = stack.shutdown.drain(Duration::from_secs(2)).await;
    assert_eq!((drained.unopened(), drained.remaining()), (1, 0));
    client.end().await;
    assert!(recorder.log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a15_two_drains_at_once_both_end_and_each_peer_gets_one_close_frame() {
    let server = server(5);
    let clients: Vec<_> =
        futures_util::future::join_all((0..50).map(|_| open(&server.layer))).await;
    let reading: Vec<_> = clients
        .into_iter()
        .map(|client| tokio::spawn(read_all(client, 5)))
        .collect();
    let (first, second) = tokio::join!(
        server.shutdown.drain(Duration::from_secs(20)),
        server.shutdown.drain(Duration::from_secs(10)),
    );
    assert_eq!((first.forced(), second.forced()), (0, 0));
    for read in reading {
        assert_eq!(read.await.unwrap().0, 1001);
    }
    assert_eq!(server.recorder.log().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn a13_shutdown_closes_with_1001() {
    let (stack, recorder) = Stack::recorded();
    let mut client = stack.open().await;
    let shutdown = stack.shutdown.clone();
    let draining = tokio::spawn(async move { shutdown.drain(Duration::from_secs(10)).await });
    let close_frame = client.frame().await.unwrap();
    assert_eq!(close_frame.close_code(), Some(1001));
    client.send(&close(1001, "")).await;
    client.end().await;
    drop(client);
    assert_eq!(draining.await.unwrap().forced(), 0);
    assert_eq!(
        recorder.closed().await.last().unwrap(),
        "close 1001 Shutdown clean"
    );
}

#[tokio::test(start_paused = true)]
async fn a11_a_handshake_that_meets_a_shutdown_is_refused() {
    #[derive(Clone)]
    struct Slow;
    impl WebSocketHandler for Slow {
        async fn on_upgrade(&mut self, _: &mut Handshake) -> std::result::Result<(), Rejection> {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok(())
        }
        async fn on_open(&mut self, _: &mut Connection) -> Result {
            panic!("opened by a server that is shut down");
        }
    }
    let stack = Stack::new(Slow);
    let mut during = stack.connect();
    during.send(HANDSHAKE.as_bytes()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let drained = stack.shutdown.drain(Duration::from_secs(10)).await;
    assert_eq!(drained.forced(), 0);
    let mut after = stack.connect();
    after.send(HANDSHAKE.as_bytes()).await;
    for client in [&mut during, &mut after] {
        let head = client.head().await;
        assert_eq!(head.status(), 503);
        assert_eq!(head.header("connection"), Some("close"));
        client.end().await;
    }
}

/// The response is under way, and the pipe is full; then the drain begins.
#[tokio::test(start_paused = true)]
async fn a11_a_connection_whose_101_is_still_being_written_is_told_too() {
    let (stack, recorder) = Stack::recorded();
    let (client, server) = tokio::io::duplex(64);
    tokio::spawn(serve_http1(server, stack.layer.layer(plain())));
    let mut client = Client::new(client);
    client.send(HANDSHAKE.as_bytes()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(stack.shutdown.connections(), 1);
    assert!(recorder.log().is_empty());
    let shutdown = stack.shutdown.clone();
    let draining = tokio::spawn(async move { shutdown.drain(Duration::from_secs(10)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(client.head().await.status(), 101);
    let close_frame = client.frame().await.expect("a Close frame");
    assert_eq!(close_frame.close_code(), Some(1001));
    client.send(&close(1001, "")).await;
    client.end().await;
    assert_eq!(draining.await.unwrap().forced(), 0);
    assert_eq!(
        recorder.closed().await.last().unwrap(),
        "close 1001 Shutdown clean"
    );
}

#[tokio::test(start_paused = true)]
async fn a_drain_begins_at_its_signal_and_tells_the_server_that_it_has() {
    let server = server(0);
    let mut client = open(&server.layer).await;
    let (ring, bell) = tokio::sync::oneshot::channel::<u8>();
    let drain = server.shutdown.drain_on(bell, Duration::from_secs(10));
    let drain = tokio::spawn(drain.restarting().spread(Duration::ZERO));
    let started = [
        tokio::spawn(server.shutdown.started()),
        tokio::spawn(server.shutdown.started()),
    ];
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!server.shutdown.is_draining());
    assert!(!started[0].is_finished() && !drain.is_finished());
    ring.send(1).unwrap();
    for started in started {
        within(started).await.unwrap();
    }
    assert!(server.shutdown.is_draining());
    // Whoever asks later need not wait.
    within(server.shutdown.started()).await;
    while client.frame().await.unwrap().first != 0x88 {}
    client.send(&close(1012, "")).await;
    assert_eq!(within(drain).await.unwrap().closed(), 1);
    assert_eq!(server.recorder.log(), ["close 1012 Shutdown clean"]);
}
