//! Behind TLS: an end that nobody signed, broken records, and keys that change too often
//! (rows N10, N11). Over pipes in memory, so that a test can cut a record in two.

use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tower::Layer;
use tower_websocket::{CloseCode, Connection, Message, Result, WebSocketHandler};

use crate::support::*;

type TlsClient = Client<TlsStream<DuplexStream>>;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

struct Identity {
    certificate: CertificateDer<'static>,
    config: Arc<ServerConfig>,
}

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let certificate = made.cert.der().clone();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    Identity {
        certificate,
        config: Arc::new(config),
    }
});

/// rustls and hyper-util's auto builder on one end of a pipe, an open WebSocket on the other.
async fn open<H: WebSocketHandler>(
    stack: &Stack<H>,
    version: &'static SupportedProtocolVersion,
) -> TlsClient {
    let (client, server) = tokio::io::duplex(16 * 1024);
    let service = TowerToHyperService::new(stack.layer.layer(plain()));
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(IDENTITY.config.clone());
        let io = TokioIo::new(acceptor.accept(server).await.unwrap());
        let _ = auto::Builder::new(TokioExecutor::new())
            .serve_connection_with_upgrades(io, service)
            .await;
    });
    let mut roots = RootCertStore::empty();
    roots.add(IDENTITY.certificate.clone()).unwrap();
    let config = ClientConfig::builder_with_protocol_versions(&[version])
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let name = "localhost".try_into().unwrap();
    let mut client = Client::new(within(connector.connect(name, client)).await.unwrap());
    say(&mut client, HANDSHAKE.as_bytes()).await;
    assert_eq!(client.head().await.status(), 101);
    client
}

/// Sends, and sees to it that rustls keeps none of it.
async fn say(client: &mut TlsClient, bytes: &[u8]) {
    client.send(bytes).await;
    within(client.io.flush()).await.unwrap();
}

/// What the end of the stream looks like: rustls says `UnexpectedEof` where a FIN came without
/// a close_notify.
async fn end_of_stream(client: &mut TlsClient) -> io::Result<usize> {
    within(client.io.read(&mut [0; 16])).await
}

/// The record that TLS makes of `bytes`; not sent.
fn record(client: &mut TlsClient, bytes: &[u8]) -> Vec<u8> {
    let (_, tls) = client.io.get_mut();
    io::Write::write_all(&mut tls.writer(), bytes).unwrap();
    let mut record = Vec::new();
    tls.write_tls(&mut record).unwrap();
    assert!(!tls.wants_write());
    record
}

/// The way past TLS.
async fn raw(client: &mut TlsClient, bytes: &[u8]) {
    within(client.io.get_mut().0.write_all(bytes))
        .await
        .unwrap();
}

async fn echoes(client: &mut TlsClient) {
    say(client, &text("are you there?")).await;
    let mut frame = client.frame().await.unwrap();
    while frame.first == 0x89 {
        frame = client.frame().await.unwrap();
    }
    assert_eq!(
        (frame.first, &frame.payload[..]),
        (0x81, &b"are you there?"[..])
    );
}

#[tokio::test(start_paused = true)]
async fn n10_a_fin_without_close_notify_is_1006_and_never_clean() {
    for version in VERSIONS {
        for part in [0, 500] {
            let (stack, recorder) = Stack::recorded();
            let mut client = open(&stack, version).await;
            echoes(&mut client).await;
            say(&mut client, &frame(0x82, &[0; 1000])[..part]).await;
            let (io, _) = client.io.into_inner();
            drop(io);
            assert_lines(
                &recorder.closed().await,
                &[
                    "open",
                    "text are you there?",
                    "close 1006 Transport unclean",
                ],
            );
            stack.is_clean().await;
        }
    }
}

/// A close_notify says that nothing is missing; that the WebSocket was closed it does not say.
#[tokio::test(start_paused = true)]
async fn n10_a_close_notify_without_a_close_frame_is_1006_and_is_answered_with_ours() {
    for version in VERSIONS {
        let (stack, recorder) = Stack::recorded();
        let mut client = open(&stack, version).await;
        client.io.shutdown().await.unwrap();
        assert_eq!(end_of_stream(&mut client).await.unwrap(), 0);
        let log = recorder.closed().await;
        assert_lines(&log, &["open", "close 1006 Transport unclean"]);
        stack.is_clean().await;
    }
}

