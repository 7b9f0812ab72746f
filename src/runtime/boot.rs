//! Boot and shutdown: how the tasks come to stand, and how they go.
//!
//! Owns: opening the ledger, folding it into a state, carrying again what is not known carried, starting every
//! task in order, and draining them.
//! Never: consumes before what was written is on its way again.
//! Holds: at shutdown nothing new is taken, what was taken is finished within `drain_timeout_ms`, and what is not
//! finished by then is carried at the next boot.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use thiserror::Error;
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    acks::Acks,
    answer::About,
    ask::Asked,
    asker::Asker,
    clock::{self, Clock},
    config::Config,
    corridor::{Corridor, Names},
    dispatch::{Dispatch, Job, Report, Settings, tracker::Tracker},
    emergency::{self, Clearer, Emergency},
    genesis::{genesis, incarnation},
    host::{self, Host},
    intake::{Arrivals, Intake},
    link::{Connector, Link},
    mark::{self, Marked, Marker},
    mover::Mover,
    presence::{self, Hindrance, Presence},
    recorder::{Commit, GivenUp, Recorder},
    replay,
    router::{self, Bounds, LaneInboxes, Memory, Router},
    tally::Tally,
    topology::ObserveNames,
};
use crate::{
    bus::{Queue, Topology},
    contract::{
        Contract,
        audit::{Action, Change, Fact, Mode, Opened, SetBack},
        interlock::SafetyMode,
        lane::Lane,
        timestamp::Timestamp,
    },
    decision::{request::Done, rules::Rules, state::State},
    ledger::{
        Batch, Ledger, LedgerError, Parcel,
        chain::Sealed,
        emergency::{EmergencyError, EmergencyLog, Record},
        mark::MarkFile,
        query::Reader,
    },
    telemetry::Telemetry,
};

/// How many rounds may wait at the recorder: one being committed, one ready.
const ROUNDS_WAITING_MAX: usize = 1;
/// How many batches of a lane may wait at the router.
const BATCHES_WAITING_MAX: usize = 4;
/// How many metrics are read, or published, in one go.
const METRICS_BITE_MAX: usize = 32;
/// How many reports may wait at the router.
const REPORTS_WAITING_MAX: usize = 64;

/// What a router is started with.
pub struct Setup {
    /// The contract, with the deployment's own types.
    pub contract: Arc<Contract>,
    /// The settings of the gates.
    pub rules: Rules,
    /// `dev`, `stage` or `prod`; written into the genesis.
    pub environment: String,
    /// Where the ledger is, or is to be begun.
    pub ledger_dir: PathBuf,
    /// Bytes the ledger may take at most.
    pub ledger_size_max_bytes: Option<u64>,
    /// Bytes its write-ahead log may take at most.
    pub ledger_wal_max_bytes: u64,
    /// The file of the emergency log.
    pub emergency_path: PathBuf,
    /// Its room.
    pub emergency_size_bytes: u64,
    /// How long a write to it may hold up what is carried.
    pub emergency_timeout_ms: u64,
    /// How long a commit may take before the ledger counts as one that cannot be written.
    pub commit_timeout_ms: u64,
    /// The prefix of the queue that keeps the ledger's mark on the broker; none for a router that publishes nothing.
    pub mark_prefix: Option<String>,
    /// Takes over a ledger that was begun in observe mode.
    pub adopt: bool,
    /// Makes connections.
    pub connector: Arc<dyn Connector>,
    /// What is declared on the broker.
    pub topology: Topology,
    /// Who this router is among those of its prefix; one that only looks is none of them.
    pub presence: Option<presence::Settings>,
    /// The names that are published to.
    pub names: Names,
    /// Each lane's queue and prefetch, in lane order; observe mode has one.
    pub consumers: Vec<(Lane, String, u16)>,
    /// Each lane's queue of an earlier release, which is emptied first.
    pub retired: Vec<(Lane, Queue)>,
    /// The refused copies' queue of an earlier release: what is in it is moved.
    pub retired_refused: Option<Queue>,
    /// The queues of observe mode: what they drop is counted.
    pub observing: Option<ObserveNames>,
    /// Envelopes judged and committed together, at most.
    pub batch_entries_max: usize,
    /// Bytes of their bodies, at most.
    pub batch_bytes_max: usize,
    /// How messages are published.
    pub publishing: Settings,
    /// How far the clock may be behind the ledger for the router to wait for it.
    pub clock_behind_max: Duration,
    /// How long shutdown may take.
    pub drain_timeout_ms: u64,
    /// Health and counters.
    pub telemetry: Arc<Telemetry>,
    /// The config, for support bundles.
    pub config: Arc<Config>,
}

