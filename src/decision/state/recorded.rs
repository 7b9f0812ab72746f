//! The recorded half: the fold of facts.
//!
//! Owns: what each fact does, and how long what is remembered stays.
//! Never: reads anything but the fact it is given: what a later decision must repeat is in the ledger.
//! Holds: fold(ledger) gives the same digest on every machine; what leaves, leaves by time and never by count.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{
    known::Known,
    payload::{PATCH_BYTES_MAX, patch, word},
};
use crate::{
    contract::{
        audit::{
            Accepted, Actor, Carried, Change, EmergencyId, Ended, Evidence, EvidenceKind, Fact, Genesis,
            Proof, ResultSeen, Standing, Stepped,
        },
        canonical,
        interlock::Life,
        reason::Reason,
        routing::{ALL, Family, Scope},
        timestamp::Timestamp,
    },
    decision::{
        command::{
            self,
            challenge::{Challenge, Closed},
            flight::{Flight, Flights, Short, Target},
            short,
        },
        lifecycle::{Bot, Step},
        presence,
        safety::Safety,
        session::Session,
    },
};

/// The type whose success takes a swarm out of the inventory.
pub(super) const SWARM_REMOVE: &str = "swarm-remove";
/// That success.
pub(super) const REMOVED: &str = "Removed";
/// The success that changes an instance's config.
const APPLIED: &str = "Applied";

/// The fold of facts.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Recorded {
    pub genesis: Option<Genesis>,
    pub epoch: u64,
    /// The random bits of the last opening, in hex.
    pub incarnation: String,
    pub last_seq: u64,
    pub last_at: i64,
    /// The newest entry that was first sealed while the ledger could not be written.
    pub newest_emergency: Option<EmergencyId>,
    pub commands: BTreeMap<Short, Command>,
    pub flights: Flights,
    /// Commands that the router ended, by type and correlationId: their targets may still answer.
    pub late: BTreeMap<Short, Late>,
    pub results: BTreeSet<Short>,
    #[serde(serialize_with = "pairs")]
    pub stops: BTreeMap<Scope, i64>,
    /// Every instance that has shown itself, and when first.
    pub known: Known,
    /// The config-updates that each instance applied, as one patch (canonical JSON).
    #[serde(serialize_with = "pairs")]
    pub applied: BTreeMap<Scope, Applied>,
    /// Where bots are; one that nobody moved is CREATED, and not here.
    #[serde(serialize_with = "pairs")]
    pub bots: BTreeMap<Scope, Bot>,
    /// Every worker's session.
    #[serde(serialize_with = "pairs")]
    pub sessions: BTreeMap<Scope, Session>,
    pub safety: Safety,
    /// Challenges that are over, by id.
    pub closed: BTreeMap<String, Closed>,
    /// How often each standing approval was used.
    pub standing_uses: BTreeMap<String, u64>,
    /// Principals that may start nothing, and until when.
    pub suspended: BTreeMap<String, i64>,
    /// What leaves next, oldest first: all windows are equally long, so order of sighting is order of leaving.
    pub(super) leaving: VecDeque<(i64, Leaving)>,
}

/// The config-updates that an instance applied.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Applied {
    /// An empty text where it is too large to be remembered.
    pub patch: String,
    /// When the last of them was, in microseconds since the epoch.
    pub at: i64,
}

/// JSON has no keys but text.
fn pairs<V: Serialize, S: Serializer>(map: &BTreeMap<Scope, V>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map)
}

/// A command that was accepted within the window.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Command {
    pub compared: Short,
    pub first_seen: i64,
    /// Entry of the outcome that ended it.
    pub ended: Option<u64>,
    /// What tells a late answer to it.
    pub late: Short,
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

#[derive(Clone, Debug, Serialize)]
pub(super) enum Leaving {
    Command(Short),
    Result(Short),
    Stop(Box<Scope>),
    Challenge(Box<str>),
    Session(Box<Scope>),
}

