//! What no client library would send over HTTP/2: frames by hand against hyper with the layer.
//! Rows 2.1, 2.4, 2.5, 2.10.

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower::Layer;

use crate::support::*;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_HEADERS: u8 = 4;

const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;

const CONNECT: &[(&str, &str)] = &[
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":authority", "localhost"),
    (":path", "/ws"),
    ("sec-websocket-version", "13"),
];

/// One frame of HTTP/2 (RFC 9113 §4.1).
fn h2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Header fields as literals (RFC 7541 §6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend(text.as_bytes());
        }
    }
    block
}

fn headers(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    h2_frame(HEADERS, END_HEADERS, stream, &block(fields))
}

struct Raw(DuplexStream);

impl Raw {
    /// A session of which the settings are exchanged.
    async fn open(stack: &Stack<Recorder>, extended_connect: bool) -> Self {
        let (client, server) = tokio::io::duplex(1 << 20);
        let service = stack.layer.layer(plain());
        tokio::spawn(async move {
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder.timer(TokioTimer::new());
            if extended_connect {
                builder.enable_connect_protocol();
            }
            let io = TokioIo::new(server);
            let _ = builder
                .serve_connection(io, TowerToHyperService::new(service))
                .await;
        });
        let mut raw = Self(client);
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        raw.send(&h2_frame(SETTINGS, 0, 0, &[])).await;
        raw.send(&h2_frame(SETTINGS, 1, 0, &[])).await;
        raw
    }

    async fn send(&mut self, bytes: &[u8]) {
        // The server may have ended.
        let _ = within(self.0.write_all(bytes)).await;
    }

    /// The next frame of a kind: its stream and payload.
    async fn next(&mut self, wanted: u8) -> (u32, Vec<u8>) {
        within(async {
            loop {
                let mut head = [0; 9];
                self.0.read_exact(&mut head).await.unwrap();
                let size = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let mut payload = vec![0; size];
                self.0.read_exact(&mut payload).await.unwrap();
                if head[3] == wanted {
                    let stream = [head[5], head[6], head[7], head[8]];
                    return (u32::from_be_bytes(stream), payload);
                }
            }
        })
        .await
    }

    async fn expect_reset(&mut self, stream: u32, code: u32) {
        let (got, payload) = self.next(RST_STREAM).await;
        assert_eq!((got, payload), (stream, code.to_be_bytes().to_vec()));
    }

    async fn expect_goaway(&mut self, code: u32) {
        let (_, payload) = self.next(GOAWAY).await;
        assert_eq!(payload[4..8], code.to_be_bytes());
    }
}

/// With another value of a field, or another field.
fn connect_with<'a>(name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut fields = CONNECT.to_vec();
    match fields.iter_mut().find(|field| field.0 == name) {
        Some(field) => field.1 = value,
        None => fields.push((name, value)),
    }
    fields
}

#[tokio::test(start_paused = true)]
async fn frames_by_hand_open_a_websocket_and_get_an_echo() {
    let (stack, recorder) = Stack::recorded();
    let mut raw = Raw::open(&stack, true).await;
    raw.send(&headers(1, CONNECT)).await;
    assert_eq!(raw.next(HEADERS).await.0, 1);
    raw.send(&h2_frame(DATA, 0, 1, &text("hello"))).await;
    assert_eq!(raw.next(DATA).await, (1, b"\x81\x05hello".to_vec()));
    assert_lines(&recorder.log(), &["open", "text hello"]);
}

#[tokio::test(start_paused = true)]
async fn r2_1_a_protocol_without_the_setting_is_a_protocol_error() {
    let (stack, recorder) = Stack::recorded();
    let mut raw = Raw::open(&stack, false).await;
    raw.send(&headers(1, CONNECT)).await;
    raw.expect_reset(1, PROTOCOL_ERROR).await;
    assert!(recorder.log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn r2_4_a_protocol_on_get_and_the_headers_of_http1_are_malformed() {
    for (name, value) in [
        (":method", "GET"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
    ] {
        let (stack, recorder) = Stack::recorded();
        let mut raw = Raw::open(&stack, true).await;
        raw.send(&headers(1, &connect_with(name, value))).await;
        raw.expect_reset(1, PROTOCOL_ERROR).await;
        // The connection serves the next stream.
        raw.send(&headers(3, CONNECT)).await;
        assert_eq!(raw.next(HEADERS).await.0, 3);
        assert_lines(&recorder.log(), &["open"]);
    }
}

#[tokio::test(start_paused = true)]
async fn r2_5_more_data_than_a_content_length_resets_the_stream() {
    let (stack, recorder) = Stack::recorded();
    let mut raw = Raw::open(&stack, true).await;
    raw.send(&headers(1, &connect_with("content-length", "5")))
        .await;
    raw.send(&h2_frame(DATA, 0, 1, &text("hello"))).await;
    raw.expect_reset(1, PROTOCOL_ERROR).await;
    assert!(!recorder.log().contains(&"text hello".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn r2_10_floods_of_resets_and_continuations_end_the_session() {
    let (stack, _) = Stack::recorded();
    let mut raw = Raw::open(&stack, true).await;
    let mut flood = Vec::new();
    for stream in (1..2000).step_by(2) {
        flood.extend(headers(stream, CONNECT));
        flood.extend(h2_frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
    }
    raw.send(&flood).await;
    raw.expect_goaway(ENHANCE_YOUR_CALM).await;

    let mut raw = Raw::open(&stack, true).await;
    raw.send(&h2_frame(HEADERS, 0, 1, &block(CONNECT))).await;
    let more = h2_frame(CONTINUATION, 0, 1, &block(&[("x", &"a".repeat(120))]));
    raw.send(&more.repeat(1000)).await;
    raw.expect_goaway(ENHANCE_YOUR_CALM).await;
    stack.is_clean().await;
}
