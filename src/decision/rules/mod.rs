//! The settings that judging needs.
//!
//! Owns: the numbers and names that a deployment may set for the gates.
//! Never: read from a file here; the runtime hands them in.
//! Holds: every limit has its unit in its name.

pub mod consent;
pub mod interlocks;
pub mod inventory;
pub mod lifecycle;
pub mod looser;
pub mod words;

use std::{collections::BTreeMap, sync::Arc};

use crate::contract::{
    audit::Mode,
    command::{Answerer, Commands},
    routing::{RoutingKey, Scope},
    timestamp::Timestamp,
};

/// What a deployment sets for the gates.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The command table.
    pub commands: Arc<Commands>,
    /// Whether the router acts or only looks.
    pub mode: Mode,
    /// The router's own instance name.
    pub instance: String,
    /// How long a command key is remembered, from its first sighting.
    pub idempotency_window_ms: u64,
    /// How many command keys are remembered at most.
    pub idempotency_keys_max: usize,
    /// How much is remembered at most, where nothing else bounds it.
    pub memory: Memory,
    /// How many targets of a fan-out are recorded at most.
    pub targets_max: usize,
    /// How many commands may wait for one absent target.
    pub parking_target_max: usize,
    /// How many may wait in all.
    pub parking_total_max: usize,
    /// How large the bodies of all messages that wait may be together, in bytes.
    pub parking_bytes_max: usize,
    /// How long what waited on the broker may take to be decided, after an outage, before anything
    /// times out.
    pub catch_up_ms: u64,
    /// Whether a sender that only `origin` names may do what takes a proof; never outside
    /// `environment: dev`.
    pub trust_origin: bool,
    /// What takes a confirmation, and whose.
    pub consent: consent::Consent,
    /// Readiness gates and interlocks.
    pub safety: SafetyRules,
    /// For how long nothing may be heard of a worker before its session is lost.
    pub session_lost_after_ms: u64,
    /// For how long nothing may be heard of a bot that runs live.
    pub lost_live_after_ms: u64,
    /// How many times, within an interlock's window, a sender may disagree with the scope of a bot
    /// that runs live.
    pub mismatches_max: u64,
    /// The bounds and timers of the inventory.
    pub inventory: inventory::InventoryLimits,
    /// How many (sender, code) pairs are tallied apart within a second; more share one tally a
    /// code.
    pub refusals_senders_max: usize,
    /// How many refusals of dangerous commands and consents have an entry each, of one sender and
    /// code in a second.
    pub refusals_entries_per_second_max: u64,
    /// For how long the same alert is not raised again.
    pub alerts_dedupe_ms: u64,
    /// How many alerts leave in one second at most.
    pub alerts_per_second_max: u32,
}

/// What a deployment sets for gate 9.
#[derive(Clone, Debug)]
pub struct SafetyRules {
    /// The readiness gates that starts and config-updates consult.
    pub gates_required: Vec<String>,
    /// Who reports a gate, where that is one only.
    pub gate_reporters: BTreeMap<String, String>,
    /// How long a report counts at most.
    pub gate_ttl_ms: u64,
    /// How long a gate or the monitoring may be switched off at most.
    pub disable_ms_max: u64,
    /// What raises the mode by itself.
    pub interlocks: interlocks::Interlocks,
}

/// How much is remembered at most. A decision says in its facts what there was no room for, so that
/// a fold needs none of these: what is in a ledger means the same under any other bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Commands in flight.
    pub flights_max: usize,
    /// Stops of different targets; a tenth more of whole swarms.
    pub stops_max: usize,
    /// Bytes of what commands in flight say: config patches and the texts of challenged commands.
    pub texts_bytes_max: usize,
    /// Targets of all commands in flight.
    pub targets_max: usize,
    /// Bytes of the config patches that instances applied.
    pub applied_bytes_max: usize,
    /// Challenges, open and over.
    pub challenges_max: usize,
    /// Uses of break-glass that nobody has reviewed.
    pub unreviewed_max: usize,
    /// Readiness gates, over all swarms.
    pub gates_max: usize,
    /// Swarms with a safety setting of their own; as many whose alerts are off, and whose
    /// quarantine is the whole swarm's.
    pub swarms_max: usize,
    /// Standing approvals whose uses are counted.
    pub approvals_max: usize,
    /// Senders whose starts are suspended.
    pub suspended_max: usize,
    /// Senders, and swarms, that interlocks count apart within a window.
    pub counted_max: usize,
    /// Alerts that are not raised again for `alerts.dedupe_ms`.
    pub alerts_max: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            flights_max: 40_000,
            stops_max: 100_000,
            texts_bytes_max: 64 * 1024 * 1024,
            targets_max: 1_000_000,
            applied_bytes_max: 64 * 1024 * 1024,
            challenges_max: 100_000,
            unreviewed_max: 1_000,
            gates_max: 4_096,
            swarms_max: 10_000,
            approvals_max: 10_000,
            suspended_max: 100_000,
            counted_max: 10_000,
            alerts_max: 10_000,
        }
    }
}

impl Default for SafetyRules {
    fn default() -> Self {
        Self {
            gates_required: Vec::new(),
            gate_reporters: BTreeMap::new(),
            gate_ttl_ms: 300_000,
            disable_ms_max: 3_600_000,
            interlocks: interlocks::Interlocks::default(),
        }
    }
}

impl Rules {
    /// Whether a status is what the sender of a command of that type wanted.
    pub fn is_success(&self, kind_type: &str, status: &str) -> bool {
        self.commands.get(kind_type).is_some_and(|row| row.success.iter().any(|wanted| wanted == status))
    }

    /// Whether a command of that type goes to its target, and is not the router's alone to answer.
    pub(in crate::decision) fn is_carried(&self, kind_type: &str) -> bool {
        self.commands.get(kind_type).is_some_and(|row| row.answered_by != Answerer::Router)
    }

    /// Until when a command waits for its outcome; `None` for what is answered at once or never.
    pub(in crate::decision) fn deadline(&self, key: &RoutingKey, now: Timestamp) -> Option<Timestamp> {
        let row = self.commands.get(&key.kind_type)?;
        // What the router acknowledges is answered at once, and what it answers alone has a
        // deadline only where it takes time.
        let waits = row.answered_by != Answerer::RouterAndTarget;
        let waits =
            waits && (row.answered_by == Answerer::Router || key.scope != Scope::router(&self.instance));
        row.deadline_ms.filter(|_| waits).map(|deadline_ms| now.plus_ms(deadline_ms))
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            commands: Arc::new(Commands::default()),
            mode: Mode::Enforce,
            instance: "gate-1".to_owned(),
            idempotency_window_ms: 24 * 60 * 60 * 1000,
            idempotency_keys_max: 1_000_000,
            memory: Memory::default(),
            targets_max: 10_000,
            parking_target_max: 64,
            parking_total_max: 10_000,
            parking_bytes_max: 32 * 1024 * 1024,
            catch_up_ms: 5_000,
            trust_origin: false,
            consent: consent::Consent::default(),
            safety: SafetyRules::default(),
            session_lost_after_ms: 60_000,
            lost_live_after_ms: 300_000,
            mismatches_max: 3,
            inventory: inventory::InventoryLimits::default(),
            refusals_senders_max: 10_000,
            refusals_entries_per_second_max: 200,
            alerts_dedupe_ms: 60_000,
            alerts_per_second_max: 10,
        }
    }
}
