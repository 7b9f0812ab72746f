//! Every command in flight, and the indexes that find it by entry, trace, target and deadline.
//!
//! Owns: the indexes, and what the facts of carriage, parking and evidence do to them.
//! Never: forgets a command that has not ended.
//! Holds: every index points at a live flight.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    contract::{
        audit::{Carried, Evidence, EvidenceKind, Fact, Heard, Stepped},
        bound::Bound,
        routing::{Family, Scope},
        timestamp::Timestamp,
    },
    decision::{
        rules::{Rules, words::STATUS_REQUEST},
        state::{
            Recorded, State,
            collection::Collection,
            flight::{Flight, Parked, Rank, Target},
            key::{self, Short, pairs},
            payload,
            room::flights_with_stops,
        },
    },
};

/// Every command in flight.
#[derive(Clone, Debug, Default, Serialize)]
pub(in crate::decision) struct Flights {
    // Boxed, so that an index that grows moves pointers.
    flights: BTreeMap<Short, Box<Flight>>,
    /// How many targets they have in all.
    #[serde(skip)]
    targets_count: usize,
    /// Bytes of what they said that is kept, in all.
    #[serde(skip)]
    texts_bytes: usize,
    #[serde(skip)]
    by_seq: BTreeMap<u64, Short>,
    #[serde(skip)]
    by_trace: BTreeSet<(Short, Short)>,
    #[serde(skip)]
    by_target: BTreeMap<Scope, BTreeSet<Short>>,
    /// The status requests among them: every status of theirs looks here.
    #[serde(skip)]
    asked: BTreeMap<Scope, BTreeSet<Short>>,
    /// The last that was heard of each instance that commands wait for: one record, however many
    /// they are.
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
    /// Every parked command in the order they make room.
    #[serde(skip)]
    parked_by_rank: BTreeSet<(Rank, Short)>,
}

impl Flights {
    pub fn len(&self) -> usize {
        self.flights.len()
    }

    pub fn parked_len(&self) -> usize {
        self.parked_by_rank.len()
    }

    pub fn targets_count(&self) -> usize {
        self.targets_count
    }

    pub fn texts_bytes(&self) -> usize {
        self.texts_bytes
    }

