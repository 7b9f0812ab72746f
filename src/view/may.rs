//! Whether a sender may say something, and what it would be: `/api/v1/may`.
//!
//! Owns: the answer's shape.
//! Never: says more than the gates of permission do.
//! Holds: a no has a code, a detail and a next step; what is dangerous, who must confirm it.

use serde::{Deserialize, Serialize};

use crate::decision::{may, state::State};

/// Whether a sender may, and what it would be.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct May {
    pub allowed: bool,
    pub code: Option<String>,
    pub dangerous: bool,
    pub detail: Option<String>,
    pub difference: Option<String>,
    pub effect: Option<String>,
    pub live: bool,
    pub next_step: Option<String>,
    pub not_affected: Option<Vec<String>>,
    pub operation: Option<String>,
    pub requires: Option<String>,
    pub sender: String,
    pub target: String,
    #[serde(rename = "type")]
    pub kind_type: String,
}

impl May {
    pub fn new(state: &State, may: may::May, kind_type: &str, sender: &str) -> Self {
        let (live, no, danger) = (may.is_live(), may.refusal.as_ref(), may.danger);
        Self {
            allowed: no.is_none(),
            code: no.map(|no| no.reason.code().to_owned()),
            dangerous: danger.is_some(),
            detail: no.map(|no| no.detail.to_string()),
            difference: may.leads_to.map(|to| format!("{} -> {to}", state.life(&may.target))),
            kind_type: kind_type.to_owned(),
            live,
            next_step: no.map(|no| no.reason.next_step().to_owned()),
            requires: danger.as_ref().map(|danger| danger.requires.word().to_owned()),
            sender: sender.to_owned(),
            target: may.target.to_string(),
            effect: danger.as_ref().map(|danger| danger.effect.clone()),
            not_affected: danger.as_ref().map(|danger| danger.not_affected.clone()),
            operation: danger.map(|danger| danger.operation),
        }
    }
}
