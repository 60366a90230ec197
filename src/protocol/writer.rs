//! [`Writer`]: frames messages, and keeps them in few pieces until they are written.
//!
//! Small frames are copied into one buffer, one after another; large payloads are not copied.
//! [`Writer::take`] hands out one [`Batch`] at a time, and control frames go between two batches.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::{AddAssign, Deref, SubAssign};
use std::sync::Arc;

use bytes::Bytes;

use super::frame::{OpCode, write_header};
use crate::config::{BY_REFERENCE, MESSAGE_OVERHEAD, SCRATCH};
use crate::message::{Message, Utf8Bytes};

/// The longest header of a server: 2 bytes and 8 of length.
const HEADER: usize = 10;

/// Frames that wait to be written. While it is empty, it owns no heap memory.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// Boxed: most of the time `open` is all that waits.
    sealed: Option<Box<Sealed>>,
    /// The piece that small frames are put together in.
    open: Piece,
    /// All that waits.
    load: Load,
}

/// Full pieces.
#[derive(Debug, Default)]
struct Sealed {
    /// In order; not empty.
    segments: VecDeque<Segment>,
    /// The messages that end in them.
    load: Load,
}

/// How much is waiting, as the limits of the queue count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) messages: usize,
    /// Bytes of payload, and [`MESSAGE_OVERHEAD`] for each message.
    pub(crate) bytes: usize,
}

impl Load {
    /// Bytes of payload alone.
    pub(crate) fn payload(self) -> usize {
        self.bytes - self.messages * MESSAGE_OVERHEAD
    }
}

impl AddAssign for Load {
    #[inline]
    fn add_assign(&mut self, more: Self) {
        self.messages += more.messages;
        self.bytes += more.bytes;
    }
}

impl SubAssign for Load {
    #[inline]
    fn sub_assign(&mut self, less: Self) {
        self.messages -= less.messages;
        self.bytes -= less.bytes;
    }
}

/// Small frames, one behind the other.
#[derive(Debug)]
enum Piece {
    Own(Vec<u8>),
    /// One that many have. Most of the time nothing follows until it is written, and so it need not be
    /// copied.
    Shared(Arc<[u8]>),
}

/// The largest buffer that a thread keeps for the next piece: the answers to some dozens of small messages.
const SPARE: usize = 4 * 1024;

thread_local! {
    /// The buffer of a piece that is written. Most connections write at once what they frame, one after
    /// the other, and so all of a thread frame into one buffer. Who cannot write keeps it, and the next
    /// makes its own.
    static WRITTEN: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Piece {
    /// Appends `more` bytes, or somewhat fewer.
    #[inline]
    fn append(&mut self, more: usize, write: impl FnOnce(&mut Vec<u8>)) {
        match self {
            Self::Own(own) => {
                if own.capacity() == 0 {
                    // The thread may be at its end.
                    *own = WRITTEN.try_with(Cell::take).unwrap_or_default();
                    if own.capacity() < more {
                        own.reserve_exact(more);
                    }
                }
                write(own);
            }
            Self::Shared(shared) => {
                let mut own = Vec::with_capacity(shared.len() + more);
                own.extend_from_slice(shared);
                write(&mut own);
                *self = Self::Own(own);
            }
        }
    }

    /// All of it is written.
    #[inline]
    fn recycle(&mut self) {
        if let Self::Own(mut own) = std::mem::take(self) {
            if (1..=SPARE).contains(&own.capacity()) {
                own.clear();
                let _ = WRITTEN.try_with(|written| written.replace(own));
            }
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Own(own) => own.into(),
            Self::Shared(shared) => Bytes::from_owner(shared),
        }
    }
}

impl Default for Piece {
    fn default() -> Self {
        Self::Own(Vec::new())
    }
}

impl Deref for Piece {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(own) => own,
            Self::Shared(shared) => shared,
        }
    }
}

#[derive(Debug)]
struct Segment {
    bytes: Bytes,
    /// The messages that end in it.
    load: Load,
}

impl Writer {
    /// Frames a message. The caller drops it after it has released its lock, because that may run
    /// code of the application.
    #[inline]
    pub(crate) fn push(&mut self, message: &Message) {
        self.frame(opcode(message), false, message.payload());
    }

    /// Frames a message whose payload is `compressed` (RFC 7692 §6).
    pub(crate) fn push_compressed(&mut self, message: &Message, compressed: &Bytes) {
        self.frame(opcode(message), true, compressed);
    }

