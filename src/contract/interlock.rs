//! The facts of the interlock: lifecycle, control session, safety mode, kill switch, readiness
//! gate, challenge.
//!
//! Owns: what is written of them, and who must confirm what.
//! Never: decides which step follows which; the gates do.
//! Holds: each lists its fields in alphabetical order of their wire names, as every part of an
//! entry does.

use serde::{Deserialize, Serialize};

pub use super::vocabulary::{GateResult, KillSwitch, Life, Phase, RunMode, SafetyMode};
use super::{audit::Accepted, digest::Digest, routing::Scope, timestamp::Timestamp};

/// Bots that moved in their lives, by one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Each with where it came from and where it is.
    pub bots: Vec<Move>,
}

/// One bot's step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Where it was.
    pub from: Life,
    /// Which bot.
    pub scope: Scope,
    /// Where it is.
    pub to: Life,
}

/// Control sessions that came to a phase, by one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionMoved {
    /// The phase.
    pub phase: Phase,
    /// Whose.
    pub workers: Vec<Scope>,
}

/// A safety mode or kill switch that was set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SafetySet {
    /// The kill switch from now on, where it was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_switch: Option<KillSwitch>,
    /// The level that the latch file holds, where that is what changed; `ALLOW` where it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latch: Option<KillSwitch>,
    /// The mode from now on, where it was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<SafetyMode>,
    /// Why, where the latch file says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The swarm it is for; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swarm: Option<String>,
}

/// What is known of a readiness gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GateSet {
    /// Until when it is not asked; absent where that was not set, in the past where it is asked
    /// again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_until: Option<Timestamp>,
    /// Until when its result counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Its name.
    pub gate: String,
    /// Its result, where one was reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<GateResult>,
    /// The swarm it is for; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swarm: Option<String>,
}

/// Whether the router's own alerts of a swarm are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MonitoringSet {
    /// Until when they are not; in the past where they are again.
    pub disabled_until: Timestamp,
    /// The swarm it is for; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swarm: Option<String>,
}

/// A dangerous command waits for its confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Challenged {
    /// The command, as it would be accepted.
    pub accepted: Accepted,
    /// Its challenge's id.
    pub challenge_id: String,
    /// What it does, in words, as it was when it was challenged: those who confirm it are shown
    /// that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub effect: String,
    /// Until when it may be confirmed.
    pub expires_at: Timestamp,
    /// Whether this entry's parcel keeps the command.
    pub held: bool,
    /// What it leaves as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_affected: Vec<String>,
    /// What it is, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub operation: String,
    /// Who must confirm.
    pub requires: Requires,
}

/// Who must confirm a dangerous command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requires {
    /// The requester or another, as a separate act.
    #[default]
    Explicit,
    /// Somebody else than the requester.
    SecondPerson,
    /// So many of each group, none of them the requester.
    Quorum(Vec<Share>),
}

impl Requires {
    /// Its word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::SecondPerson => "second-person",
            Self::Quorum(_) => "quorum",
        }
    }
}

/// How many of a group must confirm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// How many.
    pub count: usize,
    /// The group's name.
    pub group: String,
}

/// Somebody confirmed a dangerous command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Confirmed {
    /// Who.
    pub by: String,
    /// Which command.
    pub command: Digest,
    /// By which right it is enough; absent while more must confirm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<Right>,
    /// When the command times out, where it is on its way now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// In a fan-out, the instances that are known now, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Scope>,
}

/// By which right a confirmation was enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// Those confirmed who must.
    Confirmed,
    /// A standing approval stood in for the second person: its name.
    Standing(String),
    /// Break-glass stood in for the second person; the use waits for its review.
    BreakGlass,
}

/// Somebody looked at a use of break-glass afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reviewed {
    /// The challenge whose confirmation it was.
    pub challenge_id: String,
}

/// A principal may start nothing for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    /// Who.
    pub principal: String,
    /// Until when.
    pub until: Timestamp,
}
