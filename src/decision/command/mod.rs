//! Gate 6: a command takes effect once, and on purpose.
//!
//! Owns: the identity of a command, its repeats, its age, and the stops that overtake starts. Its life from there on is
//! in `flight` (what is known of it), `lifetime` (its time), `ending` (its outcomes) and `parking` (its waiting).
//! Never: forgets a key before its window is over, however many come.
//! Holds: a key is bound only by an accepted command; a refusal binds nothing.

pub mod approval;
pub mod challenge;
pub(super) mod ending;
pub mod flight;
pub(super) mod lifetime;
pub(super) mod own;
pub(super) mod parking;

use self::flight::Short;
use super::{
    Decision, Stopped,
    effect::Speech,
    fact,
    lifecycle::{self, Step},
    request::Arrival,
    state::State,
};
use crate::contract::{
    Said,
    audit::{Accepted, Action, Actor, Change, Ended, Fact, Mode, Verdict},
    command::Class,
    digest::Digest,
    reason::{Reason, Refusal},
    routing::Family,
    timestamp::Timestamp,
};

/// How a command ends that a status answers.
pub const REPORTED: &str = "Reported";

/// The type that a status answers.
pub(super) const STATUS_REQUEST: &str = "status-request";

/// Where a command stands that may take effect.
pub(super) struct Standing {
    /// What to remember of it.
    pub accepted: Accepted,
}

/// Tells a fresh command from a repeat, a conflict, an old one and one that a stop has overtaken.
pub(super) fn check(
    state: &State,
    arrival: &Arrival,
    (said, class): (&Said, Option<Class>),
    actor: &Actor,
    now: Timestamp,
) -> Result<Standing, Stopped> {
    let class = match (said.key.family, class) {
        (Family::Signal, Some(Class::Liveness)) | (Family::Signal, None) => return Ok(unbound(said)),
        (Family::Signal, Some(class)) => class,
        (Family::Outcome | Family::Alert, _) => return result(state, arrival, said, actor),
        (Family::Metric, _) => return Ok(unbound(said)),
    };
    let command = identity(said, actor);
    if let Some(known) = state.command(command, now) {
        return Err(repeat(known, said, actor));
    }
    refuse_unless(actor, nothing_pending(state, said))?;
    if !class.always_passes() {
        refuse_unless(actor, fresh_enough(state, arrival, said, now))?;
        refuse_unless(actor, room_for_key(state))?;
    }
    if class == Class::Start {
        refuse_unless(actor, not_suspended(state, actor, now))?;
    }
    let binds = state.keys() < state.rules().idempotency_keys_max;
    // Who only looks carries nothing, and so waits for nothing.
    let acts = state.rules().mode == Mode::Enforce;
    let deadline = lifetime::deadline(state.rules(), &said.key, now).filter(|_| acts);
    // What is not tracked would never be released.
    let parked = deadline.is_some() && parking::must_wait(state, said, class.always_passes());
    if parked {
        refuse_unless(actor, room_to_wait(state, said, arrival.body_bytes))?;
    }
    let accepted = Accepted {
        always_passes: class.always_passes(),
        command: binds.then_some(command),
        compared: said.compared,
        deadline,
        leads_to: lifecycle::leads_to(said),
        overtakes: (class == Class::Stop).then(|| counts_as_said(state, said, now)),
        parked,
        targets: lifetime::targets(state, &said.key.scope),
    };
    match (class == Class::Start).then(|| overtaking(state, said, now)).flatten() {
        Some(why) => Err(Stopped::Overtaken { actor: actor.clone(), accepted, why }),
        None => Ok(Standing { accepted }),
    }
}

/// When a stop counts as said: a slow clock takes nothing from it. A clock that runs ahead holds starts up for no
/// longer than a stop is remembered.
fn counts_as_said(state: &State, said: &Said, now: Timestamp) -> Timestamp {
    said.envelope.timestamp.max(now).min(now.plus_ms(state.rules().idempotency_window_ms))
}

