//! What interlocks count and measure.
//!
//! Owns: the counts of a window, by sender and by swarm, and the breaches.
//! Never: concludes anything; `follow::interlock` does.
//! Holds: gone with the process, so that a new one waits for a whole window of its own.

use std::collections::BTreeMap;

use crate::{
    contract::{
        audit::{Action, Change, Ended, Fact, Proof},
        bound::Bound,
    },
    decision::{
        rules::interlocks::Interlocks,
        state::{State, collection::Collection},
    },
};

/// What is counted; gone with the process, so that a new one waits for a whole window of its own.
#[derive(Clone, Debug, Default)]
pub(in crate::decision) struct Meters {
    limits: Interlocks,
    /// How many principals, and swarms, are counted apart in a window; the rest is not counted.
    pub(in crate::decision) counted_max: usize,
    pub(in crate::decision) principals: BTreeMap<String, Count>,
    pub(in crate::decision) swarms: BTreeMap<String, Count>,
    pub(in crate::decision) identities: Count,
    pub(in crate::decision) breaches: BTreeMap<MeasuredPlace, Breach>,
}

/// Two numbers of a window.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::decision) struct Count {
    pub(in crate::decision) since: i64,
    /// Commands, ended commands, or refusals.
    pub(in crate::decision) all: u64,
    /// Of those: repeats, or ended without an outcome.
    pub(in crate::decision) bad: u64,
}

impl Count {
    /// Counts one more; a window that is over begins anew.
    fn add(&mut self, at: i64, window: i64, (all, bad): (u64, u64)) {
        if at - self.since >= window {
            *self = Self { since: at, ..Self::default() };
        }
        self.all += all;
        self.bad += bad;
    }

    pub(in crate::decision) fn within(self, at: i64, window: i64) -> Self {
        if at - self.since >= window { Self::default() } else { self }
    }
}

/// What is measured, and of whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MeasuredPlace {
    /// The ledger's writes.
    Ledger,
    /// The wall clock.
    Clock,
    /// The ledger's disk.
    Disk,
    /// Outcomes that a swarm owes.
    Outcomes(String),
    /// Instances of a swarm of which nothing is known.
    Unknown(String),
}

impl MeasuredPlace {
    pub(in crate::decision) const fn word(&self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Clock => "clock",
            Self::Disk => "disk",
            Self::Outcomes(_) => "missing outcomes",
            Self::Unknown(_) => "unknown instances",
        }
    }

    pub(in crate::decision) fn swarm(&self) -> Option<&str> {
        match self {
            Self::Outcomes(swarm) | Self::Unknown(swarm) => Some(swarm),
            _ => None,
        }
    }
}

/// A threshold that is passed, since when and how often it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breach {
    pub(in crate::decision) since: i64,
    pub(in crate::decision) samples: u64,
}

impl Meters {
    pub fn new(limits: Interlocks, counted_max: usize) -> Self {
        Self { limits, counted_max, ..Self::default() }
    }

    /// Everything it keeps, and what bounds that.
    pub fn collections(&self, instances_max: usize) -> Vec<Collection> {
        let Self { limits: _, counted_max, principals, swarms, identities: _, breaches } = self;
        let counted = |name, len| Collection { name, bound: Bound::Counted, len, max: *counted_max };
        vec![
            counted("meters.principals", principals.len()),
            counted("meters.swarms", swarms.len()),
            Collection {
                name: "meters.breaches",
                bound: Bound::Inventory,
                len: breaches.len(),
                // The host's three, and those of the swarms that are known.
                max: instances_max.saturating_add(3),
            },
        ]
    }

    /// Counts what an entry says.
    pub fn follow(&mut self, fact: &Fact) {
        let (at, window) = (fact.at.micros(), self.limits.window_micros());
        let counts_principals = self.limits.commands_max.is_some() || self.limits.duplicates_max.is_some();
        if counts_principals
            && let Some(actor) = fact.actor.as_ref().filter(|actor| actor.by != Proof::Router)
        {
            let more = match (&fact.change, fact.action) {
                (Change::Accepted(_), _) => (1, 0),
                (_, Action::DuplicateSuppressed) => (0, 1),
                _ => (0, 0),
            };
            if more != (0, 0) {
                self.count_principal(&actor.principal, at, window, more);
            }
        }
        if let (Some(_), Some(subject)) = (self.limits.missing_outcomes_percent_max, &fact.subject) {
            let bad = match &fact.change {
                Change::Ended(Ended { status, .. }) => {
                    u64::from(matches!(status.as_str(), "TimedOut" | "Partial"))
                }
                Change::Result(result) if result.ends.is_some() => 0,
                _ => return,
            };
            if let Some(count) = self.swarms.get_mut(&subject.scope.swarm_id) {
                // Never begun anew here: the host's look judges a window that is over, and then
                // removes it.
                count.add(at, i64::MAX, (1, bad));
            } else if self.swarms.len() < self.counted_max {
                let count = Count { since: at, all: 1, bad };
                self.swarms.insert(subject.scope.swarm_id.clone(), count);
            }
        }
        if fact.reason.is_some_and(|reason| reason.gate() == "identity") {
            let more = if let Change::Tallied(tallied) = &fact.change { tallied.count } else { 1 };
            self.identities.add(at, window, (more, 0));
        }
    }

    fn count_principal(&mut self, principal: &str, at: i64, window: i64, more: (u64, u64)) {
        if let Some(count) = self.principals.get_mut(principal) {
            return count.add(at, window, more);
        }
        if self.principals.len() >= self.counted_max {
            // Looked through only when full: counts that are over harm nobody until then.
            self.principals.retain(|_, count| at - count.since < window);
        }
        if self.principals.len() < self.counted_max {
            let mut count = Count { since: at, ..Count::default() };
            count.add(at, window, more);
            self.principals.insert(principal.to_owned(), count);
        }
    }

    pub fn set(&mut self, place: &MeasuredPlace, breach: Option<Breach>) {
        match breach {
            Some(breach) => self.breaches.insert(place.clone(), breach),
            None => self.breaches.remove(place),
        };
        // A window that was judged is over.
        if let MeasuredPlace::Outcomes(swarm) = place {
            self.swarms.remove(swarm);
        }
    }
}

impl State {
    pub(in crate::decision) fn meters(&self) -> &Meters {
        &self.observed.meters
    }
}
