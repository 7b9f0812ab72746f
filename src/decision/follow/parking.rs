//! Parking: what no queue takes waits for its target.
//!
//! Owns: the facts of parking, and the release of a target's parked commands in their order.
//! Never: parks a fan-out, puts a stop behind anything, or parks what could not be written.
//! Holds: what there is no room for ends with `command.expired`, the oldest first.
//! The rule: spec/rules.md#parking.

use crate::{
    contract::{audit::Carried, bound::Bound, reason::Reason, routing::Scope, timestamp::Timestamp},
    decision::{
        effect::Effect,
        facts::{self, RouterStep},
        follow::ending,
        gates::consent::Permit,
        outcome::Decision,
        request::Returned,
        state::{
            Belief, State,
            flight::{Flight, NEWEST},
            parking::Room,
        },
    },
};

/// How long a target that takes nothing is left alone after it has shown itself, at first and at
/// most.
const RETRY_MS_MIN: u64 = 1_000;

const RETRY_MS_MAX: u64 = 60_000;

/// Parks what came back, as far as it can be parked. What always passes is looked at first, and of
/// the rest the newest, so that it is the oldest ordinary one that there is no room for, also among
/// what came back together.
pub(in crate::decision) fn park(
    state: &State,
    returned: &[Returned],
    now: Timestamp,
    decision: &mut Decision,
) {
    // A parked command lives by its entry and its parcel: without a ledger there is neither, and
    // its delivery is what waits.
    if !state.ledger_writable() {
        return;
    }
    let mut room = Room::new(state);
    let commands = returned.iter().filter(|back| back.ordinal == Carried::COMMAND_ORDINAL);
    let back = commands.filter_map(|back| Some((back, state.in_flight().of_seq(back.seq)?.1)));
    let mut back: Vec<(&Returned, &Flight)> =
        back.filter(|(_, flight)| !flight.fans_out() && !flight.is_parked()).collect();
    back.sort_by_key(|(_, flight)| std::cmp::Reverse(flight.rank()));
    for (back, flight) in back {
        let Some(gone) = room.make_for(state, (&flight.scope, flight.rank(), back.body_bytes)) else {
            expire(state, flight, now, decision);
            continue;
        };
        gone.into_iter().for_each(|gone| expire(state, gone, now, decision));
        let fact = decision.facts.len();
        decision.facts.push(facts::of_step(state, flight, RouterStep::Parked, now));
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
    let gone = Room::new(state).make_for(state, (scope, NEWEST, body_bytes));
    gone.into_iter().flatten().for_each(|gone| expire(state, gone, now, decision));
}

/// Ends a parked command for want of room.
fn expire(state: &State, flight: &Flight, now: Timestamp, decision: &mut Decision) {
    let detail =
        "more commands wait than `parking.target_max`, `parking.total_max` or `parking.bytes_max` allow";
    decision.beliefs.push(Belief::BoundHit(Bound::Parked));
    ending::end(state, flight, "Refused", (detail, Some(Reason::Expired)), now, decision);
}

/// What to believe when an instance shows itself: its parked commands are tried again, the less
/// often the more tries were in vain.
pub(in crate::decision) fn shown(state: &State, scope: &Scope, now: Timestamp) -> Option<Belief> {
    let (_, first) = state.in_flight().parked_for(scope).next()?;
    let parked = first.parked?;
    let pause_ms = match parked.tries {
        // Parked once: it has not been tried in vain since its target showed itself.
        0 | 1 => 0,
        tries => RETRY_MS_MIN.saturating_mul(1 << (tries - 2).min(16)).min(RETRY_MS_MAX),
    };
    let from = Timestamp::from_micros(parked.at).plus_ms(pause_ms).max(now);
    Some(Belief::Shown { scope: scope.clone(), from })
}

/// Puts the parked commands of a target that has shown itself on their way, in order. What safety
/// or a quarantine holds up waits on, and ends by its deadline.
pub(in crate::decision) fn release(state: &State, now: Timestamp) -> Option<Decision> {
    let (scope, _) = state.shown().filter(|(_, from)| *from <= now && state.ledger_writable())?;
    let mut decision = Decision::new(state);
    // Also where all of them are held up: the guard that keeps this from falling due for ever.
    decision.beliefs.push(Belief::Tried { scope: scope.clone() });
    for (_, flight) in
        state.in_flight().parked_for(scope).filter(|(_, flight)| !state.holds_flight(flight, now))
    {
        // What waits for its confirmation has no permit, and stays.
        let (Some(parked), Some(permit)) = (flight.parked, Permit::of_parked(flight)) else { continue };
        decision.facts.push(facts::of_step(state, flight, RouterStep::Released, now));
        decision.effects.push(Effect::Release {
            permit,
            parcel: parked.parcel,
            urgent: flight.always_passes,
        });
    }
    Some(decision)
}