impl Recorded {
    /// Folds a fact in. `window_ms` is how long commands, results and stops are remembered.
    pub fn apply(&mut self, seq: u64, fact: &Fact, window_ms: u64) {
        let (at, before) = (fact.at.micros(), self.last_at);
        self.last_seq = seq;
        self.last_at = before.max(at);
        self.newest_emergency = self.newest_emergency.max(fact.emergency_id);
        self.forget(at, window_ms);
        match &fact.change {
            Change::None | Change::Tallied(_) => {}
            Change::Carried(carried) => self.carried(carried, fact.at),
            Change::Genesis(genesis) => {
                self.safety.global.mode = Some(genesis.initial_mode);
                self.genesis = Some(genesis.clone());
            }
            Change::Opened(opened) => {
                self.epoch = opened.epoch;
                self.incarnation.clone_from(&opened.incarnation);
                let not_before = fact.at.plus_ms(opened.catch_up_ms).micros();
                self.flights.put_off(at.saturating_sub(before).max(0), not_before);
            }
            Change::Resumed(resumed) => {
                let paused = Timestamp::from_micros(0).plus_ms(resumed.paused_ms).micros();
                self.flights.put_off(paused, fact.at.plus_ms(resumed.catch_up_ms).micros());
            }
            Change::Stepped(stepped) => self.step(stepped),
            Change::Accepted(accepted) => self.accept(seq, fact, accepted, None),
            Change::Ended(ended) => self.end(seq, fact, ended),
            Change::Result(result) => self.result(seq, fact, result),
            Change::Observed(of) => self.flights.observe(short(of.command), at),
            Change::Parked(of) => self.flights.park(short(of.command), seq, at),
            Change::Released(of) => self.flights.unpark(short(of.command)),
            Change::Presence(presence) => self.presence(fact, presence.now),
            Change::Moved(moved) => self.moved(moved, at),
            Change::Session(moved) => {
                for worker in &moved.workers {
                    let session = Session::after(self.sessions.get(worker), moved.phase, at);
                    if !session.stands() {
                        self.leaving.push_back((at, Leaving::Session(Box::new(worker.clone()))));
                    }
                    self.sessions.insert(worker.clone(), session);
                }
            }
            Change::Safety(set) => self.safety.set(set, fact.at),
            Change::Gate(set) => {
                let reporter = fact.actor.as_ref().map(|actor| actor.principal.as_str());
                self.safety.set_gate(set, reporter.unwrap_or_default(), fact.at);
            }
            Change::Monitoring(set) => self.safety.set_monitoring(set),
            Change::Challenged(challenged) => self.challenged(seq, fact, challenged),
            Change::Confirmed(confirmed) => self.confirmed(confirmed),
            Change::Reviewed(reviewed) => {
                if let Some(closed) = self.closed.get_mut(&reviewed.challenge_id) {
                    closed.unreviewed = false;
                }
            }
            Change::SetBack(_) => self.safety.set_back(),
            Change::Suspended(suspended) => {
                self.suspended.retain(|_, until| at < *until);
                self.suspended.insert(suspended.principal.clone(), suspended.until.micros());
            }
        }
    }

    /// The router's time makes a step: what was is past, and what remained until what is to come remains.
    fn step(&mut self, stepped: &Stepped) {
        let past = |at: &mut i64| *at = stepped.past(*at);
        self.last_at = stepped.to.micros();
        self.commands.values_mut().for_each(|command| past(&mut command.first_seen));
        self.stops.values_mut().for_each(past);
        self.applied.values_mut().for_each(|applied| past(&mut applied.at));
        self.bots.values_mut().for_each(|bot| past(&mut bot.since));
        for session in self.sessions.values_mut() {
            past(&mut session.since);
            session.ready_at.iter_mut().for_each(past);
        }
        self.leaving.iter_mut().for_each(|(at, _)| past(at));
        self.suspended.values_mut().for_each(|until| *until = stepped.ahead(*until));
        self.known.step(stepped);
        self.flights.step(stepped);
        self.safety.step(stepped);
    }

