//! The router's own part in a command: the commands that it answers itself, and the stops that it orders.
//!
//! Owns: the outcome that ends a router-answered command in the decision that accepts it, and the router's `bot-stop`.
//! Never: starts, resumes or releases anything of its own accord.
//! Holds: whatever the router orders is a command like any other: an entry, a deadline, a matrix of its targets.

use serde_json::{Value, json};

use super::{Decision, ending, fact, lifetime};
use crate::{
    contract::{
        Said,
        audit::{Accepted, Action, Actor, Change, Ended, Fact, Subject, Verdict},
        digest::Digest,
        interlock::{KillSwitch, SafetySet},
        routing::{Family, RoutingKey, Scope},
        timestamp::Timestamp,
    },
    decision::{
        effect::{Effect, Speech},
        lifecycle::{self, Cause},
        request::{Arrival, Bundled, Unlatched},
        safety,
        state::State,
    },
};

/// The type that stops a bot.
const BOT_STOP: &str = "bot-stop";

/// Ends a command of an arrival by the router's answer: an entry and an outcome.
pub(in crate::decision) fn answer(
    state: &State,
    (arrival, said): (&Arrival, &Said),
    command: Option<Digest>,
    status: &str,
    (detail, context): (&str, Option<Value>),
    now: Timestamp,
    decision: &mut Decision,
) {
    let speech = Speech::answer(state.rules(), said, status, detail, context, now);
    let change =
        command.map_or(Change::None, |command| Change::Ended(Ended { command, status: status.to_owned() }));
    let router = Actor::router(&state.rules().instance);
    decision.facts.push(Fact {
        detail: Some(detail.to_owned()),
        payload: Some(speech.payload()),
        verdict: Some(Verdict::Forward),
        ..fact(arrival, Some(said), router, Action::Applied, change, now)
    });
    decision.effects.push(Effect::Speak(speech));
}

/// Tells every bot of a scope to stop: those that run are STOPPING from now on.
pub(in crate::decision) fn stop(
    state: &State,
    scope: &Scope,
    detail: &str,
    now: Timestamp,
    decision: &mut Decision,
) {
    order(state, scope, detail, now, decision);
    let cause = Cause { actor: Actor::router(&state.rules().instance), about: scope, detail };
    decision.facts.extend(lifecycle::at_once(state, BOT_STOP, cause, now));
}

/// The order alone: where its bots are is told by who gives it.
pub(in crate::decision) fn order(
    state: &State,
    scope: &Scope,
    detail: &str,
    now: Timestamp,
    decision: &mut Decision,
) {
    let rules = state.rules();
    let router = Actor::router(&rules.instance);
    // Entries of one decision differ by their place in it, and decisions of one moment by whom they are about.
    let about = Digest::of(scope.to_string().as_bytes()).to_string();
    let about = about.get(..12).unwrap_or_default();
    let id = format!("stop-{}-{}-{}-{about}", rules.instance, now.micros(), decision.facts.len());
    let data = json!({ "requestedTransition": "ANY->IDLE", "reason": detail });
    let speech = Speech::order(rules, BOT_STOP, scope, data, &id, now);
    let key = RoutingKey { family: Family::Signal, kind_type: BOT_STOP.to_owned(), scope: scope.clone() };
    let accepted = Accepted {
        always_passes: true,
        command: Some(Digest::of_fields(&[router.principal.as_bytes(), id.as_bytes()])),
        compared: Digest::of(&speech.body),
        deadline: lifetime::deadline(rules, &key, now),
        overtakes: Some(now),
        targets: lifetime::targets(state, scope),
        ..Accepted::default()
    };
    decision.facts.push(Fact {
        actor: Some(router.clone()),
        body: Some(Digest::of(&speech.body)),
        correlation_id: Some(id.clone()),
        detail: Some(detail.to_owned()),
        idempotency_key: Some(id),
        payload: Some(speech.payload()),
        subject: Some(Subject { family: key.family, scope: key.scope, kind_type: key.kind_type }),
        verdict: Some(Verdict::Forward),
        ..Fact::new(Action::Requested, now, Change::Accepted(accepted))
    });
    decision.effects.push(Effect::Speak(speech));
}