    /// Writes a message that was framed before.
    pub(crate) fn push_framed(&mut self, framed: &Framed) {
        let load = Load {
            messages: 1,
            bytes: framed.load(),
        };
        let is_small = framed.payload.len() < BY_REFERENCE;
        if is_small && self.open.is_empty() {
            self.open = Piece::Shared(framed.head.clone());
        } else {
            let head = &framed.head;
            let write = |open: &mut Vec<u8>| open.extend_from_slice(head);
            self.open.append(head.len(), write);
        }
        if is_small {
            self.appended(load);
        } else {
            self.push_large(framed.payload.clone(), load);
        }
    }

    /// The same for one whose payload is `compressed`.
    pub(crate) fn push_framed_compressed(&mut self, framed: &Framed, compressed: &Bytes) {
        self.frame(framed.opcode, true, compressed);
    }

    #[inline]
    fn frame(&mut self, opcode: OpCode, rsv1: bool, payload: &Bytes) {
        let load = Load {
            messages: 1,
            bytes: payload.len() + MESSAGE_OVERHEAD,
        };
        if payload.len() < BY_REFERENCE {
            self.open.append(HEADER + payload.len(), |open| {
                write_header(open, opcode, rsv1, payload.len());
                open.extend_from_slice(payload);
            });
            self.appended(load);
        } else {
            let write = |open: &mut Vec<u8>| write_header(open, opcode, rsv1, payload.len());
            self.open.append(HEADER, write);
            self.push_large(payload.clone(), load);
        }
    }

    /// A small message stands at the end of `open`.
    #[inline]
    fn appended(&mut self, load: Load) {
        self.load += load;
        // Half of it, so that a batch is not one small message over its size.
        if self.open.len() >= SCRATCH / 2 {
            self.seal();
        }
    }

    /// The header of a large message stands at the end of `open`.
    fn push_large(&mut self, bytes: Bytes, load: Load) {
        self.seal();
        self.load += load;
        self.push_segment(Segment { bytes, load });
    }

    fn push_segment(&mut self, segment: Segment) {
        let sealed = self.sealed.get_or_insert_default();
        sealed.load += segment.load;
        sealed.segments.push_back(segment);
    }

    /// All that waits to be [taken](Self::take).
    pub(crate) fn load(&self) -> Load {
        self.load
    }

    /// Whether there is nothing to [`take`](Self::take).
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.sealed.is_none()
    }

    /// Moves about 64 KiB of what waits to `batch`, which must not have messages.
    #[inline]
    pub(crate) fn take(&mut self, batch: &mut Batch) {
        let Some(sealed) = &mut self.sealed else {
            batch.push(std::mem::take(&mut self.open));
            self.load = Load::default();
            return;
        };
        let mut size = 0;
        while size < SCRATCH {
            let Some(segment) = sealed.segments.pop_front() else {
                break;
            };
            size += segment.bytes.len();
            self.load -= segment.load;
            sealed.load -= segment.load;
            batch.push_part(segment.bytes);
        }
        if sealed.segments.is_empty() {
            self.sealed = None;
        }
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            let bytes = std::mem::take(&mut self.open).into_bytes();
            let mut load = self.load;
            if let Some(sealed) = &self.sealed {
                load -= sealed.load;
            }
            self.push_segment(Segment { bytes, load });
        }
    }
}

/// A message that is framed once, for many connections. Clones share its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Framed {
    opcode: OpCode,
    /// The header, and behind it the payload if that is small.
    head: Arc<[u8]>,
    payload: Bytes,
}

impl Framed {
    pub(crate) fn new(message: &Message) -> Self {
        let (opcode, payload) = (opcode(message), message.payload());
        let is_small = payload.len() < BY_REFERENCE;
        let room = if is_small { payload.len() } else { 0 };
        let mut head = Vec::with_capacity(HEADER + room);
        write_header(&mut head, opcode, false, payload.len());
        if !is_small {
            return Self {
                opcode,
                head: head.into(),
                payload: payload.clone(),
            };
        }
        let at = head.len();
        head.extend_from_slice(payload);
        let head = Arc::<[u8]>::from(head);
        Self {
            opcode,
            payload: Bytes::from_owner(head.clone()).slice(at..),
            head,
        }
    }

    pub(crate) fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The message again. Its payload is shared.
    pub(crate) fn message(&self) -> Message {
        let payload = self.payload.clone();
        match self.opcode {
            OpCode::Text => Utf8Bytes::try_from(payload)
                .map_or_else(|_| Message::Binary(self.payload.clone()), Message::Text),
            _ => Message::Binary(payload),
        }
    }

    /// What it counts in a queue that is limited in bytes.
    pub(crate) fn load(&self) -> usize {
        self.payload.len() + MESSAGE_OVERHEAD
    }
}

