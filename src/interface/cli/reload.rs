//! SIGHUP: the config is read anew, and what can change while a process runs does.
//!
//! Owns: which settings those are, and what is told of the others.
//! Never: takes a part of a config that has a fault, or a setting that safety hangs on: those are
//! recorded at a start.
//! Holds: what waits for a restart is named at each SIGHUP until there was one.

use std::{ops::ControlFlow, sync::Arc};

use serde_json::Value;
use tokio::signal::unix::Signal;
use tracing::{error, info, warn};

use crate::{
    config::{self, Config, ConfigError, ConfigFault, FIELDS, Layers},
    interface::api::Hosts,
    telemetry::{Telemetry, log},
};

/// What a running process takes over, by the paths of the settings.
pub(super) const RELOADED: [&str; 5] = [
    "http.hosts",
    "telemetry.log_level",
    "telemetry.log_line_bytes_max",
    "telemetry.log_queue_bytes_max",
    "telemetry.refusals_log_ms",
];
/// How many faults of a config are told in the log, one a line.
const FAULTS_TOLD_MAX: usize = 32;

/// What waits for SIGHUP.
pub(super) struct Reload {
    /// Where the settings come from; environment and flags are those of the start.
    layers: Layers,
    /// What the process runs by.
    running: Config,
    /// Of a router: what else takes over a setting.
    router: Option<(Arc<Telemetry>, Hosts)>,
}

impl Reload {
    /// Reloads from the layers that `running` was loaded from.
    pub fn new(layers: Layers, running: &Config, router: Option<(Arc<Telemetry>, Hosts)>) -> Self {
        Self { layers, running: running.clone(), router }
    }

    /// Reloads at each SIGHUP, for as long as the process runs.
    pub fn listen(mut self, mut hang_up: Signal) {
        tokio::spawn(async move {
            while hang_up.recv().await.is_some() {
                self = match self.again().await {
                    ControlFlow::Continue(reload) => reload,
                    ControlFlow::Break(()) => return,
                };
            }
        });
    }

    /// Reads and takes over, aside: the file's disk may hang, and schemas take their time.
    async fn again(self) -> ControlFlow<(), Self> {
        let reading = tokio::task::spawn_blocking(move || {
            let mut reload = self;
            match config::load(&reload.layers) {
                Ok(loaded) => {
                    loaded.warnings.iter().for_each(|warning| warn!("{warning}"));
                    reload.take(&loaded.config);
                }
                Err(fault) => tell_faults(&fault),
            }
            reload
        });
        // A panic has told so, and the process goes on as it is.
        reading.await.map_or(ControlFlow::Break(()), ControlFlow::Continue)
    }

    fn take(&mut self, new: &Config) {
        let (taken, waiting): (Vec<&str>, Vec<&str>) =
            changed(&self.running, new).into_iter().partition(|path| RELOADED.contains(path));
        if taken.is_empty() && waiting.is_empty() {
            info!("SIGHUP: the config says what this process runs by already");
            return;
        }
        if !taken.is_empty() {
            self.take_over(new);
            info!(settings = taken.join(", "), "SIGHUP: reloaded");
        }
        if !waiting.is_empty() {
            warn!(
                settings = waiting.join(", "),
                "SIGHUP: these settings have changed and take a restart; until then the ones before hold"
            );
        }
    }

    fn take_over(&mut self, new: &Config) {
        let level = new.telemetry.log_level;
        if level != self.running.telemetry.log_level {
            match log::set_level(level) {
                Ok(true) => {}
                Ok(false) => warn!("RUST_LOG is set and wins over `telemetry.log_level`"),
                Err(fault) => error!(error = %fault, "the level of the log cannot be changed"),
            }
        }
        log::set_bounds(new.telemetry.bounds());
        let format = self.running.telemetry.log_format;
        self.running.telemetry = config::Log { log_format: format, ..new.telemetry.clone() };
        self.running.http.hosts.clone_from(&new.http.hosts);
        let Some((telemetry, hosts)) = &self.router else { return };
        telemetry.set_refusals_log(new.telemetry.refusals_log_ms);
        hosts.set(&new.http.hosts);
        telemetry.set_reloaded(RELOADED.map(|path| (path, leaf(&tree(&self.running), path))));
    }
}

/// The paths of the settings in which two configs differ.
fn changed(before: &Config, after: &Config) -> Vec<&'static str> {
    let (old, new) = (tree(before), tree(after));
    let shown = FIELDS.iter().map(|field| field.path).filter(|path| leaf(&old, path) != leaf(&new, path));
    let mut changed: Vec<&str> = shown.collect();
    // Passwords are in no tree, and the schemas of own types are no settings of one path.
    for (path, differs) in [
        ("amqp.url", before.amqp.url != after.amqp.url && before.amqp.urls.is_empty()),
        ("amqp.urls", before.amqp.urls != after.amqp.urls),
        ("amqp.management_url", before.amqp.management_url != after.amqp.management_url),
        ("types", before.types != after.types),
    ] {
        if differs && !changed.contains(&path) {
            changed.push(path);
        }
    }
    changed
}

/// Settings are plain data, and none of their forms can fail.
fn tree(config: &Config) -> Value {
    serde_json::to_value(config).unwrap_or_default()
}

fn leaf(tree: &Value, path: &str) -> Value {
    let leaf = path.split('.').try_fold(tree, |tree, name| tree.get(name));
    leaf.cloned().unwrap_or_default()
}

fn tell_faults(fault: &ConfigError) {
    error!(error = %fault, "SIGHUP: the config cannot be taken, so nothing has changed");
    let ConfigError::Faulty { faults } = fault else { return };
    for ConfigFault { at, path, message, help, .. } in faults.iter().take(FAULTS_TOLD_MAX) {
        error!(at, setting = path, help, "{message}");
    }
    if faults.len() > FAULTS_TOLD_MAX {
        error!("and {} more; see `swarmgate check config`", faults.len() - FAULTS_TOLD_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BrokerUrl;

    #[test]
    fn what_is_reloaded_are_settings() {
        for path in RELOADED {
            assert!(FIELDS.iter().any(|field| field.path == path), "`{path}` is no setting");
        }
    }

    #[test]
    fn what_has_changed_is_named_by_path_and_a_password_too() {
        let before = Config::default();
        assert_eq!(changed(&before, &before), Vec::<&str>::new());
        let mut after = before.clone();
        after.amqp.url = BrokerUrl::new("amqp://guest:another@localhost:5672/%2f");
        after.http.hosts = vec!["gate".to_owned()];
        after.limits.body_bytes_max += 1;
        after.telemetry.log_level = log::Severity::Debug;
        let mut changed = changed(&before, &after);
        changed.sort_unstable();
        assert_eq!(changed, ["amqp.url", "http.hosts", "limits.body_bytes_max", "telemetry.log_level"]);
    }
}
