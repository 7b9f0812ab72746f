//! What a command asked for, as its entries say it beside its key, its actor and its target.
//!
//! Owns: the step that was asked for, the run, the trace and the version of the contract.
//! Never: holds what a sender wrote where that is no step, no trace or longer than its bound.
//! Holds: every member is written; what nobody said and nothing tells is null.

use serde::{Deserialize, Serialize};

/// Bytes of a run's id that is written at most; a longer one is null, and stands in the payload
/// alone.
pub const RUN_ID_BYTES_MAX: usize = 255;

/// What a command asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// Two places in a bot's life, `IDLE->RUNNING_LIVE`, as the sender says or as the type has it;
    /// null for what moves no bot.
    pub requested_transition: Option<String>,
    /// The run, as the sender says, or the one that the target last spoke of.
    pub run_id: Option<String>,
    /// The version of the contract that it was said by.
    pub schema_version: String,
    /// The trace of its `traceparent`, 32 hex digits.
    pub trace_id: Option<String>,
}