fn opcode(message: &Message) -> OpCode {
    match message {
        Message::Text(_) => OpCode::Text,
        Message::Binary(_) => OpCode::Binary,
    }
}

/// What is being written now: control frames first, then messages. A batch ends between two frames.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Control frames, or small messages if there are none.
    head: Piece,
    /// What follows; not empty.
    #[expect(
        clippy::box_collection,
        reason = "24 bytes less in every connection; most batches are one piece"
    )]
    parts: Option<Box<VecDeque<Bytes>>>,
    /// Bytes of the first piece that are written.
    written: usize,
}

/// The most pieces that one vectored write gets.
pub(crate) const SLICES: usize = 16;

impl Batch {
    /// Puts control frames in front. Allowed only while the batch is empty.
    pub(crate) fn set_control(&mut self, frames: Vec<u8>) {
        debug_assert!(self.is_empty());
        self.head = Piece::Own(frames);
    }

    #[inline]
    fn push(&mut self, piece: Piece) {
        if self.head.is_empty() {
            self.head = piece;
        } else if !piece.is_empty() {
            self.push_part(piece.into_bytes());
        }
    }

    fn push_part(&mut self, bytes: Bytes) {
        self.parts.get_or_insert_default().push_back(bytes);
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_empty() && self.parts.is_none()
    }

    /// What is to be written next, if that is one piece.
    #[inline]
    pub(crate) fn single(&self) -> Option<&[u8]> {
        self.parts.is_none().then(|| &self.head[self.written..])
    }

    /// Appends the next pieces to `out`, as a socket with room takes them, and tells how many bytes
    /// those were.
    #[cfg(any(tower_websocket_fuzzing, test))]
    pub(crate) fn write_into(&mut self, out: &mut Vec<u8>) -> usize {
        let before = out.len();
        let mut slices = [IoSlice::new(&[]); SLICES];
        let n = self.slices(&mut slices);
        for slice in &slices[..n] {
            out.extend_from_slice(slice);
        }
        let written = out.len() - before;
        self.advance(written);
        written
    }

