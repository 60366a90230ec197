//! What the log says: spans, refusals, wire events, and servers that forgot something.
//!
//! A process of its own: in one with threads that have no subscriber, tracing now and then takes
//! an event for one that nobody reads. And each test is a process of its own too, by [`elsewhere`]:
//! the limits of lines belong to the process, and one test would use up what another counts.

#![allow(clippy::unwrap_used, unreachable_pub, missing_debug_implementations)]

#[path = "../support/elsewhere.rs"]
mod elsewhere;
#[allow(dead_code)]
#[path = "../support/mod.rs"]
mod support;

use std::fmt::{self, Debug};
use std::io;
use std::sync::{Arc, Mutex, Once};

use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tower::Layer;
use tower_websocket::{
    Connection, Handshake, Message, Rejection, Result, TrustedProxies, WebSocketHandler,
    WebSocketLayer,
};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, Interest};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::elsewhere::elsewhere;
use crate::support::*;

/// The subscriber of threads that have no other: it reads nothing, and has tracing ask each time.
struct Nobody;

impl Subscriber for Nobody {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn nobody() {
    static FIRST: Once = Once::new();
    FIRST.call_once(|| tracing::subscriber::set_global_default(Nobody).unwrap());
}

/// Everything that is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn begin(level: LevelFilter) -> (Self, DefaultGuard) {
        nobody();
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn lines_with(&self, word: &str) -> Vec<String> {
        let text = self.text();
        let lines = text.lines().filter(|line| line.contains(word));
        lines.map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn r12_a_connection_has_a_span_and_its_messages_are_shortened_and_escaped() {
    if elsewhere("r12_a_connection_has_a_span_and_its_messages_are_shortened_and_escaped") {
        return;
    }
    let (log, _guard) = Log::begin(LevelFilter::DEBUG);
    let (stack, recorder) = Stack::recorded();
    let stack = stack.with(|layer| layer.debug(true).protocols(["chat"]));
    let mut client = stack.connect();
    let handshake = HANDSHAKE
        .replace("/ws", "/ws/room")
        .replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n");
    client.send(handshake.as_bytes()).await;
    assert_eq!(client.head().await.status(), 101);
    let nasty = format!("line\r\nERROR forged \x1b[31m{}", "x".repeat(5000));
    client.send(&text(&nasty)).await;
    client.expect(0x81, nasty.as_bytes()).await;
    client.send(&close(1000, "")).await;
    client.expect_close(Some(1000)).await;
    drop(client);
    recorder.closed().await;

    let opened = &log.lines_with(" open")[0];
    for field in [
        "websocket{",
        "mount=\"/ws\"",
        "url.path=\"/ws/room\"",
        "HTTP/1.1",
        "protocol=\"chat\"",
    ] {
        assert!(opened.contains(field), "no {field} in {opened}");
    }
    assert_eq!(
        log.lines_with("closed code=1000").len(),
        1,
        "{}",
        log.text()
    );
    let wire = log.lines_with("tower_websocket::wire");
    assert!(
        wire.iter().any(|line| line.contains("received")),
        "{wire:?}"
    );
    assert!(wire.iter().all(|line| line.len() < 1000), "{wire:?}");
    let text = log.text();
    assert!(!text.contains('\x1b') && !text.lines().any(|l| l.starts_with("ERROR")));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_logged_with_its_reason() {
    if elsewhere("a_refusal_is_logged_with_its_reason") {
        return;
    }
    let (log, _guard) = Log::begin(LevelFilter::DEBUG);
    let (stack, _) = Stack::recorded();
    let mut client = stack.connect();
    let foreign = "Upgrade: websocket\r\nOrigin: https://evil.example";
    client
        .send(HANDSHAKE.replace("Upgrade: websocket", foreign).as_bytes())
        .await;
    assert_eq!(client.response().await.status(), 403);
    let lines = log.lines_with("refused a WebSocket handshake");
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains("403"), "{lines:?}");
}

/// What goes wrong in deployments is said at WARN, once in 10 s, with what to write.
#[tokio::test(start_paused = true)]
async fn a_foreign_origin_and_an_upgrade_that_a_proxy_dropped_name_the_remedy_in_one_line() {
    if elsewhere("a_foreign_origin_and_an_upgrade_that_a_proxy_dropped_name_the_remedy_in_one_line")
    {
        return;
    }
    let (log, _guard) = Log::begin(LevelFilter::INFO);
    let (stack, _) = Stack::recorded();
    let foreign = "Upgrade: websocket\r\nOrigin: http://localhost:5173";
    let foreign = HANDSHAKE.replace("Upgrade: websocket", foreign);
    // nginx with its defaults: HTTP/1.0, and no field that belongs to a connection.
    let dropped = HANDSHAKE.replace(
        "Upgrade: websocket\r\nConnection: Upgrade\r\n",
        "Connection: close\r\n",
    );
    for (request, status) in [(foreign, 403), (dropped, 200)] {
        for _ in 0..100 {
            let mut client = stack.connect();
            client.send(request.as_bytes()).await;
            assert_eq!(client.response().await.status(), status);
        }
    }
    let lines = log.lines_with("WARN");
    assert_eq!(lines.len(), 2, "{}", log.text());
    for part in [
        "403",
        "\"http://localhost:5173\"",
        "\"localhost\"",
        "$http_host",
        ".origins([",
    ] {
        assert!(lines[0].contains(part), "no {part} in {}", lines[0]);
    }
    for part in ["Sec-WebSocket-Key", "proxy_http_version 1.1", "/ws"] {
        assert!(lines[1].contains(part), "no {part} in {}", lines[1]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_not_served_names_the_remedy_in_one_line() {
    if elsewhere("a_host_that_is_not_served_names_the_remedy_in_one_line") {
        return;
    }
    let (log, _guard) = Log::begin(LevelFilter::INFO);
    let (stack, _) = Stack::recorded();
    let stack = stack.with(|layer| layer.allowed_hosts(["example.com"]));
    for _ in 0..10 {
        let mut client = stack.connect();
        client.send(HANDSHAKE.as_bytes()).await;
        assert_eq!(client.response().await.status(), 421);
    }
    let lines = log.lines_with("WARN");
    assert_eq!(lines.len(), 1, "{}", log.text());
    assert!(lines[0].contains("\"localhost\"") && lines[0].contains("allowed_hosts"));
}

#[tokio::test]
async fn a_mount_that_is_a_pattern_is_an_error_when_it_is_made_and_when_it_is_asked_for() {
    if elsewhere("a_mount_that_is_a_pattern_is_an_error_when_it_is_made_and_when_it_is_asked_for") {
        return;
    }
    let (log, _guard) = Log::begin(LevelFilter::INFO);
    let layer = WebSocketLayer::new("/ws/{id}", Recorder::default());
    let lines = log.lines_with("ERROR");
    assert_eq!(lines.len(), 1);
    for part in ["\"/ws/{id}\"", "into_service()", "WebSocketOptions"] {
        assert!(lines[0].contains(part), "no {part} in {}", lines[0]);
    }
    for _ in 0..10 {
        let mut client = http1(layer.layer(plain()));
        let handshake = HANDSHAKE.replace("/ws", "/ws/7");
        client.send(handshake.as_bytes()).await;
        assert_eq!(client.response().await.status(), 500);
    }
    assert_eq!(log.lines_with("WARN").len(), 1, "{}", log.text());
}

/// Closes because of what the peer sends, or fails because of it.
#[derive(Clone)]
struct Strict;

impl WebSocketHandler for Strict {
    async fn on_message(&mut self, _: &mut Connection, message: Message) -> Result {
        if message.as_text() == Some("fail") {
            return Err("as told".into());
        }
        message.parse_json::<u8>()?;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn r12_a_hundred_bad_messages_are_not_a_hundred_errors_in_the_log() {
    if elsewhere("r12_a_hundred_bad_messages_are_not_a_hundred_errors_in_the_log") {
        return;
    }
    let (log, _guard) = Log::begin(LevelFilter::DEBUG);
    let stack = Stack::new(Strict);
    for (message, code) in [("\"secret\"", 1007), ("fail", 1011)] {
        for _ in 0..100 {
            let mut client = stack.open().await;
            client.send(&text(message)).await;
            let frame = client.frame().await.unwrap();
            assert_eq!(frame.close_code(), Some(code));
            client.send(&close(code, "")).await;
            client.end().await;
        }
        left(&stack.shutdown, 0).await;
    }
    // What the peer did wrong is none; of the application's failures ten stand out.
    assert_eq!(log.lines_with("ERROR").len(), 10);
    assert_eq!(log.lines_with("on_message returned an error").len(), 200);
    assert_eq!(log.lines_with("which closes the connection").len(), 100);
    assert!(log.lines_with("secret").is_empty());
}

/// Panics before it decides.
#[derive(Clone)]
struct Shaky;

impl WebSocketHandler for Shaky {
    async fn on_upgrade(&mut self, _: &mut Handshake) -> Result<(), Rejection> {
        std::panic::panic_any("as told");
    }
}

#[tokio::test(start_paused = true)]
async fn r12_a_hundred_panics_of_on_upgrade_are_not_a_hundred_errors_in_the_log() {
    if elsewhere("r12_a_hundred_panics_of_on_upgrade_are_not_a_hundred_errors_in_the_log") {
        return;
    }
    let (log, _guard) = Log::begin(LevelFilter::DEBUG);
    let stack = Stack::new(Shaky);
    for _ in 0..100 {
        let mut client = stack.connect();
        client.send(HANDSHAKE.as_bytes()).await;
        assert_eq!(client.response().await.status(), 500);
    }
    assert_eq!(log.lines_with("ERROR").len(), 10);
    assert_eq!(log.lines_with("on_upgrade panicked: as told").len(), 100);
}

/// And only one, however many clients come to a server that is not right.
#[tokio::test(start_paused = true)]
async fn r12_a_server_without_with_upgrades_is_told_so_in_one_line() {
    if elsewhere("r12_a_server_without_with_upgrades_is_told_so_in_one_line") {
        return;
    }
    let (log, _guard) = Log::begin(LevelFilter::WARN);
    let (stack, recorder) = Stack::recorded();
    for _ in 0..50 {
        let (client, server) = tokio::io::duplex(1 << 16);
        let service = TowerToHyperService::new(stack.layer.clone().layer(plain()));
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(server), service)
                .await;
        });
        let mut client = Client::new(client);
        client.send(HANDSHAKE.as_bytes()).await;
        client.end().await;
    }
    left(&stack.shutdown, 0).await;
    assert_eq!(log.text().lines().count(), 1, "{}", log.text());
    assert_eq!(log.lines_with("with_upgrades").len(), 1, "{}", log.text());
    assert!(recorder.log().is_empty());
}

/// An identifier with a slash in it: the application is not asked, and somebody has to say so.
#[tokio::test(start_paused = true)]
async fn p8_a_handshake_whose_path_can_be_read_in_two_ways_is_named_in_one_line() {
    if elsewhere("p8_a_handshake_whose_path_can_be_read_in_two_ways_is_named_in_one_line") {
        return;
    }
    let (log, _guard) = Log::begin(LevelFilter::WARN);
    let (stack, recorder) = Stack::recorded();
    for _ in 0..5 {
        for path in ["/ws/a%2Fb%1b", "/ws/../x"] {
            let mut client = stack.connect();
            client
                .send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
                .await;
            client.response().await;
            client.send(HANDSHAKE.replace("/ws", path).as_bytes()).await;
            assert_eq!(client.response().await.status(), 200);
        }
    }
    assert_eq!(log.text().lines().count(), 1, "{}", log.text());
    assert_eq!(
        log.lines_with("\"/ws/a%2Fb%1b\"").len(),
        1,
        "{}",
        log.text()
    );
    assert!(recorder.log().is_empty());
}

/// Every value in the spans and events of this crate, at every level, as the crate hands it over:
/// subscribers escape some of it, each in its own way.
#[derive(Clone, Default)]
struct Values(Arc<Mutex<Vec<(&'static str, String)>>>);

impl Values {
    fn begin() -> (Self, DefaultGuard) {
        nobody();
        let values = Self::default();
        let guard = tracing::subscriber::set_default(values.clone());
        (values, guard)
    }

    fn of(&self, name: &str) -> Vec<String> {
        let values = self.0.lock().unwrap();
        let named = values.iter().filter(|(field, _)| *field == name);
        named.map(|(_, value)| value.clone()).collect()
    }
}

impl Visit for Values {
    fn record_str(&mut self, field: &Field, value: &str) {
        let value = (field.name(), value.to_owned());
        self.0.lock().unwrap().push(value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_str(field, &value.to_string());
    }
}

impl Subscriber for Values {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("tower_websocket")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut self.clone());
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Whether a character moves a terminal, turns a line around or begins another one.
fn is_nasty(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
}

/// Fails in the way that the peer asks for, and quotes the peer wherever it can.
#[derive(Clone)]
struct Parrot;

/// An error that says what the peer said.
#[derive(Debug)]
struct Quoting(String);

impl fmt::Display for Quoting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no such command: {}", self.0)
    }
}

impl std::error::Error for Quoting {}

impl WebSocketHandler for Parrot {
    async fn on_upgrade(
        &mut self,
        handshake: &mut Handshake,
    ) -> std::result::Result<(), Rejection> {
        let request = handshake.request();
        let query = request.uri.query().unwrap_or_default().to_owned();
        assert!(!query.starts_with("panic"), "{query}");
        if query.starts_with("refuse") {
            return Err(Rejection::new(http::StatusCode::FORBIDDEN, query));
        }
        let offered = handshake.protocols().next().map(str::to_owned);
        if let Some(protocol) = offered {
            handshake.select_protocol(&protocol);
        }
        Ok(())
    }

    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        let text = message.as_text().unwrap_or_default().to_owned();
        conn.send(message).await?;
        match text.get(..5) {
            Some("panic") => panic!("{text}"),
            Some("error") => Err(Quoting(text).into()),
            Some("close") => {
                let reason: String = text.chars().take(30).collect();
                Ok(conn.close(4000.into(), &reason)?)
            }
            _ => Ok(()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s5_whatever_a_peer_sends_no_control_character_of_it_and_no_long_text_is_logged() {
    if elsewhere("s5_whatever_a_peer_sends_no_control_character_of_it_and_no_long_text_is_logged") {
        return;
    }
    /// Twice `logging::MAX_TEXT`, for an origin beside its host, and the words around them.
    const MOST: usize = 2 * 400 + 300;
    let forged = "\r\nERROR forged \x1b[31m\u{9b}31m\u{202e}desrever\u{2028}";
    let nasty = forged.to_owned() + &"x".repeat(2000);
    // What a header and a target may carry.
    let high = "\u{9b}31m\u{202e}\u{2028}".to_owned() + &"x".repeat(2000);
    let (values, _guard) = Values::begin();
    let stack = Stack::new(Parrot).with(|layer| {
        layer
            .debug(true)
            .peer_addr(|_| Some(([127, 0, 0, 1], 1).into()))
            .trusted_proxies(TrustedProxies::x_forwarded_for(["127.0.0.1"]))
    });
    let (target, long) = (format!("/ws/{high}?{high}"), "x".repeat(2000));

    // Handshakes, most of them refused.
    for (from, to) in [
        ("/ws", target.clone()),
        ("/ws", format!("/ws/{high}?panic{high}")),
        ("/ws", format!("/ws/{high}?refuse{high}")),
        ("Host: localhost", format!("Host: {high}")),
        ("Upgrade: w", format!("Origin: http://{high}\r\nUpgrade: w")),
        (
            "Upgrade: w",
            format!("Sec-WebSocket-Protocol: {high}\r\nUpgrade: w"),
        ),
        (
            "Upgrade: w",
            format!("Sec-WebSocket-Extensions: {high}\r\nUpgrade: w"),
        ),
        (
            "Upgrade: w",
            format!("X-Forwarded-For: {high}\r\nUpgrade: w"),
        ),
        (
            "Upgrade: w",
            format!("User-Agent: {high}\r\nCookie: {high}\r\nUpgrade: w"),
        ),
        ("dGhlIHNhbXBsZSBub25jZQ==", high.clone()),
        ("Version: 13", format!("Version: {high}")),
        ("Upgrade: websocket", format!("Upgrade: websocket, {high}")),
        ("GET", format!("G{long}")),
    ] {
        let mut client = stack.connect();
        let handshake = HANDSHAKE.replacen(from, &to, 1);
        client.send(handshake.as_bytes()).await;
        client.head().await;
    }
    left(&stack.shutdown, 0).await;

    // Connections, each of which ends in another way.
    let protocol = format!("Sec-WebSocket-Protocol: {long}\r\nUpgrade: w");
    let handshake = HANDSHAKE
        .replacen("/ws", &target, 1)
        .replacen("Upgrade: w", &protocol, 1);
    let reason = forged.to_owned() + &"y".repeat(60);
    let mut ended = values.of("cause").len();
    for last in [
        close(4000, &reason),
        text(&format!("panic{nasty}")),
        text(&format!("error{nasty}")),
        text(&format!("close{nasty}")),
        frame(0x81, b"\xff\n\x1b["),
        // Not even a frame.
        forged.as_bytes().to_vec(),
    ] {
        let mut client = stack.connect();
        client.send(handshake.as_bytes()).await;
        assert_eq!(client.head().await.status(), 101);
        client.send(&text(&nasty)).await;
        client.send(&frame(0x82, nasty.as_bytes())).await;
        client.send(&frame(0x89, &nasty.as_bytes()[..125])).await;
        client.send(&frame(0x8A, &nasty.as_bytes()[..125])).await;
        client.try_send(&last).await;
        client.end().await;
        drop(client);
        left(&stack.shutdown, 0).await;
        ended += 1;
        assert_eq!(values.of("cause").len(), ended);
    }

    // The stream style.
    let layer = WebSocketLayer::stream("/ws", |_, request| async move {
        Err(Quoting(request.uri.to_string()).into())
    });
    let mut client = http1(layer.layer(plain()));
    client.send(handshake.as_bytes()).await;
    assert_eq!(client.head().await.status(), 101);
    client.end().await;

    for (field, value) in &*values.0.lock().unwrap() {
        assert!(!value.contains(is_nasty), "{field}: {value:?}");
        let len = value.len();
        assert!(len <= MOST, "{field} has {len} bytes: {value}");
    }
    // All of it was there.
    for (field, seen) in [
        ("url.path", "/ws/\\u{9b}31m"),
        ("protocol", "xxx"),
        ("reason", "\\r\\nERROR forged \\x1b[31m"),
        ("source", "no such command: error\\r\\n"),
        ("source", "no such command: /ws/\\u{9b}"),
        ("message", "on_message panicked: panic\\r\\n"),
        ("message", "on_upgrade panicked: panic\\u{9b}"),
        ("message", "received Text("),
        ("message", "received Ping"),
        ("message", "send Text("),
        ("refused", "403"),
    ] {
        let found = values.of(field);
        let is_there = found.iter().any(|value| value.contains(seen));
        assert!(is_there, "{field} {seen}: {found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn p1_p2_a_101_that_cannot_open_names_the_guard_in_one_line() {
    if elsewhere("p1_p2_a_101_that_cannot_open_names_the_guard_in_one_line") {
        return;
    }
    let (log, _guard) = Log::begin(LevelFilter::WARN);
    let (stack, recorder) = Stack::recorded();
    let wrap = tower_http::decompression::DecompressionLayer::new();
    for _ in 0..50 {
        let mut client = http1(wrap.clone().layer(stack.layer.clone().layer(plain())));
        let handshake = HANDSHAKE.replace("Connection: Upgrade", "Connection: close, Upgrade");
        client.send(handshake.as_bytes()).await;
        assert_eq!(client.head().await.status(), 101);
        client.end().await;
    }
    left(&stack.shutdown, 0).await;
    let lines = log.lines_with(".layer(UpgradeGuardLayer::new())");
    assert_eq!(lines.len(), 1, "{}", log.text());
    assert!(lines[0].contains("Connection: close") && lines[0].contains("wraps or reads"));
    assert_eq!(log.text().lines().count(), 1, "{}", log.text());
    assert!(recorder.log().is_empty());
}

/// Sends whenever a message that is sent is logged, as a subscriber does that streams its log to an
/// operator.
#[derive(Clone)]
struct Resending(Arc<Mutex<Option<tower_websocket::Sender>>>);

impl Subscriber for Resending {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "tower_websocket::wire"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        // Once: what it sends is logged too.
        let sender = self.0.lock().unwrap().take();
        if let Some(sender) = sender {
            sender.try_send("from the log").unwrap();
        }
    }

    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn s9_whoever_reads_the_log_may_send() {
    if elsewhere("s9_whoever_reads_the_log_may_send") {
        return;
    }
    #[derive(Clone)]
    struct Sends(Arc<Mutex<Option<tower_websocket::Sender>>>);
    impl tower_websocket::WebSocketHandler for Sends {
        async fn on_open(
            &mut self,
            conn: &mut tower_websocket::Connection,
        ) -> tower_websocket::Result {
            *self.0.lock().unwrap() = Some(conn.sender());
            conn.send("from the application").await?;
            Ok(())
        }
    }
    let (done, ended) = std::sync::mpsc::channel();
    // A lock that is held while it logs would never be free.
    std::thread::spawn(move || {
        nobody();
        let sender = Arc::new(Mutex::new(None));
        let _guard = tracing::subscriber::set_default(Resending(sender.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let stack = Stack::new(Sends(sender)).with(|layer| layer.debug(true));
            let mut client = stack.open().await;
            client.expect(0x81, b"from the application").await;
            client.expect(0x81, b"from the log").await;
        });
        done.send(()).unwrap();
    });
    ended
        .recv_timeout(std::time::Duration::from_secs(20))
        .expect("the thread does not hang");
}

#[tokio::test(start_paused = true)]
async fn r1_options_that_need_an_address_that_nobody_knows_say_once_what_to_write() {
    if elsewhere("r1_options_that_need_an_address_that_nobody_knows_say_once_what_to_write") {
        return;
    }
    let with_connect_info = "serve `router.into_make_service_with_connect_info::<SocketAddr>()`";
    let (per_ip, proxies) = ("`max_connections_per_ip`", "`trusted_proxies`");
    let trusted = || TrustedProxies::x_forwarded_for(["10.0.0.0/8"]);
    type Change = Box<dyn Fn(WebSocketLayer<Recorder>) -> WebSocketLayer<Recorder>>;
    let cases: [(Change, &[&str]); 5] = [
        (Box::new(|layer| layer.max_connections(9)), &[]),
        (
            Box::new(|layer| layer.max_connections_per_ip(9)),
            &[per_ip, with_connect_info],
        ),
        (
            Box::new(move |layer| layer.trusted_proxies(trusted())),
            &[proxies, with_connect_info],
        ),
        (
            Box::new(move |layer| layer.max_connections_per_ip(9).trusted_proxies(trusted())),
            &[per_ip, proxies, with_connect_info],
        ),
        (
            Box::new(|layer| layer.peer_addr(|_| None).max_connections_per_ip(9)),
            &[per_ip, "the function given to `peer_addr`"],
        ),
    ];
    for (change, words) in cases {
        let (log, _guard) = Log::begin(LevelFilter::ERROR);
        let stack = Stack::recorded().0.with(change);
        // axum makes a service of the layer for each route.
        for layer in [stack.layer.clone(), stack.layer.clone().debug(true)] {
            for _ in 0..3 {
                let mut client = http1(layer.layer(plain()));
                client.open("/ws").await;
            }
        }
        let lines = log.lines_with("cannot work");
        assert_eq!(lines.len(), usize::from(!words.is_empty()), "{lines:?}");
        for word in words {
            assert!(
                lines[0].contains("ERROR") && lines[0].contains(word),
                "{lines:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn h27_the_span_names_the_request_as_it_came_whatever_on_upgrade_does_to_it() {
    if elsewhere("h27_the_span_names_the_request_as_it_came_whatever_on_upgrade_does_to_it") {
        return;
    }
    let (log, _guard) = Log::begin(LevelFilter::DEBUG);
    let stack = Stack::recorded().0.with(|layer| {
        layer.on_upgrade(async |handshake: &mut Handshake| {
            handshake.request_mut().version = http::Version::HTTP_2;
            handshake.request_mut().uri = http::Uri::from_static("/elsewhere");
            Ok(())
        })
    });
    let mut client = stack.connect();
    let request = HANDSHAKE.replace("/ws", "/ws/room?q");
    client.send(request.as_bytes()).await;
    assert_eq!(client.head().await.status(), 101);
    client.send(&close(1000, "")).await;
    client.expect_close(Some(1000)).await;
    let lines = log.lines_with("closed");
    let named =
        |line: &String| line.contains("path=\"/ws/room\"") && line.contains("http=HTTP/1.1");
    assert!(
        !lines.is_empty() && lines.iter().all(named),
        "{}",
        log.text()
    );
}

/// Waits in `on_message`, and longer in `on_open`.
#[derive(Clone)]
struct Slow;

impl WebSocketHandler for Slow {
    async fn on_open(&mut self, _: &mut Connection) -> Result {
        tokio::time::sleep(std::time::Duration::from_secs(9)).await;
        Ok(())
    }

    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        Ok(conn.send(message).await?)
    }
}

#[tokio::test(start_paused = true)]
async fn r12_a_slow_callback_is_named_once_in_the_span_of_its_connection() {
    if elsewhere("r12_a_slow_callback_is_named_once_in_the_span_of_its_connection") {
        return;
    }
    let (log, _guard) = Log::begin(LevelFilter::INFO);
    let threshold = std::time::Duration::from_secs(1);
    let stack = Stack::new(Slow).with(|layer| layer.warn_slow_callbacks(threshold));
    let mut client = stack.open().await;
    for _ in 0..3 {
        client.send(&text("x")).await;
        client.expect(0x81, b"x").await;
    }
    let lines = log.lines_with(" took ");
    assert_eq!(lines.len(), 1, "{}", log.text());
    let expected = "on_message took 2s, ";
    assert!(
        lines[0].contains(" WARN ") && lines[0].contains(expected),
        "{}",
        lines[0]
    );
    assert!(lines[0].contains("websocket{id="), "{}", lines[0]);

    // By default nothing is.
    let stack = Stack::new(Slow);
    let mut client = stack.open().await;
    client.send(&text("x")).await;
    client.expect(0x81, b"x").await;
    assert_eq!(log.lines_with(" took ").len(), 1);
}

/// What a connection that is opened, says something and is drained leaves in the log.
async fn a_life(level: LevelFilter) -> String {
    let (log, _guard) = Log::begin(level);
    let (stack, recorder) = Stack::recorded();
    let mut client = stack.connect();
    client
        .send(HANDSHAKE.replace("/ws", "/ws/room").as_bytes())
        .await;
    assert_eq!(client.head().await.status(), 101);
    client.send(&text("hello")).await;
    client.expect(0x81, b"hello").await;
    let drain = tokio::spawn(stack.shutdown.drain(std::time::Duration::from_secs(20)));
    let frame = client.frame().await.unwrap();
    assert_eq!(frame.close_code(), Some(1001));
    client.send(&close(1001, "")).await;
    client.end().await;
    drop(client);
    recorder.closed().await;
    drain.await.unwrap();
    let text = log.text();
    // Behind the time.
    let lines = text
        .lines()
        .map(|line| line.split_once(' ').unwrap().1.trim_start());
    lines.collect::<Vec<_>>().join("\n")
}

fn the_guide_shows(lines: &str) {
    let guide = include_str!("../../src/guide/operating.md");
    let shown = format!("```text\n{lines}\n```");
    assert!(guide.contains(&shown), "the guide is to show:\n{shown}");
}

#[tokio::test(start_paused = true)]
async fn r12_the_guide_shows_what_stands_in_the_log_at_info() {
    if elsewhere("r12_the_guide_shows_what_stands_in_the_log_at_info") {
        return;
    }
    the_guide_shows(&a_life(LevelFilter::INFO).await);
}

#[tokio::test(start_paused = true)]
async fn r12_the_guide_shows_what_stands_in_the_log_at_debug() {
    if elsewhere("r12_the_guide_shows_what_stands_in_the_log_at_debug") {
        return;
    }
    the_guide_shows(&a_life(LevelFilter::DEBUG).await);
}

#[tokio::test(start_paused = true)]
async fn r12_the_guide_shows_what_stands_in_the_log_at_trace() {
    if elsewhere("r12_the_guide_shows_what_stands_in_the_log_at_trace") {
        return;
    }
    the_guide_shows(&a_life(LevelFilter::TRACE).await);
}

/// Every span with its fields, the name of the span that it follows from, and whether it is closed.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<One>>>);

struct One {
    id: Id,
    name: &'static str,
    fields: Values,
    follows: Option<&'static str>,
    is_closed: bool,
}

impl Spans {
    fn with(&self, id: &Id, change: impl FnOnce(&mut One)) {
        let mut spans = self.0.lock().unwrap();
        // Ids are used again.
        if let Some(one) = spans.iter_mut().rfind(|one| one.id == *id) {
            change(one);
        }
    }

    /// What the last one of that name has, as `field=value` where `field` is one of `names`.
    fn fields(&self, name: &str, names: &[&str]) -> Vec<String> {
        let spans = self.0.lock().unwrap();
        let one = spans.iter().rfind(|one| one.name == name).unwrap();
        let mut fields = Vec::new();
        for name in names {
            let values = one.fields.of(name).into_iter();
            fields.extend(values.map(|value| format!("{name}={value}")));
        }
        fields
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let mut fields = Values::default();
        attributes.record(&mut fields);
        self.0.lock().unwrap().push(One {
            id: id.clone(),
            name: attributes.metadata().name(),
            fields,
            follows: None,
            is_closed: false,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        self.with(id, |one| values.record(&mut one.fields));
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let name = context.span(follows).unwrap().name();
        self.with(id, |one| one.follows = Some(name));
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.with(&id, |one| one.is_closed = true);
    }
}

#[tokio::test(start_paused = true)]
async fn r12_the_span_of_a_connection_has_the_fields_of_the_guide_and_follows_its_handshake() {
    if elsewhere(
        "r12_the_span_of_a_connection_has_the_fields_of_the_guide_and_follows_its_handshake",
    ) {
        return;
    }
    nobody();
    let spans = Spans::default();
    let subscriber = tracing_subscriber::registry().with(spans.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    let layer = WebSocketLayer::from_fn("/ws", |mut conn: Connection| async move {
        match conn.recv().await?.as_ref().and_then(Message::as_text) {
            Some("fail") => Err("as asked".into()),
            _ => Ok(()),
        }
    });
    let proxies = TrustedProxies::x_forwarded_for(["10.0.0.0/8"]);
    let layer = layer.trusted_proxies(proxies).protocols(["chat"]);
    let shutdown = layer.connections().shutdown().clone();

    let fixed = [
        "mount",
        "url.path",
        "client.address",
        "client.port",
        "network.peer.address",
        "network.peer.port",
        "http",
        "protocol",
    ];
    let recorded = [
        "websocket.close.code",
        "websocket.close.cause",
        "error.type",
        "otel.status_code",
    ];
    type Case = (
        &'static str,
        Vec<u8>,
        &'static [&'static str],
        &'static [&'static str],
    );
    let cases: [Case; 3] = [
        (
            "203.0.113.7:5000",
            close(4000, ""),
            &["client.address=203.0.113.7", "client.port=5000"],
            &["websocket.close.code=4000", "websocket.close.cause=peer"],
        ),
        (
            "10.0.0.1:80",
            frame(0x83, b"not of this world"),
            &[
                "client.address=198.51.100.9",
                "network.peer.address=10.0.0.1",
                "network.peer.port=80",
            ],
            &[
                "websocket.close.code=1002",
                "websocket.close.cause=violation",
            ],
        ),
        (
            "203.0.113.7:5000",
            text("fail"),
            &["client.address=203.0.113.7", "client.port=5000"],
            &[
                "websocket.close.code=1011",
                "websocket.close.cause=application_failed",
                "error.type=application_failed",
                "otel.status_code=ERROR",
            ],
        ),
    ];
    for (peer, last, addresses, end) in cases {
        let peer: std::net::SocketAddr = peer.parse().unwrap();
        let layer = layer.clone().peer_addr(move |_| Some(peer));
        let trace = tower_http::trace::TraceLayer::new_for_http();
        let mut client = http1(trace.layer(layer.layer(plain())));
        let handshake = HANDSHAKE.replace("/ws", "/ws/room").replace(
            "\r\n\r\n",
            "\r\nSec-WebSocket-Protocol: chat\r\nX-Forwarded-For: 198.51.100.9\r\n\r\n",
        );
        client.send(handshake.as_bytes()).await;
        assert_eq!(client.head().await.status(), 101);
        client.send(&last).await;
        client.end().await;
        drop(client);
        left(&shutdown, 0).await;

        let mut expected = vec!["mount=/ws", "url.path=/ws/room"];
        expected.extend(addresses);
        expected.extend(["http=HTTP/1.1", "protocol=chat"]);
        assert_eq!(spans.fields("websocket", &fixed), expected);
        assert_eq!(spans.fields("websocket", &recorded), *end);
        assert_eq!(spans.fields("websocket", &["id"]).len(), 1);
        let spans = spans.0.lock().unwrap();
        let span = spans.iter().rfind(|one| one.name == "websocket").unwrap();
        assert_eq!((span.follows, span.is_closed), (Some("request"), true));
    }
    let guide = include_str!("../../src/guide/operating.md");
    for name in fixed.iter().chain(&recorded) {
        assert!(guide.contains(&format!("`{name}`")), "{name}");
    }
}