/// Sends the host for what the router cannot do by itself: a support bundle, or taking the latch file away. Answers
/// whether the command's end waits for that.
pub(in crate::decision) fn sends_for(
    state: &State,
    said: &Said,
    seq: u64,
    now: Timestamp,
    decision: &mut Decision,
) -> bool {
    let swarm = safety::swarm(&said.key.scope).map(str::to_owned);
    match said.key.kind_type.as_str() {
        "support-bundle" => {
            decision.effects.push(Effect::Bundle { seq, why: "it was asked for".to_owned() });
            true
        }
        // Only what goes below the latch takes it away, and that was confirmed; a tightening leaves it where it is.
        "kill-switch-set" if safety::set::level(said) < state.safety().setting(swarm.as_deref()).latch => {
            decision.effects.push(Effect::Unlatch { seq, swarm, seen: now });
            true
        }
        _ => false,
    }
}

/// A support bundle is there, or could not be made.
pub(in crate::decision) fn bundled(state: &State, bundled: &Bundled, now: Timestamp) -> Decision {
    let mut decision = Decision::new(state);
    let router = Actor::router(&state.rules().instance);
    let scope = Scope::router(&state.rules().instance);
    let flight = state.flight(bundled.seq);
    let detail = match &bundled.made {
        Ok(made) => format!(
            "{}: {} ({} bytes, manifest {})",
            bundled.why, made.path, made.bytes, made.manifest_sha256
        ),
        Err(fault) => format!("no support bundle could be made: {fault}"),
    };
    let about = flight.map_or(&scope, |flight| &flight.scope);
    let action = Action::BundleCreated;
    decision.facts.push(safety::set::set(&router, about, detail.clone(), (action, Change::None), now));
    if let Some(flight) = flight {
        let status = if bundled.made.is_ok() { "Applied" } else { "Failed" };
        ending::end(state, flight, status, (&detail, None), now, &mut decision);
    }
    decision
}

/// The latch file is gone, or could not be taken away: then the confirmed loosening fails.
pub(in crate::decision) fn unlatched(state: &State, unlatched: &Unlatched, now: Timestamp) -> Decision {
    let mut decision = Decision::new(state);
    let Some(flight) = state.flight(unlatched.seq) else { return decision };
    if let Some(fault) = &unlatched.fault {
        let detail = format!("the latch file could not be taken away, so it holds: {fault}");
        ending::end(state, flight, "Failed", (&detail, None), now, &mut decision);
        return decision;
    }
    let Some(level) = super::challenge::stored(state, flight).and_then(|said| safety::set::level(&said))
    else {
        return decision;
    };
    let change = SafetySet {
        kill_switch: Some(level),
        latch: Some(KillSwitch::Allow),
        swarm: safety::swarm(&flight.scope).map(str::to_owned),
        ..SafetySet::default()
    };
    let detail = format!("the kill switch is at {level}; its latch is lifted");
    let step = (Action::KillSwitchSet, Change::Safety(change));
    decision.facts.push(safety::set::set(&flight.sender, &flight.scope, detail.clone(), step, now));
    ending::end(state, flight, "Applied", (&detail, None), now, &mut decision);
    decision
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::decision::rules::Rules;

    #[test]
    fn two_bots_of_one_moment_get_two_keys() {
        let (state, now) = (State::new(Rules::default()), Timestamp::from_micros(1_772_618_400_000_000));
        let keys: BTreeSet<_> = ["b-1", "b-2", "b-3"]
            .into_iter()
            .flat_map(|instance| {
                let mut decision = Decision::default();
                order(&state, &Scope::new("kestrel", "bot", instance), "it runs unasked", now, &mut decision);
                decision.facts.into_iter().map(|fact| fact.idempotency_key)
            })
            .collect();
        assert_eq!(keys.len(), 3, "{keys:?}");
    }
}
