//! The fleet: `/api/v1/inventory` and what is below it.
//!
//! Owns: a swarm's totals, and one instance.
//! Never: adds up again what the inventory keeps.
//! Holds: what is not known of an instance is null; a recorded state of its life stands before what
//! it says itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    PAGE_MAX,
    lenient::{time, word},
};
use crate::{
    contract::{
        interlock::Life,
        routing::{ALL, Scope},
        timestamp::Timestamp,
    },
    decision::state::{
        State,
        inventory::{Drift, Freshness, Health, InstanceView, SwarmView},
    },
};

/// Every swarm.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Swarms {
    pub swarms: Vec<Swarm>,
}

/// Totals of one swarm.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Swarm {
    pub desired: Option<usize>,
    pub drifted: usize,
    pub enabled: usize,
    pub fresh: usize,
    pub lost: usize,
    pub running: usize,
    pub seen: usize,
    pub stale: usize,
    pub swarm_id: String,
    /// Those that are known and have not spoken since the router began.
    pub unheard: usize,
    pub unwell: usize,
    #[serde(deserialize_with = "time")]
    pub watermark: Option<Timestamp>,
}

/// A page of instances.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Instances {
    pub instances: Vec<Instance>,
    pub next: Option<String>,
    pub swarm: Swarm,
}

/// One instance.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Instance {
    pub age_ms: Option<i64>,
    #[serde(deserialize_with = "time")]
    pub as_of: Option<Timestamp>,
    pub baseline: bool,
    pub clock_skew_ms: Option<i32>,
    pub commands: Vec<String>,
    pub config_digest: Option<String>,
    pub desired_config_digest: Option<String>,
    pub drift: Option<bool>,
    pub enabled: Option<bool>,
    pub expected: bool,
    #[serde(deserialize_with = "time")]
    pub first_seen: Option<Timestamp>,
    pub freshness: Option<String>,
    pub health: Option<String>,
    pub image: Option<String>,
    /// Whether it has ever appeared and was not forgotten, before a restart too.
    pub known: bool,
    #[serde(deserialize_with = "time")]
    pub last_seen: Option<Timestamp>,
    /// The state by which the router judges: CREATED where none is recorded.
    pub life: Option<String>,
    pub lifecycle: Option<String>,
    pub queues_in: Option<Vec<String>>,
    pub queues_out: Option<Vec<String>>,
    pub run_id: Option<String>,
    pub scope: Option<Scope>,
    pub session: Option<SessionView>,
    #[serde(deserialize_with = "time")]
    pub started_at: Option<Timestamp>,
    pub tps: Option<u64>,
}

/// The control session of an instance.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionView {
    pub epoch: u64,
    pub phase: String,
    #[serde(deserialize_with = "time")]
    pub since: Option<Timestamp>,
}

impl Swarms {
    pub fn new(state: &State) -> Self {
        let all = Scope::new(ALL, ALL, ALL);
        let mut left: BTreeMap<String, usize> = BTreeMap::new();
        for scope in unheard(state, &all) {
            *left.entry(scope.swarm_id).or_default() += 1;
        }
        let heard = state.inventory().swarms().into_iter().map(|view| {
            let unheard = left.remove(&view.swarm_id).unwrap_or_default();
            Swarm { unheard, ..Swarm::from(view) }
        });
        let mut swarms: Vec<Swarm> = heard.collect();
        swarms.extend(left.into_iter().map(|(swarm_id, unheard)| Swarm {
            swarm_id,
            unheard,
            ..Swarm::default()
        }));
        swarms.sort_by(|one, other| one.swarm_id.cmp(&other.swarm_id));
        Self { swarms }
    }
}

/// Those that a scope covers, are known from before the router began, and have not spoken since.
fn unheard<'a>(state: &'a State, scope: &'a Scope) -> impl Iterator<Item = Scope> + use<'a> {
    state.known(scope).filter(|known| !state.inventory().has(known))
}

impl From<SwarmView> for Swarm {
    fn from(view: SwarmView) -> Self {
        let totals = view.totals;
        Self {
            desired: (totals.desired > 0).then_some(totals.desired),
            drifted: totals.drifted,
            enabled: totals.enabled,
            fresh: totals.fresh,
            lost: totals.lost,
            running: totals.running,
            seen: totals.seen,
            stale: totals.stale,
            swarm_id: view.swarm_id,
            unheard: 0,
            unwell: totals.unwell,
            watermark: view.watermark,
        }
    }
}

