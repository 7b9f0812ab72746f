//! Challenges: a dangerous command waits, bound to what was said, until it is confirmed.
//!
//! Owns: a challenge's life from its issue to its confirmation, rejection or expiry, and the second walk of the stored
//! command.
//! Never: carries a dangerous command; that takes the permit of a complete confirmation.
//! Holds: a challenge binds the canonical command, its sender, target and mode; it is used once and by time only.

use serde::Serialize;
use serde_json::{Value, json};

use super::{Decision, approval, ending, fact, flight::Flight, lifetime, own};
use crate::{
    contract::{
        Said,
        audit::{Accepted, Action, Actor, Change, Fact, Mode, Subject, Verdict},
        command::Answerer,
        digest::Digest,
        envelope::Envelope,
        interlock::{Challenged, Confirmed, Requires, Reviewed, Right},
        read,
        reason::{Reason, Refusal},
        routing::{ControlPlaneRouting, Family, RoutingKey, Scope},
        timestamp::Timestamp,
        tree::View,
    },
    decision::{
        alert, clock,
        consent::{Danger, Permit},
        effect::{Effect, Speech},
        request::Arrival,
        safety,
        state::State,
    },
};

/// The type that confirms a challenge; the other type of its class rejects one.
const CONFIRM: &str = "challenge-confirm";

/// A dangerous command that waits for its confirmation.
#[derive(Clone, Debug, Serialize)]
pub struct Challenge {
    /// Its id.
    pub id: String,
    /// Until when it may be confirmed, in microseconds since the epoch.
    pub expires_at: i64,
    /// What it is, in words.
    pub operation: String,
    /// What it does, and what it leaves as it is.
    pub effect: (String, Vec<String>),
    /// Who must confirm.
    pub requires: Requires,
    /// Who has confirmed, in order.
    pub confirmed_by: Vec<String>,
    /// Whether that is enough: the command is on its way, or done.
    pub complete: bool,
    /// Whether the command was let go: confirmed, and refused by nothing since.
    pub let_go: bool,
    /// The canonical command, its secrets masked.
    #[serde(skip)]
    pub(in crate::decision) text: String,
    /// Digest of the canonical command without its timestamp.
    pub compared: Digest,
    /// Whether its entry's parcel keeps the command.
    pub(in crate::decision) held: bool,
}

impl Challenge {
    /// Why the sender wants it, where the command says so.
    pub fn reason(&self) -> Option<String> {
        let envelope: Envelope = serde_json::from_str(&self.text).ok()?;
        envelope.data.get("reason").and_then(Value::as_str).map(str::to_owned)
    }
}

/// A challenge that is over.
#[derive(Clone, Debug, Serialize)]
pub struct Closed {
    /// The refusal of who comes too late.
    pub why: Reason,
    /// Who asked for the command.
    pub requester: String,
    /// Its type.
    pub kind_type: String,
    /// Whom it addressed.
    pub scope: Scope,
    /// Whether break-glass stood in for the second person, and nobody else has looked at it yet.
    pub unreviewed: bool,
}

/// The id of the challenge of an entry.
pub fn id(ledger_id: &str, incarnation: &str, seq: u64) -> String {
    let digest = Digest::of(format!("{ledger_id}{incarnation}{seq}").as_bytes()).to_string();
    format!("c-{}", digest.get(..32).unwrap_or_default())
}

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
    let rules = state.rules();
    let ledger_id = state.genesis().map(|genesis| genesis.ledger_id.as_str()).unwrap_or_default();
    let challenge_id = id(ledger_id, state.incarnation(), state.last_seq() + 1);
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
    let carried =
        rules.commands.get(&said.key.kind_type).is_some_and(|row| row.answered_by != Answerer::Router);
    let change = match rules.mode {
        Mode::Enforce => Change::Challenged(challenged(accepted, challenge_id, danger, expires_at, carried)),
        // Who only looks challenges nobody.
        Mode::Observe => Change::Accepted(accepted),
    };
    let requested = Fact {
        detail: Some(detail.clone()),
        reason: Some(Reason::ChallengeRequired),
        verdict: Some(Verdict::Challenge),
        ..fact(arrival, Some(said), actor.clone(), Action::Requested, change, now)
    };
    let challenged = Fact {
        body: None,
        detail: Some(detail.clone()),
        payload: Some(speech.payload()),
        verdict: Some(Verdict::Challenge),
        ..fact(arrival, Some(said), Actor::router(&rules.instance), Action::Challenged, Change::None, now)
    };
    let mut decision = Decision::new(state);
    decision.verdict = Some(Verdict::Challenge);
    decision.refusal = Some(Refusal::new(Reason::ChallengeRequired, detail));
    decision.principal = Some(actor.principal);
    decision.facts = vec![requested, challenged];
    if carried {
        decision.effects.push(Effect::Hold);
    }
    decision.effects.push(Effect::Speak(speech));
    decision
}

/// A challenge as it is written: with its words, because the state that they were taken from moves on.
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

