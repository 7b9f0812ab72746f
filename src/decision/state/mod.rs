//! The state that decisions lean on: a recorded half (the fold of facts) and an observed half (volatile).
//!
//! Owns: `apply`, the only way the recorded half changes, `believe`, the only way the observed half does, and the
//! digest by which two replays are compared.
//! Never: decides, and never forgets by count; what leaves, leaves by time.
//! Holds: fold(ledger) gives the same digest on every machine; every index points at a live record.

mod interlock;
mod known;
mod live;
mod observed;
mod payload;
mod recorded;

use std::collections::{BTreeMap, BTreeSet};

pub use observed::Belief;
use observed::Observed;
pub(super) use observed::Tally;
use recorded::{Recorded, has_left};

use serde_json::Value;

use super::{
    command::{
        challenge::Closed,
        flight::{Flight, Flights, Short},
        late, short,
    },
    inventory::{Inventory, UNKNOWN},
    lifecycle::Started,
    presence,
    rules::Rules,
    safety::{Safety, interlock::Meters},
    session::Session,
};
use crate::contract::{
    Said,
    audit::{Change, EmergencyId, Evidence, Fact, Genesis, Mode},
    canonical,
    digest::Digest,
    interlock::{KillSwitch, Life, SafetyMode},
    routing::{ALL, Scope},
    secrets::names,
    timestamp::Timestamp,
    tree::View,
};

/// What every decision leans on.
#[derive(Clone, Debug)]
pub struct State {
    rules: Rules,
    recorded: Recorded,
    observed: Observed,
}

/// What the gates know of a command key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    compared: Short,
    /// Entry of the outcome that ended it, where it has ended.
    pub ended: Option<u64>,
    /// Entry of its challenge, where it waits for its confirmation.
    pub challenge: Option<u64>,
}

impl Known {
    /// Whether a body is the one that bound the key.
    pub fn is_same(self, compared: Digest) -> bool {
        self.compared == short(compared)
    }
}

impl State {
    /// The state before the first fact.
    pub fn new(rules: Rules) -> Self {
        Self::of(rules, Recorded::default())
    }

    /// The same as a replay would make it: what is recorded, and no beliefs.
    pub fn replayed(&self) -> Self {
        Self::of(self.rules.clone(), self.recorded.clone())
    }

