//! The four lanes in, and the six ways out.
//!
//! Owns: which lane an envelope travels in, and the names of the ways that messages leave by.
//! Never: knows how a lane is buffered or consumed.
//! Holds: stop and tightening never share a lane with anything slower.
//! The rule: spec/rules.md#lanes.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{command::Commands, routing::Family};

/// One of four ways through the router, each with its own queue, channels and bounded buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Stop and tightening.
    Urgent,
    /// Every other signal.
    #[default]
    Signals,
    /// Outcomes and alerts, and what no binding takes.
    Results,
    /// Status snapshots.
    Metrics,
}

impl Lane {
    /// All four, the most urgent first.
    pub const ALL: [Lane; 4] = [Lane::Urgent, Lane::Signals, Lane::Results, Lane::Metrics];

    /// The lane of a family and type.
    pub fn of(family: Family, kind_type: &str, commands: &Commands) -> Self {
        match family {
            Family::Signal => match commands.get(kind_type) {
                Some(command) if command.class.always_passes() => Lane::Urgent,
                _ => Lane::Signals,
            },
            Family::Outcome | Family::Alert => Lane::Results,
            Family::Metric => Lane::Metrics,
        }
    }

    /// Its word in queue names, metrics and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Lane::Urgent => "urgent",
            Lane::Signals => "signals",
            Lane::Results => "results",
            Lane::Metrics => "metrics",
        }
    }
}

/// A way out of the router: a task with channels of its own, so that none holds another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Stop and tightening.
    Urgent,
    /// Every other signal.
    Signals,
    /// Forwarded outcomes and alerts.
    Results,
    /// Statuses.
    Metrics,
    /// What the router says because of a signal.
    Own,
    /// Refused copies.
    Refused,
}

impl Way {
    /// All six.
    pub const ALL: [Way; 6] = [Way::Urgent, Way::Signals, Way::Results, Way::Metrics, Way::Own, Way::Refused];

    /// Its word in logs, metrics and `/readyz`.
    pub const fn word(self) -> &'static str {
        match self {
            Way::Urgent => "urgent",
            Way::Signals => "signals",
            Way::Results => "results",
            Way::Metrics => "metrics",
            Way::Own => "own",
            Way::Refused => "refused",
        }
    }

    /// Whether messages to one scope leave in the order of their entries. Stops may overtake each
    /// other, statuses are ordered by their timestamps, and refused copies by nobody.
    pub const fn keeps_order(self) -> bool {
        matches!(self, Way::Signals | Way::Results | Way::Own)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}
