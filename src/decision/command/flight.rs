//! Commands in flight: what each waits for, and what has been heard of it.
//!
//! Owns: the recorded life of a command from its acceptance to its end, and the indexes that find it by entry, trace,
//! target and deadline.
//! Never: decides when a command ends, or forgets one that has not; facts do.
//! Holds: every index points at a live flight; a flight's targets are those known when it was accepted, and those of
//! its scope that answered nevertheless.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};

use super::{STATUS_REQUEST, challenge::Challenge};
use crate::contract::{
    audit::{Actor, Evidence, EvidenceKind, Heard, Stepped},
    digest::Digest,
    interlock::Life,
    routing::Scope,
    timestamp::Timestamp,
};

/// The first 128 bits of a digest: enough to tell records apart, half the memory.
pub(in crate::decision) type Short = u128;

/// A command that was accepted and has not ended.
#[derive(Clone, Debug, Serialize)]
pub struct Flight {
    /// The entry that accepted it: its number for people.
    pub seq: u64,
    /// Its identity.
    pub command: Digest,
    /// Its type.
    pub kind_type: String,
    /// Whom it addresses; `ALL` in a fan-out.
    pub scope: Scope,
    /// Who sent it, and how that is known.
    pub sender: Actor,
    /// Joins it to its outcomes.
    pub correlation_id: Option<String>,
    /// The sender's key.
    pub idempotency_key: Option<String>,
    /// Stop and tightening stand before everything else of their target.
    pub always_passes: bool,
    /// When it was accepted, in microseconds since the epoch.
    pub accepted_at: i64,
    /// When it times out.
    pub deadline: i64,
    /// When the broker took it.
    pub carried_at: Option<i64>,
    /// When a target of it first gave a sign of it.
    pub observed_at: Option<i64>,
    /// The last that the broker said of it; what its target said stands with the target.
    pub evidence: Option<Evidence>,
    /// Its targets, by scope.
    pub targets: Vec<Target>,
    /// Where it waits for its target.
    pub parked: Option<Parked>,
    /// What a config-update changes (JSON); an empty text where that is too large to be remembered.
    pub patch: Option<String>,
    /// The state that its success leads a bot to, where that depends on what it said.
    pub leads_to: Option<Life>,
    /// Its challenge, where it is dangerous.
    pub challenge: Option<Box<Challenge>>,
    /// What joins it to its outcomes, as an index key.
    #[serde(skip)]
    pub(in crate::decision) trace: Short,
}

/// One target of a command.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// Who.
    pub scope: Scope,
    /// What it answered.
    pub answer: Option<Answer>,
}

/// What a target answered.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// In its word.
    pub status: String,
    /// Whether that is what the sender wanted.
    pub success: bool,
    /// When, in microseconds since the epoch.
    pub at: i64,
}

/// A command that waits for its target.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Parked {
    /// Since when, in microseconds since the epoch.
    pub at: i64,
    /// How often it has waited.
    pub tries: u32,
    /// The entry that parked it: its parcel in the outbox.
    pub parcel: u64,
    /// Whether it waits still; else it is on its way once more.
    pub waits: bool,
}

impl Flight {
    /// Targets that have not answered.
    pub fn missing(&self) -> usize {
        self.targets.iter().filter(|target| target.answer.is_none()).count()
    }

    /// Whether it addresses more than one instance.
    pub fn fans_out(&self) -> bool {
        self.scope.fans_out()
    }

    /// Whether an instance is one that it addresses.
    pub fn is_target(&self, scope: &Scope) -> bool {
        self.scope.covers(scope)
    }

    /// Whether it waits to be confirmed.
    pub fn awaits_confirmation(&self) -> bool {
        self.challenge.as_ref().is_some_and(|challenge| !challenge.complete)
    }

    /// Whether it was ever let go: a dangerous command is when it is confirmed and nothing refuses it.
    pub fn was_let_go(&self) -> bool {
        self.challenge.as_ref().is_none_or(|challenge| challenge.let_go)
    }

    /// The parcel that keeps it while it waits, for its target or its confirmation.
    pub fn kept(&self) -> Option<u64> {
        let parked = self.parked.filter(|parked| parked.waits).map(|parked| parked.parcel);
        let held = self.challenge.as_ref().filter(|challenge| challenge.held && !challenge.complete);
        parked.or(held.map(|_| self.seq))
    }

    /// Whether it waits for its target to show itself.
    pub fn is_parked(&self) -> bool {
        self.parked.is_some_and(|parked| parked.waits)
    }