/// Why a router did not start.
#[derive(Debug, Error)]
pub enum BootError {
    /// The ledger could not be opened, read or begun.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The emergency log cannot be used, or is not this ledger's.
    #[error(transparent)]
    Emergency(#[from] EmergencyError),
    /// The system starts no thread for the emergency log.
    #[error("no thread can be started for the emergency log")]
    Thread(#[source] std::io::Error),
    /// The ledger belongs to another mode.
    #[error("the ledger at `{dir}` was begun in {begun} mode and cannot be run in {asked} mode")]
    Mode {
        /// Where it is.
        dir: PathBuf,
        /// Its genesis' mode.
        begun: Mode,
        /// The mode asked for.
        asked: Mode,
    },
    /// The ledger belongs to another environment.
    #[error("the ledger at `{dir}` belongs to environment `{begun}`, not `{asked}`")]
    Environment {
        /// Where it is.
        dir: PathBuf,
        /// Its genesis' environment.
        begun: String,
        /// The environment asked for.
        asked: String,
    },
}

/// A running router.
pub struct Running {
    asker: Asker,
    stopping: CancellationToken,
    drain_timeout: Duration,
    link: Link,
    keeper: JoinHandle<()>,
    watch: JoinHandle<()>,
    marker: JoinHandle<Marker>,
    intakes: Vec<JoinHandle<()>>,
    router: JoinHandle<Corridor>,
    recorder: JoinHandle<Option<Ledger>>,
    ways: Vec<JoinHandle<()>>,
    /// Comes when the emergency log's file is let go of.
    emergency: oneshot::Receiver<()>,
}

/// The mark's file, what the tasks share of it, and what it knew more than the ledger holds.
type MarkAtBoot = (Option<MarkFile>, Arc<mark::Shared>, Option<SetBack>);

/// What the tasks outside the router find, told by many and heard by it alone.
type Findings = (mpsc::Sender<Done>, mpsc::Receiver<Done>);

/// The emergency log's two ends, and the word that it is over.
type Keeper = (Emergency, Clearer, oneshot::Receiver<()>);

/// Opens the ledger and starts every task.
///
/// # Errors
/// When the ledger or the emergency log is locked by another router, damaged, or cannot be written, or the ledger is of
/// another mode or environment.
pub async fn start(setup: Setup) -> Result<Running, BootError> {
    let ledger = Ledger::open(&setup.ledger_dir, setup.ledger_size_max_bytes).await?;
    let mut ledger = ledger.with_wal_max(setup.ledger_wal_max_bytes);
    let (log, mut found) = emergency::open(setup.emergency_path.clone(), setup.emergency_size_bytes).await?;
    let (mark, mut known) = mark::open(&setup.ledger_dir);
    let meet = |sealed: &Sealed| {
        found.meet(sealed);
        known.meet(sealed);
    };
    let (state, mut recovered) = replay::fold(&mut ledger, &setup.rules, meet).await?;
    check_genesis(&setup, &state)?;
    let set_back = state.genesis().and_then(|genesis| known.set_back(&genesis.ledger_id, recovered.entries));
    match found.check(log.path()) {
        Err(EmergencyError::Foreign { .. }) if set_back.is_some() => {
            found = emergency::set_aside(log.path())?;
        }
        checked => checked?,
    }
    let reader = Reader::open(&setup.ledger_dir).await?;
    let (asker, questions) = Asker::new(Reader::open(&setup.ledger_dir).await?, setup.rules.clone());
    let mut corridor = Corridor::new(state, recovered.chain, setup.names.clone());
    let left = emergency::take_over(&mut corridor, &found, log.path());
    let clock = Clock::start(corridor.state().last_at(), setup.clock_behind_max);
    recovered.parcels.extend(open_epoch(&setup, &mut corridor, &mut ledger, &left, clock.now()).await?);
    let keeper = keep(&setup, emergency::clear(log).await?)?;
    setup.telemetry.health.set_ledger(true);
    info!(
        entries = recovered.entries,
        epoch = corridor.state().epoch(),
        parcels = recovered.parcels.len(),
        commands = corridor.state().commands_in_flight(),
        "the ledger is verified and folded"
    );
    let (parked, mut jobs) = replay::sort(recovered.parcels, corridor.state())?;
    let own: Vec<u64> = left.iter().filter_map(|record| Some(record.parcel.as_ref()?.id)).collect();
    let others = jobs.iter_mut().filter(|job| job.parcel.is_none_or(|id| !own.contains(&id)));
    emergency::leave_out(others, &left);
    corridor.park(parked);
    let shared = mark::Shared {
        ledger_id: corridor.state().genesis().map(|genesis| genesis.ledger_id.clone()).unwrap_or_default(),
        reader: Reader::open(&setup.ledger_dir).await?,
        waits_from: AtomicU64::new(set_back.as_ref().map_or(0, |set_back| set_back.ours + 1)),
        known: AtomicU64::new(set_back.as_ref().map_or(0, |set_back| set_back.known)),
    };
    let mark = (mark, Arc::new(shared), set_back);
    Ok(start_tasks(setup, (ledger, keeper), corridor, reader, (asker, questions), clock, (jobs, mark)).await)
}

/// An observe ledger is not enforced unasked, and environments do not mix.
fn check_genesis(setup: &Setup, state: &State) -> Result<(), BootError> {
    let Some(genesis) = state.genesis() else { return Ok(()) };
    let dir = setup.ledger_dir.clone();
    let (begun, asked) = (genesis.mode, setup.rules.mode);
    if begun != asked && !(begun == Mode::Observe && setup.adopt) {
        return Err(BootError::Mode { dir, begun, asked });
    }
    if genesis.environment != setup.environment {
        let (begun, asked) = (genesis.environment.clone(), setup.environment.clone());
        return Err(BootError::Environment { dir, begun, asked });
    }
    Ok(())
}

/// Starts the thread that owns the emergency log from now on.
fn keep(setup: &Setup, log: EmergencyLog) -> Result<Keeper, BootError> {
    let timeout = Duration::from_millis(setup.emergency_timeout_ms);
    emergency::start(log, timeout, Arc::clone(&setup.telemetry)).map_err(BootError::Thread)
}

/// Writes the genesis where there is none, what is `left` on the emergency log, and that this router opened the ledger.
/// Answers the parcels of what was left.
async fn open_epoch(
    setup: &Setup,
    corridor: &mut Corridor,
    ledger: &mut Ledger,
    left: &[Record],
    now: Timestamp,
) -> Result<Vec<Parcel>, LedgerError> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let mut parcels = Vec::new();
    let mut entries = Vec::with_capacity(left.len() + 2);
    for Record { sealed, parcel } in left {
        entries.push(sealed.clone());
        parcels.extend(parcel.clone());
    }
    if corridor.state().genesis().is_none() {
        // Without proof of who speaks there is nothing to be safe from; `init` begins a ledger in SAFE.
        let genesis = genesis(&setup.environment, setup.rules.mode, SafetyMode::Normal)?;
        entries.push(corridor.record(Fact::new(Action::Genesis, now, Change::Genesis(genesis))));
    }
    let opened = Opened {
        catch_up_ms: setup.rules.catch_up_ms,
        epoch: corridor.state().epoch() + 1,
        incarnation: incarnation()?,
        instance: setup.rules.instance.clone(),
        mode: setup.rules.mode,
        version,
    };
    entries.push(corridor.record(Fact::new(Action::Opened, now, Change::Opened(opened))));
    ledger.append(Batch { entries, parcels: parcels.clone(), ..Batch::default() }).await?;
    Ok(parcels)
}

async fn start_tasks(
    setup: Setup,
    (ledger, (emergency, clearer, emergency_ended)): (Ledger, Keeper),
    corridor: Corridor,
    reader: Reader,
    (asker, questions): (Asker, mpsc::Receiver<Asked>),
    clock: Clock,
    (jobs, mark): (Vec<Job>, MarkAtBoot),
) -> Running {
    let stopping = CancellationToken::new();
    let (link, keeper, marker, (done, findings)) = start_link(&setup, &corridor, &stopping, mark).await;
    let (report, reports) = mpsc::channel(REPORTS_WAITING_MAX);
    let (dispatch, ways) = start_ways(&setup, &link, &report);
    let (commit, commits) = mpsc::channel(ROUNDS_WAITING_MAX);
    let (recovery, recoveries) = mpsc::channel(2);
    let recorder = Recorder {
        ledger: Some(ledger),
        commit_timeout: Duration::from_millis(setup.commit_timeout_ms),
        chain: *corridor.chain(),
        durable: Box::new(corridor.state().replayed()),
        emergency: clearer,
        rules: setup.rules.clone(),
        commits,
        recoveries: recovery,
        reports: report,
        given_up: GivenUp::default(),
        dispatch: dispatch.clone(),
        acks: Acks::new(link.clone(), Arc::clone(&setup.telemetry), &setup.consumers),
        telemetry: Arc::clone(&setup.telemetry),
    };
    let (open, inboxes, intakes) = start_intakes(&setup, &link, &stopping);
    let (host, watch) = start_host(&setup, &asker, &stopping, done);
    let router = Router {
        memory: Memory::with_jobs(carry_again(&commit, jobs).await),
        done: findings,
        host,
        about: about(&setup, clock.now()),
        questions,
        ticker: router::ticker(),
        corridor,
        clock,
        lanes: LaneInboxes(inboxes),
        reports,
        recorder: commit,
        recoveries,
        emergency,
        dispatch,
        open,
        standing: link.watch(),
        link: link.clone(),
        reader,
        bounds: Bounds { entries_max: setup.batch_entries_max, bytes_max: setup.batch_bytes_max },
        telemetry: setup.telemetry,
        stopping: stopping.clone(),
    };
    Running {
        stopping,
        asker,
        drain_timeout: Duration::from_millis(setup.drain_timeout_ms),
        link,
        keeper,
        watch,
        marker,
        intakes,
        router: tokio::spawn(router.run()),
        recorder: tokio::spawn(recorder.run()),
        ways,
        emergency: emergency_ended,
    }
}

/// The ways out.
fn start_ways(setup: &Setup, link: &Link, report: &mpsc::Sender<Report>) -> (Dispatch, Vec<JoinHandle<()>>) {
    let (refused, commands) = (&setup.names.refused, &setup.contract.commands);
    Dispatch::start(&setup.publishing, link, report, refused, commands, &setup.telemetry)
}

/// The link to the broker, the task that keeps it up, the one that writes the ledger's marks, and where findings are told.
async fn start_link(
    setup: &Setup,
    corridor: &Corridor,
    stopping: &CancellationToken,
    (file, shared, set_back): MarkAtBoot,
) -> (Link, JoinHandle<()>, JoinHandle<Marker>, Findings) {
    let (done, findings) = mpsc::channel(host::FINDINGS_WAITING_MAX);
    if let Some(set_back) = set_back {
        // The first of all: nothing is judged before it.
        let _ = done.send(Done::SetBack(set_back)).await;
    }
    let (inner, prefix) = (Arc::clone(&setup.connector), setup.mark_prefix.clone());
    let connector: Arc<dyn Connector> = match prefix.clone() {
        Some(prefix) => Arc::new(Marked {
            inner,
            prefix,
            shared: Arc::clone(&shared),
            done: done.clone(),
            has_looked: AtomicBool::new(false),
        }),
        None => inner,
    };
    let ledger_id = corridor.state().genesis().map(|genesis| genesis.ledger_id.clone()).unwrap_or_default();
    let telemetry = Arc::clone(&setup.telemetry);
    let settings = setup.presence.clone();
    let presence = settings.map(|settings| Presence::new(settings, ledger_id, Arc::clone(&telemetry)));
    let topology = setup.topology.clone();
    let (link, keeper) = Link::start(connector, topology, presence, telemetry, stopping.clone());
    let marker = Marker { file, shared, prefix, link: link.clone(), stopping: stopping.clone() };
    (link, keeper, tokio::spawn(marker.run()), (done, findings))
}

/// What the broker would have dropped comes back, and what an earlier release left is moved. Nobody waits for their end.
fn start_movers(setup: &Setup, link: &Link, stopping: &CancellationToken) {
    let names = &setup.names;
    let dead = setup.topology.queues.iter().find(|queue| queue.name == names.dead).cloned();
    let dead = dead.map(|queue| (queue, names.returned.clone(), false));
    let retired = setup.retired_refused.clone().map(|queue| (queue, names.refused.clone(), true));
    for (from, to, retired) in dead.into_iter().chain(retired) {
        let (link, stopping) = (link.clone(), stopping.clone());
        let mover = Mover { from, to, retired, link, telemetry: Arc::clone(&setup.telemetry), stopping };
        tokio::spawn(mover.run());
    }
}

/// The host of a router, which tells what it finds, and its watch.
fn start_host(
    setup: &Setup,
    asker: &Asker,
    stopping: &CancellationToken,
    done: mpsc::Sender<Done>,
) -> (Host, JoinHandle<()>) {
    let host = Host {
        ledger_dir: setup.ledger_dir.clone(),
        config: Arc::clone(&setup.config),
        asker: asker.clone(),
        done,
        telemetry: Arc::clone(&setup.telemetry),
        again: Arc::default(),
        bundles: Arc::new(Semaphore::new(setup.config.commands.bundles_max)),
        bundling: Arc::default(),
        stopping: stopping.clone(),
    };
    let watch = tokio::spawn(host.clone().watch());
    (host, watch)
}

/// How many messages of a lane are taken at a time. One thread does all the work, and metrics come by the thousand:
/// in small bites, so that a command never waits behind many of them.
fn batch_count_max(setup: &Setup, lane: Lane) -> usize {
    match lane {
        Lane::Metrics => METRICS_BITE_MAX.min(setup.batch_entries_max),
        _ => setup.batch_entries_max,
    }
}

/// What the router tells of itself.
fn about(setup: &Setup, started_at: Timestamp) -> About {
    About {
        environment: setup.environment.clone(),
        lane_queues: setup.consumers.iter().map(|(_, queue, _)| queue.clone()).collect(),
        started_at,
    }
}

/// One intake a lane that has a queue, and what brings messages to their queues; `open` shuts all but the urgent one.
fn start_intakes(
    setup: &Setup,
    link: &Link,
    stopping: &CancellationToken,
) -> (watch::Sender<bool>, [mpsc::Receiver<Arrivals>; 4], Vec<JoinHandle<()>>) {
    start_movers(setup, link, stopping);
    let (opens, open) = watch::channel(true);
    let always = watch::channel(true).1;
    let mut intakes = Vec::new();
    if let Some(names) = setup.observing.clone() {
        let (link, telemetry) = (link.clone(), Arc::clone(&setup.telemetry));
        let tally = Tally { names, link, telemetry, stopping: stopping.clone() };
        intakes.push(tokio::spawn(tally.run()));
    }
    let inboxes = Lane::ALL.map(|lane| {
        let (into, inbox) = mpsc::channel(BATCHES_WAITING_MAX);
        if let Some((_, queue, prefetch_count)) = setup.consumers.iter().find(|(of, _, _)| *of == lane) {
            let intake = Intake {
                lane,
                queue: queue.clone(),
                retired: setup.retired.iter().find(|(of, _)| *of == lane).map(|(_, queue)| queue.clone()),
                into_exchange: setup.names.into.clone(),
                returned: setup.names.returned.clone(),
                prefetch_count: *prefetch_count,
                batch_count_max: batch_count_max(setup, lane),
                contract: Arc::clone(&setup.contract),
                link: link.clone(),
                telemetry: Arc::clone(&setup.telemetry),
                into,
                open: if lane == Lane::Urgent { always.clone() } else { open.clone() },
                stopping: stopping.clone(),
            };
            intakes.push(tokio::spawn(intake.run()));
        }
        inbox
    });
    (opens, inboxes, intakes)
}

/// What is written and not known carried goes first, under the ids it had.
async fn carry_again(commit: &mpsc::Sender<Commit>, mut jobs: Vec<Job>) -> Tracker {
    let mut tracker = Tracker::default();
    jobs.iter_mut().for_each(|job| tracker.begin(job));
    // The recorder was just started and outlives this sender.
    let _ = commit
        .send(Commit { attempt: 0, unaudited: false, batch: Batch::default(), jobs, settlements: Vec::new() })
        .await;
    tracker
}

impl Running {
    /// Asks the router's task.
    pub fn asker(&self) -> &Asker {
        &self.asker
    }