    fn of(rules: Rules, recorded: Recorded) -> Self {
        let meters = Meters::new(rules.safety.interlocks.clone());
        let observed = Observed::new(Inventory::new(rules.inventory.clone()), meters);
        let mut recorded = recorded;
        recorded.safety.clock_is_apart = false;
        Self { rules, recorded, observed }
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

    /// The random bits of the last opening, in hex; empty where the ledger is in memory, or older than they are.
    pub fn incarnation(&self) -> &str {
        &self.recorded.incarnation
    }

    /// The last entry's place.
    pub fn last_seq(&self) -> u64 {
        self.recorded.last_seq
    }

    /// The time of the last fact; a corridor's clock never goes below it.
    pub fn last_at(&self) -> Timestamp {
        Timestamp::from_micros(self.recorded.last_at)
    }

    /// The newest entry that was first sealed while the ledger could not be written: whatever is not newer has been
    /// appended already.
    pub fn newest_emergency(&self) -> Option<EmergencyId> {
        self.recorded.newest_emergency
    }

    /// How many command keys are remembered.
    pub fn keys(&self) -> usize {
        self.recorded.commands.len()
    }

    /// How many commands are in flight.
    pub fn commands_in_flight(&self) -> usize {
        self.recorded.flights.len()
    }

    /// How many of them wait for their target.
    pub fn commands_parked(&self) -> usize {
        self.recorded.flights.parked_len()
    }

    /// The bytes of the bodies of messages that wait, in all.
    pub fn kept_bytes(&self) -> usize {
        self.observed.kept_bytes
    }

    /// The bytes of the body of one of them.
    pub(super) fn kept_bytes_of(&self, parcel: u64) -> usize {
        self.observed.kept.get(&parcel).copied().unwrap_or_default()
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

    /// Parcels of commands that wait for their target or their confirmation: they are kept, not carried.
    pub fn kept_parcels(&self) -> BTreeSet<u64> {
        self.flights().filter_map(Flight::kept).collect()
    }

    /// The commands with open challenges, and those confirmed that are in flight still, by their challenges' ids.
    pub fn challenged(&self) -> impl Iterator<Item = &Flight> {
        self.recorded.flights.challenged()
    }

    /// A challenge that is over.
    pub fn challenge_closed(&self, id: &str) -> Option<&Closed> {
        self.recorded.closed.get(id)
    }

    /// The challenges that are over, by id.
    pub fn challenges_closed(&self) -> impl Iterator<Item = (&str, &Closed)> {
        self.recorded.closed.iter().map(|(id, closed)| (id.as_str(), closed))
    }

    /// How many commands wait for their confirmation.
    pub fn challenges_open(&self) -> usize {
        self.challenged().filter(|flight| flight.awaits_confirmation()).count()
    }

    /// The strongest safety mode and kill switch that apply anywhere.
    pub fn strongest(&self) -> (SafetyMode, KillSwitch) {
        let everything = Scope::new(ALL, ALL, ALL);
        (self.safety().mode(&everything), self.safety().kill_switch(&everything))
    }

    /// What is set of safety.
    pub fn safety(&self) -> &Safety {
        &self.recorded.safety
    }

    /// Where a bot is in its life; one that nobody has moved is CREATED.
    pub fn life(&self, bot: &Scope) -> Life {
        self.recorded.bots.get(bot).map_or(Life::Created, |bot| bot.life)
    }

    /// The bots of a scope that somebody has moved.
    pub fn bots<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = &'a Scope> + use<'a> {
        let one = (!scope.fans_out()).then(|| self.recorded.bots.get_key_value(scope)).flatten();
        let all = scope.fans_out().then(|| self.recorded.bots.keys().filter(|bot| scope.covers(bot)));
        one.map(|(bot, _)| bot).into_iter().chain(all.into_iter().flatten())
    }

    /// A worker's control session, the last one it had.
    pub fn session(&self, worker: &Scope) -> Option<&Session> {
        self.recorded.sessions.get(worker)
    }

    /// Every worker's session.
    pub fn sessions(&self) -> impl Iterator<Item = (&Scope, &Session)> {
        self.recorded.sessions.iter()
    }

    /// Until when a principal may start nothing.
    pub fn suspended_until(&self, principal: &str) -> Option<Timestamp> {
        self.recorded.suspended.get(principal).copied().map(Timestamp::from_micros)
    }

    /// The entry of the outcome that ended a command, by its identity.
    pub fn ended_by(&self, command: Digest) -> Option<u64> {
        self.recorded.commands.get(&short(command))?.ended
    }

    /// The instances that are known and that a scope covers, in order.
    pub fn known<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = Scope> + use<'a> {
        self.recorded.known.covered(scope)
    }

    /// How many instances are known.
    pub fn known_count(&self) -> usize {
        self.recorded.known.count()
    }

    /// Whether an instance has shown itself and was not forgotten.
    pub fn is_known(&self, scope: &Scope) -> bool {
        self.recorded.known.contains(scope)
    }

    /// What is believed of the fleet.
    pub fn inventory(&self) -> &Inventory {
        &self.observed.inventory
    }

    /// Digest of the config that an instance would report if the config-updates it applied were all that had changed
    /// it; `None` where it applied none before it said so, `UNKNOWN` where what it applied was too large to remember.
    pub(super) fn desired_config(
        &self,
        scope: &Scope,
        reported: View<'_>,
        said: Timestamp,
    ) -> Option<Digest> {
        let applied = self.recorded.applied.get(scope).filter(|applied| applied.at < said.micros())?;
        let Ok(patch) = serde_json::from_str::<Value>(&applied.patch) else { return Some(UNKNOWN) };
        let reported = names::masked(reported).unwrap_or_else(|| reported.to_value());
        Some(Digest::of(&canonical::of(&presence::patched(&reported, &patch))))
    }

    /// Whether the ledger can be written, as far as is known.
    pub fn ledger_writable(&self) -> bool {
        !self.observed.ledger_unwritable
    }

    /// How far the router's time is ahead of the clock, in microseconds, where they do not agree; negative: behind it.
    pub fn clock_gap(&self) -> Option<i64> {
        self.observed.clock_gap
    }

    /// What the clock says at a moment of the router's time.
    pub(super) fn wall(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_micros(now.micros().saturating_sub(self.observed.clock_gap.unwrap_or_default()))
    }

    /// When something falls due, if anything does.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let tally = self.observed.tally_seconds.first_key_value();
        let tally = tally.map(|(second, _)| (second + 1).saturating_mul(1_000_000));
        // What would have to be written waits until it can be.
        let writable = self.ledger_writable();
        let command = self.recorded.flights.next_deadline().map(|(at, _)| at).filter(|_| writable);
        let shown = self.observed.shown.values().min().copied().filter(|_| writable);
        let silence = self.observed.inventory.next_deadline().map(Timestamp::micros).filter(|_| writable);
        let session = self.observed.session_look.filter(|_| writable);
        [tally, command, shown, silence, session].into_iter().flatten().min().map(Timestamp::from_micros)
    }