    /// Writes a target's answer into the matrix; its first one counts.
    pub(in crate::decision) fn answer(&mut self, scope: &Scope, heard: &Heard, at: i64) {
        let answer = Answer { status: heard.status.clone(), success: heard.success, at };
        match self.targets.binary_search_by(|target| target.scope.cmp(scope)) {
            Ok(index) => {
                if let Some(target) = self.targets.get_mut(index) {
                    target.answer.get_or_insert(answer);
                }
            }
            Err(index) => self.targets.insert(index, Target { scope: scope.clone(), answer: Some(answer) }),
        }
    }
}

/// Every command in flight.
#[derive(Clone, Debug, Default, Serialize)]
pub(in crate::decision) struct Flights {
    // Boxed, so that an index that grows moves pointers.
    flights: BTreeMap<Short, Box<Flight>>,
    #[serde(skip)]
    by_seq: BTreeMap<u64, Short>,
    #[serde(skip)]
    by_trace: BTreeSet<(Short, Short)>,
    #[serde(skip)]
    by_target: BTreeMap<Scope, BTreeSet<Short>>,
    /// The status requests among them: every status of theirs looks here.
    #[serde(skip)]
    asked: BTreeMap<Scope, BTreeSet<Short>>,
    /// The last that was heard of each instance that commands wait for: one record, however many they are.
    #[serde(serialize_with = "pairs")]
    heard: BTreeMap<Scope, Evidence>,
    #[serde(skip)]
    deadlines: BTreeSet<(i64, Short)>,
    /// Those that wait to be confirmed, or were, by their challenges.
    #[serde(skip)]
    challenges: BTreeMap<String, Short>,
    /// A target's parked commands in the order they leave: what always passes first, then by age.
    #[serde(skip)]
    parked: BTreeMap<Scope, BTreeSet<(bool, u64, Short)>>,
    /// Every parked command in the order they make room: what always passes last, and by age.
    #[serde(skip)]
    parked_by_age: BTreeSet<(bool, u64, Short)>,
}

impl Flights {
    pub fn len(&self) -> usize {
        self.flights.len()
    }

    pub fn parked_len(&self) -> usize {
        self.parked_by_age.len()
    }

    pub fn get(&self, key: Short) -> Option<&Flight> {
        self.flights.get(&key).map(|flight| &**flight)
    }

