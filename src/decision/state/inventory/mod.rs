//! What we believe of the fleet: per instance, per swarm, and how they hang together.
//!
//! Owns: the inventory, from a status that was accepted to freshness, totals, drift and the queue
//! graph.
//! Never: reads a clock, asks anybody, or is part of the recorded half; it is gone with the
//! process.
//! Holds: any order and repetition of the same statuses gives the same views; a status costs O(log
//! n) of the fleet;
//! no instance is taken beyond `instances_max`.

mod fleet;
mod freshness;
mod graph;
mod impact;
mod instance;
mod names;
mod record;
mod status;
mod swarm;
mod view;

pub use fleet::Fleet;
pub use freshness::{Change, Freshness, What};
pub use impact::{Affected, GraphPlace, Impact};
pub use instance::{Drift, UNKNOWN};
pub use status::{
    Build, Health, Lifecycle, Plane, QUEUES_PER_INSTANCE_MAX, QueueUse, Status, TEXT_BYTES_MAX,
};
pub use swarm::{SwarmView, Totals};
pub use view::InstanceView;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use crate::{
    contract::{bound::Bound, digest::Digest, routing::Scope, timestamp::Timestamp},
    decision::{
        rules::inventory::InventoryLimits,
        state::Collection,
        state::inventory::{
            freshness::LaneClock,
            graph::Graph,
            instance::Instance,
            names::{Builds, Names},
            record::SaidAt,
            swarm::Swarm,
        },
    },
};

/// What merging a status did to the inventory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The inventory is full and the instance was not in it.
    pub overflowed: bool,
    /// The instance was not known before, or had not spoken.
    pub is_first: bool,
    /// Its baseline is missing and a `status-request` is due; `due` says so until it is settled.
    pub ask: bool,
}

/// What is believed of the fleet.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    limits: InventoryLimits,
    names: Names,
    builds: Builds,
    /// Boxed, so that the tree's nodes stay small.
    instances: BTreeMap<Key, Box<Instance>>,
    /// When, on the lane's clock, something falls due for whom; each instance at most once.
    deadlines: BTreeSet<(i64, Key)>,
    swarms: BTreeMap<u32, Swarm>,
    fleet: Fleet,
    graph: Graph,
    clock: LaneClock,
    overflow_count: u64,
}

/// An instance by the numbers of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    swarm: u32,
    role: u32,
    instance: u32,
}

impl Key {
    const MIN: Self = Self { swarm: 0, role: 0, instance: 0 };
    const MAX: Self = Self { swarm: u32::MAX, role: u32::MAX, instance: u32::MAX };

    fn of_swarm(swarm: u32) -> RangeInclusive<Self> {
        Self { swarm, ..Self::MIN }..=Self { swarm, ..Self::MAX }
    }
}

impl Inventory {
    /// An inventory that knows nobody.
    pub fn new(limits: InventoryLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Merges one status.
    pub fn merge(&mut self, status: &Status) -> Merged {
        let Some(key) = self.enter(&status.scope, status.arrived) else {
            return Merged { overflowed: true, ..Merged::default() };
        };
        let stamp = SaidAt::of(status, self.limits.skew_max_ms);
        let build = status.build.as_ref().map(|build| record::SharedBuild {
            container_id: build.container_id.clone(),
            common: self.builds.share(build),
        });
        let mut is_first = false;
        let mut is_newest_full = false;
        self.change(key, |instance, clock, limits| {
            is_first = instance.record.is_none();
            is_newest_full = instance.hear(status, stamp, build, clock, limits);
        });
        if let Some(full) = status.full.as_ref().filter(|_| is_newest_full) {
            self.graph.set(key, &full.queues);
        }
        let now = self.clock.at(status.arrived.micros());
        let ask = self.instances.get(&key).is_some_and(|instance| instance.timers.wants_baseline(now));
        Merged { overflowed: false, is_first, ask }
    }

    /// What an outcome says of an instance's life; the newer of this and what it says itself holds.
    pub fn set_lifecycle(&mut self, scope: &Scope, lifecycle: Lifecycle, at: Timestamp) {
        let Some(key) = self.enter(scope, at) else { return };
        self.change(key, |instance, _, _| {
            // Of two outcomes within a microsecond, the later state in the order of life holds.
            instance.lifecycle.write(SaidAt { at: at.micros(), tie: lifecycle as u64 }, lifecycle);
        });
    }

    /// The config that was last applied: what later snapshots are compared with. [`UNKNOWN`] says
    /// that nobody knows it any more.
    pub fn set_desired_config(&mut self, scope: &Scope, config: Digest, at: Timestamp) {
        let Some(key) = self.enter(scope, at) else { return };
        self.change(key, |instance, _, _| instance.desire(config, at));
    }

    /// The session an instance speaks in; sessions only ever go up.
    pub fn set_session(&mut self, scope: &Scope, session: u64) {
        if let Some(key) = self.find(scope) {
            self.change(key, |instance, _, _| instance.session = instance.session.max(session));
        }
    }

    /// The members, by role and instance, that a swarm's template asks for, in place of those
    /// before.
    pub fn expect(&mut self, swarm_id: &str, members: &BTreeSet<(String, String)>, at: Timestamp) {
        let mut expected = BTreeSet::new();
        for (role, instance) in members {
            expected.extend(self.enter(&Scope::new(swarm_id, role, instance), at));
        }
        for key in self.keys_in(swarm_id) {
            self.change(key, |instance, _, _| instance.is_expected = expected.contains(&key));
        }
        // Also those that did not fit are missing.
        let Some(number) = self.swarm_number(swarm_id, !members.is_empty()) else { return };
        if let Some(swarm) = self.swarms.get_mut(&number) {
            swarm.set_desired(members.len());
        }
        self.drop_swarm_if_empty(number);
    }

    /// The run that an instance last spoke of.
    pub fn run_id(&self, scope: &Scope) -> Option<&str> {
        let record = self.instances.get(&self.find(scope)?)?.record.as_ref()?;
        record.run_id()
    }

    /// Lets go of the instances that a scope names; with `ALL`, of all that it covers.
    pub fn forget(&mut self, scope: &Scope) {
        let keys: Vec<Key> = if scope.fans_out() {
            self.covered(scope).filter_map(|known| self.find(&known)).collect()
        } else {
            self.find(scope).into_iter().collect()
        };
        keys.into_iter().for_each(|key| self.remove(key));
    }

    /// Lets go of a swarm and of what was expected of it.
    pub fn forget_swarm(&mut self, swarm_id: &str) {
        for key in self.keys_in(swarm_id) {
            self.remove(key);
        }
        if let Some(number) = self.swarm_number(swarm_id, false) {
            if let Some(swarm) = self.swarms.get_mut(&number) {
                swarm.set_desired(0);
            }
            self.drop_swarm_if_empty(number);
        }
    }

    /// The metrics lane stopped consuming: the timers stand.
    pub fn pause(&mut self, at: Timestamp) {
        self.clock.pause(at);
    }

    /// The metrics lane consumes again, and what had waited in it is decided: the timers go on.
    pub fn resume(&mut self, at: Timestamp) {
        self.clock.resume(at);
    }

    /// When something falls due, if anything does; never while the lane stands.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let (at, _) = self.deadlines.first()?;
        self.clock.moment(*at)
    }