/// Why a stop overtakes a start, where one does. A timestamp is not believed beyond the skew that is allowed: a sender
/// whose clock runs ahead could otherwise start what was stopped after it spoke.
fn overtaking(state: &State, said: &Said, now: Timestamp) -> Option<String> {
    let by = state.overtaking_stop(&said.key.scope)?;
    let (said_at, skew_max_ms) = (said.envelope.timestamp, state.rules().inventory.skew_max_ms);
    if said_at > now.plus_ms(skew_max_ms) {
        return Some(format!(
            "a stop of {by} for this target has been accepted, and this start is dated more than {skew_max_ms} ms \
             ahead of its arrival, so that nobody can tell whether it is later"
        ));
    }
    (said_at.min(now) <= by)
        .then(|| format!("a stop of {by} for this target has been accepted; this start is not later"))
}

/// Whether a signal is an observation rather than an act: it leaves no entry.
pub(super) fn is_observation(said: &Said) -> bool {
    said.class == Some(Class::Liveness) && said.key.kind_type == "heartbeat"
}

/// Identity of an outcome or alert: who said what where.
pub(super) fn result_identity(arrival: &Arrival, actor: &Actor) -> Digest {
    Digest::of_fields(&[actor.principal.as_bytes(), arrival.routing_key.as_bytes(), &arrival.body.0])
}

/// What joins a command in flight to what is said of it: the correlationId.
pub(super) fn trace(correlation_id: &str) -> Short {
    short(Digest::of(correlation_id.as_bytes()))
}

/// What tells a late answer to a command that has ended: type and correlationId.
pub(super) fn late(kind_type: &str, correlation_id: &str) -> Short {
    short(Digest::of_fields(&[kind_type.as_bytes(), correlation_id.as_bytes()]))
}

/// The beginning of a digest.
pub(super) fn short(digest: Digest) -> Short {
    digest.0.iter().take(16).fold(0, |value, byte| value << 8 | Short::from(*byte))
}

/// A start that came after a stop it is not later than: accepted and ended in one decision, never carried.
pub(super) fn overtaken(
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
        ..fact(arrival, Some(said), actor.clone(), Action::Requested, Change::Accepted(accepted), now)
    };
    let end = Fact {
        payload: Some(speech.payload()),
        change: command.map_or(Change::None, |command| {
            Change::Ended(Ended { command, status: "Superseded".to_owned() })
        }),
        verdict: Some(Verdict::Suppress),
        ..fact(arrival, Some(said), Actor::router(&state.rules().instance), Action::Ended, Change::None, now)
    };
    let mut decision = Decision::new(state);
    decision.verdict = Some(Verdict::Suppress);
    decision.principal = Some(actor.principal);
    decision.facts = vec![request, end];
    decision.effects.push(super::Effect::Speak(speech));
    decision
}

fn identity(said: &Said, actor: &Actor) -> Digest {
    let scope = &said.key.scope;
    Digest::of_fields(&[
        actor.principal.as_bytes(),
        scope.swarm_id.as_bytes(),
        scope.role.as_bytes(),
        scope.instance.as_bytes(),
        said.key.kind_type.as_bytes(),
        said.envelope.idempotency_key.as_deref().unwrap_or_default().as_bytes(),
    ])
}

fn unbound(said: &Said) -> Standing {
    Standing { accepted: Accepted { compared: said.compared, ..Accepted::default() } }
}

fn repeat(known: super::state::Known, said: &Said, actor: &Actor) -> Stopped {
    let actor = actor.clone();
    if !known.is_same(said.compared) {
        let detail = "this idempotencyKey was used for another body";
        return Stopped::Refused {
            actor,
            refusal: Refusal::new(Reason::Conflict, detail).at("/idempotencyKey"),
        };
    }
    let detail = match (known.ended, known.challenge) {
        (Some(_), _) => "the command has ended; its outcome is published again",
        (None, Some(_)) => "the command waits for its confirmation; its challenge is published again",
        (None, None) => "the command is in flight; its outcome will answer both",
    };
    let again = known.ended.or(known.challenge);
    Stopped::Repeat { actor, refusal: Refusal::new(Reason::Duplicate, detail), again }
}

