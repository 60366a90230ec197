//! [`Echoes`]: knows which envelopes of other nodes have come already.

use std::collections::HashMap;

/// Numbers that are remembered of each sequence. What comes later than so many that were numbered behind it is
/// taken for a double. Twice what may wait of the nodes' own business, which a probe overtakes; messages
/// leave in the order of their numbers.
const WINDOW: u64 = 2048;

/// Sequences that are remembered, two of each node; beyond any cluster whose nodes all talk to each other.
const MAX_SEQUENCES: usize = 2048;

/// See the module docs.
#[derive(Debug, Default)]
pub(super) struct Echoes {
    /// By the node, and whether it is the nodes' own business, which overtakes messages.
    nodes: HashMap<(u64, bool), Heard>,
    /// Counts what comes, to know who was not heard for longest.
    clock: u64,
}

#[derive(Debug, Default)]
struct Heard {
    /// The greatest number that came.
    latest: u64,
    bits: [u64; (WINDOW / 64) as usize],
    at: u64,
}

impl Echoes {
    /// Whether this is the first time.
    pub(super) fn is_new(&mut self, node: u64, is_business: bool, number: u64) -> bool {
        self.clock += 1;
        let sequence = (node, is_business);
        if !self.nodes.contains_key(&sequence) && self.nodes.len() >= MAX_SEQUENCES {
            let oldest = self.nodes.iter().min_by_key(|(_, heard)| heard.at);
            if let Some(oldest) = oldest.map(|(sequence, _)| *sequence) {
                self.nodes.remove(&oldest);
            }
        }
        let heard = self.nodes.entry(sequence).or_default();
        heard.at = self.clock;
        heard.is_new(number)
    }
}

impl Heard {
    fn is_new(&mut self, number: u64) -> bool {
        let slot = |number: u64| ((number % WINDOW / 64) as usize, 1 << (number % 64));
        if number > self.latest {
            if number - self.latest >= WINDOW {
                self.bits = [0; (WINDOW / 64) as usize];
            } else {
                for skipped in self.latest + 1..number {
                    let (at, bit) = slot(skipped);
                    self.bits[at] &= !bit;
                }
            }
            self.latest = number;
        } else {
            let (at, bit) = slot(number);
            if self.latest - number >= WINDOW || self.bits[at] & bit != 0 {
                return false;
            }
        }
        let (at, bit) = slot(number);
        self.bits[at] |= bit;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn t11_an_envelope_is_new_once_in_whatever_order_they_come() {
        let mut echoes = Echoes::default();
        let mut model = HashSet::new();
        let mut random = 1_u64;
        for base in 1..20_000_u64 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let number = base / 3 + (random >> 33) % 900 + 1;
            let is_new = echoes.is_new(1, false, number);
            assert_eq!(is_new, model.insert(number), "{number}");
            assert!(echoes.is_new(2, false, base));
            // Another sequence.
            assert!(echoes.is_new(2, true, base));
        }
    }

    #[test]
    fn what_comes_too_late_is_a_double_and_who_was_silent_for_longest_is_forgotten() {
        let mut echoes = Echoes::default();
        assert!(echoes.is_new(1, false, 5000) && echoes.is_new(1, false, 5000 - WINDOW + 1));
        assert!(!echoes.is_new(1, false, 5000 - WINDOW));
        assert!(echoes.is_new(1, false, u64::MAX) && !echoes.is_new(1, false, 0));
        for node in 2..=MAX_SEQUENCES as u64 + 1 {
            assert!(echoes.is_new(node, false, 1));
        }
        assert_eq!(echoes.nodes.len(), MAX_SEQUENCES);
        assert!(!echoes.is_new(MAX_SEQUENCES as u64, false, 1) && echoes.is_new(1, false, 5000));
    }
}
