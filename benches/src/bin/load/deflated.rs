//! Replies that a server compressed in a way of its own.

use std::borrow::Cow;

use flate2::{Decompress, FlushDecompress};

use crate::Result;

/// What has come of the replies on one connection.
#[derive(Default)]
pub(crate) struct Replies {
    pending: Vec<u8>,
    /// The last one that was found to be right: the next is the same, most often.
    right: Vec<u8>,
}

impl Replies {
    /// Takes what came, and returns how many replies are whole with it.
    pub(crate) fn take(&mut self, input: &[u8], message: &[u8]) -> Result<u64> {
        self.pending.extend_from_slice(input);
        let (mut whole, mut at) = (0, 0);
        while let Some(frame) = frame(&self.pending[at..]) {
            at += frame.len();
            if frame[0] == 0x89 {
                continue; // a ping
            }
            if frame != self.right {
                if *inflated(frame)? != *message {
                    return Err("a reply differs from what was sent".into());
                }
                self.right = frame.to_vec();
            }
            whole += 1;
        }
        self.pending.drain(..at);
        Ok(whole)
    }

    /// The bytes of a reply on the wire.
    pub(crate) fn bytes(&self) -> usize {
        self.right.len()
    }
}

/// The first frame, if it is there with all its bytes.
fn frame(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(..header(bytes)? + size(bytes)?)
}

fn header(bytes: &[u8]) -> Option<usize> {
    Some(match bytes.get(1)? {
        0..126 => 2,
        126 => 4,
        _ => 10,
    })
}

fn size(bytes: &[u8]) -> Option<usize> {
    match header(bytes)? {
        2 => Some(bytes[1].into()),
        header => {
            let size = bytes.get(2..header)?;
            Some(
                size.iter()
                    .fold(0, |size, byte| size << 8 | usize::from(*byte)),
            )
        }
    }
}

fn inflated(frame: &[u8]) -> Result<Cow<'_, [u8]>> {
    let payload = &frame[header(frame).unwrap_or_default()..];
    match frame[0] {
        0x81 | 0x82 => return Ok(payload.into()),
        0xC1 | 0xC2 => {}
        first => return Err(format!("a frame that begins with {first:#04x}").into()),
    }
    let mut message = Vec::with_capacity(payload.len() * 100);
    let payload = [payload, &[0, 0, 0xFF, 0xFF]].concat();
    Decompress::new(false).decompress_vec(&payload, &mut message, FlushDecompress::Sync)?;
    Ok(message.into())
}
