//! Whether what was accepted may still leave.
//!
//! Owns: the one question that is asked of whatever waits to leave: for its target, for a broker
//! that takes it, or in the outbox.
//! Never: holds up a stop, a tightening, a session or a question.
//! Holds: what is held up here would be refused or challenged now, by quarantine, safety mode, kill
//! switch, readiness gates or what has gone live since.
//! The rule: spec/rules.md#what-waits-to-leave.

use crate::{
    contract::{
        command::Class,
        interlock::{GateResult, KillSwitch, SafetyMode},
        routing::{ControlPlaneRouting, Family, Scope},
        timestamp::Timestamp,
    },
    decision::{
        rules::{Rules, lifecycle::Step},
        state::{State, flight::Flight},
    },
};

/// What a command does when it leaves, where something may hold that up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    class: Class,
    /// Whom it reaches.
    pub scope: Scope,
    /// Whether it changes what others run by.
    changes_others: bool,
    /// Whether it is in flight: its end is waited for, and it may wait for its target.
    pub is_in_flight: bool,
    /// Whether it was confirmed.
    is_confirmed: bool,
    /// When a start was said. A command in flight is ended by a stop that overtakes it; one whose
    /// end nobody waits for, or whose target has answered, is on its way all the same.
    said: Option<Timestamp>,
}

impl Act {
    /// That of a signal, by its key; `flight` is what it is in flight as. A start that does not say
    /// when was said long ago.
    pub fn of(
        routing_key: &str,
        flight: Option<&Flight>,
        said: impl FnOnce() -> Option<Timestamp>,
        rules: &Rules,
    ) -> Option<Self> {
        let key = ControlPlaneRouting::parse(routing_key).ok().filter(|key| key.family == Family::Signal)?;
        let act = Self::new(&key.kind_type, &key.scope, flight, rules)?;
        let long_ago = Timestamp::from_micros(i64::MIN);
        let said = (act.class == Class::Start).then(|| said().unwrap_or(long_ago));
        Some(Self { said, ..act })
    }

    fn new(kind_type: &str, scope: &Scope, flight: Option<&Flight>, rules: &Rules) -> Option<Self> {
        let class = rules.commands.get(kind_type)?.class;
        matches!(class, Class::Start | Class::Change | Class::Destructive | Class::Release).then(|| Self {
            class,
            scope: scope.clone(),
            changes_others: class == Class::Change && Step::of(kind_type) != Some(Step::Init),
            is_in_flight: flight.is_some(),
            is_confirmed: flight.is_some_and(|flight| flight.challenge.is_some()),
            said: None,
        })
    }

    /// Whether it starts something for whose end nobody waits: what overtakes it takes it back.
    pub fn starts_unwatched(&self) -> bool {
        self.class == Class::Start && !self.is_in_flight
    }
}

impl State {
    /// Whether what waits to leave may not leave now.
    pub fn holds(&self, act: &Act, now: Timestamp) -> bool {
        let scope = &act.scope;
        let overtaken = |said: Timestamp| self.overtaking_stop(scope).is_some_and(|stop| stop >= said);
        let safety = self.safety();
        let asks_gates = matches!(act.class, Class::Start | Class::Change);
        safety.mode(scope) != SafetyMode::Normal
            || safety.kill_switch(scope) != KillSwitch::Allow
            // A release is the way out of QUARANTINED.
            || (act.class != Class::Release && self.reaches_quarantine(scope))
            || (asks_gates && self.unready(scope, now).is_some())
            // It would be challenged now.
            || (act.changes_others && !act.is_confirmed && self.live_bots(&scope.swarm_id).next().is_some())
            || act.said.is_some_and(overtaken)
    }

    /// The same of a command in flight.
    pub(in crate::decision) fn holds_flight(&self, flight: &Flight, now: Timestamp) -> bool {
        Act::new(&flight.kind_type, &flight.scope, Some(flight), self.rules())
            .is_some_and(|act| self.holds(&act, now))
    }

    /// The readiness gate that refuses starts and changes of a scope, the worst first: whatever has
    /// failed, required or not, and the required ones that are unknown.
    pub(in crate::decision) fn unready<'a>(
        &'a self,
        scope: &'a Scope,
        now: Timestamp,
    ) -> Option<Unready<'a>> {
        let safety = self.safety();
        let says = |name: &str, result| safety.gate(name, scope, now) == result;
        let failed = safety.failed(scope, now).find(|name| says(name, GateResult::Fail));
        let unknown =
            || self.rules().safety.gates_required.iter().find(|name| says(name, GateResult::Unknown));
        // A FAIL whose time is over is no PASS: until it is cleared it refuses, required or not.
        let expired = || safety.failed(scope, now).next();
        failed
            .map(Unready::Failed)
            .or_else(|| unknown().map(|name| Unready::Unknown(name)))
            .or_else(|| expired().map(Unready::Expired))
    }
}

/// Why a readiness gate refuses, with its name.
pub(in crate::decision) enum Unready<'s> {
    /// It says FAIL.
    Failed(&'s str),
    /// It is required and has no result, or one that has expired.
    Unknown(&'s str),
    /// It has failed, its report has expired, and nobody has cleared it.
    Expired(&'s str),
}
