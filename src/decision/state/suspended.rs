//! Senders whose starts are suspended, and until when.
//!
//! Owns: who is suspended, and the order in which that ends.
//! Never: suspends anybody; a fact does.
//! Holds: each has one end, and leaves when a fact is later.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    contract::{audit::Stepped, timestamp::Timestamp},
    decision::state::State,
};

/// Every sender whose starts are suspended.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct SuspendedSenders {
    until: BTreeMap<String, i64>,
    #[serde(skip)]
    ends: BTreeSet<(i64, String)>,
}

impl SuspendedSenders {
    pub fn len(&self) -> usize {
        self.until.len()
    }

    /// Until when a sender's are, in microseconds since the epoch.
    pub fn until(&self, principal: &str) -> Option<i64> {
        self.until.get(principal).copied()
    }

    /// When the first of them is over.
    pub fn first_end(&self) -> Option<i64> {
        self.ends.first().map(|(end, _)| *end)
    }

    pub fn insert(&mut self, principal: &str, until: i64) {
        if let Some(before) = self.until.insert(principal.to_owned(), until) {
            self.ends.remove(&(before, principal.to_owned()));
        }
        self.ends.insert((until, principal.to_owned()));
    }

    /// Removes those that are over.
    pub fn forget(&mut self, at: i64) {
        while self.ends.first().is_some_and(|(end, _)| *end <= at) {
            if let Some((_, principal)) = self.ends.pop_first() {
                self.until.remove(&principal);
            }
        }
    }

    /// The router's time makes a step.
    pub fn step(&mut self, stepped: &Stepped) {
        self.until.values_mut().for_each(|until| *until = stepped.ahead(*until));
        self.ends = self.until.iter().map(|(principal, until)| (*until, principal.clone())).collect();
    }
}

impl State {
    /// Until when a principal may start nothing.
    pub fn suspended_until(&self, principal: &str) -> Option<Timestamp> {
        self.recorded.suspended.until(principal).map(Timestamp::from_micros)
    }

    /// Whether a sender's starts can be suspended.
    pub(in crate::decision) fn has_room_to_suspend(&self, principal: &str, now: Timestamp) -> bool {
        let suspended = &self.recorded.suspended;
        // Those that are over leave with the next fact.
        suspended.len() < self.rules.memory.suspended_max
            || suspended.until(principal).is_some()
            || suspended.first_end().is_some_and(|end| end <= now.micros())
    }
}
