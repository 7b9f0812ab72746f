//! Challenges: a dangerous command waits, bound to what was said, until it is confirmed.
//!
//! Owns: a challenge's life from its issue to its confirmation, rejection or expiry, and the second
//! walk of the stored
//! command.
//! Never: carries a dangerous command; that takes the permit of a complete confirmation.
//! Holds: a challenge binds the canonical command, its sender, target and mode; it is used once and
//! by time only.
//! The rules: spec/rules.md#challenges and #confirmation.

use serde_json::{Value, json};

use crate::{
    contract::{
        Said,
        audit::{Accepted, Action, Actor, Change, Fact, Mode, Subject, Verdict},
        interlock::{Challenged, Confirmed, Reviewed, Right},
        reason::{Reason, Refusal},
        routing::{ControlPlaneRouting, Family, Scope},
        timestamp::Timestamp,
        tree::View,
    },
    decision::{
        effect::{Effect, Speech},
        facts,
        follow::{alert, clock, ending, overtake, own, safety},
        gates::{
            self, approval,
            confirmation::{self, CONFIRM},
            consent::{Danger, Permit},
            setting,
        },
        outcome::Decision,
        request::Arrival,
        state::{
            State,
            challenge::{self, Challenge},
            challenges, clock_gap,
            flight::Flight,
            known,
        },
    },
};

/// Holds a dangerous command back, and asks for its confirmation.
pub(in crate::decision) fn issue(
    state: &State,
    arrival: &Arrival,
    actor: Actor,
    accepted: Accepted,
    danger: &Danger,
    now: Timestamp,
) -> Decision {
    let Ok(said) = &arrival.subject else { return Decision::new(state) };
    // It waits for its confirmation and for nothing else: what waits for its target leaves when
    // that shows itself.
    let accepted = Accepted { parked: false, ..accepted };
    let rules = state.rules();
    let ledger_id = state.genesis().map(|genesis| genesis.ledger_id.as_str()).unwrap_or_default();
    let challenge_id = challenge::id(ledger_id, state.incarnation(), state.last_seq() + 1);
    let expires_at = now.plus_ms(rules.consent.window_ms);
    let context = json!({
        "challengeId": challenge_id,
        "requires": danger.requires.word(),
        "expiresAt": expires_at,
        "operation": danger.operation,
        "target": said.key.scope.to_string(),
        "environment": rules.consent.environment,
        "effect": danger.effect,
        "notAffected": danger.not_affected,
        "nextStep": Reason::ChallengeRequired.next_step(),
    });
    let detail = format!("{}: it waits for its confirmation ({})", danger.operation, danger.requires.word());
    let speech = Speech::answer(rules, said, "ChallengeRequired", &detail, Some(context), now);
    let carried = state.rules().is_carried(&said.key.kind_type);
    let change = match rules.mode {
        Mode::Enforce => Change::Challenged(challenged(accepted, challenge_id, danger, expires_at, carried)),
        // Who only looks challenges nobody.
        Mode::Observe => Change::Accepted(accepted),
    };
    let requested = Fact {
        detail: Some(detail.clone()),
        reason: Some(Reason::ChallengeRequired),
        verdict: Some(Verdict::Challenge),
        ..facts::of_arrival(state, arrival, Some(said), actor.clone(), Action::Requested, change, now)
    };
    let challenged = Fact {
        body: None,
        detail: Some(detail.clone()),
        payload: Some(speech.payload()),
        verdict: Some(Verdict::Challenge),
        ..facts::of_arrival(
            state,
            arrival,
            Some(said),
            Actor::router(&rules.instance),
            Action::Challenged,
            Change::None,
            now,
        )
    };
    let mut decision = Decision::new(state);
    decision.verdict = Some(Verdict::Challenge);
    decision.refusal = Some(Refusal::new(Reason::ChallengeRequired, detail));
    decision.principal = Some(actor.principal);
    // In this order: a repeat looks for the challenge in the entry after the command's own.
    decision.facts = vec![requested, challenged];
    if carried {
        decision.effects.push(Effect::Hold);
    }
    decision.effects.push(Effect::Speak(speech));
    decision
}

