//! `swarmgate.yaml`: everything a deployment may set.
//!
//! Owns: the settings, their defaults, and how they are layered (defaults < file < environment <
//! flags).
//! Never: connects, opens or creates anything; it reads the config and the schema files that it
//! names.
//! Holds: a config that loads has no unknown key, no value out of bounds, and shows no secret.

mod agree;
pub mod bootstrap;
mod bounds;
mod check;
mod deadlines;
mod document;
mod drivers;
mod excerpt;
mod fields;
mod load;
mod merge;
mod nearest;
mod node;
mod own_types;
mod print;
mod rules;
mod safety;
mod secret;
mod section;
pub mod settings;
mod supervisor;
#[cfg(test)]
mod tests;
pub mod workers;
mod wrong;

use serde::{Deserialize, Serialize};

use crate::{contract::audit::Mode, decision::rules::Rules};

pub use bootstrap::runtime_contract_summary;
pub use bounds::{
    Alerts, BodySettings, CommandLimits, Idempotency, Inventory, MemorySettings, Metrics, Observe, Outbox,
    Parking, Refusals, StatusSettings,
};
pub use deadlines::Deadlines;
pub use document::keys_markdown;
pub use drivers::{Amqp, Clock, Http, Ledger, Log, Tls};
pub use excerpt::Excerpt;
pub use fields::{FIELDS, variable};
pub use load::{ConfigError, FlagSetting, Layers, Loaded, load, parse};
pub use merge::ConfigFault;
pub use nearest::nearest;
pub use own_types::OwnType;
pub use print::{defaults_yaml, json_schema, starting_yaml};
pub use safety::{Identity, IdentityMode};
pub use secret::{BrokerUrl, DEFAULT_URL, split as urls};
use section::{
    DAY_MS,
    KeyKind::{Choice, Segment, Whole},
    section,
};
pub use section::{Field, KeyKind};
use workers::SupervisorSettings as Supervisor;

section! {
    /// All settings.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Config at "" {
        mode: Mode = Rules::default().mode, Choice(&["observe", "enforce"]),
            "`enforce` decides, records and publishes; `observe` decides and records only.";
        environment: Environment = Environment::Dev, Choice(&["dev", "stage", "prod"]),
            "What the deployment is for; `prod` asks for proven senders.";
        instance: String = Rules::default().instance, Segment,
            "The router's own instance name, unique among the routers on a broker.";
        skew_max_ms: u64 = Rules::default().inventory.skew_max_ms, Whole(0, DAY_MS),
            "How far ahead of ours a sender's clock may be.";
        drain_timeout_ms: u64 = 5_000, Whole(0, 600_000),
            "How long a stop waits for what is under way.";
        ..amqp: Amqp, "The broker.";
        ..clock: Clock, "The clock.";
        ..ledger: Ledger, "The ledger.";
        ..http: Http, "The window for machines: metrics and health.";
        ..limits: BodySettings, "Bounds on one body.";
        ..idempotency: Idempotency, "The memory of command keys.";
        ..memory: MemorySettings, "How much is remembered, where nothing else bounds it.";
        ..commands: CommandLimits, "Commands and their fan-outs.";
        ..inventory: Inventory, "What is known of the fleet.";
        ..parking: Parking, "Commands that wait for absent targets.";
        ..outbox: Outbox, "Messages that the broker does not take.";
        ..metrics: Metrics, "Statuses.";
        ..status: StatusSettings, "The router's own status.";
        ..observe: Observe, "Observe mode.";
        ..deadlines: Deadlines, "How long a command of each type waits for its outcome.";
        ..alerts: Alerts, "The router's own alerts.";
        ..refusals: Refusals, "The tally of refusals.";
        ..telemetry: Log, "The log.";
        ..identity: Identity, "How senders are known.";
        ..session: safety::Session, "Control sessions.";
        ..lifecycle: safety::Lifecycle, "What runs live.";
        ..safety: safety::SafetySettings, "Readiness gates.";
        ..interlocks: safety::Interlocks, "What raises the safety mode by itself.";
        ..consent: safety::ConsentSettings, "What takes a confirmation, and whose.";
        ..runtime: bootstrap::Runtime, "How workers come to run, and the channel to them.";
        ..supervisor: Supervisor, "The workers that `swarmgate supervise` runs.";
        ..types: Vec<OwnType>, "The deployment's own signal types.";
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
