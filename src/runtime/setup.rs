//! From a config to what a router is started with.
//!
//! Owns: what a router is started with, and how settings become rules, contract, topology, names
//! and bounds, for each mode.
//! Never: connects or opens anything.
//! Holds: bodies in flight never exceed `amqp.in_flight_bytes_max`, because no prefetch allows
//! more.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    corridor::Names,
    dispatch::DispatchSettings,
    link::Connector,
    presence::{self, Patience},
    survey::{Survey, records::Records},
    topology::{self, Aside, ObserveNames},
};
use crate::{
    bus::{Queue, Topology},
    config::{Config, Loaded},
    contract::{Contract, audit::Mode, lane::Lane},
    decision::rules::Rules,
    telemetry::Telemetry,
};

/// Bytes of bodies that one round judges at most, so that a batch of large bodies stays small.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a router is started with.
pub struct Setup {
    /// The contract, with the deployment's own types.
    pub contract: Arc<Contract>,
    /// The settings of the gates.
    pub rules: Rules,
    /// `dev`, `stage` or `prod`; written into the genesis.
    pub environment: String,
    /// Where the ledger is, or is to be begun.
    pub ledger_dir: PathBuf,
    /// Bytes the ledger may take at most.
    pub ledger_size_max_bytes: Option<u64>,
    /// Bytes its write-ahead log may take at most.
    pub ledger_wal_max_bytes: u64,
    /// The file of the emergency log.
    pub emergency_path: PathBuf,
    /// Its size in bytes, taken when the file is made.
    pub emergency_size_bytes: u64,
    /// How long a write to it may hold up what is carried.
    pub emergency_timeout_ms: u64,
    /// How long a commit may take before the ledger counts as one that cannot be written.
    pub commit_timeout_ms: u64,
    /// The prefix of the queue that keeps the ledger's mark on the broker; none for a router that
    /// publishes nothing.
    pub mark_prefix: Option<String>,
    /// Takes over a ledger that was begun in observe mode.
    pub adopt: bool,
    /// Makes connections.
    pub connector: Arc<dyn Connector>,
    /// What is declared on the broker.
    pub topology: Topology,
    /// What is looked after beside it.
    pub aside: Aside,
    /// Who this router is among those of its prefix; one that only looks is none of them.
    pub presence: Option<presence::PresenceSettings>,
    /// The names that are published to.
    pub names: Names,
    /// Each lane's queue and prefetch, in lane order; observe mode has one.
    pub consumers: Vec<(Lane, String, u16)>,
    /// Each lane's queue of an earlier release, which is emptied first.
    pub retired: Vec<(Lane, Queue)>,
    /// The refused copies' queue of an earlier release: what is in it is moved.
    pub retired_refused: Option<Queue>,
    /// The queues of observe mode: what they drop is counted.
    pub observing: Option<ObserveNames>,
    /// What an observer learns.
    pub survey: Option<Arc<Survey>>,
    /// Envelopes judged and committed together, at most.
    pub batch_entries_max: usize,
    /// Bytes of their bodies, at most.
    pub batch_bytes_max: usize,
    /// How messages are published.
    pub publishing: DispatchSettings,
    /// How far the clock may be behind the ledger for the router to wait for it.
    pub clock_behind_max: Duration,
    /// How long shutdown may take.
    pub drain_timeout_ms: u64,
    /// Health and counters.
    pub telemetry: Arc<Telemetry>,
    /// The config, for support bundles.
    pub config: Arc<Config>,
}

/// A router that acts.
pub fn enforce(loaded: &Loaded, connector: Arc<dyn Connector>, telemetry: Arc<Telemetry>) -> Setup {
    let config = &loaded.config;
    let prefix = &config.amqp.prefix;
    let topology = topology::enforce(prefix, &loaded.contract.commands);
    let consumers = Lane::ALL
        .into_iter()
        .map(|lane| (lane, topology::lane_queue(prefix, lane), prefetch(config, lane, Lane::ALL.len())))
        .collect();
    let retired =
        Lane::ALL.map(|lane| (lane, topology::retired_lane(prefix, lane, &loaded.contract.commands))).into();
    let retired_refused = Some(topology::retired_refused(prefix));
    let presence = Some(presence::PresenceSettings {
        prefix: prefix.clone(),
        instance: config.instance.clone(),
        environment: config.environment.word().to_owned(),
        user: config.amqp.user(),
        addresses: config.amqp.addresses().len(),
        patience: Patience::of(config.amqp.heartbeat_s),
        waits: false,
    });
    let mark_prefix = Some(prefix.clone());
    Setup {
        mark_prefix,
        aside: topology::aside(prefix, config.environment.word()),
        presence,
        retired,
        retired_refused,
        ..setup(loaded, connector, telemetry, topology, consumers)
    }
}

