use crate::message::Message;
use crate::protocol::Agreed;

/// What a client makes of the bytes that it got.
#[derive(Default)]
pub(super) struct Output {
    pub(super) messages: Vec<Message>,
    pub(super) pings: Vec<Vec<u8>>,
    pub(super) pongs: Vec<Vec<u8>>,
    /// There was a Close frame.
    pub(super) closed: bool,
    /// The last frame is not whole.
    pub(super) torn: bool,
}

impl Output {
    /// Panics if these are no frames of a server, or there is something behind its Close frame.
    pub(super) fn read(mut bytes: &[u8], agreed: Option<Agreed>) -> Self {
        let mut output = Self::default();
        let mut inflate = Inflate::new(agreed);
        while !bytes.is_empty() {
            assert!(!output.closed, "behind the Close frame: {bytes:x?}");
            let Some((first, payload, rest)) = frame(bytes) else {
                output.torn = true;
                break;
            };
            bytes = rest;
            match first {
                0x81 | 0x82 => output.messages.push(message(first, payload.to_vec())),
                0xC1 | 0xC2 => output
                    .messages
                    .push(message(first, inflate.message(payload))),
                0x88 => {
                    let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                    assert!(payload.len() != 1 && payload.len() <= 125);
                    assert!(code.is_none_or(|code| crate::CloseCode::from(code).is_sendable()));
                    output.closed = true;
                }
                0x89 => output.pings.push(payload.to_vec()),
                0x8A => output.pongs.push(payload.to_vec()),
                _ => panic!("no frame of a server: {first:x}"),
            }
        }
        output
    }
}

fn message(first: u8, payload: Vec<u8>) -> Message {
    if first & 0x0F == 1 {
        Message::from(String::from_utf8(payload).expect("text is UTF-8"))
    } else {
        Message::from(payload)
    }
}

/// First byte, payload and the rest; `None` if it is not whole.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&short, rest) = rest.split_first()?;
    assert!(short < 128, "a server masks nothing");
    assert!(first & 8 == 0 || short < 126, "a long control frame");
    let (len, rest) = match short {
        126 => {
            let (len, rest) = rest.split_first_chunk()?;
            let len = usize::from(u16::from_be_bytes(*len));
            assert!(len > 125, "not the fewest bytes");
            (len, rest)
        }
        127 => {
            let (len, rest) = rest.split_first_chunk()?;
            let len = u64::from_be_bytes(*len) as usize;
            assert!(len > 0xFFFF, "not the fewest bytes");
            (len, rest)
        }
        _ => (short.into(), rest),
    };
    let (payload, rest) = rest.split_at_checked(len)?;
    Some((first, payload, rest))
}

#[cfg(feature = "deflate")]
struct Inflate(Option<Box<crate::protocol::Inbound>>);

#[cfg(feature = "deflate")]
impl Inflate {
    fn new(agreed: Option<Agreed>) -> Self {
        // What was agreed on is the same in both directions.
        Self(agreed.map(|agreed| crate::protocol::Inbound::new(agreed.inbound, 1024 * 1024)))
    }

    fn message(&mut self, compressed: &[u8]) -> Vec<u8> {
        let inbound = self.0.as_mut().expect("compression was agreed on");
        let mut message = Vec::new();
        let mut inflater = inbound.begin();
        let pushed = inflater.push(compressed, |piece| {
            message.extend_from_slice(piece);
            Ok(())
        });
        assert_eq!((pushed.map(|_| ()), inflater.finish()), (Ok(()), Ok(())));
        inbound.end(inflater);
        message
    }
}

#[cfg(not(feature = "deflate"))]
struct Inflate;

#[cfg(not(feature = "deflate"))]
impl Inflate {
    fn new(_: Option<Agreed>) -> Self {
        Self
    }

    fn message(&mut self, _: &[u8]) -> Vec<u8> {
        panic!("compression was not agreed on")
    }
}
