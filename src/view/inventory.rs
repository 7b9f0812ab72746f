//! The fleet: `/api/v1/inventory` and what is below it.
//!
//! Owns: a swarm's totals, and one instance.
//! Never: adds up again what the inventory keeps.
//! Holds: what is not known of an instance is null; a recorded state of its life stands before what
//! it says itself.

use serde::{Deserialize, Serialize};

use super::{
    PAGE_MAX,
    lenient::{time, word},
};
use crate::{
    contract::{interlock::Life, routing::Scope, timestamp::Timestamp},
    decision::state::{
        State,
        inventory::{Drift, InstanceView, SwarmView},
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
    pub lifecycle: Option<String>,
    /// The state by which the router judges: CREATED where none is recorded.
    pub life: Option<String>,
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
        Self { swarms: state.inventory().swarms().into_iter().map(Swarm::from).collect() }
    }
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
        let inventory = state.inventory();
        let swarm = inventory.swarm(swarm_id)?.into();
        let (mut page, more) = inventory.page(swarm_id, after, limit.clamp(1, PAGE_MAX));
        let next = page.last().filter(|_| more);
        let next = next.map(|last| format!("{}/{}", last.scope.role, last.scope.instance));
        page.sort_by(|one, other| {
            let name = |view: &InstanceView| (view.scope.role.clone(), view.scope.instance.clone());
            name(one).cmp(&name(other))
        });
        let instances = page.into_iter().map(|view| Instance::new(state, view, now)).collect();
        Some(Self { instances, next, swarm })
    }
}

impl Instance {
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
            session: state.session(&view.scope).map(|session| SessionView {
                epoch: session.epoch,
                phase: session.phase.to_string(),
                since: Some(Timestamp::from_micros(session.since)),
            }),
            scope: Some(view.scope),
            started_at: view.started_at,
            tps: view.tps,
        }
    }
}
