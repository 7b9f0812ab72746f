//! `swarmgate.yaml`: everything a deployment may set.
//!
//! Owns: the settings, their defaults, and how they are layered (defaults < file < environment < flags).
//! Never: connects, opens or creates anything; it reads the config and the schema files that it names.
//! Holds: a config that loads has no unknown key, no value out of bounds, and shows no secret.

mod agree;
pub mod bootstrap;
mod bounds;
mod check;
mod excerpt;
mod fields;
mod form;
mod interlock;
mod load;
mod node;
mod own_types;
mod print;
mod secret;
mod supervisor;
#[cfg(test)]
mod tests;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    contract::{
        audit::Mode,
        command::{Answerer, Class, FanOut},
        lane::Lane,
    },
    decision::{inventory, rules::Rules},
    ledger::emergency,
    runtime::supervisor::Settings as Supervisor,
    telemetry::{
        REFUSALS_LOG_MS,
        log::{Format, Severity},
        stderr,
    },
};

pub use bootstrap::runtime_contract_summary;
pub use bounds::{
    Alerts, CommandLimits, Deadlines, Idempotency, Inventory, Limits, Metrics, Observe, Outbox, Parking,
    Refusals,
};
pub use check::nearest;
pub use excerpt::Excerpt;
pub use fields::{FIELDS, UNSET, variable};
pub use form::{Field, Kind};
pub use load::{ConfigError, Fault, Layers, Loaded, Setting, load, parse};
pub use print::{defaults_yaml, json_schema, starting_yaml};
pub use secret::{BrokerUrl, DEFAULT_URL, split as urls};

/// All settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether the router acts or only looks.
    pub mode: Mode,
    /// What the deployment is for.
    pub environment: Environment,
    /// The router's own instance name.
    pub instance: String,
    /// How far ahead a sender's clock may be, in milliseconds.
    pub skew_max_ms: u64,
    /// How long a drain may take, in milliseconds.
    pub drain_timeout_ms: u64,
    /// The broker.
    pub amqp: Amqp,
    /// The clock.
    pub clock: Clock,
    /// The ledger.
    pub ledger: Ledger,
    /// The window for machines: metrics and health.
    pub http: Http,
    /// Bounds on one body.
    pub limits: Limits,
    /// The memory of command keys.
    pub idempotency: Idempotency,
    /// Commands and their fan-outs.
    pub commands: CommandLimits,
    /// What is known of the fleet.
    pub inventory: Inventory,
    /// Commands that wait for absent targets.
    pub parking: Parking,
    /// Messages that the broker does not take.
    pub outbox: Outbox,
    /// Statuses.
    pub metrics: Metrics,
    /// Observe mode.
    pub observe: Observe,
    /// How long a command of each type waits for its outcome.
    pub deadlines: Deadlines,
    /// The router's own alerts.
    pub alerts: Alerts,
    /// The tally of refusals.
    pub refusals: Refusals,
    /// The log.
    pub telemetry: Log,
    /// How senders are known.
    pub identity: Identity,
    /// Control sessions.
    pub session: interlock::Session,
    /// What runs live.
    pub lifecycle: interlock::Lifecycle,
    /// Readiness gates.
    pub safety: interlock::Safety,
    /// What raises the safety mode by itself.
    pub interlocks: interlock::Interlocks,
    /// What takes a confirmation, and whose.
    pub consent: interlock::Consent,
    /// How workers come to run, and the channel to them.
    pub runtime: bootstrap::Runtime,
    /// The workers that `swarmgate supervise` runs.
    pub supervisor: Supervisor,
    /// The deployment's own signal types.
    pub types: Vec<OwnType>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            environment: Environment::Dev,
            instance: "gate-1".to_owned(),
            skew_max_ms: 5_000,
            drain_timeout_ms: 5_000,
            amqp: Amqp::default(),
            clock: Clock::default(),
            ledger: Ledger::default(),
            http: Http::default(),
            limits: Limits::default(),
            idempotency: Idempotency::default(),
            commands: CommandLimits::default(),
            inventory: Inventory::default(),
            parking: Parking::default(),
            outbox: Outbox::default(),
            metrics: Metrics::default(),
            observe: Observe::default(),
            deadlines: Deadlines::default(),
            alerts: Alerts::default(),
            refusals: Refusals::default(),
            telemetry: Log::default(),
            identity: Identity::default(),
            session: interlock::Session::default(),
            lifecycle: interlock::Lifecycle::default(),
            safety: interlock::Safety::default(),
            interlocks: interlock::Interlocks::default(),
            consent: interlock::Consent::default(),
            runtime: bootstrap::Runtime::default(),
            supervisor: Supervisor::default(),
            types: Vec::new(),
        }
    }
}

/// What a deployment is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Nothing depends on it.
    #[default]
    Dev,
    /// Like production, without its consequences.
    Stage,
    /// Production.
    Prod,
}

