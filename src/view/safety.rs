//! Safety modes, kill switches, readiness gates and the latch: `/api/v1/safety`.
//!
//! Owns: what is in force for all and for each swarm, as it is shown.
//! Never: takes what is not known for well.
//! Holds: modes and switches are the strongest that apply; the answer is
//! schemas/safety-state.schema.json, and its gates are schemas/gate-results.schema.json.

use std::iter;

use serde::{Deserialize, Serialize};

use super::lenient::{text, time};
use crate::{
    contract::{
        interlock::GateResult,
        routing::{ALL, Scope},
        timestamp::Timestamp,
    },
    decision::state::{State, safety},
};

/// Safety modes, kill switches and readiness gates.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Safety {
    pub clock: ClockGap,
    pub gates: Vec<Gate>,
    pub global: Setting,
    pub identity: Identity,
    pub latch: Option<Latched>,
    pub monitoring: Monitoring,
    pub swarms: Vec<Setting>,
}

/// How far the router's time is ahead of the clock, where they do not agree.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClockGap {
    pub gap_seconds: Option<i64>,
}

/// One readiness gate.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gate {
    #[serde(deserialize_with = "time")]
    pub disabled_until: Option<Timestamp>,
    #[serde(deserialize_with = "time")]
    pub expires_at: Option<Timestamp>,
    /// Whether it has failed and nobody has cleared that, whatever it says now.
    pub failed: Option<bool>,
    pub gate: String,
    pub reporter: Option<String>,
    pub required: Option<bool>,
    pub result: Option<String>,
    #[serde(deserialize_with = "text")]
    pub scope: Option<String>,
}

/// How senders are known.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Identity {
    pub trust_origin: bool,
}

/// The latch file, as the router read it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Latched {
    pub level: Option<String>,
    pub reason: Option<String>,
    #[serde(deserialize_with = "text")]
    pub scope: Option<String>,
    #[serde(deserialize_with = "time")]
    pub since: Option<Timestamp>,
}

/// Whether the fleet is watched.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Monitoring {
    #[serde(deserialize_with = "time")]
    pub disabled_until: Option<Timestamp>,
}

/// What holds somewhere: the strongest that applies.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Setting {
    pub kill_switch: Option<String>,
    pub mode: Option<String>,
    /// Absent of what holds for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swarm_id: Option<String>,
}

impl Safety {
    pub fn new(state: &State, now: Timestamp) -> Self {
        let safety = state.safety();
        let setting = |swarm: &str| {
            let scope = Scope::new(swarm, ALL, ALL);
            Setting {
                kill_switch: Some(safety.kill_switch(&scope).to_string()),
                mode: Some(safety.mode(&scope).to_string()),
                swarm_id: Some(swarm.to_owned()).filter(|swarm| !swarm.is_empty()),
            }
        };
        let unmonitored = safety.unmonitored.get("").copied();
        Self {
            clock: ClockGap { gap_seconds: state.clock_gap().map(|gap| gap / 1_000_000) },
            gates: gates(state, now),
            // A scope of no swarm has the setting for all, and nothing of any swarm's.
            global: setting(""),
            identity: Identity { trust_origin: state.rules().trust_origin },
            latch: Latched::strongest(safety),
            monitoring: Monitoring { disabled_until: unmonitored.and_then(|until| ahead(until, now)) },
            swarms: safety.swarms.keys().map(|swarm| setting(swarm)).collect(),
        }
    }

    /// What holds for that swarm, or for the fleet; a swarm without its own inherits the global
    /// one.
    pub fn of(&self, swarm: Option<&str>) -> &Setting {
        self.swarms
            .iter()
            .find(|own| own.swarm_id.is_some() && own.swarm_id.as_deref() == swarm)
            .unwrap_or(&self.global)
    }
}

/// Those that were reported or disabled, and those that are required and were not.
fn gates(state: &State, now: Timestamp) -> Vec<Gate> {
    let (gates, required) = (&state.safety().gates, &state.rules().safety.gates_required);
    let known = gates.iter().map(|((swarm, name), gate)| Gate {
        disabled_until: ahead(gate.disabled_until, now),
        expires_at: gate.result.map(|_| Timestamp::from_micros(gate.expires_at)),
        failed: Some(gate.has_failed()),
        gate: name.clone(),
        reporter: Some(gate.reporter.clone()),
        required: Some(required.contains(name)),
        result: Some(gate.result_at(now).to_string()),
        scope: Some(if swarm.is_empty() { ALL } else { swarm }.to_owned()),
    });
    let never = required.iter().filter(|name| !gates.keys().any(|(_, known)| known == *name));
    let never = never.map(|name| Gate {
        failed: Some(false),
        gate: name.clone(),
        required: Some(true),
        result: Some(GateResult::Unknown.to_string()),
        scope: Some(ALL.to_owned()),
        ..Gate::default()
    });
    known.chain(never).collect()
}

impl Latched {
    /// The strongest latch that was read.
    fn strongest(safety: &safety::Safety) -> Option<Self> {
        let swarms = safety.swarms.iter().map(|(swarm, setting)| (setting.latch, swarm.as_str()));
        let latched = iter::once((safety.global.latch, ALL)).chain(swarms);
        let latched = latched.filter_map(|(level, scope)| level.map(|level| (level, scope)));
        let (level, scope) = latched.max_by_key(|(level, _)| *level)?;
        let why = safety.latched.get(if scope == ALL { "" } else { scope });
        Some(Self {
            level: Some(level.to_string()),
            reason: why.map(|why| why.reason.clone()),
            scope: Some(scope.to_owned()),
            since: why.map(|why| Timestamp::from_micros(why.since)),
        })
    }
}

fn ahead(until: i64, now: Timestamp) -> Option<Timestamp> {
    Some(Timestamp::from_micros(until)).filter(|until| now < *until)
}
