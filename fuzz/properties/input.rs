//! [`Input`]: bytes read as decisions. At the end all decisions are 0, so that an input may be
//! cut anywhere, which is how fuzzers make them small.

/// See the module docs.
#[derive(Clone, Copy)]
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    pub(super) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(super) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()]
    }

    /// Up to `n` bytes.
    pub(super) fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// As many bytes as the next one says.
    pub(super) fn short(&mut self) -> &'a [u8] {
        let n = self.byte();
        self.take(n.into())
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// The same bytes over and over.
#[derive(Clone)]
pub(super) struct Cycle {
    bytes: Vec<u8>,
    at: usize,
}

impl Cycle {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            at: 0,
        }
    }

    /// 0 if there is none.
    pub(super) fn next(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).copied().unwrap_or_default();
        self.at = (self.at + 1) % self.bytes.len().max(1);
        byte
    }
}
