//! What ends a command at its deadline.
//!
//! Owns: `TimedOut` and `Partial`, and the last that is known of a command.
//! Never: ends a command silently: its sender always gets an outcome that says what was last known.
//! Holds: one decision ends one command, so that its outcome stands beside its own entry.
//! The rules: spec/rules.md#deadlines and #overtaking.

use crate::{
    contract::{
        audit::{Evidence, EvidenceKind},
        interlock::Life,
        timestamp::Timestamp,
    },
    decision::{
        effect::Effect,
        follow::{alert, challenge, ending},
        outcome::Decision,
        rules::{lifecycle::Step, words::TIMED_OUT},
        state::{State, flight::Flight},
    },
};

/// Ends the command whose deadline has passed first.
pub(in crate::decision) fn time_out(state: &State, now: Timestamp) -> Option<Decision> {
    // An end that cannot be written is none: a restart would forget it after its sender had heard
    // it.
    let (at, key) = state.in_flight().next_deadline().filter(|_| state.ledger_writable())?;
    let flight = state.in_flight().get(key).filter(|_| at <= now.micros())?;
    let mut decision = Decision::new(state);
    if flight.awaits_confirmation() {
        challenge::expire(state, flight, now, &mut decision);
        return Some(decision);
    }
    let flight = &with_last_status(state, flight);
    let answered = flight.targets.iter().any(|target| target.answer.is_some());
    let status =
        if flight.fans_out() && answered { ending::sum(state.rules(), flight) } else { TIMED_OUT.to_owned() };
    ending::end(state, flight, &status, (&last_known(state, flight), None), now, &mut decision);
    stuck(state, flight, now, &mut decision);
    Some(decision)
}

/// The flight of one instance with that instance's last status as its evidence, where nothing newer
/// is known. A status is no entry, so it is believed until it is needed, and written with the end.
fn with_last_status(state: &State, flight: &Flight) -> Flight {
    let mut flight = flight.clone();
    let view = (!flight.fans_out()).then(|| state.inventory().instance(&flight.scope)).flatten();
    let Some((view, at)) = view.and_then(|view| view.last_seen.map(|at| (view, at))) else { return flight };
    let newer = state.evidence(&flight).is_none_or(|evidence| evidence.at < at);
    // What came before the command is no sign of it.
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

/// A stop that ended without an answer leaves its bots in STOPPING: an alert is raised, and a
/// support bundle keeps the evidence.
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
