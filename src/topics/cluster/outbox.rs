//! [`Outbox`]: envelopes that wait for the engine.

use std::collections::VecDeque;

use bytes::Bytes;

/// Messages that wait while the engine is down: some seconds of a busy node, so that a restart of the
/// engine loses nothing there.
pub(super) const MAX_MESSAGES: usize = 4096;

/// The same in bytes, with names. It is also the most of one envelope.
pub(super) const MAX_BYTES: usize = 4 * 1024 * 1024;

/// An envelope, and where it goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parcel {
    pub(super) channel: String,
    pub(super) envelope: Bytes,
}

impl Parcel {
    fn load(&self) -> usize {
        self.channel.len() + self.envelope.len()
    }
}

/// See the module docs. The oldest give way to new ones.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Parcel>,
    bytes: usize,
    lost: u64,
}

impl Outbox {
    /// `false`: it is too large for ever. What had to give way is pushed to `garbage`.
    pub(super) fn push(&mut self, parcel: Parcel, garbage: &mut Vec<Parcel>) -> bool {
        let load = parcel.load();
        if load > MAX_BYTES {
            self.lost += 1;
            garbage.push(parcel);
            return false;
        }
        while self.waiting.len() >= MAX_MESSAGES || self.bytes + load > MAX_BYTES {
            let Some(oldest) = self.pop() else {
                break;
            };
            self.lost += 1;
            garbage.push(oldest);
        }
        self.bytes += load;
        self.waiting.push_back(parcel);
        true
    }

    pub(super) fn pop(&mut self) -> Option<Parcel> {
        let parcel = self.waiting.pop_front()?;
        self.bytes -= parcel.load();
        if self.waiting.is_empty() && self.waiting.capacity() > 64 {
            self.waiting = VecDeque::new();
        }
        Some(parcel)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How many were dropped, ever.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(number: usize, len: usize) -> Parcel {
        Parcel {
            channel: number.to_string(),
            envelope: Bytes::from(vec![0; len]),
        }
    }

    #[test]
    fn t11_the_oldest_give_way_by_number_and_by_size_and_are_counted() {
        let (mut outbox, mut garbage) = (Outbox::default(), Vec::new());
        for number in 0..MAX_MESSAGES + 3 {
            assert!(outbox.push(parcel(number, 10), &mut garbage));
        }
        assert_eq!((outbox.len(), outbox.lost()), (MAX_MESSAGES, 3));
        assert_eq!(outbox.pop().unwrap().channel, "3");

        assert!(outbox.push(parcel(9, MAX_BYTES - 1), &mut garbage));
        assert_eq!((outbox.len(), garbage.len()), (1, MAX_MESSAGES + 2));
        assert!(!outbox.push(parcel(10, MAX_BYTES), &mut garbage));
        assert_eq!(outbox.pop().unwrap().channel, "9");
        assert_eq!(outbox.bytes, 0);
        assert!(outbox.waiting.capacity() <= 64);
    }
}
