//! The observed half: what is believed until told otherwise, gone with the process.
//!
//! Owns: whether the ledger can be written, the refusals being counted, the limits on alerts, how large what waits is,
//! which parked commands' targets have shown themselves, and the inventory.
//! Never: part of the digest, or written anywhere.
//! Holds: nothing here decides what a replay must repeat.

use std::collections::{BTreeMap, BTreeSet};

use super::recorded::{REMOVED, SWARM_REMOVE};
use crate::{
    contract::{
        audit::{Actor, Change, Fact, Payload, ResultSeen, Standing, Stepped},
        digest::Digest,
        interlock::Phase,
        reason::Reason,
        routing::Scope,
        timestamp::Timestamp,
    },
    decision::{
        inventory::{Change as Silence, Inventory, Lifecycle, Status},
        safety::interlock::{Breach, Meters, Place},
        session::Session,
    },
};

/// The type that says who is expected in a swarm.
const SWARM_TEMPLATE: &str = "swarm-template";

/// What is believed.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    pub ledger_unwritable: bool,
    /// How far the router's time is ahead of the clock, in microseconds, where they do not agree.
    pub clock_gap: Option<i64>,
    pub tallies: BTreeMap<Digest, Tally>,
    /// How many tallies are open in each second.
    pub tally_seconds: BTreeMap<i64, usize>,
    pub alerts: BTreeMap<Digest, i64>,
    pub alerts_held_back: u64,
    pub inventory: Inventory,
    /// The messages that wait for their targets or confirmations: the lengths of their bodies, by parcel, and the sum.
    pub kept: BTreeMap<u64, usize>,
    pub kept_bytes: usize,
    /// Targets with parked commands that have shown themselves, and from when on they are tried again.
    pub shown: BTreeMap<Scope, i64>,
    /// When something was last heard of each worker whose session stands, in microseconds since the epoch.
    pub session_heard: BTreeMap<Scope, i64>,
    /// When the sessions are to be looked through next.
    pub session_look: Option<i64>,
    pub meters: Meters,
    /// Since when somebody could be heard, in microseconds since the epoch; `None` while nobody can.
    pub listens_since: Option<i64>,
    /// How often senders disagreed with the scope of a bot that runs live, and since when.
    pub disagreed: BTreeMap<Scope, (i64, u64)>,
    alerts_second: i64,
    alerts_in_second: u32,
}

/// Refusals of one sender and code within one second.
#[derive(Clone, Debug)]
pub(in crate::decision) struct Tally {
    /// The second, since the epoch.
    pub second: i64,
    /// How many after those that have an entry each.
    pub count: u64,
    /// How many have an entry each.
    pub written: u64,
    /// Digest chained over their bodies.
    pub bodies: Digest,
    /// Who was refused.
    pub actor: Actor,
    /// Why.
    pub reason: Reason,
}