    /// The recorded half as JSON: for tests, and for people who look for a difference.
    pub fn recorded(&self) -> Value {
        serde_json::to_value(&self.recorded).unwrap_or_default()
    }

    /// SHA-256 over the recorded half.
    pub fn digest(&self) -> Digest {
        let bytes = serde_json::to_vec(&self.recorded);
        debug_assert!(bytes.is_ok(), "the recorded half does not serialise: {bytes:?}");
        Digest::of(&bytes.unwrap_or_default())
    }

    /// Folds the fact of entry `seq` into the recorded half.
    pub fn apply(&mut self, seq: u64, fact: &Fact) {
        self.recorded.apply(seq, fact, self.rules.idempotency_window_ms);
        self.observed.follow(fact, self.rules.session_lost_after_ms);
        if let Change::Stepped(stepped) = &fact.change {
            // What is believed of the fleet is learned anew, as after a restart.
            let beliefs = Self::of(self.rules.clone(), Recorded::default()).observed;
            let before = std::mem::replace(&mut self.observed, beliefs);
            self.observed.keep(before, stepped);
            self.recorded.safety.clock_is_apart = false;
        }
        if matches!(
            fact.change,
            Change::Genesis(_) | Change::Opened(_) | Change::Resumed(_) | Change::Stepped(_)
        ) {
            self.observed.listens_since = Some(fact.at.micros());
            self.observed.hear_all(self.recorded.sessions.iter(), fact.at, self.rules.session_lost_after_ms);
        }
        debug_assert!(self.recorded.invariants_hold());
    }

    /// Changes the observed half.
    pub fn believe(&mut self, belief: &Belief) {
        let dedupe = self.dedupe_micros();
        match belief {
            Belief::LedgerWritable(writable) => self.observed.ledger_unwritable = !writable,
            Belief::ClockApart(gap) => {
                self.observed.clock_gap = *gap;
                self.recorded.safety.clock_is_apart = gap.is_some();
            }
            Belief::TallyOpened { fingerprint, actor, reason, second } => {
                let (actor, reason, second) = (actor.clone(), *reason, *second);
                let tally = Tally { second, count: 0, written: 1, bodies: Digest::default(), actor, reason };
                self.observed.tally_opened(*fingerprint, tally);
            }
            Belief::Tallied { fingerprint, body } => self.observed.tallied(fingerprint, *body),
            Belief::TallyWritten { fingerprint } => self.observed.tally_written(fingerprint),
            Belief::Disagreed { scope, at } => {
                self.observed.disagreed(scope, at.micros(), self.window_micros());
            }
            Belief::TallyClosed { fingerprint } => self.observed.tally_closed(fingerprint),
            Belief::Alerted { fingerprint, at } => self.observed.alerted(*fingerprint, *at, dedupe),
            Belief::AlertHeldBack => self.observed.alerts_held_back += 1,
            Belief::Status(status) => {
                let (worker, at) = status.heard();
                self.observed.heard(worker, at);
                self.observed.inventory.merge(status);
            }
            Belief::Silence(change) => self.observed.inventory.settle(change),
            Belief::DesiredConfig { scope, config, at } => {
                self.observed.inventory.set_desired_config(scope, *config, *at);
            }
            Belief::Lifecycle { scope, lifecycle, at } => {
                self.observed.inventory.set_lifecycle(scope, *lifecycle, *at);
            }
            Belief::Away(at) => {
                self.observed.session_look = None;
                self.observed.listens_since = None;
                self.observed.inventory.pause(*at);
            }
            Belief::Back(at) => {
                self.observed.listens_since = Some(at.micros());
                self.observed.hear_all(self.recorded.sessions.iter(), *at, self.rules.session_lost_after_ms);
                self.observed.inventory.resume(*at);
            }
            Belief::Heard { scope, at } => self.observed.heard(scope, *at),
            Belief::SessionsLooked(next) => self.observed.session_look = next.map(Timestamp::micros),
            Belief::Measured { place, breach } => self.observed.meters.set(place, *breach),
            Belief::Kept { parcel, body_bytes } => self.observed.kept(*parcel, *body_bytes),
            Belief::LetGo { parcel } => self.observed.let_go(*parcel),
            Belief::Shown { scope, from } => {
                self.observed.shown.entry(scope.clone()).or_insert(from.micros());
            }
            Belief::Tried { scope } => {
                self.observed.shown.remove(scope);
            }
        }
    }

    /// Whether it looks on only, and changes nothing.
    pub(super) fn only_looks(&self) -> bool {
        self.rules.mode == Mode::Observe
    }

    /// The start of a bot that has a trace.
    pub(super) fn start(&self, bot: &Scope, trace: Short) -> Option<&Started> {
        self.recorded.bots.get(bot)?.starts.iter().rev().find(|start| start.trace == trace)
    }

