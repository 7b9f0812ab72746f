//! What a deployment sets for consent.
//!
//! Owns: who must confirm what, and what was approved beforehand.
//! Never: asks anybody; gate 11 does.
//! Holds: without a setting a dangerous command takes one explicit confirmation.

use std::collections::BTreeMap;

use crate::contract::{digest::Digest, interlock::Requires, timestamp::Timestamp};

/// What a deployment sets for consent.
#[derive(Clone, Debug)]
pub struct Consent {
    /// What the deployment is for, as people read it in a challenge.
    pub environment: String,
    /// Who must confirm a dangerous command.
    pub requires: Requires,
    /// Who must confirm a live one.
    pub live_requires: Requires,
    /// How long a challenge may be confirmed, in milliseconds.
    pub window_ms: u64,
    /// Who may ask for and confirm dangerous operations; empty is everybody.
    pub actors: Vec<String>,
    /// The groups of a quorum.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Who may break the glass.
    pub break_glass: Vec<String>,
    /// What was approved beforehand.
    pub standing: Vec<StandingApproval>,
    /// Whether a support bundle takes a confirmation.
    pub support_bundle: bool,
}

impl Default for Consent {
    fn default() -> Self {
        Self {
            environment: "dev".to_owned(),
            requires: Requires::Explicit,
            live_requires: Requires::Explicit,
            window_ms: 60_000,
            actors: Vec::new(),
            groups: BTreeMap::new(),
            break_glass: Vec::new(),
            standing: Vec::new(),
            support_bundle: false,
        }
    }
}

/// An approval that was given beforehand: for one command, by its hash, until a time, for so many
/// uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingApproval {
    /// What it is called.
    pub name: String,
    /// The command's hash: SHA-256 of its canonical envelope without its timestamp and
    /// correlationId.
    pub command: Digest,
    /// Until when it stands.
    pub expires_at: Timestamp,
    /// How often it may be used.
    pub uses_max: u64,
}