/// A challenge as it is written: with its words, because the state that they were taken from moves
/// on.
fn challenged(
    accepted: Accepted,
    challenge_id: String,
    danger: &Danger,
    expires_at: Timestamp,
    held: bool,
) -> Challenged {
    let Danger { operation, effect, not_affected, requires } = danger.clone();
    Challenged { accepted, challenge_id, effect, expires_at, held, not_affected, operation, requires }
}

/// Takes an accepted confirmation or rejection; returns what was done, in words and for machines.
pub(in crate::decision) fn answer(
    state: &State,
    said: &Said,
    actor: &Actor,
    now: Timestamp,
    decision: &mut Decision,
) -> Option<(String, Option<Value>)> {
    let reason = said.envelope.data.get("reason").and_then(View::as_str).unwrap_or_default();
    let Some((flight, challenge)) = confirmation::open(state, said) else {
        let challenge_id = confirmation::named(said)?.to_owned();
        let closed = state.challenge_closed(&challenge_id)?;
        let change = Change::Reviewed(Reviewed { challenge_id });
        decision.facts.push(Fact {
            actor: Some(actor.clone()),
            detail: Some(reason.to_owned()),
            subject: Some(closed.subject()),
            ..Fact::new(Action::Review, now, change)
        });
        return Some(("the use of break-glass is reviewed".to_owned(), None));
    };
    let id = challenge.id.clone();
    if !confirmation::confirms(said) {
        decision.facts.push(step(flight, actor, Action::Rejected, Change::None, reason, now));
        let detail = format!("rejected by {}", actor.principal);
        ending::end(state, flight, "Refused", (&detail, Some(Reason::ChallengeUsed)), now, decision);
        return Some(("the command is rejected".to_owned(), Some(json!({ "challengeId": id }))));
    }
    // The second walk is for the confirmation that completes it: before that nothing leaves.
    let complete = approval::completes(state, flight, challenge, said, actor, now);
    let stands = complete.as_ref().map(|_| second_walk(state, flight, now));
    let goes_on = matches!(stands, Some(Ok(_)));
    let change = Change::Confirmed(Confirmed {
        by: actor.principal.clone(),
        command: flight.command,
        // Without a deadline it is not let go: what a gate refuses now is known never to have left.
        deadline: state.rules().deadline(&challenges::routing_key(flight), now).filter(|_| goes_on),
        targets: if goes_on { known::targets(state, &flight.scope) } else { Vec::new() },
        complete: complete.as_ref().map(|complete| complete.right().clone()),
    });
    decision.facts.push(step(flight, actor, Action::Confirmed, change, reason, now));
    let more =
        |status: &str| Some(json!({ "challengeId": id, "command": { "seq": flight.seq, "status": status } }));
    match (complete, stands) {
        (Some(complete), Some(Ok(stored))) => {
            note_break_glass(state, flight, complete.right(), reason, now, decision);
            let permit = Permit::confirmed(&complete);
            go_on(state, (flight, challenge), &stored, permit, now, decision);
            Some(("confirmed; the command is on its way".to_owned(), more("confirmed")))
        }
        (_, Some(Err(refusal))) => {
            let detail = format!("confirmed, and refused by what has changed since: {}", refusal.detail);
            ending::end(state, flight, "Refused", (&detail, Some(refusal.reason)), now, decision);
            Some((detail, more("refused")))
        }
        _ => Some(("confirmed; more must confirm".to_owned(), more("waits"))),
    }
}

/// The stored command, once everything that may have changed since has said yes again.
fn second_walk(state: &State, flight: &Flight, now: Timestamp) -> Result<Said, Refusal> {
    let gone = || Refusal::new(Reason::ChallengeMismatch, "the stored command cannot be read");
    let said = challenges::stored(state, flight).ok_or_else(gone)?;
    gates::again(state, &said, &flight.sender, now)?;
    Ok(said)
}

