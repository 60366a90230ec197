//! [`Envelope`]: what nodes send each other, as bytes.
//!
//! ```text
//! version  kind  node (8)  number (8)  the rest, by kind
//! ```
//!
//! Numbers are big endian; a text has its length before it, in 4 bytes. A node ignores what it does not
//! understand, so that a new kind can be introduced while old nodes run.

use bytes::Bytes;

use crate::close::{CloseCode, CloseFrame};
use crate::message::{Message, Utf8Bytes};

const VERSION: u8 = 1;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 3;
const PROBE: u8 = 4;
const CHANGES: u8 = 5;
const DIGEST: u8 = 6;
const ASK: u8 = 7;
const WHOLE: u8 = 8;

/// What an envelope takes beside a message.
pub(crate) const HEAD: usize = 26;

/// The most bytes of an envelope.
pub(crate) const MAX_ENVELOPE: usize = 4 * 1024 * 1024;

/// See the module docs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    /// Who sends it.
    pub(crate) node: u64,
    /// Of those of the node, where its own business has numbers of its own: it overtakes messages. 0 in a
    /// log, which numbers its entries.
    pub(crate) number: u64,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// For those who subscribe a topic.
    Message {
        /// The connection of the node that publishes it, or 0.
        from: u64,
        message: Message,
    },
    /// Who subscribes a topic is to be closed.
    Close(CloseFrame),
    /// A node finds out whether it reaches itself.
    Probe,
    /// Changes of who is present on the node, behind those that were before.
    Changes { since: u64, changes: Vec<Change> },
    /// The node is there. So many changes were made in all; and the ends of logs that have grown lately.
    Digest { version: u64, tails: Vec<Tail> },
    /// The node wants to know all who are present.
    Ask,
    /// A part of that.
    Whole {
        version: u64,
        part: u32,
        parts: u32,
        present: Vec<Change>,
    },
}

impl What {
    /// Whether it is the nodes' own business, which goes ahead of all messages.
    pub(crate) fn is_business(&self) -> bool {
        !matches!(self, Self::Message { .. } | Self::Close(_))
    }
}

/// A connection is present in a topic as `key`, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) topic: Box<str>,
    pub(crate) connection: u64,
    pub(crate) key: Box<str>,
    pub(crate) how: Standing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Present, with what is said of it.
    Here(Box<str>),
    /// No longer, but its key lingers.
    Left,
    /// No longer, and nobody waits for it.
    Gone,
}

impl Change {
    /// What it takes in an envelope.
    pub(crate) fn load(&self) -> usize {
        let meta = match &self.how {
            Standing::Here(meta) => meta.len() + 4,
            Standing::Left | Standing::Gone => 0,
        };
        self.topic.len() + self.key.len() + meta + 17
    }
}

/// How far a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) topic: Box<str>,
    pub(crate) epoch: u64,
    pub(crate) offset: u64,
}

impl Envelope {
    pub(crate) fn encode(&self) -> Bytes {
        let (kind, rest) = match &self.what {
            What::Message { message, .. } if message.is_text() => (TEXT, message.len() + 8),
            What::Message { message, .. } => (BINARY, message.len() + 8),
            What::Close(frame) => (CLOSE, frame.reason.to_string().len() + 6),
            What::Probe => (PROBE, 0),
            What::Changes { .. } => (CHANGES, 64),
            What::Digest { .. } => (DIGEST, 64),
            What::Ask => (ASK, 0),
            What::Whole { .. } => (WHOLE, 64),
        };
        let mut out = Writer(Vec::with_capacity(HEAD + rest));
        out.0.extend_from_slice(&[VERSION, kind]);
        out.number(self.node);
        out.number(self.number);
        match &self.what {
            What::Message { from, message } => {
                out.number(*from);
                out.0.extend_from_slice(message.as_bytes());
            }
            What::Close(frame) => {
                let code = u16::from(frame.code);
                out.0.extend_from_slice(&code.to_be_bytes());
                out.text(&frame.reason.to_string());
            }
            What::Probe | What::Ask => {}
            What::Changes { since, changes } => {
                out.number(*since);
                out.changes(changes);
            }
            What::Digest { version, tails } => {
                out.number(*version);
                out.count(tails.len());
                for tail in tails {
                    out.text(&tail.topic);
                    out.number(tail.epoch);
                    out.number(tail.offset);
                }
            }
            What::Whole {
                version,
                part,
                parts,
                present,
            } => {
                out.number(*version);
                out.0.extend_from_slice(&part.to_be_bytes());
                out.0.extend_from_slice(&parts.to_be_bytes());
                out.changes(present);
            }
        }
        out.0.into()
    }

