use std::io::{self, Cursor, Read, Write};
use std::sync::Arc;

use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, WebSocket};

use super::frames::{Run, run};
use super::input::{Cycle, Input};
use super::stream::{limits, stream};
use crate::close::{CloseCause, CloseCode};
use crate::config::Config;
use crate::message::Message;
use crate::protocol::{Event, InvalidUtf8, OpCode, TextBuilder};

/// Row X6: what tungstenite understands we understand alike, and where only one of us refuses,
/// [`STRICTER`] says by which clause. Text in pieces is what it is as a whole, and a Close frame
/// is what RFC 6455 §5.5.1 and §7.4 make of it.
pub fn differential(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() {
        0..=0xBF => streams(&mut input),
        0xC0..=0xDF => text(&mut input),
        _ => close(input.rest()),
    }
}

// ---- whole streams

/// How a refusal of ours that tungstenite does not make at the same place is to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    /// It takes what we refuse.
    Accepts,
    /// It refuses the same when the frame is whole; often the stream ends before.
    Waits,
}

/// What only we refuse: how our reason begins, what tungstenite does, and whom the RFC agrees
/// with.
const STRICTER: [(&str, Other, &str); 15] = [
    (
        "a length must be encoded in the fewest bytes",
        Other::Accepts,
        "§5.2: the minimal number of bytes MUST be used to encode the length",
    ),
    (
        "a Close frame with code",
        Other::Accepts,
        "§7.4: it passes such a code off as 1002; 1004 to 1006 and 1015 MUST NOT be set",
    ),
    (
        "a text that is not UTF-8",
        Other::Waits,
        "§8.1: a byte stream that is not UTF-8 MUST fail the connection; when is not said",
    ),
    (
        "the message is larger",
        Other::Waits,
        "§10.4: limits are the implementation's; from the header and not from the whole frame",
    ),
    (
        "a control frame carries at most",
        Other::Accepts,
        "§5.5, or §5.2 if it is short after all and its length only takes too many bytes",
    ),
    // What a header alone shows.
    ("an opcode that is reserved", Other::Waits, "§5.2"),
    ("a reserved bit is set", Other::Waits, "§5.2"),
    ("RSV1 belongs to", Other::Waits, "§5.2"),
    ("a continuation frame of no message", Other::Waits, "§5.4"),
    ("a new message inside", Other::Waits, "§5.4"),
    ("a control frame must not be", Other::Waits, "§5.5"),
    ("a client must mask", Other::Waits, "§5.1"),
    ("a length over 63 bits", Other::Waits, "§5.2"),
    // Seen when they are whole by both.
    ("a Close frame with half a code", Other::Waits, "§5.5.1"),
    ("a close reason that is not UTF-8", Other::Waits, "§8.1"),
];

fn streams(input: &mut Input<'_>) {
    let config = Arc::new(Config {
        // Policies of ours; it has none.
        max_fragments: Some(u32::MAX),
        max_control_rate: u32::MAX,
        ..limits(input)
    });
    let mut pieces = Cycle::new(input.short());
    let bytes = stream(input, None);

    let ours = run(&config, None, &bytes, || {
        1 + usize::from(pieces.next()) * 16
    });
    let (events, end) = theirs(&config, &bytes);
    let common = ours.events.len().min(events.len());
    let refusal = refusal(&ours);
    for (our, their) in ours.events.iter().zip(&events) {
        assert_eq!(&told(our), their, "{ours:?} {events:?}");
    }
    let difference = refusal.and_then(|reason| {
        let known = STRICTER
            .iter()
            .find(|(begin, ..)| reason.starts_with(begin));
        let (_, other, _) = known.unwrap_or_else(|| panic!("for what clause? {reason}"));
        (end == End::Input || events.len() > common).then_some(*other)
    });
    match (difference, end) {
        // It goes on behind what we refuse.
        (Some(Other::Accepts), _) => {}
        (Some(Other::Waits), End::Input | End::Refused) => {
            assert_eq!(events.len(), common, "{ours:?} {events:?}");
        }
        (Some(Other::Waits), End::Closed | End::Limit) => panic!("{ours:?} {events:?} {end:?}"),
        // §5.5: a control frame is not part of a message and has a limit of its own. It holds
        // them to the limit on frames.
        (None, End::Limit) => {
            assert!(
                config.max_frame < 125 || refusal.is_some(),
                "{ours:?} {events:?}"
            );
            assert_eq!(events.len(), common, "{ours:?} {events:?}");
        }
        (None, End::Refused) => {
            assert!(
                refusal.is_some(),
                "only tungstenite refuses: {ours:?} {events:?}"
            );
            assert_eq!(ours.events.len(), events.len());
        }
        (None, End::Input | End::Closed) => {
            assert!(refusal.is_none(), "{ours:?} {events:?}");
            assert_eq!(ours.events.len(), events.len(), "{ours:?} {events:?}");
        }
    }
}

