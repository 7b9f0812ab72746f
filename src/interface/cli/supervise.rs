//! `swarmgate supervise`: the configured workers as processes of our own.
//!
//! Owns: the order in which supervisor and bridge start and stop, the signals, and the report of
//! how each worker ended.
//! Never: starts or ends a process; the runtime does.
//! Holds: SIGTERM and Ctrl-C end every worker, each in bounded time; a second one ends at once, and
//! the system takes the workers along.

use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{CliError, Exit, Globals, OutputFormat, client::Addresses, outlive, output, reload::Reload};
use crate::{
    config::{self, Loaded, workers::AsksRouter},
    contract::routing::Scope,
    runtime::broker::Broker,
    supervisor::{
        self, SuperviseError, Supervisor, SupervisorSetup,
        bridge::{self, Bridge},
        child, configured,
        event::{End, Tell, WorkerEnd},
    },
    telemetry::log::{self, Format},
};

/// How long whoever reads the report may take to do so.
const REPORT_PATIENCE: Duration = Duration::from_secs(2);

/// Run the configured workers as processes, and forward between them and the bus.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  The workers of a config, without a bus:
    swarmgate supervise --config swarmgate.yaml
  The same, their states and signals carried to and from a broker:
    swarmgate supervise --config swarmgate.yaml --amqp amqp://user:password@broker:5672/%2f
  Everything as JSON: the workers' output as lines of the log, the report at the end:
    swarmgate supervise --config swarmgate.yaml --output json")]
pub struct Args {
    #[command(flatten)]
    amqp: Addresses,
}

impl Args {
    /// Without the flag, and without `SWARMGATE_AMQP_URL` or `SWARMGATE_AMQP_URLS`, there is no
    /// bus: a file that names the broker is also the router's.
    fn has_bus(&self) -> bool {
        let is_set = |path| std::env::var_os(config::variable(path)).is_some();
        self.amqp.is_given() || is_set("amqp.url") || is_set("amqp.urls")
    }
}

/// Ties itself to its supervisor's life, then becomes a worker.
#[derive(Debug, clap::Args)]
pub struct ChildArgs {
    /// The supervisor's process.
    #[arg(long)]
    parent: u32,
    /// The control group that it enters.
    #[arg(long)]
    cgroup: Option<PathBuf>,
    /// The worker's program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes the worker; comes back only when that failed.
///
/// # Errors
/// Why not.
pub fn child(args: &ChildArgs) -> Result<Exit, CliError> {
    Err(child::become_worker(args.parent, args.cgroup.as_deref(), &args.command).into())
}

/// Runs the workers until all have ended.
///
/// # Errors
/// When the config supervises nothing, or the channel or the keys cannot be had.
pub async fn run(args: Args, globals: &Globals) -> Result<Exit, CliError> {
    let layers = globals.layers_with(args.amqp.settings());
    let loaded = config::load(&layers)?;
    let has_bus = args.has_bus();
    let json = globals.output_or(OutputFormat::Text) == OutputFormat::Json;
    let format = if json { Format::Json } else { loaded.config.telemetry.log_format };
    log::install(format, loaded.config.telemetry.log_level, loaded.config.telemetry.bounds())?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    // Before any worker runs, so that no signal ends this process where it should end its workers.
    let mut told = Told::listen()?;
    let hang_up = outlive::signals()?;
    Reload::new(layers, &loaded.config, None).listen(hang_up);
    let run = supervisor::run_id().map_err(configured::ConfiguredError::from)?;
    let asks_router = asks_router(&loaded, has_bus)?;
    let bridge = has_bus.then(|| bridge(&loaded, run.clone(), asks_router));
    let tell = bridge.as_ref().map_or_else(|| Arc::new(|_: &Scope, _| {}) as Tell, Bridge::listener);
    let supervisor = start(&loaded, run, tell, asks_router)?;
    let drained = CancellationToken::new();
    let workers = supervisor.workers();
    let carrying = bridge.map(|bridge| tokio::spawn(bridge.carry(workers, drained.clone())));
    let (released, stopping) = (supervisor.released(), supervisor.stopping());
    let ending = stopping.clone();
    tokio::spawn(async move {
        released.await;
        if !ending.is_cancelled() {
            let then = if asks_router { "each begins by the router's yes" } else { "work has begun" };
            info!("every required worker is ready, and {then}");
        }
    });
    let ended = supervisor.ended();
    tokio::pin!(ended);
    let reports = tokio::select! {
        reports = &mut ended => reports,
        () = told.stop() => {
            info!("ending the workers; a second signal ends at once");
            stopping.cancel();
            tokio::select! {
                reports = &mut ended => reports,
                () = told.stop() => return Ok(Exit::Fault),
            }
        }
    };
    drained.cancel();
    if let Some(carrying) = carrying {
        // Bounded by the bridge itself; a task that panicked has told so.
        let _ = carrying.await;
    }
    report(&reports, json)
}

/// Whether work begins by the router's yes only: where there is a bus, unless the config says
/// otherwise.
fn asks_router(loaded: &Loaded, has_bus: bool) -> Result<bool, CliError> {
    match loaded.config.supervisor.router {
        Some(AsksRouter::Required) if !has_bus => Err(SuperviseError::NoBus.into()),
        Some(asks) => Ok(asks == AsksRouter::Required),
        None => Ok(has_bus),
    }
}

fn start(loaded: &Loaded, run: String, tell: Tell, asks_router: bool) -> Result<Supervisor, CliError> {
    let config = &loaded.config;
    let shim = std::env::current_exe().map_err(supervisor::SuperviseError::from)?;
    let setup = SupervisorSetup {
        settings: config.supervisor.clone(),
        channel: configured::channel(config)?,
        keys: configured::keys(config)?,
        shim,
        tell,
        run,
        asks_router,
    };
    Ok(Supervisor::start(setup)?)
}

fn bridge(loaded: &Loaded, run: String, asks_router: bool) -> Bridge {
    let config = &loaded.config;
    let setup = bridge::BridgeSetup {
        connector: Arc::new(Broker::new(config)),
        prefix: config.amqp.prefix.clone(),
        instance: config.instance.clone(),
        run,
        commands: loaded.contract.commands.clone(),
        status_delta_ms: config.supervisor.status_delta_ms,
        asks_again_ms: asks_router.then_some(config.supervisor.router_retry_ms),
    };
    Bridge::new(setup, config.supervisor.wanted().into_iter().map(|wanted| wanted.scope))
}

/// Tells how each worker ended; a fault where one was given up or would not end.
fn report(reports: &[WorkerEnd], json: bool) -> Result<Exit, CliError> {
    let mut text = String::new();
    if json {
        text = format!("{}\n", json!({ "workers": reports }));
    } else {
        for WorkerEnd { worker, processes, end, last_fall } in reports {
            let fall = last_fall.as_ref().map(|fall| format!(" (last fall: {fall})")).unwrap_or_default();
            text.push_str(&format!("{worker}  {}  processes: {processes}{fall}\n", end.word()));
        }
    }
    let failed = reports.iter().any(|report| matches!(report.end, End::GivenUp | End::Stuck));
    let exit = if failed { Exit::Fault } else { Exit::Done };
    // The workers have ended, and whoever does not read the report does not keep their supervisor.
    output::text_within(text, REPORT_PATIENCE)?;
    Ok(exit)
}

/// The signals that end a supervisor.
struct Told {
    terminate: Signal,
    interrupt: Signal,
}

impl Told {
    fn listen() -> Result<Self, CliError> {
        let listen = |kind| signal(kind).map_err(|fault| CliError::input(&fault));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits for the next.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
