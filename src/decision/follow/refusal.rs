//! What a refusal leaves behind: its entry, its copy, its answer and its alert.
//!
//! Owns: which refusals have an entry each, which are counted, and who is told.
//! Never: answers a sender whose identity gates 1 to 3 did not accept: a forger must not make the
//! router speak
//! against his victim.
//! Holds: every refused delivery is copied to `swarmgate.refused` with its reason.
//! The rules: spec/rules.md#refusals and #tallies.

use crate::{
    contract::{
        audit::{Action, Actor, Change, Fact, Tallied, Verdict},
        bound::Bound,
        command::Class,
        digest::Digest,
        reason::{Reason, Refusal},
        routing::{ControlPlaneRouting, Family},
        timestamp::Timestamp,
    },
    decision::{
        effect::{Effect, Speech},
        facts,
        follow::{alert, bound, challenge, live},
        outcome::Decision,
        request::Arrival,
        state::{Belief, State, tallies::Tally},
    },
};

/// Everything that follows from a no.
pub(in crate::decision) fn refuse(
    state: &State,
    arrival: &Arrival,
    actor: Actor,
    refusal: Refusal,
    now: Timestamp,
) -> Decision {
    let mut decision = Decision::new(state);
    decision.verdict = Some(Verdict::Refuse);
    decision.principal = Some(actor.principal.clone());
    decision.effects.push(Effect::Refuse(refusal.clone()));
    if is_counted(arrival, refusal.reason) {
        let fingerprint = fingerprint(state, arrival, &actor, refusal.reason, now, &mut decision);
        let entries_max = state.rules().refusals_entries_per_second_max;
        match state.tallies().get(&fingerprint) {
            Some(tally)
                if tally.second == now.second()
                    && tally.written < entries_max
                    && is_dangerous(state, arrival) =>
            {
                // It has an entry of its own below, and is not in the count.
                decision.beliefs.push(Belief::TallyWritten { fingerprint });
            }
            Some(tally) if tally.second == now.second() => {
                // Its copy alone leaves: entry and alert are those of the first of this second.
                decision.beliefs.push(Belief::Tallied { fingerprint, body: arrival.body });
                live::disagrees(state, arrival, refusal.reason, now, &mut decision);
                decision.refusal = Some(refusal);
                return decision;
            }
            open => {
                // A second may end within a round, before what is due is asked for: its count must
                // not go with its tally.
                decision.facts.extend(open.and_then(|tally| counted(tally, now)));
                let (reason, second) = (refusal.reason, now.second());
                decision.beliefs.push(Belief::TallyOpened {
                    fingerprint,
                    actor: actor.clone(),
                    reason,
                    second,
                });
            }
        }
    }
    if let Some(bound) = refusal.bound {
        hit(state, arrival, bound, now, &mut decision);
    }
    write(state, arrival, &actor, &refusal, now, &mut decision);
    tell(state, arrival, &actor, &refusal, now, &mut decision);
    live::disagrees(state, arrival, refusal.reason, now, &mut decision);
    decision.refusal = Some(refusal);
    decision
}

/// Closes the tallies of the seconds before `until`: one entry for each that counted anything.
pub(in crate::decision) fn close_tallies(state: &State, until: Timestamp, now: Timestamp) -> Decision {
    let mut decision = Decision::new(state);
    for (fingerprint, tally) in state.tallies().iter().filter(|(_, tally)| tally.second < until.second()) {
        decision.beliefs.push(Belief::TallyClosed { fingerprint: *fingerprint });
        decision.facts.extend(counted(tally, now));
    }
    decision
}

/// The entry of what a tally has counted. The first refusal has its own: where no other followed
/// there is none.
fn counted(tally: &Tally, now: Timestamp) -> Option<Fact> {
    let tallied = Tallied { bodies: tally.bodies, count: tally.count, second: tally.second };
    (tally.count > 0).then(|| Fact {
        actor: Some(tally.actor.clone()),
        detail: Some(format!("{} more refusals of this sender and code in the same second", tally.count)),
        reason: Some(tally.reason),
        verdict: Some(Verdict::Refuse),
        ..Fact::new(action(tally.reason), now, Change::Tallied(tallied))
    })
}

/// What stands in for a decision of which a fact cannot be read back from its bytes: nothing of it
/// is written or done. An arrival is refused; an alert is raised in any case.
pub fn unwritable(state: &State, decision: &Decision, fact: &Fact) -> Decision {
    const DETAIL: &str = "its entry does not read back as it was written, so it is not written";
    let now = fact.at;
    let mut instead = Decision::new(state);
    if let Some(body) = decision.verdict.and(fact.body) {
        let refusal = Refusal::new(Reason::Schema, DETAIL);
        instead.facts.push(Fact {
            body: Some(body),
            detail: Some(DETAIL.to_owned()),
            reason: Some(refusal.reason),
            verdict: Some(Verdict::Refuse),
            ..Fact::new(Action::ContractViolation, now, Change::None)
        });
        instead.effects.push(Effect::Refuse(refusal.clone()));
        (instead.verdict, instead.refusal) = (Some(Verdict::Refuse), Some(refusal));
    }
    let notice = alert::Notice {
        code: "audit.not-readable",
        message: "a fact could not be read back from what would be written; it was refused, see the log",
        about: fact.action.word(),
        count: 1,
        correlation_id: None,
    };
    alert::raise(state, &notice, now, &mut instead);
    instead
}

