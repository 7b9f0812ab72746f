//! What a later stop or tightening overtakes.
//!
//! Owns: which signals end the starts that are pending in their scope, and the end of a start that
//! came too late.
//! Never: ends what stops.
//! Holds: who only tightens ends no stop, and nothing that is overtaken is ever carried.
//! The rules: spec/rules.md#deadlines and #overtaking.

use crate::{
    contract::{
        Said,
        audit::{Accepted, Action, Actor, Change, Ended, Fact, Verdict},
        command::Class,
        interlock::{GateResult, KillSwitch, SafetyMode},
        routing::Scope,
        timestamp::Timestamp,
        tree::View,
    },
    decision::{
        effect::{self, Speech},
        facts,
        follow::ending,
        gates::setting,
        outcome::Decision,
        request::Arrival,
        state::{Belief, State, challenges, flight::Flight},
    },
};

/// The word by which a clock that does not agree supersedes starts.
pub(in crate::decision) const CLOCK: &str = "clock";

/// The type of what somebody says of a readiness gate.
const REPORT: &str = "gate-report";

/// The word by which looser settings do.
pub(in crate::decision) const SETTINGS: &str = "settings";

/// The word by which a ledger that was set back does.
pub(in crate::decision) const SET_BACK: &str = "set-back";

/// Whether a command ends the starts and releases that are pending in its scope: a stop, a pause, a
/// quarantine, and what tightens safety.
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
            | SET_BACK
            | SETTINGS
            | CLOCK
    )
}

/// Ends every start and release in flight that an accepted stop or tightening overtakes; where the
/// ledger was set back, everything that does not always pass.
pub(in crate::decision) fn supersede(
    state: &State,
    scope: &Scope,
    by: &str,
    now: Timestamp,
    decision: &mut Decision,
) {
    supersede_but(state, scope, (by, None), now, decision);
}

/// The same, by a command that is in flight itself: its entry is `but`.
pub(in crate::decision) fn supersede_but(
    state: &State,
    scope: &Scope,
    (by, but): (&str, Option<u64>),
    now: Timestamp,
    decision: &mut Decision,
) {
    let rules = state.rules();
    let class = |flight: &Flight| rules.commands.get(&flight.kind_type).map(|row| row.class);
    // Also where nothing in flight ends: a start that nobody tracks may still wait to leave.
    decision.beliefs.push(Belief::Overtaken(scope.clone()));
    let covered = state.in_flight().covered_by(scope);
    // A setting of safety that was confirmed lies in its own scope, and would void itself.
    for (_, flight) in covered.filter(|(_, flight)| Some(flight.seq) != but) {
        // Tightening voids the loosening that waits to be confirmed, or for its latch file to go.
        let loosens = tightens(by) && tightens(&flight.kind_type);
        // What an older copy of the ledger takes for under way may have ended long since.
        let is_doubtful = by == SET_BACK && !flight.always_passes;
        if loosens || is_doubtful || matches!(class(flight), Some(Class::Start | Class::Release)) {
            let detail = format!("a later {by} for its target was accepted");
            ending::end(state, flight, "Superseded", (&detail, None), now, decision);
        }
    }
}

/// Ends the reports of a gate that wait to be confirmed, where somebody says since that it does not
/// pass: who confirms them would clear what nobody had seen when they were challenged.
pub(in crate::decision) fn supersede_reports(
    state: &State,
    said: &Said,
    now: Timestamp,
    decision: &mut Decision,
) {
    let (kind_type, scope) = (said.key.kind_type.as_str(), &said.key.scope);
    if kind_type != REPORT || setting::result(said) == Some(GateResult::Pass) {
        return;
    }
    for flight in state.challenged().filter(|flight| flight.awaits_confirmation()) {
        let overlaps = flight.scope.covers(scope) || scope.covers(&flight.scope);
        if flight.kind_type != REPORT || !overlaps {
            continue;
        }
        let is_of_it = challenges::stored(state, flight)
            .is_none_or(|waits| setting::text(&waits, "gate") == setting::text(said, "gate"));
        if is_of_it {
            let detail = "a later report of its gate was accepted";
            ending::end(state, flight, "Superseded", (detail, None), now, decision);
        }
    }
}

/// A start that came after a stop it is not later than: accepted and ended in one decision, never
/// carried.
pub(in crate::decision) fn decision(
    state: &State,
    arrival: &Arrival,
    actor: Actor,
    accepted: Accepted,
    detail: String,
    now: Timestamp,
) -> Decision {
    let Ok(said) = &arrival.subject else { return Decision::new(state) };
    let speech = Speech::outcome(state.rules(), said, "Superseded", None, &detail, now);
    let command = accepted.command;
    let request = Fact {
        verdict: Some(Verdict::Suppress),
        detail: Some(detail),
        ..facts::of_arrival(
            state,
            arrival,
            Some(said),
            actor.clone(),
            Action::Requested,
            Change::Accepted(accepted),
            now,
        )
    };
    let end = Fact {
        payload: Some(speech.payload()),
        change: command.map_or(Change::None, |command| {
            Change::Ended(Ended { command, status: "Superseded".to_owned() })
        }),
        verdict: Some(Verdict::Suppress),
        ..facts::of_arrival(
            state,
            arrival,
            Some(said),
            Actor::router(&state.rules().instance),
            Action::Ended,
            Change::None,
            now,
        )
    };
    let mut decision = Decision::new(state);
    decision.verdict = Some(Verdict::Suppress);
    decision.principal = Some(actor.principal);
    decision.facts = vec![request, end];
    decision.effects.push(effect::Effect::Speak(speech));
    decision
}
