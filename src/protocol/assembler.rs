//! Frames to messages: unmasks, validates and collects what a client sends
//! (RFC 6455 §5.4 to §5.6, §8.1), refusing it at the first byte that cannot be right.

use bytes::buf::Limit;
use bytes::{BufMut, Bytes};

use super::buffer::reserve;
use super::control::read_close;
use super::deflate::{Inbound, InboundTerms};
use super::frame::{Header, MAX_HEADER, OpCode, RSV1};
use super::mask::unmask;
use super::partial::{Data, Partial};
use super::utf8::InvalidUtf8;
use super::violation::Violation;
use crate::close::{CloseCode, CloseFrame};
use crate::config::Config;
use crate::message::{Message, Utf8Bytes};

/// A complete message or control frame from a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Message(Message),
    Ping(Bytes),
    Pong(Bytes),
    /// `None`: a Close frame without a code.
    Close(Option<CloseFrame>),
}

/// Compressed payload is inflated in pieces of this many bytes. 256 bytes of DEFLATE become at most
/// 258 KiB, in a quarter of a millisecond; the calls cost little in comparison.
const PIECE: usize = 256;

/// After this many inflated bytes, other connections get their turn.
const INFLATED: u32 = 64 * 1024;

/// Collects one message at a time. While it is empty, it owns no heap memory. The limits stand in the
/// [`Config`].
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    /// A header that has partly arrived. Boxed, as are those that follow: most arrive at once, and an idle
    /// connection keeps the room.
    head: Option<Box<Head>>,
    /// The frame whose payload is arriving.
    frame: Option<Frame>,
    /// The data message that is arriving.
    message: Option<Box<Partial>>,
    /// The payload of a control frame.
    control: Option<Box<Control>>,
    /// Present if messages may be compressed.
    deflate: Option<Box<Inbound>>,
    /// Payload of the message that is arriving, in bytes on the wire, which
    /// [`take_progress`](Self::take_progress) has not reported yet.
    progress: u32,
    /// What was inflated since the last [`take_work`](Self::take_work).
    work: u32,
}

#[derive(Debug, Default)]
struct Head {
    bytes: [u8; MAX_HEADER],
    len: u8,
}

#[derive(Debug)]
struct Control {
    /// The most that a control frame may carry (§5.5).
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
    /// How many bytes of its message may still come if the limit leaves `room`: after a frame that
    /// is not the last one, as many as there is room for.
    fn expected(&self, room: usize) -> usize {
        if self.fin { self.remaining } else { room }
    }
}

impl Assembler {
    /// Messages may be compressed from here on.
    pub(crate) fn set_deflate(&mut self, terms: InboundTerms, config: &Config) {
        self.deflate = Some(Inbound::new(terms, config.max_message));
    }

    /// The most payload that one message may have on the wire.
    pub(crate) fn largest(&self, config: &Config) -> usize {
        let most = config.max_message;
        self.deflate
            .as_ref()
            .map_or(most, |deflate| deflate.room(most))
    }