    /// What is due by `now`: one change an instance, at most `changes_max`, none while the lane
    /// stands. Nothing changes until it is settled; what is left over is due at the next look.
    pub fn due(&self, now: Timestamp) -> Vec<Change> {
        // What waits in the lane may be what a timer waits for.
        if self.clock.stands() {
            return Vec::new();
        }
        let lane = self.clock.at(now.micros());
        let due = self.deadlines.range(..=(lane, Key::MAX)).take(self.limits.changes_max);
        let change = |(_, key): &(i64, Key)| {
            let instance = self.instances.get(key)?;
            let what = instance.timers.due(instance.vitals(), lane, &self.limits)?;
            let record = instance.record.as_ref();
            Some(Change {
                scope: self.scope_of(*key),
                what,
                at: now,
                as_of: record.map(|record| Timestamp::from_micros(record.as_of())),
                last_seen: record.map(|record| Timestamp::from_micros(record.last_seen)),
            })
        };
        due.filter_map(change).collect()
    }

    /// Makes a change that was due so; one that is no longer due (the instance has spoken since)
    /// changes nothing.
    pub fn settle(&mut self, change: &Change) {
        let Some(key) = self.find(&change.scope) else { return };
        let now = self.clock.at(change.at.micros());
        let Some(instance) = self.instances.get(&key) else { return };
        if instance.timers.due(instance.vitals(), now, &self.limits) != Some(change.what) {
            return;
        }
        if change.what == What::Forgotten {
            return self.remove(key);
        }
        self.change(key, |instance, _, limits| {
            let vitals = instance.vitals();
            instance.timers.settle(change.what, vitals, now, limits);
        });
    }

    /// The whole fleet in numbers.
    pub fn fleet(&self) -> Fleet {
        self.fleet
    }

    /// How many instances did not fit, by attempt.
    pub fn overflow_count(&self) -> u64 {
        self.overflow_count
    }

    /// Everything it keeps, and what bounds that.
    pub(super) fn collections(&self) -> Vec<Collection> {
        let Self {
            limits,
            names,
            builds,
            instances,
            deadlines,
            swarms,
            fleet: _,
            graph,
            clock: _,
            overflow_count: _,
        } = self;
        let max = limits.instances_max;
        let row = |name, len, max| Collection { name, bound: Bound::Inventory, len, max };
        let (in_graph, queues, ends) = graph.sizes();
        let ends_max = max.saturating_mul(QUEUES_PER_INSTANCE_MAX);
        vec![
            row("inventory.instances", instances.len(), max),
            row("inventory.deadlines", deadlines.len(), max),
            row("inventory.swarms", swarms.len(), max),
            // Three of each instance and one of each swarm.
            row("inventory.names", names.len(), max.saturating_mul(4)),
            row("inventory.builds", builds.len(), Builds::pool_max(max)),
            row("inventory.graph", in_graph, max),
            row("inventory.graph.queues", queues, ends_max),
            row("inventory.graph.ends", ends, ends_max),
        ]
    }

