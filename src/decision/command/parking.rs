//! Parking: what no queue takes waits for its target.
//!
//! Owns: which command is parked, the order in which a target's parked commands leave, and the bounds on them.
//! Never: parks a fan-out, puts a stop behind anything, or parks what could not be written.
//! Holds: no more than `parking.target_max` wait for one target and `parking.total_max` in all, nor more bytes than
//! `parking.bytes_max`: beyond, the oldest ends with `command.expired`; what always passes never makes room for what
//! does not.

use std::collections::BTreeMap;

use super::{Decision, ending, flight::Flight};
use crate::{
    contract::{
        Said,
        audit::{Action, Actor, Change, Fact, Of, Subject},
        reason::Reason,
        routing::{Family, Scope},
        timestamp::Timestamp,
    },
    decision::{
        effect::Effect,
        request::Returned,
        state::{Belief, State},
    },
};

/// How long a target that takes nothing is left alone after it has shown itself, at first and at most.
const RETRY_MS_MIN: u64 = 1_000;
const RETRY_MS_MAX: u64 = 60_000;

/// A step in a command's life that the router takes.
#[derive(Clone, Copy)]
pub(super) enum Step {
    Observed,
    Parked,
    Released,
}

/// Whether a command must wait behind those that wait for its target already.
pub(super) fn must_wait(state: &State, said: &Said, always_passes: bool) -> bool {
    !always_passes && state.ledger_writable() && state.in_flight().parked_for_len(&said.key.scope) > 0
}

/// Whether there is room for an ordinary command that has to wait, if older ones make room for it.
pub(super) fn has_room(state: &State, scope: &Scope, body_bytes: usize) -> bool {
    Room::new(state).make_for(state, (scope, Rank::newest(), body_bytes)).is_some()
}

/// Parks what came back, as far as it can be parked. What always passes is looked at first, and of the rest the newest,
/// so that it is the oldest ordinary one that there is no room for, also among what came back together.
pub(in crate::decision) fn park(
    state: &State,
    returned: &[Returned],
    now: Timestamp,
    decision: &mut Decision,
) {
    if !state.ledger_writable() {
        return;
    }
    let mut room = Room::new(state);
    let back = returned.iter().filter_map(|back| Some((back, state.in_flight().of_seq(back.seq)?.1)));
    let mut back: Vec<(&Returned, &Flight)> =
        back.filter(|(_, flight)| !flight.fans_out() && !flight.is_parked()).collect();
    back.sort_by_key(|(_, flight)| std::cmp::Reverse(Rank::of(flight)));
    for (back, flight) in back {
        let Some(gone) = room.make_for(state, (&flight.scope, Rank::of(flight), back.body_bytes)) else {
            expire(state, flight, now, decision);
            continue;
        };
        gone.into_iter().for_each(|gone| expire(state, gone, now, decision));
        let fact = decision.facts.len();
        decision.facts.push(step(state, flight, Step::Parked, now));
        decision.effects.push(Effect::Keep {
            fact,
            seq: back.seq,
            ordinal: back.ordinal,
            urgent: flight.always_passes,
        });
    }
}

/// Makes room for one more ordinary command of a target.
pub(in crate::decision) fn make_room(
    state: &State,
    scope: &Scope,
    body_bytes: usize,
    now: Timestamp,
    decision: &mut Decision,
) {
    let gone = Room::new(state).make_for(state, (scope, Rank::newest(), body_bytes));
    gone.into_iter().flatten().for_each(|gone| expire(state, gone, now, decision));
}

/// Who makes room for whom: the lower for the higher.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    always_passes: bool,
    seq: u64,
}

impl Rank {
    const fn of(flight: &Flight) -> Self {
        Self { always_passes: flight.always_passes, seq: flight.seq }
    }

    /// The rank of an ordinary command that is accepted now.
    const fn newest() -> Self {
        Self { always_passes: false, seq: u64::MAX }
    }
}

/// How many more may be parked, which were let go of and for whom some were parked in this decision.
struct Room {
    total: usize,
    bytes: usize,
    gone: Vec<u64>,
    more: BTreeMap<Scope, usize>,
}

impl Room {
    fn new(state: &State) -> Self {
        let (total, bytes) = (state.in_flight().parked_len(), state.kept_bytes());
        Self { total, bytes, gone: Vec::new(), more: BTreeMap::new() }
    }

