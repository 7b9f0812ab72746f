//! How a ledger and each run of a router begin, and what becomes of their time.
//!
//! Owns: the genesis, an opening, a set-back, a pause and a step of the clock.
//! Never: opens a ledger; the runtime does.
//! Holds: the fields stand in alphabetical order of their wire names; what an old entry lacks reads
//! as the safer.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::settings::Settings;
use crate::contract::{timestamp::Timestamp, vocabulary::SafetyMode};

/// The first fact of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Genesis {
    /// The deployment's environment: `dev`, `stage` or `prod`.
    pub environment: String,
    /// The safety mode that it began in; unknown is `SAFE`.
    #[serde(default = "unknown_is_safe")]
    pub initial_mode: SafetyMode,
    /// 128 random bits in hex; zeros for a ledger in memory.
    pub ledger_id: String,
    /// The mode the ledger was begun in.
    pub mode: Mode,
    /// The release that began it.
    pub version: String,
}

fn unknown_is_safe() -> SafetyMode {
    SafetyMode::Safe
}

/// Whether the router acts or only looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Judges and records, publishes nothing.
    Observe,
    /// Judges, records and carries.
    #[default]
    Enforce,
}

impl fmt::Display for Mode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        })
    }
}

/// A router opened the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Opened {
    /// How long what waited may take to be judged before anything times out.
    #[serde(default)]
    pub catch_up_ms: u64,
    /// How many routers have opened it, this one included.
    pub epoch: u64,
    /// 64 random bits in hex, new at each opening: part of every id that is given from then on, so
    /// that none is given twice, not even by a ledger that was set back. Empty before format 2.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub incarnation: String,
    /// The router's instance name.
    pub instance: String,
    /// The mode it runs in.
    pub mode: Mode,
    /// What it was set to; absent before format 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Settings>,
    /// Its release.
    pub version: String,
}

/// The ledger was set back to an older copy, or another stands in its place, and somebody noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetBack {
    /// The last entry that was known of it.
    pub known: u64,
    /// The ledger that was known, where it is not this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_id: Option<String>,
    /// The last entry that it held when it was opened.
    pub ours: u64,
}

/// A router that consumes again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resumed {
    /// How long what waited may take to be judged before anything times out.
    pub catch_up_ms: u64,
    /// How long nothing was consumed.
    pub paused_ms: u64,
}

/// A step of the router's time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stepped {
    /// The router's time before it.
    pub from: Timestamp,
    /// The clock's, from which it goes on.
    pub to: Timestamp,
}

impl Stepped {
    /// Where a moment that has been comes to lie: none lies ahead.
    pub fn past(&self, at: i64) -> i64 {
        at.min(self.to.micros())
    }

    /// Where a moment that is still to come comes to lie: what remained until it remains.
    pub fn ahead(&self, at: i64) -> i64 {
        let remains = at.saturating_sub(self.from.micros());
        match at {
            i64::MAX => at,
            _ if remains > 0 => self.to.micros().saturating_add(remains),
            _ => self.past(at),
        }
    }
}