/// Whether a confirmation or rejection is one that counts.
pub(in crate::decision) fn check(
    state: &State,
    said: &Said,
    actor: &Actor,
    now: Timestamp,
) -> Result<(), Refusal> {
    let no = |reason, detail: &'static str| Err(Refusal::new(reason, detail).at("/data/challengeId"));
    let Some((flight, challenge)) = open(state, said) else {
        return match named(said).and_then(|id| state.challenge_closed(id)) {
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
    if challenge.expires_at < now.micros() {
        return no(Reason::ChallengeExpired, "its window is over");
    }
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

/// Takes an accepted confirmation or rejection; answers what was done, in words and for machines.
pub(in crate::decision) fn follow(
    state: &State,
    said: &Said,
    actor: &Actor,
    now: Timestamp,
    decision: &mut Decision,
) -> Option<(String, Option<Value>)> {
    let reason = said.envelope.data.get("reason").and_then(View::as_str).unwrap_or_default();
    let Some((flight, challenge)) = open(state, said) else {
        let challenge_id = named(said)?.to_owned();
        let closed = state.challenge_closed(&challenge_id)?;
        let change = Change::Reviewed(Reviewed { challenge_id });
        decision.facts.push(step(closed.subject(), actor, Action::Review, change, reason, now));
        return Some(("the use of break-glass is reviewed".to_owned(), None));
    };
    let id = challenge.id.clone();
    if !confirms(said) {
        decision.facts.push(step(subject(flight), actor, Action::Rejected, Change::None, reason, now));
        let detail = format!("rejected by {}", actor.principal);
        ending::end(state, flight, "Refused", (&detail, Some(Reason::ChallengeUsed)), now, decision);
        return Some(("the command is rejected".to_owned(), Some(json!({ "challengeId": id }))));
    }
    let complete = approval::completes(state, flight, challenge, said, actor, now);
    let stands = complete.as_ref().map(|_| second_walk(state, flight, now));
    let goes_on = matches!(stands, Some(Ok(_)));
    let change = Change::Confirmed(Confirmed {
        by: actor.principal.clone(),
        command: flight.command,
        deadline: lifetime::deadline(state.rules(), &key(flight), now).filter(|_| goes_on),
        targets: if goes_on { lifetime::targets(state, &flight.scope) } else { Vec::new() },
        complete: complete.as_ref().map(|complete| complete.right().clone()),
    });
    decision.facts.push(step(subject(flight), actor, Action::Confirmed, change, reason, now));
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
    let said = stored(state, flight).ok_or_else(gone)?;
    crate::decision::walk_again(state, &said, &flight.sender, now)?;
    Ok(said)
}

/// The challenged command as it was said.
pub(super) fn stored(state: &State, flight: &Flight) -> Option<Said> {
    let challenge = flight.challenge.as_ref()?;
    let envelope = read::accepted(&challenge.text)?;
    let class = state.rules().commands.get(&flight.kind_type)?.class;
    Some(Said { key: key(flight), envelope, class: Some(class), compared: challenge.compared, payload: None })
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
        decision.facts.push(step(subject(flight), &actor, Action::Released, Change::None, detail, now));
        decision.effects.push(permit.release(flight.seq));
        return;
    }
    if own::sends_for(state, said, flight.seq, now, decision) {
        return;
    }
    let detail = match flight.kind_type.as_str() {
        clock::ACCEPT => clock::accept(state, &flight.sender, now, decision),
        _ => safety::set::act(state, said, &flight.sender, now, decision),
    };
    let detail = detail.unwrap_or_else(|| "done".to_owned());
    ending::end(state, flight, "Applied", (&detail, None), now, decision);
}

/// A use of break-glass is written, told, and waits for its review.
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
    decision.facts.push(step(subject(flight), &actor, Action::Review, Change::None, &detail, now));
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
        ..step(subject(flight), &actor, Action::Rejected, Change::None, detail, now)
    });
    ending::end(state, flight, "Refused", (detail, Some(Reason::ChallengeExpired)), now, decision);
}

/// An attempt to confirm that does not count is written as a rejection too.
pub(in crate::decision) fn rejected(
    said: &Said,
    actor: &Actor,
    refusal: &Refusal,
    now: Timestamp,
) -> Option<Fact> {
    (said.key.kind_type == CONFIRM && refusal.reason.gate() == "consent").then(|| Fact {
        reason: Some(refusal.reason),
        ..step(
            Subject { family: Family::Signal, scope: said.key.scope.clone(), kind_type: CONFIRM.to_owned() },
            actor,
            Action::Rejected,
            Change::None,
            &refusal.detail,
            now,
        )
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
    (key.family == Family::Signal && key.kind_type == CONFIRM).then(|| Fact {
        reason: Some(refusal.reason),
        ..step(
            Subject { family: Family::Signal, scope: key.scope, kind_type: CONFIRM.to_owned() },
            actor,
            Action::Rejected,
            Change::None,
            &refusal.detail,
            now,
        )
    })
}

impl Closed {
    fn subject(&self) -> Subject {
        Subject { family: Family::Signal, scope: self.scope.clone(), kind_type: self.kind_type.clone() }
    }
}

fn named(said: &Said) -> Option<&str> {
    said.envelope.data.get("challengeId").and_then(View::as_str)
}

fn confirms(said: &Said) -> bool {
    said.key.kind_type == CONFIRM
}

fn open<'a>(state: &'a State, said: &Said) -> Option<(&'a Flight, &'a Challenge)> {
    let flight = state.in_flight().of_challenge(named(said)?)?;
    Some((flight, flight.challenge.as_deref()?))
}

fn key(flight: &Flight) -> RoutingKey {
    RoutingKey { family: Family::Signal, kind_type: flight.kind_type.clone(), scope: flight.scope.clone() }
}

fn subject(flight: &Flight) -> Subject {
    Subject { family: Family::Signal, scope: flight.scope.clone(), kind_type: flight.kind_type.clone() }
}

fn step(
    subject: Subject,
    actor: &Actor,
    action: Action,
    change: Change,
    detail: &str,
    now: Timestamp,
) -> Fact {
    Fact {
        actor: Some(actor.clone()),
        detail: Some(detail.to_owned()),
        subject: Some(subject),
        ..Fact::new(action, now, change)
    }
}
