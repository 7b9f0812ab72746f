//! What a router that only looks is started with.
//!
//! Owns: the flags of it, and which permissions an observer is told that it lacks.
//! Never: looks; `run` and `observe` do.
//! Holds: an error about a permission has the command that gives it.

use std::{path::PathBuf, sync::Arc};

use super::CliError;
use crate::{
    bus::{BusError, amqp},
    config::{Config, Loaded},
    runtime::{
        broker::Broker,
        presence::Hindrance,
        setup::{self, Looking, Setup},
        survey::records::Records,
    },
    telemetry::Telemetry,
};

/// What is looked at.
#[derive(Debug, clap::Args)]
pub struct Looks {
    /// The exchange to look at in observe mode.
    #[arg(long, value_name = "NAME", default_value = "swarmgate.in")]
    exchange: String,
    /// What to bind there in observe mode; may be repeated. A direct exchange wants whole keys.
    #[arg(long, value_name = "PATTERN", default_value = "#")]
    bind: Vec<String>,
    /// Write what is seen in observe mode to a new file, for `swarmgate route`; its secrets are
    /// masked.
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
}

impl Looks {
    /// What a router that only looks is started with.
    ///
    /// # Errors
    /// When the file of records is there already, or cannot be made.
    pub fn setup(&self, loaded: &Loaded, telemetry: &Arc<Telemetry>) -> Result<Setup, CliError> {
        let contract = Arc::new(loaded.contract.clone());
        let bytes_max = loaded.config.observe.records_bytes_max;
        let begin = |path: &PathBuf| {
            Records::begin(path, bytes_max, contract).map_err(|fault| CliError::file(path, &fault))
        };
        let records = self.records.as_ref().map(begin).transpose()?;
        let looking = Looking { exchange: &self.exchange, bindings: &self.bind, records };
        let broker = Arc::new(Broker::new(&loaded.config));
        Ok(setup::observe(loaded, broker, Arc::clone(telemetry), looking))
    }

    /// The same fault, with what a person can do about it.
    pub fn advised(&self, fault: CliError, config: &Config) -> CliError {
        let CliError::Hopeless(fault) = fault else { return fault };
        match advice(&fault, &self.exchange, config) {
            Some(help) => CliError::Denied { fault, help },
            None => CliError::Hopeless(fault),
        }
    }
}

/// What an observer's user has to be given, where that is what is lacking.
fn advice(fault: &Hindrance, exchange: &str, config: &Config) -> Option<String> {
    let Hindrance::Bus(fault) = fault else { return None };
    if let Some(help) = fault.help() {
        return Some(help.to_owned());
    }
    let url = config.amqp.url.expose();
    let (user, vhost) = amqp::user_and_vhost(url).unwrap_or_else(|| ("USER".to_owned(), "/".to_owned()));
    if fault.denies() {
        return Some(format!(
            "the broker knows no user `{user}` with that password who may use the virtual host `{vhost}`: look at --amqp"
        ));
    }
    let BusError::Refused { reason, .. } = fault else { return None };
    if !fault.is_forbidden() {
        return None;
    }
    if reason.contains("to topic '") {
        return Some(format!(
            "topic permissions let `{user}` read only some keys of `{exchange}`: name them with --bind, or let it read all: \
             rabbitmqctl set_topic_permissions -p '{vhost}' '{user}' '{exchange}' '' '.*'"
        ));
    }
    let (prefix, exchange) = (regex::escape(&config.amqp.prefix), regex::escape(exchange));
    let own = format!(r"{prefix}\.observe\..*");
    Some(format!(
        "an observer needs configure and write on its own queues, and read on them and on the exchange: \
         rabbitmqctl set_permissions -p '{vhost}' '{user}' '^{own}$' '^{own}$' '^({own}|{exchange})$' \
         (docs/operating/broker-permissions.md)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbidden(reason: &str) -> Hindrance {
        BusError::Refused { what: "bind".to_owned(), reason: reason.to_owned() }.into()
    }

    #[test]
    fn who_lacks_a_permission_is_told_which() {
        let config = Config::default();
        let told = |reason: &str| advice(&forbidden(reason), "control.topic", &config);
        let named = told("ACCESS_REFUSED - access to exchange 'control.topic' in vhost '/' refused").unwrap();
        let wanted = r"set_permissions -p '/' 'guest' '^swarmgate\.observe\..*$' '^swarmgate\.observe\..*$' '^(swarmgate\.observe\..*|control\.topic)$'";
        assert!(named.contains(wanted), "{named}");
        let topic = told("ACCESS_REFUSED - access to topic '#' in exchange 'control.topic' refused").unwrap();
        assert!(topic.contains("--bind") && topic.contains("set_topic_permissions"), "{topic}");
        assert_eq!(told("NOT_FOUND - no exchange 'control.topic'"), None);
    }
}
