//! The section `deadlines`: how long a command of each built-in type waits for its outcome.
//!
//! Owns: a key for each type that waits, with its meaning; its default stands in the command table.
//! Never: ends a command; what is due does.
//! Holds: each type that waits has a key and no other has (a test compares them).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::section::{DAY_MS, Field, KeyKind, Section, written};
use crate::contract::command::{Answerer, Commands};

/// Each key, and what has not come when its time is over.
const DEADLINES: [(&str, &str); 21] = [
    ("deadlines.stop_ms", "How long a target may take to stop before `stop` has timed out."),
    ("deadlines.swarm_stop_ms", "How long a swarm may take to stop before `swarm-stop` has timed out."),
    ("deadlines.bot_stop_ms", "How long a bot may take to stop before `bot-stop` has timed out."),
    ("deadlines.bot_pause_ms", "How long a bot may take to pause before `bot-pause` has timed out."),
    (
        "deadlines.swarm_remove_ms",
        "How long a swarm may take to be gone before `swarm-remove` has timed out.",
    ),
    (
        "deadlines.bot_quarantine_ms",
        "How long a bot may take to be set apart before `bot-quarantine` has timed out.",
    ),
    (
        "deadlines.bootstrap_bundle_ms",
        "How long a worker may take to acknowledge its bundle before `bootstrap-bundle` has timed out.",
    ),
    (
        "deadlines.start_work_ms",
        "How long a worker may take to acknowledge `start-work` before that has timed out.",
    ),
    (
        "deadlines.status_request_ms",
        "How long a target may take to send its status before `status-request` has timed out.",
    ),
    (
        "deadlines.swarm_template_ms",
        "How long a template may take to be ready before `swarm-template` has timed out.",
    ),
    ("deadlines.swarm_plan_ms", "How long a plan may take to be ready before `swarm-plan` has timed out."),
    (
        "deadlines.config_update_ms",
        "How long a target may take to apply new settings before `config-update` has timed out.",
    ),
    ("deadlines.bot_init_ms", "How long a bot may take to be created before `bot-init` has timed out."),
    ("deadlines.swarm_start_ms", "How long a swarm may take to run before `swarm-start` has timed out."),
    ("deadlines.bot_start_ms", "How long a bot may take to run before `bot-start` has timed out."),
    (
        "deadlines.bot_resume_ms",
        "How long a paused bot may take to run again before `bot-resume` has timed out.",
    ),
    (
        "deadlines.bot_release_ms",
        "How long a bot may take to leave its quarantine before `bot-release` has timed out.",
    ),
    (
        "deadlines.secret_rotate_ms",
        "How long a target may take to use its new secret before `secret-rotate` has timed out.",
    ),
    (
        "deadlines.data_delete_ms",
        "How long the data may take to be deleted before `data-delete` has timed out.",
    ),
    (
        "deadlines.data_restore_ms",
        "How long the data may take to be restored before `data-restore` has timed out.",
    ),
    (
        "deadlines.data_compact_ms",
        "How long the data may take to be compacted before `data-compact` has timed out.",
    ),
];

/// `<type>_ms`, the type's dashes as `_`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, transparent)]
pub struct Deadlines(pub BTreeMap<String, u64>);

impl Default for Deadlines {
    fn default() -> Self {
        let commands = Commands::default();
        let waiting = commands.iter().filter(|row| row.answered_by != Answerer::Router);
        Self(waiting.filter_map(|row| Some((Self::key(&row.kind_type), row.deadline_ms?))).collect())
    }
}

impl Section for Deadlines {
    fn fields() -> Vec<Field> {
        let defaults = Self::default().0;
        let field = |(path, doc): (&'static str, &'static str)| {
            let default = path.strip_prefix("deadlines.").and_then(|key| defaults.get(key));
            Field { path, kind: KeyKind::Whole(100, 7 * DAY_MS), doc, default: written(default) }
        };
        DEADLINES.into_iter().map(field).collect()
    }
}

impl Deadlines {
    fn key(kind_type: &str) -> String {
        format!("{}_ms", kind_type.replace('-', "_"))
    }

    /// The deadline of a type, where it is set here.
    pub fn of(&self, kind_type: &str) -> Option<u64> {
        self.0.get(&Self::key(kind_type)).copied()
    }
}
