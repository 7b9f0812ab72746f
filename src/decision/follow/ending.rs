//! Which outcome ends a command, and what a fan-out's answers come to.
//!
//! Owns: matching an outcome with the commands that wait for it, the router's own word on a
//! fan-out, and what a late answer is.
//! Never: lets anybody's outcome but a target's count, whatever its correlationId says.
//! Holds: a command ends once; of a fan-out any failure is `Failed`, any missing answer `Partial`.
//! The rules: spec/rules.md#ends and #late-outcomes.

use serde_json::{Value, json};

use crate::{
    contract::{
        Said,
        audit::{Action, Actor, Change, Ended, Fact, Heard, ResultSeen, Subject, Verdict},
        bound::Bound,
        digest::Digest,
        reason::Reason,
        routing::Family,
        schema::STATUS_FULL,
        timestamp::Timestamp,
        tree::View,
    },
    decision::{
        effect::{Effect, Speech},
        facts,
        follow::{alert, bound},
        outcome::Decision,
        rules::{
            Rules,
            words::{self, REPORTED},
        },
        state::{
            State, configs,
            flight::{self, Flight},
            key::{self, Short},
            room,
        },
    },
};

/// How many instances an outcome names at most; the rest is a number.
const NAMES_MAX: usize = 50;

/// What an outcome is to the commands in flight.
#[derive(Default)]
pub(in crate::decision) struct Ending {
    /// Fan-outs that it answers.
    pub answers: Vec<Heard>,
    /// The command to one instance that it ends.
    pub ends: Option<Ended>,
    /// That command's correlationId: a status has none of its own, and whoever asked looks for the
    /// end by it.
    pub correlation_id: Option<String>,
    /// Fan-outs that are complete with it.
    complete: Vec<Short>,
    /// The parcel of the command that it ends, where that waits still.
    parcel: Option<u64>,
    /// It answers a command that the router has ended before.
    late: bool,
    /// There is no room for the answer of one that nobody knew.
    uncounted: bool,
    /// What else there is no room to remember of it.
    forgets: Vec<Bound>,
    /// The first command that it answers.
    first: Option<Short>,
}

/// Matches an outcome.
pub(in crate::decision) fn of_outcome(state: &State, said: &Said) -> Ending {
    let mut ending = Ending::default();
    let Some(correlation_id) =
        said.envelope.correlation_id.as_deref().filter(|_| said.key.family == Family::Outcome)
    else {
        return ending;
    };
    let status = said.envelope.data.get("status").and_then(View::as_str).unwrap_or_default();
    let success = state.rules().is_success(&said.key.kind_type, status);
    let flights = state.in_flight().of_trace(key::trace(correlation_id), &said.key.scope);
    for (key, flight) in flights.filter(|(_, flight)| flight.kind_type == said.key.kind_type) {
        ending.hear(state, (key, flight), said, status, success);
    }
    // Only a success counts as late: a late failure says nothing of what runs.
    ending.late = ending.answers.is_empty()
        && ending.ends.is_none()
        && success
        && state.is_late(key::late(&said.key.kind_type, correlation_id), &said.key.scope);
    ending
}

/// Matches a status: it answers those that asked its sender for one.
pub(in crate::decision) fn of_status(state: &State, said: &Said) -> Ending {
    let mut ending = Ending::default();
    if said.key.kind_type == STATUS_FULL {
        for (key, flight) in state.in_flight().asking(&said.key.scope) {
            ending.hear(state, (key, flight), said, REPORTED, true);
        }
    }
    ending
}

impl Ending {
    fn hear(
        &mut self,
        state: &State,
        (key, flight): (Short, &Flight),
        said: &Said,
        status: &str,
        success: bool,
    ) {
        // Nobody can answer what was never carried.
        if flight.awaits_confirmation() {
            return;
        }
        let command = flight.command;
        self.first.get_or_insert(key);
        if !flight.fans_out() {
            // One outcome ends one command, although several may share type, target and
            // correlationId.
            if self.ends.is_none() {
                self.ends = Some(Ended { command, status: status.to_owned() });
                self.correlation_id.clone_from(&flight.correlation_id);
                self.parcel = flight.kept();
            }
            return;
        }
        // Only those whom nobody expected: a target that is recorded always has its place.
        if !flight.records(&said.key.scope)
            && (flight.targets.len() >= state.rules().targets_max
                || self.answers.len() >= room::targets_left(state))
        {
            self.uncounted = true;
            return;
        }
        self.answers.push(Heard { command, status: status.to_owned(), success });
        // Only a target that was known and missing completes it: one that nobody knew leaves it to
        // the deadline.
        let mut missing = flight.targets.iter().filter(|target| target.answer.is_none());
        let last = missing.next().is_some_and(|target| target.scope == said.key.scope);
        if last && missing.next().is_none() {
            self.complete.push(key);
        }
    }

