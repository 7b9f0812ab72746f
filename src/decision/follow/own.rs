//! The commands that the router answers itself.
//!
//! Owns: the outcome that ends such a command in the decision that accepts it, and the errands of
//! the host.
//! Never: answers for a target.
//! Holds: what the host was sent for ends when the host says so.
//! The rule: spec/rules.md#what-the-router-answers.

use serde_json::Value;

use crate::{
    contract::{
        Said,
        audit::{Action, Actor, Change, Ended, Fact, Verdict},
        digest::Digest,
        interlock::{KillSwitch, SafetySet},
        routing::Scope,
        timestamp::Timestamp,
        tree::View,
    },
    decision::{
        effect::{Effect, Speech},
        facts,
        follow::ending,
        gates::setting,
        outcome::Decision,
        request::{Arrival, Bundled, Unlatched},
        rules::words::MADE,
        state::{State, challenges, safety},
    },
};

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
        ..facts::of_arrival(state, arrival, Some(said), router, Action::Applied, change, now)
    });
    decision.effects.push(Effect::Speak(speech));
}

/// Sends the host for what the router cannot do by itself: a support bundle, or taking the latch
/// file away. Answers whether the command's end waits for that.
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
        // Only what goes below the latch takes it away, and that was confirmed; a tightening leaves
        // it where it is.
        "kill-switch-set" if setting::level(said) < state.safety().setting(swarm.as_deref()).latch => {
            decision.effects.push(Effect::Unlatch { seq, swarm, seen: now });
            true
        }
        _ => false,
    }
}

/// Writes that a support bundle was made beside the router, by whom and with which manifest; `None`
/// where none is named.
pub(in crate::decision) fn records(
    said: &Said,
    actor: &Actor,
    now: Timestamp,
    decision: &mut Decision,
) -> Option<String> {
    let made = said.envelope.data.get(MADE)?;
    let text = |name: &str| made.get(name).and_then(View::as_str).unwrap_or_default();
    let bytes = made.get("bytes").and_then(View::as_u64).unwrap_or_default();
    let (id, manifest) = (text("bundleId"), text("manifestSha256"));
    let detail = format!("made at a terminal: bundle {id} ({bytes} bytes, manifest {manifest})");
    let step = (Action::BundleCreated, Change::None);
    decision.facts.push(facts::of_setting(actor, &said.key.scope, detail.clone(), step, now));
    Some(detail)
}

/// A support bundle is there, or could not be made.
pub(in crate::decision) fn bundled(state: &State, bundled: &Bundled, now: Timestamp) -> Decision {
    let mut decision = Decision::new(state);
    let router = Actor::router(&state.rules().instance);
    let scope = Scope::router(&state.rules().instance);
    // Recorded also where no command waits for it: the archive is there all the same.
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
    decision.facts.push(facts::of_setting(&router, about, detail.clone(), (action, Change::None), now));
    if let Some(flight) = flight {
        let status = if bundled.made.is_ok() { "Applied" } else { "Failed" };
        ending::end(state, flight, status, (&detail, None), now, &mut decision);
    }
    decision
}

/// The latch file is gone, or could not be taken away: then the confirmed loosening fails.
pub(in crate::decision) fn unlatched(state: &State, unlatched: &Unlatched, now: Timestamp) -> Decision {
    let mut decision = Decision::new(state);
    // A tightening has voided it meanwhile: the level on record holds, although its file is gone.
    let Some(flight) = state.flight(unlatched.seq) else { return decision };
    if let Some(fault) = &unlatched.fault {
        let detail = format!("the latch file could not be taken away, so it holds: {fault}");
        ending::end(state, flight, "Failed", (&detail, None), now, &mut decision);
        return decision;
    }
    let Some(level) = challenges::stored(state, flight).and_then(|said| setting::level(&said)) else {
        return decision;
    };
    let change = SafetySet {
        kill_switch: Some(level),
        // Takes the latch out of the setting: `None` would leave it (`Safety::set`).
        latch: Some(KillSwitch::Allow),
        swarm: safety::swarm(&flight.scope).map(str::to_owned),
        ..SafetySet::default()
    };
    let detail = format!("the kill switch is at {level}; its latch is lifted");
    let step = (Action::KillSwitchSet, Change::Safety(change));
    decision.facts.push(facts::of_setting(&flight.sender, &flight.scope, detail.clone(), step, now));
    ending::end(state, flight, "Applied", (&detail, None), now, &mut decision);
    decision
}
