//! Frames to messages: unmasks, validates and collects what a client sends
//! (RFC 6455 §5.4 to §5.6, §8.1), refusing it at the first byte that cannot be right.

use std::borrow::Cow;

use bytes::buf::Limit;
use bytes::{BufMut, Bytes};

use super::deflate::{Agreed, Inbound, Inflater};
use super::frame::{Header, MAX_HEADER, OpCode, RSV1};
use super::mask::unmask;
use super::utf8::{InvalidUtf8, TextBuilder, grown};
use crate::message::{CloseCode, CloseFrame, CloseReason, Message, Utf8Bytes};

/// What a client must not send, with the code of the Close frame that answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) code: CloseCode,
    pub(crate) reason: Cow<'static, str>,
}

impl Violation {
    pub(crate) fn new(code: CloseCode, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }

    #[cold]
    pub(crate) fn too_big() -> Self {
        Self::new(
            CloseCode::TOO_BIG,
            "the message is larger than this server takes",
        )
    }
}

impl From<InvalidUtf8> for Violation {
    #[cold]
    fn from(InvalidUtf8: InvalidUtf8) -> Self {
        Self::new(
            CloseCode::INVALID_PAYLOAD,
            "a text that is not UTF-8 (RFC 6455 §8.1)",
        )
    }
}

/// What a client sent, whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Message(Message),
    Ping(Bytes),
    Pong(Bytes),
    /// `None`: a Close frame without a code.
    Close(Option<CloseFrame>),
}

/// The limits on what is received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_message: usize,
    pub(crate) max_frame: usize,
    pub(crate) max_fragments: u32,
}

/// Compressed payload is inflated in pieces of so many bytes. 256 bytes of DEFLATE are 258 KiB at the
/// most, a quarter of a millisecond, and the calls cost little beside the work.
const PIECE: usize = 256;

/// Enough inflated for now, in bytes: others are to run.
const INFLATED: usize = 64 * 1024;

/// Collects one message at a time. While it is empty it owns no memory beside itself.
#[derive(Debug)]
pub(crate) struct Assembler {
    limits: Limits,
    /// A header of which not all has arrived.
    head: [u8; MAX_HEADER],
    head_len: u8,
    /// The frame whose payload is arriving.
    frame: Option<Frame>,
    /// The data message that is arriving.
    message: Option<Partial>,
    /// The payload of a control frame. Boxed: they are short and rare, connections many.
    control: Option<Box<Control>>,
    /// If messages may be compressed.
    deflate: Option<Box<Inbound>>,
    /// Payload of the message that is arriving, in bytes on the wire, which
    /// [`take_progress`](Self::take_progress) has not reported yet.
    progress: usize,
    /// What was inflated since the last [`take_work`](Self::take_work).
    work: usize,
}

#[derive(Debug)]
struct Control {
    /// As much as there may be (§5.5).
    bytes: [u8; 125],
    len: usize,
}

#[derive(Debug)]
struct Frame {
    opcode: OpCode,
    fin: bool,
    mask: [u8; 4],
    remaining: usize,
}

impl Frame {
    /// How many bytes of its message may still come where the limit leaves `room`: behind a
    /// frame that is not the last, as many as there is room for.
    fn expected(&self, room: usize) -> usize {
        if self.fin { self.remaining } else { room }
    }
}

#[derive(Debug)]
struct Partial {
    fragments: u32,
    data: Data,
    /// If it is compressed.
    inflater: Option<Box<Inflater>>,
}

/// Text is validated while it arrives (row F16); bytes are just collected.
#[derive(Debug)]
enum Data {
    Text(TextBuilder),
    Binary(Vec<u8>),
}

impl Partial {
    fn new(opcode: OpCode) -> Self {
        Self {
            fragments: 0,
            inflater: None,
            data: match opcode {
                OpCode::Text => Data::Text(TextBuilder::default()),
                _ => Data::Binary(Vec::new()),
            },
        }
    }

    /// `expected` is how many bytes may still come, these included; `room` is what the limit
    /// leaves, for how much a compressed message will be nobody has said. How much was inflated.
    fn push(&mut self, payload: &[u8], expected: usize, room: usize) -> Result<usize, Violation> {
        match &mut self.inflater {
            None => {
                self.data.push(payload, expected)?;
                Ok(0)
            }
            Some(inflater) => {
                let most = self.data.len() + room;
                inflater.push(payload, |piece| self.data.push_inflated(piece, most))
            }
        }
    }

