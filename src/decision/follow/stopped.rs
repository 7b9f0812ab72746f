//! What a gate stopped: refused, known already, waiting for its confirmation, or overtaken.
//!
//! Owns: what each of these leaves behind, and what a router that only looks keeps of a decision.
//! Never: carries anything.
//! Holds: each has an entry or is counted.

use crate::{
    contract::{
        audit::{Action, Change, Fact, Verdict},
        plain,
        timestamp::Timestamp,
    },
    decision::{
        effect::Effect,
        facts,
        follow::{challenge, interlock, overtake, refusal},
        gates::Stopped,
        outcome::Decision,
        request::Arrival,
        state::State,
    },
};

/// A gate said no, or knew it already: what is remembered and said.
pub(in crate::decision) fn by_gate(
    state: &State,
    arrival: &Arrival,
    stopped: Stopped,
    now: Timestamp,
) -> Decision {
    match stopped {
        Stopped::Refused { actor, refusal } => refusal::refuse(state, arrival, actor, refusal, now),
        Stopped::Repeat { actor, refusal, again } => {
            let repeat = Fact {
                verdict: Some(Verdict::Suppress),
                reason: Some(refusal.reason),
                detail: Some(refusal.detail.clone().into_owned()),
                ..facts::of_arrival(
                    state,
                    arrival,
                    arrival.subject.as_ref().ok(),
                    actor.clone(),
                    Action::DuplicateSuppressed,
                    Change::None,
                    now,
                )
            };
            let mut decision = Decision::new(state);
            decision.verdict = Some(Verdict::Suppress);
            decision.refusal = Some(refusal);
            decision.principal = Some(actor.principal.clone());
            decision.facts.push(repeat);
            let said = arrival.subject.as_ref().ok();
            let correlation_id = || said.and_then(|said| said.envelope.correlation_id.clone());
            decision.effects.extend(again.map(|of| Effect::Repeat { of, correlation_id: correlation_id() }));
            interlock::storm(state, &actor, now, &mut decision);
            decision
        }
        Stopped::Dangerous { actor, accepted, danger } => {
            challenge::issue(state, arrival, actor, accepted, &danger, now)
        }
        Stopped::Overtaken { actor, accepted, why } => {
            overtake::decision(state, arrival, actor, accepted, why, now)
        }
    }
}

/// Observe mode: the same judgement as one fact of its own kind, and nothing leaves. Where bots and
/// sessions are is learned all the same.
pub(in crate::decision) fn only_seen(arrival: &Arrival, mut decision: Decision) -> Decision {
    // The first fact has the verdict and binds the key, by which repeats are known.
    let mut first = true;
    decision.facts.retain(|fact| {
        std::mem::take(&mut first) || matches!(fact.change, Change::Moved(_) | Change::Session(_))
    });
    for fact in &mut decision.facts {
        fact.action = Action::Seen;
        // Of what could not be read its key is all that says what it was.
        if fact.subject.is_none() && fact.detail.is_some() {
            let key = plain::escaped(&arrival.routing_key);
            fact.detail = fact.detail.take().map(|detail| format!("`{key}`: {detail}"));
        }
    }
    decision
}