/// Gates 1 to 3 and metrics can be refused by the thousand: the first in a second has an entry, the
/// rest a count.
fn is_counted(arrival: &Arrival, reason: Reason) -> bool {
    matches!(reason.gate(), "contract" | "routing" | "identity") || arrival.family() == Some(Family::Metric)
}

/// Whether its key names a type that can be dangerous, or that answers a challenge: whoever tried
/// that is written each time. What it says is not read for that: it may be why it is refused.
fn is_dangerous(state: &State, arrival: &Arrival) -> bool {
    let Some(kind_type) = signal_type(arrival) else { return false };
    let class = state.rules().commands.get(&kind_type).map(|row| row.class);
    let can_loosen = matches!(kind_type.as_str(), "safety-set" | "kill-switch-set" | "gate-report");
    can_loosen
        || matches!(
            class,
            Some(
                Class::Loosen
                    | Class::Consent
                    | Class::Start
                    | Class::Change
                    | Class::Release
                    | Class::Destructive
            )
        )
}

/// The type of a signal, by its key.
fn signal_type(arrival: &Arrival) -> Option<String> {
    let key = ControlPlaneRouting::parse(&arrival.routing_key).ok()?;
    (key.family == Family::Signal).then_some(key.kind_type)
}

/// One tally a sender and code, until there are too many senders; then one a code.
fn fingerprint(
    state: &State,
    arrival: &Arrival,
    actor: &Actor,
    reason: Reason,
    now: Timestamp,
    decision: &mut Decision,
) -> Digest {
    let own = Digest::of_fields(&[actor.principal.as_bytes(), reason.code().as_bytes()]);
    if state.tallies().len() < state.rules().refusals_senders_max || state.tallies().contains_key(&own) {
        return own;
    }
    hit(state, arrival, Bound::Refusals, now, decision);
    Digest::of_fields(&[reason.code().as_bytes()])
}

/// Counts a bound that was met, and raises an alert, but never for a refused alert: alerts about
/// alerts would not come to an end.
fn hit(state: &State, arrival: &Arrival, bound: Bound, now: Timestamp, decision: &mut Decision) {
    if arrival.family() == Some(Family::Alert) {
        decision.beliefs.push(Belief::BoundHit(bound));
    } else {
        bound::hit(state, bound, now, decision);
    }
}

fn action(reason: Reason) -> Action {
    match reason.gate() {
        "contract" | "routing" => Action::ContractViolation,
        _ => Action::AccessDenied,
    }
}

fn is_judged_signal(arrival: &Arrival, reason: Reason) -> bool {
    let late_gate = !matches!(reason.gate(), "contract" | "routing" | "identity");
    late_gate && arrival.subject.as_ref().is_ok_and(|said| said.key.family == Family::Signal)
}

fn write(
    state: &State,
    arrival: &Arrival,
    actor: &Actor,
    refusal: &Refusal,
    now: Timestamp,
    decision: &mut Decision,
) {
    let said = arrival.subject.as_ref().ok();
    let denial = |action| Fact {
        detail: Some(refusal.detail.clone().into_owned()),
        pointer: refusal.pointer.clone(),
        reason: Some(refusal.reason),
        verdict: Some(Verdict::Refuse),
        ..facts::of_arrival(state, arrival, said, actor.clone(), action, Change::None, now)
    };
    if is_judged_signal(arrival, refusal.reason) {
        decision.facts.push(denial(Action::Requested));
        // The payload stands once, in the entry of what was asked.
        let denied = Fact { payload: None, ..denial(Action::Denied) };
        decision.facts.push(Fact { actor: Some(Actor::router(&state.rules().instance)), ..denied });
        decision.facts.extend(challenge::rejected(state, arrival, actor, refusal, now));
    } else {
        decision.facts.push(denial(action(refusal.reason)));
        if refusal.reason.gate() == "contract" {
            decision.facts.extend(challenge::unread(&arrival.routing_key, actor, refusal, now));
        }
    }
}

/// The sender of a signal that gate 4 or a later one refused gets an outcome; people get an alert,
/// unless the refused thing was one itself.
fn tell(
    state: &State,
    arrival: &Arrival,
    actor: &Actor,
    refusal: &Refusal,
    now: Timestamp,
    decision: &mut Decision,
) {
    if let Ok(said) = &arrival.subject
        && is_judged_signal(arrival, refusal.reason)
    {
        let outcome =
            Speech::outcome(state.rules(), said, "Refused", Some(refusal.reason), &refusal.detail, now);
        decision.effects.push(Effect::Speak(outcome));
    }
    if arrival.family() == Some(Family::Alert) {
        return;
    }
    let notice = alert::Notice {
        code: refusal.reason.code(),
        message: refusal.reason.rule(),
        about: &actor.principal,
        count: 1,
        correlation_id: arrival
            .subject
            .as_ref()
            .ok()
            .and_then(|said| said.envelope.correlation_id.as_deref()),
    };
    alert::raise(state, &notice, now, decision);
}