    /// Those that make room for a command to `scope` with so large a body; `None` where nothing lower than itself is
    /// left to do so, or where it is larger than all the room there is.
    fn make_for<'a>(
        &mut self,
        state: &'a State,
        (scope, rank, body_bytes): (&Scope, Rank, usize),
    ) -> Option<Vec<&'a Flight>> {
        let (rules, flights) = (state.rules(), state.in_flight());
        if body_bytes > rules.parking_bytes_max {
            return None;
        }
        let more = self.more.get(scope).copied().unwrap_or_default();
        let (mut total, mut bytes, mut lowest) = (self.total, self.bytes, Vec::<&Flight>::new());
        loop {
            let gone = |flight: &&Flight| lowest.iter().any(|gone| gone.seq == flight.seq);
            let waiting = |flight: &&Flight| !self.gone.contains(&flight.seq) && !gone(flight);
            let here = || flights.parked_for(scope).map(|(_, flight)| flight).filter(waiting);
            let full = bytes.saturating_add(body_bytes) > rules.parking_bytes_max;
            let next = if here().count() + more >= rules.parking_target_max {
                here().min_by_key(|flight| Rank::of(flight))
            } else if total >= rules.parking_total_max || full {
                let parked = flights.parked_by_room().find(waiting).filter(|parked| Rank::of(parked) < rank);
                parked.or_else(|| oldest_held(state, waiting).filter(|_| full && rank.always_passes))
            } else {
                break;
            };
            let next = next.filter(|next| Rank::of(next) < rank)?;
            total = total.saturating_sub(usize::from(next.is_parked()));
            let freed = next.kept().map_or(0, |parcel| state.kept_bytes_of(parcel));
            bytes = bytes.saturating_sub(freed);
            lowest.push(next);
        }
        self.gone.extend(lowest.iter().map(|gone| gone.seq));
        (self.total, self.bytes) = (total + 1, bytes.saturating_add(body_bytes));
        *self.more.entry(scope.clone()).or_default() += 1;
        Some(lowest)
    }
}

/// The oldest command that waits for its confirmation: it takes of the same bytes, and is no reason for a stop to end.
fn oldest_held(state: &State, waiting: impl Fn(&&Flight) -> bool) -> Option<&Flight> {
    let held = state.in_flight().challenged().filter(|flight| !flight.is_parked() && flight.kept().is_some());
    held.filter(waiting).min_by_key(|flight| Rank::of(flight))
}

/// Ends a parked command for want of room.
fn expire(state: &State, flight: &Flight, now: Timestamp, decision: &mut Decision) {
    let detail =
        "more commands wait than `parking.target_max`, `parking.total_max` or `parking.bytes_max` allow";
    ending::end(state, flight, "Refused", (detail, Some(Reason::Expired)), now, decision);
}

/// What to believe when an instance shows itself: its parked commands are tried again, the less often the more tries
/// were in vain.
pub(in crate::decision) fn shown(state: &State, scope: &Scope, now: Timestamp) -> Option<Belief> {
    let (_, first) = state.in_flight().parked_for(scope).next()?;
    let parked = first.parked?;
    let pause_ms = match parked.tries {
        0 | 1 => 0,
        tries => RETRY_MS_MIN.saturating_mul(1 << (tries - 2).min(16)).min(RETRY_MS_MAX),
    };
    let from = Timestamp::from_micros(parked.at).plus_ms(pause_ms).max(now);
    Some(Belief::Shown { scope: scope.clone(), from })
}

/// Puts the parked commands of a target that has shown itself on their way, in order.
pub(in crate::decision) fn release(state: &State, now: Timestamp) -> Option<Decision> {
    let (scope, _) = state.shown().filter(|(_, from)| *from <= now && state.ledger_writable())?;
    let mut decision = Decision::new(state);
    decision.beliefs.push(Belief::Tried { scope: scope.clone() });
    for (_, flight) in state.in_flight().parked_for(scope) {
        let Some(parked) = flight.parked else { continue };
        decision.facts.push(step(state, flight, Step::Released, now));
        decision.effects.push(Effect::Release { parcel: parked.parcel, urgent: flight.always_passes });
    }
    Some(decision)
}

/// The entry of a step.
pub(super) fn step(state: &State, flight: &Flight, step: Step, now: Timestamp) -> Fact {
    let of = Of { command: flight.command };
    let (action, change) = match step {
        Step::Observed => (Action::Observed, Change::Observed(of)),
        Step::Parked => (Action::Parked, Change::Parked(of)),
        Step::Released => (Action::Released, Change::Released(of)),
    };
    Fact {
        actor: Some(Actor::router(&state.rules().instance)),
        correlation_id: flight.correlation_id.clone(),
        idempotency_key: flight.idempotency_key.clone(),
        subject: Some(Subject {
            family: Family::Signal,
            kind_type: flight.kind_type.clone(),
            scope: flight.scope.clone(),
        }),
        ..Fact::new(action, now, change)
    }
}
