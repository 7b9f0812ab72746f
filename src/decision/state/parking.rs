//! Who waits for a target, and who makes room for whom.
//!
//! Owns: the bytes that wait, the targets that have shown themselves, and the order in which
//! commands make room.
//! Never: ends a command; it names those that must.
//! Holds: no more wait than `parking.target_max`, `parking.total_max` and `parking.bytes_max`; what
//! always passes never makes room for what does not, nor a proven sender's stop for that of one who
//! is not.
//! The rule: spec/rules.md#parking.

use std::collections::BTreeMap;

use crate::{
    contract::{Said, routing::Scope, timestamp::Timestamp},
    decision::state::{
        Observed, State,
        flight::{Flight, NEWEST, Rank},
    },
};

/// Whether a command must wait behind those that wait for its target already.
pub(in crate::decision) fn must_wait(state: &State, said: &Said, always_passes: bool) -> bool {
    !always_passes && state.ledger_writable() && state.in_flight().parked_for_len(&said.key.scope) > 0
}

/// Whether there is room for an ordinary command that has to wait, if older ones make room for it.
pub(in crate::decision) fn has_room(state: &State, scope: &Scope, body_bytes: usize) -> bool {
    Room::new(state).make_for(state, (scope, NEWEST, body_bytes)).is_some()
}

/// The room for parked commands within one decision: how many and how many bytes wait, which have
/// made room, and for which targets more were parked.
pub(in crate::decision) struct Room {
    total: usize,
    bytes: usize,
    gone: Vec<u64>,
    more: BTreeMap<Scope, usize>,
}

impl Room {
    pub(in crate::decision) fn new(state: &State) -> Self {
        let (total, bytes) = (state.in_flight().parked_len(), state.kept_bytes());
        Self { total, bytes, gone: Vec::new(), more: BTreeMap::new() }
    }

    /// Those that make room for a command to `scope` with so large a body; `None` where nothing
    /// lower than itself is left to do so, or where it is larger than all the room there is.
    pub(in crate::decision) fn make_for<'a>(
        &mut self,
        state: &'a State,
        (scope, rank, body_bytes): (&Scope, Rank, usize),
    ) -> Option<Vec<&'a Flight>> {
        let (rules, flights) = (state.rules(), state.in_flight());
        // Asked first: otherwise everything that waits would make room for what never fits.
        if body_bytes > rules.parking_bytes_max {
            return None;
        }
        let more = self.more.get(scope).copied().unwrap_or_default();
        // Copies, taken over at the end only: what finds no room must make nobody go.
        let (mut total, mut bytes, mut lowest) = (self.total, self.bytes, Vec::<&Flight>::new());
        loop {
            let gone = |flight: &&Flight| lowest.iter().any(|gone| gone.seq == flight.seq);
            let waiting = |flight: &&Flight| !self.gone.contains(&flight.seq) && !gone(flight);
            let here = || flights.parked_for(scope).map(|(_, flight)| flight).filter(waiting);
            let full = bytes.saturating_add(body_bytes) > rules.parking_bytes_max;
            // The target's own bound first: making room elsewhere would not help it.
            let next = if here().count() + more >= rules.parking_target_max {
                here().min_by_key(|flight| flight.rank())
            } else if total >= rules.parking_total_max || full {
                let parked = flights.parked_by_room().find(waiting).filter(|parked| parked.rank() < rank);
                parked.or_else(|| oldest_held(state, waiting).filter(|_| full && rank.0.always_passes()))
            } else {
                break;
            };
            let next = next.filter(|next| next.rank() < rank)?;
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

/// The oldest command that waits for its confirmation: it takes of the same bytes, and is no reason
/// for a stop to end.
fn oldest_held(state: &State, waiting: impl Fn(&&Flight) -> bool) -> Option<&Flight> {
    let held = state.in_flight().challenged().filter(|flight| !flight.is_parked() && flight.kept().is_some());
    held.filter(waiting).min_by_key(|flight| flight.rank())
}

impl Observed {
    pub fn kept(&mut self, parcel: u64, body_bytes: usize) {
        self.release(parcel);
        self.kept.insert(parcel, body_bytes);
        self.kept_bytes = self.kept_bytes.saturating_add(body_bytes);
    }

    pub fn release(&mut self, parcel: u64) {
        let body_bytes = self.kept.remove(&parcel).unwrap_or_default();
        self.kept_bytes = self.kept_bytes.saturating_sub(body_bytes);
    }
}

impl State {
    /// The bytes of the bodies of messages that wait, in all.
    pub fn kept_bytes(&self) -> usize {
        self.observed.kept_bytes
    }

    /// The bytes of the body of one of them.
    pub(in crate::decision) fn kept_bytes_of(&self, parcel: u64) -> usize {
        self.observed.kept.get(&parcel).copied().unwrap_or_default()
    }

    /// The target with parked commands that is to be tried first, and from when on.
    pub(in crate::decision) fn shown(&self) -> Option<(&Scope, Timestamp)> {
        let first = self.observed.shown.iter().min_by_key(|(_, from)| **from);
        first.map(|(scope, from)| (scope, Timestamp::from_micros(*from)))
    }
}
