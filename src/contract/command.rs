//! The command table: every signal type with its class.
//!
//! Owns: the class, success statuses, answerer, fan-out and deadline of each built-in type.
//! Never: judges a command; the gates read this table.
//! Holds: equal, row for row, to spec/commands.toml (a test compares them).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a type does, which decides what safety, lanes, quotas and deadlines do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Reduces activity; always passes.
    Stop,
    /// Raises safety; always passes.
    Tighten,
    /// Lowers safety; dangerous.
    Loosen,
    /// Answers a challenge.
    Consent,
    /// Opens a control session.
    Session,
    /// Says that a worker lives; an observation without a key memory.
    Liveness,
    /// Asks for evidence.
    Evidence,
    /// Changes what runs.
    Change,
    /// Starts activity.
    Start,
    /// Ends a quarantine; dangerous.
    Release,
    /// Destroys or replaces; dangerous.
    Destructive,
}

impl Class {
    /// Whether nothing may ever hold this class up: stop and tightening (spec/rules.md#stops).
    pub const fn always_passes(self) -> bool {
        matches!(self, Class::Stop | Class::Tighten)
    }
}

/// Who answers a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answerer {
    /// The target, by its own outcome.
    Target,
    /// The router itself.
    Router,
    /// The router, and the command is carried to the target too.
    RouterAndTarget,
}

/// Which `ALL` shapes a type may address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FanOut {
    /// One concrete instance only.
    None,
    /// `s.r.ALL`, `s.ALL.ALL`, `ALL.r.ALL`, `ALL.ALL.ALL`.
    Instances,
    /// `ALL.ALL.ALL` (global) or `s.ALL.ALL` (that swarm).
    GlobalOrSwarm,
}

/// One row of the command table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The signal type.
    #[serde(rename = "type")]
    pub kind_type: String,
    /// Its class; for the types that loosen when they go down, the class when they go up.
    pub class: Class,
    /// Statuses that mean success; any other but `NotReady` is a failure.
    pub success: Vec<String>,
    /// Who answers.
    pub answered_by: Answerer,
    /// Whether it may fan out.
    pub fan_out: FanOut,
    /// Milliseconds from acceptance until it has timed out; `None`: answered at once or never.
    pub deadline_ms: Option<u64>,
}

/// How a command ends whose type has no word for success: it was answered.
pub const REPORTED: &str = "Reported";
/// How the router itself ends what did not succeed, whatever its type.
const ENDED_BADLY: [&str; 5] = ["Failed", "Partial", "Refused", "Superseded", "TimedOut"];

/// Every command type that this deployment knows.
#[derive(Clone, Debug)]
pub struct Commands(BTreeMap<String, Command>);

impl Default for Commands {
    fn default() -> Self {
        Self(BUILT_IN.iter().map(|row| (row.0.to_owned(), row.to_command())).collect())
    }
}

impl Commands {
    /// The row of a type.
    pub fn get(&self, kind_type: &str) -> Option<&Command> {
        self.0.get(kind_type)
    }

    /// Whether a command of that type that ended with that status has succeeded. Of a type that is
    /// not in the table only what the router itself calls no success has not.
    pub fn has_succeeded(&self, kind_type: &str, status: &str) -> bool {
        match self.get(kind_type) {
            Some(row) => status == REPORTED || row.success.iter().any(|wanted| wanted == status),
            None => !ENDED_BADLY.contains(&status),
        }
    }

    /// Every row, by type.
    pub fn iter(&self) -> impl Iterator<Item = &Command> {
        self.0.values()
    }

    /// The same table with other deadlines, for the types that `deadline_ms` names one for.
    #[must_use]
    pub fn with_deadlines(&self, deadline_ms: impl Fn(&str) -> Option<u64>) -> Self {
        let mut commands = self.clone();
        for row in commands.0.values_mut() {
            row.deadline_ms = deadline_ms(&row.kind_type).or(row.deadline_ms);
        }
        commands
    }

    /// Adds a deployment's own type; `false`, and nothing changed, when the type is there already.
    pub fn add(&mut self, command: Command) -> bool {
        if self.0.contains_key(&command.kind_type) {
            return false;
        }
        self.0.insert(command.kind_type.clone(), command);
        true
    }
}

