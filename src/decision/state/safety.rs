//! What is set of safety: modes, kill switches, the latch and readiness gates.
//!
//! Owns: how modes and levels compose, and what is unknown.
//! Never: takes what is not known for well.
//! Holds: the strongest that applies wins; a mode implies its kill switch; start-up unknown is
//! SAFE.
//! The rules: spec/rules.md#safety-mode, #kill-switch and #readiness-gates.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    contract::{
        audit::Stepped,
        bound::Bound,
        interlock::{GateResult, GateSet, KillSwitch, MonitoringSet, SafetyMode, SafetySet},
        routing::{ALL, Scope},
        timestamp::Timestamp,
    },
    decision::{
        rules::Memory,
        state::{State, collection::Collection},
    },
};

/// What is set of safety, for all and by swarm.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Safety {
    /// For all.
    pub global: Setting,
    /// By swarm; a swarm without its own setting has the one for all.
    pub swarms: BTreeMap<String, Setting>,
    /// The readiness gates, by swarm (`""`: for all) and name.
    #[serde(serialize_with = "by_name")]
    pub gates: BTreeMap<(String, String), Gate>,
    /// Until when the router raises no alerts, by swarm (`""`: for all), in microseconds since the
    /// epoch.
    pub unmonitored: BTreeMap<String, i64>,
    /// Why the latch file is there, by swarm (`""`: for all).
    pub latched: BTreeMap<String, Latched>,
    /// Whether the clock and the ledger do not agree: SAFE for all meanwhile. Believed, and not
    /// recorded.
    #[serde(skip)]
    pub(in crate::decision) clock_is_apart: bool,
}

/// Why the latch file is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Latched {
    /// Since when it was known, in microseconds since the epoch.
    pub since: i64,
    /// In the words of whoever threw it.
    pub reason: String,
}

/// What is set for all or for one swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The mode; `None` is unknown for all, and inherited for a swarm.
    pub mode: Option<SafetyMode>,
    /// The kill switch that was set.
    pub kill_switch: Option<KillSwitch>,
    /// The level that the latch file holds.
    pub latch: Option<KillSwitch>,
}

/// What is known of a readiness gate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gate {
    /// Its last result.
    pub result: Option<GateResult>,
    /// Who reported that.
    pub reporter: String,
    /// Until when that counts, in microseconds since the epoch.
    pub expires_at: i64,
    /// Until when it says FAIL, where it has failed and nobody has cleared that; 0 where it has
    /// not. It stays failed after that moment: what nobody looks at any more is unknown, and not
    /// well.
    pub failed_until: i64,
    /// Who alone has said so; empty where several have.
    pub failed_by: String,
    /// Until when the gate is not asked.
    pub disabled_until: i64,
}

impl Gate {
    /// Whether it has failed, and neither its reporter nor a confirmed report has cleared that.
    pub const fn has_failed(&self) -> bool {
        self.failed_until > 0
    }

    /// Takes an accepted report. Who may say that something better is the case was asked before.
    fn report(&mut self, result: GateResult, expires_at: i64, reporter: &str, at: i64) {
        match result {
            GateResult::Pass | GateResult::Warn => {
                self.failed_until = 0;
                self.failed_by.clear();
            }
            GateResult::Fail if self.has_failed() => {
                self.failed_until = self.failed_until.max(expires_at);
                if self.failed_by != reporter {
                    self.failed_by.clear();
                }
            }
            GateResult::Fail => {
                self.failed_until = expires_at;
                reporter.clone_into(&mut self.failed_by);
            }
            // Whose FAIL it was may take back what it knows; that the gate has failed stays.
            GateResult::Unknown if self.has_failed() && self.failed_by == reporter => {
                self.failed_until = self.failed_until.min(at);
            }
            GateResult::Unknown => {}
        }
        self.result = Some(result);
        reporter.clone_into(&mut self.reporter);
        self.expires_at = expires_at;
    }

    /// What holds now: an expired result is unknown, and no other report shortens a FAIL.
    pub fn result_at(&self, now: Timestamp) -> GateResult {
        if self.has_failed() {
            return if now.micros() < self.failed_until { GateResult::Fail } else { GateResult::Unknown };
        }
        self.result.filter(|_| now.micros() < self.expires_at).unwrap_or(GateResult::Unknown)
    }
}

/// JSON has no keys but text.
fn by_name<S: serde::Serializer>(
    gates: &BTreeMap<(String, String), Gate>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(gates)
}

impl Setting {
    fn mode_or_safe(self) -> SafetyMode {
        self.mode.unwrap_or(SafetyMode::Safe)
    }

