//! The process supervisor: workers as processes of our own (`bootstrap.mode: process_supervisor`).
//!
//! Owns: the lives of all configured workers, the channel's listener that they knock at, and how
//! everything ends.
//! Never: decides about an envelope; what workers say for the bus goes out by the bridge and
//! through the corridor.
//! Holds: every process that was started is waited for; none outlives its supervisor; no key is in
//! an argument, an environment, a file or a line of the log.

pub mod barrier;
pub mod bridge;
mod cgroup;
pub mod child;
pub mod configured;
pub mod event;
mod floor;
mod leftovers;
mod life;
mod output;
mod process;
mod restart;
mod running;

use std::{collections::BTreeMap, io, net::SocketAddr, path::PathBuf, sync::Arc};

use thiserror::Error;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use crate::{
    channel::{self, Connection, KeyRing, Listener},
    config::workers::SupervisorSettings,
    contract::routing::Scope,
    keys::{self, KeyError},
};
use barrier::Barrier;
use cgroup::OwnGroup;
use event::{End, Stage, Tell, WorkerEnd};
use floor::{Floor, Ring};
pub use floor::{KeySource, WorkerOrder};
use life::Life;
pub use process::SHIM;
use process::Spawner;

/// How many orders wait for one worker.
const ORDERS_LEN_MAX: usize = 512;
/// How many connections of one worker wait: it has one, and one that is stale.
const KNOCKS_LEN_MAX: usize = 2;
/// How long after a heartbeat's deadline the channel itself ends a silent connection.
const IDLE_BEYOND_MS: u64 = 1_000;

