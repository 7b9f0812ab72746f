//! The settings as the gates judge by them.
//!
//! Owns: which key becomes which rule.
//! Never: fills in a default; the sections have.
//! Holds: every rule is named, so that a new one cannot be left at its default unseen.

use std::sync::Arc;

use super::load::Loaded;
use crate::decision::rules::{Rules, inventory};

impl Loaded {
    /// What the gates need of it.
    pub fn rules(&self) -> Rules {
        let config = &self.config;
        Rules {
            commands: Arc::new(
                self.contract.commands.with_deadlines(|kind_type| config.deadlines.of(kind_type)),
            ),
            mode: config.mode,
            instance: config.instance.clone(),
            idempotency_window_ms: config.idempotency.window_ms,
            idempotency_keys_max: config.idempotency.keys_max,
            memory: config.memory.into(),
            inventory: inventory::InventoryLimits {
                instances_max: config.inventory.instances_max,
                stale_after_ms: config.inventory.stale_after_ms,
                lost_after_ms: config.inventory.lost_after_ms,
                forget_after_ms: config.inventory.forget_after_ms,
                back_after_count: config.inventory.back_after_count,
                skew_max_ms: config.skew_max_ms,
                ..inventory::InventoryLimits::default()
            },
            targets_max: config.commands.targets_max,
            parking_target_max: config.parking.target_max,
            parking_total_max: config.parking.total_max,
            parking_bytes_max: config.parking.bytes_max,
            catch_up_ms: config.commands.catch_up_ms,
            trust_origin: config.identity.trust_origin,
            consent: config.consent.rules(config.environment),
            safety: config.safety.rules(&config.interlocks),
            session_lost_after_ms: config.session.lost_after_ms,
            lost_live_after_ms: config.lifecycle.lost_live_after_ms,
            mismatches_max: config.lifecycle.mismatches_max,
            refusals_entries_per_second_max: config.refusals.entries_per_second_max,
            refusals_senders_max: config.refusals.senders_max,
            alerts_dedupe_ms: config.alerts.dedupe_ms,
            alerts_per_second_max: config.alerts.per_second_max,
        }
    }
}
