//! How long commands took: the steps that a fact makes of them, for whoever measures.
//!
//! Owns: which facts are a step of a command in flight, and from when each is counted.
//! Never: changes anything, or says anything of a command of which a person's time is a part.
//! Holds: asked before each fact is applied, every command gives each step at most once and every
//! end exactly once.

use std::collections::BTreeSet;

use crate::{
    contract::{
        audit::{Carried, Change, Ended, Fact, ResultSeen},
        command::Class,
        timestamp::Timestamp,
    },
    decision::state::{
        State,
        flight::Flight,
        key::{self, Short},
    },
};

/// A step of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandStep {
    /// What its type does; `None` where the type is not in the table any more.
    pub class: Option<Class>,
    /// How far it came.
    pub reached: Reached,
    /// How long after its acceptance, in microseconds; `None` for what is no measure of the router
    /// or its targets.
    pub took_micros: Option<i64>,
}

/// How far a command came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// The broker took it.
    Carried,
    /// A target gave its first sign of it.
    Observed,
    /// It ended.
    Ended {
        /// Its type.
        kind_type: String,
        /// The status that ended it.
        status: String,
    },
}

impl State {
    /// The steps that a fact makes which is not applied yet.
    pub fn steps(&self, fact: &Fact) -> Vec<CommandStep> {
        match &fact.change {
            Change::Carried(carried) => self.steps_carried(carried, fact.at),
            Change::Observed(of) => self.step_observed(key::short(of.command), fact.at).into_iter().collect(),
            Change::Result(result) => self.steps_of_result(result, fact),
            Change::Ended(ended) => self.step_ended(ended, fact).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// How many commands are past their deadline and have not ended. More than `max` are not
    /// counted.
    pub fn commands_overdue(&self, now: Timestamp, max: usize) -> usize {
        self.recorded.flights.overdue(now.micros()).take(max).count()
    }

    fn steps_carried(&self, carried: &Carried, at: Timestamp) -> Vec<CommandStep> {
        let returned: BTreeSet<u64> = carried.commands_returned().collect();
        let flights = carried.spans.iter().flat_map(|span| self.recorded.flights.of_span(*span));
        let left = flights.filter(|flight| flight.carried_at.is_none() && !returned.contains(&flight.seq));
        left.filter_map(|flight| self.step(flight, Reached::Carried, at)).collect()
    }

    fn step_observed(&self, key: Short, at: Timestamp) -> Option<CommandStep> {
        let flight = self.recorded.flights.get(key).filter(|flight| flight.observed_at.is_none())?;
        self.step(flight, Reached::Observed, at)
    }

    /// An answer is a first sign too, and so is whatever else its target says under the command's
    /// correlationId.
    fn steps_of_result(&self, result: &ResultSeen, fact: &Fact) -> Vec<CommandStep> {
        let ends = result.ends.as_ref();
        let mut signs: BTreeSet<Short> =
            result.answers.iter().map(|heard| &heard.command).map(|command| key::short(*command)).collect();
        signs.extend(ends.map(|ended| key::short(ended.command)));
        if let (Some(subject), Some(correlation_id)) = (&fact.subject, &fact.correlation_id) {
            let trace = key::trace(correlation_id);
            signs.extend(self.recorded.flights.of_trace(trace, &subject.scope).map(|(key, _)| key));
        }
        let mut steps: Vec<CommandStep> =
            signs.into_iter().filter_map(|key| self.step_observed(key, fact.at)).collect();
        steps.extend(ends.and_then(|ended| self.step_ended(ended, fact)));
        steps
    }

    fn step_ended(&self, ended: &Ended, fact: &Fact) -> Option<CommandStep> {
        let key = key::short(ended.command);
        if self.recorded.commands.get(&key).is_some_and(|known| known.ended.is_some()) {
            return None;
        }
        let status = ended.status.clone();
        match self.recorded.flights.get(key) {
            Some(flight) => {
                let kind_type = flight.kind_type.clone();
                let reached = Reached::Ended { kind_type, status };
                let took_micros = measured(flight).then(|| since(flight, fact.at));
                Some(CommandStep { class: self.class_of(&flight.kind_type), reached, took_micros })
            }
            // The router answered it in the decision that accepted it: there is nothing to measure.
            None => {
                let kind_type = fact.subject.as_ref()?.kind_type.clone();
                let class = self.class_of(&kind_type);
                Some(CommandStep { class, reached: Reached::Ended { kind_type, status }, took_micros: None })
            }
        }
    }

    fn step(&self, flight: &Flight, reached: Reached, at: Timestamp) -> Option<CommandStep> {
        let took_micros = Some(since(flight, at));
        let class = self.class_of(&flight.kind_type);
        measured(flight).then_some(CommandStep { class, reached, took_micros })
    }

    fn class_of(&self, kind_type: &str) -> Option<Class> {
        self.rules.commands.get(kind_type).map(|row| row.class)
    }
}

/// A confirmation takes a person's time, and a command that was parked waited for a target that was
/// not there.
fn measured(flight: &Flight) -> bool {
    flight.challenge.is_none() && flight.parked.is_none()
}

fn since(flight: &Flight, at: Timestamp) -> i64 {
    at.micros().saturating_sub(flight.accepted_at).max(0)
}