/// What an observer looks at.
pub struct Looking<'a> {
    /// The exchange.
    pub exchange: &'a str,
    /// What its queue is bound with there.
    pub bindings: &'a [String],
    /// Where what it sees is written to.
    pub records: Option<Records>,
}

/// A router that only looks: an own queue on an exchange that is there already.
pub fn observe(
    loaded: &Loaded,
    connector: Arc<dyn Connector>,
    telemetry: Arc<Telemetry>,
    looking: Looking<'_>,
) -> Setup {
    let config = &loaded.config;
    let Looking { exchange, bindings, records } = looking;
    let names = topology::ObserveNames::of(&config.amqp.prefix, &config.instance);
    let (queue, dropped) = (config.observe.queue_bytes_max, config.observe.dropped_bytes_max);
    let topology = topology::observe(&names, exchange, bindings, queue, dropped);
    let consumers = vec![(Lane::Results, names.tap.clone(), prefetch(config, Lane::Results, 1))];
    let mut setup = setup(loaded, connector, telemetry, topology, consumers);
    let contract = Arc::clone(&setup.contract);
    let survey = Survey::new((exchange, bindings), config.observe, contract, records);
    setup.survey = Some(Arc::new(survey));
    setup.observing = Some(names);
    setup.rules.mode = Mode::Observe;
    setup
}

fn setup(
    loaded: &Loaded,
    connector: Arc<dyn Connector>,
    telemetry: Arc<Telemetry>,
    topology: Topology,
    consumers: Vec<(Lane, String, u16)>,
) -> Setup {
    let config = &loaded.config;
    Setup {
        rules: loaded.rules(),
        contract: Arc::new(loaded.contract.clone()),
        environment: config.environment.word().to_owned(),
        ledger_dir: PathBuf::from(&config.ledger.dir),
        ledger_size_max_bytes: Some(config.ledger.size_max_bytes),
        ledger_wal_max_bytes: config.ledger.wal_max_bytes,
        emergency_path: config.ledger.emergency_place(),
        emergency_size_bytes: config.ledger.emergency_size_bytes,
        emergency_timeout_ms: config.ledger.emergency_timeout_ms,
        commit_timeout_ms: config.ledger.commit_timeout_ms,
        adopt: false,
        mark_prefix: None,
        connector,
        topology,
        aside: Aside::default(),
        presence: None,
        names: Names::with_prefix(&config.amqp.prefix),
        consumers,
        retired: Vec::new(),
        retired_refused: None,
        observing: None,
        survey: None,
        batch_entries_max: config.ledger.batch_entries_max,
        batch_bytes_max: BATCH_BYTES_MAX,
        publishing: publishing(config),
        clock_behind_max: Duration::from_millis(config.clock.ahead_max_ms),
        drain_timeout_ms: config.drain_timeout_ms,
        telemetry,
        config: Arc::new(config.clone()),
    }
}

/// Messages that one batch publishes: fewer than the 400 that RabbitMQ takes for a channel that is
/// stuck before it stops reading its whole connection.
const PUBLISH_BATCH_MAX: usize = 128;

/// How messages are published.
fn publishing(config: &Config) -> DispatchSettings {
    DispatchSettings {
        confirm_timeout: Duration::from_millis(config.amqp.confirm_timeout_ms),
        confirm_slow: Duration::from_millis(config.amqp.confirm_slow_ms),
        batches_max: config.amqp.slow_batches_max,
        batch_count_max: PUBLISH_BATCH_MAX.min(config.ledger.batch_entries_max),
        limits: config.outbox.into(),
        metrics_attempts_max: config.metrics.attempts_max,
        unrecorded_attempts_max: config.outbox.unrecorded_attempts_max,
    }
}

/// A lane's prefetch: what the config says, as long as that many bodies of the largest size fit its
/// share.
fn prefetch(config: &Config, lane: Lane, lanes: usize) -> u16 {
    let share = config.amqp.in_flight_bytes_max / lanes / config.limits.body_bytes_max.max(1);
    // Never 0: to AMQP that is a prefetch without a bound.
    config.amqp.prefetch_count(lane).min(u16::try_from(share).unwrap_or(u16::MAX)).max(1)
}
