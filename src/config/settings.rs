//! What a router was set to, as `ledger.opened` says it.
//!
//! Owns: the values of the settings that safety hangs on, as they take effect, and the digest of
//! all of them.
//! Never: says which are looser; the table in `decision::rules::looser` does.
//! Holds: each setting of the config is in that table or among those that safety does not hang on
//! (a test walks both).

use serde_json::{Value, json};

use super::{Config, OwnType};
use crate::{
    contract::{audit::Settings, canonical, digest::Digest},
    decision::rules::looser::TABLE,
};

/// What a config sets. Lists are in order, so that another order is no other setting.
pub fn of(config: &Config) -> Settings {
    // What has a password shows none when it is written.
    let all = serde_json::to_value(config).unwrap_or_default();
    let safety = TABLE.iter().filter_map(|(path, _)| {
        let value = taking_effect(config, path).or_else(|| at(&all, path).cloned())?;
        Some(((*path).to_owned(), in_order(value)))
    });
    Settings { safety: safety.collect(), digest: Digest::of(&canonical::of(&all)) }
}

/// Settings that may be left out, as they count, and those of the deployment's own types.
fn taking_effect(config: &Config, path: &str) -> Option<Value> {
    let types = |word: &dyn Fn(&OwnType) -> Value| -> Value {
        let line = |own: &OwnType| format!("{}={}", own.kind_type, word(own).as_str().unwrap_or_default());
        config.types.iter().map(line).collect()
    };
    match path {
        "consent.live_requires" => Some(json!(config.consent.live(config.environment))),
        "supervisor.router" => {
            Some(config.supervisor.router.map_or_else(|| json!("required"), |router| json!(router)))
        }
        "types.class" => Some(types(&|own| json!(own.class))),
        "types.fan_out" => Some(types(&|own| json!(own.fan_out))),
        _ => None,
    }
}

fn at<'a>(all: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(all, |section, name| section.get(name))
}

fn in_order(value: Value) -> Value {
    match value {
        Value::Array(mut items) => {
            items.sort_by_cached_key(Value::to_string);
            Value::Array(items)
        }
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FIELDS, own_types::TYPE_FIELDS};

    /// Settings and sections that no gate hangs on: where things are, how much room and time they
    /// have, how they look. `mode` is the ledger's own; what a worker's channel is proven by is
    /// asked at the start of `supervise`.
    const NOT_OF_SAFETY: &[&str] = &[
        "mode",
        "instance",
        "drain_timeout_ms",
        "amqp.",
        "ledger.",
        "http.",
        "limits.",
        "idempotency.keys_max",
        "commands.",
        "inventory.instances_max",
        "memory.",
        "parking.",
        "outbox.",
        "metrics.",
        "observe.",
        "deadlines.",
        "status.",
        "telemetry.",
        "runtime.",
        "supervisor.swarm_id",
        "supervisor.workers",
        "supervisor.ready_timeout_ms",
        "supervisor.heartbeat_ms",
        "supervisor.heartbeat_timeout_ms",
        "supervisor.stop_",
        "supervisor.restart_",
        "supervisor.log_",
        "supervisor.status_delta_ms",
        "supervisor.router_retry_ms",
        "types.type",
        "types.schema",
        "types.success",
        "types.answered_by",
        "types.deadline_ms",
    ];

    #[test]
    fn every_setting_is_of_safety_or_it_is_not() {
        let own = TYPE_FIELDS.iter().map(|field| format!("types.{}", field.path));
        let paths: Vec<String> = FIELDS.iter().map(|field| field.path.to_owned()).chain(own).collect();
        let is_not = |path: &str| {
            NOT_OF_SAFETY
                .iter()
                .any(|name| path == *name || (name.ends_with(['.', '_']) && path.starts_with(name)))
        };
        for path in &paths {
            let rows = TABLE.iter().filter(|(row, _)| row == path).count();
            let told = rows + usize::from(is_not(path));
            assert_eq!(
                told, 1,
                "`{path}`: say in `decision::rules::looser::TABLE` what makes it looser, or here that nothing does"
            );
        }
        for (row, _) in TABLE {
            assert!(paths.iter().any(|path| path == row), "`{row}` is no setting");
        }
    }

    #[test]
    fn every_row_is_recorded_and_no_password_is() {
        let mut config = Config::default();
        config.amqp.url = crate::config::BrokerUrl::new("amqp://u:canary@h/v");
        config.safety.gates_required = vec!["risk".to_owned(), "desk".to_owned()];
        let settings = of(&config);
        assert_eq!(settings.safety.len(), TABLE.len());
        assert_eq!(settings.safety["safety.gates_required"], json!(["desk", "risk"]));
        assert_eq!(settings.safety["consent.live_requires"], json!("explicit"));
        assert_eq!(settings.safety["supervisor.router"], json!("required"));
        config.amqp.url = crate::config::BrokerUrl::new("amqp://u:other@h/v");
        assert_eq!(of(&config).digest, settings.digest, "a password is in the digest");
        config.environment = crate::config::Environment::Prod;
        assert_eq!(of(&config).safety["consent.live_requires"], json!("second-person"));
        assert_ne!(of(&config).digest, settings.digest);
    }
}
