//! In place of `deflate.rs`, without the feature `deflate`: nothing is agreed.

/// Never made.
pub(super) enum Deflate {}

impl Deflate {
    pub(super) fn agreed(_: &str, answer: &str) -> Result<Self, String> {
        Err(format!(
            "{answer:?}, which this client knows with the feature `deflate` only"
        ))
    }

    pub(super) fn compress(&mut self, _: &[u8]) -> Option<Vec<u8>> {
        match *self {}
    }

    pub(super) fn inflate(&mut self, _: Vec<u8>) -> Result<Vec<u8>, String> {
        match *self {}
    }
}
