//! The sections that bound the router: how much, and how long.
//!
//! Owns: limits of a body, memory of keys and of the rest, fan-outs, the inventory, parking, the
//! outbox, alerts and the tally of refusals: each key with its default, its bounds and its meaning.
//! Never: checks a value; `check` does.
//! Holds: every bound says its unit in its name.

use serde::{Deserialize, Serialize};

use super::section::{DAY_MS, GIB, KeyKind::Whole, MIB, section};
use crate::{
    contract::{self, strict::LEXER_DEPTH_MAX},
    decision::rules::{self, Rules, inventory},
    view::PAGE_MAX,
};

section! {
    /// Bounds on one body.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct BodySettings at "limits." {
        body_bytes_max: usize = contract::Limits::default().body_bytes_max, Whole(1024, 16 * MIB),
            "Bytes of one body; more is `contract.too-large`.";
        depth_max: usize = contract::Limits::default().depth_max, Whole(4, LEXER_DEPTH_MAX as u64),
            "Levels of nesting in a body; more is `contract.too-deep`.";
        nodes_max: usize = contract::Limits::default().nodes_max, Whole(100, 1_000_000),
            "Values in a body; more is `contract.too-deep`.";
    }
}

impl From<BodySettings> for crate::contract::Limits {
    fn from(limits: BodySettings) -> Self {
        let BodySettings { body_bytes_max, depth_max, nodes_max } = limits;
        Self { body_bytes_max, depth_max, nodes_max }
    }
}

section! {
    /// The memory of command keys.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Idempotency at "idempotency." {
        window_ms: u64 = Rules::default().idempotency_window_ms, Whole(1_000, 30 * DAY_MS),
            "How long a command key is remembered.";
        keys_max: usize = Rules::default().idempotency_keys_max, Whole(1_000, 100_000_000),
            "How many command keys are remembered (120 bytes each).";
    }
}

section! {
    /// How much is remembered, where nothing else bounds it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct MemorySettings at "memory." {
        flights_max: usize = rules::Memory::default().flights_max, Whole(1, 10_000_000),
            "How many commands are in flight (2 KiB each); beyond, one is refused, and a stop is published and not waited for.";
        stops_max: usize = rules::Memory::default().stops_max, Whole(1, 10_000_000),
            "How many targets' stops are remembered (200 bytes each); beyond, a stop counts for its whole swarm, then for all.";
        texts_bytes_max: usize = rules::Memory::default().texts_bytes_max, Whole(1024, 16 * GIB),
            "Bytes of what commands in flight say; beyond, a dangerous one is refused, and what a config-update changes is unknown.";
        targets_max: usize = rules::Memory::default().targets_max, Whole(1, 100_000_000),
            "How many targets of all commands in flight are recorded; more are published to all the same.";
        applied_bytes_max: usize = rules::Memory::default().applied_bytes_max, Whole(1024, 16 * GIB),
            "Bytes of the config patches that instances applied; beyond, what one should be configured like is unknown.";
        challenges_max: usize = rules::Memory::default().challenges_max, Whole(1, 10_000_000),
            "How many challenges are remembered, open or over; beyond, a dangerous command is refused.";
        unreviewed_max: usize = rules::Memory::default().unreviewed_max, Whole(1, 1_000_000),
            "How many uses of break-glass may wait for their review; beyond, break-glass is refused.";
        gates_max: usize = rules::Memory::default().gates_max, Whole(1, 1_000_000),
            "How many readiness gates are remembered, over all swarms; a further one's report is refused.";
        swarms_max: usize = rules::Memory::default().swarms_max, Whole(1, 1_000_000),
            "How many swarms have a safety setting of their own; what tightens a further one tightens all, what loosens one is refused.";
        approvals_max: usize = rules::Memory::default().approvals_max, Whole(1, 1_000_000),
            "How many standing approvals' uses are counted; a further one stands for nobody.";
        suspended_max: usize = rules::Memory::default().suspended_max, Whole(1, 10_000_000),
            "How many senders' starts are suspended; beyond, nobody starts anything.";
        counted_max: usize = rules::Memory::default().counted_max, Whole(1, 10_000_000),
            "How many senders, and swarms, the interlocks count apart within a window; more are not counted.";
        alerts_max: usize = rules::Memory::default().alerts_max, Whole(1, 1_000_000),
            "How many alerts are not raised again for `alerts.dedupe_ms`; beyond, the oldest is forgotten.";
    }
}

impl From<MemorySettings> for rules::Memory {
    fn from(memory: MemorySettings) -> Self {
        let MemorySettings {
            flights_max,
            stops_max,
            texts_bytes_max,
            targets_max,
            applied_bytes_max,
            challenges_max,
            unreviewed_max,
            gates_max,
            swarms_max,
            approvals_max,
            suspended_max,
            counted_max,
            alerts_max,
        } = memory;
        Self {
            flights_max,
            stops_max,
            texts_bytes_max,
            targets_max,
            applied_bytes_max,
            challenges_max,
            unreviewed_max,
            gates_max,
            swarms_max,
            approvals_max,
            suspended_max,
            counted_max,
            alerts_max,
        }
    }
}