    /// The last frame is whole.
    fn complete(&mut self, deflate: &mut Option<Box<Inbound>>) -> Result<(), Violation> {
        if let (Some(mut inflater), Some(deflate)) = (self.inflater.take(), deflate) {
            inflater.finish()?;
            deflate.end(inflater);
        }
        Ok(())
    }

    fn finish(self) -> Result<Message, InvalidUtf8> {
        Ok(match self.data {
            Data::Text(text) => Message::Text(text.finish()?),
            Data::Binary(mut bytes) => {
                // A message that is kept owns its own bytes and no spare ones.
                bytes.shrink_to_fit();
                Message::Binary(bytes.into())
            }
        })
    }
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// A piece of a message that inflates to `most` bytes at most; the inflater sees to that.
    fn push_inflated(&mut self, piece: &[u8], most: usize) -> Result<(), Violation> {
        let expected = most.saturating_sub(self.len());
        Ok(self.push(piece, expected)?)
    }

    fn push(&mut self, payload: &[u8], expected: usize) -> Result<(), InvalidUtf8> {
        match self {
            Self::Text(text) => text.push(payload, expected),
            Self::Binary(bytes) => {
                reserve(bytes, payload.len(), expected);
                bytes.extend_from_slice(payload);
                Ok(())
            }
        }
    }
}

fn reserve(bytes: &mut Vec<u8>, additional: usize, expected: usize) {
    let needed = bytes.len() + additional;
    if needed > bytes.capacity() {
        let goal = grown(
            bytes.capacity(),
            needed,
            bytes.len().saturating_add(expected),
        );
        bytes.reserve_exact(goal - bytes.len());
    }
}

