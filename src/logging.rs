//! Escapes and shortens peers' text in log lines ([`escape`] and its siblings), limits the rate of
//! lines that a peer can cause ([`Throttle`]), and logs wire events.
//!
//! Text of a peer, and any error that may quote it, reaches a line or a span of the log only
//! through this file: a newline in it would forge a line, ESC and C1 characters would drive the
//! terminal, bidirectional controls would turn the line around.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most bytes that one text takes in the log, without the `…` that says that there was more.
/// Enough for an address with its query or a sentence; a line stays on one screen.
pub(crate) const MAX_TEXT: usize = 400;

/// Displays `bytes` escaped and shortened, for a log or an answer: what is not a printable
/// character is written as its number, the rest of UTF-8 stays legible. Takes at most `max`
/// bytes, and `…` behind them if that is not all.
pub(crate) fn escape(bytes: &[u8], max: usize) -> impl fmt::Display {
    Escaped {
        value: Raw(bytes),
        max,
        quoted: false,
    }
}

/// Displays `bytes` as [`escape`] does, in quotes; quotes inside are escaped.
pub(crate) fn quote(bytes: &[u8], max: usize) -> impl fmt::Display {
    Escaped {
        value: Raw(bytes),
        max,
        quoted: true,
    }
}

/// Displays what `value` displays, escaped as by [`escape`], in at most [`MAX_TEXT`] bytes.
pub(crate) fn escaped(value: impl fmt::Display) -> impl fmt::Display {
    Escaped {
        value: Shown(value),
        max: MAX_TEXT,
        quoted: false,
    }
}

/// A text for a field of an event or a span, escaped as by [`escape`], in at most [`MAX_TEXT`]
/// bytes. Most texts are short and plain, and are borrowed as they are.
pub(crate) fn field(text: &str) -> Cow<'_, str> {
    let is_plain = |b: u8| matches!(b, b' '..=b'~') && b != b'\\';
    if text.len() <= MAX_TEXT && text.bytes().all(is_plain) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(escaped(text).to_string())
    }
}

struct Escaped<T> {
    value: T,
    max: usize,
    quoted: bool,
}

/// What can be written through an [`Escaper`].
trait Escape {
    fn write(&self, to: &mut Escaper<'_, '_>) -> fmt::Result;
}

/// Bytes of which some may be UTF-8.
struct Raw<'a>(&'a [u8]);

struct Shown<T>(T);

/// Passes text on, escaped, until there is no more room; stores nothing of it.
struct Escaper<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    room: usize,
    quoted: bool,
    full: bool,
}

impl<T: Escape> fmt::Display for Escaped<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quotes = if self.quoted { "\"" } else { "" };
        out.write_str(quotes)?;
        let mut escaper = Escaper {
            out,
            room: self.max,
            quoted: self.quoted,
            full: false,
        };
        // An error says that there is no more room; another one would make `to_string` panic.
        let _ = self.value.write(&mut escaper);
        let full = escaper.full;
        out.write_str(quotes)?;
        out.write_str(if full { "…" } else { "" })
    }
}

impl Escape for Raw<'_> {
    fn write(&self, to: &mut Escaper<'_, '_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            to.write_str(chunk.valid())?;
            for byte in chunk.invalid() {
                to.byte(*byte)?;
            }
        }
        Ok(())
    }
}

impl<T: fmt::Display> Escape for Shown<T> {
    fn write(&self, to: &mut Escaper<'_, '_>) -> fmt::Result {
        write!(to, "{}", self.0)
    }
}

impl Escaper<'_, '_> {
    /// Either all of the piece is written or nothing.
    fn piece(&mut self, len: usize, piece: impl fmt::Display) -> fmt::Result {
        self.full |= len > self.room;
        if self.full {
            return Err(fmt::Error);
        }
        self.room -= len;
        write!(self.out, "{piece}")
    }

    fn byte(&mut self, byte: u8) -> fmt::Result {
        let escaped = byte.escape_ascii();
        self.piece(escaped.len(), escaped)
    }
}

impl Write for Escaper<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match u8::try_from(c) {
                Ok(b'"' | b'\'') if !self.quoted => self.piece(1, c)?,
                Ok(byte) if byte.is_ascii() => self.byte(byte)?,
                _ => {
                    let escaped = c.escape_debug();
                    let len = escaped.len();
                    self.piece(if len == 1 { c.len_utf8() } else { len }, escaped)?;
                }
            }
        }
        Ok(())
    }
}

/// One line in 10 s shows that the problem goes on, and a year of such lines fits on a disk.
const EVERY: Duration = Duration::from_secs(10);

/// Limits how often one line is written. It is a `static` beside the line that it limits.
pub(crate) struct Throttle {
    /// Lines in [`EVERY`].
    burst: u32,
    state: Mutex<State>,
}

struct State {
    /// When the lines are counted anew.
    next: Option<Instant>,
    written: u32,
    missed: u64,
}

impl Throttle {
    /// One line in 10 s.
    pub(crate) const fn new() -> Self {
        Self::with_burst(1)
    }

