//! What an observer has learned: its report, as its end, `observe --report` and the API tell it.
//!
//! Owns: the shape of the report.
//! Never: learns anything; `runtime::survey` does.
//! Holds: a body in it is masked, and cut to `observe.example_bytes_max`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contract::{reason::Reason, timestamp::Timestamp};

/// The report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// What its queue is bound with.
    pub bindings: Vec<String>,
    /// The bounds that were met, and what that folded together.
    pub bounds: Vec<BoundMet>,
    /// The exchange that is looked at.
    pub exchange: String,
    /// What to do with all this.
    pub next_step: String,
    /// The file of records, where one was asked for.
    pub records: Option<SeenRecords>,
    /// By sender and key pattern.
    pub rows: Vec<SeenRow>,
}

/// A bound that was met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BoundMet {
    /// How many messages are told less exactly because of it.
    pub count: u64,
    /// Its key in the config.
    pub key: String,
    /// What was done with them.
    pub what: String,
}

/// What became of the file of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenRecords {
    /// Why no more are written, where that is so.
    pub fault: Option<String>,
    /// The file.
    pub file: String,
    /// Messages that it lacks.
    pub left_out: u64,
    /// Messages that it has.
    pub written: u64,
}

/// The messages of one sender under one key pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenRow {
    /// How many.
    pub count: u64,
    /// The first that would be refused; where none would be, the first.
    pub example: Option<SeenExample>,
    /// When the first came.
    pub first_at: Timestamp,
    /// When the last came.
    pub last_at: Timestamp,
    /// What to do about them.
    pub next_step: String,
    /// The pattern, as a binding has it.
    pub pattern: String,
    /// How many would be refused.
    pub refused: u64,
    /// Why, by code.
    pub refusals: Vec<SeenRefusals>,
    /// Who sent them.
    pub sender: SeenSender,
    /// How many got each verdict.
    pub verdicts: BTreeMap<String, u64>,
}

/// Refusals by one code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenRefusals {
    /// The code.
    pub code: Reason,
    /// How many.
    pub count: u64,
    /// What was wrong with the first.
    pub detail: String,
    /// What the sender can do.
    pub next_step: String,
    /// Where in its body.
    pub pointer: Option<String>,
}

/// Who sent something, as far as that can be known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenSender {
    /// By what it is known.
    pub by: KnownBy,
    /// Its name.
    pub name: String,
}

/// By what a sender is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KnownBy {
    /// The broker vouches for it.
    UserId,
    /// The envelope says so.
    Origin,
    /// The AMQP property `app-id` says so.
    AppId,
    /// Nothing says it.
    Nothing,
    /// It is one of those beyond a bound.
    Bound,
}

impl KnownBy {
    /// The same in a word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::UserId => "user-id",
            Self::Origin => "origin",
            Self::AppId => "app-id",
            Self::Nothing => "nothing",
            Self::Bound => "bound",
        }
    }
}

/// One message, to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenExample {
    /// When it came.
    pub at: Timestamp,
    /// Its body with its secrets masked; nothing where it is no JSON.
    pub body: Option<String>,
    /// How long the body was.
    pub body_bytes: usize,
    /// Whether only the beginning is shown.
    pub is_cut: bool,
    /// Why it would be refused.
    pub reason: Option<Reason>,
    /// Its key.
    pub routing_key: String,
}
