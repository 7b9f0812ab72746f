//! Actions: what was done, in one word each.
//!
//! Owns: the closed list of actions and their words in the ledger.
//! Never: says what an action does to the state; a fact's change does.
//! Holds: a word that was written once keeps its meaning for ever.

use serde::{Deserialize, Serialize};

/// What was done, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// The first entry of a ledger.
    #[serde(rename = "ledger.genesis")]
    Genesis,
    /// A router opened the ledger for writing: a new epoch.
    #[serde(rename = "ledger.opened")]
    Opened,
    /// The ledger was set back to an older copy.
    #[serde(rename = "ledger.set-back")]
    SetBack,
    /// The router was started with looser settings than before.
    #[serde(rename = "settings.loosened")]
    SettingsLoosened,
    /// The router was started with stricter settings than before.
    #[serde(rename = "settings.tightened")]
    SettingsTightened,
    /// What was written has been carried.
    #[serde(rename = "controlplane.carried")]
    Carried,
    /// A signal asks for something.
    #[serde(rename = "controlplane.command.requested")]
    Requested,
    /// A signal was refused.
    #[serde(rename = "controlplane.command.denied")]
    Denied,
    /// The target did what a command asks, or failed at it; or the router did, whose own it was.
    #[serde(rename = "controlplane.command.applied")]
    Applied,
    /// A command ended without its target's word, or not by all of them: timed out, partial,
    /// superseded.
    #[serde(rename = "controlplane.command.ended")]
    Ended,
    /// A target gave its first sign of a command.
    #[serde(rename = "controlplane.command.observed")]
    Observed,
    /// A command waits for its target.
    #[serde(rename = "controlplane.command.parked")]
    Parked,
    /// A command that waited is on its way again.
    #[serde(rename = "controlplane.command.released")]
    Released,
    /// What is believed of an instance has changed: it appeared, is stale, lost or back, or is
    /// forgotten.
    #[serde(rename = "inventory.changed")]
    InventoryChanged,
    /// The router consumes again after it could not.
    #[serde(rename = "runtime.resumed")]
    Resumed,
    /// The clock and the ledger do not agree, or they do again.
    #[serde(rename = "clock.compared")]
    ClockCompared,
    /// A person let the router go on from the clock, before the ledger's last entry or long after
    /// it.
    #[serde(rename = "clock.stepped")]
    ClockStepped,
    /// An outcome or alert that ends nothing was carried.
    #[serde(rename = "controlplane.event.recorded")]
    Recorded,
    /// A repeat was recognised; it has no second effect.
    #[serde(rename = "duplicate_suppressed")]
    DuplicateSuppressed,
    /// Gates 1 and 2 refused.
    #[serde(rename = "contract.violation")]
    ContractViolation,
    /// Gate 3 refused, or a later gate refused what is not a signal.
    #[serde(rename = "access.denied")]
    AccessDenied,
    /// Observe mode: judged and recorded, nothing else.
    #[serde(rename = "seen")]
    Seen,
    /// Bots moved in their lives.
    #[serde(rename = "bot.state.transition")]
    BotMoved,
    /// Control sessions came to a phase.
    #[serde(rename = "session.transition")]
    SessionMoved,
    /// The safety mode was set.
    #[serde(rename = "safety.transition")]
    SafetySet,
    /// The kill switch was set.
    #[serde(rename = "execution.killswitch.set")]
    KillSwitchSet,
    /// A readiness gate reported, or is asked or not asked from now on.
    #[serde(rename = "gate.record")]
    GateSet,
    /// The router's alerts are asked for, or not.
    #[serde(rename = "monitoring.set")]
    MonitoringSet,
    /// A dangerous command waits for its confirmation.
    #[serde(rename = "dangerous_op.challenge")]
    Challenged,
    /// Somebody confirmed it.
    #[serde(rename = "dangerous_op.confirm")]
    Confirmed,
    /// Somebody rejected it, or nobody confirmed it in time, or somebody confirmed who may not.
    #[serde(rename = "dangerous_op.reject")]
    Rejected,
    /// A use of break-glass waits for its review, or was reviewed.
    #[serde(rename = "dangerous_op.review")]
    Review,
    /// A support bundle was made.
    #[serde(rename = "support_bundle.created")]
    BundleCreated,
    /// An interlock has fired, or a principal may start nothing for a time.
    #[serde(rename = "interlock.fired")]
    InterlockFired,
}

impl Action {
    /// The word in the ledger.
    pub fn word(self) -> &'static str {
        match self {
            Self::Genesis => "ledger.genesis",
            Self::Opened => "ledger.opened",
            Self::SetBack => "ledger.set-back",
            Self::SettingsLoosened => "settings.loosened",
            Self::SettingsTightened => "settings.tightened",
            Self::Carried => "controlplane.carried",
            Self::Requested => "controlplane.command.requested",
            Self::Denied => "controlplane.command.denied",
            Self::Applied => "controlplane.command.applied",
            Self::Ended => "controlplane.command.ended",
            Self::Observed => "controlplane.command.observed",
            Self::Parked => "controlplane.command.parked",
            Self::Released => "controlplane.command.released",
            Self::InventoryChanged => "inventory.changed",
            Self::Resumed => "runtime.resumed",
            Self::ClockCompared => "clock.compared",
            Self::ClockStepped => "clock.stepped",
            Self::Recorded => "controlplane.event.recorded",
            Self::DuplicateSuppressed => "duplicate_suppressed",
            Self::ContractViolation => "contract.violation",
            Self::AccessDenied => "access.denied",
            Self::Seen => "seen",
            Self::BotMoved => "bot.state.transition",
            Self::SessionMoved => "session.transition",
            Self::SafetySet => "safety.transition",
            Self::KillSwitchSet => "execution.killswitch.set",
            Self::GateSet => "gate.record",
            Self::MonitoringSet => "monitoring.set",
            Self::Challenged => "dangerous_op.challenge",
            Self::Confirmed => "dangerous_op.confirm",
            Self::Rejected => "dangerous_op.reject",
            Self::Review => "dangerous_op.review",
            Self::BundleCreated => "support_bundle.created",
            Self::InterlockFired => "interlock.fired",
        }
    }
}
