//! Command keys: what was accepted, what ended it, and what may be answered late.
//!
//! Owns: how an accepted command, its end and a result are folded in.
//! Never: forgets a key before its window is over.
//! Holds: a key is bound by an accepted command only.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    contract::{
        Said,
        audit::{Accepted, Actor, Asked, Ended, Fact, Proof, ResultSeen},
        digest::Digest,
        envelope::VERSION,
        interlock::Life,
        reason::Reason,
        routing::Scope,
        timestamp::Timestamp,
    },
    decision::{
        rules::{
            lifecycle::{self, Step},
            words::{ACK, APPLIED, REMOVED, SWARM_REMOVE, TIMED_OUT},
        },
        state::{
            Recorded, State,
            challenge::Challenge,
            flight::{Flight, Target},
            key::{self, Short},
            leaving::{self, Leaving},
            payload,
        },
    },
};

/// A command that was accepted within the window.
#[derive(Clone, Debug, Serialize)]
pub(super) struct RememberedCommand {
    pub compared: Short,
    pub first_seen: i64,
    /// Entry of the outcome that ended it.
    pub ended: Option<u64>,
    /// Recognises a late answer to it: a short digest of its type and correlationId.
    pub late: Short,
    /// Nobody answered it in time, and it never reached its target.
    pub undelivered: bool,
    /// The entry that accepted it, where the router has ended it and it may be on its way still: it
    /// is to leave no more.
    pub withdrawn: Option<u64>,
}

/// A command that the router ended.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Late {
    command: Short,
    /// Whose answer would be late.
    pub scope: Scope,
    /// The entry that accepted it.
    pub seq: u64,
}

impl Recorded {
    pub(super) fn accept(
        &mut self,
        seq: u64,
        fact: &Fact,
        accepted: &Accepted,
        challenge: Option<Box<Challenge>>,
    ) {
        let at = fact.at.micros();
        let Some(subject) = &fact.subject else { return };
        // Before the key: a stop that binds none overtakes all the same.
        if let Some(overtakes) = accepted.overtakes {
            self.stopped(accepted.counts_for.as_ref().unwrap_or(&subject.scope), overtakes.micros(), at);
        }
        if Step::of(&subject.kind_type) == Some(Step::Quarantine) {
            self.quarantined(&subject.scope, seq, accepted.forgets_bot);
        }
        let Some(command) = accepted.command else { return };
        let key = key::short(command);
        let correlation_id = fact.correlation_id.as_deref().unwrap_or_default();
        let late = key::late(&subject.kind_type, correlation_id);
        let known = RememberedCommand {
            compared: key::short(accepted.compared),
            first_seen: at,
            ended: None,
            late,
            undelivered: false,
            withdrawn: None,
        };
        if self.commands.insert(key, known).is_none() {
            self.leaving.push_back((at, Leaving::Command(key)));
        }
        if challenge.is_none() {
            self.started(&subject.scope, late, accepted.leads_to, accepted.forgets_bot);
        }
        let Some(deadline) = accepted.deadline else { return };
        let targets = if subject.scope.fans_out() {
            accepted.targets.as_slice()
        } else {
            std::slice::from_ref(&subject.scope)
        };
        self.flights.accept(
            key,
            Flight {
                seq,
                command,
                kind_type: subject.kind_type.clone(),
                scope: subject.scope.clone(),
                sender: fact.actor.clone().unwrap_or_else(Actor::unknown),
                correlation_id: fact.correlation_id.clone(),
                idempotency_key: fact.idempotency_key.clone(),
                asked: fact.command.clone().unwrap_or_else(|| of_type(&subject.kind_type)),
                always_passes: accepted.always_passes,
                accepted_at: at,
                deadline: deadline.micros(),
                carried_at: None,
                observed_at: None,
                evidence: None,
                targets: targets.iter().map(|scope| Target { scope: scope.clone(), answer: None }).collect(),
                parked: None,
                patch: payload::patch(fact)
                    .map(|patch| if accepted.forgets_patch { String::new() } else { patch }),
                leads_to: accepted.leads_to,
                challenge,
                trace: key::trace(correlation_id),
            },
        );
        if accepted.parked {
            self.flights.park(key, seq, at);
        }
    }

    pub(super) fn end(&mut self, seq: u64, fact: &Fact, ended: &Ended) {
        let key = key::short(ended.command);
        let why = fact.reason.filter(|reason| *reason == Reason::ChallengeExpired);
        // Both read the flight, and so stand before its end.
        self.close(key, why.unwrap_or(Reason::ChallengeUsed), false, true);
        let never_left = self.flights.get(key).is_some_and(Flight::never_left);
        let flight = self.flights.end(key);
        let Some(known) = self.commands.get_mut(&key) else { return };
        if known.ended.is_some() {
            return;
        }
        known.ended = Some(seq);
        known.undelivered = never_left && ended.status == TIMED_OUT;
        // Nothing comes too late for a fan-out that every target has answered.
        let complete =
            flight.as_ref().is_some_and(|flight| !flight.targets.is_empty() && flight.missing() == 0);
        let by_router = fact.actor.as_ref().is_some_and(|actor| actor.by == Proof::Router);
        let may_come_late = by_router && !complete && !never_left;
        if let Some(flight) = flight.as_deref().filter(|_| may_come_late) {
            // By the command: commands that share a correlationId share the place of what is late.
            // What the router answers at once is on its way all the same.
            known.withdrawn = (!matches!(ended.status.as_str(), ACK | APPLIED)).then_some(flight.seq);
            self.late.insert(known.late, Late { command: key, scope: flight.scope.clone(), seq: flight.seq });
        }
        if let Some(flight) =
            flight.filter(|flight| flight.kind_type == SWARM_REMOVE && ended.status == REMOVED)
        {
            self.known.remove_swarm(&flight.scope.swarm_id);
            self.applied.remove_swarm(&flight.scope.swarm_id);
            self.sessions.retain(|scope, _| scope.swarm_id != flight.scope.swarm_id);
            // What is quarantined stays so, whatever becomes of its swarm.
            let swarm = &flight.scope.swarm_id;
            self.bots.retain(|scope, bot| scope.swarm_id != *swarm || bot.life == Life::Quarantined);
        }
    }

