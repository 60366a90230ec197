//! The same without the feature `deflate`: nothing is ever agreed.

use bytes::Bytes;

use crate::protocol::violation::Violation;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Deflate {}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Agreed {}

#[derive(Debug)]
pub(crate) enum Inbound {}

#[derive(Debug)]
pub(crate) enum Inflater {}

#[derive(Debug)]
pub(crate) enum Outbound {}

pub(crate) fn negotiate<'a>(
    _: impl Iterator<Item = (&'a str, &'a [(String, Option<String>)])>,
    deflate: &Deflate,
) -> Option<(Agreed, String)> {
    match *deflate {}
}

impl Inbound {
    pub(crate) fn new(agreed: Agreed, _: usize) -> Box<Self> {
        match agreed {}
    }

    pub(crate) fn room(&self, _: usize) -> usize {
        match *self {}
    }

    pub(crate) fn begin(&mut self) -> Box<Inflater> {
        match *self {}
    }

    pub(crate) fn end(&mut self, _: Box<Inflater>) {
        match *self {}
    }
}

impl Inflater {
    pub(crate) fn push(
        &mut self,
        _: &[u8],
        _: impl FnMut(&[u8]) -> Result<(), Violation>,
    ) -> Result<usize, Violation> {
        match *self {}
    }

    pub(crate) fn finish(&mut self) -> Result<(), Violation> {
        match *self {}
    }
}

impl Outbound {
    pub(crate) fn new(agreed: Agreed) -> Self {
        match agreed {}
    }

    pub(crate) fn agreed(&self) -> Agreed {
        match *self {}
    }

    pub(crate) fn end(&self) {
        match *self {}
    }

    pub(crate) fn takes(&self, _: usize) -> bool {
        match *self {}
    }

    pub(crate) fn compress<T>(
        &self,
        _: &Bytes,
        _: impl FnOnce() -> Result<(), T>,
        _: impl FnOnce(Option<Bytes>) -> Result<(), T>,
    ) -> Result<(), T> {
        match *self {}
    }
}