struct Row(&'static str, Class, &'static [&'static str], Answerer, FanOut, Option<u64>);

impl Row {
    fn to_command(&self) -> Command {
        Command {
            kind_type: self.0.to_owned(),
            class: self.1,
            success: self.2.iter().map(|status| (*status).to_owned()).collect(),
            answered_by: self.3,
            fan_out: self.4,
            deadline_ms: self.5,
        }
    }
}

use {
    Answerer::{Router, RouterAndTarget, Target},
    FanOut::{GlobalOrSwarm, Instances},
};

const fn seconds(seconds: u64) -> Option<u64> {
    Some(seconds * 1000)
}

const BUILT_IN: &[Row] = &[
    Row("stop", Class::Stop, &["Stopped", "Ack"], Target, Instances, seconds(90)),
    Row("swarm-stop", Class::Stop, &["Stopped"], Target, Instances, seconds(90)),
    Row("bot-stop", Class::Stop, &["Stopped"], Target, Instances, seconds(90)),
    Row("bot-pause", Class::Stop, &["Paused"], Target, Instances, seconds(90)),
    Row("swarm-remove", Class::Stop, &["Removed"], Target, FanOut::None, seconds(90)),
    Row("bot-quarantine", Class::Tighten, &["Quarantined"], Target, Instances, seconds(90)),
    Row("safety-set", Class::Tighten, &["Applied"], Router, GlobalOrSwarm, None),
    Row("kill-switch-set", Class::Tighten, &["Applied"], Router, GlobalOrSwarm, None),
    Row("gate-enable", Class::Tighten, &["Applied"], Router, GlobalOrSwarm, None),
    Row("monitoring-enable", Class::Tighten, &["Applied"], Router, GlobalOrSwarm, None),
    Row("gate-disable", Class::Loosen, &["Applied"], Router, GlobalOrSwarm, None),
    Row("monitoring-disable", Class::Loosen, &["Applied"], Router, GlobalOrSwarm, None),
    Row("clock-accept", Class::Loosen, &["Applied"], Router, FanOut::None, None),
    Row("challenge-confirm", Class::Consent, &["Applied"], Router, FanOut::None, None),
    Row("challenge-reject", Class::Consent, &["Applied"], Router, FanOut::None, None),
    Row("bootstrap-bundle", Class::Session, &["Ack"], RouterAndTarget, FanOut::None, seconds(60)),
    Row("start-work", Class::Start, &["Ack"], RouterAndTarget, FanOut::None, seconds(60)),
    Row("ready", Class::Liveness, &["Ack"], Router, FanOut::None, None),
    Row("heartbeat", Class::Liveness, &["Ack"], Router, FanOut::None, None),
    Row("status-request", Class::Evidence, &[], Target, Instances, seconds(10)),
    Row("support-bundle", Class::Evidence, &["Applied"], Router, GlobalOrSwarm, seconds(120)),
    Row("gate-report", Class::Evidence, &["Applied"], Router, GlobalOrSwarm, None),
    Row("swarm-template", Class::Change, &["Ready"], Target, FanOut::None, seconds(120)),
    Row("swarm-plan", Class::Change, &["Ready"], Target, FanOut::None, seconds(120)),
    Row("config-update", Class::Change, &["Applied"], Target, Instances, seconds(60)),
    Row("bot-init", Class::Change, &["Created"], Target, FanOut::None, seconds(120)),
    Row("swarm-start", Class::Start, &["Running"], Target, FanOut::None, seconds(180)),
    Row("bot-start", Class::Start, &["Running"], Target, FanOut::None, seconds(180)),
    Row("bot-resume", Class::Start, &["Running"], Target, FanOut::None, seconds(180)),
    Row("bot-release", Class::Release, &["Released"], Target, FanOut::None, seconds(90)),
    Row("secret-rotate", Class::Destructive, &["Applied"], Target, FanOut::None, seconds(120)),
    Row("data-delete", Class::Destructive, &["Applied"], Target, FanOut::None, seconds(120)),
    Row("data-restore", Class::Destructive, &["Applied"], Target, FanOut::None, seconds(120)),
    Row("data-compact", Class::Destructive, &["Applied"], Target, FanOut::None, seconds(120)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_a_command_has_succeeded_its_type_says_or_the_router() {
        let commands = Commands::default();
        for (kind_type, status, has_succeeded) in [
            ("bot-stop", "Stopped", true),
            ("bot-stop", "Running", false),
            ("bot-stop", "Partial", false),
            // A fan-out of it is ended by the router, whose word no type lists.
            ("status-request", REPORTED, true),
            ("status-request", "TimedOut", false),
            ("own-type", "Flushed", true),
            ("own-type", "Superseded", false),
            ("own-type", "Failed", false),
        ] {
            assert_eq!(commands.has_succeeded(kind_type, status), has_succeeded, "{kind_type} {status}");
        }
    }
}
