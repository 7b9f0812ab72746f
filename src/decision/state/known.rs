//! The instances that have shown themselves, and when first.
//!
//! Owns: the recorded set of instances, kept by swarm and role so that a fleet costs little more
//! than its names.
//! Never: knows how an instance is; the inventory does.
//! Holds: no empty swarm or role is kept; the order is that of the names.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    contract::{
        audit::{Fact, Standing, Stepped},
        interlock::Life,
        routing::{ALL, Scope},
    },
    decision::state::{Recorded, State, bots::Bot, room},
};

type Instances = BTreeMap<Box<str>, i64>;

/// Every known instance.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct KnownInstances {
    swarms: BTreeMap<Box<str>, BTreeMap<Box<str>, Instances>>,
    count: usize,
}

impl KnownInstances {
    pub fn count(&self) -> usize {
        self.count
    }

    pub fn contains(&self, scope: &Scope) -> bool {
        let instances = self.swarms.get(&*scope.swarm_id).and_then(|roles| roles.get(&*scope.role));
        instances.is_some_and(|instances| instances.contains_key(&*scope.instance))
    }

    /// Takes an instance in; the first time counts.
    pub fn insert(&mut self, scope: &Scope, at: i64) {
        if self.contains(scope) {
            return;
        }
        let roles = self.swarms.entry(scope.swarm_id.as_str().into()).or_default();
        roles.entry(scope.role.as_str().into()).or_default().insert(scope.instance.as_str().into(), at);
        self.count += 1;
    }

    /// The router's time makes a step.
    pub fn step(&mut self, stepped: &Stepped) {
        let roles = self.swarms.values_mut().flat_map(BTreeMap::values_mut);
        roles.flat_map(BTreeMap::values_mut).for_each(|at| *at = stepped.past(*at));
    }

    pub fn remove(&mut self, scope: &Scope) {
        let Some(roles) = self.swarms.get_mut(&*scope.swarm_id) else { return };
        let Some(instances) = roles.get_mut(&*scope.role) else { return };
        if instances.remove(&*scope.instance).is_some() {
            self.count -= 1;
        }
        if instances.is_empty() {
            roles.remove(&*scope.role);
        }
        if roles.is_empty() {
            self.swarms.remove(&*scope.swarm_id);
        }
    }

    pub fn remove_swarm(&mut self, swarm_id: &str) {
        let roles = self.swarms.remove(swarm_id);
        self.count -= roles.iter().flat_map(BTreeMap::values).map(BTreeMap::len).sum::<usize>();
    }

    /// Those that a scope covers, in the order of their names.
    pub fn covered<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = Scope> + use<'a> {
        let reaches = |wanted: &str, name: &str| wanted == ALL || wanted == name;
        let swarms = self.swarms.iter().filter(move |(swarm, _)| reaches(&scope.swarm_id, swarm));
        swarms.flat_map(move |(swarm, roles)| {
            let roles = roles.iter().filter(move |(role, _)| reaches(&scope.role, role));
            roles.flat_map(move |(role, instances)| {
                let instances = instances.keys().filter(move |instance| reaches(&scope.instance, instance));
                instances.map(move |instance| Scope::new(&**swarm, &**role, &**instance))
            })
        })
    }
}

impl Recorded {
    pub(super) fn presence(&mut self, fact: &Fact, now: Standing) {
        let Some(subject) = &fact.subject else { return };
        match now {
            Standing::Appeared => {
                self.known.insert(&subject.scope, fact.at.micros());
            }
            Standing::Forgotten => {
                self.known.remove(&subject.scope);
                self.applied.remove(&subject.scope);
                self.sessions.remove(&subject.scope);
                // Any other stays: forgotten, a bot that runs or is QUARANTINED would be in
                // CREATED.
                let at_rest = |bot: &Bot| matches!(bot.life, Life::Created | Life::Idle);
                if self.bots.get(&subject.scope).is_some_and(at_rest) {
                    self.bots.remove(&subject.scope);
                }
            }
            Standing::Stale | Standing::Lost | Standing::Back => {}
        }
    }
}

impl State {
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
}

/// The instances that a fan-out addresses, as they are known now.
pub(in crate::decision) fn targets(state: &State, scope: &Scope) -> Vec<Scope> {
    if !scope.fans_out() {
        return Vec::new();
    }
    // Also those that a template expects: that they never answered is to be seen at the end.
    let known: BTreeSet<Scope> = state.known(scope).chain(state.inventory().covered(scope)).collect();
    known.into_iter().take(state.rules().targets_max.min(room::targets_left(state))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_is_covered_until_it_goes_out() {
        let scope = |text: &str| {
            let [swarm, role, instance] = text.split('/').collect::<Vec<_>>()[..] else { panic!("a scope") };
            Scope::new(swarm, role, instance)
        };
        let mut known = KnownInstances::default();
        for (at, name) in ["b/x/1", "a/x/2", "a/y/1", "a/x/1", "a/x/1"].into_iter().enumerate() {
            known.insert(&scope(name), at as i64);
        }
        let covered = |known: &KnownInstances, by: &str| {
            known.covered(&scope(by)).map(|scope| scope.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(known.count(), 4);
        assert_eq!(covered(&known, "ALL/ALL/ALL"), "a/x/1 a/x/2 a/y/1 b/x/1");
        assert_eq!(covered(&known, "a/ALL/ALL"), "a/x/1 a/x/2 a/y/1");
        assert_eq!(covered(&known, "ALL/x/ALL"), "a/x/1 a/x/2 b/x/1");
        assert_eq!(covered(&known, "a/x/2"), "a/x/2");
        known.remove(&scope("a/x/2"));
        known.remove(&scope("a/x/2"));
        known.remove(&scope("c/x/2"));
        assert_eq!((known.count(), covered(&known, "ALL/ALL/ALL")), (3, "a/x/1 a/y/1 b/x/1".to_owned()));
        known.remove_swarm("a");
        assert_eq!((known.count(), covered(&known, "ALL/ALL/ALL")), (1, "b/x/1".to_owned()));
        known.remove(&scope("b/x/1"));
        assert!(known.swarms.is_empty());
    }
}
