//! What each round says of the state to whoever measures.
//!
//! Owns: which numbers of the state are gauges, and how often each is looked at.
//! Never: counts what only a decision knows; `telemetry` counts that when it is decided.
//! Holds: a look costs the same however large the fleet is; what costs more is looked at with the
//! ticker, and bounded.

use super::Router;

/// Overdue commands that are counted at most: there are none, or something is wrong.
const OVERDUE_COUNTED_MAX: usize = 10_000;

impl Router {
    /// Sets the gauges after a round; with `ticks` also what is looked at every few seconds only.
    pub(super) fn gauge(&mut self, ticks: bool) {
        let metrics = &self.telemetry.metrics;
        metrics.bounds(self.corridor.state_mut().take_bound_hits());
        let state = self.corridor.state();
        metrics.set_commands(state.commands_in_flight());
        let (mode, level) = state.strongest();
        metrics.set_interlock(mode, level, state.challenges_open());
        metrics.set_instances(&state.inventory().fleet());
        if ticks {
            // Also where nothing leaves but the router's own status: whoever looks is to know.
            let blocked = self.bus.link.now().is_some_and(|connected| connected.bus.blocked().is_some());
            self.telemetry.health.set_blocked(blocked);
            // Without a broker nothing falls due: every deadline is put off when it is back.
            let overdue = match self.memory.away_since {
                None => state.commands_overdue(self.clock.now(), OVERDUE_COUNTED_MAX),
                Some(_) => 0,
            };
            metrics.set_commands_overdue(overdue);
        }
    }

    /// Sets the gauges of the outbox: parcels that leave, and messages that wait.
    pub(super) fn gauge_outbox(&self) {
        let leaving = self.memory.tracker.parcels() + self.memory.left.len();
        self.telemetry.metrics.set_outbox(leaving, self.corridor.parked_count());
    }
}