impl Environment {
    /// Its word in the config and in the ledger's genesis.
    pub const fn word(self) -> &'static str {
        match self {
            Environment::Dev => "dev",
            Environment::Stage => "stage",
            Environment::Prod => "prod",
        }
    }
}

/// The broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Amqp {
    /// Where it is and who we are there.
    pub url: BrokerUrl,
    /// Its management API; `None`: the broker's host on port 15672.
    pub management_url: Option<BrokerUrl>,
    /// The same of each of its nodes, where there are several; the first is also `url`.
    pub urls: Vec<BrokerUrl>,
    /// How long a node may take over a step of connecting.
    pub connect_timeout_ms: u64,
    /// How long a node may stay silent before the next is tried beside it.
    pub connect_next_ms: u64,
    /// What the names of our exchanges and queues begin with.
    pub prefix: String,
    /// Unsettled deliveries on the urgent lane.
    pub prefetch_urgent_count: u16,
    /// Unsettled deliveries on the signals lane.
    pub prefetch_signals_count: u16,
    /// Unsettled deliveries on the results lane.
    pub prefetch_results_count: u16,
    /// Unsettled deliveries on the metrics lane.
    pub prefetch_metrics_count: u16,
    /// Bytes of bodies taken and not yet settled, over all lanes.
    pub in_flight_bytes_max: usize,
    /// How long a publish waits for its confirm.
    pub confirm_timeout_ms: u64,
    /// From when on what is not confirmed holds up no later publish.
    pub confirm_slow_ms: u64,
    /// How many batches of one way out may wait for their confirms, each on its own channel.
    pub slow_batches_max: usize,
    /// The first pause before connecting again.
    pub reconnect_min_ms: u64,
    /// The longest pause before connecting again.
    pub reconnect_max_ms: u64,
    /// The AMQP heartbeat, in seconds; 0 is none.
    pub heartbeat_s: u16,
}

impl Default for Amqp {
    fn default() -> Self {
        Self {
            url: BrokerUrl::default(),
            management_url: None,
            urls: Vec::new(),
            connect_timeout_ms: 10_000,
            connect_next_ms: 500,
            prefix: "swarmgate".to_owned(),
            prefetch_urgent_count: 256,
            prefetch_signals_count: 1_000,
            prefetch_results_count: 1_000,
            prefetch_metrics_count: 2_000,
            in_flight_bytes_max: 128 * 1024 * 1024,
            confirm_timeout_ms: 10_000,
            confirm_slow_ms: 250,
            slow_batches_max: 32,
            reconnect_min_ms: 100,
            reconnect_max_ms: 10_000,
            heartbeat_s: 4,
        }
    }
}

impl Amqp {
    /// Every address of the broker, in the order in which they are tried at first.
    pub fn addresses(&self) -> &[BrokerUrl] {
        if self.urls.is_empty() { std::slice::from_ref(&self.url) } else { &self.urls }
    }

    /// The prefetch of a lane.
    pub const fn prefetch_count(&self, lane: Lane) -> u16 {
        match lane {
            Lane::Urgent => self.prefetch_urgent_count,
            Lane::Signals => self.prefetch_signals_count,
            Lane::Results => self.prefetch_results_count,
            Lane::Metrics => self.prefetch_metrics_count,
        }
    }
}

/// The clock, beside the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clock {
    /// How far the ledger's last entry may be ahead of it for the router to wait, in milliseconds.
    pub ahead_max_ms: u64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { ahead_max_ms: 60_000 }
    }
}

/// The ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ledger {
    /// Its directory.
    pub dir: PathBuf,
    /// How large it may grow, in bytes.
    pub size_max_bytes: u64,
    /// How large its write-ahead log may grow, in bytes.
    pub wal_max_bytes: u64,
    /// How many entries one group commit takes at most.
    pub batch_entries_max: usize,
    /// How long a commit may take before the ledger counts as one that cannot be written.
    pub commit_timeout_ms: u64,
    /// The file of the emergency log, better on another disk; `None`: in the ledger's directory.
    pub emergency_path: Option<PathBuf>,
    /// The room that it has from the start, in bytes.
    pub emergency_size_bytes: u64,
    /// How long a write to it may hold up a stop.
    pub emergency_timeout_ms: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("swarmgate-data"),
            size_max_bytes: 64 * 1024 * 1024 * 1024,
            wal_max_bytes: 256 * 1024 * 1024,
            batch_entries_max: 256,
            commit_timeout_ms: 5_000,
            emergency_path: None,
            emergency_size_bytes: 4 * 1024 * 1024,
            emergency_timeout_ms: 250,
        }
    }
}

impl Ledger {
    /// The file of the emergency log.
    pub fn emergency_place(&self) -> PathBuf {
        self.emergency_path.clone().unwrap_or_else(|| self.dir.join(emergency::FILE))
    }
}