    /// All of them, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Flight> {
        self.by_seq.values().rev().filter_map(|key| self.get(*key))
    }

    pub fn of_seq(&self, seq: u64) -> Option<(Short, &Flight)> {
        let key = *self.by_seq.get(&seq)?;
        Some((key, self.get(key)?))
    }

    /// The one whose challenge that is.
    pub fn of_challenge(&self, id: &str) -> Option<&Flight> {
        self.get(*self.challenges.get(id)?)
    }

    /// Those with challenges, in the order of their ids.
    pub fn challenged(&self) -> impl Iterator<Item = &Flight> {
        self.challenges.values().filter_map(|key| self.get(*key))
    }

    /// Somebody confirmed one; with a deadline it is on its way from now on.
    pub fn confirm(
        &mut self,
        key: Short,
        by: &str,
        complete: bool,
        deadline: Option<i64>,
        targets: &[Scope],
    ) {
        let Some(flight) = self.flights.get_mut(&key) else { return };
        let Some(challenge) = &mut flight.challenge else { return };
        challenge.confirmed_by.push(by.to_owned());
        challenge.complete = complete;
        let Some(deadline) = deadline else { return };
        challenge.let_go = true;
        self.deadlines.remove(&(flight.deadline, key));
        flight.deadline = deadline;
        self.deadlines.insert((deadline, key));
        for scope in targets {
            flight.targets.push(Target { scope: scope.clone(), answer: None });
            add(&mut self.by_target, scope, key);
        }
        flight.targets.sort_by(|one, other| one.scope.cmp(&other.scope));
        flight.targets.dedup_by(|one, other| one.scope == other.scope);
    }

    /// The last that was heard of a command, or of an instance that it addresses.
    pub fn evidence<'a>(&'a self, flight: &'a Flight) -> Option<&'a Evidence> {
        let heard = flight.targets.iter().filter_map(|target| self.heard.get(&target.scope));
        let heard = heard.filter(|heard| heard.at.micros() >= flight.accepted_at);
        heard.chain(&flight.evidence).max_by_key(|evidence| evidence.at)
    }

    /// Those with a trace that address an instance.
    pub fn of_trace<'a>(
        &'a self,
        trace: Short,
        scope: &'a Scope,
    ) -> impl Iterator<Item = (Short, &'a Flight)> {
        let keys = self.by_trace.range((trace, Short::MIN)..=(trace, Short::MAX));
        keys.filter_map(move |(_, key)| {
            let flight = self.get(*key).filter(|flight| flight.is_target(scope))?;
            Some((*key, flight))
        })
    }

    /// Those of which an instance is a known target.
    pub fn of_target(&self, scope: &Scope) -> impl Iterator<Item = (Short, &Flight)> {
        let keys = self.by_target.get(scope).into_iter().flatten();
        keys.filter_map(|key| Some((*key, self.get(*key)?)))
    }

    /// Status requests of which an instance is a known target.
    pub fn asking(&self, scope: &Scope) -> impl Iterator<Item = (Short, &Flight)> {
        let keys = self.asked.get(scope).into_iter().flatten();
        keys.filter_map(|key| Some((*key, self.get(*key)?)))
    }

    /// Those whose whole scope another scope covers.
    pub fn covered_by(&self, scope: &Scope) -> impl Iterator<Item = (Short, &Flight)> {
        let one = (!scope.fans_out()).then(|| self.of_target(scope));
        let all = scope.fans_out().then(|| self.flights.iter().map(|(key, flight)| (*key, &**flight)));
        one.into_iter()
            .flatten()
            .chain(all.into_iter().flatten())
            .filter(|(_, flight)| scope.covers(&flight.scope))
    }

    /// The next to time out.
    pub fn next_deadline(&self) -> Option<(i64, Short)> {
        self.deadlines.first().copied()
    }

    /// A target's parked commands, in the order they leave.
    pub fn parked_for(&self, scope: &Scope) -> impl Iterator<Item = (Short, &Flight)> {
        let keys = self.parked.get(scope).into_iter().flatten();
        keys.filter_map(|(_, _, key)| Some((*key, self.get(*key)?)))
    }

    pub fn parked_for_len(&self, scope: &Scope) -> usize {
        self.parked.get(scope).map_or(0, BTreeSet::len)
    }

    /// Every parked command in the order they make room: what always passes last, and the oldest first.
    pub fn parked_by_room(&self) -> impl Iterator<Item = &Flight> {
        self.parked_by_age.iter().filter_map(|(_, _, key)| self.get(*key))
    }

    pub fn accept(&mut self, key: Short, flight: Flight) {
        // A key that was forgotten before its command ended stands for another command now.
        self.end(key);
        self.by_seq.insert(flight.seq, key);
        self.by_trace.insert((flight.trace, key));
        for target in &flight.targets {
            add(&mut self.by_target, &target.scope, key);
            if flight.kind_type == STATUS_REQUEST {
                add(&mut self.asked, &target.scope, key);
            }
        }
        self.deadlines.insert((flight.deadline, key));
        if let Some(challenge) = &flight.challenge {
            self.challenges.insert(challenge.id.clone(), key);
        }
        self.flights.insert(key, Box::new(flight));
    }

    /// Ends one; answers what it was.
    pub fn end(&mut self, key: Short) -> Option<Box<Flight>> {
        self.unpark(key);
        let flight = self.flights.remove(&key)?;
        self.by_seq.remove(&flight.seq);
        self.by_trace.remove(&(flight.trace, key));
        for target in &flight.targets {
            remove(&mut self.by_target, &target.scope, &key);
            remove(&mut self.asked, &target.scope, &key);
            if !self.by_target.contains_key(&target.scope) {
                self.heard.remove(&target.scope);
            }
        }
        self.deadlines.remove(&(flight.deadline, key));
        if let Some(challenge) = &flight.challenge {
            self.challenges.remove(&challenge.id);
        }
        Some(flight)
    }

    /// A target's answer; it is the first sign of the command too.
    pub fn hear(&mut self, key: Short, scope: &Scope, heard: &Heard, at: i64) {
        let Some(flight) = self.flights.get_mut(&key) else { return };
        flight.answer(scope, heard, at);
        flight.observed_at.get_or_insert(at);
        flight.carried_at.get_or_insert(at);
        add(&mut self.by_target, scope, key);
    }

    /// A target gave a sign of the command without an answer.
    pub fn observe(&mut self, key: Short, at: i64) {
        if let Some(flight) = self.flights.get_mut(&key) {
            flight.observed_at.get_or_insert(at);
        }
    }

    /// Something was heard of an instance: it is evidence for every command that waits for it.
    pub fn note(&mut self, scope: &Scope, evidence: Evidence) {
        match self.heard.get_mut(scope) {
            Some(heard) => *heard = evidence,
            None if self.by_target.contains_key(scope) => drop(self.heard.insert(scope.clone(), evidence)),
            None => {}
        }
    }

    /// Whether a command waits for an instance.
    pub fn waits_for(&self, scope: &Scope) -> bool {
        self.by_target.contains_key(scope)
    }

    /// The broker took everything of these entries.
    pub fn carried(&mut self, (first, last): (u64, u64), at: i64) {
        for (_, key) in self.by_seq.range(first..=last) {
            if let Some(flight) = self.flights.get_mut(key).filter(|flight| !flight.is_parked()) {
                flight.carried_at.get_or_insert(at);
            }
        }
    }

    /// No queue took it: evidence, wherever it goes next.
    pub fn returned(&mut self, seq: u64, at: Timestamp) {
        let key = self.by_seq.get(&seq);
        if let Some(flight) = key.and_then(|key| self.flights.get_mut(key)) {
            flight.carried_at = None;
            let detail = "the broker gave it back: no queue took it".to_owned();
            flight.evidence = Some(Evidence { at, detail, kind: EvidenceKind::Return });
        }
    }

    pub fn park(&mut self, key: Short, parcel: u64, at: i64) {
        let Some(flight) = self.flights.get_mut(&key) else { return };
        let tries = flight.parked.map_or(0, |parked| parked.tries);
        flight.parked = Some(Parked { at, tries: tries.saturating_add(1), parcel, waits: true });
        flight.carried_at = None;
        let place = (!flight.always_passes, flight.seq, key);
        add(&mut self.parked, &flight.scope, place);
        self.parked_by_age.insert((flight.always_passes, flight.seq, key));
    }

    /// It is on its way again. That it was parked stays known, so that the next try waits longer.
    pub fn unpark(&mut self, key: Short) {
        let Some(flight) = self.flights.get_mut(&key) else { return };
        // One that never waited is in no index of those that do.
        let Some(parked) = &mut flight.parked else { return };
        parked.waits = false;
        let place = (!flight.always_passes, flight.seq, key);
        remove(&mut self.parked, &flight.scope, &place);
        self.parked_by_age.remove(&(flight.always_passes, flight.seq, key));
    }

    /// Time during which nothing was consumed counts toward no deadline, and what waited then is judged first.
    pub fn put_off(&mut self, by_micros: i64, not_before: i64) {
        self.deadlines.clear();
        for (key, flight) in &mut self.flights {
            flight.deadline = flight.deadline.saturating_add(by_micros).max(not_before);
            self.deadlines.insert((flight.deadline, *key));
        }
    }

    /// The router's time makes a step.
    pub fn step(&mut self, stepped: &Stepped) {
        let past = |at: &mut i64| *at = stepped.past(*at);
        let heard = |evidence: &mut Evidence| evidence.at = evidence.at.min(stepped.to);
        self.deadlines.clear();
        for (key, flight) in &mut self.flights {
            past(&mut flight.accepted_at);
            flight.carried_at.iter_mut().for_each(past);
            flight.observed_at.iter_mut().for_each(past);
            flight.evidence.iter_mut().for_each(heard);
            flight
                .targets
                .iter_mut()
                .filter_map(|target| target.answer.as_mut())
                .for_each(|answer| past(&mut answer.at));
            flight.parked.iter_mut().for_each(|parked| past(&mut parked.at));
            if let Some(challenge) = &mut flight.challenge {
                challenge.expires_at = stepped.ahead(challenge.expires_at);
            }
            flight.deadline = stepped.ahead(flight.deadline);
            self.deadlines.insert((flight.deadline, *key));
        }
        self.heard.values_mut().for_each(heard);
    }

    /// Whether every index points at a live flight, and every flight is in its indexes.
    pub fn indexes_hold(&self) -> bool {
        let live = |key: &Short| self.flights.contains_key(key);
        self.by_seq.len() == self.flights.len()
            && self.deadlines.len() == self.flights.len()
            && self.by_seq.values().all(live)
            && self.deadlines.iter().all(|(_, key)| live(key))
            && self.by_trace.len() == self.flights.len()
            && self.by_trace.iter().all(|(_, key)| live(key))
            && self.by_target.values().flatten().all(live)
            && self.asked.values().flatten().all(live)
            && self.heard.keys().all(|scope| self.by_target.contains_key(scope))
            && self.challenges.values().all(live)
            && self.parked_by_age.iter().all(|(_, _, key)| live(key))
            && self.parked.values().map(BTreeSet::len).sum::<usize>() == self.parked_by_age.len()
    }
}

/// JSON has no keys but text.
fn pairs<V: Serialize, S: Serializer>(map: &BTreeMap<Scope, V>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map)
}

/// Puts a value into an index; its place is copied only where it is new.
fn add<V: Ord>(index: &mut BTreeMap<Scope, BTreeSet<V>>, place: &Scope, value: V) {
    match index.get_mut(place) {
        Some(values) => drop(values.insert(value)),
        None => drop(index.insert(place.clone(), BTreeSet::from([value]))),
    }
}

/// Takes a value out of an index, and the index's place with its last value.
fn remove<V: Ord>(index: &mut BTreeMap<Scope, BTreeSet<V>>, place: &Scope, value: &V) {
    if let Some(values) = index.get_mut(place) {
        values.remove(value);
        if values.is_empty() {
            index.remove(place);
        }
    }
}
