//! What is written of a command: that it was accepted, what its target said, and its end.
//!
//! Owns: these facts, and by which identity a command is named in all others.
//! Never: says whether an end is a success; the sender's own type does.
//! Holds: a flag that is not set is not written, so that older entries keep their bytes.

use serde::{Deserialize, Serialize};

use crate::contract::{digest::Digest, routing::Scope, timestamp::Timestamp, vocabulary::Life};

/// Which command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Of {
    /// Its identity.
    pub command: Digest,
}

/// A command and what tells it from its repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// Whether nothing may hold it up (stop and tightening): it stands before everything else of
    /// its target.
    #[serde(default, skip_serializing_if = "is_false")]
    pub always_passes: bool,
    /// Identity: digest of sender, scope, type and idempotencyKey. `None`: no key is bound.
    pub command: Option<Digest>,
    /// Digest of the canonical envelope without its timestamp and correlationId.
    pub compared: Digest,
    /// For stop-class commands: whom the stop is remembered for, where there was no room to
    /// remember its own scope; that is wider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts_for: Option<Scope>,
    /// When it times out; `None`: it is answered at once or never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Whether there was no room to remember its bot.
    #[serde(default, skip_serializing_if = "is_false")]
    pub forgets_bot: bool,
    /// Whether there was no room to remember what a config-update changes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub forgets_patch: bool,
    /// The state that its success leads a bot to, where that depends on what it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leads_to: Option<Life>,
    /// For stop-class commands: the moment from which earlier starts of the scope are overtaken.
    pub overtakes: Option<Timestamp>,
    /// Whether it waits for its target from the start: this entry's parcel keeps it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub parked: bool,
    /// In a fan-out, the instances that were known, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Scope>,
    /// The entry that ended an earlier attempt under its key, which never reached its target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tries_again: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// A command ended by the router's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Which command.
    pub command: Digest,
    /// The status that ended it.
    pub status: String,
}

/// An outcome or alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultSeen {
    /// The commands that it answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Heard>,
    /// The command it ends, where it ends one.
    pub ends: Option<Ended>,
    /// Whether there was no room to remember its identity: a redelivery of it is not recognised.
    #[serde(default, skip_serializing_if = "is_false")]
    pub forgets: bool,
    /// Whether there was no room to remember the config that its sender applied.
    #[serde(default, skip_serializing_if = "is_false")]
    pub forgets_config: bool,
    /// Digest of sender, routing key and body.
    pub identity: Digest,
}

/// A target's answer to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Which command.
    pub command: Digest,
    /// The target's word.
    pub status: String,
    /// Whether the sender wanted that.
    pub success: bool,
}
