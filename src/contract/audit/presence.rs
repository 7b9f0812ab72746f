//! What is believed of an instance, and what was last heard of it.
//!
//! Owns: the steps of an instance's presence, and the evidence beside a timeout.
//! Never: decides when an instance is stale or lost; the inventory does.
//! Holds: the fields stand in alphabetical order of their wire names.

use serde::{Deserialize, Serialize};

use crate::contract::timestamp::Timestamp;

/// What has changed about an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// What it is from now on.
    pub now: Standing,
    /// Whose status was last seen when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// What is believed of an instance's presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Its first status came.
    Appeared,
    /// Nothing for longer than `inventory.stale_after_ms`.
    Stale,
    /// Nothing for longer than `inventory.lost_after_ms`.
    Lost,
    /// It speaks again.
    Back,
    /// It was removed, or not heard of for `inventory.forget_after_ms`.
    Forgotten,
}

impl Standing {
    /// The word in the ledger.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Appeared => "appeared",
            Self::Stale => "stale",
            Self::Lost => "lost",
            Self::Back => "back",
            Self::Forgotten => "forgotten",
        }
    }
}

/// The last that was heard of a command or its target before it timed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// When.
    pub at: Timestamp,
    /// In words.
    pub detail: String,
    /// Of which kind.
    pub kind: EvidenceKind,
}

/// Where evidence comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvidenceKind {
    /// An alert of the target's.
    Alert,
    /// An outcome of a target's that ended nothing.
    Outcome,
    /// A status of the target's.
    Status,
    /// The broker gave the command back.
    Return,
    /// The router did not go on trying it: too much waited that the broker does not take.
    Withheld,
}

impl EvidenceKind {
    /// The word people read.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Outcome => "outcome",
            Self::Status => "status",
            Self::Return => "return",
            Self::Withheld => "withheld",
        }
    }
}