/// A change of the observed half.
#[derive(Clone, Debug, PartialEq)]
pub enum Belief {
    /// The ledger can, or cannot, be written.
    LedgerWritable(bool),
    /// How far the router's time is ahead of the clock, in microseconds; `None` where they agree.
    ClockApart(Option<i64>),
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
    /// One more of them, with an entry of its own.
    TallyWritten {
        /// Digest of sender and code.
        fingerprint: Digest,
    },
    /// A sender that is not a live bot said that it is.
    Disagreed {
        /// The bot.
        scope: Scope,
        /// When.
        at: Timestamp,
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
    /// A message waits for its target or its confirmation.
    Kept {
        /// Its parcel.
        parcel: u64,
        /// The length of its body.
        body_bytes: usize,
    },
    /// It waits no more.
    LetGo {
        /// Its parcel.
        parcel: u64,
    },
    /// A target with parked commands has shown itself.
    Shown {
        /// The target.
        scope: Scope,
        /// From when on its commands are tried again.
        from: Timestamp,
    },
    /// A status was accepted.
    Status(Box<Status>),
    /// What fell due in the inventory has been told.
    Silence(Silence),
    /// The config that an instance would have if what was last applied were all.
    DesiredConfig {
        /// The instance.
        scope: Scope,
        /// Digest of that config.
        config: Digest,
        /// When.
        at: Timestamp,
    },
    /// An outcome told where an instance is in its life.
    Lifecycle {
        /// The instance.
        scope: Scope,
        /// Where it is.
        lifecycle: Lifecycle,
        /// When.
        at: Timestamp,
    },
    /// Nothing is consumed: no silence counts.
    Away(Timestamp),
    /// Everything that waited is judged: silence counts again.
    Back(Timestamp),
    /// A worker was heard of.
    Heard {
        /// The worker.
        scope: Scope,
        /// When.
        at: Timestamp,
    },
    /// The sessions were looked through, and are again at this time.
    SessionsLooked(Option<Timestamp>),
    /// An interlock's measurement.
    Measured {
        /// What was measured.
        place: Place,
        /// The breach, where there is one.
        breach: Option<Breach>,
    },
    /// Its parked commands were tried again.
    Tried {
        /// The target.
        scope: Scope,
    },
}

/// The members that a template asks for: `data.members`, each with a role and an instance.
fn members(payload: &Payload) -> Option<BTreeSet<(String, String)>> {
    let body: serde_json::Value = serde_json::from_str(payload.text()).ok()?;
    let members = body.get("data")?.get("members")?.as_array()?;
    let text = |member: &serde_json::Value, name: &str| Some(member.get(name)?.as_str()?.to_owned());
    Some(
        members
            .iter()
            .filter_map(|member| Some((text(member, "role")?, text(member, "instance")?)))
            .collect(),
    )
}

impl Observed {
    pub fn new(inventory: Inventory, meters: Meters) -> Self {
        Self { inventory, meters, ..Self::default() }
    }

    /// What is recorded of the fleet is believed too.
    pub fn follow(&mut self, fact: &Fact, session_lost_ms: u64) {
        self.meters.follow(fact);
        let Some(subject) = &fact.subject else { return };
        match &fact.change {
            Change::Session(moved) => {
                let stands = matches!(moved.phase, Phase::Bootstrapped | Phase::Ready | Phase::Working);
                for worker in &moved.workers {
                    match stands {
                        true => drop(self.session_heard.insert(worker.clone(), fact.at.micros())),
                        false => drop(self.session_heard.remove(worker)),
                    }
                }
                if stands {
                    self.session_look.get_or_insert(fact.at.plus_ms(session_lost_ms).micros());
                }
            }
            Change::Moved(moved) => {
                for step in &moved.bots {
                    if let Some(lifecycle) = Lifecycle::read(step.to.word()) {
                        self.inventory.set_lifecycle(&step.scope, lifecycle, fact.at);
                    }
                }
            }
            Change::Presence(presence) if presence.now == Standing::Forgotten => {
                self.inventory.forget(&subject.scope);
            }
            Change::Accepted(_) if subject.kind_type == SWARM_TEMPLATE => {
                if let Some(members) = fact.payload.as_ref().and_then(members) {
                    self.inventory.expect(&subject.scope.swarm_id, &members, fact.at);
                }
            }
            Change::Result(ResultSeen { ends: Some(ended), .. })
                if subject.kind_type == SWARM_REMOVE && ended.status == REMOVED =>
            {
                self.inventory.forget_swarm(&subject.scope.swarm_id);
            }
            _ => {}
        }
    }

    pub fn kept(&mut self, parcel: u64, body_bytes: usize) {
        self.let_go(parcel);
        self.kept.insert(parcel, body_bytes);
        self.kept_bytes = self.kept_bytes.saturating_add(body_bytes);
    }

    pub fn let_go(&mut self, parcel: u64) {
        let body_bytes = self.kept.remove(&parcel).unwrap_or_default();
        self.kept_bytes = self.kept_bytes.saturating_sub(body_bytes);
    }

