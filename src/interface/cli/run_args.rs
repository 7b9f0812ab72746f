//! The flags that set the config.
//!
//! Owns: `--set PATH=VALUE` and the short flags for what is set most, each of which is one setting.
//! Never: checks a value; the config does, and names the flag.
//! Holds: a flag of its own loses to nothing but a later `--set`.

use crate::runtime::config::Setting;

/// The settings that `run` and `observe` have flags for.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RunArgs {
    /// The broker's URL. Its password shows in the process list: better set SWARMGATE_AMQP_URL.
    #[arg(long, value_name = "URL")]
    pub amqp: Option<String>,
    /// What the names of exchanges and queues begin with.
    #[arg(long, value_name = "NAME")]
    pub prefix: Option<String>,
    /// The ledger's directory.
    #[arg(long, value_name = "DIR")]
    pub ledger: Option<String>,
    /// Where /metrics, /healthz and /readyz listen.
    #[arg(long, value_name = "ADDR:PORT")]
    pub http: Option<String>,
    /// The router's own instance name.
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// What the deployment is for: dev, stage or prod.
    #[arg(long, value_name = "WORD")]
    pub environment: Option<String>,
    /// How the log looks: text or json.
    #[arg(long, value_name = "FORM")]
    pub log_format: Option<String>,
    /// What is worth a line: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

impl RunArgs {
    /// The settings that were given.
    pub fn settings(&self) -> Vec<Setting> {
        [
            ("--amqp", "amqp.url", &self.amqp),
            ("--prefix", "amqp.prefix", &self.prefix),
            ("--ledger", "ledger.dir", &self.ledger),
            ("--http", "http.addr", &self.http),
            ("--instance", "instance", &self.instance),
            ("--environment", "environment", &self.environment),
            ("--log-format", "telemetry.log_format", &self.log_format),
            ("--log-level", "telemetry.log_level", &self.log_level),
        ]
        .into_iter()
        .filter_map(|(flag, path, value)| {
            let value = value.clone()?;
            Some(Setting { flag: flag.to_owned(), path: path.to_owned(), value })
        })
        .collect()
    }
}

/// Reads `PATH=VALUE`; the value is not repeated in a fault, it may be a secret.
pub(super) fn setting(text: &str) -> Result<Setting, String> {
    let (path, value) = text.split_once('=').ok_or("write it as PATH=VALUE, like `mode=observe`")?;
    Ok(Setting { flag: format!("--set {path}"), path: path.trim().to_owned(), value: value.to_owned() })
}
