//! How a command's time runs: until when it waits, what ends it then, and which stop ends it before.
//!
//! Owns: deadlines, `TimedOut` and `Partial`, and `Superseded`.
//! Never: ends a command silently: its sender always gets an outcome that says what was last known.
//! Holds: one decision ends one timed-out command, so that its outcome stands beside its own entry.

use std::collections::BTreeSet;

use super::{Decision, ending, flight::Flight};
use crate::{
    contract::{
        Said,
        audit::{Evidence, EvidenceKind, Fact},
        command::{Answerer, Class},
        interlock::{KillSwitch, Life, SafetyMode},
        routing::{RoutingKey, Scope},
        timestamp::Timestamp,
        tree::View,
    },
    decision::{alert, clock, effect::Effect, lifecycle::Step, rules::Rules, state::State},
};

/// Until when a command waits for its outcome; `None` for what is answered at once or never.
pub(super) fn deadline(rules: &Rules, key: &RoutingKey, now: Timestamp) -> Option<Timestamp> {
    let row = rules.commands.get(&key.kind_type)?;
    // What the router acknowledges is answered at once, and what it answers alone has a deadline only where it takes time.
    let waits = row.answered_by != Answerer::RouterAndTarget;
    let waits = waits && (row.answered_by == Answerer::Router || key.scope != Scope::router(&rules.instance));
    row.deadline_ms.filter(|_| waits).map(|deadline_ms| now.plus_ms(deadline_ms))
}

/// Ends the command whose deadline has passed first.
pub(in crate::decision) fn time_out(state: &State, now: Timestamp) -> Option<Decision> {
    let (at, key) = state.in_flight().next_deadline().filter(|_| state.ledger_writable())?;
    let flight = state.in_flight().get(key).filter(|_| at <= now.micros())?;
    let mut decision = Decision::new(state);
    if flight.awaits_confirmation() {
        super::challenge::expire(state, flight, now, &mut decision);
        return Some(decision);
    }
    let flight = &with_last_status(state, flight);
    let answered = flight.targets.iter().any(|target| target.answer.is_some());
    let status = if flight.fans_out() && answered {
        ending::sum(state.rules(), flight)
    } else {
        "TimedOut".to_owned()
    };
    ending::end(state, flight, &status, (&last_known(state, flight), None), now, &mut decision);
    stuck(state, flight, now, &mut decision);
    Some(decision)
}

/// The flight of one instance with that instance's last status as its evidence, where nothing newer is known. A status
/// is no entry, so it is believed until it is needed, and written with the end.
fn with_last_status(state: &State, flight: &Flight) -> Flight {
    let mut flight = flight.clone();
    let view = (!flight.fans_out()).then(|| state.inventory().instance(&flight.scope)).flatten();
    let Some((view, at)) = view.and_then(|view| view.last_seen.map(|at| (view, at))) else { return flight };
    let newer = state.evidence(&flight).is_none_or(|evidence| evidence.at < at);
    if newer && at.micros() >= flight.accepted_at {
        let health = serde_json::to_value(view.health).ok();
        let detail = health.as_ref().and_then(|health| health.as_str()).unwrap_or_default().to_owned();
        flight.evidence = Some(Evidence { at, detail, kind: EvidenceKind::Status });
    }
    flight
}

/// The last that is known of a command, for who waited for it.
fn last_known(state: &State, flight: &Flight) -> String {
    let seconds = flight.deadline.saturating_sub(flight.accepted_at) / 1_000_000;
    let missing = match (flight.fans_out(), flight.targets.len(), flight.missing()) {
        (false, ..) => "no outcome".to_owned(),
        (true, 0, _) => "no target was known, and none answered".to_owned(),
        (true, targets, missing) => format!("{missing} of {targets} targets gave no outcome"),
    };
    let evidence = match state.evidence(flight) {
        Some(evidence) => {
            format!("last evidence: {} {} at {}", evidence.kind.word(), evidence.detail, evidence.at)
        }
        None if flight.is_parked() => "it was never carried: no queue takes it".to_owned(),
        None if flight.carried_at.is_some() => "it was carried, and nothing was heard since".to_owned(),
        None => "nothing was heard of it".to_owned(),
    };
    format!("{missing} within {seconds} s; {evidence}")
}

