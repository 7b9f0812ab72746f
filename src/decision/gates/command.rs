//! Gate 6: a command takes effect once, and on purpose.
//!
//! Owns: its repeats, its age, and the stops that overtake starts.
//! Never: binds a key; what is accepted does that when it is applied.
//! Holds: a key is bound only by an accepted command; a refusal binds nothing.
//! The rules: spec/rules.md#command-identity, #repeats, #conflict, #age and #late-starts.

use crate::{
    contract::{
        Said,
        audit::{Accepted, Actor, Mode},
        command::Class,
        reason::{Reason, Refusal},
        routing::Family,
        timestamp::Timestamp,
    },
    decision::{
        gates::{Stopped, quota},
        request::Arrival,
        rules::{
            lifecycle::{self, Step},
            words::CONFIG_UPDATE,
        },
        state::{State, commands, key, known, parking, precedence::Precedence, room, stops},
    },
};

/// Where a command stands that may take effect.
pub(in crate::decision) struct CommandStanding {
    /// What to remember of it.
    pub accepted: Accepted,
}

/// Tells a fresh command from a repeat, a conflict, an old one and one that a stop has overtaken.
pub(in crate::decision) fn check(
    state: &State,
    arrival: &Arrival,
    (said, class): (&Said, Option<Class>),
    actor: &Actor,
    now: Timestamp,
) -> Result<CommandStanding, Stopped> {
    let class = match (said.key.family, class) {
        (Family::Signal, Some(Class::Liveness)) | (Family::Signal, None) => return Ok(unbound(said)),
        (Family::Signal, Some(class)) => class,
        (Family::Outcome | Family::Alert, _) => return result(state, arrival, said, actor),
        (Family::Metric, _) => return Ok(unbound(said)),
    };
    let command = key::identity(said, actor);
    let tries_again = match state.command(command, now) {
        None => None,
        // What never reached its target has done nothing yet. The broker's redelivery is no new
        // attempt.
        Some(known) if known.undelivered && known.is_same(said.compared) && !arrival.redelivered => {
            known.ended
        }
        Some(known) => return Err(repeat(known, said, actor)),
    };
    // After the repeats: the start that is pending is no obstacle to its own repeat.
    refuse_unless(actor, nothing_pending(state, said))?;
    // Who only looks carries nothing, and so waits for nothing.
    let acts = state.rules().mode == Mode::Enforce;
    let deadline = state.rules().deadline(&said.key, now).filter(|_| acts);
    // What loosens waits for its confirmation.
    let flies = deadline.is_some() || class == Class::Loosen;
    if !class.always_passes() {
        refuse_unless(actor, fresh_enough(state, arrival, said, now))?;
        refuse_unless(actor, quota::room_for_key(state, flies))?;
    }
    if class == Class::Start {
        refuse_unless(actor, quota::not_suspended(state, actor, now))?;
    }
    // A stop that finds no room passes without a key: it is not tracked, and its repeat passes
    // again.
    let taker = Precedence::of(class.always_passes(), actor);
    let binds = room::without_command(state, 0, flies, taker).is_none();
    // What is not tracked would never be released.
    let parked = deadline.is_some() && parking::must_wait(state, said, class.always_passes());
    if parked {
        refuse_unless(actor, quota::room_to_wait(state, said, arrival.body_bytes))?;
    }
    let accepted = Accepted {
        always_passes: class.always_passes(),
        command: binds.then_some(command),
        compared: said.compared,
        counts_for: (class == Class::Stop).then(|| stops::stop_counts_for(state, &said.key.scope)).flatten(),
        deadline,
        forgets_bot: forgets_bot(state, said),
        forgets_patch: forgets_patch(state, said),
        leads_to: lifecycle::leads_to(said),
        // What tightens holds starts up by the state that it leaves, and not by its moment.
        overtakes: (class == Class::Stop).then(|| counts_as_said(state, said, now)),
        parked,
        tries_again,
        targets: known::targets(state, &said.key.scope),
    };
    // After the repeats, and with its key: a repeat of a late start gets that end again.
    match (class == Class::Start).then(|| overtaking(state, said, now)).flatten() {
        Some(why) => Err(Stopped::Overtaken { actor: actor.clone(), accepted, why }),
        None => Ok(CommandStanding { accepted }),
    }
}

/// When a stop counts as said: a slow clock takes nothing from it. A clock that runs ahead holds
/// starts up for no longer than a stop is remembered.
fn counts_as_said(state: &State, said: &Said, now: Timestamp) -> Timestamp {
    said.envelope.timestamp.max(now).min(now.plus_ms(state.rules().idempotency_window_ms))
}

/// Why a stop overtakes a start, where one does. A timestamp is not believed beyond the skew that
/// is allowed: a sender whose clock runs ahead could otherwise start what was stopped after it
/// spoke.
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

fn unbound(said: &Said) -> CommandStanding {
    CommandStanding { accepted: Accepted { compared: said.compared, ..Accepted::default() } }
}

fn repeat(known: commands::KnownKey, said: &Said, actor: &Actor) -> Stopped {
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

/// An outcome or alert that the broker delivers again is recognised; a new one of the same words is
/// a new one.
fn result(state: &State, arrival: &Arrival, said: &Said, actor: &Actor) -> Result<CommandStanding, Stopped> {
    if arrival.redelivered && state.knows_result(key::result_identity(arrival, actor)) {
        let refusal = Refusal::new(Reason::Duplicate, "a redelivery of what is already in the ledger");
        return Err(Stopped::Repeat { actor: actor.clone(), refusal, again: None });
    }
    Ok(unbound(said))
}

fn refuse_unless(actor: &Actor, checked: Result<(), Refusal>) -> Result<(), Stopped> {
    checked.map_err(|refusal| Stopped::Refused { actor: actor.clone(), refusal })
}

/// A command older than the window could be a repeat of one that is forgotten; a command past the
/// sender's own expiration is no longer wanted, nor is one that the broker would have dropped.
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
    // Those that wait to be confirmed too: once confirmed, two would start the bot.
    let mut pending = state.flights_for(&said.key.scope).filter(|flight| exclusive(&flight.kind_type));
    match pending.next() {
        None => Ok(()),
        Some(flight) => {
            let detail = format!("`{}` of entry {} is pending for this bot", flight.kind_type, flight.seq);
            Err(Refusal::new(Reason::Pending, detail).at("/scope/instance"))
        }
    }
}

/// Whether there is no room for the bot that it is about.
fn forgets_bot(state: &State, said: &Said) -> bool {
    Step::of(&said.key.kind_type).is_some()
        && !state.remembers_bot(&said.key.scope)
        && !state.has_room_for_bots(1)
}

/// Whether there is no room for what a config-update changes.
fn forgets_patch(state: &State, said: &Said) -> bool {
    let patch = said.payload.as_ref().filter(|_| said.key.kind_type == CONFIG_UPDATE);
    patch.is_some_and(|patch| !room::has_room_for_text(state, patch.text().len()))
}
