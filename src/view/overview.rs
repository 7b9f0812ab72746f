//! The router itself, and totals: `/api/v1/overview`.
//!
//! Owns: its shape, and the totals that the state has.
//! Never: measures; what the process and the broker say is filled in by the runtime.
//! Holds: `safety` is the strongest that applies anywhere.

use serde::{Deserialize, Serialize};

use crate::{
    contract::{
        interlock::GateResult,
        routing::{ALL, Scope},
        timestamp::Timestamp,
    },
    decision::state::{State, inventory::SwarmView},
};

/// The router itself, and totals.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Overview {
    pub broker: BrokerState,
    pub commands: CommandTotals,
    pub environment: String,
    pub instance: String,
    pub inventory: InventoryTotals,
    pub lanes: Vec<LaneTotals>,
    pub ledger: LedgerTotals,
    pub mode: String,
    pub refusals: Vec<Refusals>,
    pub safety: SafetyTotals,
    pub uptime_ms: i64,
    pub version: String,
}

/// The broker in an overview.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BrokerState {
    pub address: Option<String>,
    pub blocked: bool,
    pub connected: bool,
}

/// Commands in an overview.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CommandTotals {
    pub in_flight: usize,
    pub parked: usize,
}

/// The inventory in an overview.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InventoryTotals {
    pub fresh: usize,
    pub instances: usize,
    pub lost: usize,
    pub overflow: u64,
    pub stale: usize,
    pub swarms: usize,
}

/// One lane in an overview.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LaneTotals {
    pub depth: i64,
    pub forwarded: u64,
    pub in_flight: i64,
    pub lane: String,
    pub parked: u64,
    pub refused: u64,
    pub suppressed: u64,
}

/// The ledger in an overview.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LedgerTotals {
    pub bytes: i64,
    pub keys: usize,
    pub seq: u64,
    pub wal_bytes: i64,
    pub writable: bool,
}

/// How often a reason was given.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Refusals {
    pub code: String,
    pub count: u64,
}

/// The interlock in an overview.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SafetyTotals {
    pub challenges: usize,
    pub gates_not_passed: usize,
    pub kill_switch: String,
    pub mode: String,
}

impl CommandTotals {
    pub fn new(state: &State) -> Self {
        Self { in_flight: state.commands_in_flight(), parked: state.commands_parked() }
    }
}

impl InventoryTotals {
    pub fn new(state: &State) -> Self {
        let inventory = state.inventory();
        let swarms = inventory.swarms();
        let sum = |of: fn(&SwarmView) -> usize| swarms.iter().map(of).sum();
        Self {
            fresh: sum(|swarm| swarm.totals.fresh),
            instances: inventory.instances_count(),
            lost: sum(|swarm| swarm.totals.lost),
            overflow: inventory.overflow_count(),
            stale: sum(|swarm| swarm.totals.stale),
            swarms: swarms.len(),
        }
    }
}

impl SafetyTotals {
    pub fn new(state: &State, now: Timestamp) -> Self {
        let (safety, everything) = (state.safety(), Scope::new(ALL, ALL, ALL));
        let required = state.rules().safety.gates_required.iter();
        Self {
            challenges: state.challenges_open(),
            gates_not_passed: required
                .filter(|name| safety.gate(name, &everything, now) > GateResult::Warn)
                .count(),
            kill_switch: safety.kill_switch(&everything).to_string(),
            mode: safety.mode(&everything).to_string(),
        }
    }
}
