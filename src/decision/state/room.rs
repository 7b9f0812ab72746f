//! What there is room to remember.
//!
//! Owns: the questions that a decision asks before it adds anything.
//! Never: holds up a stop; whoever asks decides what follows.
//! Holds: the same bounds are asked wherever a command is accepted, the router's own too.
//! The rule: spec/rules.md#bounds.

use crate::{
    contract::bound::Bound,
    decision::state::{State, precedence::Precedence},
};

/// How many more targets of commands in flight are recorded.
pub(in crate::decision) fn targets_left(state: &State) -> usize {
    state.rules().memory.targets_max.saturating_sub(state.in_flight().targets_count())
}

/// The bound that leaves no room for another command, besides so many more, if one does; `flies`:
/// it waits for its outcome or confirmation.
pub(in crate::decision) fn without_command(
    state: &State,
    more: usize,
    flies: bool,
    taker: Precedence,
) -> Option<Bound> {
    if state.keys() + more >= state.rules().idempotency_keys_max {
        return Some(Bound::Commands);
    }
    // A command in flight may outlive its key.
    let flights_max = state.rules().memory.flights_max;
    let tenth = flights_max / 10;
    // A stop that is not remembered cannot wait for its target, and a flood of unproven ones takes
    // no room from the rest.
    let flights_max = match taker {
        Precedence::Ordinary => flights_max,
        Precedence::Unproven => flights_max.saturating_add(tenth),
        Precedence::Proven | Precedence::Own => flights_with_stops(flights_max),
    };
    let full = state.commands_in_flight() + more >= flights_max;
    (flies && full).then_some(Bound::Flights)
}

/// A tenth more of stops and of what tightens, and one more of those of proven senders and the
/// router.
pub(in crate::decision) const fn flights_with_stops(flights_max: usize) -> usize {
    flights_max.saturating_add(flights_max / 10 * 2)
}

/// Whether there is room for what a command in flight says.
pub(in crate::decision) fn has_room_for_text(state: &State, bytes: usize) -> bool {
    state.in_flight().texts_bytes().saturating_add(bytes) <= state.rules().memory.texts_bytes_max
}

/// How many outcomes and alerts are recognised when they are delivered again.
pub(in crate::decision) fn results_max(state: &State) -> usize {
    state.rules().idempotency_keys_max.saturating_mul(2)
}
