//! `swarmgate run`, and what `swarmgate observe` shares with it: the router beside a broker.
//!
//! Owns: what both share: log, telemetry, the HTTP window, signals, and the order in which they
//! start and stop.
//! Never: moves an envelope; the runtime does.
//! Holds: SIGTERM and Ctrl-C drain; a second one ends at once. No other signal that can be listened
//! for ends it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    CliError, Exit, Globals, client::Addresses, looks::Looks, observed, outlive, output, reload::Reload,
};
use crate::{
    config::{self, IdentityMode, Layers, Loaded},
    contract::audit::Mode,
    interface::{api::Desk, http},
    runtime::{
        boot::{self, Setup},
        broker::Broker,
        presence, setup,
    },
    telemetry::{Telemetry, log},
};

/// How long the report at the end waits for its reader.
const REPORT_PATIENCE: Duration = Duration::from_secs(2);

/// Run the router: decide, record and publish what comes.
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
    /// `enforce` publishes what passes; `observe` only looks.
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    #[command(flatten)]
    looks: Looks,
    /// Take over a ledger that was begun in observe mode.
    #[arg(long)]
    adopt: bool,
    /// Wait for as long as another router has the prefix, instead of ending.
    #[arg(long)]
    wait: bool,
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
    let mode = args.mode.map(|mode| ("--mode", "mode", mode));
    let Start { loaded, layers, hang_up, telemetry } = Start::new(&args.shared, mode, globals)?;
    let setup = match loaded.config.mode {
        Mode::Enforce => {
            setup::enforce(&loaded, Arc::new(Broker::new(&loaded.config)), Arc::clone(&telemetry))
        }
        Mode::Observe => args.looks.setup(&loaded, &telemetry)?,
    };
    let presence =
        setup.presence.clone().map(|presence| presence::PresenceSettings { waits: args.wait, ..presence });
    let setup = Setup { adopt: args.adopt, presence, ..setup };
    let ended = serve(&loaded, setup, telemetry, (layers, hang_up), globals.is_json()).await;
    ended.map_err(|fault| match loaded.config.mode {
        Mode::Observe => args.looks.advised(fault, &loaded.config),
        Mode::Enforce => fault,
    })
}

/// What a router is started with.
pub(super) struct Start {
    pub loaded: Loaded,
    /// Where its settings come from, to be read again.
    pub layers: Layers,
    /// The signal that asks for that.
    pub hang_up: Signal,
    pub telemetry: Arc<Telemetry>,
}

impl Start {
    /// Reads the config. From now on the signals that mean nothing to a router do not end it.
    ///
    /// # Errors
    /// When the config is wrong.
    pub fn new(
        shared: &Shared,
        mode: impl Into<Option<(&'static str, &'static str, String)>>,
        globals: &Globals,
    ) -> Result<Self, CliError> {
        let hang_up = outlive::signals()?;
        let mut settings = shared.settings();
        settings.extend(mode.into());
        let layers = globals.layers_with(settings);
        let loaded = config::load(&layers)?;
        let refusals_log_ms = loaded.config.telemetry.refusals_log_ms;
        let telemetry = Arc::new(Telemetry::new(refusals_log_ms, &loaded.contract.commands));
        Ok(Self { loaded, layers, hang_up, telemetry })
    }
}

/// Starts the router and its window, and stops them when a signal says so.
///
/// # Errors
/// When the ledger or the HTTP address cannot be used, or a person has to mend something at the
/// broker first.
pub(super) async fn serve(
    loaded: &Loaded,
    setup: Setup,
    telemetry: Arc<Telemetry>,
    (layers, hang_up): (Layers, Signal),
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
    let (mode, survey) = (setup.rules.mode, setup.survey.clone());
    let stopping = CancellationToken::new();
    let bounds = http::ClientBounds::from(&config.http);
    let bounds = outlive::fitting(bounds, outlive::raised_files());
    let window = http::Window::open(config.http.addr, bounds).await?.named(&config.http.hosts);
    let address = window.address();
    if !address.ip().is_loopback() {
        warn!(http = %address, "the API has no login: whoever can reach this address reads the whole fleet; keep it behind a network that only yours reach");
    }
    let reload = Reload::new(layers, config, Some((Arc::clone(&telemetry), window.hosts())));
    reload.listen(hang_up);
    let desk = Arc::new(Desk::default());
    let served = tokio::spawn(window.serve(Arc::clone(&telemetry), Arc::clone(&desk), stopping.clone()));
    let running = boot::start(setup).await?;
    desk.open(running.asker().clone());
    info!(%mode, environment = config.environment.word(), instance = config.instance, http = %address, "running");
    tokio::select! {
        told = stop_signal() => told?,
        fault = running.hopeless() => {
            // It has taken nothing yet, so there is nothing to finish, and no broker to finish it
            // with.
            running.kill().await;
            stopping.cancel();
            let _ = served.await;
            return Err(CliError::Hopeless(fault));
        }
    }
    info!("draining; a second signal ends at once");
    tokio::select! {
        _ = running.stop() => {}
        told = stop_signal() => told?,
    }
    telemetry.log_repeats(true);
    stopping.cancel();
    let _ = served.await;
    if let Some(survey) = survey {
        survey.close().await;
        let report = observed::at_end(telemetry.metrics.observed(), &survey.report(), json);
        // Whoever does not read the report does not keep the process.
        output::text_within(report, REPORT_PATIENCE)?;
    }
    Ok(Exit::Done)
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// When the system lets nobody listen for them.
pub(super) async fn stop_signal() -> Result<(), CliError> {
    let listen = |kind| signal(kind).map_err(|fault| CliError::input(&fault));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