/// Carries what was held, or does what was asked of the router.
fn go_on(
    state: &State,
    (flight, challenge): (&Flight, &Challenge),
    said: &Said,
    permit: Permit,
    now: Timestamp,
    decision: &mut Decision,
) {
    if challenge.held {
        let detail = "confirmed";
        let actor = Actor::router(&state.rules().instance);
        // Without a change: it waited for its confirmation, and is parked in no index.
        decision.facts.push(step(flight, &actor, Action::Released, Change::None, detail, now));
        // Never urgent: no class that takes a confirmation always passes.
        decision.effects.push(Effect::Release { permit, parcel: flight.seq, urgent: false });
        return;
    }
    // Asked for as a loosening, it may tighten by now: then it overtakes like one that nobody had
    // to confirm.
    if overtake::supersedes(said, setting::class(state, said, &flight.sender)) {
        let by = (said.key.kind_type.as_str(), Some(flight.seq));
        overtake::supersede_but(state, &setting::reach(state, said), by, now, decision);
    }
    if own::sends_for(state, said, flight.seq, now, decision) {
        return;
    }
    let detail = match flight.kind_type.as_str() {
        clock_gap::ACCEPT => clock::accept(state, &flight.sender, now, decision),
        _ => safety::act(state, said, &flight.sender, now, decision).map(|(detail, _)| detail),
    };
    let detail = detail.unwrap_or_else(|| "done".to_owned());
    ending::end(state, flight, "Applied", (&detail, None), now, decision);
}

/// A use of break-glass is written, raises an alert, and waits for its review.
fn note_break_glass(
    state: &State,
    flight: &Flight,
    right: &Right,
    reason: &str,
    now: Timestamp,
    decision: &mut Decision,
) {
    if *right != Right::BreakGlass {
        return;
    }
    let actor = Actor::router(&state.rules().instance);
    let detail = format!("break-glass, to be reviewed by another: {reason}");
    decision.facts.push(step(flight, &actor, Action::Review, Change::None, &detail, now));
    let notice = alert::Notice {
        code: "consent.break-glass",
        message: "break-glass stood in for a second person; review it; see the runbook challenge",
        about: &flight.scope.to_string(),
        count: 1,
        correlation_id: flight.correlation_id.as_deref(),
    };
    alert::raise(state, &notice, now, decision);
}

/// Ends a command whose challenge nobody confirmed in time.
pub(in crate::decision) fn expire(state: &State, flight: &Flight, now: Timestamp, decision: &mut Decision) {
    let detail = "its challenge was not confirmed within its window";
    let actor = Actor::router(&state.rules().instance);
    decision.facts.push(Fact {
        reason: Some(Reason::ChallengeExpired),
        ..step(flight, &actor, Action::Rejected, Change::None, detail, now)
    });
    ending::end(state, flight, "Refused", (detail, Some(Reason::ChallengeExpired)), now, decision);
}

/// An attempt to confirm that does not count is written as a rejection too.
pub(in crate::decision) fn rejected(
    state: &State,
    arrival: &Arrival,
    actor: &Actor,
    refusal: &Refusal,
    now: Timestamp,
) -> Option<Fact> {
    let said = arrival.subject.as_ref().ok()?;
    (confirmation::confirms(said) && refusal.reason.gate() == "consent").then(|| Fact {
        command: facts::asked_by(state, arrival, said),
        correlation_id: said.envelope.correlation_id.clone(),
        idempotency_key: said.envelope.idempotency_key.clone(),
        ..no_confirmation(said.key.scope.clone(), actor, refusal, now)
    })
}

/// So is one that the contract refuses: who it was for stands in its key.
pub(in crate::decision) fn unread(
    routing_key: &str,
    actor: &Actor,
    refusal: &Refusal,
    now: Timestamp,
) -> Option<Fact> {
    let key = ControlPlaneRouting::parse(routing_key).ok()?;
    let is_one = key.family == Family::Signal && key.kind_type == CONFIRM;
    is_one.then(|| no_confirmation(key.scope, actor, refusal, now))
}

fn step(
    flight: &Flight,
    actor: &Actor,
    action: Action,
    change: Change,
    detail: &str,
    now: Timestamp,
) -> Fact {
    Fact { detail: Some(detail.to_owned()), ..facts::of_command(flight, actor.clone(), action, change, now) }
}

/// The rejection of an attempt to confirm that does not count, of whatever challenge.
fn no_confirmation(scope: Scope, actor: &Actor, refusal: &Refusal, now: Timestamp) -> Fact {
    Fact {
        actor: Some(actor.clone()),
        detail: Some(refusal.detail.clone().into_owned()),
        reason: Some(refusal.reason),
        subject: Some(Subject { family: Family::Signal, scope, kind_type: CONFIRM.to_owned() }),
        ..Fact::new(Action::Rejected, now, Change::None)
    }
}
