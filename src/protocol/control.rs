//! Close, ping and pong (RFC 6455 §5.5): reading and writing them, and [`ControlQueue`], the pings
//! and pongs that wait to be written. They wait apart from the messages, so that a full message
//! queue does not delay them.

use super::frame::{OpCode, write_header};
use super::violation::Violation;
use crate::close::{CloseCode, CloseFrame, CloseReason};
use crate::config::CONTROL_QUEUE;

/// The largest control frame of a server: a header of 2 bytes, 125 of payload (RFC 6455 §5.5).
const LARGEST: usize = 127;

/// While it is empty, it owns no heap memory.
#[derive(Debug, Default)]
pub(crate) struct ControlQueue {
    /// Not empty. Boxed: most of the time there is nothing, and every connection keeps the room.
    waiting: Option<Box<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: Vec<u8>,
    /// Where the last frame begins, if it is a pong.
    last_pong: Option<u32>,
}

impl ControlQueue {
    pub(crate) fn ping(&mut self, payload: &[u8]) {
        let waiting = self.waiting.get_or_insert_default();
        waiting.last_pong = None;
        write_control(&mut waiting.frames, OpCode::Ping, payload);
    }

    /// Answers a ping. Equal pings need one answer (RFC 6455 §5.5.3).
    pub(crate) fn pong(&mut self, payload: &[u8]) {
        self.waiting.get_or_insert_default().pong(payload);
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_none()
    }

    /// Whether there is no room for the answer to one more of the peer's pings.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        let waiting = self.waiting.as_ref();
        waiting.is_some_and(|waiting| waiting.frames.len() > CONTROL_QUEUE - LARGEST)
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        let waiting = self.waiting.take();
        waiting.map_or_else(Vec::new, |waiting| waiting.frames)
    }
}

impl Waiting {
    fn pong(&mut self, payload: &[u8]) {
        let at = self.frames.len();
        self.reserve();
        write_control(&mut self.frames, OpCode::Pong, payload);
        let (before, frame) = self.frames.split_at(at);
        let last = self.last_pong.and_then(|last| before.get(last as usize..));
        if last == Some(frame) {
            self.frames.truncate(at);
        } else {
            // A queue that is full takes no more: see `is_full`.
            self.last_pong = u32::try_from(at).ok();
        }
    }

    /// Makes room for a pong. The buffer doubles, as a `Vec` does, but stays within the limit.
    fn reserve(&mut self) {
        let (len, room) = (self.frames.len(), self.frames.capacity());
        if room < CONTROL_QUEUE && room - len < LARGEST && len + LARGEST <= CONTROL_QUEUE {
            let goal = (2 * len).clamp(len + LARGEST, CONTROL_QUEUE);
            self.frames.reserve_exact(goal - len);
        }
    }
}

/// Appends a control frame. A payload over 125 bytes is cut (callers check before).
pub(crate) fn write_control(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    let payload = &payload[..payload.len().min(125)];
    write_header(out, opcode, false, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a Close frame, an empty one for `None`.
pub(crate) fn write_close(out: &mut Vec<u8>, frame: Option<&CloseFrame>) {
    let Some(frame) = frame else {
        return write_control(out, OpCode::Close, &[]);
    };
    // It is the last that is written, so it takes as much room as it needs.
    let reason = frame.reason.as_str().as_bytes();
    out.reserve_exact(2 + 2 + reason.len());
    write_header(out, OpCode::Close, false, 2 + reason.len());
    out.extend_from_slice(&frame.code.as_u16().to_be_bytes());
    out.extend_from_slice(reason);
}

/// Whether the last bytes look like the Close frame of a client. This is a guess, for input whose
/// frames cannot be told apart after a violation. A peer sends nothing after its Close frame.
pub(crate) fn ends_with_close(bytes: &[u8]) -> bool {
    (0..=125).any(|payload: u8| {
        let rest = bytes.len().checked_sub(usize::from(payload) + 6);
        rest.is_some_and(|at| bytes[at..].starts_with(&[0x88, 0x80 | payload]))
    })
}

/// Reads the payload of a Close frame (§5.5.1).
pub(crate) fn read_close(payload: &[u8]) -> Result<Option<CloseFrame>, Violation> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [a, b, reason @ ..] => (CloseCode::from(u16::from_be_bytes([*a, *b])), reason),
        [_] => {
            return Err(Violation::new(
                CloseCode::PROTOCOL_ERROR,
                "a Close frame with half a code (RFC 6455 §5.5.1)",
            ));
        }
    };
    if !code.is_sendable() {
        return Err(Violation::new(
            CloseCode::PROTOCOL_ERROR,
            format!("a Close frame with code {code}, which must not be sent (RFC 6455 §7.4)"),
        ));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| {
        Violation::new(
            CloseCode::INVALID_FRAME_PAYLOAD_DATA,
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

    #[test]
    fn a_close_frame_at_the_end_is_seen_behind_anything() {
        for (bytes, close) in [
            (&b"\x88\x80kkkk"[..], true),
            (b"junk\x88\x82kkkk12", true),
            (b"junk\x88\x82kkkk123", false),
            (b"\x88\x82kkkk1", false),
            (b"\x88\x02kkkk12", false),
            (b"\x81\x82kkkk12", false),
            (b"", false),
        ] {
            assert_eq!(ends_with_close(bytes), close, "{bytes:?}");
        }
        let longest = [&b"\x88\xFDkkkk"[..], &[7; 125]].concat();
        assert!(ends_with_close(&longest));
    }

    #[test]
    fn f22_equal_pings_in_a_row_have_one_answer() {
        let mut queue = ControlQueue::default();
        queue.pong(b"a");
        queue.pong(b"a");
        queue.pong(b"ab");
        queue.pong(b"a");
        assert_eq!(queue.take(), b"\x8A\x01a\x8A\x02ab\x8A\x01a");
        assert!(queue.is_empty());
        queue.pong(b"a");
        assert_eq!(queue.take(), b"\x8A\x01a");
    }

    #[test]
    fn a_ping_of_ours_between_two_equal_pongs_keeps_them_apart() {
        let mut queue = ControlQueue::default();
        queue.pong(b"");
        queue.ping(b"");
        queue.pong(b"");
        assert_eq!(queue.take(), b"\x8A\x00\x89\x00\x8A\x00");
    }

    /// Pongs with payloads of `len` until it is full, and how many those were.
    fn filled(len: usize) -> (ControlQueue, usize) {
        let mut queue = ControlQueue::default();
        let mut pongs = 0;
        while !queue.is_full() {
            let payload = (pongs as u16).to_be_bytes().repeat(63);
            queue.pong(&payload[..len]);
            pongs += 1;
        }
        (queue, pongs)
    }

    #[test]
    fn f23_a_full_queue_says_so() {
        for len in [2, 60, 125] {
            let (_, pongs) = filled(len);
            assert!(pongs > (CONTROL_QUEUE - LARGEST) / (2 + len), "{len}");
        }
    }

    #[test]
    fn s9_pongs_that_wait_take_no_more_memory_than_their_limit() {
        for len in [2, 60, 125] {
            let frames = filled(len).0.take();
            assert!(
                frames.capacity() <= CONTROL_QUEUE,
                "{len}: {}",
                frames.capacity()
            );
        }
    }

    #[test]
    fn close_frames_are_written_with_and_without_a_code() {
        let mut out = Vec::new();
        write_close(&mut out, None);
        write_close(
            &mut out,
            CloseFrame::new(CloseCode::NORMAL_CLOSURE, "ok").as_ref(),
        );
        assert_eq!(out, b"\x88\x00\x88\x04\x03\xe8ok");
    }
}
