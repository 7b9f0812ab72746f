//! One instance: what it said, what others said of it, and its timers.
//!
//! Owns: how the parts of an instance make its lifecycle, health and drift.
//! Never: knows its own name or its neighbours.
//! Holds: what is said of a silent instance is never better than `unknown`.

use crate::{
    contract::{digest::Digest, timestamp::Timestamp},
    decision::{
        rules::inventory::InventoryLimits,
        state::inventory::{
            freshness::{Freshness, HeardStatus, LaneClock, Timers, Vitals},
            record::{Field, Record, SaidAt, SharedBuild},
            status::{self, Health, Lifecycle, Status},
            swarm::Share,
        },
    },
};

/// Stands for the digest of a config that nobody knows any more.
pub const UNKNOWN: Digest = Digest([0; 32]);

/// Whether an instance runs with the config that was last applied to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drift {
    /// Nothing was applied, or too much to remember, or no snapshot is newer than what was.
    #[default]
    Unknown,
    /// It does.
    None,
    /// It does not.
    Drifted,
}

/// One instance.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    /// What it said; `None` until it speaks.
    pub record: Option<Record>,
    pub timers: Timers,
    /// What it or an outcome said of its life.
    pub lifecycle: Field<Lifecycle>,
    pub session: u64,
    pub is_expected: bool,
    /// When it became known without speaking, on the lane's clock.
    pub known_since: i64,
    /// Its place in the order of deadlines.
    pub deadline: Option<i64>,
    /// Rare, so boxed.
    desired: Option<Box<Field<Digest>>>,
}

impl Instance {
    pub fn new(known_since: i64) -> Self {
        Self {
            record: None,
            timers: Timers::new(),
            lifecycle: Field::default(),
            session: 0,
            is_expected: false,
            known_since,
            deadline: None,
            desired: None,
        }
    }

    /// Takes in a status; says whether it is the newest snapshot.
    pub fn hear(
        &mut self,
        status: &Status,
        stamp: SaidAt,
        build: Option<SharedBuild>,
        clock: &LaneClock,
        limits: &InventoryLimits,
    ) -> bool {
        // What was said long ago proves no life now, however late it arrives.
        let latest = Timestamp::from_micros(stamp.at).plus_ms(limits.behind_max_ms);
        let heard = clock.at(status.arrived.min(latest).micros());
        let record = self.record.get_or_insert_with(Record::new);
        let is_newest_full = record.merge(status, stamp, heard, build);
        let age_ms = clock.at(status.arrived.micros()).saturating_sub(heard) / 1000;
        self.timers.hear(&HeardStatus { at: heard, stamp, age_ms, is_full: status.is_full() }, limits);
        self.timers.ask(clock.at(record.first_seen), record.snapshot().is_some());
        if let Some(lifecycle) = status.lifecycle {
            self.lifecycle.write(stamp, lifecycle);
        }
        is_newest_full
    }

    pub fn desire(&mut self, config: Digest, at: Timestamp) {
        let stamp = SaidAt { at: at.micros(), tie: status::tie(config) };
        self.desired.get_or_insert_default().write(stamp, config);
    }

    pub fn desired(&self) -> Option<Digest> {
        self.desired.as_deref().map(|desired| *desired.get()).filter(|desired| *desired != UNKNOWN)
    }

    pub fn drift(&self) -> Drift {
        let snapshot = self.record.as_ref().and_then(Record::snapshot);
        let (Some(desired), Some((snapshot, said))) = (self.desired.as_deref(), snapshot) else {
            return Drift::Unknown;
        };
        // A snapshot from before tells nothing of what was applied since.
        if said <= desired.stamp().at || *desired.get() == UNKNOWN {
            return Drift::Unknown;
        }
        if snapshot.config == *desired.get() { Drift::None } else { Drift::Drifted }
    }

    /// What was said of its life; where nobody said a word, what enabling tells.
    pub fn lifecycle(&self) -> Lifecycle {
        match (*self.lifecycle.get(), &self.record) {
            (Lifecycle::Unknown, Some(record)) => record.lifecycle(),
            (said, _) => said,
        }
    }

    /// What it reports; of a silent one at best `unknown`.
    pub fn health(&self) -> Health {
        let reported = self.record.as_ref().map(Record::health).unwrap_or_default();
        if self.timers.freshness() == Freshness::Fresh { reported } else { reported.max(Health::Unknown) }
    }

    pub fn share(&self) -> Share {
        let record = self.record.as_ref();
        Share {
            freshness: self.timers.freshness(),
            lifecycle: self.lifecycle(),
            health: self.health(),
            enabled: record.is_some_and(Record::enabled),
            drifted: self.drift() == Drift::Drifted,
            expected_as_of: record.filter(|_| self.is_expected).map(|record| record.as_of()),
        }
    }

    pub fn vitals(&self) -> Vitals {
        let record = self.record.as_ref();
        Vitals {
            heard: record.map_or(self.known_since, |record| record.heard),
            has_spoken: record.is_some(),
            is_expected: self.is_expected,
        }
    }

    /// What it takes up on the heap beside itself.
    pub fn bytes(&self) -> usize {
        let desired = self.desired.as_ref().map_or(0, |_| size_of::<Field<Digest>>());
        desired + self.timers.bytes() + self.record.as_ref().map_or(0, Record::bytes)
    }
}
