//! The same without the feature `deflate`: nothing is ever agreed.

use bytes::Bytes;

use crate::protocol::violation::Violation;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Deflate {}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Agreed {
    pub(crate) inbound: InboundTerms,
    pub(crate) outbound: OutboundTerms,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum InboundTerms {}

#[derive(Clone, Copy, Debug)]
pub(crate) enum OutboundTerms {}

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
    pub(crate) fn new(terms: InboundTerms, _: usize) -> Box<Self> {
        match terms {}
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
    pub(crate) fn new(terms: OutboundTerms) -> Self {
        match terms {}
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
