//! From a config to what a router is started with.
//!
//! Owns: how settings become rules, contract, topology, names and bounds, for each mode.
//! Never: connects or opens anything.
//! Holds: bodies in flight never exceed `amqp.in_flight_bytes_max`, because no prefetch allows more.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;

use super::{
    boot::Setup,
    config::{Config, DeclaredType},
    corridor::Names,
    link::Connector,
    topology,
};
use crate::{
    bus::{
        Bus, BusError, Topology,
        amqp::{self, Options},
        backoff::Backoff,
    },
    contract::{
        Contract,
        admission::{DeploymentType, TypeError},
        audit::Mode,
        lane::Lane,
        strict::Limits,
    },
    decision::rules::Rules,
    telemetry::Telemetry,
};

/// Bytes of bodies that one round judges at most, so that a batch of large bodies stays small.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long connecting may take.
const CONNECT_TIMEOUT_MS: u64 = 10_000;

/// The contract of a deployment.
///
/// # Errors
/// The first own type that cannot be loaded.
pub fn contract(config: &Config, types: &[DeclaredType]) -> Result<Contract, TypeError> {
    let limits = Limits {
        body_bytes_max: config.limits.body_bytes_max,
        depth_max: config.limits.depth_max,
        nodes_max: config.limits.nodes_max,
    };
    let own = types.iter().map(|declared| DeploymentType {
        kind_type: declared.command.kind_type.clone(),
        class: declared.command.class,
        success: declared.command.success.clone(),
        answered_by: declared.command.answered_by,
        fan_out: declared.command.fan_out,
        deadline_ms: declared.command.deadline_ms,
        schema: declared.schema.clone(),
    });
    Contract::with_types(limits, own.collect())
}

/// The settings of the gates.
pub fn rules(config: &Config, contract: &Contract) -> Rules {
    Rules {
        commands: Arc::new(contract.commands.clone()),
        mode: config.mode,
        instance: config.instance.clone(),
        idempotency_window_ms: config.idempotency.window_ms,
        idempotency_keys_max: config.idempotency.keys_max,
        refusals_senders_max: config.refusals.senders_max,
        alerts_dedupe_ms: config.alerts.dedupe_ms,
        alerts_per_second_max: config.alerts.per_second_max,
    }
}

/// A router that acts.
pub fn enforce(
    config: &Config,
    contract: Contract,
    connector: Arc<dyn Connector>,
    telemetry: Arc<Telemetry>,
) -> Setup {
    let prefix = &config.amqp.prefix;
    let topology = topology::enforce(prefix, &contract.commands);
    let consumers = Lane::ALL
        .into_iter()
        .map(|lane| (lane, topology::lane_queue(prefix, lane), prefetch(config, lane, Lane::ALL.len())))
        .collect();
    setup(config, contract, connector, telemetry, topology, consumers)
}

/// A router that only looks: an own queue on an exchange that is there already (rulings §11).
pub fn observe(
    config: &Config,
    contract: Contract,
    connector: Arc<dyn Connector>,
    telemetry: Arc<Telemetry>,
    exchange: &str,
) -> Setup {
    let queue = format!("{}.observe.{}", config.amqp.prefix, config.instance);
    let topology = topology::observe(&queue, exchange);
    let consumers = vec![(Lane::Results, queue, prefetch(config, Lane::Results, 1))];
    let mut setup = setup(config, contract, connector, telemetry, topology, consumers);
    setup.rules.mode = Mode::Observe;
    setup
}

fn setup(
    config: &Config,
    contract: Contract,
    connector: Arc<dyn Connector>,
    telemetry: Arc<Telemetry>,
    topology: Topology,
    consumers: Vec<(Lane, String, u16)>,
) -> Setup {
    Setup {
        rules: rules(config, &contract),
        contract: Arc::new(contract),
        environment: config.environment.word().to_owned(),
        ledger_dir: PathBuf::from(&config.ledger.dir),
        ledger_size_max_bytes: Some(config.ledger.size_max_bytes),
        adopt: false,
        connector,
        topology,
        names: Names::with_prefix(&config.amqp.prefix),
        consumers,
        batch_entries_max: config.ledger.batch_entries_max,
        batch_bytes_max: BATCH_BYTES_MAX,
        confirm_timeout_ms: config.amqp.confirm_timeout_ms,
        drain_timeout_ms: config.drain_timeout_ms,
        telemetry,
    }
}

/// A lane's prefetch: what the config says, as long as that many bodies of the largest size fit its share.
fn prefetch(config: &Config, lane: Lane, lanes: usize) -> u16 {
    let share = config.amqp.in_flight_bytes_max / lanes / config.limits.body_bytes_max.max(1);
    config.amqp.prefetch_count(lane).min(u16::try_from(share).unwrap_or(u16::MAX)).max(1)
}

/// Connects to the broker that the config names.
pub struct Broker {
    options: Options,
    backoff: Backoff,
}

impl Broker {
    /// The broker of a config.
    pub fn new(config: &Config) -> Self {
        let options = Options {
            name: format!("swarmgate {}", config.instance),
            heartbeat_s: config.amqp.heartbeat_s,
            connect_timeout_ms: CONNECT_TIMEOUT_MS,
            ..Options::new(config.amqp.url.expose())
        };
        let mut seed = [0; 8];
        // Without random bits routers may come back all at once, and come back all the same.
        let _ = getrandom::fill(&mut seed);
        let (first_ms, longest_ms) = (config.amqp.reconnect_min_ms, config.amqp.reconnect_max_ms);
        Self { options, backoff: Backoff::new(first_ms, longest_ms, u64::from_ne_bytes(seed)) }
    }

    /// How it connects.
    pub fn options(&self) -> &Options {
        &self.options
    }
}

#[async_trait]
impl Connector for Broker {
    async fn connect(&self) -> Result<Arc<dyn Bus>, BusError> {
        let connected: Arc<dyn Bus> = amqp::connect(&self.options).await?;
        Ok(connected)
    }

    fn pause_ms(&self, attempt: u32) -> u64 {
        self.backoff.pause_ms(attempt)
    }
}
