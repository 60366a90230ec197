//! [`Random`]: numbers that are the same for the same seed.

/// SplitMix64. Not for secrets.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each `stream` of a seed.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed ^ stream.wrapping_mul(0xD134_2543_DE82_EF95));
        random.next();
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From `from` up to and without `to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from).max(1)
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.between(0, 100) < chance
    }

    /// Every order of magnitude as often as the next.
    pub fn size(&mut self, from: usize, to: usize) -> usize {
        let (low, high) = ((from as f64).ln(), (to as f64).ln());
        let unit = self.between(0, 1 << 32) as f64 / (1u64 << 32) as f64;
        (low + (high - low) * unit).exp() as usize
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}
