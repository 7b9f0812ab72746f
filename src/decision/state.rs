//! The state that decisions lean on: a recorded half (the fold of facts) and an observed half (volatile).
//!
//! Owns: `apply`, the only way the recorded half changes, `believe`, the only way the observed half does, and the
//! digest by which two replays are compared.
//! Never: decides, and never forgets by count; what leaves, leaves by time.
//! Holds: fold(ledger) gives the same digest on every machine; every index points at a live record.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;

use super::{command, rules::Rules};
use crate::contract::{
    audit::{Accepted, Actor, Carried, Change, Ended, Fact, Genesis},
    digest::Digest,
    reason::Reason,
    routing::{ALL, Scope},
    timestamp::Timestamp,
};

/// What every decision leans on.
#[derive(Clone, Debug)]
pub struct State {
    rules: Rules,
    recorded: Recorded,
    observed: Observed,
}

/// The first 128 bits of a digest: enough to tell records apart, half the memory.
type Short = u128;

fn short(digest: Digest) -> Short {
    digest.0.iter().take(16).fold(0, |value, byte| value << 8 | Short::from(*byte))
}

/// The fold of facts.
#[derive(Clone, Debug, Default, Serialize)]
struct Recorded {
    genesis: Option<Genesis>,
    epoch: u64,
    last_seq: u64,
    last_at: i64,
    commands: BTreeMap<Short, Command>,
    in_flight: BTreeMap<Short, Digest>,
    results: BTreeSet<Short>,
    stops: BTreeMap<Scope, i64>,
    /// What leaves next, oldest first: all windows are equally long, so order of sighting is order of leaving.
    leaving: VecDeque<(i64, Leaving)>,
}

/// A command that was accepted within the window.
#[derive(Clone, Debug, Serialize)]
struct Command {
    compared: Short,
    first_seen: i64,
    /// Entry of the outcome that ended it.
    ended: Option<u64>,
    /// Its place in the index of commands in flight.
    trace: Short,
}

#[derive(Clone, Debug, Serialize)]
enum Leaving {
    Command(Short),
    Result(Short),
    Stop(Box<Scope>),
}

/// What the gates know of a command key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    compared: Short,
    /// Entry of the outcome that ended it, where it has ended.
    pub ended: Option<u64>,
}

impl Known {
    /// Whether a body is the one that bound the key.
    pub fn is_same(self, compared: Digest) -> bool {
        self.compared == short(compared)
    }
}

/// What is believed until told otherwise; gone with the process.
#[derive(Clone, Debug, Default)]
struct Observed {
    ledger_unwritable: bool,
    tallies: BTreeMap<Digest, Tally>,
    /// How many tallies are open in each second.
    tally_seconds: BTreeMap<i64, usize>,
    alerts: BTreeMap<Digest, i64>,
    alerts_second: i64,
    alerts_in_second: u32,
    alerts_held_back: u64,
}

/// Refusals of one sender and code within one second.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// The second, since the epoch.
    pub second: i64,
    /// How many after the first.
    pub count: u64,
    /// Digest chained over their bodies.
    pub bodies: Digest,
    /// Who was refused.
    pub actor: Actor,
    /// Why.
    pub reason: Reason,
}

/// A change of the observed half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Belief {
    /// The ledger can, or cannot, be written.
    LedgerWritable(bool),
    /// The first refusal of this sender and code in a second: its entry stands for those that follow.
    TallyOpened {
        /// Digest of sender and code.
        fingerprint: Digest,
        /// Who was refused.
        actor: Actor,
        /// Why.
        reason: Reason,
        /// The second, since the epoch.
        second: i64,
    },
    /// One more of them.
    Tallied {
        /// Digest of sender and code.
        fingerprint: Digest,
        /// Its body.
        body: Digest,
    },
    /// The second is over.
    TallyClosed {
        /// Digest of sender and code.
        fingerprint: Digest,
    },
    /// An alert left.
    Alerted {
        /// Digest of what it was about.
        fingerprint: Digest,
        /// When.
        at: Timestamp,
    },
    /// An alert was held back by the limits.
    AlertHeldBack,
}

impl State {
    /// The state before the first fact.
    pub fn new(rules: Rules) -> Self {
        Self { rules, recorded: Recorded::default(), observed: Observed::default() }
    }

    /// The settings it judges by.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The ledger's first fact, once it is there.
    pub fn genesis(&self) -> Option<&Genesis> {
        self.recorded.genesis.as_ref()
    }

    /// How many routers have opened the ledger.
    pub fn epoch(&self) -> u64 {
        self.recorded.epoch
    }

    /// The time of the last fact; a corridor's clock never goes below it.
    pub fn last_at(&self) -> Timestamp {
        Timestamp::from_micros(self.recorded.last_at)
    }