    /// Something was heard of a worker.
    /// Keeps of what was believed before a step of time what is still so.
    pub fn keep(&mut self, before: Self, stepped: &Stepped) {
        let second = stepped.to.micros().div_euclid(1_000_000);
        self.ledger_unwritable = before.ledger_unwritable;
        (self.kept, self.kept_bytes) = (before.kept, before.kept_bytes);
        self.tallies = before.tallies;
        for tally in self.tallies.values_mut() {
            tally.second = tally.second.min(second);
            *self.tally_seconds.entry(tally.second).or_default() += 1;
        }
        self.alerts = before.alerts;
        self.alerts.values_mut().for_each(|at| *at = stepped.past(*at));
        self.alerts_held_back = before.alerts_held_back;
    }

    pub fn heard(&mut self, worker: &Scope, at: Timestamp) {
        if let Some(heard) = self.session_heard.get_mut(worker) {
            *heard = at.micros().max(*heard);
        }
    }

    /// Nobody could be heard before now: every session that stands counts from here.
    pub fn hear_all<'a>(
        &mut self,
        sessions: impl Iterator<Item = (&'a Scope, &'a Session)>,
        at: Timestamp,
        lost_ms: u64,
    ) {
        for (worker, _) in sessions.filter(|(_, session)| session.stands()) {
            let heard = self.session_heard.entry(worker.clone()).or_default();
            *heard = at.micros().max(*heard);
        }
        self.session_look = (!self.session_heard.is_empty()).then(|| at.plus_ms(lost_ms).micros());
    }

    pub fn tally_opened(&mut self, fingerprint: Digest, tally: Tally) {
        *self.tally_seconds.entry(tally.second).or_default() += 1;
        let replaced = self.tallies.insert(fingerprint, tally);
        self.tally_left(replaced);
    }

    pub fn tallied(&mut self, fingerprint: &Digest, body: Digest) {
        if let Some(tally) = self.tallies.get_mut(fingerprint) {
            tally.count += 1;
            tally.bodies = Digest::of_fields(&[&tally.bodies.0, &body.0]);
        }
    }

    pub fn tally_written(&mut self, fingerprint: &Digest) {
        if let Some(tally) = self.tallies.get_mut(fingerprint) {
            tally.written += 1;
        }
    }

    /// Counts a sender that disagrees with a live bot's scope; a window that is over begins anew, and is forgotten where
    /// nothing more comes.
    pub fn disagreed(&mut self, scope: &Scope, at: i64, window: i64) {
        self.disagreed.retain(|_, (since, _)| at - *since < window);
        self.disagreed.entry(scope.clone()).or_insert((at, 0)).1 += 1;
    }

    pub fn tally_closed(&mut self, fingerprint: &Digest) {
        let closed = self.tallies.remove(fingerprint);
        self.tally_left(closed);
    }

    fn tally_left(&mut self, tally: Option<Tally>) {
        let Some(Tally { second, .. }) = tally else { return };
        let open = self.tally_seconds.entry(second).or_default();
        *open = open.saturating_sub(1);
        if *open == 0 {
            self.tally_seconds.remove(&second);
        }
    }

    /// Whether an alert of that fingerprint may leave now.
    pub fn may_alert(
        &self,
        fingerprint: Digest,
        now: Timestamp,
        dedupe_micros: i64,
        per_second_max: u32,
    ) -> bool {
        let repeated = self.alerts.get(&fingerprint).is_some_and(|at| now.micros() - at < dedupe_micros);
        let full = self.alerts_second == now.second() && self.alerts_in_second >= per_second_max;
        !repeated && !full
    }

    pub fn alerted(&mut self, fingerprint: Digest, at: Timestamp, dedupe_micros: i64) {
        if self.alerts_second != at.second() {
            self.alerts_second = at.second();
            self.alerts_in_second = 0;
            self.alerts.retain(|_, raised| at.micros() - *raised < dedupe_micros);
        }
        self.alerts_in_second += 1;
        self.alerts_held_back = 0;
        self.alerts.insert(fingerprint, at.micros());
    }
}
