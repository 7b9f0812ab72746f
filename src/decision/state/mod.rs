//! The state that decisions lean on: a recorded half (the fold of facts) and an observed half
//! (volatile).
//!
//! Owns: `apply`, the only way the recorded half changes, `believe`, the only way the observed half
//! does, and the
//! digest by which two replays are compared.
//! Never: decides, and never forgets by count; what leaves, leaves by time.
//! Holds: fold(ledger) gives the same digest on every machine; every index points at a live record.

mod belief;
pub(super) mod bots;
mod bounds;
pub mod challenge;
pub(super) mod challenges;
pub(super) mod clock_gap;
mod collection;
pub(super) mod commands;
pub(super) mod configs;
pub mod flight;
mod flights;
pub mod hold;
pub mod inventory;
pub(super) mod key;
pub(super) mod known;
mod leaving;
pub mod meters;
mod observed;
pub(super) mod parking;
mod patch;
mod payload;
pub mod precedence;
mod recorded;
pub(super) mod room;
pub mod safety;
mod sessions;
mod settings;
pub mod steps;
pub(super) mod stops;
mod suspended;
pub(in crate::decision) mod tallies;

pub use belief::Belief;
pub use collection::Collection;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;
use serde_json::Value;

use crate::{
    contract::{
        audit::{Change, EmergencyId, Fact, Genesis, Mode},
        bound::Bound,
        digest::Digest,
        routing::Scope,
        timestamp::Timestamp,
    },
    decision::{
        rules::Rules,
        session::Session,
        state::{
            bots::Bot,
            challenge::Closed,
            commands::{Late, RememberedCommand},
            configs::Configs,
            flights::Flights,
            inventory::Inventory,
            key::{Short, pairs},
            known::KnownInstances,
            leaving::Leaving,
            meters::Meters,
            safety::Safety,
            settings::Set,
            suspended::SuspendedSenders,
            tallies::Tally,
        },
    },
};

/// What every decision reads: the settings, the recorded half and the observed half.
#[derive(Clone, Debug)]
pub struct State {
    rules: Rules,
    recorded: Recorded,
    observed: Observed,
}

/// The recorded half: the fold of the ledger's facts, which the digest covers.
#[derive(Clone, Debug, Default, Serialize)]
struct Recorded {
    pub genesis: Option<Genesis>,
    pub epoch: u64,
    /// The random bits of the last opening, in hex.
    pub incarnation: String,
    pub last_seq: u64,
    pub last_at: i64,
    /// The newest entry that was first sealed while the ledger could not be written.
    pub newest_emergency: Option<EmergencyId>,
    pub commands: BTreeMap<Short, RememberedCommand>,
    pub flights: Flights,
    /// Commands that the router ended, by type and correlationId: their targets may still answer.
    pub late: BTreeMap<Short, Late>,
    pub results: BTreeSet<Short>,
    #[serde(serialize_with = "pairs")]
    pub stops: BTreeMap<Scope, i64>,
    /// Every instance that has shown itself, and when first.
    pub known: KnownInstances,
    /// The config-updates that each instance applied.
    pub applied: Configs,
    /// Where bots are; one that nobody moved is CREATED, and not here.
    #[serde(serialize_with = "pairs")]
    pub bots: BTreeMap<Scope, Bot>,
    /// Swarms (`ALL`: all of them) of which every bot that is not in `bots` is QUARANTINED, and the
    /// entry of that.
    pub quarantines: BTreeMap<String, u64>,
    /// Every worker's session.
    #[serde(serialize_with = "pairs")]
    pub sessions: BTreeMap<Scope, Session>,
    pub safety: Safety,
    pub settings: Set,
    /// Challenges that are over, by id.
    pub closed: BTreeMap<String, Closed>,
    /// How often each standing approval was used.
    pub standing_uses: BTreeMap<String, u64>,
    /// Principals that may start nothing, and until when.
    pub suspended: SuspendedSenders,
    /// What leaves next, oldest first: all windows are equally long, so order of sighting is order
    /// of leaving.
    pub leaving: VecDeque<(i64, Leaving)>,
}

/// The observed half: in memory only, and no part of the digest.
#[derive(Clone, Debug, Default)]
struct Observed {
    pub ledger_unwritable: bool,
    /// How far the router's time is ahead of the clock, in microseconds, where they do not agree.
    pub clock_gap: Option<i64>,
    pub tallies: BTreeMap<Digest, Tally>,
    /// How many tallies are open in each second.
    pub tally_seconds: BTreeMap<i64, usize>,
    pub alerts: BTreeMap<Digest, i64>,
    pub alerts_held_back: u64,
    pub inventory: Inventory,
    /// The messages that wait for their targets or confirmations: the lengths of their bodies, by
    /// parcel, and the sum.
    pub kept: BTreeMap<u64, usize>,
    pub kept_bytes: usize,
    /// Targets with parked commands that have shown themselves, and from when on they are tried
    /// again.
    pub shown: BTreeMap<Scope, i64>,
    /// When something was last heard of each worker whose session stands, in microseconds since the
    /// epoch.
    pub session_heard: BTreeMap<Scope, i64>,
    /// When the sessions are to be looked through next.
    pub session_look: Option<i64>,
    pub meters: Meters,
    /// Since when somebody could be heard, in microseconds since the epoch; `None` while nobody
    /// can.
    pub listens_since: Option<i64>,
    /// How often senders disagreed with the scope of a bot that runs live, and since when.
    pub disagreed: BTreeMap<Scope, (i64, u64)>,
    pub alerts_second: i64,
    pub alerts_in_second: u32,
    /// How often each bound was met since that was last asked for.
    pub bound_hits: [u64; Bound::ALL.len()],
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
        let meters = Meters::new(rules.safety.interlocks.clone(), rules.memory.counted_max);
        let observed = Observed::new(Inventory::new(rules.inventory.clone()), meters);
        let mut recorded = recorded;
        // Believed, although it stands in the recorded half: no fact says how the clock lies.
        recorded.safety.clock_is_apart = false;
        Self { rules, recorded, observed }
    }

    /// The settings that decisions are made by.
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

    /// The random bits of the last opening, in hex; empty where the ledger is in memory, or older
    /// than they are.
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

    /// The newest entry that was first sealed while the ledger could not be written: whatever is
    /// not newer has been appended already.
    pub fn newest_emergency(&self) -> Option<EmergencyId> {
        self.recorded.newest_emergency
    }

    /// What is believed of the fleet.
    pub fn inventory(&self) -> &Inventory {
        &self.observed.inventory
    }

    /// Whether the ledger can be written, as far as is known.
    pub fn ledger_writable(&self) -> bool {
        !self.observed.ledger_unwritable
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
            // Before this nobody could be heard, so no silence from before counts.
            self.observed.listens_since = Some(fact.at.micros());
            self.observed.hear_all(self.recorded.sessions.iter(), fact.at, self.rules.session_lost_after_ms);
        }
        debug_assert!(self.recorded.invariants_hold());
    }

    /// Whether it looks on only, and changes nothing.
    pub(super) fn only_looks(&self) -> bool {
        self.rules.mode == Mode::Observe
    }
}