    pub(super) fn accept(
        &mut self,
        seq: u64,
        fact: &Fact,
        accepted: &Accepted,
        challenge: Option<Box<Challenge>>,
    ) {
        let at = fact.at.micros();
        let Some(subject) = &fact.subject else { return };
        if let Some(overtakes) = accepted.overtakes {
            let stop = self.stops.entry(subject.scope.clone()).or_insert(i64::MIN);
            *stop = overtakes.micros().max(*stop);
            self.leaving.push_back((at, Leaving::Stop(Box::new(subject.scope.clone()))));
        }
        if Step::of(&subject.kind_type) == Some(Step::Quarantine) {
            self.quarantined(&subject.scope, seq);
        }
        let Some(command) = accepted.command else { return };
        let key = short(command);
        let correlation_id = fact.correlation_id.as_deref().unwrap_or_default();
        let late = command::late(&subject.kind_type, correlation_id);
        let known = Command { compared: short(accepted.compared), first_seen: at, ended: None, late };
        self.commands.insert(key, known);
        self.leaving.push_back((at, Leaving::Command(key)));
        if challenge.is_none() {
            self.started(&subject.scope, late, accepted.leads_to);
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
                always_passes: accepted.always_passes,
                accepted_at: at,
                deadline: deadline.micros(),
                carried_at: None,
                observed_at: None,
                evidence: None,
                targets: targets.iter().map(|scope| Target { scope: scope.clone(), answer: None }).collect(),
                parked: None,
                patch: patch(fact),
                leads_to: accepted.leads_to,
                challenge,
                trace: command::trace(correlation_id),
            },
        );
        if accepted.parked {
            self.flights.park(key, seq, at);
        }
    }

    fn end(&mut self, seq: u64, fact: &Fact, ended: &Ended) {
        let key = short(ended.command);
        let why = fact.reason.filter(|reason| *reason == Reason::ChallengeExpired);
        self.close(key, why.unwrap_or(Reason::ChallengeUsed), false, true);
        let flight = self.flights.end(key);
        let Some(known) = self.commands.get_mut(&key) else { return };
        if known.ended.is_some() {
            return;
        }
        known.ended = Some(seq);
        // Nothing comes too late for a fan-out that every target has answered.
        let complete =
            flight.as_ref().is_some_and(|flight| !flight.targets.is_empty() && flight.missing() == 0);
        let by_router = fact.actor.as_ref().is_some_and(|actor| actor.by == Proof::Router);
        let was_carried = |flight: &&Flight| by_router && !complete && flight.was_let_go();
        if let Some(flight) = flight.as_deref().filter(was_carried) {
            self.late.insert(known.late, Late { command: key, scope: flight.scope.clone(), seq: flight.seq });
        }
        if let Some(flight) =
            flight.filter(|flight| flight.kind_type == SWARM_REMOVE && ended.status == REMOVED)
        {
            self.known.remove_swarm(&flight.scope.swarm_id);
            self.applied.retain(|scope, _| scope.swarm_id != flight.scope.swarm_id);
            self.sessions.retain(|scope, _| scope.swarm_id != flight.scope.swarm_id);
            // What is quarantined stays so, whatever becomes of its swarm.
            let swarm = &flight.scope.swarm_id;
            self.bots.retain(|scope, bot| scope.swarm_id != *swarm || bot.life == Life::Quarantined);
        }
    }

    fn result(&mut self, seq: u64, fact: &Fact, result: &ResultSeen) {
        let at = fact.at.micros();
        let identity = short(result.identity);
        if self.results.insert(identity) {
            self.leaving.push_back((at, Leaving::Result(identity)));
        }
        let Some(subject) = &fact.subject else { return };
        self.start_answered(fact, subject);
        for heard in &result.answers {
            if heard.success {
                self.applied_by(short(heard.command), &subject.scope, at);
            }
            self.flights.hear(short(heard.command), &subject.scope, heard, at);
        }
        if let Some(ended) = &result.ends {
            if ended.status == APPLIED {
                self.applied_by(short(ended.command), &subject.scope, at);
            }
            self.end(seq, fact, ended);
        }
        if self.flights.waits_for(&subject.scope) {
            self.note(fact, &subject.scope, subject.family);
        }
    }

    /// An instance applied a config-update: what it is patched with from now on.
    fn applied_by(&mut self, key: Short, scope: &Scope, at: i64) {
        let Some(patch) = self.flights.get(key).and_then(|flight| flight.patch.as_deref()) else { return };
        let before = self.applied.get(scope).map_or("{}", |before| before.patch.as_str());
        // What was too large to be remembered, and what is on top of it, leaves nothing known.
        let values = (serde_json::from_str::<Value>(before), serde_json::from_str::<Value>(patch));
        let both = match values {
            (Ok(before), Ok(patch)) => canonical::of(&presence::joined(&before, &patch)),
            _ => Vec::new(),
        };
        let patch = String::from_utf8(both).ok().filter(|both| both.len() <= PATCH_BYTES_MAX);
        self.applied.insert(scope.clone(), Applied { patch: patch.unwrap_or_default(), at });
    }

    /// What an instance says is evidence for the commands that wait for it, and their first sign where it names them.
    fn note(&mut self, fact: &Fact, scope: &Scope, family: Family) {
        let kind = if family == Family::Alert { EvidenceKind::Alert } else { EvidenceKind::Outcome };
        let evidence = Evidence { at: fact.at, detail: word(fact, kind).unwrap_or_default(), kind };
        self.flights.note(scope, evidence);
        let Some(correlation_id) = &fact.correlation_id else { return };
        let trace = command::trace(correlation_id);
        let named: Vec<Short> = self.flights.of_trace(trace, scope).map(|(key, _)| key).collect();
        for key in named {
            self.flights.observe(key, fact.at.micros());
        }
    }

    fn carried(&mut self, carried: &Carried, at: Timestamp) {
        for span in &carried.spans {
            self.flights.carried(*span, at.micros());
        }
        for (seq, _) in &carried.returned {
            self.flights.returned(*seq, at);
        }
    }

    fn presence(&mut self, fact: &Fact, now: Standing) {
        let Some(subject) = &fact.subject else { return };
        match now {
            Standing::Appeared => {
                self.known.insert(&subject.scope, fact.at.micros());
            }
            Standing::Forgotten => {
                self.known.remove(&subject.scope);
                self.applied.remove(&subject.scope);
                self.sessions.remove(&subject.scope);
                let at_rest = |bot: &Bot| matches!(bot.life, Life::Created | Life::Idle);
                if self.bots.get(&subject.scope).is_some_and(at_rest) {
                    self.bots.remove(&subject.scope);
                }
            }
            Standing::Stale | Standing::Lost | Standing::Back => {}
        }
    }

    /// The latest moment from which starts of `scope` are overtaken by an accepted stop.
    pub fn overtaking_stop(&self, scope: &Scope) -> Option<Timestamp> {
        if self.stops.is_empty() {
            return None;
        }
        let (swarm, role, instance) = (scope.swarm_id.as_str(), scope.role.as_str(), scope.instance.as_str());
        [(swarm, role, instance), (swarm, role, ALL), (swarm, ALL, ALL), (ALL, role, ALL), (ALL, ALL, ALL)]
            .into_iter()
            .filter_map(|(swarm, role, instance)| self.stops.get(&Scope::new(swarm, role, instance)))
            .max()
            .map(|at| Timestamp::from_micros(*at))
    }

    /// Lets go of what the window has passed.
    fn forget(&mut self, at: i64, window_ms: u64) {
        while let Some((first_seen, _)) = self.leaving.front()
            && has_left(*first_seen, at, window_ms)
        {
            match self.leaving.pop_front() {
                Some((_, Leaving::Command(key))) => self.forget_command(key),
                Some((_, Leaving::Result(identity))) => {
                    self.results.remove(&identity);
                }
                Some((_, Leaving::Stop(scope))) => {
                    if self.stops.get(&scope).is_some_and(|stop| has_left(*stop, at, window_ms)) {
                        self.stops.remove(&scope);
                    }
                }
                Some((left, Leaving::Session(worker))) => {
                    // It may have been followed by another since.
                    let is_over = |session: &Session| !session.stands() && session.since <= left;
                    if self.sessions.get(&*worker).is_some_and(is_over) {
                        self.sessions.remove(&*worker);
                    }
                }
                Some((_, Leaving::Challenge(id))) => {
                    // A use of break-glass that nobody has looked at is not forgotten.
                    if self.closed.get(&*id).is_some_and(|closed| !closed.unreviewed) {
                        self.closed.remove(&*id);
                    }
                }
                None => return,
            }
        }
    }

    /// Forgets a key. A command that is in flight still, because outages have put its end off, ends all the same.
    fn forget_command(&mut self, key: Short) {
        let Some(known) = self.commands.remove(&key) else { return };
        if self.late.get(&known.late).is_some_and(|late| late.command == key) {
            self.late.remove(&known.late);
        }
    }

    /// What must hold after every fact; checked in debug builds.
    pub fn invariants_hold(&self) -> bool {
        let sizes_agree = self.leaving.len() >= self.commands.len() + self.results.len();
        // The indexes are walked only while they are small: debug builds must stay usable.
        sizes_agree && (self.flights.len() > 64 || self.flights.indexes_hold())
    }
}

pub(super) fn has_left(first_seen: i64, at: i64, window_ms: u64) -> bool {
    Timestamp::from_micros(first_seen).plus_ms(window_ms).micros() < at
}