    /// How many command keys are remembered.
    pub fn keys(&self) -> usize {
        self.recorded.commands.len()
    }

    /// How many commands are in flight.
    pub fn commands_in_flight(&self) -> usize {
        self.recorded.in_flight.len()
    }

    /// Whether the ledger can be written, as far as is known.
    pub fn ledger_writable(&self) -> bool {
        !self.observed.ledger_unwritable
    }

    /// When something falls due, if anything does.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let (second, _) = self.observed.tally_seconds.first_key_value()?;
        Some(Timestamp::from_micros((second + 1).saturating_mul(1_000_000)))
    }

    /// SHA-256 over the recorded half.
    pub fn digest(&self) -> Digest {
        // Recorded is maps of plain values; it cannot fail to serialise.
        Digest::of(&serde_json::to_vec(&self.recorded).unwrap_or_default())
    }

    /// Folds the fact of entry `seq` into the recorded half.
    pub fn apply(&mut self, seq: u64, fact: &Fact) {
        let at = fact.at.micros();
        self.recorded.last_seq = seq;
        self.recorded.last_at = self.recorded.last_at.max(at);
        self.forget(at);
        match &fact.change {
            Change::None | Change::Tallied(_) | Change::Carried(Carried { .. }) => {}
            Change::Genesis(genesis) => self.recorded.genesis = Some(genesis.clone()),
            Change::Opened(opened) => self.recorded.epoch = opened.epoch,
            Change::Accepted(accepted) => self.accept(fact, accepted),
            Change::Ended(ended) => self.end(seq, ended),
            Change::Result(result) => {
                let identity = short(result.identity);
                if self.recorded.results.insert(identity) {
                    self.recorded.leaving.push_back((at, Leaving::Result(identity)));
                }
                if let Some(ended) = &result.ends {
                    self.end(seq, ended);
                }
            }
        }
        debug_assert!(self.invariants_hold());
    }

    /// Changes the observed half.
    pub fn believe(&mut self, belief: &Belief) {
        match belief {
            Belief::LedgerWritable(writable) => self.observed.ledger_unwritable = !writable,
            Belief::TallyOpened { fingerprint, actor, reason, second } => {
                let (actor, reason, second) = (actor.clone(), *reason, *second);
                let tally = Tally { second, count: 0, bodies: Digest::default(), actor, reason };
                let replaced = self.observed.tallies.insert(*fingerprint, tally);
                self.tally_left(replaced);
                *self.observed.tally_seconds.entry(second).or_default() += 1;
            }
            Belief::Tallied { fingerprint, body } => {
                if let Some(tally) = self.observed.tallies.get_mut(fingerprint) {
                    tally.count += 1;
                    tally.bodies = Digest::of_fields(&[&tally.bodies.0, &body.0]);
                }
            }
            Belief::TallyClosed { fingerprint } => {
                let closed = self.observed.tallies.remove(fingerprint);
                self.tally_left(closed);
            }
            Belief::Alerted { fingerprint, at } => self.alerted(*fingerprint, *at),
            Belief::AlertHeldBack => self.observed.alerts_held_back += 1,
        }
    }

    pub(super) fn command(&self, command: Digest, now: Timestamp) -> Option<Known> {
        let known = self.recorded.commands.get(&short(command))?;
        let remembered = !self.has_left(known.first_seen, now.micros());
        remembered.then_some(Known { compared: known.compared, ended: known.ended })
    }

    pub(super) fn in_flight(&self, trace: Digest) -> Option<Digest> {
        self.recorded.in_flight.get(&short(trace)).copied()
    }

    pub(super) fn knows_result(&self, identity: Digest, _now: Timestamp) -> bool {
        self.recorded.results.contains(&short(identity))
    }

    /// The latest moment from which starts of `scope` are overtaken by an accepted stop.
    pub(super) fn overtaking_stop(&self, scope: &Scope) -> Option<Timestamp> {
        if self.recorded.stops.is_empty() {
            return None;
        }
        let (swarm, role, instance) = (scope.swarm_id.as_str(), scope.role.as_str(), scope.instance.as_str());
        [(swarm, role, instance), (swarm, role, ALL), (swarm, ALL, ALL), (ALL, role, ALL), (ALL, ALL, ALL)]
            .into_iter()
            .filter_map(|(swarm, role, instance)| self.recorded.stops.get(&Scope::new(swarm, role, instance)))
            .max()
            .map(|at| Timestamp::from_micros(*at))
    }

    pub(super) fn tallies(&self) -> &BTreeMap<Digest, Tally> {
        &self.observed.tallies
    }

    /// Whether an alert of that fingerprint may leave now.
    pub(super) fn may_alert(&self, fingerprint: Digest, now: Timestamp) -> bool {
        let dedupe = Timestamp::from_micros(0).plus_ms(self.rules.alerts_dedupe_ms).micros();
        let repeated = self.observed.alerts.get(&fingerprint).is_some_and(|at| now.micros() - at < dedupe);
        let full = self.observed.alerts_second == now.second()
            && self.observed.alerts_in_second >= self.rules.alerts_per_second_max;
        !repeated && !full
    }

    pub(super) fn alerts_held_back(&self) -> u64 {
        self.observed.alerts_held_back
    }

    fn accept(&mut self, fact: &Fact, accepted: &Accepted) {
        let at = fact.at.micros();
        if let (Some(overtakes), Some(subject)) = (accepted.overtakes, &fact.subject) {
            let stop = self.recorded.stops.entry(subject.scope.clone()).or_insert(i64::MIN);
            *stop = overtakes.micros().max(*stop);
            self.recorded.leaving.push_back((at, Leaving::Stop(Box::new(subject.scope.clone()))));
        }
        let (Some(command), Some(subject)) = (accepted.command, &fact.subject) else { return };
        let key = short(command);
        let correlation_id = fact.correlation_id.as_deref().unwrap_or_default();
        let trace = short(command::trace(&subject.kind_type, &subject.scope, correlation_id));
        let known = Command { compared: short(accepted.compared), first_seen: at, ended: None, trace };
        self.recorded.commands.insert(key, known);
        self.recorded.in_flight.insert(trace, command);
        self.recorded.leaving.push_back((at, Leaving::Command(key)));
    }

    fn end(&mut self, seq: u64, ended: &Ended) {
        if let Some(known) = self.recorded.commands.get_mut(&short(ended.command)) {
            known.ended.get_or_insert(seq);
            let trace = known.trace;
            if self.recorded.in_flight.get(&trace) == Some(&ended.command) {
                self.recorded.in_flight.remove(&trace);
            }
        }
    }

    /// Lets go of what the window has passed.
    fn forget(&mut self, at: i64) {
        while let Some((first_seen, _)) = self.recorded.leaving.front()
            && self.has_left(*first_seen, at)
        {
            match self.recorded.leaving.pop_front() {
                Some((_, Leaving::Command(key))) => self.forget_command(key),
                Some((_, Leaving::Result(identity))) => {
                    self.recorded.results.remove(&identity);
                }
                Some((_, Leaving::Stop(scope))) => {
                    if self.recorded.stops.get(&scope).is_some_and(|stop| self.has_left(*stop, at)) {
                        self.recorded.stops.remove(&scope);
                    }
                }
                None => return,
            }
        }
    }

    fn forget_command(&mut self, key: Short) {
        let Some(known) = self.recorded.commands.remove(&key) else { return };
        if self.recorded.in_flight.get(&known.trace).is_some_and(|command| short(*command) == key) {
            self.recorded.in_flight.remove(&known.trace);
        }
    }

    fn has_left(&self, first_seen: i64, at: i64) -> bool {
        Timestamp::from_micros(first_seen).plus_ms(self.rules.idempotency_window_ms).micros() < at
    }

    fn tally_left(&mut self, tally: Option<Tally>) {
        let Some(Tally { second, .. }) = tally else { return };
        let open = self.observed.tally_seconds.entry(second).or_default();
        *open = open.saturating_sub(1);
        if *open == 0 {
            self.observed.tally_seconds.remove(&second);
        }
    }

    fn alerted(&mut self, fingerprint: Digest, at: Timestamp) {
        let dedupe = Timestamp::from_micros(0).plus_ms(self.rules.alerts_dedupe_ms).micros();
        if self.observed.alerts_second != at.second() {
            self.observed.alerts_second = at.second();
            self.observed.alerts_in_second = 0;
            self.observed.alerts.retain(|_, raised| at.micros() - *raised < dedupe);
        }
        self.observed.alerts_in_second += 1;
        self.observed.alerts_held_back = 0;
        self.observed.alerts.insert(fingerprint, at.micros());
    }

    /// What must hold after every fact; checked in debug builds.
    fn invariants_hold(&self) -> bool {
        let recorded = &self.recorded;
        let sizes_agree = recorded.leaving.len() >= recorded.commands.len() + recorded.results.len();
        // The whole index is walked only while it is small: debug builds must stay usable.
        let flights_live = recorded.in_flight.len() > 64
            || recorded.in_flight.values().all(|command| {
                recorded.commands.get(&short(*command)).is_some_and(|known| known.ended.is_none())
            });
        sizes_agree && flights_live
    }
}
