//! The whole fleet in numbers, kept as its instances change.
//!
//! Owns: how many instances there are of each freshness and health, and how many have drifted.
//! Never: recounts, or names an instance.
//! Holds: the sum over all is the number of instances.

use super::{freshness::Freshness, status::Health, swarm::Share};

/// How many instances there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// By freshness and then health, in the order in which those are declared.
    counts: [[usize; Health::ALL.len()]; Freshness::ALL.len()],
    /// Configured otherwise than was last applied.
    pub drifted: usize,
}

impl Fleet {
    /// Each freshness with each health, and how many instances are so.
    pub fn counts(&self) -> impl Iterator<Item = (Freshness, Health, usize)> + '_ {
        let rows = Freshness::ALL.into_iter().zip(&self.counts);
        rows.flat_map(|(freshness, row)| {
            Health::ALL.into_iter().zip(row).map(move |(health, count)| (freshness, health, *count))
        })
    }

    /// How many speak and are degraded or in error.
    pub fn unwell(&self) -> usize {
        let unwell = |of: &(Freshness, Health, usize)| of.0 == Freshness::Fresh && of.1 >= Health::Degraded;
        self.counts().filter(unwell).map(|(_, _, count)| count).sum()
    }

    /// An instance came.
    pub(super) fn add(&mut self, share: Share) {
        if let Some(count) = self.place(share) {
            *count += 1;
        }
        self.drifted += usize::from(share.drifted);
    }

    /// An instance went.
    pub(super) fn remove(&mut self, share: Share) {
        if let Some(count) = self.place(share) {
            *count = count.saturating_sub(1);
        }
        self.drifted = self.drifted.saturating_sub(usize::from(share.drifted));
    }

    fn place(&mut self, share: Share) -> Option<&mut usize> {
        self.counts.get_mut(share.freshness as usize)?.get_mut(share.health as usize)
    }
}
