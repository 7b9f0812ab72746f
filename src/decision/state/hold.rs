//! Whether what was accepted may still leave.
//!
//! Owns: the one question that is asked of whatever waits to leave: for its target, for a broker
//! that takes it, or in the outbox.
//! Never: holds up a stop, a tightening, a session or a question.
//! Holds: what is held up here would be refused now, by quarantine, safety mode or kill switch.
//! The rule: spec/rules.md#what-waits-to-leave.

use crate::{
    contract::{
        command::Class,
        interlock::{KillSwitch, SafetyMode},
        routing::{ControlPlaneRouting, Family, Scope},
        timestamp::Timestamp,
    },
    decision::{
        rules::Rules,
        state::{State, flight::Flight},
    },
};

/// What a command does when it leaves, where something may hold that up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    class: Class,
    /// Whom it reaches.
    pub scope: Scope,
    /// When it was said, where it is not in flight: no stop that came since has ended it.
    said: Option<Timestamp>,
}

impl Act {
    /// That of a message in flight, by its key.
    pub fn in_flight(routing_key: &str, rules: &Rules) -> Option<Self> {
        let key = ControlPlaneRouting::parse(routing_key).ok()?;
        if key.family != Family::Signal {
            return None;
        }
        Self::of(&key.kind_type, &key.scope, rules)
    }

    fn of(kind_type: &str, scope: &Scope, rules: &Rules) -> Option<Self> {
        let class = rules.commands.get(kind_type)?.class;
        matches!(class, Class::Start | Class::Change | Class::Destructive | Class::Release).then(|| Self {
            class,
            scope: scope.clone(),
            said: None,
        })
    }

    /// That of a message for whose end nobody waits; one that does not say when was said long ago.
    pub fn unwatched(
        routing_key: &str,
        said: impl FnOnce() -> Option<Timestamp>,
        rules: &Rules,
    ) -> Option<Self> {
        let act = Self::in_flight(routing_key, rules)?;
        Some(Self { said: Some(said().unwrap_or(Timestamp::from_micros(i64::MIN))), ..act })
    }

    /// Whether it is in flight: its end is waited for, and it may wait for its target.
    pub fn is_in_flight(&self) -> bool {
        self.said.is_none()
    }

    /// Whether it starts something for whose end nobody waits: what overtakes it takes it back.
    pub fn starts_unwatched(&self) -> bool {
        self.class == Class::Start && !self.is_in_flight()
    }
}

impl State {
    /// Whether what waits to leave may not leave now.
    pub fn holds(&self, act: &Act) -> bool {
        let scope = &act.scope;
        let overtaken = || {
            let said = act.said.filter(|_| act.class == Class::Start);
            said.is_some_and(|said| self.overtaking_stop(scope).is_some_and(|stop| stop >= said))
        };
        let safety = self.safety();
        safety.mode(scope) != SafetyMode::Normal
            || safety.kill_switch(scope) != KillSwitch::Allow
            // A release is the way out of QUARANTINED.
            || (act.class != Class::Release && self.reaches_quarantine(scope))
            || overtaken()
    }

    /// The same of a command in flight.
    pub(in crate::decision) fn holds_flight(&self, flight: &Flight) -> bool {
        Act::of(&flight.kind_type, &flight.scope, self.rules()).is_some_and(|act| self.holds(&act))
    }
}