    /// Names in its entry the command that it answers, the first where it answers more: its sender
    /// may leave that out.
    pub fn name(&self, state: &State, fact: &mut Fact) {
        let Some(flight) = self.first.and_then(|key| state.in_flight().get(key)) else { return };
        fact.command = Some(flight.asked.clone());
        fact.idempotency_key = fact.idempotency_key.take().or_else(|| flight.idempotency_key.clone());
    }

    /// Whether it answers a command, in time or late.
    pub fn matches(&self) -> bool {
        !self.is_nothing() || self.late
    }

    /// Whether it ends a command to one instance, in time.
    pub fn ends_one(&self) -> bool {
        self.ends.is_some()
    }

    /// The entry that accepted the command which it answers, in time or late; the first where it
    /// answers more.
    pub fn accepted_seq(&self, state: &State, said: &Said) -> Option<u64> {
        let flight = self.first.and_then(|key| state.in_flight().get(key));
        flight.map(|flight| flight.seq).or_else(|| state.late_seq(said))
    }

    /// Whether there is nothing to remember of it.
    pub fn is_nothing(&self) -> bool {
        self.answers.is_empty() && self.ends.is_none()
    }

    /// The change that remembers it.
    pub fn change(&mut self, state: &State, said: &Said, identity: Digest) -> Change {
        let forgets = state.results_count() >= room::results_max(state);
        let config = configs::without_config(state, &said.key.scope, &self.applied(state));
        self.forgets.extend(forgets.then_some(Bound::Results).into_iter().chain(config));
        Change::Result(ResultSeen {
            answers: self.answers.clone(),
            ends: self.ends.clone(),
            forgets,
            forgets_config: config.is_some(),
            identity,
        })
    }

    /// The config-updates that it may say were applied.
    fn applied<'a>(&self, state: &'a State) -> Vec<&'a Flight> {
        let heard = self.answers.iter().map(|heard| heard.command);
        let commands = heard.chain(self.ends.iter().map(|ended| ended.command));
        let flights = commands.filter_map(|command| state.in_flight().get(key::short(command)));
        flights.filter(|flight| flight.patch.is_some()).collect()
    }

    /// Adds the router's word on what is complete with it, and the alert for what comes too late.
    pub fn follow(self, state: &State, said: &Said, now: Timestamp, decision: &mut Decision) {
        decision.effects.extend(self.parcel.map(|parcel| Effect::Drop { parcel }));
        let uncounted = self.uncounted.then_some(Bound::Targets);
        uncounted.iter().chain(&self.forgets).for_each(|bound| bound::hit(state, *bound, now, decision));
        for key in self.complete {
            let Some(flight) = state.in_flight().get(key) else { continue };
            // The answer is not folded in yet, and the matrix of this end must have it.
            let mut flight = flight.clone();
            let command = flight.command;
            for heard in self.answers.iter().filter(|heard| heard.command == command) {
                flight.answer(&said.key.scope, heard, now.micros());
            }
            let status = sum(state.rules(), &flight);
            end(state, &flight, &status, ("every target has answered", None), now, decision);
        }
        if self.late {
            let notice = alert::Notice {
                code: "lifecycle.late",
                message: "a target answered a command that had been ended for it",
                about: &said.key.scope.to_string(),
                count: 1,
                correlation_id: said.envelope.correlation_id.as_deref(),
            };
            alert::raise(state, &notice, now, decision);
        }
    }
}

