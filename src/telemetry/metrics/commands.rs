//! The metrics of commands: how they ended, and how long each step took.
//!
//! Owns: one series for each type of the command table with each status that it can end with, and
//! the histograms.
//! Never: makes a series of a word that a target said; what is not in the table is `other`.
//! Holds: as many series as the config has types and success words, from the start.

use std::collections::BTreeMap;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

use super::{Section, labels::count};
use crate::{
    contract::command::{Class, Command, Commands},
    decision::{
        rules::words::REPORTED,
        state::steps::{CommandStep, Reached},
    },
};

/// What is not in the table.
const OTHER: &str = "other";
/// How a command of any type can end besides its own success: the router's words, and what targets
/// are told to say.
const STATUSES: [&str; 7] = ["Failed", "NotReady", "Partial", "Refused", "Superseded", "TimedOut", OTHER];
/// Up to how many seconds each bucket goes: 1 s is what a stop is held to, 180 s the longest
/// built-in deadline.
const BUCKETS_S: [f64; 15] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 180.0];
/// The steps of which the time is measured, in the order of `Reached`.
const STEPS: [&str; 3] = ["carried", "observed", "ended"];
/// What types do, as far as the times are told apart.
const CLASSES: [&str; 3] = ["stop", "start", OTHER];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    status: String,
    r#type: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassStep {
    class: &'static str,
    step: &'static str,
}

/// Every series of commands.
#[derive(Debug)]
pub(super) struct CommandSeries {
    /// By type and then status.
    ended: BTreeMap<String, BTreeMap<String, Counter>>,
    seconds: [[Histogram; STEPS.len()]; CLASSES.len()],
    pub overdue: Gauge,
}

impl CommandSeries {
    pub fn new(registry: &mut Section<'_>, commands: &Commands) -> Self {
        let help = "Commands that ended, by type and the status that ended them";
        let ended: Family<Ended, Counter> = registry.family("commands_ended", help);
        let rows = commands.iter().map(|row| (row.kind_type.as_str(), statuses(row)));
        let other = (OTHER, STATUSES.map(str::to_owned).into());
        let series = |(kind_type, statuses): (&str, Vec<String>)| {
            let counter = |status: String| {
                let labels = Ended { status: status.clone(), r#type: kind_type.to_owned() };
                (status, ended.get_or_create_owned(&labels))
            };
            (kind_type.to_owned(), statuses.into_iter().map(counter).collect())
        };
        let ended = rows.chain([other]).map(series).collect();
        let help = "Seconds from a command's acceptance until the broker took it, its target gave a first sign, and it ended";
        let histogram = || Histogram::new(BUCKETS_S);
        let seconds = Family::<ClassStep, Histogram, fn() -> Histogram>::new_with_constructor(histogram);
        let seconds = registry.one("command_seconds", help, seconds);
        let seconds =
            CLASSES.map(|class| STEPS.map(|step| seconds.get_or_create_owned(&ClassStep { class, step })));
        let help = "Commands past their deadline that have not ended; what nobody can end while the broker is away is none";
        let overdue = registry.one("commands_overdue", help, Gauge::default());
        Self { ended, seconds, overdue }
    }

    pub fn step(&self, step: &CommandStep) {
        if let Reached::Ended { kind_type, status } = &step.reached {
            let types = &self.ended;
            let statuses = types.get(kind_type).or_else(|| types.get(OTHER));
            let counter = statuses.and_then(|statuses| statuses.get(status).or_else(|| statuses.get(OTHER)));
            counter.map(Counter::inc);
        }
        let class = match step.class {
            Some(Class::Stop | Class::Tighten) => 0,
            Some(Class::Start) => 1,
            _ => 2,
        };
        let reached = match step.reached {
            Reached::Carried => 0,
            Reached::Observed => 1,
            Reached::Ended { .. } => 2,
        };
        let histogram = self.seconds.get(class).and_then(|steps| steps.get(reached));
        if let (Some(histogram), Some(micros)) = (histogram, step.took_micros) {
            histogram.observe(micros as f64 / 1e6);
        }
    }

    pub fn set_overdue(&self, commands: usize) {
        self.overdue.set(count(commands));
    }
}

/// The statuses that a type of the table can end with.
fn statuses(row: &Command) -> Vec<String> {
    // What a status answers ends with a word of the router's own.
    let reported = row.success.is_empty().then(|| REPORTED.to_owned());
    row.success.iter().cloned().chain(reported).chain(STATUSES.map(str::to_owned)).collect()
}