    fn level(self) -> KillSwitch {
        let implied = self.mode.map_or(KillSwitch::Allow, SafetyMode::implies);
        self.kill_switch.into_iter().chain(self.latch).fold(implied, Ord::max)
    }

    /// What a new mode is compared with: for a swarm without its own, the one for all.
    pub(in crate::decision) fn mode_or_inherited(self, state: &State) -> SafetyMode {
        self.mode.unwrap_or_else(|| state.safety().global.mode_or_safe())
    }
}

impl Safety {
    /// The settings that apply to a scope: the one for all, and those of the swarms it reaches.
    fn applying<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = Setting> + 'a {
        let reached = self
            .swarms
            .iter()
            .filter(|(swarm, _)| scope.swarm_id == ALL || **swarm == scope.swarm_id)
            .map(|(_, setting)| *setting);
        let least = if self.clock_is_apart { SafetyMode::Safe } else { SafetyMode::Normal };
        let mode = Some(self.global.mode_or_safe().max(least));
        std::iter::once(Setting { mode, ..self.global }).chain(reached)
    }

    /// The mode that applies to a scope: the strongest.
    pub fn mode(&self, scope: &Scope) -> SafetyMode {
        self.applying(scope).filter_map(|setting| setting.mode).max().unwrap_or(SafetyMode::Safe)
    }

    /// The kill switch that applies to a scope: the strongest.
    pub fn kill_switch(&self, scope: &Scope) -> KillSwitch {
        // There is always one, for all; were there none, unknown is SAFE, which implies this level.
        self.applying(scope).map(Setting::level).max().unwrap_or(KillSwitch::CloseOnly)
    }

    /// What a gate says of a scope: the worst of what is known for all and for the swarms it
    /// reaches.
    pub fn gate(&self, name: &str, scope: &Scope, now: Timestamp) -> GateResult {
        let mut known = self.known(name, scope).peekable();
        if known.peek().is_none() {
            return GateResult::Unknown;
        }
        let asked = known.filter(|gate| gate.disabled_until <= now.micros());
        // All places of it are switched off: it is not asked, and refuses nothing.
        asked.map(|gate| gate.result_at(now)).max().unwrap_or(GateResult::Pass)
    }

    /// The first moment after `since` at which a gate says something else because time went by.
    pub fn next_gate_change(&self, since: Timestamp) -> Option<Timestamp> {
        let moments = self.gates.values().flat_map(|gate| [gate.expires_at, gate.disabled_until]);
        moments.filter(|at| *at > since.micros()).min().map(Timestamp::from_micros)
    }

    /// The gates of a scope that have failed, are asked, and were not cleared.
    pub(in crate::decision) fn failed<'a>(
        &'a self,
        scope: &'a Scope,
        now: Timestamp,
    ) -> impl Iterator<Item = &'a str> {
        let of_scope = self
            .gates
            .iter()
            .filter(|((swarm, _), _)| swarm.is_empty() || scope.swarm_id == ALL || *swarm == scope.swarm_id);
        let failed =
            of_scope.filter(move |(_, gate)| gate.has_failed() && gate.disabled_until <= now.micros());
        failed.map(|((_, name), _)| name.as_str())
    }

    pub(in crate::decision) fn known<'a>(
        &'a self,
        name: &'a str,
        scope: &'a Scope,
    ) -> impl Iterator<Item = &'a Gate> {
        self.gates
            .iter()
            .filter(move |((swarm, gate), _)| {
                gate == name && (swarm.is_empty() || scope.swarm_id == ALL || *swarm == scope.swarm_id)
            })
            .map(|(_, gate)| gate)
    }

    /// Whether the router raises alerts about a swarm.
    pub fn is_monitored(&self, swarm: &str, now: Timestamp) -> bool {
        let until = |name: &str| self.unmonitored.get(name).copied().unwrap_or(i64::MIN);
        until("").max(until(swarm)) <= now.micros()
    }

    pub(in crate::decision) fn setting_mut(&mut self, swarm: Option<&str>) -> &mut Setting {
        match swarm {
            None => &mut self.global,
            Some(swarm) => self.swarms.entry(swarm.to_owned()).or_default(),
        }
    }

    pub(in crate::decision) fn setting(&self, swarm: Option<&str>) -> Setting {
        match swarm {
            None => self.global,
            Some(swarm) => self.swarms.get(swarm).copied().unwrap_or_default(),
        }
    }

    /// Folds in what was set.
    pub(in crate::decision) fn set(&mut self, set: &SafetySet, at: Timestamp) {
        let setting = self.setting_mut(set.swarm.as_deref());
        setting.mode = set.mode.or(setting.mode);
        setting.kill_switch = set.kill_switch.or(setting.kill_switch);
        setting.latch = set.latch.or(setting.latch).filter(|level| *level != KillSwitch::Allow);
        let (place, thrown) = (set.swarm.clone().unwrap_or_default(), setting.latch.is_some());
        if !thrown {
            self.latched.remove(&place);
        } else if set.latch.is_some() {
            let reason = set.reason.clone().unwrap_or_default();
            self.latched.insert(place, Latched { since: at.micros(), reason });
        }
    }

    /// The ledger forgot something, or the settings are looser: SAFE for all, unless it is stronger
    /// already.
    pub(in crate::decision) fn make_safe(&mut self) {
        self.global.mode = Some(self.global.mode_or_safe().max(SafetyMode::Safe));
    }

    pub(in crate::decision) fn set_gate(&mut self, set: &GateSet, reporter: &str, at: Timestamp) {
        let place = (set.swarm.clone().unwrap_or_default(), set.gate.clone());
        let gate = self.gates.entry(place).or_default();
        if let Some(until) = set.disabled_until {
            gate.disabled_until = until.micros();
        }
        if let Some(result) = set.result {
            gate.report(result, set.expires_at.map_or(i64::MAX, Timestamp::micros), reporter, at.micros());
        }
    }

    /// The router's time makes a step.
    pub(in crate::decision) fn step(&mut self, stepped: &Stepped) {
        for gate in self.gates.values_mut() {
            gate.expires_at = stepped.ahead(gate.expires_at);
            gate.failed_until = stepped.ahead(gate.failed_until);
            gate.disabled_until = stepped.ahead(gate.disabled_until);
        }
        self.unmonitored.values_mut().for_each(|until| *until = stepped.ahead(*until));
        self.latched.values_mut().for_each(|latched| latched.since = stepped.past(latched.since));
    }

    pub(in crate::decision) fn set_monitoring(&mut self, set: &MonitoringSet, at: i64) {
        // Gate 9 counts on it: what is over takes no room.
        self.unmonitored.retain(|_, until| at < *until);
        if at < set.disabled_until.micros() {
            self.unmonitored.insert(set.swarm.clone().unwrap_or_default(), set.disabled_until.micros());
        }
    }

    /// Whether there is room for a setting of a swarm's own.
    pub(in crate::decision) fn has_room(&self, swarm: Option<&str>, memory: &Memory) -> bool {
        swarm.is_none_or(|swarm| self.swarms.contains_key(swarm) || self.swarms.len() < memory.swarms_max)
    }

    /// Everything it keeps, and what bounds that.
    pub(in crate::decision) fn collections(&self, memory: &Memory) -> Vec<Collection> {
        let Self { global: _, swarms, gates, unmonitored, latched, clock_is_apart: _ } = self;
        // One more is for all.
        let settings = |name, len, more| {
            let max = memory.swarms_max.saturating_add(more);
            Collection { name, bound: Bound::Settings, len, max }
        };
        vec![
            settings("safety.swarms", swarms.len(), 0),
            settings("safety.unmonitored", unmonitored.len(), 1),
            settings("safety.latched", latched.len(), 1),
            Collection { name: "safety.gates", bound: Bound::Gates, len: gates.len(), max: memory.gates_max },
        ]
    }
}