    /// What is to be written next.
    #[inline]
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let parts = self.parts.iter().flat_map(|parts| parts.iter());
        let pieces = std::iter::once(&self.head[..]).chain(parts.map(|part| &part[..]));
        let mut n = 0;
        for (slot, piece) in slices.iter_mut().zip(pieces.filter(|p| !p.is_empty())) {
            *slot = IoSlice::new(if n == 0 {
                &piece[self.written..]
            } else {
                piece
            });
            n += 1;
        }
        n
    }

    /// `n` bytes were written. Buffers that are fully written are freed at once.
    #[inline]
    pub(crate) fn advance(&mut self, n: usize) {
        self.written += n;
        if self.written < self.head.len() {
            return;
        }
        self.written -= self.head.len();
        self.head.recycle();
        let Some(parts) = &mut self.parts else {
            return;
        };
        while let Some(part) = parts.front() {
            if self.written < part.len() {
                return;
            }
            self.written -= part.len();
            parts.pop_front();
        }
        self.parts = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_all(writer: &mut Writer, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut batch = Batch::default();
        loop {
            if batch.is_empty() {
                writer.take(&mut batch);
                if batch.is_empty() {
                    return out;
                }
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let n = batch.slices(&mut slices);
            assert!(n > 0);
            let before = out.len();
            for slice in &slices[..n] {
                let room = step - (out.len() - before);
                out.extend_from_slice(&slice[..slice.len().min(room)]);
            }
            batch.advance(out.len() - before);
        }
    }

    #[test]
    fn frames_come_out_in_order_whatever_the_writes_take() {
        let sizes = [
            0, 1, 125, 126, 9000, 3, 70_000, 70_000, 5, 8191, 8192, 20_000, 1,
        ];
        let mut expected = Vec::new();
        for step in [1, 7, 1000, 100_000, usize::MAX] {
            let mut writer = Writer::default();
            expected.clear();
            for (i, size) in sizes.into_iter().enumerate() {
                let payload = vec![i as u8; size];
                write_header(&mut expected, OpCode::Binary, false, size);
                expected.extend_from_slice(&payload);
                writer.push(&Message::from(payload));
            }
            assert_eq!(writer.load().messages, sizes.len());
            assert_eq!(write_all(&mut writer, step), expected, "by {step}");
            assert_eq!(writer.load(), Load::default());
            assert!(writer.is_empty());
        }
    }

    #[test]
    fn a_batch_leaves_a_gap_for_control_frames_after_about_64_kib() {
        let mut writer = Writer::default();
        for _ in 0..100 {
            writer.push(&Message::from(vec![0; 10_000]));
        }
        let mut batch = Batch::default();
        writer.take(&mut batch);
        let size: usize = batch.parts.unwrap().iter().map(Bytes::len).sum();
        assert!((SCRATCH..SCRATCH + 20_000).contains(&size), "{size}");
    }

    #[test]
    fn an_empty_writer_and_an_empty_batch_own_no_memory() {
        let mut writer = Writer::default();
        for size in [10, 10_000, 100_000] {
            writer.push(&Message::from(vec![0; size]));
        }
        write_all(&mut writer, 5000);
        assert!(matches!(&writer.open, Piece::Own(own) if own.capacity() == 0));
        assert!(writer.sealed.is_none());
        let mut batch = Batch::default();
        batch.set_control(vec![1, 2, 3]);
        batch.advance(3);
        assert!(matches!(&batch.head, Piece::Own(own) if own.capacity() == 0));
        assert!(batch.is_empty() && batch.parts.is_none());
    }

    #[test]
    fn a_message_that_is_framed_once_comes_out_as_one_that_is_framed_alone() {
        let sizes = [0, 125, 126, 8191, 8192, 70_000, 3];
        let (mut alone, mut shared) = (Writer::default(), Writer::default());
        for size in sizes {
            for message in [
                Message::from(vec![b'a'; size]),
                Message::from("a".repeat(size)),
            ] {
                alone.push(&message);
                let framed = Framed::new(&message);
                shared.push_framed(&framed);
                assert_eq!(framed.message(), message);
                assert_eq!(framed.payload(), message.payload());
            }
            assert_eq!(alone.load(), shared.load());
        }
        assert_eq!(write_all(&mut alone, 1000), write_all(&mut shared, 777));
        assert_eq!(shared.load(), Load::default());
    }

    #[test]
    fn a_small_frame_of_many_is_copied_once_something_follows() {
        assert_eq!(size_of::<Piece>(), size_of::<Vec<u8>>());
        let framed = Framed::new(&Message::from("shared"));
        let mut writer = Writer::default();
        writer.push_framed(&framed);
        let mut batch = Batch::default();
        writer.take(&mut batch);
        assert!(std::ptr::eq(batch.single().unwrap(), &*framed.head));
        batch.advance(3);
        assert_eq!(batch.single().unwrap(), &framed.head[3..]);

        writer.push_framed(&framed);
        writer.push(&Message::from("own"));
        writer.push_framed(&framed);
        let expected = [&framed.head[..], b"\x81\x03own", &framed.head].concat();
        assert_eq!(write_all(&mut writer, 5), expected);
        for size in [0, 9000] {
            // Ahead of what is large.
            writer.push_framed(&framed);
            writer.push(&Message::from(vec![7; size]));
            let out = write_all(&mut writer, 5000);
            assert!(out.starts_with(&framed.head) && out.len() > framed.head.len() + size);
        }
        assert_eq!(Arc::strong_count(&framed.head), 3);
    }

    #[test]
    fn the_buffer_of_what_is_written_is_the_next_one_of_its_thread_and_at_most_4_kib() {
        let address = |writer: &Writer| writer.open.as_ptr();
        let (mut first, mut second) = (Writer::default(), Writer::default());
        first.push(&Message::from(vec![1; 500]));
        let before = address(&first);
        // Nobody gives up what is not written yet.
        second.push(&Message::from(vec![2; 100]));
        assert_ne!(address(&second), before);
        assert_eq!(write_all(&mut first, 5000).len(), 504);

        let mut third = Writer::default();
        third.push(&Message::from(vec![3; 7]));
        assert_eq!(address(&third), before);
        assert_eq!(
            write_all(&mut third, 5000),
            [&[0x82, 7][..], &[3; 7]].concat()
        );
        assert_eq!(write_all(&mut second, 5000).len(), 102);

        third.push(&Message::from(vec![4; SPARE]));
        write_all(&mut third, 5000);
        third.push(&Message::from(vec![5; 7]));
        let Piece::Own(own) = &third.open else {
            panic!("shared")
        };
        assert!(own.capacity() <= SPARE, "{}", own.capacity());
    }

    #[test]
    fn a_large_payload_is_not_copied() {
        let payload = Bytes::from(vec![7; BY_REFERENCE]);
        let mut writer = Writer::default();
        writer.push(&Message::from(payload.clone()));
        let mut batch = Batch::default();
        writer.take(&mut batch);
        assert_eq!(batch.parts.unwrap()[1].as_ptr(), payload.as_ptr());
    }
}
