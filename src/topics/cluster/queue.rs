//! [`Queue`]: what waits for the engine, in the order in which it gets it: the channels to listen to, the
//! nodes' own business, messages.

use std::collections::VecDeque;

use super::order::Order;
use super::outbox::{Limits, Outbox, Parcel};
use super::wanted::Wanted;

/// The most orders that an engine takes at a time: few enough that it looks at its socket meanwhile.
const BATCH: usize = 256;

/// The same in bytes, of envelopes.
const BATCH_BYTES: usize = 1024 * 1024;

/// Envelopes of the nodes' own business that wait. What is more is made again by the next digest.
const MAX_CONTROL: usize = 1024;

/// See the module docs.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) wanted: Wanted,
    control: VecDeque<Parcel>,
    outbox: Outbox,
    /// Behind all that waits.
    last: Option<Parcel>,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            wanted: Wanted::default(),
            control: VecDeque::new(),
            outbox: Outbox::new(limits),
            last: None,
        }
    }

    /// A new connection, which listens to nothing. What the nodes had to tell each other is old.
    pub(super) fn begin(&mut self) {
        self.wanted.begin();
        self.control.clear();
    }

    /// The nodes' own business, ahead of all messages.
    pub(super) fn tell(&mut self, parcels: impl IntoIterator<Item = Parcel>) {
        let room = MAX_CONTROL.saturating_sub(self.control.len());
        self.control.extend(parcels.into_iter().take(room));
    }

    /// The same, ahead of all that waits.
    pub(super) fn tell_first(&mut self, parcel: Parcel) {
        self.control.push_front(parcel);
    }

    /// The same, behind all that waits, messages too, in place of another such.
    pub(super) fn send_last(&mut self, parcel: Parcel) {
        self.last = Some(parcel);
    }

    /// A message. `false`: it is too large for ever. What had to give way is pushed to `garbage`.
    pub(super) fn send(&mut self, parcel: Parcel, garbage: &mut Vec<Parcel>) -> bool {
        self.outbox.push(parcel, garbage)
    }

    /// The next orders, at most a batch; none if nothing waits.
    pub(super) fn next(&mut self) -> Vec<Order> {
        let (mut orders, mut bytes) = (Vec::new(), 0);
        while orders.len() < BATCH && bytes < BATCH_BYTES {
            let Some(order) = self.next_order() else {
                break;
            };
            if let Order::Send { envelope, .. } = &order {
                bytes += envelope.len();
            }
            orders.push(order);
        }
        orders
    }

    fn next_order(&mut self) -> Option<Order> {
        if let Some(order) = self.wanted.next() {
            return Some(order);
        }
        let parcel = self.control.pop_front().or_else(|| self.outbox.pop());
        let parcel = parcel.or_else(|| self.last.take())?;
        Some(Order::Send {
            channel: parcel.channel,
            envelope: parcel.envelope,
        })
    }

    /// Messages that wait.
    pub(super) fn messages(&self) -> usize {
        self.outbox.len()
    }

    /// Messages that had to give way, ever.
    pub(super) fn lost(&self) -> u64 {
        self.outbox.lost()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(channel: &str, len: usize) -> Parcel {
        Parcel {
            channel: channel.to_owned(),
            envelope: vec![0; len].into(),
        }
    }

    fn channels(orders: Vec<Order>) -> Vec<String> {
        let channels = orders.into_iter().map(|order| match order {
            Order::Listen(channel) => format!("+{channel}"),
            Order::Leave(channel) => format!("-{channel}"),
            Order::Send { channel, .. } => channel,
        });
        channels.collect()
    }

    #[test]
    fn channels_go_first_then_the_nodes_business_then_messages() {
        let mut queue = Queue::new(Limits::default());
        let mut garbage = Vec::new();
        queue.send(parcel("message", 1), &mut garbage);
        queue.tell([parcel("digest", 1), parcel("changes", 1)]);
        queue.tell_first(parcel("probe", 1));
        queue.send_last(parcel("forgotten", 1));
        queue.send_last(parcel("last", 1));
        queue.wanted.want("a");
        let first = ["+a", "probe", "digest", "changes", "message", "last"];
        assert_eq!(channels(queue.next()), first);
        assert_eq!(queue.next(), []);
        // What was for another connection is asked for again, or old; messages wait.
        queue.send(parcel("message", 1), &mut garbage);
        queue.tell([parcel("digest", 1)]);
        queue.begin();
        assert_eq!(channels(queue.next()), ["+a", "message"]);
    }

    #[test]
    fn a_batch_and_what_the_nodes_tell_each_other_are_bounded() {
        let mut queue = Queue::new(Limits::default());
        let mut garbage = Vec::new();
        queue.tell((0..2000).map(|_| parcel("digest", 1)));
        let sizes = std::iter::from_fn(|| Some(queue.next().len()).filter(|size| *size > 0));
        assert_eq!(sizes.collect::<Vec<_>>(), [BATCH; MAX_CONTROL / BATCH]);
        for _ in 0..9 {
            queue.send(parcel("message", BATCH_BYTES / 3), &mut garbage);
        }
        assert_eq!((queue.next().len(), queue.messages()), (4, 5));
    }
}