    pub fn challenges_count(&self) -> usize {
        self.challenges.len()
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
        // Without a deadline it does not leave now: more must confirm, a gate has refused it, or
        // the router answers it itself.
        let Some(deadline) = deadline else { return };
        challenge.let_go = true;
        self.deadlines.remove(&(flight.deadline, key));
        flight.deadline = deadline;
        self.deadlines.insert((deadline, key));
        self.targets_count -= flight.targets.len();
        // A fan-out addresses whom it is known to address now, not when it was challenged.
        let before = if targets.is_empty() { Vec::new() } else { std::mem::take(&mut flight.targets) };
        for scope in targets {
            flight.targets.push(Target { scope: scope.clone(), answer: None });
            add(&mut self.by_target, scope, key);
        }
        for Target { scope, .. } in before.iter().filter(|before| !targets.contains(&before.scope)) {
            remove(&mut self.by_target, scope, &key);
            if !self.by_target.contains_key(scope) {
                self.heard.remove(scope);
            }
        }
        // `Flight::find` looks for a target by its place in this order.
        flight.targets.sort_by(|one, other| one.scope.cmp(&other.scope));
        flight.targets.dedup_by(|one, other| one.scope == other.scope);
        self.targets_count += flight.targets.len();
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
        // The index for one instance: only a fan-out walks through all of them.
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

    /// Those that are past their deadline, the earliest first.
    pub fn overdue(&self, now: i64) -> impl Iterator<Item = &Flight> {
        self.deadlines.range(..=(now, Short::MAX)).filter_map(|(_, key)| self.get(*key))
    }

    /// Those that these entries accepted, first to last inclusive.
    pub fn of_span(&self, (first, last): (u64, u64)) -> impl Iterator<Item = &Flight> {
        self.by_seq.range(first..=last).filter_map(|(_, key)| self.get(*key))
    }

    /// A target's parked commands, in the order they leave.
    pub fn parked_for(&self, scope: &Scope) -> impl Iterator<Item = (Short, &Flight)> {
        let keys = self.parked.get(scope).into_iter().flatten();
        keys.filter_map(|(_, _, key)| Some((*key, self.get(*key)?)))
    }

    pub fn parked_for_len(&self, scope: &Scope) -> usize {
        self.parked.get(scope).map_or(0, BTreeSet::len)
    }

    /// Every parked command in the order they make room: what always passes last, of that proven
    /// senders' last, and the oldest first.
    pub fn parked_by_room(&self) -> impl Iterator<Item = &Flight> {
        self.parked_by_rank.iter().filter_map(|(_, key)| self.get(*key))
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
        self.targets_count += flight.targets.len();
        self.texts_bytes += flight.texts_bytes();
        self.flights.insert(key, Box::new(flight));
    }

    /// Takes one out of every index; returns it, or `None` where it is not in flight.
    pub fn end(&mut self, key: Short) -> Option<Box<Flight>> {
        self.unpark(key);
        let flight = self.flights.remove(&key)?;
        self.by_seq.remove(&flight.seq);
        self.by_trace.remove(&(flight.trace, key));
        self.targets_count -= flight.targets.len();
        self.texts_bytes -= flight.texts_bytes();
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
        self.targets_count -= flight.targets.len();
        // May add a target: one that nobody knew comes in with its answer.
        flight.answer(scope, heard, at);
        self.targets_count += flight.targets.len();
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
            // Of others nothing is kept: that bounds it by the targets.
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
        // A span runs over all entries of a job, also over one whose command waits.
        for (_, key) in self.by_seq.range(first..=last) {
            if let Some(flight) = self.flights.get_mut(key).filter(|flight| !flight.is_parked()) {
                flight.carried_at.get_or_insert(at);
            }
        }
    }

    /// No queue took it: evidence, wherever it goes next.
    pub fn returned(&mut self, seq: u64, at: Timestamp) {
        let detail = "the broker gave it back: no queue took it";
        self.did_not_leave(seq, (EvidenceKind::Return, detail), at);
    }

    /// It is not tried any more, for want of room or because something held it up.
    pub fn given_up(&mut self, seq: u64, at: Timestamp) {
        let detail =
            "it did not leave: too much waited (runbook bounds), or a quarantine or safety held it up";
        self.did_not_leave(seq, (EvidenceKind::Withheld, detail), at);
    }

    fn did_not_leave(&mut self, seq: u64, (kind, detail): (EvidenceKind, &str), at: Timestamp) {
        let key = self.by_seq.get(&seq);
        if let Some(flight) = key.and_then(|key| self.flights.get_mut(key)) {
            flight.carried_at = None;
            flight.evidence = Some(Evidence { at, detail: detail.to_owned(), kind });
        }
    }

    pub fn park(&mut self, key: Short, parcel: u64, at: i64) {
        let Some(flight) = self.flights.get_mut(&key) else { return };
        let tries = flight.parked.map_or(0, |parked| parked.tries);
        flight.parked = Some(Parked { at, tries: tries.saturating_add(1), parcel, waits: true });
        flight.carried_at = None;
        let place = (!flight.always_passes, flight.seq, key);
        add(&mut self.parked, &flight.scope, place);
        self.parked_by_rank.insert((flight.rank(), key));
    }

    /// It is on its way again. That it was parked stays known, so that the next try waits longer.
    pub fn unpark(&mut self, key: Short) {
        let Some(flight) = self.flights.get_mut(&key) else { return };
        // One that never waited is in no index of those that do.
        let Some(parked) = &mut flight.parked else { return };
        parked.waits = false;
        let place = (!flight.always_passes, flight.seq, key);
        remove(&mut self.parked, &flight.scope, &place);
        self.parked_by_rank.remove(&(flight.rank(), key));
    }

    /// Puts every deadline off by `by_micros`, in which nothing was consumed, and to no earlier
    /// than `not_before` (microseconds since the epoch), so that what waited is decided first.
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

    /// Everything it keeps, and what bounds that.
    pub fn collections(&self, rules: &Rules) -> Vec<Collection> {
        let Self {
            flights,
            targets_count,
            texts_bytes,
            by_seq,
            by_trace,
            by_target,
            asked,
            heard,
            deadlines,
            challenges,
            parked,
            parked_by_rank,
        } = self;
        let (flights_max, targets_max) =
            (flights_with_stops(rules.memory.flights_max), rules.memory.targets_max);
        let commands = |name, len| Collection { name, bound: Bound::Flights, len, max: flights_max };
        // A command to one instance has that as its target.
        let targets_max = targets_max.saturating_add(flights_max);
        let targets = |name, len| Collection { name, bound: Bound::Targets, len, max: targets_max };
        let parked_all =
            |name, len| Collection { name, bound: Bound::Parked, len, max: rules.parking_total_max };
        vec![
            commands("flights", flights.len()),
            commands("flights.by_seq", by_seq.len()),
            commands("flights.by_trace", by_trace.len()),
            commands("flights.deadlines", deadlines.len()),
            targets("flights.targets", *targets_count),
            targets("flights.by_target", by_target.len()),
            targets("flights.asked", asked.len()),
            targets("flights.heard", heard.len()),
            parked_all("flights.parked", parked.len()),
            parked_all("flights.parked_by_rank", parked_by_rank.len()),
            Collection {
                name: "flights.challenges",
                bound: Bound::Challenges,
                len: challenges.len(),
                max: rules.memory.challenges_max,
            },
            Collection {
                name: "flights.texts_bytes",
                bound: Bound::Texts,
                len: *texts_bytes,
                max: rules.memory.texts_bytes_max,
            },
        ]
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
            && self.targets_count == self.flights.values().map(|flight| flight.targets.len()).sum::<usize>()
            && self.texts_bytes == self.flights.values().map(|flight| flight.texts_bytes()).sum::<usize>()
            && self.parked_by_rank.iter().all(|(_, key)| live(key))
            && self.parked.values().map(BTreeSet::len).sum::<usize>() == self.parked_by_rank.len()
    }
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

impl Recorded {
    /// What an instance says is evidence for the commands that wait for it, and their first sign
    /// where it names them.
    pub(super) fn note(&mut self, fact: &Fact, scope: &Scope, family: Family) {
        let kind = if family == Family::Alert { EvidenceKind::Alert } else { EvidenceKind::Outcome };
        let evidence = Evidence { at: fact.at, detail: payload::word(fact, kind).unwrap_or_default(), kind };
        self.flights.note(scope, evidence);
        let Some(correlation_id) = &fact.correlation_id else { return };
        let trace = key::trace(correlation_id);
        let named: Vec<Short> = self.flights.of_trace(trace, scope).map(|(key, _)| key).collect();
        for key in named {
            self.flights.observe(key, fact.at.micros());
        }
    }

    pub(super) fn carried(&mut self, carried: &Carried, at: Timestamp) {
        for span in &carried.spans {
            self.flights.carried(*span, at.micros());
        }
        // That nobody listens to what is said of a command does not say that nobody took the
        // command.
        for seq in carried.commands_returned() {
            self.flights.returned(seq, at);
        }
        for seq in carried.commands_given_up() {
            self.flights.given_up(seq, at);
        }
    }
}

impl State {
    /// How many commands are in flight.
    pub fn commands_in_flight(&self) -> usize {
        self.recorded.flights.len()
    }

    /// How many of them wait for their target.
    pub fn commands_parked(&self) -> usize {
        self.recorded.flights.parked_len()
    }

    /// The commands in flight, the newest first.
    pub fn flights(&self) -> impl Iterator<Item = &Flight> {
        self.recorded.flights.newest_first()
    }

    /// The command in flight that an entry accepted.
    pub fn flight(&self, seq: u64) -> Option<&Flight> {
        self.recorded.flights.of_seq(seq).map(|(_, flight)| flight)
    }

    /// The last that was heard of a command or of its target.
    pub fn evidence<'a>(&'a self, flight: &'a Flight) -> Option<&'a Evidence> {
        self.recorded.flights.evidence(flight)
    }

    /// The commands in flight that wait for an instance.
    pub fn flights_for(&self, target: &Scope) -> impl Iterator<Item = &Flight> {
        self.recorded.flights.of_target(target).map(|(_, flight)| flight)
    }

    /// Parcels of commands that wait for their target or their confirmation: they are kept, not
    /// published.
    pub fn kept_parcels(&self) -> BTreeSet<u64> {
        self.flights().filter_map(Flight::kept).collect()
    }

    /// The entries of commands that are to leave and have not: the outbox has them.
    pub fn leaving_seqs(&self) -> impl Iterator<Item = u64> {
        let leaving = |flight: &&Flight| {
            flight.carried_at.is_none()
                && flight.observed_at.is_none()
                && flight.evidence.is_none()
                && flight.was_let_go()
                && !flight.is_parked()
        };
        self.flights().filter(leaving).map(|flight| flight.seq)
    }

    pub(in crate::decision) fn in_flight(&self) -> &Flights {
        &self.recorded.flights
    }
}
