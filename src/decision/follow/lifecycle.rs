//! What an outcome, an alert or a stop says of a bot's life.
//!
//! Owns: the step that each of these takes, and bots that run without a command.
//! Never: leaves ERROR or QUARANTINED by itself.
//! Holds: live is entered by a confirmed command only.
//! The rules: spec/rules.md#lifecycle and #quarantine.

use crate::{
    contract::{
        Said,
        audit::Actor,
        bound::Bound,
        interlock::{Life, Move},
        routing::Scope,
        timestamp::Timestamp,
        tree::View,
    },
    decision::{
        follow::{
            alert, bound,
            ending::Ending,
            moves::{self, Cause},
            order, overtake,
        },
        gates::Passed,
        outcome::Decision,
        rules::lifecycle::{self, Step},
        state::{State, key},
    },
};

/// What an accepted stop or quarantine does at once: a stop begins, a quarantine holds.
pub(in crate::decision) fn accepted(
    state: &State,
    passed: &Passed<'_>,
    now: Timestamp,
    decision: &mut Decision,
) {
    let said = passed.said;
    let about = &said.key.scope;
    let cause = Cause { actor: passed.actor.clone(), about, detail: &said.key.kind_type };
    decision.facts.extend(moves::at_once(state, &said.key.kind_type, cause, now));
    if decision.facts.iter().any(moves::is_wide) {
        bound::hit(state, Bound::Bots, now, decision);
    }
    if let Some((Some(from), to)) = lifecycle::requested(said)
        && !about.fans_out()
        && matches!(Step::of(&said.key.kind_type), Some(Step::Stop | Step::Pause))
        && let Some(fact) = decision.facts.first_mut()
        && state.life(about) != from
    {
        // In the command's own entry, which is the first; noted, and never refused.
        fact.detail = Some(format!("asked for {from}->{to} while the bot was in {}", state.life(about)));
    }
}

/// What an outcome says of its bot's life.
pub(in crate::decision) fn outcome(
    state: &State,
    said: &Said,
    ending: &Ending,
    actor: &Actor,
    now: Timestamp,
    decision: &mut Decision,
) {
    let (Some(step), Some(status)) =
        (Step::of(&said.key.kind_type), said.envelope.data.get("status").and_then(View::as_str))
    else {
        return;
    };
    let scope = &said.key.scope;
    let life = state.life(scope);
    let cause = Cause { actor: actor.clone(), about: scope, detail: status };
    let success = state.rules().is_success(&said.key.kind_type, status);
    if step == Step::Start && status == "Running" {
        return running(state, said, cause, now, decision);
    }
    let is_after_quarantine =
        || ending.accepted_seq(state, said).is_some_and(|seq| seq > state.quarantined_seq(scope));
    let matched = match step {
        // A release opens no quarantine that came after it.
        Step::Release => ending.ends_one() || is_after_quarantine(),
        // It held from its acceptance for whom it covered then, and may have been released since.
        Step::Quarantine => is_after_quarantine(),
        _ => ending.matches(),
    };
    // An observer tracks nothing that could match: it learns from what is said.
    let matched = matched || state.only_looks();
    let to = match step {
        Step::Init => Life::Idle,
        Step::Pause => Life::Paused,
        // A stop that says it failed leaves nobody knowing what runs.
        Step::Stop if !success && status != "NotReady" => Life::Error,
        Step::Stop => Life::Idle,
        Step::Release => Life::Idle,
        Step::Quarantine => Life::Quarantined,
        Step::Start => return,
    };
    let legal = match to {
        Life::Error => life.runs() || matches!(life, Life::Stopping | Life::Paused),
        // It ends what began with its acceptance, and no error or run that came after it. An
        // observer saw no acceptance.
        Life::Idle if step == Step::Stop && !state.only_looks() => success && life == Life::Stopping,
        _ => success && step.leads(life, to),
    };
    if legal && matched && life != to {
        if !state.remembers_bot(scope) && !state.has_room_for_bots(1) {
            return bound::hit(state, Bound::Bots, now, decision);
        }
        let bots = vec![Move { from: life, scope: scope.clone(), to }];
        decision.facts.extend(moves::of_moves(bots, cause, now));
    }
}

/// A bot says that it runs.
fn running(state: &State, said: &Said, cause: Cause<'_>, now: Timestamp, decision: &mut Decision) {
    let scope = &said.key.scope;
    let life = state.life(scope);
    let trace = key::late(&said.key.kind_type, said.envelope.correlation_id.as_deref().unwrap_or_default());
    match (life, state.start(scope, trace)) {
        // A repeat of an answer that was heard before.
        (_, Some(start)) if !start.open => {}
        // It runs already, or a stop that was accepted since decides.
        (life, Some(_)) if life.runs() || life == Life::Stopping => {}
        (Life::Idle | Life::Paused | Life::Error, Some(start)) => {
            let bots = vec![Move { from: life, scope: scope.clone(), to: start.leads_to }];
            decision.facts.extend(moves::of_moves(bots, cause, now));
        }
        // Nobody may start what is quarantined, and nobody asked for the rest.
        _ => uncommanded(state, scope, life, now, decision),
    }
}

/// A bot runs without a command: it is quarantined and ordered to stop, and an alert is raised.
fn uncommanded(state: &State, scope: &Scope, life: Life, now: Timestamp, decision: &mut Decision) {
    if state.only_looks() {
        return;
    }
    let router = Actor::router(&state.rules().instance);
    let detail = "it says that it runs, and no command asked for that";
    let bots = match life {
        // Set apart anew: no release that was asked for before opens that.
        Life::Quarantined if state.remembers_bot(scope) || state.has_room_for_bots(1) => {
            vec![Move { from: life, scope: scope.clone(), to: life }]
        }
        Life::Quarantined => Vec::new(),
        _ => moves::quarantine(state, std::slice::from_ref(scope)),
    };
    let fact = moves::of_moves(bots, Cause { actor: router, about: scope, detail }, now);
    if fact.as_ref().is_some_and(moves::is_wide) {
        bound::hit(state, Bound::Bots, now, decision);
    }
    decision.facts.extend(fact);
    overtake::supersede(state, scope, "quarantine", now, decision);
    // In QUARANTINED it stays, whatever its stop comes to.
    order::order(state, scope, detail, now, decision);
    let notice = alert::Notice {
        code: "lifecycle.uncommanded",
        message: "a bot ran without a command; it is quarantined and told to stop; see the runbook quarantine",
        about: &scope.to_string(),
        count: 1,
        correlation_id: None,
    };
    alert::raise(state, &notice, now, decision);
}

/// A fatal alert of a bot that runs or stops.
pub(in crate::decision) fn alerted(
    state: &State,
    said: &Said,
    actor: &Actor,
    now: Timestamp,
    decision: &mut Decision,
) {
    let data = said.envelope.data.root();
    let fatal = data.pointer("/context/fatal").and_then(View::as_bool) == Some(true);
    if !fatal || data.get("level").and_then(View::as_str) != Some("error") {
        return;
    }
    let bots = moves::moves(state, std::iter::once(&said.key.scope), |life| {
        (life.runs() || matches!(life, Life::Stopping | Life::Paused)).then_some(Life::Error)
    });
    let cause = Cause { actor: actor.clone(), about: &said.key.scope, detail: "a fatal alert" };
    decision.facts.extend(moves::of_moves(bots, cause, now));
}