/// A stop that ended without an answer leaves its bots in STOPPING: somebody is told, and the evidence is kept.
fn stuck(state: &State, flight: &Flight, now: Timestamp, decision: &mut Decision) {
    if Step::of(&flight.kind_type) != Some(Step::Stop) {
        return;
    }
    let silent = flight.targets.iter().filter(|target| target.answer.is_none());
    let stuck = silent.filter(|target| state.life(&target.scope) == Life::Stopping).count();
    if stuck == 0 {
        return;
    }
    let notice = alert::Notice {
        code: "lifecycle.stop-stuck",
        message: "bots did not answer their stop and are in STOPPING; see the runbook lifecycle.stop-stuck",
        about: &flight.scope.to_string(),
        count: stuck as u64,
        correlation_id: flight.correlation_id.as_deref(),
    };
    alert::raise(state, &notice, now, decision);
    let why = format!("{stuck} bots of {} did not answer their stop", flight.scope);
    // Where a bundle takes a confirmation, the alert asks a person for it instead.
    if !state.rules().consent.support_bundle {
        decision.effects.push(Effect::Bundle { seq: 0, why });
    }
}

/// Whether a command ends the starts and releases that are pending in its scope: a stop, a pause, a quarantine, and
/// what tightens safety.
pub(in crate::decision) fn supersedes(said: &Said, class: Option<Class>) -> bool {
    let word = |name: &str| said.envelope.data.get(name).and_then(View::as_str);
    match class {
        Some(Class::Stop) => true,
        Some(Class::Tighten) => match said.key.kind_type.as_str() {
            "safety-set" => word("mode") != Some(SafetyMode::Normal.word()),
            "kill-switch-set" => word("level") != Some(KillSwitch::Allow.word()),
            "gate-enable" | "monitoring-enable" => false,
            _ => true,
        },
        _ => false,
    }
}

/// Whether a word stands for a setting of safety, by signal, latch or interlock.
fn tightens(word: &str) -> bool {
    matches!(
        word,
        "safety-set"
            | "kill-switch-set"
            | "latch"
            | "interlock"
            | "gate-disable"
            | "monitoring-disable"
            | crate::decision::set_back::WORD
            | clock::WORD
    )
}

/// Ends every start and release in flight that an accepted stop or tightening overtakes.
pub(in crate::decision) fn supersede(
    state: &State,
    scope: &Scope,
    by: &str,
    now: Timestamp,
    decision: &mut Decision,
) {
    let rules = state.rules();
    let class = |flight: &Flight| rules.commands.get(&flight.kind_type).map(|row| row.class);
    for (_, flight) in state.in_flight().covered_by(scope) {
        // Tightening voids the loosening that waits to be confirmed.
        let loosens = flight.awaits_confirmation() && tightens(by) && tightens(&flight.kind_type);
        if loosens || matches!(class(flight), Some(Class::Start | Class::Release)) {
            let detail = format!("a later {by} for its target was accepted");
            ending::end(state, flight, "Superseded", (&detail, None), now, decision);
        }
    }
}

/// The instances that a fan-out addresses, as they are known now.
pub(super) fn targets(state: &State, scope: &Scope) -> Vec<Scope> {
    if !scope.fans_out() {
        return Vec::new();
    }
    // Those that have shown themselves, and those that a template expects.
    let known: BTreeSet<Scope> = state.known(scope).chain(state.inventory().covered(scope)).collect();
    known.into_iter().take(state.rules().targets_max).collect()
}

/// The first sign that a status gives of the commands whose correlationId it carries.
pub(in crate::decision) fn first_signs(state: &State, said: &Said, now: Timestamp) -> Vec<Fact> {
    let Some(correlation_id) = said.envelope.correlation_id.as_deref() else { return Vec::new() };
    let flights = state.in_flight().of_trace(super::trace(correlation_id), &said.key.scope);
    let flights = flights.filter(|(_, flight)| flight.observed_at.is_none());
    flights
        .map(|(_, flight)| super::parking::step(state, flight, super::parking::Step::Observed, now))
        .collect()
}