    /// That many lines in 10 s, however close together.
    pub(crate) const fn with_burst(burst: u32) -> Self {
        Self {
            burst,
            state: Mutex::new(State {
                next: None,
                written: 0,
                missed: 0,
            }),
        }
    }

    /// `Some` if the line is to be written now, with the number of lines that were suppressed since
    /// the last one.
    pub(crate) fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.next.is_none_or(|next| now >= next) {
            state.next = Some(now + EVERY);
            state.written = 0;
        }
        if state.written >= self.burst {
            state.missed += 1;
            return None;
        }
        state.written += 1;
        Some(std::mem::take(&mut state.missed))
    }
}

/// Reports a callback that took longer than `most`, if there is such a limit.
pub(crate) fn slow(name: &'static str, took: Duration, most: Option<Duration>) {
    let Some(most) = most.filter(|most| took > *most) else {
        return;
    };
    static LINES: Throttle = Throttle::new();
    if let Some(missed) = LINES.pass() {
        tracing::warn!(
            missed,
            "{name} took {took:?}, which is longer than {most:?}"
        );
    }
}

/// Whether a subscriber wants the wire events: messages and control frames, on the target
/// `tower_websocket::wire`, at DEBUG for a layer with `debug` and at TRACE otherwise.
#[inline]
pub(crate) fn shows_wire(debug: bool) -> bool {
    if debug {
        tracing::enabled!(target: "tower_websocket::wire", tracing::Level::DEBUG)
    } else {
        tracing::enabled!(target: "tower_websocket::wire", tracing::Level::TRACE)
    }
}

/// Logs a wire event. Do not call it under a lock: a subscriber may send messages.
pub(crate) fn wire(debug: bool, connection: u64, what: &dyn fmt::Display) {
    if debug {
        tracing::debug!(target: "tower_websocket::wire", connection, "{what}");
    } else {
        tracing::trace!(target: "tower_websocket::wire", connection, "{what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r12_what_is_logged_is_short_and_escaped() {
        assert_eq!(escape(b"a\x1b[1m\n", 10).to_string(), "a\\x1b[1m\\n");
        assert_eq!(escape(b"a\x1b[1m\n", 9).to_string(), "a\\x1b[1m…");
        assert_eq!(escape(b"abcdef", 3).to_string(), "abc…");
        assert_eq!(escape(b"\"it's\" \\", 99).to_string(), "\"it's\" \\\\");
        assert_eq!(escape("§ é 🦀".as_bytes(), 99).to_string(), "§ é 🦀");
        assert_eq!(escape("é🦀".as_bytes(), 5).to_string(), "é…");
        assert_eq!(escape("🦀".as_bytes(), 0).to_string(), "…");
        assert_eq!(escape(b"", 0).to_string(), "");
        assert_eq!(escape(b"a\xff\x80b", 99).to_string(), "a\\xff\\x80b");
        assert_eq!(escape(&[0x80; 9], 4).to_string(), "\\x80…");
        assert_eq!(quote(b"say \"no\"", 99).to_string(), r#""say \"no\"""#);
        assert_eq!(quote(b"abc", 2).to_string(), "\"ab\"…");
    }

    #[test]
    fn s5_no_character_that_moves_a_terminal_or_turns_a_line_is_shown() {
        let ranges = [
            '\0'..='\x1f',
            '\x7f'..='\u{9f}',
            '\u{61c}'..='\u{61c}',
            '\u{200b}'..='\u{200f}',
            '\u{2028}'..='\u{202e}',
            '\u{2060}'..='\u{206f}',
            '\u{feff}'..='\u{feff}',
            '\u{fff9}'..='\u{fffb}',
            '\u{e0000}'..='\u{e007f}',
        ];
        for c in ranges.into_iter().flatten() {
            let shown = escape(c.to_string().as_bytes(), 99).to_string();
            assert!(
                shown.starts_with('\\') && shown.is_ascii(),
                "{c:?} is {shown:?}"
            );
            assert_eq!(shown, escaped(c).to_string());
            assert_eq!(shown, field(&c.to_string()));
        }
    }

    #[test]
    fn s5_a_field_is_lent_if_it_is_plain_and_bounded_if_not() {
        assert!(matches!(field("/ws/room 1"), Cow::Borrowed(_)));
        assert_eq!(field("a\\b"), "a\\\\b");
        let nasty = "\u{9b}".repeat(10_000);
        let shown = escaped(format_args!("{nasty}!")).to_string();
        assert_eq!(shown, field(&nasty));
        assert!(shown.len() <= MAX_TEXT + "…".len() && shown.ends_with('…'));
    }

    #[test]
    fn r12_one_line_in_ten_seconds_is_written_and_the_others_are_counted() {
        let (throttle, begin) = (Throttle::new(), Instant::now());
        assert_eq!(throttle.pass_at(begin), Some(0));
        for i in 0..99 {
            assert_eq!(throttle.pass_at(begin + EVERY / 100 * i), None);
        }
        assert_eq!(throttle.pass_at(begin + EVERY), Some(99));
        assert_eq!(throttle.pass_at(begin + EVERY * 2), Some(0));
    }
}
