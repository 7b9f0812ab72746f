//! Refusals that are counted, and alerts that left.
//!
//! Owns: the tallies of a second, and the limits on alerts.
//! Never: writes anything; `follow` does.
//! Holds: an alert of the same matter leaves once in its window.

use std::collections::BTreeMap;

use crate::{
    contract::{audit::Actor, bound::Bound, digest::Digest, reason::Reason, timestamp::Timestamp},
    decision::state::{Observed, State},
};

/// Refusals of one sender and code within one second.
#[derive(Clone, Debug)]
pub(in crate::decision) struct Tally {
    /// The second, since the epoch.
    pub second: i64,
    /// How many after those that have an entry each.
    pub count: u64,
    /// How many have an entry each.
    pub written: u64,
    /// Digest chained over their bodies.
    pub bodies: Digest,
    /// Who was refused.
    pub actor: Actor,
    /// Why.
    pub reason: Reason,
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

    pub fn tally_written(&mut self, fingerprint: &Digest) {
        if let Some(tally) = self.tallies.get_mut(fingerprint) {
            tally.written += 1;
        }
    }

    pub fn tally_closed(&mut self, fingerprint: &Digest) {
        let closed = self.tallies.remove(fingerprint);
        self.tally_left(closed);
    }

    pub(super) fn tally_left(&mut self, tally: Option<Tally>) {
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
        let in_second = if self.alerts_second == now.second() { self.alerts_in_second } else { 0 };
        !repeated && in_second < per_second_max
    }

    pub fn bound_hit(&mut self, bound: Bound) {
        if let Some(hits) = self.bound_hits.get_mut(bound as usize) {
            *hits += 1;
        }
    }

    /// An alert leaves; of more than `alerts_max` the oldest is forgotten.
    pub fn alerted(&mut self, fingerprint: Digest, at: Timestamp, dedupe_micros: i64, alerts_max: usize) {
        if self.alerts_second != at.second() {
            self.alerts_second = at.second();
            self.alerts_in_second = 0;
            // Once a second and not at every alert, because it walks through all of them.
            self.alerts.retain(|_, raised| at.micros() - *raised < dedupe_micros);
        }
        self.alerts_in_second += 1;
        // The alert that leaves says how many there were.
        self.alerts_held_back = 0;
        self.alerts.insert(fingerprint, at.micros());
        if self.alerts.len() > alerts_max {
            let oldest = self.alerts.iter().min_by_key(|(_, at)| **at).map(|(fingerprint, _)| *fingerprint);
            oldest.and_then(|oldest| self.alerts.remove(&oldest));
            self.bound_hit(Bound::Alerts);
        }
    }
}

impl State {
    pub(in crate::decision) fn tallies(&self) -> &BTreeMap<Digest, Tally> {
        &self.observed.tallies
    }

    /// Whether an alert may leave, besides those that leave by the same decision.
    pub(in crate::decision) fn may_alert(&self, fingerprint: Digest, besides: u32, now: Timestamp) -> bool {
        let left = self.rules.alerts_per_second_max.saturating_sub(besides);
        self.observed.may_alert(fingerprint, now, self.dedupe_micros(), left)
    }

    pub(in crate::decision) fn alerts_held_back(&self) -> u64 {
        self.observed.alerts_held_back
    }

    pub(in crate::decision) fn dedupe_micros(&self) -> i64 {
        Timestamp::from_micros(0).plus_ms(self.rules.alerts_dedupe_ms).micros()
    }
}