/// Why the supervisor did not start.
#[derive(Debug, Error)]
pub enum SuperviseError {
    /// There is nothing to run.
    #[error("`supervisor.workers` is empty; add a row with `id`, `role` and `command`")]
    Nobody,
    /// Nobody could be asked.
    #[error("`supervisor.router` is `required`, and there is no bus; give `--amqp URL`, or set it to `none`")]
    NoBus,
    /// The channel cannot be opened.
    #[error("the channel to the workers cannot be opened")]
    Channel(#[from] channel::Error),
    /// The system gives no thread or says not where this binary is.
    #[error("the system gives too little to start workers; see `ulimit -a`")]
    System(#[from] io::Error),
}

/// What a supervisor is made of.
pub struct SupervisorSetup {
    /// The workers, and every bound of their lives.
    pub settings: SupervisorSettings,
    /// The channel.
    pub channel: channel::ChannelSettings,
    /// Where the keys of sessions come from.
    pub keys: KeySource,
    /// The binary that has the hidden subcommand: our own.
    pub shim: PathBuf,
    /// Who is told what happens.
    pub tell: Tell,
    /// What tells this run from another; [`run_id`] makes one.
    pub run: String,
    /// Whether a worker begins by the router's yes only, which the bridge brings.
    pub asks_router: bool,
}

/// Workers under way.
pub struct Supervisor {
    address: SocketAddr,
    floor: Arc<Floor>,
    workers: Workers,
    lives: JoinSet<WorkerEnd>,
    door: JoinHandle<()>,
}

/// How the workers of a supervisor are reached.
#[derive(Clone)]
pub struct Workers(Arc<BTreeMap<String, Reached>>);

struct Reached {
    scope: Scope,
    required: bool,
    orders: mpsc::Sender<WorkerOrder>,
    stage: watch::Receiver<Stage>,
}

impl Workers {
    /// Who they are.
    pub fn scopes(&self) -> impl Iterator<Item = &Scope> {
        self.0.values().map(|reached| &reached.scope)
    }

    /// How far a worker has come.
    pub fn stage(&self, worker: &str) -> Option<Stage> {
        self.0.get(worker).map(|reached| *reached.stage.borrow())
    }

    /// Orders a worker; gives back an order that finds no room now. One for a worker whose life is
    /// over is dropped.
    pub fn order(&self, worker: &str, order: WorkerOrder) -> Option<WorkerOrder> {
        match self.0.get(worker)?.orders.try_send(order) {
            Err(mpsc::error::TrySendError::Full(order)) => Some(order),
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
        }
    }
}

impl Supervisor {
    /// Starts every worker.
    ///
    /// # Errors
    /// Before anything was started.
    pub fn start(setup: SupervisorSetup) -> Result<Self, SuperviseError> {
        let SupervisorSetup { settings, channel, keys, shim, tell, run, asks_router } = setup;
        let wanted = settings.wanted();
        if wanted.is_empty() {
            return Err(SuperviseError::Nobody);
        }
        let ring = Ring::default();
        let finder = ring.clone();
        let bounds = bounds(&settings, channel, wanted.len());
        let listener = Listener::bind(bounds.clone(), KeyRing::new(move |worker| finder.find(worker)))?;
        let address = listener.address();
        let required = wanted.iter().filter(|wanted| wanted.row.required);
        let floor = Arc::new(Floor {
            barrier: Barrier::new(required.map(|wanted| wanted.scope.instance.clone())),
            settings,
            shim,
            spawner: Spawner::new(own_group())?,
            keys,
            ring,
            address,
            ttl_seconds: bounds.ttl_seconds,
            payload_bytes_max: bounds.max_payload_bytes,
            tell,
            stopping: CancellationToken::new(),
            run,
            asks_router,
        });
        let (mut reached, mut doors, mut lives) = (BTreeMap::new(), BTreeMap::new(), JoinSet::new());
        for (seed, wanted) in (0..).zip(wanted) {
            let (orders, ordered) = mpsc::channel(ORDERS_LEN_MAX);
            let (knock, knocks) = mpsc::channel(KNOCKS_LEN_MAX);
            let (scope, required) = (wanted.scope.clone(), wanted.row.required);
            let life = Life::new(wanted, Arc::clone(&floor), ordered, knocks, seed);
            doors.insert(scope.instance.clone(), knock);
            let stage = life.worker.stage.subscribe();
            reached.insert(scope.instance.clone(), Reached { scope, required, orders, stage });
            lives.spawn(life.live());
        }
        info!(%address, workers = reached.len(), "the supervisor has started its workers");
        let door = tokio::spawn(admit(listener, doors));
        Ok(Self { address, floor, workers: Workers(Arc::new(reached)), lives, door })
    }

    /// Where the workers knock.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How the workers are reached.
    pub fn workers(&self) -> Workers {
        self.workers.clone()
    }

    /// What tells every worker to end, once it is cancelled.
    pub fn stopping(&self) -> CancellationToken {
        self.floor.stopping.clone()
    }

    /// Resolves once every required worker has been ready at one moment.
    pub fn released(&self) -> impl Future<Output = ()> + use<> {
        let mut released = self.floor.barrier.watch();
        async move {
            // The sender lives in what all lives share; were it gone, so were they.
            let _ = released.wait_for(|released| *released).await;
        }
    }

    /// Waits until every worker's life has ended. Where a required worker is given up before work
    /// began, the others would wait for ever, so they are ended.
    pub async fn ended(mut self) -> Vec<WorkerEnd> {
        let mut reports = Vec::new();
        while let Some(lived) = self.lives.join_next().await {
            let report = match lived {
                Ok(report) => report,
                Err(fault) => std::panic::resume_unwind(fault.into_panic()),
            };
            let required =
                self.workers.0.get(&report.worker.instance).is_some_and(|reached| reached.required);
            if report.end == End::GivenUp && required && !self.floor.barrier.is_released() {
                error!(
                    worker = report.worker.instance,
                    "work cannot begin without this worker, so the others are ended"
                );
                self.floor.stopping.cancel();
            }
            reports.push(report);
        }
        self.door.abort();
        reports.sort_by(|one, other| one.worker.cmp(&other.worker));
        reports
    }
}

/// Below which workers get control groups, where they can; says which way what they leave behind is
/// found.
fn own_group() -> Option<OwnGroup> {
    match OwnGroup::find() {
        Ok(own) => {
            info!("what a worker leaves behind is ended by its control group (cgroup v2)");
            Some(own)
        }
        Err(why) => {
            info!(
                "what a worker leaves behind is found by the variable {} in its environment, and by no control group: {why}",
                leftovers::MARK
            );
            None
        }
    }
}

/// The channel's bounds, with room for every worker and for its silence.
fn bounds(
    settings: &SupervisorSettings,
    channel: channel::ChannelSettings,
    workers: usize,
) -> channel::ChannelSettings {
    let idle_ms = settings.heartbeat_timeout_ms.max(settings.ready_timeout_ms).saturating_add(IDLE_BEYOND_MS);
    channel::ChannelSettings {
        connections_max: channel.connections_max.max(workers.saturating_mul(KNOCKS_LEN_MAX)),
        handshakes_max: channel.handshakes_max.max(workers),
        idle_timeout_ms: channel.idle_timeout_ms.max(idle_ms),
        ..channel
    }
}

/// Hands each connection to the life that it belongs to.
async fn admit(mut listener: Listener, doors: BTreeMap<String, mpsc::Sender<Connection>>) {
    while let Ok(connection) = listener.accept().await {
        let worker = connection.worker_id().to_owned();
        // A second connection of a worker that has one is dropped, and so ended.
        let admitted = doors.get(&worker).is_some_and(|door| door.try_send(connection).is_ok());
        debug!(worker, admitted, "a worker has knocked");
    }
    // The listener's own task is gone; nobody can knock, and every worker misses its deadline and
    // says so.
    error!("the channel's listener has ended");
}

/// What tells this run of the supervisor from another.
///
/// # Errors
/// When the system gives no randomness.
pub fn run_id() -> Result<String, KeyError> {
    let random = keys::generate()?;
    Ok(random.expose().iter().take(4).map(|byte| format!("{byte:02x}")).collect())
}