    /// Waits for a fault of the broker's that a person has to mend before this router can begin; for ever once it has.
    pub async fn hopeless(&self) -> Arc<Hindrance> {
        self.link.hopeless().await
    }

    /// The link to the broker.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Ends every task where it stands, as a crash would: for simulations and drills.
    pub async fn kill(self) {
        let Self { keeper, watch, marker, intakes, router, recorder, ways, emergency, .. } = self;
        watch.abort();
        marker.abort();
        router.abort();
        recorder.abort();
        keeper.abort();
        for task in intakes.iter().chain(&ways) {
            task.abort();
        }
        // Waited for, so that the locks of ledger and emergency log are free when the next router comes.
        let _ = router.await;
        let _ = recorder.await;
        let _ = emergency.await;
        let _ = keeper.await;
        for task in intakes.into_iter().chain(ways) {
            let _ = task.await;
        }
    }

    /// Takes nothing new, finishes what was taken within the drain timeout, and gives back the corridor as it stood
    /// where it could be finished in time.
    pub async fn stop(self) -> Option<Corridor> {
        self.stopping.cancel();
        let last = self.link.now();
        let drained = tokio::time::timeout(self.drain_timeout, async {
            for intake in self.intakes {
                let _ = intake.await;
            }
            let corridor = self.router.await.ok();
            let ledger = self.recorder.await.ok().flatten();
            for way in self.ways {
                let _ = way.await;
            }
            if let Ok(marker) = self.marker.await {
                marker.last().await;
            }
            if let Some(ledger) = ledger {
                ledger.close().await;
            }
            let _ = self.emergency.await;
            corridor
        })
        .await;
        if drained.is_err() {
            warn!("not everything was finished in time; what is left is carried at the next boot");
        }
        if let Some(connected) = last {
            let _ = tokio::time::timeout(Duration::from_secs(1), connected.bus.close()).await;
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), self.keeper).await;
        info!(at = %clock::wall(), "stopped");
        drained.ok().flatten()
    }
}
