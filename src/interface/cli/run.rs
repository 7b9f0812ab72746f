//! `swarmgate run` and `swarmgate observe`: the router beside a broker.
//!
//! Owns: what both share: log, telemetry, the HTTP window, signals, and the order in which they start and stop.
//! Never: moves an envelope; the runtime does.
//! Holds: SIGTERM and Ctrl-C drain; a second one ends at once.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{CliError, Exit, Globals, client::Addresses, output};
use crate::{
    contract::audit::Mode,
    interface::{api::Desk, http},
    runtime::{
        boot::{self, Setup},
        broker::Broker,
        config::{IdentityMode, Loaded},
        presence, setup,
    },
    telemetry::{Telemetry, log, metrics::ObservedTotals},
};

/// How long the report at the end waits for its reader.
const REPORT_PATIENCE: Duration = Duration::from_secs(2);

/// Route: judge, record and carry.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  Beside a broker on this machine:
    swarmgate run
  Beside your broker, with a ledger of its own:
    swarmgate run --amqp amqps://swarmgate:PASSWORD@broker:5671/%2f --ledger /var/lib/swarmgate
  Every key of swarmgate.yaml has a variable too:
    SWARMGATE_AMQP_URL=… SWARMGATE_INSTANCE=gate-2 swarmgate run --config swarmgate.yaml")]
pub struct RunArgs {
    #[command(flatten)]
    shared: Shared,
    /// `enforce` carries what passes; `observe` only looks.
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// The exchange to look at in observe mode.
    #[arg(long, value_name = "NAME", default_value = "swarmgate.in")]
    exchange: String,
    /// Take over a ledger that was begun in observe mode.
    #[arg(long)]
    adopt: bool,
    /// Wait for as long as another router has the prefix, instead of ending.
    #[arg(long)]
    wait: bool,
}

/// Look only: judge and record what passes an exchange that is there already, publish nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  Attach to your own exchange, with nothing on the broker but queues of ours that go with the connection:
    swarmgate observe --amqp amqp://user:password@broker:5672/%2f --exchange control.topic
  Afterwards see what would have been refused:
    swarmgate audit show ./swarmgate-data")]
pub struct ObserveArgs {
    #[command(flatten)]
    shared: Shared,
    /// The exchange to look at.
    #[arg(long, value_name = "NAME", default_value = "swarmgate.in")]
    exchange: String,
}

/// Settings that have a flag.
#[derive(Debug, clap::Args)]
pub struct Shared {
    #[command(flatten)]
    amqp: Addresses,
    /// The ledger's directory (ledger.dir).
    #[arg(long, value_name = "DIR")]
    ledger: Option<PathBuf>,
    /// Where metrics and health are served (http.addr).
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// The router's instance name (instance).
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
}

impl Shared {
    /// The flags as settings of the config.
    fn settings(&self) -> Vec<(&'static str, &'static str, String)> {
        let text = |value: &Option<String>| value.clone();
        let dir = self.ledger.as_ref().map(|dir| dir.display().to_string());
        let rest = [
            ("--ledger", "ledger.dir", dir),
            ("--http", "http.addr", text(&self.http)),
            ("--instance", "instance", text(&self.instance)),
        ]
        .into_iter()
        .filter_map(|(flag, path, value)| value.map(|value| (flag, path, value)));
        self.amqp.settings().into_iter().chain(rest).collect()
    }
}

/// Runs the router until it is told to stop.
///
/// # Errors
/// When the config, the ledger or the HTTP address cannot be used.
pub async fn run(args: RunArgs, globals: &Globals) -> Result<Exit, CliError> {
    outlive_file_limit()?;
    let mut settings = args.shared.settings();
    settings.extend(args.mode.map(|mode| ("--mode", "mode", mode)));
    let loaded = globals.config_with(settings)?;
    let telemetry = Arc::new(Telemetry::new(loaded.config.telemetry.refusals_log_ms));
    let broker = Arc::new(Broker::new(&loaded.config));
    let setup = match loaded.config.mode {
        Mode::Enforce => setup::enforce(&loaded, broker, Arc::clone(&telemetry)),
        Mode::Observe => setup::observe(&loaded, broker, Arc::clone(&telemetry), &args.exchange),
    };
    let presence = setup.presence.clone().map(|presence| presence::Settings { waits: args.wait, ..presence });
    serve(&loaded, Setup { adopt: args.adopt, presence, ..setup }, telemetry, globals.is_json()).await
}