/// Why we refused, if we did.
fn refusal(ours: &Run) -> Option<&str> {
    let end = &ours.end;
    (end.cause == CloseCause::Violation).then(|| end.reason.as_str())
}

/// How it ended over there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing was wrong, there is no more.
    Input,
    Closed,
    Refused,
    Limit,
}

/// A message in the words of both.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Vec<u8>),
}

fn told(event: &Event) -> Told {
    match event {
        Event::Message(Message::Text(text)) => Told::Text(text.to_string()),
        Event::Message(Message::Binary(bytes)) => Told::Binary(bytes.to_vec()),
        Event::Control(OpCode::Ping, payload) => Told::Ping(payload.to_vec()),
        Event::Control(_, payload) => Told::Pong(payload.to_vec()),
        Event::Close(Some(frame)) => {
            Told::Close(format!("{} {}", frame.code, frame.reason).into_bytes())
        }
        Event::Close(None) => Told::Close(Vec::new()),
    }
}

fn theirs(config: &Config, bytes: &[u8]) -> (Vec<Told>, End) {
    let limits = WebSocketConfig::default()
        .max_message_size(Some(config.max_message))
        .max_frame_size(Some(config.max_frame));
    let mut socket =
        WebSocket::from_raw_socket(Deaf(Cursor::new(bytes)), Role::Server, Some(limits));
    let mut events = Vec::new();
    loop {
        let end = match socket.read() {
            Ok(message) => {
                events.push(match message {
                    tungstenite::Message::Text(text) => Told::Text(text.as_str().to_owned()),
                    tungstenite::Message::Binary(bytes) => Told::Binary(bytes.to_vec()),
                    tungstenite::Message::Ping(payload) => Told::Ping(payload.to_vec()),
                    tungstenite::Message::Pong(payload) => Told::Pong(payload.to_vec()),
                    tungstenite::Message::Close(None) => Told::Close(Vec::new()),
                    tungstenite::Message::Close(Some(frame)) => {
                        let code = u16::from(frame.code);
                        Told::Close(format!("{code} {}", frame.reason.as_str()).into_bytes())
                    }
                    tungstenite::Message::Frame(_) => panic!("never read"),
                });
                continue;
            }
            Err(Error::ConnectionClosed) => End::Closed,
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => End::Input,
            Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => End::Limit,
            Err(_) => End::Refused,
        };
        return (events, end);
    }
}

/// Takes whatever is written.
struct Deaf<'a>(Cursor<&'a [u8]>);

impl Read for Deaf<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Deaf<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// ---- text

/// In any pieces, text is refused at the first piece that std could not complete to UTF-8.
fn text(input: &mut Input<'_>) {
    let mut pieces = Cycle::new(input.short());
    let bytes = input.rest();
    let mut builder = TextBuilder::default();
    let mut at = 0;
    while at < bytes.len() {
        let n = usize::from(pieces.next()).min(bytes.len() - at);
        let n = n.max(1);
        let pushed = builder.push(&bytes[at..at + n], bytes.len() - at);
        at += n;
        let so_far = std::str::from_utf8(&bytes[..at]);
        let hopeless = so_far.is_err_and(|error| error.error_len().is_some());
        assert_eq!(pushed.is_err(), hopeless, "{:x?}", &bytes[..at]);
        if hopeless {
            return;
        }
        assert_eq!(builder.len(), at);
    }
    let expected = std::str::from_utf8(bytes).map_err(|_| InvalidUtf8);
    let built = builder.finish();
    assert_eq!(
        built.as_ref().map(|text| text.as_str()),
        expected.as_ref().map(|text| *text)
    );
}

// ---- close

fn close(payload: &[u8]) {
    let payload = &payload[..payload.len().min(125)];
    let mut frame = vec![0x88, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    let run = run(&Arc::default(), None, &frame, || 5);
    let (code, reason) = match payload {
        [] => (1005, ""),
        [_] => (1002, ""),
        [a, b, reason @ ..] => match (u16::from_be_bytes([*a, *b]), std::str::from_utf8(reason)) {
            (0..=999 | 1004..=1006 | 1015..=2999 | 5000.., _) => (1002, ""),
            (_, Err(_)) => (1007, ""),
            (code, Ok(reason)) => (code, reason),
        },
    };
    assert_eq!(run.end.code, CloseCode::from(code), "{payload:x?}");
    if run.end.cause == CloseCause::Peer {
        assert_eq!(run.end.reason.as_str(), reason);
    } else {
        assert_eq!(run.end.cause, CloseCause::Violation);
    }
}
