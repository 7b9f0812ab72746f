//! At a bound: what there is no room for, and how that is told.
//!
//! Owns: counting a bound that was met, its alert, and what an accepted command says that there was
//! no room for.
//! Never: holds up a stop, or lets go of what is remembered to make room for what comes.
//! Holds: what was not remembered is in the facts, so that a fold needs no bound.
//! The rule: spec/rules.md#bounds.

use crate::{
    contract::{audit::Accepted, bound::Bound, routing::Scope, timestamp::Timestamp},
    decision::{
        follow::alert,
        outcome::Decision,
        state::{Belief, State, precedence::Precedence, room},
    },
};

/// Counts that a bound was met, and raises an alert, once an `alerts.dedupe_ms`.
pub(in crate::decision) fn hit(state: &State, bound: Bound, now: Timestamp, decision: &mut Decision) {
    decision.beliefs.push(Belief::BoundHit(bound));
    let notice = alert::Notice {
        code: "bound.reached",
        message: "as much is remembered as is allowed; see the runbook bounds for what happens now",
        about: bound.word(),
        count: 1,
        correlation_id: None,
    };
    alert::raise_once(state, &notice, now, decision);
}

/// Counts the bounds that an accepted command has met.
pub(in crate::decision) fn of_accepted(
    state: &State,
    accepted: &Accepted,
    scope: &Scope,
    now: Timestamp,
    decision: &mut Decision,
) {
    // As many targets as there is room for: there may be more.
    let fills = scope.fans_out() && accepted.targets.len() >= room::targets_left(state);
    let met = [
        (
            // Only which of two bounds it was: one that leaves a proven sender no room leaves
            // nobody any.
            accepted.always_passes && accepted.command.is_none(),
            room::without_command(state, 0, true, Precedence::Unproven).unwrap_or(Bound::Commands),
        ),
        (accepted.counts_for.is_some(), Bound::Stops),
        (accepted.forgets_patch, Bound::Texts),
        (fills && accepted.deadline.is_some(), Bound::Targets),
    ];
    met.into_iter().filter(|(met, _)| *met).for_each(|(_, bound)| hit(state, bound, now, decision));
}