    /// Takes bytes from `input` at `at`, moves `at` past them, and returns the first complete
    /// message or control frame. `None`: all of `input` is taken, or enough is inflated for now,
    /// which is 64 KiB and a piece. Payloads are unmasked in place.
    ///
    /// After a violation, the rest of the input has no meaning: do not call this again.
    #[inline]
    pub(crate) fn take(
        &mut self,
        input: &mut [u8],
        at: &mut usize,
        config: &Config,
    ) -> Result<Option<Received>, Violation> {
        loop {
            if self.frame.is_some() {
                if *at == input.len() {
                    return Ok(None);
                }
                if let Some(received) = self.payload(&mut input[*at..], at, config)? {
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
            let Some((header, used)) = self.header(rest, config)? else {
                *at = input.len();
                return Ok(None);
            };
            *at += used;
            let rest = &mut input[*at..];
            let len = header.len as usize;
            // The fast paths: a message in one frame or a control frame, all of it here.
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
            if header.opcode.is_control() && len <= rest.len() {
                let payload = &mut rest[..len];
                unmask(payload, header.mask);
                *at += len;
                return received(header.opcode, payload).map(Some);
            }
            self.begin(&header, len, config)?;
            if len == 0 {
                if let Some(received) = self.end()? {
                    return Ok(Some(received));
                }
            }
        }
    }

    /// The buffer for the rest of a large binary payload, so that it can be read from the socket
    /// without a copy. `None` unless more than `threshold` bytes of it are still to come.
    ///
    /// Call [`filled`](Self::filled) with what was read.
    pub(crate) fn direct(
        &mut self,
        threshold: usize,
        config: &Config,
    ) -> Option<Limit<&mut Vec<u8>>> {
        let frame = self.frame.as_ref()?;
        if frame.remaining <= threshold || frame.opcode.is_control() {
            return None;
        }
        let message = self.message.as_mut()?;
        let expected = frame.expected(config.max_message - message.data.len());
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
        ) = (&mut self.frame, self.message.as_deref_mut())
        {
            self.progress = self.progress.saturating_add(saturated(n));
            let start = bytes.len().saturating_sub(n);
            frame.mask = unmask(&mut bytes[start..], frame.mask);
            frame.remaining -= n.min(frame.remaining);
            if frame.remaining == 0 {
                return self.end();
            }
        }
        Ok(None)
    }

    /// Whether nothing is in progress: neither a frame nor a fragmented message has partly arrived.
    pub(crate) fn is_idle(&self) -> bool {
        self.head.is_none() && self.frame.is_none() && self.message.is_none()
    }

    /// Whether a part of a frame has arrived and the rest has not.
    pub(crate) fn in_frame(&self) -> bool {
        self.head.is_some() || self.frame.is_some()
    }

    /// How many bytes of a message's payload have arrived since the last call.
    pub(crate) fn take_progress(&mut self) -> usize {
        std::mem::take(&mut self.progress) as usize
    }

    /// What was inflated since the last call, in bytes.
    #[inline]
    pub(crate) fn take_work(&mut self) -> usize {
        std::mem::take(&mut self.work) as usize
    }

    /// Bytes of memory that are held for what is in progress.
    #[cfg(any(tower_websocket_fuzzing, test))]
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

    /// Drops everything that has arrived of an unfinished message.
    pub(crate) fn clear(&mut self) {
        *self = Self {
            deflate: self.deflate.take(),
            ..Self::default()
        };
    }

    /// Reads a header from what was kept of it and `rest`, and returns how many bytes of `rest` it
    /// took. `None`: the header is incomplete, and all of `rest` was kept.
    #[inline]
    fn header(
        &mut self,
        rest: &[u8],
        config: &Config,
    ) -> Result<Option<(Header, usize)>, Violation> {
        let fragmented = self.message.is_some();
        let compression = self.deflate.is_some();
        if self.head.is_none() {
            let room = self.room(rest.first().copied().unwrap_or_default(), config);
            if let Some(header) = Header::parse(rest, fragmented, compression, room)? {
                return Ok(Some((header, header.size)));
            }
        }
        let mut head = self.head.take().unwrap_or_default();
        let kept = usize::from(head.len);
        let more = rest.len().min(MAX_HEADER - kept);
        head.bytes[kept..kept + more].copy_from_slice(&rest[..more]);
        let room = self.room(head.bytes[0], config);
        match Header::parse(&head.bytes[..kept + more], fragmented, compression, room)? {
            Some(header) => Ok(Some((header, header.size - kept))),
            None => {
                // 14 bytes are always a whole header, so all of `rest` fitted.
                head.len = (kept + more) as u8;
                self.head = Some(head);
                Ok(None)
            }
        }
    }

    /// How much payload a data frame may have whose first byte is `first`.
    #[inline]
    fn room(&self, first: u8, config: &Config) -> usize {
        let (max_message, max_frame) = (config.max_message, config.max_frame);
        match (&self.deflate, &self.message) {
            // The length of a compressed frame does not say how large the message will be; the
            // inflater finds out. Data that cannot be compressed may grow a little, unless frames
            // have a limit of their own.
            (Some(deflate), None) if first & RSV1 != 0 => deflate.room(max_frame),
            (Some(deflate), Some(message)) if message.inflater.is_some() => deflate.room(max_frame),
            (_, Some(message)) => max_frame.min(max_message - message.data.len()),
            (_, None) => max_frame.min(max_message),
        }
    }

    /// The header of a frame has arrived.
    fn begin(&mut self, header: &Header, len: usize, config: &Config) -> Result<(), Violation> {
        if !header.opcode.is_control() {
            let message = self
                .message
                .get_or_insert_with(|| Box::new(Partial::new(header.opcode)));
            if header.rsv1 {
                message.inflater = self.deflate.as_mut().map(|deflate| deflate.begin());
            }
            message.fragments += 1;
            if message.fragments > config.fragments() {
                return Err(Violation::new(
                    CloseCode::POLICY_VIOLATION,
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
    fn payload(
        &mut self,
        rest: &mut [u8],
        at: &mut usize,
        config: &Config,
    ) -> Result<Option<Received>, Violation> {
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
            // A header with a greater length was refused.
            if let Some(rest) = control.bytes.get_mut(control.len..control.len + n) {
                rest.copy_from_slice(piece);
                control.len += n;
            }
        } else if let Some(message) = &mut self.message {
            let room = config.max_message - message.data.len();
            let work = message.push(piece, frame.expected(room), room)?;
            self.work = self.work.saturating_add(saturated(work));
            self.progress = self.progress.saturating_add(saturated(n));
        }
        frame.remaining -= n;
        *at += n;
        if frame.remaining == 0 {
            self.end()
        } else {
            Ok(None)
        }
    }

    /// The current frame is complete.
    fn end(&mut self) -> Result<Option<Received>, Violation> {
        let Some(frame) = self.frame.take() else {
            return Ok(None);
        };
        let control = frame.opcode.is_control().then(|| self.control.take());
        let control = control.flatten();
        let control = control.as_ref().map_or(&[][..], |c| &c.bytes[..c.len]);
        Ok(match frame.opcode {
            opcode if opcode.is_control() => Some(received(opcode, control)?),
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

#[inline]
fn saturated(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// A control frame that is whole.
fn received(opcode: OpCode, payload: &[u8]) -> Result<Received, Violation> {
    Ok(match opcode {
        OpCode::Ping => Received::Ping(Bytes::copy_from_slice(payload)),
        OpCode::Pong => Received::Pong(Bytes::copy_from_slice(payload)),
        _ => Received::Close(read_close(payload)?),
    })
}

#[cfg(test)]
mod tests;
