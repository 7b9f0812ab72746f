//! What a router was set to when it opened the ledger, and how that compares with the opening
//! before.
//!
//! Owns: the shape of both.
//! Never: holds a secret: the digest is of the masked settings, and the rest is what safety hangs
//! on.
//! Holds: every value is a number, a text, a flag or a list of texts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::contract::digest::Digest;

/// What a router was set to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// SHA-256 of all settings in canonical form, secrets masked.
    pub digest: Digest,
    /// The settings that safety hangs on, by their paths.
    pub safety: BTreeMap<String, Value>,
}

/// Settings that are looser, or stricter, than when the ledger was opened before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsCompared {
    /// Which, in the order of the table.
    pub differences: Vec<Difference>,
    /// Whether everything is SAFE from now on, until somebody has confirmed another mode.
    pub safe: bool,
}

/// One setting that is another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What it is from now on.
    pub is: Value,
    /// Its path.
    pub setting: String,
    /// What it was.
    pub was: Value,
}
