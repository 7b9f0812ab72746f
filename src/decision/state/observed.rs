//! The observed half: what is believed until told otherwise, gone with the process.
//!
//! Owns: whether the ledger can be written, the refusals being counted, the limits on alerts, and which parked
//! commands' targets have shown themselves.
//! Never: part of the digest, or written anywhere.
//! Holds: nothing here decides what a replay must repeat.

use std::collections::BTreeMap;

use crate::contract::{audit::Actor, digest::Digest, reason::Reason, routing::Scope, timestamp::Timestamp};

/// What is believed.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    pub ledger_unwritable: bool,
    pub tallies: BTreeMap<Digest, Tally>,
    /// How many tallies are open in each second.
    pub tally_seconds: BTreeMap<i64, usize>,
    pub alerts: BTreeMap<Digest, i64>,
    pub alerts_held_back: u64,
    /// Targets with parked commands that have shown themselves, and from when on they are tried again.
    pub shown: BTreeMap<Scope, i64>,
    alerts_second: i64,
    alerts_in_second: u32,
}

/// Refusals of one sender and code within one second.
#[derive(Clone, Debug)]
pub(in crate::decision) struct Tally {
    /// The second, since the epoch.
    pub second: i64,
    /// How many after the first.
    pub count: u64,
    /// Digest chained over their bodies.
    pub bodies: Digest,
    /// Who was refused.
    pub actor: Actor,
    /// Why.
    pub reason: Reason,
}

/// A change of the observed half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Belief {
    /// The ledger can, or cannot, be written.
    LedgerWritable(bool),
    /// The first refusal of this sender and code in a second: its entry stands for those that follow.
    TallyOpened {
        /// Digest of sender and code.
        fingerprint: Digest,
        /// Who was refused.
        actor: Actor,
        /// Why.
        reason: Reason,
        /// The second, since the epoch.
        second: i64,
    },
    /// One more of them.
    Tallied {
        /// Digest of sender and code.
        fingerprint: Digest,
        /// Its body.
        body: Digest,
    },
    /// The second is over.
    TallyClosed {
        /// Digest of sender and code.
        fingerprint: Digest,
    },
    /// An alert left.
    Alerted {
        /// Digest of what it was about.
        fingerprint: Digest,
        /// When.
        at: Timestamp,
    },
    /// An alert was held back by the limits.
    AlertHeldBack,
    /// A target with parked commands has shown itself.
    Shown {
        /// The target.
        scope: Scope,
        /// From when on its commands are tried again.
        from: Timestamp,
    },
    /// Its parked commands were tried again.
    Tried {
        /// The target.
        scope: Scope,
    },
}

impl Observed {
    pub fn tally_opened(&mut self, fingerprint: Digest, tally: Tally) {
        *self.tally_seconds.entry(tally.second).or_default() += 1;
        let replaced = self.tallies.insert(fingerprint, tally);
        self.tally_left(replaced);
    }

    pub fn tallied(&mut self, fingerprint: &Digest, body: Digest) {
        if let Some(tally) = self.tallies.get_mut(fingerprint) {
            tally.count += 1;
            tally.bodies = Digest::of_fields(&[&tally.bodies.0, &body.0]);
        }
    }

    pub fn tally_closed(&mut self, fingerprint: &Digest) {
        let closed = self.tallies.remove(fingerprint);
        self.tally_left(closed);
    }

    fn tally_left(&mut self, tally: Option<Tally>) {
        let Some(Tally { second, .. }) = tally else { return };
        let open = self.tally_seconds.entry(second).or_default();
        *open = open.saturating_sub(1);
        if *open == 0 {
            self.tally_seconds.remove(&second);
        }
    }

    /// Whether an alert of that fingerprint may leave now.
    pub fn may_alert(
        &self,
        fingerprint: Digest,
        now: Timestamp,
        dedupe_micros: i64,
        per_second_max: u32,
    ) -> bool {
        let repeated = self.alerts.get(&fingerprint).is_some_and(|at| now.micros() - at < dedupe_micros);
        let full = self.alerts_second == now.second() && self.alerts_in_second >= per_second_max;
        !repeated && !full
    }

    pub fn alerted(&mut self, fingerprint: Digest, at: Timestamp, dedupe_micros: i64) {
        if self.alerts_second != at.second() {
            self.alerts_second = at.second();
            self.alerts_in_second = 0;
            self.alerts.retain(|_, raised| at.micros() - *raised < dedupe_micros);
        }
        self.alerts_in_second += 1;
        self.alerts_held_back = 0;
        self.alerts.insert(fingerprint, at.micros());
    }
}
