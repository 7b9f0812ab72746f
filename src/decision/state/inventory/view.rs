//! What the inventory answers.
//!
//! Owns: the view of one instance and the reading doors.
//! Never: changes anything.
//! Holds: a view says everything that is known, and of what is not known that it is not.

use std::ops::Bound;

use super::{
    Inventory, Key,
    freshness::Freshness,
    instance::{Drift, Instance},
    record::Record,
    status::{Build, Health, Lifecycle, Plane},
    swarm::SwarmView,
};
use crate::contract::{
    digest::Digest,
    routing::{ALL, Scope},
    timestamp::Timestamp,
};

/// What is known of one instance.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceView {
    /// The instance.
    pub scope: Scope,
    /// Whether its swarm's template asks for it.
    pub expected: bool,
    /// How recent this is.
    pub freshness: Freshness,
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// How well it works; of a silent one at best `unknown`.
    pub health: Health,
    /// Whether it is enabled; `None` until it speaks.
    pub enabled: Option<bool>,
    /// Its rate, where it reports one.
    pub tps: Option<u64>,
    /// The work plane, where it reports one.
    pub work: Option<Plane>,
    /// The filesystem plane, where it reports one.
    pub filesystem: Option<Plane>,
    /// Whether a status-full is known.
    pub baseline: bool,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// Digest of its effective config.
    pub config: Option<Digest>,
    /// Digest of the config that was last applied.
    pub desired_config: Option<Digest>,
    /// Whether the two agree.
    pub drift: Drift,
    /// Its run and image, where it says so.
    pub build: Option<Build>,
    /// When its first status arrived.
    pub first_seen: Option<Timestamp>,
    /// When its last status arrived.
    pub last_seen: Option<Timestamp>,
    /// How recent what it says is.
    pub as_of: Option<Timestamp>,
    /// Timestamp − arrival of its newest status, in milliseconds.
    pub skew_ms: Option<i32>,
    /// The best estimate of how far its clock is ahead of ours, in milliseconds.
    pub clock_skew_ms: Option<i32>,
    /// The session it speaks in; 0 where there is none.
    pub session: u64,
    /// The queues and routes that messages reach it by, by name; `None` until it says.
    pub queues_in: Option<Vec<String>>,
    /// The queues it puts messages into, by name; `None` until it says.
    pub queues_out: Option<Vec<String>>,
}

impl Inventory {
    /// What is known of one instance; `None` where it is not in the inventory.
    pub fn instance(&self, scope: &Scope) -> Option<InstanceView> {
        let key = self.find(scope)?;
        self.instances.get(&key).map(|instance| self.view(key, instance))
    }

    /// The instances of a swarm, in no order that means anything.
    pub fn instances<'a>(&'a self, swarm_id: &str) -> impl Iterator<Item = InstanceView> + use<'a> {
        let range = self.names.find(swarm_id).map(|swarm| self.instances.range(Key::of_swarm(swarm)));
        range.into_iter().flatten().map(|(key, instance)| self.view(*key, instance))
    }

    /// Up to `count_max` instances of a swarm from behind `after` on, and whether there are more.
    /// The order is that in which names were first met: it costs no sorting, and does not change
    /// while an instance is known.
    pub fn page(&self, swarm_id: &str, after: Option<&Scope>, count_max: usize) -> (Vec<InstanceView>, bool) {
        let Some(swarm) = self.names.find(swarm_id).map(Key::of_swarm) else { return (Vec::new(), false) };
        let from = match after.and_then(|after| self.find(after)) {
            Some(key) => Bound::Excluded(key),
            None => Bound::Included(*swarm.start()),
        };
        let mut range = self.instances.range((from, Bound::Included(*swarm.end())));
        let page = range.by_ref().take(count_max).map(|(key, instance)| self.view(*key, instance)).collect();
        (page, range.next().is_some())
    }

    /// Who of the inventory a scope covers: the targets of a fan-out.
    pub fn covered<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = Scope> + use<'a> {
        let swarm = self.names.find(&scope.swarm_id).map(Key::of_swarm);
        let range = if scope.swarm_id == ALL { Some(Key::MIN..=Key::MAX) } else { swarm };
        let instances = range.into_iter().flat_map(|range| self.instances.range(range));
        let scopes = instances.map(|(key, _)| self.scope_of(*key));
        scopes.filter(|known| scope.covers(known))
    }

    /// Whether it has that instance.
    pub fn has(&self, scope: &Scope) -> bool {
        self.find(scope).is_some_and(|key| self.instances.contains_key(&key))
    }

    /// How many instances it knows.
    pub fn instances_count(&self) -> usize {
        self.instances.len()
    }

    /// The totals and the watermark of one swarm; `None` where nothing is known of it.
    pub fn swarm(&self, swarm_id: &str) -> Option<SwarmView> {
        let number = self.names.find(swarm_id)?;
        self.swarms.get(&number).map(|swarm| swarm.view(swarm_id))
    }

    /// All swarms, by their ids.
    pub fn swarms(&self) -> Vec<SwarmView> {
        let mut swarms: Vec<SwarmView> =
            self.swarms.iter().map(|(number, swarm)| swarm.view(self.names.text(*number))).collect();
        swarms.sort_by(|one, other| one.swarm_id.cmp(&other.swarm_id));
        swarms
    }

    fn view(&self, key: Key, instance: &Instance) -> InstanceView {
        let record = instance.record.as_ref();
        let moment = |field: fn(&Record) -> i64| record.map(|record| Timestamp::from_micros(field(record)));
        let snapshot = record.and_then(Record::snapshot).map(|(snapshot, _)| snapshot);
        let (work, filesystem) = record.map(Record::planes).unwrap_or_default();
        let named = |out: bool| {
            snapshot.filter(|snapshot| snapshot.names_queues)?;
            let mut names: Vec<String> = self
                .graph
                .queues(key)
                .filter(|(way, _)| way.is_out() == out)
                .map(|(_, name)| name.to_owned())
                .collect();
            names.sort();
            names.dedup();
            Some(names)
        };
        InstanceView {
            scope: self.scope_of(key),
            expected: instance.is_expected,
            freshness: instance.timers.freshness(),
            lifecycle: instance.lifecycle(),
            health: instance.health(),
            enabled: record.map(Record::enabled),
            tps: record.and_then(Record::tps),
            work,
            filesystem,
            baseline: snapshot.is_some(),
            started_at: snapshot.map(|snapshot| snapshot.started_at),
            config: snapshot.map(|snapshot| snapshot.config),
            desired_config: instance.desired(),
            drift: instance.drift(),
            build: record.and_then(Record::build),
            first_seen: moment(|record| record.first_seen),
            last_seen: moment(|record| record.last_seen),
            as_of: moment(Record::as_of),
            skew_ms: record.map(|record| record.skew_ms().0),
            clock_skew_ms: record.map(|record| record.skew_ms().1),
            session: instance.session,
            queues_in: named(false),
            queues_out: named(true),
        }
    }
}