/// The swarm that a safety command is for; `None` for all.
pub(in crate::decision) fn swarm(scope: &Scope) -> Option<&str> {
    (scope.swarm_id != ALL).then_some(scope.swarm_id.as_str())
}

impl State {
    /// The strongest safety mode and kill switch that apply anywhere.
    pub fn strongest(&self) -> (SafetyMode, KillSwitch) {
        let everything = Scope::new(ALL, ALL, ALL);
        (self.safety().mode(&everything), self.safety().kill_switch(&everything))
    }

    /// What is set of safety.
    pub fn safety(&self) -> &Safety {
        &self.recorded.safety
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_failed_is_unknown_when_its_time_is_over_and_never_well() {
        let mut gate = Gate::default();
        let at = |micros| Timestamp::from_micros(micros);
        gate.report(GateResult::Fail, 100, "risk", 1);
        assert_eq!(
            [gate.result_at(at(99)), gate.result_at(at(100))],
            [GateResult::Fail, GateResult::Unknown]
        );
        gate.report(GateResult::Fail, 50, "other", 2);
        assert_eq!(gate.result_at(at(99)), GateResult::Fail, "no later report shortens it");
        gate.report(GateResult::Pass, 200, "risk", 3);
        assert_eq!(
            [gate.result_at(at(199)), gate.result_at(at(200))],
            [GateResult::Pass, GateResult::Unknown]
        );
    }
}