    /// What it takes up on the heap, about.
    pub fn bytes(&self) -> usize {
        // Trees are two thirds full.
        let instance = size_of::<Instance>() + (size_of::<Key>() + size_of::<Box<Instance>>()) * 3 / 2;
        let rare: usize = self.instances.values().map(|instance| instance.bytes()).sum();
        let swarms: usize =
            self.swarms.values().map(|swarm| swarm.bytes() + size_of::<Swarm>() * 3 / 2).sum();
        self.instances.len() * instance
            + rare
            + swarms
            + self.deadlines.len() * size_of::<(i64, Key)>() * 3 / 2
            + self.names.bytes()
            + self.builds.bytes()
            + self.graph.bytes()
    }

    /// The one way an instance changes: its share of the totals and its deadline change with it.
    fn change(&mut self, key: Key, change: impl FnOnce(&mut Instance, &LaneClock, &InventoryLimits)) {
        let Some(instance) = self.instances.get_mut(&key) else { return };
        let (old_share, old_deadline) = (instance.share(), instance.deadline);
        change(instance, &self.clock, &self.limits);
        let vitals = instance.vitals();
        instance.deadline = instance.timers.next(vitals, &self.limits).map(|(at, _)| at);
        let (share, deadline) = (instance.share(), instance.deadline);
        if let Some(swarm) = self.swarms.get_mut(&key.swarm) {
            swarm.replace(key, old_share, share);
        }
        if old_share != share {
            self.fleet.remove(old_share);
            self.fleet.add(share);
        }
        if old_deadline != deadline {
            old_deadline.map(|at| self.deadlines.remove(&(at, key)));
            deadline.map(|at| self.deadlines.insert((at, key)));
        }
    }

    /// The instance of a scope, taken in if it is new and fits.
    fn enter(&mut self, scope: &Scope, at: Timestamp) -> Option<Key> {
        if scope.fans_out() {
            return None;
        }
        if let Some(key) = self.find(scope) {
            return Some(key);
        }
        if self.instances.len() >= self.limits.instances_max {
            self.overflow_count += 1;
            return None;
        }
        let swarm = self.swarm_number(&scope.swarm_id, true)?;
        let key = Key {
            swarm: self.names.take(&scope.swarm_id),
            role: self.names.take(&scope.role),
            instance: self.names.take(&scope.instance),
        };
        if let Some(swarm) = self.swarms.get_mut(&swarm) {
            swarm.count(true);
        }
        let instance = Instance::new(self.clock.at(at.micros()));
        self.fleet.add(instance.share());
        self.instances.insert(key, Box::new(instance));
        // Enters its first deadline.
        self.change(key, |_, _, _| {});
        Some(key)
    }

    fn remove(&mut self, key: Key) {
        let Some(instance) = self.instances.remove(&key) else { return };
        instance.deadline.map(|at| self.deadlines.remove(&(at, key)));
        self.graph.remove(key);
        self.fleet.remove(instance.share());
        if let Some(swarm) = self.swarms.get_mut(&key.swarm) {
            swarm.replace(key, instance.share(), swarm::Share::default());
            swarm.count(false);
        }
        self.drop_swarm_if_empty(key.swarm);
        [key.swarm, key.role, key.instance].into_iter().for_each(|number| self.names.release(number));
    }

    /// The number of a swarm's record, made if it is wanted. The record holds its own use of the
    /// name.
    fn swarm_number(&mut self, swarm_id: &str, wanted: bool) -> Option<u32> {
        let known = self.names.find(swarm_id).filter(|number| self.swarms.contains_key(number));
        if known.is_some() || !wanted {
            return known;
        }
        if self.swarms.len() >= self.limits.instances_max {
            self.overflow_count += 1;
            return None;
        }
        let number = self.names.take(swarm_id);
        self.swarms.insert(number, Swarm::default());
        Some(number)
    }

    fn drop_swarm_if_empty(&mut self, number: u32) {
        if self.swarms.get(&number).is_some_and(Swarm::is_empty) {
            self.swarms.remove(&number);
            self.names.release(number);
        }
    }

    fn find(&self, scope: &Scope) -> Option<Key> {
        let number = |text: &str| self.names.find(text);
        let key = Key {
            swarm: number(&scope.swarm_id)?,
            role: number(&scope.role)?,
            instance: number(&scope.instance)?,
        };
        // Each of the three names may belong to others while this instance is not there.
        self.instances.contains_key(&key).then_some(key)
    }

    fn keys_in(&self, swarm_id: &str) -> Vec<Key> {
        let Some(swarm) = self.names.find(swarm_id) else { return Vec::new() };
        self.instances.range(Key::of_swarm(swarm)).map(|(key, _)| *key).collect()
    }

    fn scope_of(&self, key: Key) -> Scope {
        let text = |number| self.names.text(number);
        Scope::new(text(key.swarm), text(key.role), text(key.instance))
    }
}