#[tokio::test(start_paused = true)]
async fn n10_whoever_closes_our_close_notify_follows_our_close_frame() {
    #[derive(Clone)]
    struct Obedient(Recorder);
    impl WebSocketHandler for Obedient {
        async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
            match message.as_text() {
                Some("fail") => return Err("as told".into()),
                _ => conn.close(CloseCode::NORMAL_CLOSURE, "as told")?,
            }
            Ok(())
        }
        async fn on_close(
            &mut self,
            _: &mut Connection,
            event: tower_websocket::CloseEvent,
        ) -> Result {
            self.0.note(shown_close(&event));
            Ok(())
        }
    }
    for version in VERSIONS {
        for (bytes, code, log) in [
            (close(1000, ""), 1000, "close 1000 Peer clean"),
            (text("close"), 1000, "close 1000 Application unclean"),
            (text("fail"), 1011, "close 1011 ApplicationFailed unclean"),
            // No mask.
            (vec![0x81, 0x00], 1002, "close 1002 Violation unclean"),
        ] {
            let recorder = Recorder::default();
            let stack = Stack::new(Obedient(recorder.clone()));
            let mut client = open(&stack, version).await;
            say(&mut client, &bytes).await;
            let frame = client.frame().await.unwrap();
            assert_eq!(frame.first, 0x88);
            assert_eq!(frame.close_code(), Some(code));
            // To our own Close it gets no answer; the close timeout passes.
            let end = end_of_stream(&mut client).await;
            assert_eq!(end.expect("a close_notify before the FIN"), 0);
            assert_eq!(recorder.closed().await, [log]);
            stack.is_clean().await;
        }
        let (stack, _) = Stack::recorded();
        let mut client = open(&stack, version).await;
        let shutdown = stack.shutdown.clone();
        let drained = tokio::spawn(async move { shutdown.drain(Duration::from_secs(9)).await });
        assert_eq!(client.frame().await.unwrap().payload[..2], [3, 233]);
        say(&mut client, &close(1001, "")).await;
        assert_eq!(end_of_stream(&mut client).await.unwrap(), 0);
        assert_eq!(drained.await.unwrap().forced(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn n11_a_truncated_record_is_1006_at_the_fin_and_found_without_one() {
    for version in VERSIONS {
        for fin in [true, false] {
            let (stack, recorder) = Stack::recorded();
            let mut other = open(&stack, version).await;
            let mut client = open(&stack, version).await;
            let record = record(&mut client, &text("cut in two"));
            raw(&mut client, &record[..record.len() / 2]).await;
            if fin {
                drop(client.io.into_inner());
                left(&stack.shutdown, 1).await;
                assert_lines(
                    &recorder.log(),
                    &["open", "open", "close 1006 Transport unclean"],
                );
            } else {
                // Half a record is no sign of life: the heartbeat finds it. The other answers
                // its own.
                let began = tokio::time::Instant::now();
                let ping = other.frame().await.unwrap();
                assert_eq!(ping.first, 0x89);
                say(&mut other, &frame(0x8A, &ping.payload)).await;
                assert_eq!(client.frame().await.unwrap().first, 0x89);
                assert_eq!(client.frame().await.unwrap().first, 0x88);
                assert!((39..=41).contains(&began.elapsed().as_secs()));
                drop(client);
                left(&stack.shutdown, 1).await;
                let log = recorder.log();
                assert_eq!(log.len(), 4, "{log:?}");
                assert_eq!(log[3], "close 1006 Timeout unclean");
            }
            echoes(&mut other).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn n11_a_garbage_record_ends_its_connection_and_no_other() {
    let (stack, recorder) = Stack::recorded();
    let mut other = open(&stack, &TLS13).await;
    for version in VERSIONS {
        let whole = |client: &mut TlsClient| record(client, &text("flipped"));
        type Damage = fn(Vec<u8>) -> Vec<u8>;
        let damages: [(&str, Damage); 7] = [
            ("a bit of the payload", |mut bytes| {
                *bytes.last_mut().unwrap() ^= 1;
                bytes
            }),
            ("the type", |mut bytes| {
                bytes[0] = 0x63;
                bytes
            }),
            ("the version", |mut bytes| {
                bytes[1] = 9;
                bytes
            }),
            ("the length", |mut bytes| {
                bytes[3] = 0xFF;
                bytes
            }),
            ("all of it, HTTP", |_| HANDSHAKE.into()),
            ("all of it, a frame", |_| text("not encrypted")),
            ("all of it, zeros", |_| vec![0; 5000]),
        ];
        for (what, damage) in damages {
            let before = recorder.log().len();
            let mut client = open(&stack, version).await;
            let bytes = damage(whole(&mut client));
            raw(&mut client, &bytes).await;
            left(&stack.shutdown, 1).await;
            let log = recorder.log().split_off(before);
            assert_eq!(log.len(), 3, "{what}: {log:?}");
            assert_eq!(log[0], "open");
            assert!(log[1].starts_with("error "), "{what}: {log:?}");
            assert_eq!(log[2], "close 1006 Transport unclean", "{what}");
            // Freed: the pipe has ended.
            within(client.io.into_inner().0.read_to_end(&mut Vec::new()))
                .await
                .unwrap();
            echoes(&mut other).await;
        }
    }
    stack.is_clean().await;
}

/// Each update costs a derivation of keys and asks for an answer. rustls takes 32 without data
/// between them, and answers those that arrive together once.
#[tokio::test(start_paused = true)]
async fn n11_a_flood_of_key_updates_ends_its_connection_and_no_other() {
    fn update(client: &mut TlsClient, times: u32) {
        for _ in 0..times {
            client.io.get_mut().1.refresh_traffic_keys().unwrap();
        }
    }
    let (stack, recorder) = Stack::recorded();
    let mut other = open(&stack, &TLS13).await;
    let mut client = open(&stack, &TLS13).await;
    // With data between them they are allowed.
    for _ in 0..50 {
        update(&mut client, 32);
        echoes(&mut client).await;
    }
    // The peer reads no answers: none of them may pile up.
    update(&mut client, 10_000);
    let mut flood = Vec::new();
    while client.io.get_mut().1.write_tls(&mut flood).unwrap() > 0 {}
    assert!(flood.len() > 10_000 * 20);
    let (mut io, _) = client.io.into_inner();
    // The server leaves in the midst of it.
    assert!(within(io.write_all(&flood)).await.is_err());
    left(&stack.shutdown, 1).await;
    let log = recorder.log();
    assert_eq!(log.len(), 54, "{log:?}");
    assert!(log[52].starts_with("error "), "{log:?}");
    assert_eq!(log[53], "close 1006 Transport unclean");
    let mut answers = Vec::new();
    within(io.read_to_end(&mut answers)).await.unwrap();
    assert!(answers.len() < 1000, "{} bytes", answers.len());
    echoes(&mut other).await;
    stack.is_clean().await;
}
