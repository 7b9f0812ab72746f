//! The moves of bots, as facts.
//!
//! Owns: which bots go where, and what is written where there is no room for each.
//! Never: decides whether a step is legal.
//! Holds: a bot that stays where it is has no move.

use std::collections::BTreeSet;

use crate::{
    contract::{
        audit::{Action, Actor, Change, Fact, Subject},
        interlock::{Life, Move, Moved},
        routing::{ALL, Family, Scope},
        timestamp::Timestamp,
    },
    decision::{rules::lifecycle::Step, state::State},
};

/// The step that a stop or quarantine of a scope takes when it is accepted.
pub(in crate::decision) fn at_once(
    state: &State,
    kind_type: &str,
    cause: Cause<'_>,
    now: Timestamp,
) -> Option<Fact> {
    let scope = cause.about;
    let bots = match Step::of(kind_type) {
        // Only bots that were moved: one in CREATED has nothing to stop.
        Some(Step::Stop) => moves(state, state.bots(scope), |life| {
            (life.runs() || matches!(life, Life::Paused | Life::Error)).then_some(Life::Stopping)
        }),
        Some(Step::Quarantine) => {
            // What is on record of bots and what is known of instances are not the same: one that
            // nobody has moved yet is held too, and one that has shown no status.
            let bots: BTreeSet<Scope> = match scope.fans_out() {
                true => state.known(scope).chain(state.bots(scope).cloned()).collect(),
                false => BTreeSet::from([scope.clone()]),
            };
            quarantine(state, &bots.into_iter().collect::<Vec<_>>())
        }
        _ => return None,
    };
    of_moves(bots, cause, now)
}

/// Why bots moved.
pub(in crate::decision) struct Cause<'a> {
    pub actor: Actor,
    pub about: &'a Scope,
    pub detail: &'a str,
}

/// The moves of bots to QUARANTINED. Where there is no room to remember each, every bot of their
/// swarms that is not remembered goes there; where there is none for the swarms, of all swarms.
pub(super) fn quarantine(state: &State, bots: &[Scope]) -> Vec<Move> {
    let mut steps = moves(state, bots.iter(), |_| Some(Life::Quarantined));
    let is_new = |step: &Move| !state.remembers_bot(&step.scope);
    if state.has_room_for_bots(steps.iter().filter(|step| is_new(step)).count()) {
        return steps;
    }
    let swarms: BTreeSet<String> =
        steps.iter().filter(|step| is_new(step)).map(|step| step.scope.swarm_id.clone()).collect();
    steps.retain(|step| !is_new(step));
    let more = swarms.len().saturating_sub(1);
    let each = swarms.iter().all(|swarm| state.has_room_for_quarantine(swarm, more));
    let swarms = if each { swarms } else { BTreeSet::from([ALL.to_owned()]) };
    let wide = |swarm: String| Move {
        from: Life::Created,
        scope: Scope::new(swarm, ALL, ALL),
        to: Life::Quarantined,
    };
    steps.extend(swarms.into_iter().map(wide));
    steps
}

/// Whether bots of which nothing is remembered move by it.
pub(super) fn is_wide(fact: &Fact) -> bool {
    matches!(&fact.change, Change::Moved(moved) if moved.bots.iter().any(|step| step.scope.fans_out()))
}

/// The moves of those bots that go somewhere.
pub(in crate::decision) fn moves<'a>(
    state: &State,
    bots: impl Iterator<Item = &'a Scope>,
    to: impl Fn(Life) -> Option<Life>,
) -> Vec<Move> {
    bots.filter_map(|scope| {
        let from = state.life(scope);
        let to = to(from).filter(|to| *to != from)?;
        Some(Move { from, scope: scope.clone(), to })
    })
    .collect()
}

/// The entry of moves; `None` where nothing moved.
pub(in crate::decision) fn of_moves(bots: Vec<Move>, cause: Cause<'_>, now: Timestamp) -> Option<Fact> {
    (!bots.is_empty()).then(|| Fact {
        actor: Some(cause.actor),
        detail: Some(cause.detail.to_owned()),
        subject: Some(Subject {
            family: Family::Signal,
            kind_type: "lifecycle".to_owned(),
            scope: cause.about.clone(),
        }),
        ..Fact::new(Action::BotMoved, now, Change::Moved(Moved { bots }))
    })
}