impl Assembler {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            head: [0; MAX_HEADER],
            head_len: 0,
            frame: None,
            message: None,
            control: None,
            deflate: None,
            progress: 0,
            work: 0,
        }
    }

    /// Messages may be compressed from here on.
    pub(crate) fn set_deflate(&mut self, agreed: Agreed) {
        self.deflate = Some(Inbound::new(agreed, self.limits.max_message));
    }

    /// The most payload that one message may have on the wire.
    pub(crate) fn largest(&self) -> usize {
        let most = self.limits.max_message;
        self.deflate
            .as_ref()
            .map_or(most, |deflate| deflate.room(most))
    }

    /// Takes bytes from `input` at `at`, moves `at` behind them, and returns the first thing
    /// that is whole, or `None` when all of `input` is taken, or when enough is inflated for now: 64
    /// KiB and a piece. Payloads are unmasked in place.
    ///
    /// After a violation nothing that follows has a meaning: do not call again.
    #[inline]
    pub(crate) fn take(
        &mut self,
        input: &mut [u8],
        at: &mut usize,
    ) -> Result<Option<Received>, Violation> {
        loop {
            if self.frame.is_some() {
                if *at == input.len() {
                    return Ok(None);
                }
                if let Some(received) = self.payload(&mut input[*at..], at)? {
                    return Ok(Some(received));
                }
                if self.work >= INFLATED {
                    return Ok(None);
                }
                continue;
            }
            let rest = &mut input[*at..];
            if rest.is_empty() {
                return Ok(None);
            }
            let Some((header, used)) = self.header(rest)? else {
                *at = input.len();
                return Ok(None);
            };
            *at += used;
            let rest = &mut input[*at..];
            let len = header.len as usize;
            // The fast path: a message in one frame, all of it here.
            if header.fin
                && !header.rsv1
                && len <= rest.len()
                && matches!(header.opcode, OpCode::Text | OpCode::Binary)
            {
                let payload = &mut rest[..len];
                unmask(payload, header.mask);
                *at += len;
                let message = if header.opcode == OpCode::Text {
                    let text = simdutf8::basic::from_utf8(payload).map_err(|_| InvalidUtf8)?;
                    Message::Text(Utf8Bytes::from(text))
                } else {
                    Message::Binary(Bytes::copy_from_slice(payload))
                };
                return Ok(Some(Received::Message(message)));
            }
            self.begin(&header, len)?;
            if len == 0 {
                if let Some(received) = self.end()? {
                    return Ok(Some(received));
                }
            }
        }
    }

    /// The rest of a large binary payload, to read it from the socket straight to where it
    /// stays. `None` unless more than `threshold` bytes of it are to come.
    ///
    /// Call [`filled`](Self::filled) with what was read.
    pub(crate) fn direct(&mut self, threshold: usize) -> Option<Limit<&mut Vec<u8>>> {
        let frame = self.frame.as_ref()?;
        if frame.remaining <= threshold || frame.opcode.is_control() {
            return None;
        }
        let message = self.message.as_mut()?;
        let expected = frame.expected(self.limits.max_message - message.data.len());
        let (Data::Binary(bytes), None) = (&mut message.data, &message.inflater) else {
            return None;
        };
        if bytes.len() == bytes.capacity() {
            reserve(bytes, 1, expected);
        }
        let space = (bytes.capacity() - bytes.len()).min(frame.remaining);
        Some(bytes.limit(space))
    }

    /// `n` bytes were read into the buffer that [`direct`](Self::direct) gave.
    pub(crate) fn filled(&mut self, n: usize) -> Result<Option<Received>, Violation> {
        if let (
            Some(frame),
            Some(Partial {
                data: Data::Binary(bytes),
                ..
            }),
        ) = (&mut self.frame, &mut self.message)
        {
            self.progress += n;
            let start = bytes.len().saturating_sub(n);
            frame.mask = unmask(&mut bytes[start..], frame.mask);
            frame.remaining -= n.min(frame.remaining);
            if frame.remaining == 0 {
                return self.end();
            }
        }
        Ok(None)
    }

    /// Whether nothing is under way: no part of a frame, no fragmented message.
    pub(crate) fn is_idle(&self) -> bool {
        self.head_len == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// Whether a part of a frame has arrived and the rest has not.
    pub(crate) fn in_frame(&self) -> bool {
        self.head_len > 0 || self.frame.is_some()
    }

    /// How many bytes of payload have come nearer to the end of a message since the last call.
    pub(crate) fn take_progress(&mut self) -> usize {
        std::mem::take(&mut self.progress)
    }

    /// What was inflated since the last call, in bytes.
    #[inline]
    pub(crate) fn take_work(&mut self) -> usize {
        std::mem::take(&mut self.work)
    }

    /// Bytes of memory that are held for what is under way.
    #[cfg(any(fuzzing, test))]
    pub(crate) fn held(&self) -> usize {
        let message = self
            .message
            .as_ref()
            .map_or(0, |message| match &message.data {
                Data::Text(text) => text.held(),
                Data::Binary(bytes) => bytes.capacity(),
            });
        message
            + self
                .control
                .as_ref()
                .map_or(0, |control| control.bytes.len())
    }

    /// Lets go of everything that has arrived of an unfinished message.
    pub(crate) fn clear(&mut self) {
        *self = Self {
            deflate: self.deflate.take(),
            ..Self::new(self.limits)
        };
    }

    /// Reads a header from `rest`, together with what was kept of it, and tells how many
    /// bytes of `rest` it took. `None`: all of `rest` was kept.
    #[inline]
    fn header(&mut self, rest: &[u8]) -> Result<Option<(Header, usize)>, Violation> {
        let fragmented = self.message.is_some();
        let first = if self.head_len == 0 {
            rest.first().copied().unwrap_or_default()
        } else {
            self.head[0]
        };
        let room = self.room(first);
        let compression = self.deflate.is_some();
        if self.head_len == 0 {
            if let Some(header) = Header::parse(rest, fragmented, compression, room)? {
                return Ok(Some((header, header.size)));
            }
        }
        let kept = usize::from(self.head_len);
        let more = rest.len().min(MAX_HEADER - kept);
        self.head[kept..kept + more].copy_from_slice(&rest[..more]);
        match Header::parse(&self.head[..kept + more], fragmented, compression, room)? {
            Some(header) => {
                self.head_len = 0;
                Ok(Some((header, header.size - kept)))
            }
            None => {
                // 14 bytes are always a whole header, so all of `rest` fitted.
                self.head_len = (kept + more) as u8;
                Ok(None)
            }
        }
    }

    /// How much payload a data frame may have that begins with `first`.
    #[inline]
    fn room(&self, first: u8) -> usize {
        let Limits {
            max_message,
            max_frame,
            ..
        } = self.limits;
        match (&self.deflate, &self.message) {
            // The length does not tell how large the message will be; the inflater finds out. What
            // does not get smaller may grow a little, unless frames have a limit of their own.
            (Some(deflate), None) if first & RSV1 != 0 => deflate.room(max_frame),
            (Some(deflate), Some(message)) if message.inflater.is_some() => deflate.room(max_frame),
            (_, Some(message)) => max_frame.min(max_message - message.data.len()),
            (_, None) => max_frame.min(max_message),
        }
    }

    /// The header of a frame has arrived.
    fn begin(&mut self, header: &Header, len: usize) -> Result<(), Violation> {
        if !header.opcode.is_control() {
            let message = self
                .message
                .get_or_insert_with(|| Partial::new(header.opcode));
            if header.rsv1 {
                message.inflater = self.deflate.as_mut().map(|deflate| deflate.begin());
            }
            message.fragments += 1;
            if message.fragments > self.limits.max_fragments {
                return Err(Violation::new(
                    CloseCode::POLICY,
                    "the message has more fragments than this server takes",
                ));
            }
        }
        self.frame = Some(Frame {
            opcode: header.opcode,
            fin: header.fin,
            mask: header.mask,
            remaining: len,
        });
        Ok(())
    }

    /// Some payload of the current frame has arrived.
    fn payload(&mut self, rest: &mut [u8], at: &mut usize) -> Result<Option<Received>, Violation> {
        let Some(frame) = &mut self.frame else {
            return Ok(None);
        };
        let inflates = self.message.as_ref().is_some_and(|m| m.inflater.is_some());
        let most = if inflates { PIECE } else { usize::MAX };
        let n = rest.len().min(frame.remaining).min(most);
        let piece = &mut rest[..n];
        frame.mask = unmask(piece, frame.mask);
        if frame.opcode.is_control() {
            let control = self.control.get_or_insert_with(|| {
                Box::new(Control {
                    bytes: [0; 125],
                    len: 0,
                })
            });
            // The header was refused if it said more.
            if let Some(rest) = control.bytes.get_mut(control.len..control.len + n) {
                rest.copy_from_slice(piece);
                control.len += n;
            }
        } else if let Some(message) = &mut self.message {
            let room = self.limits.max_message - message.data.len();
            self.work += message.push(piece, frame.expected(room), room)?;
            self.progress += n;
        }
        frame.remaining -= n;
        *at += n;
        if frame.remaining == 0 {
            self.end()
        } else {
            Ok(None)
        }
    }

    /// The current frame is whole.
    fn end(&mut self) -> Result<Option<Received>, Violation> {
        let Some(frame) = self.frame.take() else {
            return Ok(None);
        };
        let control = frame.opcode.is_control().then(|| self.control.take());
        let control = control.flatten();
        let control = control.as_ref().map_or(&[][..], |c| &c.bytes[..c.len]);
        Ok(match frame.opcode {
            OpCode::Ping => Some(Received::Ping(Bytes::copy_from_slice(control))),
            OpCode::Pong => Some(Received::Pong(Bytes::copy_from_slice(control))),
            OpCode::Close => Some(Received::Close(close(control)?)),
            _ if frame.fin => match self.message.take() {
                Some(mut message) => {
                    self.progress = 0;
                    message.complete(&mut self.deflate)?;
                    Some(Received::Message(message.finish()?))
                }
                None => None,
            },
            _ => None,
        })
    }
}