/// Looks until it is told to stop.
///
/// # Errors
/// When the config, the ledger or the HTTP address cannot be used.
pub async fn observe(args: ObserveArgs, globals: &Globals) -> Result<Exit, CliError> {
    let mut settings = args.shared.settings();
    settings.push(("observe", "mode", "observe".to_owned()));
    let loaded = globals.config_with(settings)?;
    let telemetry = Arc::new(Telemetry::new(loaded.config.telemetry.refusals_log_ms));
    let broker = Arc::new(Broker::new(&loaded.config));
    let setup = setup::observe(&loaded, broker, Arc::clone(&telemetry), &args.exchange);
    serve(&loaded, setup, telemetry, globals.is_json()).await
}

/// Starts the router and its window, and stops them when a signal says so.
async fn serve(
    loaded: &Loaded,
    setup: Setup,
    telemetry: Arc<Telemetry>,
    json: bool,
) -> Result<Exit, CliError> {
    let config = &loaded.config;
    log::install(config.telemetry.log_format, config.telemetry.log_level, config.telemetry.bounds())?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    if config.identity.mode == IdentityMode::Open {
        warn!(
            "identity is `open`: senders are believed by their AMQP user-id, else by what they say; no signature is asked for"
        );
    }
    if config.identity.trust_origin {
        warn!(
            "`identity.trust_origin` is set: any connection may confirm, loosen and start live as anybody; for demos only"
        );
    }
    let mode = setup.rules.mode;
    let stopping = CancellationToken::new();
    let bounds = http::Bounds {
        header_timeout_ms: config.http.header_timeout_ms,
        write_timeout_ms: config.http.write_timeout_ms,
        connections_max: config.http.connections_max,
        health_connections_max: config.http.health_connections_max,
    };
    let window = http::Window::open(config.http.addr, bounds).await?.named(&config.http.hosts);
    let address = window.address();
    let desk = Arc::new(Desk::default());
    let served = tokio::spawn(window.serve(Arc::clone(&telemetry), Arc::clone(&desk), stopping.clone()));
    let running = boot::start(setup).await?;
    desk.open(running.asker().clone());
    info!(%mode, environment = config.environment.word(), instance = config.instance, http = %address, "running");
    tokio::select! {
        told = told_to_stop() => told?,
        fault = running.hopeless() => {
            running.stop().await;
            stopping.cancel();
            let _ = served.await;
            return Err(CliError::Hopeless(fault));
        }
    }
    info!("draining; a second signal ends at once");
    tokio::select! {
        _ = running.stop() => {}
        told = told_to_stop() => told?,
    }
    telemetry.tell_repeats(true);
    stopping.cancel();
    let _ = served.await;
    if mode == Mode::Observe {
        // Whoever does not read the report does not keep the process.
        output::text_within(report(telemetry.metrics.observed(), json), REPORT_PATIENCE)?;
    }
    Ok(Exit::Done)
}

/// A limit on the size of files makes a write fail, as a full disk does; by itself it would end the process.
pub(super) fn outlive_file_limit() -> Result<(), CliError> {
    // A handler stays for as long as the process runs, whoever listens.
    signal(SignalKind::from_raw(libc::SIGXFSZ)).map(drop).map_err(|fault| CliError::input(&fault))
}

/// What was seen, and what was not.
fn report(totals: ObservedTotals, json: bool) -> String {
    if json {
        return format!("{}\n", json!({ "observed": totals }));
    }
    let ObservedTotals { judged, dropped, is_lower_bound } = totals;
    let at_least = if is_lower_bound { "at least " } else { "" };
    format!("judged {judged}, dropped before they were judged: {at_least}{dropped}\n")
}

/// Waits for SIGTERM or SIGINT.
async fn told_to_stop() -> Result<(), CliError> {
    let listen = |kind| signal(kind).map_err(|fault| CliError::input(&fault));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
