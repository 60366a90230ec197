//! [`Outbox`]: envelopes that wait for the engine.

use std::collections::VecDeque;

use bytes::Bytes;

/// What may wait while the engine is down.
#[derive(Clone, Copy, Debug)]
pub(in crate::topics) struct Limits {
    pub(in crate::topics) messages: usize,
    /// With names.
    pub(in crate::topics) bytes: usize,
}

impl Default for Limits {
    /// Some seconds of a busy node, so that a restart of the engine loses nothing there.
    fn default() -> Self {
        Self {
            messages: 4096,
            bytes: 4 * 1024 * 1024,
        }
    }
}

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
#[derive(Debug)]
pub(super) struct Outbox {
    limits: Limits,
    waiting: VecDeque<Parcel>,
    bytes: usize,
    lost: u64,
}

impl Outbox {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            waiting: VecDeque::new(),
            bytes: 0,
            lost: 0,
        }
    }

    /// `false`: it is too large for ever. What had to give way is pushed to `garbage`.
    pub(super) fn push(&mut self, parcel: Parcel, garbage: &mut Vec<Parcel>) -> bool {
        let load = parcel.load();
        let Limits { messages, bytes } = self.limits;
        if load > bytes {
            self.lost += 1;
            garbage.push(parcel);
            return false;
        }
        while self.waiting.len() >= messages || self.bytes + load > bytes {
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
        let limits = Limits::default();
        let (mut outbox, mut garbage) = (Outbox::new(limits), Vec::new());
        for number in 0..limits.messages + 3 {
            assert!(outbox.push(parcel(number, 10), &mut garbage));
        }
        assert_eq!((outbox.len(), outbox.lost()), (limits.messages, 3));
        assert_eq!(outbox.pop().unwrap().channel, "3");

        assert!(outbox.push(parcel(9, limits.bytes - 1), &mut garbage));
        assert_eq!((outbox.len(), garbage.len()), (1, limits.messages + 2));
        assert!(!outbox.push(parcel(10, limits.bytes), &mut garbage));
        assert_eq!(outbox.pop().unwrap().channel, "9");
        assert_eq!(outbox.bytes, 0);
        assert!(outbox.waiting.capacity() <= 64);
    }
}
