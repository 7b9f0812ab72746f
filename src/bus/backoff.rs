//! Pauses between one try to reach the broker and the next.
//!
//! Owns: how long to wait before try number n.
//! Never: waits, counts tries, or asks a clock; whoever tries does that.
//! Holds: a pause lies between half of the doubled one and all of it, never above the longest; the
//! same seed gives the same pauses, and routers with other seeds do not come back all at once.

/// The first pause, where nothing else is configured.
pub const FIRST_MS: u64 = 200;
/// The longest pause, where nothing else is configured.
pub const LONGEST_MS: u64 = 5_000;

/// Doubling pauses with jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first_ms: u64,
    longest_ms: u64,
    seed: u64,
}

impl Backoff {
    /// Pauses from `first_ms` to `longest_ms`.
    pub fn new(first_ms: u64, longest_ms: u64, seed: u64) -> Self {
        Self { first_ms, longest_ms: longest_ms.max(first_ms), seed }
    }

    /// Milliseconds to wait before try number `attempt` (from 0).
    pub fn pause_ms(&self, attempt: u32) -> u64 {
        let doubled = 1_u64.checked_shl(attempt).and_then(|factor| self.first_ms.checked_mul(factor));
        let whole = doubled.unwrap_or(u64::MAX).min(self.longest_ms);
        let half = whole / 2;
        half + mixed(self.seed ^ u64::from(attempt)) % (whole - half + 1)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(FIRST_MS, LONGEST_MS, 0)
    }
}

/// SplitMix64's output function: seeds that differ in one bit give numbers that differ in half of
/// them.
fn mixed(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_their_bounds() {
        for seed in 0..200 {
            let backoff = Backoff::new(200, 5_000, seed);
            for (attempt, whole) in [(0, 200), (1, 400), (4, 3_200), (5, 5_000), (63, 5_000), (64, 5_000)] {
                let pause = backoff.pause_ms(attempt);
                assert!((whole / 2..=whole).contains(&pause), "attempt {attempt}: {pause} ms");
            }
        }
    }

    #[test]
    fn seeds_spread_and_repeat() {
        let first = |seed| Backoff::new(200, 5_000, seed).pause_ms(6);
        assert_eq!(first(7), first(7));
        let distinct: std::collections::BTreeSet<u64> = (0..100).map(first).collect();
        assert!(distinct.len() > 80, "only {} pauses among 100 seeds", distinct.len());
    }

    #[test]
    fn a_first_pause_above_the_longest_wins() {
        assert_eq!(Backoff::new(0, 0, 1).pause_ms(9), 0);
        assert!(Backoff::new(900, 100, 1).pause_ms(9) >= 450);
    }
}
