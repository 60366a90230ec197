//! Random delays, so that many connections do not act at the same moment.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// A random duration from zero to `most`, evenly distributed.
///
/// It need not be unpredictable, so the keys that std draws for its hash maps are random enough.
pub(crate) fn up_to(most: Duration) -> Duration {
    let parts = (RandomState::new().build_hasher().finish() >> 32) as u32;
    // Whole numbers come first, because `Duration::MAX` as a float is rounded up and overflows.
    let whole = most / u32::MAX;
    let rest = most - whole * u32::MAX;
    whole * parts
        + rest
            .mul_f64(f64::from(parts) / f64::from(u32::MAX))
            .min(rest)
}

/// An order of chance, in which no one of them is likelier to be early than another.
pub(crate) fn shuffle<T>(all: &mut [T]) {
    let mut state = RandomState::new().build_hasher().finish();
    for last in (1..all.len()).rev() {
        // Splitmix64.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        all.swap(last, (mixed % (last as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_stays_in_its_bounds_and_reaches_all_quarters_of_them() {
        let most = Duration::from_secs(4);
        let mut quarters = [0; 4];
        for _ in 0..1000 {
            let chance = up_to(most);
            assert!(chance <= most);
            quarters[(chance.as_secs() as usize).min(3)] += 1;
        }
        assert!(quarters.iter().all(|n| *n > 100), "{quarters:?}");
        assert_eq!(up_to(Duration::ZERO), Duration::ZERO);
        assert!((0..1000).any(|_| up_to(Duration::MAX) > Duration::MAX / 2));
    }

    #[test]
    fn each_comes_first_as_often_as_any_other_and_none_is_lost() {
        let mut first = [0; 4];
        for _ in 0..1000 {
            let mut all = [0, 1, 2, 3];
            shuffle(&mut all);
            first[all[0]] += 1;
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3]);
        }
        assert!(first.iter().all(|n| *n > 150), "{first:?}");
        shuffle::<()>(&mut []);
    }
}
