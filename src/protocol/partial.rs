//! [`Partial`]: a message that has partly arrived.

use super::buffer::reserve;
use super::deflate::{Inbound, Inflater};
use super::frame::OpCode;
use super::utf8::{InvalidUtf8, TextBuilder};
use super::violation::Violation;
use crate::message::Message;

#[derive(Debug)]
pub(super) struct Partial {
    pub(super) fragments: u32,
    pub(super) data: Data,
    /// Present if the message is compressed.
    pub(super) inflater: Option<Box<Inflater>>,
}

/// Text is validated while it arrives (row F16); bytes are just collected.
#[derive(Debug)]
pub(super) enum Data {
    Text(TextBuilder),
    Binary(Vec<u8>),
}

impl Partial {
    pub(super) fn new(opcode: OpCode) -> Self {
        Self {
            fragments: 0,
            inflater: None,
            data: match opcode {
                OpCode::Text => Data::Text(TextBuilder::default()),
                _ => Data::Binary(Vec::new()),
            },
        }
    }

    /// Adds `payload`. `expected` is how many bytes may still come, these included. `room` is what
    /// the limit leaves; it bounds a compressed message, whose size is unknown. Returns how many
    /// bytes were inflated.
    pub(super) fn push(
        &mut self,
        payload: &[u8],
        expected: usize,
        room: usize,
    ) -> Result<usize, Violation> {
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

    /// The last frame is complete.
    pub(super) fn complete(&mut self, deflate: &mut Option<Box<Inbound>>) -> Result<(), Violation> {
        if let (Some(mut inflater), Some(deflate)) = (self.inflater.take(), deflate) {
            inflater.finish()?;
            deflate.end(inflater);
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Message, InvalidUtf8> {
        Ok(match self.data {
            Data::Text(text) => Message::Text(text.finish()?),
            Data::Binary(mut bytes) => {
                // The application may keep the message, so it must not keep spare capacity with it.
                bytes.shrink_to_fit();
                Message::Binary(bytes.into())
            }
        })
    }
}

impl Data {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Adds a piece of a message that inflates to at most `most` bytes; the inflater enforces that.
    fn push_inflated(&mut self, piece: &[u8], most: usize) -> Result<(), Violation> {
        let expected = most.saturating_sub(self.len());
        Ok(self.push(piece, expected)?)
    }

    pub(super) fn push(&mut self, payload: &[u8], expected: usize) -> Result<(), InvalidUtf8> {
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