    pub(super) fn result(&mut self, seq: u64, fact: &Fact, result: &ResultSeen) {
        let at = fact.at.micros();
        let identity = key::short(result.identity);
        if !result.forgets && self.results.insert(identity) {
            self.leaving.push_back((at, Leaving::Result(identity)));
        }
        let Some(subject) = &fact.subject else { return };
        self.start_answered(fact, subject);
        // An applied patch is read before the end takes its flight away.
        for heard in &result.answers {
            if heard.success {
                self.applied_by(key::short(heard.command), &subject.scope, result.forgets_config, at);
            }
            self.flights.hear(key::short(heard.command), &subject.scope, heard, at);
        }
        if let Some(ended) = &result.ends {
            if ended.status == APPLIED {
                self.applied_by(key::short(ended.command), &subject.scope, result.forgets_config, at);
            }
            self.end(seq, fact, ended);
        }
        if self.flights.waits_for(&subject.scope) {
            self.note(fact, &subject.scope, subject.family);
        }
    }

    /// Forgets a key. A command that is in flight still, because outages have put its end off, ends
    /// all the same.
    pub(super) fn forget_command(&mut self, key: Short) {
        let Some(known) = self.commands.remove(&key) else { return };
        // Another command of the same correlationId may have the place by now.
        if self.late.get(&known.late).is_some_and(|late| late.command == key) {
            self.late.remove(&known.late);
        }
    }
}

/// What the gates know of a command key.
#[derive(Clone, Copy, Debug)]
pub(in crate::decision) struct KnownKey {
    compared: Short,
    /// Entry of the outcome that ended it, where it has ended.
    pub ended: Option<u64>,
    /// Entry of its challenge, where it waits for its confirmation.
    pub challenge: Option<u64>,
    /// It ended without having reached its target.
    pub undelivered: bool,
}

impl KnownKey {
    /// Whether a body is the one that bound the key.
    pub fn is_same(self, compared: Digest) -> bool {
        self.compared == key::short(compared)
    }
}

impl State {
    /// How many command keys are remembered.
    pub fn keys(&self) -> usize {
        self.recorded.commands.len()
    }

    /// The entry of the outcome that ended a command, by its identity.
    pub fn ended_by(&self, command: Digest) -> Option<u64> {
        self.recorded.commands.get(&key::short(command))?.ended
    }

    pub(in crate::decision) fn command(&self, command: Digest, now: Timestamp) -> Option<KnownKey> {
        let known = self.recorded.commands.get(&key::short(command))?;
        // Keys leave with the next fact, and time passes without one.
        let remembered = !leaving::has_left(known.first_seen, now.micros(), self.rules.idempotency_window_ms);
        let flight = self.recorded.flights.get(key::short(command));
        let waits = flight.filter(|flight| flight.awaits_confirmation());
        // The entry after a challenged command's own is its challenge.
        let challenge = waits.map(|flight| flight.seq + 1);
        remembered.then_some(KnownKey {
            compared: known.compared,
            ended: known.ended,
            challenge,
            undelivered: known.undelivered,
        })
    }

    /// Whether the router ended a command of that type and correlationId that its target may still
    /// answer.
    pub(in crate::decision) fn is_late(&self, late: Short, scope: &Scope) -> bool {
        self.recorded.late.get(&late).is_some_and(|late| late.scope.covers(scope))
    }

    /// The entry of a command that the router has ended and that may still leave.
    pub fn ended_seq(&self, command: Digest) -> Option<u64> {
        self.recorded.commands.get(&key::short(command))?.withdrawn
    }

    /// The entries of all those that are remembered.
    pub fn ended_seqs(&self) -> BTreeSet<u64> {
        self.recorded.commands.values().filter_map(|known| known.withdrawn).collect()
    }

    /// The entry that accepted the command which the router has ended and this outcome answers.
    pub(in crate::decision) fn late_seq(&self, said: &Said) -> Option<u64> {
        let trace = said.envelope.correlation_id.as_deref().unwrap_or_default();
        let late = self.recorded.late.get(&key::late(&said.key.kind_type, trace))?;
        late.scope.covers(&said.key.scope).then_some(late.seq)
    }

    pub(in crate::decision) fn knows_result(&self, identity: Digest) -> bool {
        self.recorded.results.contains(&key::short(identity))
    }

    /// How many outcomes and alerts are remembered.
    pub(in crate::decision) fn results_count(&self) -> usize {
        self.recorded.results.len()
    }
}

/// What is known of a command by its type alone: of an entry of a release that did not write it.
pub(in crate::decision) fn of_type(kind_type: &str) -> Asked {
    Asked {
        requested_transition: lifecycle::step_of_type(kind_type).map(str::to_owned),
        run_id: None,
        schema_version: VERSION.to_owned(),
        trace_id: None,
    }
}