/// The window for machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Where it listens.
    pub addr: SocketAddr,
    /// How long a client may take to send its request's head, and how long a connection may idle.
    pub header_timeout_ms: u64,
    /// How long a client may take to read an answer.
    pub write_timeout_ms: u64,
    /// How many connections at once.
    pub connections_max: usize,
    /// How many more that get the health pages only.
    pub health_connections_max: usize,
    /// Names by which it may be asked, besides its addresses and localhost.
    pub hosts: Vec<String>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            header_timeout_ms: 5_000,
            write_timeout_ms: 10_000,
            connections_max: 64,
            health_connections_max: 16,
            hosts: Vec::new(),
        }
    }
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How a line looks.
    pub log_format: Format,
    /// What is worth a line.
    pub log_level: Severity,
    /// How much of a line is written, in bytes.
    pub log_line_bytes_max: usize,
    /// How much waits for the reader of stderr, in bytes.
    pub log_queue_bytes_max: usize,
    /// How often refusals of one kind are counted in the log.
    pub refusals_log_ms: u64,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            log_format: Format::default(),
            log_level: Severity::default(),
            log_line_bytes_max: stderr::Bounds::default().line_bytes_max,
            log_queue_bytes_max: stderr::Bounds::default().queue_bytes_max,
            refusals_log_ms: REFUSALS_LOG_MS,
        }
    }
}

impl Log {
    /// The bounds on what waits for the reader of stderr.
    pub fn bounds(&self) -> stderr::Bounds {
        stderr::Bounds { queue_bytes_max: self.log_queue_bytes_max, line_bytes_max: self.log_line_bytes_max }
    }
}

/// How senders are known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Identity {
    /// The mode.
    pub mode: IdentityMode,
    /// Whether a sender that only `origin` names may do what takes a proof.
    pub trust_origin: bool,
}

/// How a sender is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdentityMode {
    /// By the AMQP user-id, else by what the envelope says.
    #[default]
    Open,
}

/// A signal type of the deployment's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnType {
    /// The type.
    #[serde(rename = "type")]
    pub kind_type: String,
    /// The JSON Schema of its `data`; a relative path is taken from the config file's directory.
    pub schema: PathBuf,
    /// What it does; undeclared is `start`, the most restricted.
    #[serde(default = "undeclared_class")]
    pub class: Class,
    /// The statuses that mean success; undeclared, those of its class.
    #[serde(default)]
    pub success: Vec<String>,
    /// Who answers.
    #[serde(default = "undeclared_answerer")]
    pub answered_by: Answerer,
    /// Which `ALL` shapes it may address.
    #[serde(default = "undeclared_fan_out")]
    pub fan_out: FanOut,
    /// When it has timed out.
    #[serde(default = "undeclared_deadline_ms")]
    pub deadline_ms: u64,
}

const fn undeclared_class() -> Class {
    Class::Start
}

const fn undeclared_answerer() -> Answerer {
    Answerer::Target
}

const fn undeclared_fan_out() -> FanOut {
    FanOut::None
}

const fn undeclared_deadline_ms() -> u64 {
    120_000
}

impl Loaded {
    /// What the gates need of it.
    pub fn rules(&self) -> Rules {
        let config = &self.config;
        Rules {
            commands: Arc::new(
                self.contract.commands.with_deadlines(|kind_type| config.deadlines.of(kind_type)),
            ),
            mode: config.mode,
            instance: config.instance.clone(),
            idempotency_window_ms: config.idempotency.window_ms,
            idempotency_keys_max: config.idempotency.keys_max,
            inventory: inventory::Limits {
                instances_max: config.inventory.instances_max,
                stale_after_ms: config.inventory.stale_after_ms,
                lost_after_ms: config.inventory.lost_after_ms,
                forget_after_ms: config.inventory.forget_after_ms,
                back_after_count: config.inventory.back_after_count,
                skew_max_ms: config.skew_max_ms,
                ..inventory::Limits::default()
            },
            targets_max: config.commands.targets_max,
            parking_target_max: config.parking.target_max,
            parking_total_max: config.parking.total_max,
            parking_bytes_max: config.parking.bytes_max,
            catch_up_ms: config.commands.catch_up_ms,
            trust_origin: config.identity.trust_origin,
            consent: config.consent.rules(config.environment),
            safety: config.safety.rules(&config.interlocks),
            session_lost_after_ms: config.session.lost_after_ms,
            lost_live_after_ms: config.lifecycle.lost_live_after_ms,
            mismatches_max: config.lifecycle.mismatches_max,
            refusals_entries_per_second_max: config.refusals.entries_per_second_max,
            refusals_senders_max: config.refusals.senders_max,
            alerts_dedupe_ms: config.alerts.dedupe_ms,
            alerts_per_second_max: config.alerts.per_second_max,
        }
    }
}
