//! [`ConnectionLimit`]: limits on open connections, in total and per client address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use crate::sync::{Mutex, MutexGuard};

/// See the module docs. Clones count together.
#[derive(Clone, Default)]
pub(super) struct ConnectionLimit {
    /// In all.
    most: Option<usize>,
    most_per_ip: Option<usize>,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    count: usize,
    /// Only where that is limited; who has none open is not in it.
    by_client: HashMap<Client, usize>,
}

/// Who counts as one client.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    V4([u8; 4]),
    /// The first half of an address: who has one, has all 2^64 with the same.
    V6([u8; 8]),
    /// All whose address nobody knows.
    Unknown,
}

/// Why somebody is not let in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LimitReached {
    InAll,
    OfThisClient,
}

/// A place behind the limit, for as long as it is held.
pub(super) struct Permit {
    open: Arc<Mutex<Open>>,
    client: Option<Client>,
}

impl ConnectionLimit {
    /// With nobody behind it yet.
    pub(super) fn new(most: Option<usize>, most_per_ip: Option<usize>) -> Self {
        Self {
            most,
            most_per_ip,
            open: Arc::default(),
        }
    }

    pub(super) fn most(&self) -> Option<usize> {
        self.most
    }

    /// How many are behind it; none if nothing is limited.
    pub(super) fn open(&self) -> usize {
        lock(&self.open).count
    }

    pub(super) fn most_per_ip(&self) -> Option<usize> {
        self.most_per_ip
    }

    /// Lets a connection of `client` in; `None` without an error: nobody is counted. Boxed, since
    /// most are not.
    pub(super) fn enter(
        &self,
        client: Option<IpAddr>,
    ) -> Result<Option<Box<Permit>>, LimitReached> {
        if self.most.is_none() && self.most_per_ip.is_none() {
            return Ok(None);
        }
        let mut open = lock(&self.open);
        if self.most.is_some_and(|most| open.count >= most) {
            return Err(LimitReached::InAll);
        }
        let client = self.most_per_ip.map(|most| (Client::from(client), most));
        if let Some((client, most)) = client {
            match open.by_client.entry(client) {
                Entry::Occupied(count) if *count.get() >= most => {
                    return Err(LimitReached::OfThisClient);
                }
                Entry::Vacant(_) if most == 0 => return Err(LimitReached::OfThisClient),
                entry => *entry.or_insert(0) += 1,
            }
        }
        open.count += 1;
        Ok(Some(Box::new(Permit {
            open: self.open.clone(),
            client: client.map(|(client, _)| client),
        })))
    }
}

impl From<Option<IpAddr>> for Client {
    fn from(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            None => Self::Unknown,
            Some(IpAddr::V4(v4)) => Self::V4(v4.octets()),
            Some(IpAddr::V6(v6)) => {
                let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        open.count = open.count.saturating_sub(1);
        let Some(client) = self.client else { return };
        if let Entry::Occupied(mut count) = open.by_client.entry(client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        if open.by_client.is_empty() {
            // Memory of a busy day is not kept through the night.
            open.by_client = HashMap::new();
        }
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for ConnectionLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionLimit")
            .field("most", &self.most)
            .field("most_per_ip", &self.most_per_ip)
            .field("open", &lock(&self.open).count)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn full(limit: &ConnectionLimit, client: Option<IpAddr>) -> Option<LimitReached> {
        limit.enter(client).err()
    }

    #[test]
    fn r1_without_a_limit_nobody_is_counted() {
        assert!(
            ConnectionLimit::new(None, None)
                .enter(None)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn r1_the_limit_in_all_counts_clones_together_and_frees_what_is_dropped() {
        let limit = ConnectionLimit::new(Some(2), None);
        let first = limit.enter(None).unwrap();
        let _second = limit.clone().enter(ip("10.0.0.1")).unwrap();
        assert_eq!(full(&limit, None), Some(LimitReached::InAll));
        drop(first);
        assert_eq!(full(&limit, None), None);
    }

    #[test]
    fn r1_each_address_has_its_own_count_and_an_ipv6_network_has_one() {
        let limit = ConnectionLimit::new(None, Some(1));
        let held = limit.enter(ip("192.0.2.1")).unwrap();
        assert_eq!(
            full(&limit, ip("192.0.2.1")),
            Some(LimitReached::OfThisClient)
        );
        assert_eq!(
            full(&limit, ip("::ffff:192.0.2.1")),
            Some(LimitReached::OfThisClient)
        );
        let _other = limit.enter(ip("192.0.2.2")).unwrap();
        let _v6 = limit.enter(ip("2001:db8:1:2:3::1")).unwrap();
        assert_eq!(
            full(&limit, ip("2001:db8:1:2:ffff::9")),
            Some(LimitReached::OfThisClient)
        );
        assert_eq!(full(&limit, ip("2001:db8:1:3::1")), None);
        drop(held);
        assert_eq!(full(&limit, ip("192.0.2.1")), None);
    }

    #[test]
    fn r1_clients_whose_address_nobody_knows_count_as_one() {
        let limit = ConnectionLimit::new(None, Some(1));
        let _held = limit.enter(None).unwrap();
        assert_eq!(full(&limit, None), Some(LimitReached::OfThisClient));
    }

    #[test]
    fn r1_who_is_refused_leaves_no_trace() {
        let both = ConnectionLimit::new(Some(1), Some(1));
        let held = both.enter(ip("10.0.0.1")).unwrap();
        assert_eq!(full(&both, ip("10.0.0.2")), Some(LimitReached::InAll));
        assert_eq!(lock(&both.open).by_client.len(), 1);
        drop(held);
        assert_eq!(lock(&both.open).by_client.len(), 0);
        assert_eq!(lock(&both.open).count, 0);
        let none = ConnectionLimit::new(None, Some(0));
        assert_eq!(
            full(&none, ip("10.0.0.1")),
            Some(LimitReached::OfThisClient)
        );
        assert_eq!(lock(&none.open).by_client.len(), 0);
    }
}
