//! Interlocks: what raises the safety mode by itself.
//!
//! Owns: what a breach leads to, and the suspension of senders that storm.
//! Never: lowers a mode, or lets what an unproven sender can cause raise one.
//! Holds: a mode is raised at the narrowest scope measured, after a whole window and `samples_min`
//! samples; a measurement that is missing is a breach, not a zero.
//! The rules: spec/rules.md#interlocks and #storms.

use std::collections::BTreeSet;

use crate::{
    contract::{
        audit::{Action, Actor, Change},
        bound::Bound,
        interlock::{SafetyMode, SafetySet, Suspended},
        routing::{ALL, Scope},
        timestamp::Timestamp,
    },
    decision::{
        facts,
        follow::{self, alert, bound, overtake},
        outcome::Decision,
        request::Measured,
        state::{
            Belief, State,
            meters::{Breach, Count, MeasuredPlace},
        },
    },
};

/// Suspends the starts of a principal that storms; asked for each of its commands and repeats.
pub(in crate::decision) fn storm(state: &State, actor: &Actor, now: Timestamp, decision: &mut Decision) {
    let (meters, limits) = (state.meters(), &state.rules().safety.interlocks);
    let Some(count) = meters.principals.get(&actor.principal) else {
        if meters.principals.len() >= meters.counted_max {
            bound::hit(state, Bound::Counted, now, decision);
        }
        return;
    };
    let count = count.within(now.micros(), limits.window_micros());
    // The command that asks is not counted yet: with it there are more than `max`.
    let over = |number: u64, max: Option<u64>| max.is_some_and(|max| number >= max);
    let (code, what) = match () {
        () if over(count.all, limits.commands_max) => ("interlock.command-storm", "commands"),
        () if over(count.bad, limits.duplicates_max) => ("interlock.duplicate-storm", "repeats"),
        () => return,
    };
    // A suspension is not prolonged: it runs out, and the count of that window decides anew.
    if state.suspended_until(&actor.principal).is_some_and(|until| now < until) {
        return;
    }
    if !state.has_room_to_suspend(&actor.principal, now) {
        // Until there is room nobody starts anything.
        return bound::hit(state, Bound::Suspended, now, decision);
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
    decision.facts.push(facts::of_setting(&router, &everything, detail, step, now));
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
        (MeasuredPlace::Ledger, limits.ledger_failures_max.map(|max| above(measured.ledger_failures, max))),
        (MeasuredPlace::Clock, limits.clock_drift_ms_max.map(|max| above(measured.clock_drift_ms, max))),
        (
            MeasuredPlace::Disk,
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
fn lasting(state: &State, place: MeasuredPlace, breached: bool, now: Timestamp, decision: &mut Decision) {
    let limits = &state.rules().safety.interlocks;
    let before = state.meters().breaches.get(&place);
    if !breached {
        // One good sample ends a breach: a dip is no window.
        if before.is_some() {
            decision.beliefs.push(Belief::Measured { place, breach: None });
        }
        return;
    }
    let before = before.copied().unwrap_or(Breach { since: now.micros(), samples: 0 });
    let breach = Breach { samples: before.samples + 1, ..before };
    let lasted = now.micros() - breach.since >= limits.window_micros();
    if lasted && breach.samples >= limits.samples_min {
        // Then forgotten: it takes a whole window to fire once more.
        raise(state, &place, now, decision);
        decision.beliefs.push(Belief::Measured { place, breach: None });
    } else {
        decision.beliefs.push(Belief::Measured { place, breach: Some(breach) });
    }
}

fn unknown(state: &State, now: Timestamp, decision: &mut Decision) {
    let limits = &state.rules().safety.interlocks;
    let Some(max) = limits.unknown_percent_max else { return };
    let swarms = state.inventory().swarms();
    // Of a swarm that is gone nothing is measured any more.
    let there: BTreeSet<&str> = swarms.iter().map(|swarm| swarm.swarm_id.as_str()).collect();
    for place in state.meters().breaches.keys() {
        if matches!(place, MeasuredPlace::Unknown(swarm) if !there.contains(swarm.as_str())) {
            decision.beliefs.push(Belief::Measured { place: place.clone(), breach: None });
        }
    }
    for swarm in swarms {
        let all = swarm.totals.seen as u64;
        if all < limits.samples_min {
            continue;
        }
        let breached = swarm.totals.lost as u64 * 100 > max * all;
        lasting(state, MeasuredPlace::Unknown(swarm.swarm_id), breached, now, decision);
    }
}

fn outcomes(state: &State, now: Timestamp, decision: &mut Decision) {
    let limits = &state.rules().safety.interlocks;
    let Some(max) = limits.missing_outcomes_percent_max else { return };
    // A swarm beyond it is not counted, and so never SAFE by this: somebody must hear that.
    if state.meters().swarms.len() >= state.meters().counted_max {
        bound::hit(state, Bound::Counted, now, decision);
    }
    let over = |count: &&Count| now.micros() - count.since >= limits.window_micros();
    for (swarm, count) in state.meters().swarms.iter().filter(|(_, count)| over(count)) {
        let place = MeasuredPlace::Outcomes(swarm.clone());
        if count.all >= limits.samples_min && count.bad * 100 > max * count.all {
            raise(state, &place, now, decision);
        }
        decision.beliefs.push(Belief::Measured { place, breach: None });
    }
}

/// What an unproven sender can cause raises an alert, and no mode.
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
fn raise(state: &State, place: &MeasuredPlace, now: Timestamp, decision: &mut Decision) {
    let swarm = follow::safety::place(state, place.swarm(), now, decision);
    let scope = Scope::new(swarm.as_deref().unwrap_or(ALL), ALL, ALL);
    let setting = state.safety().setting(swarm.as_deref());
    if setting.mode_or_inherited(state) >= SafetyMode::Safe {
        return;
    }
    let router = Actor::router(&state.rules().instance);
    let detail = format!("interlock: {} beyond its threshold for a window", place.word());
    let change = SafetySet { mode: Some(SafetyMode::Safe), swarm, ..SafetySet::default() };
    let step = (Action::SafetySet, Change::Safety(change));
    decision.facts.push(facts::of_setting(&router, &scope, detail, step, now));
    overtake::supersede(state, &scope, "interlock", now, decision);
    let message = "an interlock has raised the safety mode to SAFE; see the runbook safety";
    follow::safety::raise_alert(state, "safety.interlock", message, &scope, now, decision);
}
