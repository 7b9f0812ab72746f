//! The sections that bound the router: how much, and how long.
//!
//! Owns: limits of a body, memory of keys, fan-outs, the inventory, parking, deadlines, alerts and the tally of refusals,
//! with their defaults.
//! Never: checks a value; `check` does.
//! Holds: every bound says its unit in its name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    contract::command::{Answerer, Commands},
    decision::inventory,
};

/// Bounds on one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a body.
    pub body_bytes_max: usize,
    /// Levels of nesting.
    pub depth_max: usize,
    /// Values in a body.
    pub nodes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let crate::contract::Limits { body_bytes_max, depth_max, nodes_max } = Default::default();
        Self { body_bytes_max, depth_max, nodes_max }
    }
}

impl From<Limits> for crate::contract::Limits {
    fn from(limits: Limits) -> Self {
        let Limits { body_bytes_max, depth_max, nodes_max } = limits;
        Self { body_bytes_max, depth_max, nodes_max }
    }
}

/// The memory of command keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Idempotency {
    /// How long a key is remembered.
    pub window_ms: u64,
    /// How many keys are remembered.
    pub keys_max: usize,
}

impl Default for Idempotency {
    fn default() -> Self {
        Self { window_ms: 24 * 60 * 60 * 1000, keys_max: 1_000_000 }
    }
}

/// Commands and their fan-outs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CommandLimits {
    /// How many targets of a fan-out are recorded.
    pub targets_max: usize,
    /// How long what waited may take to be judged before anything times out.
    pub catch_up_ms: u64,
    /// Support bundles that were asked for and are under way, at most.
    pub bundles_max: usize,
}

impl Default for CommandLimits {
    fn default() -> Self {
        Self { targets_max: 10_000, catch_up_ms: 5_000, bundles_max: 4 }
    }
}

/// What is known of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Inventory {
    /// How many instances are known.
    pub instances_max: usize,
    /// After how much silence an instance is stale.
    pub stale_after_ms: u64,
    /// After how much silence it is lost.
    pub lost_after_ms: u64,
    /// After how much silence one that nobody expects is forgotten.
    pub forget_after_ms: u64,
    /// How many statuses in a row bring a silent instance back.
    pub back_after_count: usize,
}

impl Default for Inventory {
    fn default() -> Self {
        let limits = inventory::Limits::default();
        Self {
            instances_max: limits.instances_max,
            stale_after_ms: limits.stale_after_ms,
            lost_after_ms: limits.lost_after_ms,
            forget_after_ms: limits.forget_after_ms,
            back_after_count: limits.back_after_count,
        }
    }
}

/// Commands that wait for absent targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parking {
    /// How many wait for one target.
    pub target_max: usize,
    /// How many wait in all.
    pub total_max: usize,
    /// How large their bodies may be together, in bytes, with those that wait for a confirmation.
    pub bytes_max: usize,
}

impl Default for Parking {
    fn default() -> Self {
        Self { target_max: 64, total_max: 10_000, bytes_max: 32 * 1024 * 1024 }
    }
}

/// Messages that the broker rejects or does not confirm: they are in the ledger's outbox and in memory, and tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outbox {
    /// How many wait for one target.
    pub target_max: usize,
    /// How many wait in all, for each way out.
    pub total_max: usize,
    /// How large their bodies may be together, in bytes, for each way out.
    pub bytes_max: usize,
    /// How often a message without an entry, such as a copy of a counted refusal, is tried.
    pub unrecorded_attempts_max: u32,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { target_max: 1_000, total_max: 10_000, bytes_max: 16 * 1024 * 1024, unrecorded_attempts_max: 5 }
    }
}

impl From<Outbox> for crate::runtime::dispatch::Limits {
    fn from(outbox: Outbox) -> Self {
        let Outbox { target_max, total_max, bytes_max, .. } = outbox;
        Self { target_max, total_max, bytes_max }
    }
}

/// Statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// How often one is tried that the broker rejects.
    pub attempts_max: u32,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { attempts_max: 2 }
    }
}

/// Observe mode: what the broker keeps of it while the router does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Observe {
    /// How many bytes of bodies wait to be judged; beyond, the oldest are dropped.
    pub queue_bytes_max: u64,
    /// How many bytes of what was dropped are kept to be counted.
    pub dropped_bytes_max: u64,
}

impl Default for Observe {
    fn default() -> Self {
        Self { queue_bytes_max: 64 * 1024 * 1024, dropped_bytes_max: 128 * 1024 * 1024 }
    }
}

/// How long a command of each built-in type waits for its outcome: `<type>_ms`, the type's dashes as `_`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, transparent)]
pub struct Deadlines(pub BTreeMap<String, u64>);

impl Default for Deadlines {
    fn default() -> Self {
        let commands = Commands::default();
        let waiting = commands.iter().filter(|row| row.answered_by != Answerer::Router);
        Self(waiting.filter_map(|row| Some((Self::key(&row.kind_type), row.deadline_ms?))).collect())
    }
}

impl Deadlines {
    fn key(kind_type: &str) -> String {
        format!("{}_ms", kind_type.replace('-', "_"))
    }

    /// The deadline of a type, where it is set here.
    pub fn of(&self, kind_type: &str) -> Option<u64> {
        self.0.get(&Self::key(kind_type)).copied()
    }
}

/// The router's own alerts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// How long the same alert is not raised again.
    pub dedupe_ms: u64,
    /// How many leave in a second.
    pub per_second_max: u32,
}

impl Default for Alerts {
    fn default() -> Self {
        Self { dedupe_ms: 60_000, per_second_max: 10 }
    }
}

/// The tally of refusals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Refusals {
    /// How many (sender, code) pairs are tallied apart within a second.
    pub senders_max: usize,
    /// How many refusals of dangerous commands and consents have an entry each, of one sender and code in a second.
    pub entries_per_second_max: u64,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { senders_max: 10_000, entries_per_second_max: 200 }
    }
}
