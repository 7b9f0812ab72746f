//! A swarm's totals, kept as its instances change.
//!
//! Owns: the sums over a swarm's instances and the watermark of those that are expected.
//! Never: recounts; each change of an instance takes its old share out and puts its new one in.
//! Holds: the totals equal those of a recount; the watermark is there only if every expected member
//! has spoken.

use std::collections::BTreeSet;

use super::{
    Key,
    freshness::Freshness,
    status::{Health, Lifecycle},
};
use crate::contract::timestamp::Timestamp;

/// What is known of a swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwarmView {
    /// Its id.
    pub swarm_id: String,
    /// Its sums.
    pub totals: Totals,
    /// The oldest `asOf` of the expected members; `None` while one of them has not spoken, or none
    /// is expected.
    pub watermark: Option<Timestamp>,
}

/// Sums over a swarm's instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Expected by the template.
    pub desired: usize,
    /// Have spoken.
    pub seen: usize,
    /// Of the seen: speak now.
    pub fresh: usize,
    /// Of the seen: silent.
    pub stale: usize,
    /// Of the seen: silent for long.
    pub lost: usize,
    /// Of the fresh: working. What a lost instance said last is no longer true of it.
    pub running: usize,
    /// Of the fresh: enabled.
    pub enabled: usize,
    /// Of the fresh: degraded or in error.
    pub unwell: usize,
    /// Configured otherwise than was last applied.
    pub drifted: usize,
}

/// What one instance adds to its swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub freshness: Freshness,
    pub lifecycle: Lifecycle,
    pub health: Health,
    pub enabled: bool,
    pub drifted: bool,
    /// Its `asOf`, where it is expected and has spoken.
    pub expected_as_of: Option<i64>,
}

/// One swarm.
#[derive(Clone, Debug, Default)]
pub(super) struct Swarm {
    totals: Totals,
    instances_count: usize,
    as_ofs: BTreeSet<(i64, Key)>,
}

impl Totals {
    /// The fields to which a share adds one.
    fn fields(&mut self, share: Share) -> [(&mut usize, bool); 8] {
        let fresh = share.freshness == Freshness::Fresh;
        [
            (&mut self.seen, share.freshness != Freshness::Unknown),
            (&mut self.fresh, fresh),
            (&mut self.stale, share.freshness == Freshness::Stale),
            (&mut self.lost, share.freshness == Freshness::Lost),
            (&mut self.running, fresh && share.lifecycle == Lifecycle::Running),
            (&mut self.enabled, fresh && share.enabled),
            (&mut self.unwell, fresh && share.health >= Health::Degraded),
            (&mut self.drifted, share.drifted),
        ]
    }
}

impl Swarm {
    /// An instance came or went.
    pub fn count(&mut self, came: bool) {
        self.instances_count =
            if came { self.instances_count + 1 } else { self.instances_count.saturating_sub(1) };
    }

    pub fn set_desired(&mut self, desired: usize) {
        self.totals.desired = desired;
    }

    /// Whether nobody is in it and nobody expected.
    pub fn is_empty(&self) -> bool {
        self.instances_count == 0 && self.totals.desired == 0
    }

    /// Takes one share out and puts another in.
    pub fn replace(&mut self, key: Key, old: Share, new: Share) {
        if old == new {
            return;
        }
        for (field, counts) in self.totals.fields(old) {
            *field = field.saturating_sub(usize::from(counts));
        }
        for (field, counts) in self.totals.fields(new) {
            *field += usize::from(counts);
        }
        if let Some(as_of) = old.expected_as_of {
            self.as_ofs.remove(&(as_of, key));
        }
        if let Some(as_of) = new.expected_as_of {
            self.as_ofs.insert((as_of, key));
        }
    }

    pub fn view(&self, swarm_id: &str) -> SwarmView {
        // One that did not fit counts as expected and never speaks: then there is no watermark.
        let all_have_spoken = self.as_ofs.len() >= self.totals.desired;
        let oldest = self.as_ofs.first().filter(|_| all_have_spoken);
        SwarmView {
            swarm_id: swarm_id.to_owned(),
            totals: self.totals,
            watermark: oldest.map(|(as_of, _)| Timestamp::from_micros(*as_of)),
        }
    }

    /// What it takes up on the heap, about.
    pub fn bytes(&self) -> usize {
        self.as_ofs.len() * size_of::<(i64, Key)>() * 3 / 2
    }
}