    pub(super) fn standing_uses(&self, name: &str) -> u64 {
        self.recorded.standing_uses.get(name).copied().unwrap_or_default()
    }

    /// Whether a swarm has a worker of that instance name whose session is ready.
    pub(super) fn worker_is_ready(&self, swarm: &str, instance: &str) -> bool {
        // Scopes are ordered by their instance first.
        let first = Scope::new("", "", instance);
        let of_name =
            self.recorded.sessions.range(first..).take_while(|(scope, _)| scope.instance == instance);
        let mut of_swarm = of_name.filter(|(scope, _)| scope.swarm_id == swarm);
        of_swarm.any(|(_, session)| session.is_ready())
    }

    /// The workers of a scope whose sessions stand.
    pub(super) fn sessions_standing<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = &'a Scope> {
        let covered = self.recorded.sessions.iter().filter(|(worker, _)| scope.covers(worker));
        covered.filter(|(_, session)| session.stands()).map(|(worker, _)| worker)
    }

    /// The workers of whose standing sessions nothing was heard for too long, and when to look again; `None` when it is
    /// not time to look.
    pub(super) fn sessions_lost(&self, now: Timestamp) -> Option<(Vec<Scope>, Option<Timestamp>)> {
        self.observed.session_look.filter(|look| *look <= now.micros() && self.ledger_writable())?;
        let ends = |heard: i64| Timestamp::from_micros(heard).plus_ms(self.rules.session_lost_after_ms);
        let mut lost = Vec::new();
        let mut next = None;
        for (worker, heard) in &self.observed.session_heard {
            match ends(*heard) {
                end if end <= now => lost.push(worker.clone()),
                end => next = next.into_iter().chain([end]).min(),
            }
        }
        Some((lost, next))
    }

    pub(super) fn meters(&self) -> &Meters {
        &self.observed.meters
    }

    pub(super) fn command(&self, command: Digest, now: Timestamp) -> Option<Known> {
        let known = self.recorded.commands.get(&short(command))?;
        let remembered = !has_left(known.first_seen, now.micros(), self.rules.idempotency_window_ms);
        let flight = self.recorded.flights.get(short(command));
        let waits = flight.filter(|flight| flight.awaits_confirmation());
        // The entry after a challenged command's own is its challenge.
        let challenge = waits.map(|flight| flight.seq + 1);
        remembered.then_some(Known { compared: known.compared, ended: known.ended, challenge })
    }

    pub(super) fn in_flight(&self) -> &Flights {
        &self.recorded.flights
    }

    /// Whether the router ended a command of that type and correlationId that its target may still answer.
    pub(super) fn is_late(&self, late: Short, scope: &Scope) -> bool {
        self.recorded.late.get(&late).is_some_and(|late| late.scope.covers(scope))
    }

    /// Whether an outcome answers a release that the router ended, and no quarantine came after that.
    pub(super) fn is_released_late(&self, said: &Said) -> bool {
        let scope = &said.key.scope;
        let trace = said.envelope.correlation_id.as_deref().unwrap_or_default();
        let late = self.recorded.late.get(&late(&said.key.kind_type, trace));
        let quarantined = self.recorded.bots.get(scope).map_or(0, |bot| bot.quarantined);
        late.is_some_and(|late| late.scope.covers(scope) && late.seq > quarantined)
    }

    pub(super) fn knows_result(&self, identity: Digest) -> bool {
        self.recorded.results.contains(&short(identity))
    }

    /// The latest moment from which starts of `scope` are overtaken by an accepted stop.
    pub(super) fn overtaking_stop(&self, scope: &Scope) -> Option<Timestamp> {
        self.recorded.overtaking_stop(scope)
    }

    /// The target with parked commands that is to be tried first, and from when on.
    pub(super) fn shown(&self) -> Option<(&Scope, Timestamp)> {
        let first = self.observed.shown.iter().min_by_key(|(_, from)| **from);
        first.map(|(scope, from)| (scope, Timestamp::from_micros(*from)))
    }

    pub(super) fn tallies(&self) -> &BTreeMap<Digest, Tally> {
        &self.observed.tallies
    }

    /// Whether an alert of that fingerprint may leave now.
    pub(super) fn may_alert(&self, fingerprint: Digest, now: Timestamp) -> bool {
        self.observed.may_alert(fingerprint, now, self.dedupe_micros(), self.rules.alerts_per_second_max)
    }

    pub(super) fn alerts_held_back(&self) -> u64 {
        self.observed.alerts_held_back
    }

    fn dedupe_micros(&self) -> i64 {
        Timestamp::from_micros(0).plus_ms(self.rules.alerts_dedupe_ms).micros()
    }
}