    /// `None`: it is none of ours, or one of a time to come.
    pub(crate) fn decode(bytes: &Bytes) -> Option<Self> {
        let mut reader = Reader { bytes, at: 0 };
        if reader.byte()? != VERSION {
            return None;
        }
        let kind = reader.byte()?;
        let (node, number) = (reader.number()?, reader.number()?);
        let what = match kind {
            TEXT | BINARY => What::Message {
                from: reader.number()?,
                message: match reader.rest() {
                    payload if kind == BINARY => Message::Binary(payload),
                    payload => Message::Text(Utf8Bytes::try_from(payload).ok()?),
                },
            },
            CLOSE => {
                let code = u16::from_be_bytes(reader.array()?);
                let reason = reader.text(123)?;
                What::Close(CloseFrame::new(CloseCode::from(code), reason.to_owned())?)
            }
            PROBE => What::Probe,
            CHANGES => What::Changes {
                since: reader.number()?,
                changes: reader.changes()?,
            },
            DIGEST => What::Digest {
                version: reader.number()?,
                tails: reader.tails()?,
            },
            ASK => What::Ask,
            WHOLE => What::Whole {
                version: reader.number()?,
                part: reader.count()?,
                parts: reader.count()?,
                present: reader.changes()?,
            },
            _ => return None,
        };
        // What follows may be an addition of a later version.
        Some(Self { node, number, what })
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn count(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&count.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn changes(&mut self, changes: &[Change]) {
        self.count(changes.len());
        for change in changes {
            self.text(&change.topic);
            self.number(change.connection);
            self.text(&change.key);
            match &change.how {
                Standing::Left => self.0.push(0),
                Standing::Here(meta) => {
                    self.0.push(1);
                    self.text(meta);
                }
                Standing::Gone => self.0.push(2),
            }
        }
    }
}

struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn count(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn text(&mut self, most: usize) -> Option<&'a str> {
        let len = self.count()? as usize;
        let text = self.take(len).filter(|_| len <= most)?;
        std::str::from_utf8(text).ok()
    }

    fn rest(self) -> Bytes {
        self.bytes.slice(self.at..)
    }

    /// Nothing is reserved by what is declared.
    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.count()?;
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(one(self)?);
        }
        Some(list)
    }

    fn changes(&mut self) -> Option<Vec<Change>> {
        self.list(|reader| {
            Some(Change {
                topic: reader.text(256)?.into(),
                connection: reader.number()?,
                key: reader.text(256)?.into(),
                how: match reader.byte()? {
                    0 => Standing::Left,
                    1 => Standing::Here(reader.text(1024)?.into()),
                    2 => Standing::Gone,
                    _ => return None,
                },
            })
        })
    }

    fn tails(&mut self) -> Option<Vec<Tail>> {
        self.list(|reader| {
            Some(Tail {
                topic: reader.text(256)?.into(),
                epoch: reader.number()?,
                offset: reader.number()?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Envelope> {
        let change = |how: Standing| Change {
            topic: "room:1".into(),
            connection: 7,
            key: "ada".into(),
            how,
        };
        let tail = Tail {
            topic: "room:1".into(),
            epoch: 5,
            offset: 9,
        };
        let whats = [
            What::Message {
                from: 3,
                message: "hällo".into(),
            },
            What::Message {
                from: 0,
                message: Message::from(vec![0, 255]),
            },
            What::Message {
                from: 0,
                message: "".into(),
            },
            What::Close(CloseFrame::known(CloseCode::POLICY_VIOLATION, "out")),
            What::Probe,
            What::Changes {
                since: 4,
                changes: vec![
                    change(Standing::Here("blue".into())),
                    change(Standing::Left),
                    change(Standing::Gone),
                ],
            },
            What::Digest {
                version: 8,
                tails: vec![tail],
            },
            What::Ask,
            What::Whole {
                version: 8,
                part: 1,
                parts: 2,
                present: vec![change(Standing::Here("".into()))],
            },
        ];
        let envelope = |(number, what)| Envelope {
            node: u64::MAX,
            number: number as u64,
            what,
        };
        whats.into_iter().enumerate().map(envelope).collect()
    }

    #[test]
    fn an_envelope_survives_its_bytes() {
        for envelope in samples() {
            let bytes = envelope.encode();
            assert_eq!(Envelope::decode(&bytes), Some(envelope));
        }
    }

    /// What any bytes are: nothing, or an envelope that survives.
    fn check(bytes: &Bytes) {
        if let Some(envelope) = Envelope::decode(bytes) {
            assert_eq!(Envelope::decode(&envelope.encode()), Some(envelope));
        }
    }

    #[test]
    fn t12_what_is_cut_short_changed_or_of_another_version_is_no_envelope_or_a_whole_one() {
        for envelope in samples() {
            let bytes = envelope.encode();
            for len in 0..bytes.len() {
                let short = Envelope::decode(&bytes.slice(..len));
                let is_message = |e: &Envelope| matches!(e.what, What::Message { .. });
                assert!(short.as_ref().is_none_or(is_message), "{short:?}");
            }
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut changed = bytes.to_vec();
                    changed[at] ^= 1 << bit;
                    check(&changed.into());
                }
            }
        }
        for foreign in [&b""[..], b"hello", &[0; 40], &[2; 40], &[1; 40]] {
            let what = Envelope::decode(&Bytes::from_static(foreign));
            assert!(what.is_none() || foreign == [1; 40]);
        }
        // A list that says it has 4 billion entries.
        let mut huge = vec![VERSION, CHANGES];
        huge.extend([0; 24]);
        huge.extend([255; 4]);
        assert_eq!(Envelope::decode(&huge.into()), None);
    }
}
