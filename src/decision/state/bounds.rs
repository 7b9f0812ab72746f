//! What the state keeps, and what bounds each part of it.
//!
//! Owns: the list of every collection of the state, its size now and its bound.
//! Never: enforces a bound; decisions do, and facts say what they left out.
//! Holds: a field that is added here or in what it keeps does not compile until it stands in the
//! list.

use crate::{
    contract::{bound::Bound, reason::Reason},
    decision::state::{Observed, Recorded, State, bots, collection::Collection, configs, room, stops},
};

impl State {
    /// Every part of the state that grows.
    pub fn collections(&self) -> Vec<Collection> {
        let mut all = self.recorded_collections();
        all.extend(self.observed_collections());
        all
    }

    fn recorded_collections(&self) -> Vec<Collection> {
        let Recorded {
            genesis: _,
            epoch: _,
            incarnation: _,
            last_seq: _,
            last_at: _,
            newest_emergency: _,
            // As many as the config has settings; nobody else adds one.
            settings: _,
            commands,
            flights,
            late,
            results,
            stops,
            known,
            applied,
            bots,
            quarantines,
            sessions,
            safety,
            closed,
            standing_uses,
            suspended,
            leaving,
        } = &self.recorded;
        let (rules, memory) = (&self.rules, &self.rules.memory);
        let (keys_max, instances_max) = (rules.idempotency_keys_max, rules.inventory.instances_max);
        let stops_max = stops::stops_with_swarms(memory.stops_max).saturating_add(1);
        // Of each key, result, stop, challenge and session that ended one; a session takes a key to
        // begin.
        let leaving_max = keys_max.saturating_mul(4).saturating_add(stops_max + memory.challenges_max);
        let row = |name, bound, len, max| Collection { name, bound, len, max };
        let mut all = vec![
            row("commands", Bound::Commands, commands.len(), keys_max),
            row("late", Bound::Commands, late.len(), keys_max),
            row("results", Bound::Results, results.len(), room::results_max(self)),
            row("stops", Bound::Stops, stops.len(), stops_max),
            row("known", Bound::Known, known.count(), instances_max),
            row("applied", Bound::Applied, applied.len(), configs::configs_max(self)),
            row("applied_bytes", Bound::AppliedBytes, applied.bytes(), memory.applied_bytes_max),
            row("bots", Bound::Bots, bots.len(), bots::bots_max(self)),
            // One more is for all.
            row("quarantines", Bound::Settings, quarantines.len(), memory.swarms_max.saturating_add(1)),
            row("sessions", Bound::Sessions, sessions.len(), instances_max),
            row("closed", Bound::Challenges, closed.len(), memory.challenges_max),
            row("standing_uses", Bound::Approvals, standing_uses.len(), memory.approvals_max),
            row("suspended", Bound::Suspended, suspended.len(), memory.suspended_max),
            row("leaving", Bound::Results, leaving.len(), leaving_max),
        ];
        all.extend(flights.collections(rules));
        all.extend(safety.collections(memory));
        all
    }

    fn observed_collections(&self) -> Vec<Collection> {
        let Observed {
            ledger_unwritable: _,
            clock_gap: _,
            tallies,
            tally_seconds,
            alerts,
            alerts_held_back: _,
            inventory,
            kept,
            kept_bytes,
            shown,
            session_heard,
            session_look: _,
            meters,
            listens_since: _,
            disagreed,
            alerts_second: _,
            alerts_in_second: _,
            bound_hits: _,
        } = &self.observed;
        let rules = &self.rules;
        let instances_max = rules.inventory.instances_max;
        // One more a reason, for the senders that share one.
        let tallies_max = rules.refusals_senders_max.saturating_add(Reason::ALL.len());
        // Parked commands, and those that wait to be confirmed.
        let waiting_max = rules.parking_total_max.saturating_add(rules.memory.challenges_max);
        let row = |name, bound, len, max| Collection { name, bound, len, max };
        let mut all = vec![
            row("tallies", Bound::Refusals, tallies.len(), tallies_max),
            row("tally_seconds", Bound::Refusals, tally_seconds.len(), tallies_max),
            row("alerts", Bound::Alerts, alerts.len(), rules.memory.alerts_max),
            row("kept", Bound::Held, kept.len(), waiting_max),
            row("kept_bytes", Bound::Held, *kept_bytes, rules.parking_bytes_max),
            row("shown", Bound::Parked, shown.len(), rules.parking_total_max),
            row("session_heard", Bound::Sessions, session_heard.len(), instances_max),
            row("disagreed", Bound::Bots, disagreed.len(), bots::bots_max(self)),
        ];
        all.extend(inventory.collections());
        all.extend(meters.collections(instances_max));
        all
    }
}

impl State {
    /// How often each bound was met since this was asked last.
    pub fn take_bound_hits(&mut self) -> [u64; Bound::ALL.len()] {
        std::mem::replace(&mut self.observed.bound_hits, [0; Bound::ALL.len()])
    }
}