/// Reads the payload of a Close frame (§5.5.1).
fn close(payload: &[u8]) -> Result<Option<CloseFrame>, Violation> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [a, b, reason @ ..] => (CloseCode::from(u16::from_be_bytes([*a, *b])), reason),
        [_] => {
            return Err(Violation::new(
                CloseCode::PROTOCOL,
                "a Close frame with half a code (RFC 6455 §5.5.1)",
            ));
        }
    };
    if !code.is_sendable() {
        return Err(Violation::new(
            CloseCode::PROTOCOL,
            format!("a Close frame with code {code}, which must not be sent (RFC 6455 §7.4)"),
        ));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| {
        Violation::new(
            CloseCode::INVALID_PAYLOAD,
            "a close reason that is not UTF-8 (RFC 6455 §8.1)",
        )
    })?;
    Ok(Some(CloseFrame {
        code,
        reason: CloseReason::new(reason).unwrap_or_default(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        max_message: 300,
        max_frame: 200,
        max_fragments: 4,
    };

    /// A client's frame: first byte, payload, masked.
    pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let key = [0x37, 0xFA, 0x21, 0x3D];
        let mut out = vec![first];
        match payload.len() {
            0..=125 => out.push(0x80 | payload.len() as u8),
            126..=0xFFFF => {
                out.push(0xFE);
                out.extend((payload.len() as u16).to_be_bytes());
            }
            _ => {
                out.push(0xFF);
                out.extend((payload.len() as u64).to_be_bytes());
            }
        }
        out.extend(key);
        out.extend(payload.iter().enumerate().map(|(i, b)| b ^ key[i % 4]));
        out
    }

    fn with(limits: Limits, bytes: &[u8], piece: usize) -> (Vec<Received>, Option<Violation>) {
        let mut assembler = Assembler::new(limits);
        let mut all = Vec::new();
        for chunk in bytes.chunks(piece.max(1)) {
            let mut chunk = chunk.to_vec();
            let mut at = 0;
            loop {
                match assembler.take(&mut chunk, &mut at) {
                    Ok(Some(received)) => all.push(received),
                    Ok(None) => break,
                    Err(violation) => return (all, Some(violation)),
                }
            }
            assert_eq!(at, chunk.len());
        }
        (all, None)
    }

    /// The same in every chunking, row N9.
    fn run(bytes: &[u8]) -> (Vec<Received>, Option<Violation>) {
        let whole = with(LIMITS, bytes, bytes.len());
        for piece in 1..bytes.len() {
            assert_eq!(with(LIMITS, bytes, piece), whole, "in pieces of {piece}");
        }
        whole
    }

    fn text(text: &str) -> Received {
        Received::Message(Message::from(text))
    }

    #[test]
    fn f13_a_ping_between_fragments_is_seen_at_once_and_the_message_stays_whole() {
        let bytes = [
            frame(0x01, b"Hel"),
            frame(0x89, b"p"),
            frame(0x00, b""),
            frame(0x80, b"lo"),
        ]
        .concat();
        let expected = vec![Received::Ping(Bytes::from_static(b"p")), text("Hello")];
        assert_eq!(run(&bytes), (expected, None));
    }

    #[test]
    fn f14_f15_f16_text_is_validated_as_it_arrives() {
        // Split inside a character, over fragments.
        let bytes = [frame(0x01, b"\xe2\x82"), frame(0x80, b"\xac")].concat();
        assert_eq!(run(&bytes), (vec![text("€")], None));
        // Refused at the fragment that cannot be right, before the message ends.
        let bytes = [frame(0x01, b"\xe2\x82"), frame(0x00, b"x")].concat();
        assert_eq!(run(&bytes).1.unwrap().code, CloseCode::INVALID_PAYLOAD);
        // Refused in an unfinished frame.
        let whole = frame(0x81, b"ab\xffcd");
        assert_eq!(
            with(LIMITS, &whole[..whole.len() - 2], 1).1.unwrap().code,
            CloseCode::INVALID_PAYLOAD
        );
        // Truncated at the end of the message.
        let bytes = [frame(0x01, b"a"), frame(0x80, b"\xe2\x82")].concat();
        assert_eq!(run(&bytes).1.unwrap().code, CloseCode::INVALID_PAYLOAD);
        assert_eq!(
            run(&frame(0x81, b"\xe2\x82")).1.unwrap().code,
            CloseCode::INVALID_PAYLOAD
        );
        // Binary is anything.
        assert_eq!(run(&frame(0x82, b"\xff")).1, None);
    }

    #[test]
    fn f17_empty_messages_are_messages() {
        let bytes = [
            frame(0x81, b""),
            frame(0x82, b""),
            frame(0x01, b""),
            frame(0x80, b""),
        ]
        .concat();
        let expected = vec![
            text(""),
            Received::Message(Message::binary(Bytes::new())),
            text(""),
        ];
        assert_eq!(run(&bytes), (expected, None));
    }

    #[test]
    fn f18_too_many_fragments_are_refused_even_empty_ones() {
        let mut bytes = frame(0x02, b"");
        for _ in 0..3 {
            bytes.extend(frame(0x00, b""));
        }
        assert_eq!(run(&bytes), (vec![], None));
        bytes.extend(frame(0x00, b""));
        assert_eq!(run(&bytes).1.unwrap().code, CloseCode::POLICY);
    }

    #[test]
    fn f7_f21_sizes_are_refused_from_the_header_that_breaks_the_limit() {
        // 201 bytes in one frame, header only.
        let big = frame(0x82, &[0; 201]);
        assert_eq!(run(&big[..4]).1.unwrap().code, CloseCode::TOO_BIG);
        // 200 + 101 in two.
        let bytes = [frame(0x02, &[0; 200]), frame(0x80, &[0; 101])].concat();
        let (received, violation) = run(&bytes[..bytes.len() - 101]);
        assert_eq!(
            (received, violation.unwrap().code),
            (vec![], CloseCode::TOO_BIG)
        );
        // 200 + 100 is the limit itself.
        let bytes = [frame(0x02, &[0; 200]), frame(0x80, &[0; 100])].concat();
        assert_eq!(
            run(&bytes),
            (vec![Received::Message(Message::from(vec![0; 300]))], None)
        );
    }

    #[test]
    fn f25_f26_f27_f28_close_frames_are_read_strictly() {
        let close = |payload: &[u8]| run(&frame(0x88, payload));
        assert_eq!(close(b""), (vec![Received::Close(None)], None));
        assert_eq!(close(b"\x03").1.unwrap().code, CloseCode::PROTOCOL);
        let frame = CloseFrame::new(CloseCode::NORMAL, "bye").unwrap();
        assert_eq!(
            close(b"\x03\xe8bye"),
            (vec![Received::Close(Some(frame))], None)
        );
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535u16] {
            assert_eq!(
                close(&code.to_be_bytes()).1.unwrap().code,
                CloseCode::PROTOCOL,
                "{code}"
            );
        }
        assert_eq!(
            close(b"\x03\xe8\xff").1.unwrap().code,
            CloseCode::INVALID_PAYLOAD
        );
    }

    #[test]
    fn a_control_frame_in_pieces_between_pieces_of_a_message_is_whole() {
        let bytes = [
            frame(0x01, b"ab"),
            frame(0x8A, &[7; 125]),
            frame(0x80, b"c"),
        ]
        .concat();
        let expected = vec![Received::Pong(Bytes::from(vec![7; 125])), text("abc")];
        assert_eq!(run(&bytes), (expected, None));
    }

    #[test]
    fn a_large_binary_payload_is_read_straight_into_its_message() {
        let limits = Limits {
            max_message: 1 << 20,
            max_frame: 1 << 20,
            max_fragments: 9,
        };
        let payload: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
        let bytes = frame(0x82, &payload);
        let mut assembler = Assembler::new(limits);
        let mut first = bytes[..1000].to_vec();
        assert_eq!(assembler.take(&mut first, &mut 0), Ok(None));
        let mut rest = &bytes[1000..];
        let mut received = None;
        while received.is_none() {
            let mut buffer = assembler.direct(64).expect("a large rest");
            let n = buffer.remaining_mut().min(rest.len()).min(7777);
            assert!(n > 0);
            buffer.put_slice(&rest[..n]);
            rest = &rest[n..];
            received = assembler.filled(n).unwrap();
            if received.is_none() && assembler.direct(64).is_none() {
                let mut tail = rest.to_vec();
                received = assembler.take(&mut tail, &mut 0).unwrap();
            }
        }
        assert_eq!(received, Some(Received::Message(Message::from(payload))));
        assert!(assembler.is_idle());
    }

    #[test]
    fn memory_follows_what_arrived_not_what_was_declared() {
        let limits = Limits {
            max_message: 1 << 30,
            max_frame: 1 << 30,
            max_fragments: 9,
        };
        let mut assembler = Assembler::new(limits);
        let mut bytes = vec![0x82, 0xFF, 0, 0, 0, 0, 0x3F, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7];
        assert_eq!(assembler.take(&mut bytes, &mut 0), Ok(None));
        let Some(Partial {
            data: Data::Binary(data),
            ..
        }) = &assembler.message
        else {
            panic!("a binary message has begun");
        };
        assert_eq!(data.len(), 3);
        assert!(data.capacity() < 100);
    }

    #[test]
    fn r2_the_buffer_of_many_fragments_grows_in_few_steps_and_not_beyond_the_limit() {
        let limits = Limits {
            max_message: 1 << 20,
            max_frame: 1 << 20,
            max_fragments: 1 << 20,
        };
        let mut assembler = Assembler::new(limits);
        let mut steps = Vec::new();
        for i in 0..1 << 14 {
            let mut bytes = frame(if i == 0 { 0x02 } else { 0x00 }, &[7; 64]);
            assert_eq!(assembler.take(&mut bytes, &mut 0), Ok(None));
            let Some(Partial {
                data: Data::Binary(data),
                ..
            }) = &assembler.message
            else {
                panic!("a binary message has begun");
            };
            if steps.last() != Some(&data.capacity()) {
                steps.push(data.capacity());
            }
            assert!(data.capacity() <= 4 * data.len());
        }
        assert!(steps.len() < 16, "{steps:?}");
        assert_eq!(steps.last(), Some(&limits.max_message));
    }

    #[test]
    fn a_kept_message_owns_only_its_own_bytes() {
        let limits = Limits {
            max_message: 1 << 20,
            max_frame: 1 << 20,
            max_fragments: 9,
        };
        let bytes = [
            frame(0x02, &[1; 1000]),
            frame(0x00, &[2; 100]),
            frame(0x80, &[]),
        ]
        .concat();
        let (received, _) = with(limits, &bytes, 10);
        let [Received::Message(Message::Binary(bytes))] = &received[..] else {
            panic!("one message");
        };
        let vec = Vec::from(bytes.clone());
        assert_eq!(vec.capacity(), 1100);
    }

    #[cfg(feature = "deflate")]
    mod compressed {
        use super::*;
        use crate::protocol::{Deflate, negotiate};

        /// A message that did not get smaller: stored blocks of at most `size` bytes (RFC 1951
        /// §3.2.4), then the empty one whose end is not sent (RFC 7692 §7.2.1).
        fn stored(message: &[u8], size: usize) -> Vec<u8> {
            let mut out = Vec::new();
            for block in message.chunks(size) {
                let len = block.len() as u16;
                out.push(0);
                out.extend(len.to_le_bytes());
                out.extend((!len).to_le_bytes());
                out.extend(block);
            }
            out.push(0);
            out
        }

        fn receive(max_message: usize, max_frame: usize, bytes: &[u8]) -> Result<usize, CloseCode> {
            let mut assembler = Assembler::new(Limits {
                max_message,
                max_frame,
                max_fragments: 10,
            });
            let offers = [("permessage-deflate", &[][..])].into_iter();
            assembler.set_deflate(negotiate(offers, &Deflate::new()).unwrap().0);
            let mut bytes = bytes.to_vec();
            match assembler.take(&mut bytes, &mut 0) {
                Ok(Some(Received::Message(message))) => Ok(message.len()),
                Ok(other) => panic!("{other:?}"),
                Err(violation) => Err(violation.code),
            }
        }

        #[test]
        fn r5_a_message_within_the_limit_may_be_larger_on_the_wire() {
            let message = stored(&[7; 1000], 100);
            assert_eq!(message.len(), 1051);
            let whole = frame(0xC2, &message);
            assert_eq!(receive(1000, 1000, &whole), Ok(1000));
            assert_eq!(receive(999, 999, &whole), Err(CloseCode::TOO_BIG));
            // No limit at all.
            assert_eq!(receive(usize::MAX, usize::MAX, &whole), Ok(1000));
            // Frames that have a limit of their own keep it.
            assert_eq!(receive(1000, 999, &whole), Err(CloseCode::TOO_BIG));
            let halves = [frame(0x42, &message[..525]), frame(0x80, &message[525..])].concat();
            assert_eq!(receive(1000, 526, &halves), Ok(1000));
            assert_eq!(receive(1000, 525, &halves), Err(CloseCode::TOO_BIG));
        }

        #[test]
        fn r5_a_last_fragment_is_not_measured_by_what_the_first_was_inflated_to() {
            // 995 bytes are there, 5 are to come, in 11 on the wire.
            let bytes = [
                frame(0x42, &stored(&[7; 995], 995)[..1000]),
                frame(0x80, &stored(&[7; 5], 5)),
            ];
            assert_eq!(receive(1000, 1000, &bytes.concat()), Ok(1000));
        }

        #[test]
        fn r1_a_header_that_says_too_much_is_refused_before_its_payload() {
            let far = frame(0xC2, &[0; 3000]);
            assert_eq!(receive(1000, 1000, &far[..8]), Err(CloseCode::TOO_BIG));
            // Plain frames are what they say.
            let plain = frame(0x82, &[0; 1001]);
            assert_eq!(receive(1000, 1000, &plain[..8]), Err(CloseCode::TOO_BIG));
        }
    }
}
