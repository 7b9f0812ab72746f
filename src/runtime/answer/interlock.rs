//! Answers about the interlock: safety, challenges, and where bots and sessions are.
//!
//! Owns: the JSON of `/v1/safety` and `/v1/challenges`, and the interlock's part of an instance.
//! Never: tells what a challenged command holds; its hash and target say enough.
//! Holds: what is unknown is said to be unknown, and counts as the stronger.

use serde_json::{Value, json};

use super::View;
use crate::{
    contract::{
        interlock::{GateResult, KillSwitch, Life},
        routing::{ALL, Scope},
        timestamp::Timestamp,
    },
    decision::{
        command::{challenge::Challenge, flight::Flight},
        inventory::InstanceView,
    },
};

impl View<'_> {
    pub(super) fn safety(&self) -> Value {
        let safety = self.state.safety();
        let of = |swarm: &str| Scope::new(swarm, ALL, ALL);
        // A scope of no swarm has the setting for all, and nothing of any swarm's.
        let global = of("");
        let swarms: Vec<Value> = safety
            .swarms
            .keys()
            .map(|swarm| {
                json!({
                    "swarmId": swarm,
                    "mode": safety.mode(&of(swarm)),
                    "killSwitch": safety.kill_switch(&of(swarm)),
                })
            })
            .collect();
        json!({
            "global": { "mode": safety.mode(&global), "killSwitch": safety.kill_switch(&global) },
            "swarms": swarms,
            "gates": self.gates(),
            "latch": self.latch(),
            "clock": { "gapSeconds": self.state.clock_gap().map(|gap| gap / 1_000_000) },
            "identity": { "trustOrigin": self.state.rules().trust_origin },
            "monitoring": { "disabledUntil": self.ahead(safety.unmonitored.get("").copied()) },
        })
    }

    /// The strongest that applies anywhere, and what waits.
    pub(super) fn safety_totals(&self) -> Value {
        let safety = self.state.safety();
        let everything = Scope::new(ALL, ALL, ALL);
        let required = &self.state.rules().safety.gates_required;
        let not_passed = required
            .iter()
            .filter(|name| safety.gate(name, &everything, self.now) > GateResult::Warn)
            .count();
        json!({
            "mode": safety.mode(&everything),
            "killSwitch": safety.kill_switch(&everything),
            "challenges": self.state.challenged().filter(|flight| flight.awaits_confirmation()).count(),
            "gatesNotPassed": not_passed,
        })
    }

    fn gates(&self) -> Vec<Value> {
        let required = &self.state.rules().safety.gates_required;
        let gates = &self.state.safety().gates;
        let known = gates.iter().map(|((swarm, name), gate)| {
            json!({
                "gate": name,
                "scope": if swarm.is_empty() { ALL } else { swarm },
                "result": gate.says(self.now),
                "expiresAt": gate.result.map(|_| Timestamp::from_micros(gate.expires_at)),
                "reporter": gate.reporter,
                "required": required.contains(name),
                "disabledUntil": self.ahead(Some(gate.disabled_until)),
            })
        });
        let never = required.iter().filter(|name| !gates.keys().any(|(_, known)| known == *name));
        let never = never.map(|name| {
            json!({
                "gate": name, "scope": ALL, "result": "UNKNOWN", "expiresAt": null, "reporter": null,
                "required": true, "disabledUntil": null,
            })
        });
        known.chain(never).collect()
    }

    /// The strongest latch that was read.
    fn latch(&self) -> Value {
        let safety = self.state.safety();
        let swarms = safety.swarms.iter().map(|(swarm, setting)| (setting.latch, swarm.as_str()));
        let latched = std::iter::once((safety.global.latch, ALL)).chain(swarms);
        let strongest = latched.filter_map(|(level, scope)| level.map(|level| (level, scope)));
        let strongest: Option<(KillSwitch, &str)> = strongest.max_by_key(|(level, _)| *level);
        let Some((level, scope)) = strongest else { return Value::Null };
        let why = safety.latched.get(if scope == ALL { "" } else { scope });
        json!({
            "level": level, "scope": scope, "reason": why.map(|why| &why.reason),
            "since": why.map(|why| Timestamp::from_micros(why.since)),
        })
    }

    fn ahead(&self, until: Option<i64>) -> Option<Timestamp> {
        until.map(Timestamp::from_micros).filter(|until| self.now < *until)
    }

    pub(super) fn challenges(&self) -> Value {
        let open = self.state.challenged().filter(|flight| flight.awaits_confirmation());
        let open: Vec<Value> = open.filter_map(|flight| self.open(flight)).collect();
        let unreviewed = self.state.challenges_closed().filter(|(_, closed)| closed.unreviewed);
        let unreviewed: Vec<Value> = unreviewed
            .map(|(id, closed)| {
                json!({
                    "challengeId": id, "operation": closed.kind_type, "target": closed.scope.to_string(),
                    "requestedBy": closed.requester,
                })
            })
            .collect();
        json!({ "challenges": open, "toReview": unreviewed })
    }

    pub(super) fn challenge(&self, id: &str) -> Option<Value> {
        let mut named = self.state.challenged().filter(|flight| flight.awaits_confirmation());
        self.open(named.find(|flight| flight.challenge.as_ref().is_some_and(|open| open.id == id))?)
    }

    fn open(&self, flight: &Flight) -> Option<Value> {
        let challenge: &Challenge = flight.challenge.as_deref()?;
        let difference = flight.leads_to.map(|to| format!("{} -> {to}", self.state.life(&flight.scope)));
        let (effect, not_affected) = &challenge.effect;
        Some(json!({
            "challengeId": challenge.id,
            "operation": challenge.operation,
            "target": flight.scope.to_string(),
            "environment": self.about.environment,
            "requires": challenge.requires.word(),
            "requestedBy": flight.sender.principal,
            "requestedAt": Timestamp::from_micros(flight.accepted_at),
            "expiresAt": Timestamp::from_micros(challenge.expires_at),
            "effect": effect,
            "notAffected": not_affected,
            "difference": difference,
            "confirmedBy": challenge.confirmed_by,
            "command": flight.seq,
            "commandSha256": challenge.compared,
            "reason": challenge.reason(),
        }))
    }

    /// Where an instance is in its life: what is recorded of a bot, and what it says of itself where nothing is.
    pub(super) fn lifecycle(&self, view: &InstanceView) -> Value {
        match self.state.life(&view.scope) {
            Life::Created => json!(view.lifecycle),
            recorded => json!(recorded),
        }
    }

    pub(super) fn session(&self, worker: &Scope) -> Value {
        self.state.session(worker).map_or(Value::Null, |session| {
            json!({
                "epoch": session.epoch,
                "phase": session.phase,
                "since": Timestamp::from_micros(session.since),
            })
        })
    }
}
