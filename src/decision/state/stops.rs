//! Stops that were accepted, and the starts that they overtake.
//!
//! Owns: one moment a scope, and whom a stop counts for where there is no room.
//! Never: forgets a stop before its window is over.
//! Holds: a stop is remembered once a scope, however often it is said.

use crate::{
    contract::{
        routing::{ALL, Scope},
        timestamp::Timestamp,
    },
    decision::state::{Recorded, State, leaving::Leaving},
};

impl Recorded {
    /// A stop was accepted: it is remembered once a scope, however often it is said.
    pub(super) fn stopped(&mut self, scope: &Scope, overtakes: i64, at: i64) {
        if let Some(stop) = self.stops.get_mut(scope) {
            // A stop that was dated ahead is not taken back by a later one that was not.
            *stop = overtakes.max(*stop);
            return;
        }
        self.stops.insert(scope.clone(), overtakes);
        self.leaving.push_back((at, Leaving::Stop(Box::new(scope.clone()))));
    }

    /// The latest moment from which starts of `scope` are overtaken by an accepted stop.
    pub fn overtaking_stop(&self, scope: &Scope) -> Option<Timestamp> {
        if self.stops.is_empty() {
            return None;
        }
        let (swarm, role, instance) = (scope.swarm_id.as_str(), scope.role.as_str(), scope.instance.as_str());
        // The scopes that may cover it (spec/rules.md#fan-out-scopes): five look-ups, however many
        // stops.
        [(swarm, role, instance), (swarm, role, ALL), (swarm, ALL, ALL), (ALL, role, ALL), (ALL, ALL, ALL)]
            .into_iter()
            .filter_map(|(swarm, role, instance)| self.stops.get(&Scope::new(swarm, role, instance)))
            .max()
            .map(|at| Timestamp::from_micros(*at))
    }
}

impl State {
    /// The latest moment from which starts of `scope` are overtaken by an accepted stop.
    pub(in crate::decision) fn overtaking_stop(&self, scope: &Scope) -> Option<Timestamp> {
        self.recorded.overtaking_stop(scope)
    }

    /// How many scopes have stops that are remembered.
    pub(in crate::decision) fn stops_count(&self) -> usize {
        self.recorded.stops.len()
    }

    pub(in crate::decision) fn remembers_stop(&self, scope: &Scope) -> bool {
        self.recorded.stops.contains_key(scope)
    }
}

/// Whom a stop of a scope is remembered for, where there is no room to remember the scope itself:
/// its swarm, or all.
pub(in crate::decision) fn stop_counts_for(state: &State, scope: &Scope) -> Option<Scope> {
    let stops_max = state.rules().memory.stops_max;
    if state.stops_count() < stops_max || state.remembers_stop(scope) {
        return None;
    }
    let swarm = Scope::new(&*scope.swarm_id, ALL, ALL);
    let has_room = state.remembers_stop(&swarm) || state.stops_count() < stops_with_swarms(stops_max);
    Some(if has_room { swarm } else { Scope::new(ALL, ALL, ALL) })
}

/// A tenth more of whole swarms.
pub(in crate::decision) const fn stops_with_swarms(stops_max: usize) -> usize {
    stops_max.saturating_add(stops_max / 10)
}