/// An outcome or alert that the broker delivers again is recognised; a new one of the same words is a new one.
fn result(state: &State, arrival: &Arrival, said: &Said, actor: &Actor) -> Result<Standing, Stopped> {
    if arrival.redelivered && state.knows_result(result_identity(arrival, actor)) {
        let refusal = Refusal::new(Reason::Duplicate, "a redelivery of what is already in the ledger");
        return Err(Stopped::Repeat { actor: actor.clone(), refusal, again: None });
    }
    Ok(unbound(said))
}

fn refuse_unless(actor: &Actor, checked: Result<(), Refusal>) -> Result<(), Stopped> {
    checked.map_err(|refusal| Stopped::Refused { actor: actor.clone(), refusal })
}

/// A command older than the window could be a repeat of one that is forgotten; a command past the sender's own
/// expiration is no longer wanted, nor is one that the broker would have dropped.
fn fresh_enough(state: &State, arrival: &Arrival, said: &Said, now: Timestamp) -> Result<(), Refusal> {
    // What people say is as old as the clock says, also where that and the ledger do not agree.
    let now = state.wall(now);
    let said_at = said.envelope.timestamp;
    let window_ms = state.rules().idempotency_window_ms;
    if said_at.plus_ms(window_ms) < now {
        let detail =
            format!("said more than {window_ms} ms ago, when its repeats can no longer be told from it");
        return Err(Refusal::new(Reason::Expired, detail).at("/timestamp"));
    }
    if arrival.was_dropped {
        let detail = match arrival.expiration_ms {
            Some(ms) => format!("its AMQP expiration of {ms} ms was over before the router could take it"),
            None => "the broker had given it up: expired by a policy, delivered too often, or without room"
                .to_owned(),
        };
        return Err(Refusal::new(Reason::Expired, detail));
    }
    if arrival.expiration_ms.is_some_and(|expiration_ms| said_at.plus_ms(expiration_ms) < now) {
        return Err(Refusal::new(Reason::Expired, "older than its own AMQP expiration").at("/timestamp"));
    }
    Ok(())
}

/// A bot is started, resumed or released one at a time.
fn nothing_pending(state: &State, said: &Said) -> Result<(), Refusal> {
    let exclusive = |kind_type: &str| Step::of(kind_type).is_some_and(Step::is_exclusive);
    if !exclusive(&said.key.kind_type) {
        return Ok(());
    }
    let mut pending = state.flights_for(&said.key.scope).filter(|flight| exclusive(&flight.kind_type));
    match pending.next() {
        None => Ok(()),
        Some(flight) => {
            let detail = format!("`{}` of entry {} is pending for this bot", flight.kind_type, flight.seq);
            Err(Refusal::new(Reason::Pending, detail).at("/scope/instance"))
        }
    }
}

/// A principal that stormed starts nothing for a while.
fn not_suspended(state: &State, actor: &Actor, now: Timestamp) -> Result<(), Refusal> {
    match state.suspended_until(&actor.principal).filter(|until| now < *until) {
        None => Ok(()),
        Some(until) => {
            let detail = format!("an interlock has suspended this sender's starts until {until}");
            Err(Refusal::new(Reason::QuotaExceeded, detail))
        }
    }
}

/// What waits behind a target's stops takes none of their room.
fn room_to_wait(state: &State, said: &Said, body_bytes: usize) -> Result<(), Refusal> {
    if parking::has_room(state, &said.key.scope, body_bytes) {
        return Ok(());
    }
    let detail = "stops for this target wait, and `parking.target_max`, `parking.total_max` or \
                  `parking.bytes_max` leave no room to wait behind them";
    Err(Refusal::new(Reason::QuotaExceeded, detail))
}

fn room_for_key(state: &State) -> Result<(), Refusal> {
    let keys_max = state.rules().idempotency_keys_max;
    if state.keys() < keys_max {
        return Ok(());
    }
    let detail =
        format!("{keys_max} command keys are remembered, the most that `idempotency.keys_max` allows");
    Err(Refusal::new(Reason::QuotaExceeded, detail))
}
