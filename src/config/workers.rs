//! The section `supervisor`: which workers run, and every bound of their lives.
//!
//! Owns: the settings, their defaults, and how a row with a `count` becomes that many workers.
//! Never: reads a file or the environment; the config does, and checks what stands here.
//! Holds: a value of a worker's environment is never shown, for it may be a secret.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::section::{
    DAY_MS,
    KeyKind::{Choice, Segment, Whole, Workers},
    MIB, section,
};
use crate::contract::routing::Scope;

/// How many rows there may be.
pub const ROWS_MAX: usize = 256;
/// How many processes one row may stand for.
pub const COUNT_MAX: u16 = 256;
/// How many processes there may be in all.
pub const WORKERS_MAX: usize = 1_024;
/// How many words a command has at most.
pub const COMMAND_WORDS_MAX: usize = 256;
/// How long a word of a command or a value of the environment may be.
pub const WORD_BYTES_MAX: usize = 32 * 1024;
/// What the supervisor's own variables begin with; a row cannot set them.
pub const OWN_VARIABLES: &str = "SWARMGATE_";

section! {
    /// The workers that `swarmgate supervise` runs, and how.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct SupervisorSettings at "supervisor." {
        swarm_id: String = "local".to_owned(), Segment,
            "The swarm that the workers of `swarmgate supervise` are of.";
        ready_timeout_ms: u64 = 10_000, Whole(100, 3_600_000),
            "From a worker's start to its `ready`; then it is stopped and started again.";
        heartbeat_ms: u64 = 1_000, Whole(10, 600_000),
            "How often a worker says that it lives.";
        heartbeat_timeout_ms: u64 = 5_000, Whole(20, 3_600_000),
            "How long a worker may be silent; then it is stopped and started again.";
        stop_graceful_ms: u64 = 5_000, Whole(0, 3_600_000),
            "How long a worker may take to end once it was told to.";
        stop_terminate_ms: u64 = 3_000, Whole(0, 600_000),
            "How long it may take after SIGTERM; then SIGKILL comes.";
        stop_kill_ms: u64 = 2_000, Whole(100, 600_000),
            "How long the system may take to end it after SIGKILL.";
        restart_min_ms: u64 = 200, Whole(1, 600_000),
            "The first pause before a worker is started again; it doubles up to the next.";
        restart_max_ms: u64 = 10_000, Whole(1, 3_600_000),
            "The longest pause before a worker is started again.";
        restart_count_max: u32 = 5, Whole(0, 10_000),
            "How often a worker is started again within the window; then it is given up.";
        restart_window_ms: u64 = 60_000, Whole(1_000, DAY_MS),
            "The window of that count.";
        log_line_bytes_max: usize = 8 * 1024, Whole(64, MIB),
            "How much of a line of a worker's output is kept.";
        log_lines_per_second_max: u32 = 100, Whole(1, 1_000_000),
            "How many lines a second of each stream of a worker are kept; the rest is counted.";
        status_delta_ms: u64 = 5_000, Whole(100, 3_600_000),
            "How often a worker's state goes to the bus.";
        router: Option<AsksRouter> = None, Choice(&["required", "none"]),
            "Whether a worker begins its work by the router's yes only; left out: `required` where there is a bus.";
        router_retry_ms: u64 = 2_000, Whole(100, 600_000),
            "After a no of the router, how long until it is asked again.";
        workers: Vec<Row> = Vec::new(), Workers,
            "The workers: a list of rows with `id`, `role` and `command`.";
    }
}

/// Whether the router is asked before a worker begins its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AsksRouter {
    /// It is, and a worker waits for its yes.
    Required,
    /// It is not: the supervisor starts work, and tells the bus afterwards.
    None,
}

/// One kind of worker.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Its id; with a `count` above one, what its ids begin with.
    pub id: String,
    /// Its role.
    pub role: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What its environment has beside what every worker gets.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How many of it run.
    #[serde(default = "one")]
    pub count: u16,
    /// Whether the others wait for it before any of them starts to work.
    #[serde(default = "yes")]
    pub required: bool,
}

const fn one() -> u16 {
    1
}

const fn yes() -> bool {
    true
}

impl fmt::Debug for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, role, command, env, count, required } = self;
        out.debug_struct("Row")
            .field("id", id)
            .field("role", role)
            .field("program", &command.first())
            .field("env", &env.keys().collect::<Vec<_>>())
            .field("count", count)
            .field("required", required)
            .finish()
    }
}

/// One worker to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Who it is, on the channel by its instance alone.
    pub scope: Scope,
    /// Its row.
    pub row: Row,
}

impl SupervisorSettings {
    /// The workers, one for each process, in the order of the rows.
    pub fn wanted(&self) -> Vec<Wanted> {
        self.workers.iter().flat_map(|row| row.ids().map(move |id| self.one(row, id))).collect()
    }

    fn one(&self, row: &Row, id: String) -> Wanted {
        Wanted { scope: Scope::new(&self.swarm_id, &row.role, id), row: row.clone() }
    }
}

impl Row {
    /// The ids that it stands for.
    pub fn ids(&self) -> impl Iterator<Item = String> + '_ {
        let numbered = self.count > 1;
        (1..=self.count)
            .map(move |number| if numbered { format!("{}-{number}", self.id) } else { self.id.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, count: u16) -> Row {
        let env = [("TOKEN".to_owned(), "canary".to_owned())].into();
        let command = vec!["run".to_owned(), "canary".to_owned()];
        Row { id: id.to_owned(), role: "gen".to_owned(), command, env, count, required: true }
    }

    #[test]
    fn a_row_stands_for_as_many_as_it_counts() {
        let settings = SupervisorSettings {
            workers: vec![row("a", 1), row("b", 3), row("c", 0)],
            ..SupervisorSettings::default()
        };
        let names: Vec<String> = settings.wanted().iter().map(|wanted| wanted.scope.to_string()).collect();
        assert_eq!(names, ["local/gen/a", "local/gen/b-1", "local/gen/b-2", "local/gen/b-3"]);
    }

    #[test]
    fn neither_arguments_nor_environment_are_shown() {
        let shown = format!("{:?}", row("a", 1));
        assert!(!shown.contains("canary") && shown.contains("TOKEN"), "{shown}");
    }
}