/// The router's word on a fan-out: any failure fails it, any missing answer leaves it partial.
pub(in crate::decision) fn sum(rules: &Rules, flight: &Flight) -> String {
    let answers = || flight.targets.iter().filter_map(|target| target.answer.as_ref());
    if answers().any(|answer| !answer.success) {
        return "Failed".to_owned();
    }
    if flight.missing() > 0 {
        return "Partial".to_owned();
    }
    let success = rules.commands.get(&flight.kind_type).and_then(|row| row.success.first());
    success.cloned().unwrap_or_else(|| REPORTED.to_owned())
}

/// Ends a command by the router's own word: an entry and an outcome.
pub(in crate::decision) fn end(
    state: &State,
    flight: &Flight,
    status: &str,
    (detail, reason): (&str, Option<Reason>),
    now: Timestamp,
    decision: &mut Decision,
) {
    let speech =
        Speech::ending(state.rules(), flight, status, (detail, reason), context(state, flight, status), now);
    let ended = Ended { command: flight.command, status: status.to_owned() };
    let router = Actor::router(&state.rules().instance);
    decision.facts.push(Fact {
        detail: Some(detail.to_owned()),
        payload: Some(speech.payload()),
        reason,
        subject: Some(Subject {
            family: Family::Outcome,
            kind_type: flight.kind_type.clone(),
            scope: flight.scope.clone(),
        }),
        verdict: Some(Verdict::Forward),
        ..facts::of_command(flight, router, action(status), Change::Ended(ended), now)
    });
    decision.effects.push(Effect::Speak(speech));
    // In the same decision, whoever ends it: afterwards no command names the parcel.
    decision.effects.extend(flight.kept().map(|parcel| Effect::Drop { parcel }));
}

/// What an end by the router's word is: done, denied, or over without having been done.
fn action(status: &str) -> Action {
    match status {
        "Refused" => Action::Denied,
        "TimedOut" | "Partial" | "Superseded" => Action::Ended,
        _ => Action::Applied,
    }
}

/// What goes with an end for machines: the matrix, and what to do next where trying again makes
/// sense.
fn context(state: &State, flight: &Flight, status: &str) -> Value {
    let next_step = match status {
        words::TIMED_OUT if flight.never_left() => {
            "send it again; the same idempotencyKey may be used, because it never reached its target"
        }
        words::TIMED_OUT | "Partial" => {
            "find out what it did, then send it again under a new idempotencyKey; under this one only its outcome is published again"
        }
        _ => return matrix(state, flight),
    };
    let mut context = matrix(state, flight);
    if let Some(context) = context.as_object_mut() {
        context.insert("nextStep".to_owned(), Value::from(next_step));
    }
    context
}

/// Who was addressed and who answered what, as the outcome's context.
fn matrix(state: &State, flight: &Flight) -> Value {
    let names = |wanted: &dyn Fn(&flight::Target) -> bool| -> Vec<String> {
        let named = flight.targets.iter().filter(|target| wanted(target));
        named.take(NAMES_MAX).map(|target| target.scope.to_string()).collect()
    };
    let failed = |target: &flight::Target| target.answer.as_ref().is_some_and(|answer| !answer.success);
    let evidence = state.evidence(flight).map(
        |evidence| json!({ "at": evidence.at, "detail": evidence.detail, "kind": evidence.kind.word() }),
    );
    json!({
        "command": flight.seq,
        "acceptedAt": Timestamp::from_micros(flight.accepted_at),
        "carriedAt": flight.carried_at.map(Timestamp::from_micros),
        "observedAt": flight.observed_at.map(Timestamp::from_micros),
        "evidence": evidence,
        "targets": flight.targets.len(),
        "missing": flight.missing(),
        "missingNames": names(&|target| target.answer.is_none()),
        "failedNames": names(&failed),
    })
}

/// The first sign that a status gives of the commands whose correlationId it carries.
pub(in crate::decision) fn first_signs(state: &State, said: &Said, now: Timestamp) -> Vec<Fact> {
    let Some(correlation_id) = said.envelope.correlation_id.as_deref() else { return Vec::new() };
    let flights = state.in_flight().of_trace(key::trace(correlation_id), &said.key.scope);
    let flights = flights.filter(|(_, flight)| flight.observed_at.is_none());
    flights.map(|(_, flight)| facts::of_step(state, flight, facts::RouterStep::Observed, now)).collect()
}
