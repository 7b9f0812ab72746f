//! Gate 4: whether there is room to remember a command.
//!
//! Owns: the room for command keys, for what waits behind stops and for what waits to be confirmed,
//! and suspended senders.
//! Never: holds up what always passes.
//! Holds: asked where it is known that a command is no repeat: a repeat takes no new room.

use crate::{
    contract::{
        Said,
        audit::{Actor, Mode},
        bound::Bound,
        reason::{Reason, Refusal},
        timestamp::Timestamp,
    },
    decision::{
        request::Arrival,
        state::{State, parking, precedence::Precedence, room},
    },
};

/// Whether there is room to hold a dangerous command back until it is confirmed.
pub(in crate::decision) fn room_for_challenge(
    state: &State,
    arrival: &Arrival,
    said: &Said,
) -> Result<(), Refusal> {
    let rules = state.rules();
    // Who only looks challenges nobody, so nothing is kept.
    if rules.mode == Mode::Observe {
        return Ok(());
    }
    let text_bytes = said.payload.as_ref().map_or(0, |payload| payload.text().len());
    let full = |bound: Bound| {
        let detail = format!("there is no room to hold it back until it is confirmed: `{}`", bound.setting());
        Err(Refusal::full(bound, detail))
    };
    // Twice: a challenge keeps the whole text, and the flight of a config-update keeps the patch, a
    // part of it, once more.
    if !room::has_room_for_text(state, text_bytes.saturating_mul(2)) {
        return full(Bound::Texts);
    }
    if state.challenges_count() >= rules.memory.challenges_max {
        return full(Bound::Challenges);
    }
    // What the router answers itself is in no parcel while it waits: only its text is kept.
    if state.rules().is_carried(&said.key.kind_type)
        && state.kept_bytes().saturating_add(arrival.body_bytes) > rules.parking_bytes_max
    {
        return full(Bound::Held);
    }
    Ok(())
}

/// A principal that stormed starts nothing for a while.
pub(super) fn not_suspended(state: &State, actor: &Actor, now: Timestamp) -> Result<(), Refusal> {
    match state.suspended_until(&actor.principal).filter(|until| now < *until) {
        // Otherwise a flood of invented names could fill the list, and whoever storms next would
        // start.
        None if !state.has_room_to_suspend(&actor.principal, now) => {
            let detail = "as many senders storm as `memory.suspended_max` allows, so that nobody can tell who else does";
            Err(Refusal::full(Bound::Suspended, detail))
        }
        None => Ok(()),
        Some(until) => {
            let detail = format!("an interlock has suspended this sender's starts until {until}");
            Err(Refusal::new(Reason::QuotaExceeded, detail))
        }
    }
}

/// What waits behind a target's stops takes none of their room.
pub(super) fn room_to_wait(state: &State, said: &Said, body_bytes: usize) -> Result<(), Refusal> {
    if parking::has_room(state, &said.key.scope, body_bytes) {
        return Ok(());
    }
    let detail = "stops for this target wait, and `parking.target_max`, `parking.total_max` or \
                  `parking.bytes_max` leave no room to wait behind them";
    Err(Refusal::full(Bound::Parked, detail))
}

pub(super) fn room_for_key(state: &State, flies: bool) -> Result<(), Refusal> {
    // Ordinary, because a stop or a tightening is never asked for room.
    let Some(bound) = room::without_command(state, 0, flies, Precedence::Ordinary) else { return Ok(()) };
    let (number, what) = match bound {
        Bound::Flights => (state.rules().memory.flights_max, "commands are in flight"),
        _ => (state.rules().idempotency_keys_max, "command keys are remembered"),
    };
    let detail = format!("{number} {what}, the most that `{}` allows", bound.setting());
    Err(Refusal::full(bound, detail))
}