section! {
    /// Commands and their fan-outs.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct CommandLimits at "commands." {
        targets_max: usize = Rules::default().targets_max, Whole(1, 1_000_000),
            "How many targets of one fan-out are recorded; more are published to all the same.";
        bundles_max: usize = 4, Whole(1, 100),
            "How many support bundles that were asked for may be under way; they are made one after another, and more are refused.";
        catch_up_ms: u64 = Rules::default().catch_up_ms, Whole(0, 600_000),
            "How long what waited during an outage may take to be decided before anything times out.";
    }
}

section! {
    /// What is known of the fleet.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Inventory at "inventory." {
        instances_max: usize = inventory::InventoryLimits::default().instances_max, Whole(1, 10_000_000),
            "How many instances are known (1 KiB each).";
        stale_after_ms: u64 = inventory::InventoryLimits::default().stale_after_ms, Whole(100, DAY_MS),
            "After how much silence an instance is stale.";
        lost_after_ms: u64 = inventory::InventoryLimits::default().lost_after_ms, Whole(100, DAY_MS),
            "After how much silence it is lost.";
        forget_after_ms: u64 = inventory::InventoryLimits::default().forget_after_ms, Whole(1_000, 365 * DAY_MS),
            "After how much silence one that nobody expects is forgotten.";
        back_after_count: usize = inventory::InventoryLimits::default().back_after_count, Whole(1, 1_000),
            "How many statuses in a row bring a silent instance back, where no full one does.";
    }
}

section! {
    /// Commands that wait for absent targets.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Parking at "parking." {
        target_max: usize = Rules::default().parking_target_max, Whole(1, 100_000),
            "How many commands wait for one absent target; beyond, the oldest ends.";
        total_max: usize = Rules::default().parking_total_max, Whole(1, 10_000_000),
            "How many commands wait for absent targets in all.";
        bytes_max: usize = Rules::default().parking_bytes_max, Whole(1024, GIB),
            "How large the bodies of commands that wait for absent targets may be together, in bytes; beyond, the oldest ends.";
    }
}

section! {
    /// Messages that the broker rejects or does not confirm: they are in the ledger's outbox and in
    /// memory, and tried again.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Outbox at "outbox." {
        target_max: usize = 1_000, Whole(1, 100_000),
            "How many messages that the broker does not take wait for one target; beyond, the newest is given up and waits for its target.";
        total_max: usize = 10_000, Whole(1, 1_000_000),
            "How many messages that the broker does not take wait in all, for each way out; beyond, some are given up, stops of proven senders last.";
        bytes_max: usize = 16 * 1024 * 1024, Whole(1024, GIB),
            "How large the bodies of messages that the broker does not take may be together, in bytes, for each way out; beyond, likewise.";
        unrecorded_attempts_max: u32 = 5, Whole(1, 1_000),
            "How often a message without an entry of its own is published that the broker does not take; then it is dropped and counted.";
    }
}

section! {
    /// Statuses.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Metrics at "metrics." {
        attempts_max: u32 = 2, Whole(1, 1_000),
            "How often a status is published that the broker does not take; then it is dropped and counted.";
    }
}

section! {
    /// The router's own status.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct StatusSettings at "status." {
        full_every_ms: u64 = 60_000, Whole(5_000, DAY_MS),
            "How often the router says its own status in full; between, a delta every 5 s.";
    }
}

section! {
    /// Observe mode: what the broker keeps of it while the router does not read.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Observe at "observe." {
        queue_bytes_max: u64 = 64 * MIB, Whole(MIB, 16 * GIB),
            "Observe mode: bytes of bodies that wait at the broker to be decided; beyond, the oldest are dropped and counted.";
        dropped_bytes_max: u64 = 128 * MIB, Whole(MIB, 16 * GIB),
            "Observe mode: bytes of what was dropped that the broker keeps until it is counted; beyond, the count is a lower bound.";
        patterns_max: usize = 500, Whole(10, 10_000),
            "Observe mode: key patterns that are told apart; beyond, a key is told by its first word, or under `#`.";
        siblings_max: usize = 16, Whole(2, 1_000),
            "Observe mode: words in one place of a foreign key that are told apart; beyond, `*` stands for all of them.";
        senders_max: usize = 200, Whole(1, 10_000),
            "Observe mode: senders that are told apart; beyond, they are told as `others`.";
        rows_max: usize = 1_000, Whole(10, PAGE_MAX as u64),
            "Observe mode: rows of the report, one a sender and key pattern; beyond, `others` under `#`.";
        example_bytes_max: usize = 2_048, Whole(16, 65_536),
            "Observe mode: bytes that are kept of the body of an example; the rest of it is cut off.";
        records_bytes_max: u64 = GIB, Whole(4_096, 1_024 * GIB),
            "Observe mode: bytes of the file that `--records` names; beyond, messages are left out of it and counted.";
    }
}

section! {
    /// The router's own alerts.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Alerts at "alerts." {
        dedupe_ms: u64 = Rules::default().alerts_dedupe_ms, Whole(0, DAY_MS),
            "How long the same alert is not raised again.";
        per_second_max: u32 = Rules::default().alerts_per_second_max, Whole(1, 10_000),
            "How many of the router's own alerts leave in a second.";
    }
}

section! {
    /// The tally of refusals.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Refusals at "refusals." {
        senders_max: usize = Rules::default().refusals_senders_max, Whole(1, 1_000_000),
            "How many pairs of sender and code are tallied apart within a second.";
        entries_per_second_max: u64 = Rules::default().refusals_entries_per_second_max, Whole(1, 1_000_000),
            "How many refusals of dangerous commands and consents have an entry each, of one sender and code in a second.";
    }
}