impl Instances {
    /// Up to `limit` instances from behind `after` on; `None` for a swarm that is not known.
    pub fn new(
        state: &State,
        swarm_id: &str,
        after: Option<&Scope>,
        limit: usize,
        now: Timestamp,
    ) -> Option<Self> {
        let (inventory, limit) = (state.inventory(), limit.clamp(1, PAGE_MAX));
        let all = Scope::new(swarm_id, ALL, ALL);
        let count = unheard(state, &all).count();
        let swarm = match inventory.swarm(swarm_id) {
            Some(view) => Swarm { unheard: count, ..Swarm::from(view) },
            None if count > 0 => Swarm { swarm_id: swarm_id.to_owned(), unheard: count, ..Swarm::default() },
            None => return None,
        };
        // Behind those that the inventory has come those that have not spoken since the start.
        let behind = after.filter(|after| !inventory.has(after) && state.is_known(after));
        let (mut page, mut more) = match behind {
            Some(_) => (Vec::new(), false),
            None => {
                let (page, more) = inventory.page(swarm_id, after, limit);
                (page.into_iter().map(|view| Instance::new(state, view, now)).collect(), more)
            }
        };
        if !more {
            let mut rest = unheard(state, &all).filter(|scope| behind.is_none_or(|after| scope > after));
            let room = limit.saturating_sub(page.len());
            page.extend(rest.by_ref().take(room).map(|scope| Instance::unheard(state, scope)));
            more = rest.next().is_some();
        }
        let name = |instance: &Instance| {
            instance.scope.as_ref().map(|scope| (scope.role.clone(), scope.instance.clone()))
        };
        let next =
            page.last().filter(|_| more).and_then(name).map(|(role, instance)| format!("{role}/{instance}"));
        page.sort_by_key(name);
        let instances = page;
        Some(Self { instances, next, swarm })
    }
}

impl Instance {
    /// One instance, heard or known from before; `None` for one that is not known.
    pub fn find(state: &State, scope: &Scope, now: Timestamp) -> Option<Self> {
        match state.inventory().instance(scope) {
            Some(view) => Some(Self::new(state, view, now)),
            None => state.is_known(scope).then(|| Self::unheard(state, scope.clone())),
        }
    }

    /// One that is known and has not spoken since the router began: what is recorded is all there
    /// is.
    fn unheard(state: &State, scope: Scope) -> Self {
        let life = state.life(&scope);
        Self {
            commands: state.flights_for(&scope).map(|flight| flight.seq.to_string()).collect(),
            freshness: word(Freshness::Unknown),
            health: word(Health::Unknown),
            known: true,
            life: word(life),
            lifecycle: (life != Life::Created).then(|| word(life)).flatten(),
            session: SessionView::of(state, &scope),
            scope: Some(scope),
            ..Self::default()
        }
    }

    pub fn new(state: &State, view: InstanceView, now: Timestamp) -> Self {
        let build = view.build.as_ref();
        Self {
            age_ms: view.last_seen.map(|seen| (now.micros() - seen.micros()) / 1000),
            as_of: view.as_of,
            baseline: view.baseline,
            clock_skew_ms: view.clock_skew_ms,
            commands: state.flights_for(&view.scope).map(|flight| flight.seq.to_string()).collect(),
            config_digest: view.config.map(|digest| digest.to_string()),
            desired_config_digest: view.desired_config.map(|digest| digest.to_string()),
            drift: match view.drift {
                Drift::Unknown => None,
                Drift::None => Some(false),
                Drift::Drifted => Some(true),
            },
            enabled: view.enabled,
            expected: view.expected,
            first_seen: view.first_seen,
            freshness: word(view.freshness),
            health: word(view.health),
            image: build.and_then(|build| build.image.as_deref()).map(str::to_owned),
            last_seen: view.last_seen,
            life: word(state.life(&view.scope)),
            known: state.is_known(&view.scope),
            lifecycle: match state.life(&view.scope) {
                Life::Created => word(view.lifecycle),
                recorded => word(recorded),
            },
            queues_in: view.queues_in,
            queues_out: view.queues_out,
            run_id: build.map(|build| build.run_id.to_string()),
            session: SessionView::of(state, &view.scope),
            scope: Some(view.scope),
            started_at: view.started_at,
            tps: view.tps,
        }
    }
}

impl SessionView {
    fn of(state: &State, scope: &Scope) -> Option<Self> {
        state.session(scope).map(|session| Self {
            epoch: session.epoch,
            phase: session.phase.to_string(),
            since: Some(Timestamp::from_micros(session.since)),
        })
    }
}
