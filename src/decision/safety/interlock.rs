//! Interlocks: what raises the safety mode by itself.
//!
//! Owns: the thresholds and windows, what is counted, and what a breach leads to.
//! Never: lowers a mode, or lets what an unproven sender can cause raise one.
//! Holds: a mode is raised at the narrowest scope measured, after a whole window and `samples_min` samples; a
//! measurement that is missing is a breach, not a zero.

use std::collections::BTreeMap;

use super::set;
use crate::{
    contract::{
        audit::{Action, Actor, Change, Ended, Fact, Proof},
        interlock::{SafetyMode, SafetySet, Suspended},
        routing::{ALL, Scope},
        timestamp::Timestamp,
    },
    decision::{
        Decision, alert, command,
        request::Measured,
        state::{Belief, State},
    },
};

/// How many principals are counted apart in a window; the rest is not counted.
const PRINCIPALS_MAX: usize = 10_000;

/// What a deployment sets for interlocks. A threshold of `None` is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interlocks {
    /// How long a window is, in milliseconds.
    pub window_ms: u64,
    /// How many samples a window must have before anything is concluded from it.
    pub samples_min: u64,
    /// Commands of one principal in a window; beyond, its starts are suspended.
    pub commands_max: Option<u64>,
    /// Repeats of one principal in a window; beyond, its starts are suspended.
    pub duplicates_max: Option<u64>,
    /// For how long starts are suspended, in milliseconds.
    pub suspend_ms: u64,
    /// Refusals by gate 3 in a window; beyond, there is an alert.
    pub refused_identities_max: Option<u64>,
    /// Commands of a swarm that ended without their outcome, in percent; beyond, the swarm is SAFE.
    pub missing_outcomes_percent_max: Option<u64>,
    /// Instances of a swarm of which nothing is known, in percent; beyond, the swarm is SAFE.
    pub unknown_percent_max: Option<u64>,
    /// Failed writes of the ledger between two looks; beyond for a window, everything is SAFE.
    pub ledger_failures_max: Option<u64>,
    /// Drift of the wall clock between two looks, in milliseconds; beyond for a window, everything is SAFE.
    pub clock_drift_ms_max: Option<u64>,
    /// Room on the ledger's disk, in bytes; below for a window, everything is SAFE.
    pub disk_free_bytes_min: Option<u64>,
}

impl Default for Interlocks {
    fn default() -> Self {
        Self {
            window_ms: 60_000,
            samples_min: 10,
            commands_max: None,
            duplicates_max: None,
            suspend_ms: 300_000,
            refused_identities_max: Some(1_000),
            missing_outcomes_percent_max: None,
            unknown_percent_max: None,
            ledger_failures_max: Some(0),
            clock_drift_ms_max: Some(30_000),
            disk_free_bytes_min: Some(64 * 1024 * 1024),
        }
    }
}

impl Interlocks {
    fn window_micros(&self) -> i64 {
        Timestamp::from_micros(0).plus_ms(self.window_ms).micros()
    }
}

/// What is counted; gone with the process, so that a new one waits for a whole window of its own.
#[derive(Clone, Debug, Default)]
pub(in crate::decision) struct Meters {
    limits: Interlocks,
    principals: BTreeMap<String, Count>,
    swarms: BTreeMap<String, Count>,
    identities: Count,
    breaches: BTreeMap<Place, Breach>,
}

/// Two numbers of a window.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    since: i64,
    /// Commands, ended commands, or refusals.
    all: u64,
    /// Of those: repeats, or ended without an outcome.
    bad: u64,
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

    fn within(self, at: i64, window: i64) -> Self {
        if at - self.since >= window { Self::default() } else { self }
    }
}

/// What is measured, and of whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
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

impl Place {
    const fn word(&self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Clock => "clock",
            Self::Disk => "disk",
            Self::Outcomes(_) => "missing outcomes",
            Self::Unknown(_) => "unknown instances",
        }
    }

    fn swarm(&self) -> Option<&str> {
        match self {
            Self::Outcomes(swarm) | Self::Unknown(swarm) => Some(swarm),
            _ => None,
        }
    }
}

/// A threshold that is passed, since when and how often it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breach {
    since: i64,
    samples: u64,
}

impl Meters {
    pub fn new(limits: Interlocks) -> Self {
        Self { limits, ..Self::default() }
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
                count.add(at, i64::MAX, (1, bad));
            } else {
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
        if self.principals.len() >= PRINCIPALS_MAX {
            self.principals.retain(|_, count| at - count.since < window);
        }
        if self.principals.len() < PRINCIPALS_MAX {
            let mut count = Count { since: at, ..Count::default() };
            count.add(at, window, more);
            self.principals.insert(principal.to_owned(), count);
        }
    }

    pub fn set(&mut self, place: &Place, breach: Option<Breach>) {
        match breach {
            Some(breach) => self.breaches.insert(place.clone(), breach),
            None => self.breaches.remove(place),
        };
        // A window that was judged is over.
        if let Place::Outcomes(swarm) = place {
            self.swarms.remove(swarm);
        }
    }
}

