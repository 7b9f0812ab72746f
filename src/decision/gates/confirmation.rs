//! Gate 11 for the answers to challenges: whether a confirmation or rejection is one that counts.
//!
//! Owns: which challenge an answer is for, and whether that is open and for this target.
//! Never: confirms anything; what follows does.
//! Holds: a challenge is used once and by time only.
//! The rules: spec/rules.md#challenges and #confirmation.

use crate::{
    contract::{
        Said,
        audit::Actor,
        command::Class,
        reason::{Reason, Refusal},
        routing::Scope,
        timestamp::Timestamp,
        tree::View,
    },
    decision::{
        gates::{approval, consent::Danger},
        state::{
            State,
            challenge::{Challenge, Closed},
            flight::Flight,
        },
    },
};

/// The type that confirms a challenge; the other type of its class rejects one.
pub(in crate::decision) const CONFIRM: &str = "challenge-confirm";

/// Whether a confirmation or rejection is one that counts; whatever else is none passes.
pub(in crate::decision) fn check(
    state: &State,
    said: &Said,
    actor: &Actor,
    now: Timestamp,
) -> Result<(), Refusal> {
    if said.class != Some(Class::Consent) {
        return Ok(());
    }
    let no = |reason, detail: &'static str| Err(Refusal::new(reason, detail).at("/data/challengeId"));
    let Some((flight, challenge)) = open(state, said) else {
        return match named(said).and_then(|id| state.challenge_closed(id)) {
            // After break-glass the same id is confirmed once more, by another: that is its review.
            Some(closed) if closed.unreviewed && confirms(said) => review_by_another(closed, actor),
            Some(closed) => no(closed.why, "this challenge is over"),
            None => no(Reason::UnknownChallenge, "no challenge of this id is open"),
        };
    };
    let router = Scope::router(&state.rules().instance);
    if said.key.scope != router && !flight.scope.covers(&said.key.scope) {
        let detail = "the challenge is for another target; address that, or the router itself";
        return Err(Refusal::new(Reason::ChallengeMismatch, detail).at("/scope"));
    }
    let pinned = said.envelope.data.get("commandSha256").and_then(View::as_str);
    if pinned.is_some_and(|pinned| pinned != challenge.compared.to_string()) {
        let detail = "the challenged command has another hash";
        return Err(Refusal::new(Reason::ChallengeMismatch, detail).at("/data/commandSha256"));
    }
    // Asked although the deadline ends it: this may be decided before that falls due. The last
    // instant counts.
    if challenge.expires_at < now.micros() {
        return no(Reason::ChallengeExpired, "its window is over");
    }
    // A confirmed command keeps its challenge as long as it is in flight.
    if challenge.complete {
        return no(Reason::ChallengeUsed, "it was confirmed");
    }
    if confirms(said) { approval::may_confirm(state, flight, challenge, said, actor, now) } else { Ok(()) }
}

fn review_by_another(closed: &Closed, actor: &Actor) -> Result<(), Refusal> {
    if closed.requester != actor.principal {
        return Ok(());
    }
    let detail = "a use of break-glass is reviewed by somebody else";
    Err(Refusal::new(Reason::SelfConfirm, detail).at("/origin"))
}

pub(in crate::decision) fn named(said: &Said) -> Option<&str> {
    said.envelope.data.get("challengeId").and_then(View::as_str)
}

pub(in crate::decision) fn confirms(said: &Said) -> bool {
    said.key.kind_type == CONFIRM
}

/// The command that a confirmation is for, and its danger, while its challenge is open.
pub(in crate::decision) fn confirmed_by<'a>(state: &'a State, said: &Said) -> Option<(&'a Flight, Danger)> {
    let (flight, challenge) = open(state, said).filter(|_| confirms(said))?;
    let (effect, not_affected) = challenge.effect.clone();
    let (operation, requires) = (challenge.operation.clone(), challenge.requires.clone());
    Some((flight, Danger { operation, effect, not_affected, requires }))
}

pub(in crate::decision) fn open<'a>(state: &'a State, said: &Said) -> Option<(&'a Flight, &'a Challenge)> {
    let flight = state.in_flight().of_challenge(named(said)?)?;
    Some((flight, flight.challenge.as_deref()?))
}
