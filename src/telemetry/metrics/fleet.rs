//! What the gauges say of the fleet, of its commands and of what is to leave.
//!
//! Owns: the setters that the router's rounds call.
//! Never: counts anything itself; the state has the numbers.
//! Holds: a setter is a few atomic stores.

use super::{Metrics, labels::count};
use crate::{
    contract::lane::Lane,
    decision::state::{inventory::Fleet, steps::CommandStep},
};

impl Metrics {
    /// Says how many commands wait for their outcome.
    pub fn set_commands(&self, in_flight: usize) {
        self.commands.set(count(in_flight));
    }

    /// Says how many commands are past their deadline and have not ended.
    pub fn set_commands_overdue(&self, commands: usize) {
        self.steps.set_overdue(commands);
    }

    /// Counts and measures steps of commands.
    pub fn steps(&self, steps: &[CommandStep]) {
        steps.iter().for_each(|step| self.steps.step(step));
    }

    /// Says how the instances are.
    pub fn set_instances(&self, fleet: &Fleet) {
        for (gauge, (_, _, instances)) in self.instances.iter().zip(fleet.counts()) {
            gauge.set(count(instances));
        }
        let [unwell, drifted] = &self.instances_odd;
        unwell.set(count(fleet.unwell()));
        drifted.set(count(fleet.drifted));
    }

    /// Says how many records of the outbox are on their way, and how many wait for a target or a
    /// confirmation.
    pub fn set_outbox(&self, leaving: usize, parked: usize) {
        for (gauge, parcels) in self.outbox.iter().zip([leaving, parked]) {
            gauge.set(count(parcels));
        }
    }

    /// Says whether a lane takes nothing from its queue.
    pub fn set_lane_blocked(&self, lane: Lane, blocked: bool) {
        if let Some(gauge) = self.blocked.get(lane as usize) {
            gauge.set(i64::from(blocked));
        }
    }
}