/// Suspends the starts of a principal that storms; asked for each of its commands and repeats.
pub(in crate::decision) fn storm(state: &State, actor: &Actor, now: Timestamp, decision: &mut Decision) {
    let (meters, limits) = (state.meters(), &state.rules().safety.interlocks);
    let Some(count) = meters.principals.get(&actor.principal) else { return };
    let count = count.within(now.micros(), limits.window_micros());
    let over = |number: u64, max: Option<u64>| max.is_some_and(|max| number >= max);
    let (code, what) = match () {
        () if over(count.all, limits.commands_max) => ("interlock.command-storm", "commands"),
        () if over(count.bad, limits.duplicates_max) => ("interlock.duplicate-storm", "repeats"),
        () => return,
    };
    if state.suspended_until(&actor.principal).is_some_and(|until| now < until) {
        return;
    }
    let until = now.plus_ms(limits.suspend_ms);
    let change = Change::Suspended(Suspended { principal: actor.principal.clone(), until });
    let detail = format!(
        "more {what} in {} ms than allowed; its starts are suspended until {until}",
        limits.window_ms
    );
    let router = Actor::router(&state.rules().instance);
    let everything = Scope::new(ALL, ALL, ALL);
    let step = (Action::InterlockFired, change);
    decision.facts.push(set::set(&router, &everything, detail, step, now));
    let message = "a sender storms; its starts are suspended for a while; see the runbook safety";
    let notice = alert::Notice { code, message, about: &actor.principal, count: 1, correlation_id: None };
    alert::raise(state, &notice, now, decision);
}

/// Judges what was measured of the host, and what has been counted meanwhile.
pub(in crate::decision) fn measured(state: &State, measured: &Measured, now: Timestamp) -> Decision {
    let limits = &state.rules().safety.interlocks;
    let mut decision = Decision::new(state);
    let above = |value: Option<u64>, max: u64| value.is_none_or(|value| value > max);
    let host = [
        (Place::Ledger, limits.ledger_failures_max.map(|max| above(measured.ledger_failures, max))),
        (Place::Clock, limits.clock_drift_ms_max.map(|max| above(measured.clock_drift_ms, max))),
        (
            Place::Disk,
            limits.disk_free_bytes_min.map(|min| measured.disk_free_bytes.is_none_or(|free| free < min)),
        ),
    ];
    for (place, breached) in host {
        if let Some(breached) = breached {
            lasting(state, place, breached, now, &mut decision);
        }
    }
    unknown(state, now, &mut decision);
    outcomes(state, now, &mut decision);
    identities(state, now, &mut decision);
    decision
}

/// A breach that has lasted for a window fires.
fn lasting(state: &State, place: Place, breached: bool, now: Timestamp, decision: &mut Decision) {
    let limits = &state.rules().safety.interlocks;
    let before = state.meters().breaches.get(&place);
    if !breached {
        if before.is_some() {
            decision.beliefs.push(Belief::Measured { place, breach: None });
        }
        return;
    }
    let before = before.copied().unwrap_or(Breach { since: now.micros(), samples: 0 });
    let breach = Breach { samples: before.samples + 1, ..before };
    let lasted = now.micros() - breach.since >= limits.window_micros();
    if lasted && breach.samples >= limits.samples_min {
        raise(state, &place, now, decision);
        decision.beliefs.push(Belief::Measured { place, breach: None });
    } else {
        decision.beliefs.push(Belief::Measured { place, breach: Some(breach) });
    }
}

fn unknown(state: &State, now: Timestamp, decision: &mut Decision) {
    let limits = &state.rules().safety.interlocks;
    let Some(max) = limits.unknown_percent_max else { return };
    for swarm in state.inventory().swarms() {
        let all = swarm.totals.seen as u64;
        if all < limits.samples_min {
            continue;
        }
        let breached = swarm.totals.lost as u64 * 100 > max * all;
        lasting(state, Place::Unknown(swarm.swarm_id), breached, now, decision);
    }
}

fn outcomes(state: &State, now: Timestamp, decision: &mut Decision) {
    let limits = &state.rules().safety.interlocks;
    let Some(max) = limits.missing_outcomes_percent_max else { return };
    let over = |count: &&Count| now.micros() - count.since >= limits.window_micros();
    for (swarm, count) in state.meters().swarms.iter().filter(|(_, count)| over(count)) {
        let place = Place::Outcomes(swarm.clone());
        if count.all >= limits.samples_min && count.bad * 100 > max * count.all {
            raise(state, &place, now, decision);
        }
        decision.beliefs.push(Belief::Measured { place, breach: None });
    }
}

/// What an unproven sender can cause is told, and raises nothing.
fn identities(state: &State, now: Timestamp, decision: &mut Decision) {
    let limits = &state.rules().safety.interlocks;
    let count = state.meters().identities.within(now.micros(), limits.window_micros());
    if limits.refused_identities_max.is_none_or(|max| count.all <= max) {
        return;
    }
    let notice = alert::Notice {
        code: "interlock.refused-identities",
        message: "many senders are refused for who they say they are; see the runbook safety",
        about: "identity",
        count: count.all,
        correlation_id: None,
    };
    alert::raise(state, &notice, now, decision);
}

/// Raises the mode to SAFE where it is lower.
fn raise(state: &State, place: &Place, now: Timestamp, decision: &mut Decision) {
    let scope = Scope::new(place.swarm().unwrap_or(ALL), ALL, ALL);
    let setting = state.safety().setting(place.swarm());
    if setting.mode_or_inherited(state) >= SafetyMode::Safe {
        return;
    }
    let router = Actor::router(&state.rules().instance);
    let detail = format!("interlock: {} beyond its threshold for a window", place.word());
    let change = SafetySet {
        mode: Some(SafetyMode::Safe),
        swarm: place.swarm().map(str::to_owned),
        ..SafetySet::default()
    };
    let step = (Action::SafetySet, Change::Safety(change));
    decision.facts.push(set::set(&router, &scope, detail, step, now));
    command::lifetime::supersede(state, &scope, "interlock", now, decision);
    let message = "an interlock has raised the safety mode to SAFE; see the runbook safety";
    set::tell(state, "safety.interlock", message, &scope, now, decision);
}
